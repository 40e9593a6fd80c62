"""One story of serving, told of every backend: our server in a Deployment, behind KServe in both its modes, Triton.

The API server is real, and so is KServe's published definition; their controllers are played by hand
(tests/support/serving_hands.py).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from adapters.kubernetes_api import (
    CONFIG_MAP,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    POD,
    SERVICE,
    Kind,
    KubernetesApi,
    Object,
)  # fmt: skip
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.kubernetes_triton import TritonStyle
from adapters.servers_cluster import ClusterServers
from adapters.servers_kserve import KServeServers
from adapters.servers_kubernetes import KubernetesServers
from adapters.servers_triton import SHARED, TritonServers
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.placement import Placement, Shape
from specs.serving import Autoscaling
from specs.serving_facts import Rejected, ServingState, ServingTarget, Share
from tests.support.apiserver import ApiServer
from tests.support.kserve_hands import install
from tests.support.serving_hands import Hands

STYLE = PodStyle("registry.example.com/trunkline-serve:1", ("python", "-m", "workloads.serve"), "trunkline-serve",
                 "file:///store", secret="store-credentials", store_claim="models")  # fmt: skip
TRITON = TritonStyle("registry.example.com/tritonserver:1", ("tritonserver",), STYLE)
LIVE = Rejected("sha256:" + "2" * 64, "error rate 0.3 against 0.01")
EVERY = ("Deployment", "KServe", "KServe Standard", "Triton")
_NUMBERS = itertools.count()
# The connections are as old as the module, so that what they said about themselves is forgotten at each test.
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
every_backend = pytest.mark.parametrize("bench", EVERY, indirect=True)
knative = pytest.mark.parametrize("bench", ["KServe"], indirect=True)


class Killed(BaseException):
    """The operator is killed here."""


class Dying(KubernetesApi):
    """An API whose user is killed before its n-th write; with ``lost``, the write is done and its answer lost."""

    left = 0
    lost = False

    def apply(self, kind: Kind, manifest: Object, *, force: bool = False, status: bool = False) -> Object:
        """Apply, unless it dies."""
        written = super().apply(kind, manifest, force=force, status=status) if self.lost else {}
        self._count()
        return written or super().apply(kind, manifest, force=force, status=status)

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete, unless it dies."""
        if self.lost:
            super().delete(kind, namespace, name, uid=uid)
        self._count()
        super().delete(kind, namespace, name, uid=uid)

    def _count(self) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                raise Killed


