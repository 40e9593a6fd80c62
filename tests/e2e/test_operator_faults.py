"""Whatever goes wrong on the way, the operator ends where the undisturbed one does, and then all is quiet."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from specs.modelspec import ModelKey
from specs.status import Reason
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.xdist_group("cluster-faults"), pytest.mark.timeout(300)]

JOBS, DEPLOYMENTS = "/apis/batch/v1/namespaces/default/jobs", "/apis/apps/v1/namespaces/default/deployments"
MODELS = "/apis/trunkline.dev/v1alpha1/namespaces/default/modelspecs"
OURS = ("modelspecs/[^/]+/status", "/jobs", "/deployments", "/services", "/events", "/pods")
"""What the operator asks for; its lease is tested elsewhere."""
Disturb = Callable[[Cluster], object]


def _answers(*statuses: int) -> list[dict[str, Any]]:
    """Give faults that refuse everything the operator asks, a few times each; nobody has a conflict by reading."""
    paths = [path for path in OURS for _ in statuses]
    return [
        {"method": method, "path": path, "status": status, "count": 2}
        for path, status in zip(paths, [*statuses] * len(OURS), strict=True)
        for method in ("PATCH", "POST", "DELETE", *(["GET"] if status != 409 else []))
    ]


def _lost() -> list[dict[str, Any]]:
    """Give faults that let every kind of write happen, and lose the answer."""
    return [
        {"method": method, "path": path, "drop": True, "after": True, "count": 2}
        for path in OURS
        for method in ("PATCH", "POST", "DELETE")
    ]


def _faults(faults: list[dict[str, Any]]) -> Disturb:
    return lambda cluster: cluster.api.faults(faults)


def _outage(cluster: Cluster) -> None:
    """Let the API be away. Where that took longer than the lease lasts, the operator ended, and is started again."""
    before = cluster.objects("leases")[0]["spec"]["renewTime"]
    with cluster.api.outage():
        time.sleep(3)
    give_up = time.monotonic() + 60
    while cluster.running() and cluster.objects("leases")[0]["spec"]["renewTime"] == before:
        assert time.monotonic() < give_up, "neither did it renew its lease nor end"
        time.sleep(0.2)
    if not cluster.running():
        assert "the lease is lost" in cluster.log()
        cluster.restart()


def _second_leader(cluster: Cluster) -> None:
    """Start another one that holds the same lease: two work at the same time, as after a long pause of the first."""
    cluster.start("second", POD_NAME="operator")


def _killed(cluster: Cluster) -> None:
    cluster.restart()


def _expired(cluster: Cluster) -> None:
    """Let a watch begin with 410: kopf ends the process then, and the cluster starts it again."""
    cluster.api.faults([{"method": "WATCH", "path": "modelspecs", "status": 410, "count": 1}])
    cluster.restart()
    give_up = time.monotonic() + 60
    while cluster.running():
        assert time.monotonic() < give_up, "kopf learned to live with 410: simplify this"
        time.sleep(0.1)
    assert cluster.exit_code() == 1
    cluster.restart()


def _vandal(cluster: Cluster) -> None:
    """Delete the server's objects while the operator is down."""
    cluster.kill()
    for path in ("/apis/apps/v1/namespaces/default/deployments", "/api/v1/namespaces/default/services"):
        cluster.api.delete(f"{path}/serve-digits")
    cluster.start()


_CONFLICTS, _LOST = _faults(_answers(409)), _faults(_lost())
_WATCHES = _faults([{"method": "WATCH", "path": "", "status": code, "count": 3} for code in (429, 500)])
DISTURBANCES: dict[str, tuple[Disturb, Disturb]] = {
    "too many requests, then conflicts": (_faults(_answers(429)), _CONFLICTS),
    "conflicts, then server errors": (_CONFLICTS, _faults(_answers(500, 503))),
    "lost answers": (_LOST, _LOST),
    "watches refused, then expired": (_WATCHES, _expired),
    "outage, then a restart": (_outage, _killed),
    "two leaders, then a restart": (_second_leader, _killed),
}
"""What happens before the story begins, and in its middle. A story takes half a minute, so each holds two."""


