"""The lease: one works, the others wait; nobody's clock is believed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from adapters.kubernetes_api import LEASE, KubernetesApi
from controller.lease import DURATION, GIVE_UP, RENEW, Lease
from specs.errors import Transient
from tests.support.apiserver import ApiServer


class Clock:
    """One replica's own time."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


Make = Callable[[str, Clock], Lease]


@pytest.fixture
def api(api_server: ApiServer) -> KubernetesApi:
    """The API, as replicas use it."""
    return KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig))


@pytest.fixture
def lease(api: KubernetesApi) -> Make:
    """Make replicas that want the same lease."""
    namespace = f"lease-{uuid.uuid4().hex[:8]}"
    return lambda identity, clock: Lease(api, namespace, identity, clock)


def test_the_first_one_gets_it_and_the_second_waits(lease: Make) -> None:
    """Whoever asks second is told who has it."""
    one, two = lease("one", Clock()), lease("two", Clock(1e6))
    assert one.try_once() == ""
    assert (two.try_once(), two.held) == ("one", False)
    assert one.held


def test_renewal_keeps_it(lease: Make) -> None:
    """However long it takes: while the holder renews, nobody else gets it."""
    first, second = Clock(), Clock(5e5)
    one, two = lease("one", first), lease("two", second)
    one.try_once()
    for _ in range(10):
        assert two.try_once() == "one"
        first.now += RENEW
        second.now += RENEW
        assert one.try_once() == ""


def test_silence_hands_it_over_by_the_waiting_ones_own_clock(lease: Make) -> None:
    """A holder that is silent for as long as the lease lasts has lost it, and hears so when it comes back."""
    first, second = Clock(), Clock(-3e5)
    one, two = lease("one", first), lease("two", second)
    one.try_once()
    assert two.try_once() == "one"
    second.now += DURATION - 1
    assert two.try_once() == "one"
    second.now += 2
    assert two.try_once() == ""
    assert one.try_once() == "two"


def test_a_holder_that_cannot_renew_stops_before_another_begins(lease: Make) -> None:
    """Not renewed for GIVE_UP seconds it no longer holds, and that is sooner than anybody may take over."""
    clock = Clock()
    one = lease("one", clock)
    one.try_once()
    clock.now += GIVE_UP - 0.1
    assert one.held
    clock.now += 0.2
    assert not one.held
    assert GIVE_UP < DURATION


def test_release_hands_over_at_once(lease: Make) -> None:
    """A replica that ends in peace lets the next one begin without a wait; only the holder can do so."""
    one, two = lease("one", Clock()), lease("two", Clock())
    one.try_once()
    two.release()
    assert two.try_once() == "one"
    one.release()
    assert (one.held, two.try_once()) == (False, "")


def test_of_many_at_once_exactly_one_gets_it(lease: Make) -> None:
    """Ten replicas start together."""
    replicas = [lease(f"replica-{number}", Clock()) for number in range(10)]
    answers: list[str] = []
    threads = [threading.Thread(target=lambda one=one: answers.append(one.try_once())) for one in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count("") == 1
    assert sum(one.held for one in replicas) == 1


def test_losing_it_ends_the_keeping(lease: Make, api: KubernetesApi) -> None:
    """keep() returns, without having been told to, when somebody else has the lease."""
    clock = Clock()
    one, two = lease("one", clock), lease("two", Clock())
    one.try_once()
    one.release()
    two.try_once()
    clock.now += RENEW * 2  # so that it looks again after a second
    one.keep(threading.Event())
    assert not one.held


def test_a_lost_answer_is_no_lost_lease(lease: Make, api_server: ApiServer) -> None:
    """A renewal that went through although the answer did not come is found at the next try."""
    one = lease("one", Clock())
    one.try_once()
    api_server.faults([{"method": "PUT", "path": "/leases/", "drop": True, "after": True, "count": -1}])
    try:
        with pytest.raises(Transient):
            one.try_once()
    finally:
        api_server.clear_faults()
    assert one.try_once() == ""


def test_the_objects_are_what_other_tools_expect(lease: Make, api: KubernetesApi) -> None:
    """Identity, duration and transitions are kept as Kubernetes' own components keep them."""
    one, two = lease("one", Clock()), lease("two", Clock())
    one.try_once()
    one.release()
    two.try_once()
    two.try_once()
    held = [found["spec"] for found in api.list(LEASE) if found["spec"]["holderIdentity"] == "two"]
    spec = max(held, key=lambda each: str(each["renewTime"]))
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("two", 15, 1)