class Cluster:
    """The shared server, with KServe's definition installed, and two connections as the operator."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.asked: list[tuple[str, str, int]] = []
        path = str(server.kubeconfig_of("operator"))
        self.api = KubernetesApi.connect(kubeconfig=path, counted=lambda *asked: self.asked.append(asked))
        self.dying: Any = Dying.connect(kubeconfig=path)


class Bench:
    """A namespace of its own with one model, served by one backend to begin with."""

    def __init__(self, cluster: Cluster, backend: str) -> None:
        self.server, self.api, self.dying, self.asked = cluster.server, cluster.api, cluster.dying, cluster.asked
        self.backend, _, self.mode = backend.partition(" ")
        self.key = ModelKey(f"backends-{next(_NUMBERS)}", "shelf")
        self.owner = Owner(self.key, "00000000-0000-4000-8000-000000000001")
        self.name = serving_name(*self.key)
        self.now = 1000.0
        self.hands = Hands(self.server, self.key.namespace)
        self.servers = self.operator()

    def operator(self, api: KubernetesApi | None = None, **changes: Any) -> ClusterServers:
        """Give an operator's view of the cluster."""
        api = api or self.api
        owners = lambda key: self.owner if key == self.key else None  # noqa: E731
        return ClusterServers(
            {
                "Deployment": KubernetesServers(api, owners, changes.get("style", STYLE), network_policies=True),
                "KServe": KServeServers(
                    api, owners, changes.get("style", STYLE), mode=self.mode or "Knative", clock=lambda: self.now
                ),
                "Triton": TritonServers(api, owners, changes.get("triton", TRITON), network_policies=True),
            },
            {"Deployment": SHARED, "Triton": SHARED},
        )

    def target(self, version: int = 1, *, backend: str = "", share: Share | None = None, **shape: Any) -> ServingTarget:
        """Give a target; each version has a file of its own."""
        wanted = Shape(backend=backend or self.backend, **shape)
        run, weights = ("sha256:" + word * 64 for word in "ab")
        return ServingTarget(self.name, version, run, weights, file_of(version), wanted, share=share)

    def roll_out(self, *arguments: Any, **changes: Any) -> ServingState:
        """Roll a target out to its end, answering all the time; give the state then."""
        before = bool(self.hands.answers())
        self.servers.roll_out(self.target(*arguments, **changes))
        while self.hands.step():
            assert self.hands.answers() or not before
        return self.state()

    def state(self) -> ServingState:
        """Give the state, which there is."""
        found = self.operator().state(self.name)
        assert found is not None
        return found

    def snapshot(self) -> dict[str, str]:
        """Give the versions of all objects that the operator may write."""
        kinds = (DEPLOYMENT, SERVICE, INFERENCE_SERVICE, CONFIG_MAP, *SHARED)
        found = {}
        for kind in kinds:
            for item in self.server.items(kind.path(self.key.namespace)):
                found[f"{kind.plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        found.pop("configmaps/kube-root-ca.crt", None)
        return found

    def main(self) -> str:
        """Give the path of the object that comes last."""
        kind = INFERENCE_SERVICE if self.backend == "KServe" else DEPLOYMENT
        word = {"KServe": "kserve", "Triton": "triton"}.get(self.backend, "serve")
        return kind.path(self.key.namespace, f"{word}-shelf")


def file_of(version: int) -> str:
    """Give the file of a version."""
    return f"sha256:{version}" + "0" * 63 if version != 2 else LIVE.file


@pytest.fixture(scope="module")
def cluster(api_server: ApiServer) -> Cluster:
    """Give the shared server as all these tests use it."""
    install(api_server)
    return Cluster(api_server)


@pytest.fixture
def bench(cluster: Cluster, request: pytest.FixtureRequest) -> Bench:
    """Give a namespace of its own for the backend that the test is told of."""
    cluster.dying.left, cluster.dying.lost = 0, False
    return Bench(cluster, getattr(request, "param", "Deployment"))


def told(state: ServingState) -> tuple[Any, ...]:
    """Give what matters most of a state."""
    return state.ready, state.version, state.failed_file


@every_backend
def test_a_first_rollout(bench: Bench) -> None:
    """Nothing serves before it is asked for; then it is on its way, then it answers, in the shape that was asked."""
    assert bench.servers.state(bench.name) is None
    begun = bench.servers.roll_out(bench.target(1))
    assert (told(begun), begun.asked, begun.asked_version) == ((False, None, None), file_of(1), 1)
    bench.hands.settle()
    state = bench.state()
    assert (told(state), state.file, state.failure) == ((True, 1, None), file_of(1), "")
    assert (state.shape, state.canary) == (bench.target().shape.digest, None)
    assert state.url.startswith("http://")
    assert state.url.endswith(f"/v2/models/{bench.name}")
    assert bench.hands.answers() == {(bench.backend, file_of(1))}
    assert bench.name in bench.servers.names()


@pytest.mark.parametrize("bench", EVERY[1:], indirect=True)
@pytest.mark.parametrize("shape", [
    {"replicas": 2}, {"autoscaling": Autoscaling(min_replicas=1, max_replicas=3)},
    {"placement": Placement({"cpu": "1"}, {"cpu": "2", "nvidia.com/gpu": "1"}, {"gpu": "l4"})},
], ids=["two", "autoscaled", "placed"])  # fmt: skip
def test_every_shape_is_accepted(bench: Bench, shape: dict[str, Any]) -> None:
    """The API server takes each shape, with strict validation against the published definition; again, no change."""
    state = bench.roll_out(1, **shape)
    assert (told(state), state.shape) == ((True, 1, None), bench.target(**shape).shape.digest)
    before = bench.snapshot()
    bench.operator().roll_out(bench.target(1, **shape))
    bench.hands.settle()
    assert bench.snapshot() == before or bench.backend == "KServe"
    assert told(bench.state()) == (True, 1, None)


@every_backend
def test_a_new_release_takes_over_once_it_can_answer(bench: Bench) -> None:
    """The old one answers until the new one can; then the new one answers alone."""
    bench.roll_out(1)
    bench.hands.slow.add(file_of(2))
    bench.roll_out(2)
    state = bench.state()
    assert (told(state), state.asked_version) == ((True, 1, None), 2)
    assert bench.hands.answers() == {(bench.backend, file_of(1))}
    assert bench.roll_out(3).version == 3
    assert bench.hands.answers() == {(bench.backend, file_of(3))}


@every_backend
def test_a_release_that_cannot_load_is_given_up(bench: Bench) -> None:
    """The last good one goes on answering, the verdict has our server's own words, and the fall back remembers it."""
    bench.roll_out(1)
    bench.hands.bad.add(file_of(2))
    state = bench.roll_out(2)
    assert told(state) == (True, 1, file_of(2))
    assert "SelfTestFailed" in state.failure
    assert told(bench.roll_out(1)) == (True, 1, file_of(2))
    assert "SelfTestFailed" in bench.state().failure
    assert bench.hands.answers() == {(bench.backend, file_of(1))}
    assert told(bench.roll_out(3)) == (True, 3, None)


@every_backend
def test_what_live_traffic_said_is_remembered(bench: Bench) -> None:
    """A file that was given up in live traffic stays given up until another target is asked for."""
    bench.roll_out(1)
    bench.roll_out(2)
    bench.servers.roll_out(bench.target(1), LIVE)
    bench.hands.settle()
    state = bench.state()
    assert (state.version, state.rejected) == (1, LIVE)
    bench.operator().roll_out(bench.target(1))
    assert bench.state().rejected == LIVE
    assert bench.roll_out(3).rejected is None


@every_backend
def test_a_model_is_withdrawn(bench: Bench) -> None:
    """Nothing of it is left; once more is no trouble."""
    bench.roll_out(1)
    bench.servers.withdraw(bench.name)
    bench.hands.settle()
    assert (bench.servers.state(bench.name), bench.snapshot(), bench.hands.answers()) == (None, {}, set())
    bench.servers.withdraw(bench.name)


@every_backend
def test_a_settled_model_is_left_alone(bench: Bench) -> None:
    """Looking writes nothing; asking again changes nothing, and restarts no pod."""
    bench.roll_out(1)
    before, pods = bench.snapshot(), pod_names(bench)
    bench.asked.clear()
    state = bench.state()
    assert {verb for verb, _, _ in bench.asked} <= {"get"}
    assert bench.servers.roll_out(bench.target(1)) == state
    bench.hands.settle()
    assert pod_names(bench) == pods
    assert bench.snapshot() == before or bench.backend == "KServe"  # whose defaults are written once more


@every_backend
def test_two_operators_at_once_are_one(bench: Bench) -> None:
    """Both ask for the same target at the same time: it is rolled out once, and neither is in trouble for good."""
    bench.roll_out(1)
    troubles: list[Exception] = []

    def ask() -> None:
        try:
            bench.operator().roll_out(bench.target(2))
        except Transient as trouble:
            troubles.append(trouble)

    both = [threading.Thread(target=ask) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(troubles) < 2
    bench.hands.settle()
    assert told(bench.roll_out(2)) == (True, 2, None)


@pytest.mark.parametrize(("bench", "lost"), [
    ("Deployment", False), ("KServe", True), ("KServe", False), ("Triton", True),
], indirect=["bench"])  # fmt: skip
def test_killed_at_any_write(bench: Bench, lost: bool) -> None:  # noqa: FBT001  a case
    """Whichever write the operator dies at, what answers goes on, and the next one finishes."""
    bench.roll_out(1)
    bench.hands.bad.add(file_of(3))
    dying = bench.dying
    for number in range(1, 12):
        version = 2 if number % 2 else 1
        dying.left, dying.lost = number, lost
        try:
            bench.operator(dying).roll_out(bench.target(version))
        except Killed:
            bench.hands.settle()
            state = bench.state()
            assert state.ready
            assert bench.hands.answers() <= {(bench.backend, file_of(1)), (bench.backend, file_of(2))}
            assert told(bench.roll_out(version)) == (True, version, None)
        else:
            break
    else:
        pytest.fail("it never came to its end")
    assert number > 1


@every_backend
def test_objects_of_others_are_never_touched(bench: Bench) -> None:
    """What has our name and is somebody else's is a conflict for a person, and stays as it is, whatever we do."""
    path = bench.main()
    kind = INFERENCE_SERVICE if bench.backend == "KServe" else DEPLOYMENT
    pods = {"containers": [{"name": "x", "image": "x"}]}
    labels = {"app": "theirs"}
    spec = {"predictor": pods} if kind is INFERENCE_SERVICE else {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pods},
    }  # fmt: skip
    name = path.rpartition("/")[2]
    made = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}, "spec": spec}
    before = bench.server.create(path.rpartition("/")[0], made)
    assert bench.servers.state(bench.name) is None
    with pytest.raises(Stalled, match="shelf") as trouble:
        bench.servers.roll_out(bench.target(1))
    assert trouble.value.reason == "Conflict"
    bench.servers.withdraw(bench.name)
    assert bench.server.get(path) == before
    assert bench.snapshot().keys() == {f"{kind.plural}/{name}"}