class Tale:
    """One short story, told at one place: a proposal's key depends on where the repository is."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def tell(self, disturb: tuple[Disturb, Disturb] | None) -> dict[str, Any]:
        """From the spec to the first release that serves, disturbed before it and in the middle."""
        try:
            with Cluster(self._place) as cluster:
                cluster.start()
                cluster.until("it works", lambda: cluster.objects("leases"))
                if disturb:
                    disturb[0](cluster)
                cluster.person.write(cluster.person.spec())
                cluster.until("v1 is proposed", cluster.person.pulls, 120)
                if disturb:
                    disturb[1](cluster)
                cluster.person.merge()
                cluster.until("v1 serves", lambda: cluster.serves(1), 120)
                cluster.api.clear_faults()
                cluster.until("all is well", lambda: cluster.reason("Ready") == "AsDesired")
                cluster.settle()
                cluster.assert_quiet()
                assert set(cluster.jobs_run().values()) == {1}
                return cluster.end_state()
        finally:
            shutil.rmtree(self._place, ignore_errors=True)


@pytest.fixture(scope="module")
def tale(tmp_path_factory: pytest.TempPathFactory) -> Tale:
    """The story, at its place."""
    return Tale(tmp_path_factory.mktemp("faults") / "place")


@pytest.fixture(scope="module")
def undisturbed(tale: Tale) -> dict[str, Any]:
    """How it ends when nothing goes wrong."""
    return tale.tell(None)


@pytest.mark.parametrize("disturb", DISTURBANCES.values(), ids=DISTURBANCES.keys())
def test_disturbed_stories_end_like_the_undisturbed_one(
    tale: Tale, undisturbed: dict[str, Any], disturb: tuple[Disturb, Disturb]
) -> None:
    """The same commits, pull requests, jobs, objects and conditions; and three resyncs write nothing."""
    assert tale.tell(disturb) == undisturbed


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with an operator that has its first model in training."""
    with Cluster(tmp_path) as made:
        yield made


def _released(cluster: Cluster, version: int = 1) -> None:
    cluster.until(f"v{version} is proposed", cluster.person.pulls)
    cluster.person.merge()
    cluster.until(f"v{version} serves", lambda: cluster.serves(version) and cluster.reason("Ready") == "AsDesired")


def _trains(cluster: Cluster) -> int:
    return sum(name.startswith("train-") for name in cluster.jobs_run())


def test_evicted_pods_cost_no_attempt_and_no_release(cluster: Cluster) -> None:
    """A drained node interrupts a training, which starts over in the same Job, and later a server, which comes back."""
    hold = cluster.hold("train")
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("it trains", lambda: _trains(cluster) == 1)
    (job,) = [each for each in cluster.objects("jobs") if each["metadata"]["name"].startswith("train-")]
    cluster.kubelet.evict("default", job["metadata"]["name"])
    cluster.until("it trains again", lambda: max(cluster.jobs_run().values()) == 2)
    hold.unlink()
    _released(cluster)
    assert {job["metadata"]["labels"]["trunkline.dev/attempt"] for job in cluster.objects("jobs")} == {"1"}
    cluster.kubelet.evict("default", "serve-digits")
    cluster.until("a server is back", lambda: cluster.reason("Ready") == "AsDesired")
    cluster.settle()
    cluster.assert_quiet()


def test_what_was_deleted_while_nobody_looked_comes_back(cluster: Cluster) -> None:
    """Deployment and Service deleted with the operator down are made again, the same."""
    cluster.start()
    cluster.person.write(cluster.person.spec())
    _released(cluster)
    _vandal(cluster)
    cluster.until("both are back", lambda: cluster.objects("deployments") and cluster.objects("services"))
    cluster.until("it serves", lambda: cluster.serves(1) and cluster.reason("Ready") == "AsDesired")
    cluster.api.delete("/api/v1/namespaces/default/services/serve-digits")
    cluster.until("the Service is back", lambda: cluster.objects("services"))
    cluster.settle()
    cluster.assert_quiet()


def test_a_job_that_ended_or_was_collected_while_the_operator_was_down_is_not_run_again(cluster: Cluster) -> None:
    """The store says what was done, not the Job: it may be gone."""
    hold = cluster.hold("train")
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("it trains", lambda: _trains(cluster) == 1)
    cluster.kill()
    hold.unlink()
    cluster.until("it has trained", lambda: [key for key in cluster.store.list() if key.startswith("runs/")])
    cluster.until("the Job says so", lambda: all(job["status"].get("succeeded") for job in cluster.objects("jobs")))
    cluster.kubelet.pass_lifetimes()
    cluster.until("its Job was collected", lambda: not cluster.objects("jobs"))
    cluster.start()
    _released(cluster)
    assert set(cluster.jobs_run().values()) == {1}


def test_a_spec_edited_in_the_middle_of_a_training(cluster: Cluster) -> None:
    """A → B → A: B's candidate is never proposed after A is asked for again, and A trains once."""
    hold = cluster.hold("train")
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("A trains", lambda: _trains(cluster) == 1)
    cluster.person.change(("epochs: 8", "epochs: 9"))
    cluster.until("B trains", lambda: _trains(cluster) == 2)
    cluster.person.change(("epochs: 9", "epochs: 8"))
    hold.unlink()
    _released(cluster)
    cluster.settle()
    (pull,) = cluster.person.history()
    assert "0.908" in pull.title + pull.body
    assert _trains(cluster) == 2
    cluster.assert_quiet()