# ------------------------------------------------------------------------------------------------- canaries


@knative
def test_a_canary_gets_its_share_and_then_everything(bench: Bench) -> None:
    """Loaded first, then its share step by step without a new revision, then it serves alone."""
    bench.roll_out(1)
    bench.servers.roll_out(bench.target(2, share=Share(0)))
    begun = bench.state()
    assert begun.canary is not None
    assert (begun.version, begun.asked_version, begun.canary.ready, begun.canary.since) == (1, 1, False, 0)
    bench.hands.settle()
    assert bench.hands.answers() == {("KServe", file_of(1))}
    assert bench.state().canary is not None
    assert bench.state().canary.ready  # type: ignore[union-attr]
    pods = pod_names(bench)
    for step, weight in ((1, 10), (2, 50), (3, 100)):
        bench.now += 60
        bench.servers.roll_out(bench.target(2, share=Share(step, weight)))
        asked = bench.now
        bench.now += 5
        bench.servers.roll_out(bench.target(2, share=Share(step, weight)))
        bench.hands.settle()
        state = bench.state()
        assert state.canary is not None
        assert (state.version, state.canary.share, state.canary.since) == (1, Share(step, weight), asked)
        assert bench.hands.answers() == {("KServe", file_of(1)), ("KServe", file_of(2))}
        assert pod_names(bench) == pods
    state = bench.roll_out(2)
    assert (told(state), state.canary, state.shape) == ((True, 2, None), None, bench.target().shape.digest)
    assert bench.hands.answers() == {("KServe", file_of(2))}


@knative
@pytest.mark.parametrize("weight", [0, 10, 100])
def test_a_canary_is_let_go_at_once(bench: Bench, weight: int) -> None:
    """What was given up gets no request from then on, also while its place is taken; the host remembers why."""
    bench.roll_out(1)
    bench.roll_out(2, share=Share(1, weight))
    bench.servers.roll_out(bench.target(1), LIVE)
    for _ in range(20):
        bench.hands.step()
        assert bench.hands.answers() == {("KServe", file_of(1))}
        state = bench.state()
        assert (state.ready, state.version, state.rejected, state.canary) == (True, 1, LIVE, None)
        if state.shape == bench.target().shape.digest:
            break
        bench.servers.roll_out(bench.target(1), LIVE)
        assert bench.hands.answers() == {("KServe", file_of(1))}
    assert "canaryTrafficPercent" not in bench.server.get(bench.main())["spec"]["predictor"]
    bench.hands.settle()
    assert bench.hands.answers() == {("KServe", file_of(1))}


@knative
def test_a_canary_that_cannot_load_gets_nothing(bench: Bench) -> None:
    """The verdict is on the canary's file, and what serves goes on."""
    bench.roll_out(1)
    bench.hands.bad.add(file_of(2))
    state = bench.roll_out(2, share=Share(0))
    assert told(state) == (True, 1, file_of(2))
    assert state.canary is not None
    assert not state.canary.ready
    assert told(bench.roll_out(1)) == (True, 1, file_of(2))
    assert bench.hands.answers() == {("KServe", file_of(1))}