def test_a_model_deleted_in_the_middle_and_made_again(cluster: Cluster) -> None:
    """The old one's Job goes with it; the new one of the same name begins anew and is served."""
    hold = cluster.hold("train")
    cluster.start()
    text = cluster.person.spec()
    cluster.person.write(text)
    cluster.until("it trains", lambda: _trains(cluster) == 1)
    cluster.person.write({"digits.yaml": None})
    cluster.until("it is gone", lambda: cluster.model() is None and not cluster.objects("jobs"))
    hold.unlink()
    cluster.person.write(text)
    _released(cluster)
    cluster.settle()
    cluster.assert_quiet()


def test_objects_of_others_are_a_conflict_and_never_overwritten(cluster: Cluster) -> None:
    """A Deployment that others made under our name stays as it is; the model says so, and goes on when it is gone."""
    theirs = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve-digits", "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "theirs"}}, "template": {
            "metadata": {"labels": {"app": "theirs"}}, "spec": {
                "containers": [{"name": "x", "image": "theirs", "command": ["sleep", "600"]}]}}},
    }  # fmt: skip
    cluster.kubelet.pause()
    cluster.api.create(DEPLOYMENTS, theirs)
    before = cluster.api.find(f"{DEPLOYMENTS}/serve-digits")
    cluster.kubelet.resume()
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("v1 is proposed", cluster.person.pulls)
    cluster.person.merge()
    cluster.until("it is a conflict", lambda: cluster.reason("Stalled") == "Conflict")
    now = cluster.api.find(f"{DEPLOYMENTS}/serve-digits")
    assert now["spec"] == before["spec"]
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    cluster.api.delete(f"{DEPLOYMENTS}/serve-digits")
    cluster.until("it serves", lambda: cluster.serves(1))


def test_one_bad_model_among_good_ones_keeps_nobody(cluster: Cluster) -> None:
    """A model with data that is not there, one that fails for ever, one that git never said: others are served."""
    person, text = cluster.person, cluster.person.spec()
    missing = text.replace("name: digits", "name: nodata").replace("sha256:", "sha256:0000", 1)
    missing = missing.replace("sha256:0000" + text.partition("sha256:")[2][:64], "sha256:" + "0" * 64)
    cluster.start()
    person.write({"digits.yaml": text, "nodata.yaml": missing})
    stranger = yaml.safe_load(text) | {"metadata": {"name": "stranger", "namespace": "default"}}
    cluster.api.create(MODELS, stranger)
    _released(cluster)
    assert cluster.reason("Stalled", ModelKey("default", "nodata")) == Reason.DATA_MISSING
    cluster.until("refused", lambda: cluster.reason("Stalled", ModelKey("default", "stranger")) == Reason.NOT_IN_GIT)
    cluster.settle()
    cluster.assert_quiet()


def test_a_release_that_cannot_load_falls_back_and_asks_for_a_rollback(cluster: Cluster) -> None:
    """The old version answers all the while; the failed one is not tried again; a rollback is proposed."""
    cluster.start()
    person = cluster.person
    person.write(person.spec())
    _released(cluster)
    person.change(("epochs: 8", "epochs: 9"))
    cluster.until("v2 is proposed", person.pulls)
    (pull,) = person.pulls()
    serving = cluster.status().serving
    assert serving is not None
    files = {key.removeprefix("artifacts/")[:64] for key in cluster.store.list() if key.startswith("artifacts/")}
    (new,) = files - {(serving.file or "")[7:]}
    blob = cluster.folder / "store/blobs/sha256" / new
    blob.chmod(0o644)
    blob.write_bytes(b"not the bytes that the digest names")
    person.merge(pull.number)
    cluster.until("it fell back", lambda: cluster.reason("Serving") == "FallbackToPrevious")
    cluster.until("a rollback is proposed", lambda: any("rollback" in p.branch for p in person.pulls()))
    serving = cluster.status().serving
    assert serving is not None
    assert serving.version == 1
    cluster.until("the failed pods are gone", lambda: len(cluster.kubelet.pods("default", "serve-digits")) == 1)
    cluster.settle()
    cluster.assert_quiet()


def test_sigterm_ends_it_in_order(cluster: Cluster) -> None:
    """Asked to end it finishes what it does, lets the lease go at once, and says 0; the next one takes over."""
    cluster.start()
    cluster.person.write(cluster.person.spec())
    _released(cluster)
    began = time.monotonic()
    assert cluster.stop() == 0
    assert time.monotonic() - began < 25
    (lease,) = cluster.objects("leases")
    assert lease["spec"].get("holderIdentity", "") == ""
    cluster.start("next")
    cluster.until("the next one works", lambda: cluster.objects("leases")[0]["spec"]["holderIdentity"] == "next")