@knative
def test_another_canary_takes_the_place_of_one(bench: Bench) -> None:
    """Where a newer release is merged meanwhile, the stable one still is what serves."""
    bench.roll_out(1)
    bench.roll_out(2, share=Share(1, 10))
    state = bench.roll_out(3, share=Share(0))
    assert state.canary is not None
    assert (state.version, state.canary.version) == (1, 3)
    assert bench.hands.answers() == {("KServe", file_of(1))}


@knative
def test_a_canary_whose_memory_is_lost_is_not_promoted(bench: Bench) -> None:
    """Where somebody deletes the ConfigMap, what is seen is enough: it gets its share again, and can be let go."""
    bench.roll_out(1)
    bench.roll_out(2, share=Share(1, 10))
    bench.server.delete(CONFIG_MAP.path(bench.key.namespace, "kserve-shelf"))
    assert bench.state().shape == ""
    state = bench.roll_out(2, share=Share(1, 20))
    assert state.canary is not None
    assert (state.version, state.canary.version, state.canary.share) == (1, 2, Share(1, 20))
    assert bench.server.get(bench.main())["spec"]["predictor"]["canaryTrafficPercent"] == 20
    bench.server.delete(CONFIG_MAP.path(bench.key.namespace, "kserve-shelf"))
    bench.servers.roll_out(bench.target(1), LIVE)
    bench.hands.settle()
    assert bench.hands.answers() == {("KServe", file_of(1))}


@pytest.mark.parametrize(("bench", "share"), [
    ("KServe", Share(1, mirror=100)), ("KServe Standard", Share(1, 10)), ("Triton", Share(1, 10)),
], indirect=["bench"])  # fmt: skip
def test_shares_that_nobody_can_give_are_told(bench: Bench, share: Share) -> None:
    """Where a backend cannot split or copy traffic, the sentence says so and what to do; what serves goes on."""
    bench.roll_out(1)
    with pytest.raises(Stalled, match=r"spec\.serving\.strategy\.canary") as told_:
        bench.servers.roll_out(bench.target(2, share=share))
    assert told_.value.reason == "CanaryUnsupported"
    assert told(bench.state()) == (True, 1, None)


@every_backend
def test_the_first_release_knows_no_share(bench: Bench) -> None:
    """Where nothing serves yet, a share has no meaning: it is all that serves."""
    if bench.backend == "Deployment":
        pytest.skip("what a share means to our own server is told elsewhere")
    state = bench.roll_out(1, share=Share(0))
    assert (told(state), state.canary) == ((True, 1, None), None)


# ------------------------------------------------------------------------------------------------- another backend

PAIRS = list(itertools.permutations(("Deployment", "KServe", "Triton"), 2))


@pytest.mark.parametrize(("bench", "new"), PAIRS, indirect=["bench"])
def test_another_backend_takes_over(bench: Bench, new: str) -> None:
    """The new one is brought up beside the old one, which answers until then, and goes only after."""
    bench.roll_out(1)
    state = change(bench, bench.target(1, backend=new))
    assert (told(state), state.shape) == ((True, 1, None), bench.target(backend=new).shape.digest)
    bench.hands.settle()
    assert bench.hands.answers() == {(new, file_of(1))}
    bench.servers.withdraw(bench.name)
    bench.hands.settle()
    assert bench.snapshot() == {}


@pytest.mark.parametrize(("bench", "new"), [("Deployment", "Triton"), ("Triton", "Deployment")], indirect=["bench"])
def test_the_address_stays_where_it_can(bench: Bench, new: str) -> None:
    """Between our own server and Triton the Service is one and the same, so clients notice nothing."""
    before = bench.roll_out(1).url
    uid = bench.server.get(SERVICE.path(bench.key.namespace, "serve-shelf"))["metadata"]["uid"]
    assert change(bench, bench.target(1, backend=new)).url == before
    assert bench.server.get(SERVICE.path(bench.key.namespace, "serve-shelf"))["metadata"]["uid"] == uid


@pytest.mark.parametrize(
    ("bench", "new"), [("Deployment", "KServe"), ("KServe", "Triton"), ("Triton", "Deployment")], indirect=["bench"]
)
def test_killed_while_another_backend_takes_over(bench: Bench, new: str) -> None:
    """There and back: whichever write it dies at, something answers, and the next operator brings it to its end."""
    bench.roll_out(1)
    dying, backends = bench.dying, itertools.cycle((new, bench.backend))
    for number, backend in zip(range(1, 40), backends, strict=False):
        dying.left = number
        try:
            change(bench, bench.target(1, backend=backend), api=dying)
        except Killed:
            assert bench.hands.answers()
            change(bench, bench.target(1, backend=backend))
        else:
            break
    else:
        pytest.fail("it never came to its end")
    assert number > 3


@pytest.mark.parametrize(("bench", "new"), [("Deployment", "Triton"), ("Triton", "KServe")], indirect=["bench"])
def test_a_backend_that_cannot_is_no_verdict_on_the_release(bench: Bench, new: str) -> None:
    """Where the new backend gives up what the old one answers with, people are told, and the old one goes on."""
    bench.roll_out(1)
    bench.hands.bad.add(file_of(1))  # new pods cannot load what the old ones have
    bench.servers.roll_out(bench.target(1, backend=new))
    bench.hands.settle()
    state = bench.state()
    assert (told(state), state.shape) == ((True, 1, None), "")
    assert "SelfTestFailed" in state.failure
    with pytest.raises(Stalled, match=f"{new} cannot serve v1.*v1 by {bench.backend} goes on answering") as told_:
        bench.servers.roll_out(bench.target(1, backend=new))
    assert told_.value.reason == "BackendFailed"
    bench.servers.roll_out(bench.target(1))  # people change their mind
    bench.hands.settle()
    assert (told(bench.state()), bench.state().shape) == ((True, 1, None), bench.target().shape.digest)
    assert bench.hands.answers() == {(bench.backend, file_of(1))}


def test_another_backend_is_not_taken_before_it_answers_in_full(bench: Bench) -> None:
    """With two replicas asked for, one that answers is not enough to let the old ones go."""
    bench.roll_out(1, replicas=2)
    target = bench.target(1, backend="Triton", replicas=2)
    bench.servers.roll_out(target)
    bench.hands.settle()
    pods = [pod for pod in pod_names(bench) if pod.startswith("triton")]
    not_ready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    bench.server.merge(POD.path(bench.key.namespace, pods[0], "status"), not_ready)
    bench.hands.step()
    bench.servers.roll_out(target)
    assert ("Deployment", file_of(1)) in bench.hands.answers()


def test_a_missing_backend_says_what_to_install(bench: Bench) -> None:
    """Without an image of Triton the sentence names the setting."""
    bare = bench.operator(triton=replace(TRITON, image=""))
    with pytest.raises(Stalled, match="triton_image") as told_:
        bare.roll_out(bench.target(1, backend="Triton"))
    assert told_.value.reason == "BackendMissing"
    assert bench.snapshot() == {}


def change(bench: Bench, target: ServingTarget, api: KubernetesApi | None = None) -> ServingState:
    """Go on asking as the loop does, with something that answers all the time, until the target serves alone."""
    for _ in range(30):
        state = bench.operator(api).roll_out(target)
        assert bench.hands.answers()
        bench.hands.step()
        assert bench.hands.answers()
        state = bench.state()
        if state.ready and state.version == target.version and state.shape == target.shape.digest:
            return state
    raise AssertionError(f"it never took over: {state}")


def pod_names(bench: Bench) -> Sequence[str]:
    """Give the names of all pods."""
    return sorted(pod["metadata"]["name"] for pod in bench.server.items(POD.path(bench.key.namespace)))


