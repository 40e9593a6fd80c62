"""Two versions in one Deployment, on a real API server: what is written, what is read, and what survives a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from adapters.kubernetes_api import CONFIG_MAP, DEPLOYMENT, POD, KubernetesApi
from adapters.kubernetes_pods import Owner
from adapters.servers_kubernetes import KubernetesServers
from controller.informer import Informer
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.placement import Shape
from specs.serving_facts import CanaryState, Rejected, ServingState, ServingTarget, Share
from tests.adapters.test_servers_kubernetes import (
    ALL,
    AUTO,
    STYLE,
    Bench,
    Killed,
    died,
    digest,
    dying,
    told,
)
from tests.support.apiserver import ApiServer

ONE, TWO, THREE = ("one", 1), ("two", 2), ("three", 3)
LIVE = Rejected(digest("two"), "error rate: 30 % against 1 %, too high")
FAILED = "CanaryFailed: {}: SelfTestFailed: self-test 1 of 3 differs"


class Beside(Bench):
    """A namespace with a clock, whose v1 serves."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(server)
        self.now = 1_790_000_000.0

    def servers(self, **changes: Any) -> KubernetesServers:
        """Give an operator's view of the cluster, at the time that the test says."""
        return super().servers(clock=lambda: self.now, **changes)

    def beside(self, share: Share, word: str = "two", version: int = 2, **changes: Any) -> ServingTarget:
        """Give a target that takes part with a share."""
        return replace(self.target(word, version), share=share, **changes)

    def put(self, share: Share, *what: Any, ready: bool = True) -> KubernetesServers:
        """Give servers on which something was put beside v1; with ``ready`` its pods are made."""
        servers = self.servers()
        servers.roll_out(self.beside(share, *what))
        if ready:
            self.report()
        return servers

    def state(self) -> ServingState:
        """Give what an operator that was just started sees."""
        found = self.servers().state(self.name)
        assert found is not None
        return found

    def canary(self) -> CanaryState:
        """Give what is beside what serves."""
        found = self.state().canary
        assert found is not None
        return found

    def told(self) -> dict[str, Any]:
        """Give what pods are told to serve."""
        (container,) = self.find()["spec"]["template"]["spec"]["containers"]
        given = {each["name"]: each.get("value") for each in container["env"]}
        return dict(json.loads(given["TRUNKLINE_SERVING_TARGET"]))

    def share(self) -> dict[str, int]:
        """Give what servers read of the share."""
        return dict(json.loads(self.find(CONFIG_MAP)["data"]["share.json"]))

    def canary_pod(self, word: str = "two", *, ready: bool = False, **status: Any) -> None:
        """Make a pod that has v1 and something beside it."""
        self.pod(*ONE, ready=ready, **status)
        newest = max(self.server.items(POD.path(self.key.namespace)), key=lambda pod: str(pod["metadata"]["name"]))
        notes = {"trunkline.dev/canary-file": digest(word), "trunkline.dev/canary-version": "2"}
        path = POD.path(self.key.namespace, newest["metadata"]["name"])
        self.server.merge(path, {"metadata": {"annotations": notes}})


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    """Give the shared server, which may have just started and answers for all kinds by now."""
    for kind in (*ALL, POD, CONFIG_MAP):
        api_server.items(kind.path("default"))
    return api_server


@pytest.fixture
def bench(server: ApiServer) -> Beside:
    """A namespace of its own on the shared server, in which v1 serves."""
    made = Beside(server)
    made.rolled_out(*ONE)
    return made


def versions(bench: Beside) -> dict[str, str]:
    """Give the versions of all objects that are there, the share's included."""
    found = bench.find(CONFIG_MAP)
    return bench.snapshot() | ({"configmaps": found["metadata"]["resourceVersion"]} if found else {})


def test_both_versions_are_in_the_pods(bench: Beside) -> None:
    """Pods are told both and find the share in a folder that blocks nothing where it is missing; v1 serves on."""
    bench.put(Share(0), ready=False)
    told_both = bench.told()
    assert (told_both["version"], told_both["file"]) == (1, digest("one"))
    assert told_both["canary"] == {
        "version": 2, "run": digest("run"), "weights": digest("weights"), "file": digest("two"),
    }  # fmt: skip
    spec = bench.find()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (place,) = [each["value"] for each in container["env"] if each["name"] == "TRUNKLINE_SHARE_FILE"]
    (mount,) = [each for each in container["volumeMounts"] if place.startswith(each["mountPath"] + "/")]
    (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
    assert (mount["readOnly"], "subPath" in mount) == (True, False)
    assert (volume["configMap"]["name"], volume["configMap"]["optional"]) == ("serve-shelf", True)
    assert place.removeprefix(mount["mountPath"] + "/") in bench.find(CONFIG_MAP)["data"]
    assert bench.share() == {"version": 2, "step": 0, "weight": 0, "mirror": 0}
    assert bench.find()["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (owner,) = bench.find(CONFIG_MAP)["metadata"]["ownerReferences"]
    assert owner["uid"] == (bench.owner and bench.owner.uid)


def test_ready_once_all_pods_have_both(bench: Beside) -> None:
    """As long as pods are exchanged v1 answers and v2 is not ready; the Deployment alone says when it is."""
    bench.put(Share(0), ready=False)
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.pod(*ONE, ready=True)
    bench.canary_pod()
    state = bench.state()
    assert told(state) == (True, 1, digest("one"), None)
    assert (state.asked_version, state.asked) == (1, digest("one"))
    assert state.canary == CanaryState(2, digest("two"), Share(0), ready=False, since=bench.now)
    bench.report()
    bench.asked.clear()
    assert bench.canary().ready
    assert {asked[1] for asked in bench.asked} == {"deployments"}


def test_an_informers_trimmed_deployment_tells_all(bench: Beside) -> None:
    """What the operator keeps of a Deployment is enough to know what is beside it."""
    bench.put(Share(1, weight=10))
    informer = Informer(lambda: 0.0)
    informer.saw(DEPLOYMENT, None, bench.find())
    state = bench.servers(deployments=partial(informer.child, DEPLOYMENT)).state(bench.name)
    assert state is not None
    assert state.canary == CanaryState(2, digest("two"), Share(1, weight=10), ready=True, since=bench.now)


def test_another_share_restarts_no_pod(bench: Beside) -> None:
    """Each step changes the ConfigMap and notes; the template stays, and the moment is that of the change."""
    servers = bench.put(Share(0))
    template, generation = bench.find()["spec"]["template"], bench.find()["metadata"]["generation"]
    for number, share in enumerate((Share(1, mirror=100), Share(2, weight=10), Share(3, weight=50)), 1):
        bench.now += 60
        state = servers.roll_out(bench.beside(share))
        assert state.canary == CanaryState(2, digest("two"), share, ready=True, since=1_790_000_000.0 + 60 * number)
        assert bench.share() == {"version": 2, "step": share.step, "weight": share.weight, "mirror": share.mirror}
    assert (bench.find()["spec"]["template"], bench.find()["metadata"]["generation"]) == (template, generation)


def test_asked_again_nothing_is_written(bench: Beside) -> None:
    """The same share later on is the one that is in force: neither object changes, and the moment stays."""
    servers = bench.put(Share(1, weight=10))
    before = versions(bench)
    bench.now += 600
    servers.roll_out(bench.beside(Share(1, weight=10)))
    bench.servers().roll_out(bench.beside(Share(1, weight=10)))
    assert versions(bench) == before
    assert bench.canary().since == bench.now - 600


def test_promoted(bench: Beside) -> None:
    """Asked for without a share it is all that pods are told; old pods keep their share until they are gone."""
    servers = bench.put(Share(3, weight=50))
    state = servers.roll_out(bench.target(*TWO))
    assert (state.asked_version, state.canary, "canary" in bench.told()) == (2, None, False)
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.canary_pod(ready=True)
    assert told(bench.state()) == (True, 1, digest("one"), None)
    assert bench.share()["weight"] == 50
    bench.report()
    assert told(bench.state()) == (True, 2, digest("two"), None)
    annotations = bench.find()["metadata"]["annotations"]
    assert not [name for name in annotations if "canary" in name]
    spec = bench.find()["spec"]["template"]["spec"]
    assert not [volume for volume in spec["volumes"] if "configMap" in volume]


def test_who_comes_late_puts_nothing_beside_itself(bench: Beside) -> None:
    """A second operator that still asks for a step of what serves alone by now changes nothing about that."""
    servers = bench.put(Share(3, weight=50))
    servers.roll_out(bench.target(*TWO))
    state = servers.roll_out(bench.beside(Share(3, weight=50)))
    assert (state.asked_version, state.canary, bench.told()["version"]) == (2, None, 2)


def test_given_up(bench: Beside) -> None:
    """Let go, it gets nothing from that moment on, pods are those of v1 again, and why is remembered with it."""
    servers = bench.put(Share(2, weight=10))
    state = servers.roll_out(bench.target(*ONE), LIVE)
    assert (state.canary, state.rejected, state.asked_version) == (None, LIVE, 1)
    assert (bench.share()["step"], bench.share()["weight"]) == (0, 0)
    assert "canary" not in bench.told()
    bench.report()
    assert told(bench.state()) == (True, 1, digest("one"), None)
    other = Rejected(digest("two"), "p95 latency: too high")
    assert servers.roll_out(bench.target(*ONE), other).rejected == LIVE, "the first verdict stays"
    assert servers.roll_out(bench.target(*ONE)).rejected == LIVE
    assert servers.roll_out(bench.beside(Share(0), *THREE)).rejected is None, "until another release is asked for"


def test_given_up_where_git_names_what_serves_no_more(bench: Beside) -> None:
    """Asked to be loaded only, with a verdict, it stays in the pods, gets nothing, and the verdict is remembered."""
    servers = bench.put(Share(2, weight=10))
    state = servers.roll_out(bench.beside(Share(0)), LIVE)
    assert (state.rejected, state.canary and state.canary.share) == (LIVE, Share(0))
    assert bench.share()["weight"] == 0
    assert servers.roll_out(bench.beside(Share(0))).rejected == LIVE


def test_a_verdict_on_another_file_gives_way_to_a_new_one(bench: Beside) -> None:
    """What v1 replaced once says nothing about what is beside it now."""
    servers = bench.servers()
    servers.roll_out(bench.target(*ONE), Rejected(digest("zero"), "old"))
    servers.roll_out(bench.beside(Share(1, weight=10)))
    assert servers.roll_out(bench.target(*ONE), LIVE).rejected == LIVE


def test_another_release_takes_its_place(bench: Beside) -> None:
    """A newer release is put beside v1, and v2 is gone from pods and share."""
    bench.put(Share(2, weight=10))
    bench.now += 60
    bench.put(Share(0), *THREE)
    assert bench.told()["version"] == 1
    assert bench.told()["canary"]["version"] == 3
    assert bench.share() == {"version": 3, "step": 0, "weight": 0, "mirror": 0}
    assert bench.canary() == CanaryState(3, digest("three"), Share(0), ready=True, since=bench.now)


@pytest.mark.parametrize("shape", [Shape(3), AUTO], ids=["more", "autoscaled"])
def test_another_shape_within_a_step(bench: Beside, shape: Shape) -> None:
    """Other replicas leave pods, share and moment as they are."""
    servers = bench.put(Share(1, weight=10))
    template = bench.find()["spec"]["template"]
    bench.now += 60
    state = servers.roll_out(bench.beside(Share(1, weight=10), shape=shape))
    assert (bench.find()["spec"]["template"], state.shape) == (template, shape.digest)
    assert state.canary is not None
    assert state.canary.since == bench.now - 60


def test_without_anything_that_serves_a_share_means_nothing(api_server: ApiServer) -> None:
    """Where there is no Deployment yet, the release is all that serves."""
    bench = Beside(api_server)
    state = bench.servers().roll_out(bench.beside(Share(0)))
    assert (state.asked_version, state.canary, bench.find(CONFIG_MAP)) == (2, None, None)


# ------------------------------------------------------------------------------------------------- what fails


OURS = "loading\ntrunkline: " + FAILED.format(digest("two"))
MEMORY = (
    "its server died again and again before it was ready: it needs more memory than spec.serving.resources.limits "
    "allows (OOMKilled)"
)
VERDICTS: list[tuple[str, dict[str, Any], bool, str]] = [
    ("cannot be loaded", died(10, OURS, restarts=0, field="state"), True,
     FAILED.format(digest("two"))),
    ("says nothing about it", died(10, "trunkline: DataMissing: no such file"), False,
     "its server died and is started again: exit code 10, DataMissing: no such file"),
    ("blames another file", died(10, "trunkline: " + FAILED.format(digest("x"))), False,
     "its server died and is started again: exit code 10, " + FAILED.format(digest("x"))),
    ("both together need too much", died(137, reason="OOMKilled", restarts=3), True,
     MEMORY),
    ("died once", died(139), False, "its server died and is started again: exit code 139"),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "final", "words"), [pytest.param(*row[1:], id=row[0]) for row in VERDICTS])
def test_verdicts(bench: Beside, pod: dict[str, Any], final: bool, words: str) -> None:  # noqa: FBT001  a table's
    """Pods that die of what is beside v1 speak against that file, and never against v1, which answers."""
    bench.put(Share(0), ready=False)
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.pod(*ONE, ready=True)
    bench.canary_pod(**pod)
    state = bench.state()
    assert told(state) == (True, 1, digest("one"), digest("two") if final else None)
    assert state.failure == words


def test_a_pod_of_v1_alone_is_no_verdict(bench: Beside) -> None:
    """What old pods die of says nothing about what is beside them."""
    bench.put(Share(0), ready=False)
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.pod(*ONE, **died(10, "trunkline: Broken: x"))
    assert (bench.state().failed_file, bench.state().failure) == (None, "")


def test_what_failed_beside_it_is_remembered(bench: Beside) -> None:
    """v1 alone is asked for, and the Deployment remembers why, until a newer release is asked for."""
    servers = bench.put(Share(0), ready=False)
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.canary_pod(**died(10, OURS))
    servers.roll_out(bench.target(*ONE))
    bench.report()
    state = bench.state()
    assert told(state) == (True, 1, digest("one"), digest("two"))
    assert (state.failure, state.canary) == (FAILED.format(digest("two")), None)
    servers.roll_out(bench.beside(Share(0), *THREE))
    bench.report()
    assert bench.state().failed_file is None


# ------------------------------------------------------------------------------------------------- what is others'


def test_a_config_map_of_others_is_never_touched(bench: Beside) -> None:
    """One of that name that is somebody else's is said, and nothing is changed about what serves."""
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "serve-shelf"}, "data": {"a": "b"}}
    bench.server.create(CONFIG_MAP.path(bench.key.namespace), theirs)
    before = bench.find()["spec"]["template"]
    with pytest.raises(Stalled, match="serve-shelf"):
        bench.servers().roll_out(bench.beside(Share(0)))
    assert bench.find()["spec"]["template"] == before
    assert bench.find(CONFIG_MAP)["data"] == {"a": "b"}


def test_withdrawn_is_gone(bench: Beside) -> None:
    """The share goes with the rest."""
    bench.put(Share(1, weight=10)).withdraw(bench.name)
    assert versions(bench) == {}


def test_a_share_that_cannot_be_read_is_none(bench: Beside) -> None:
    """Notes that others bent mean that it gets nothing; asked for again they are put straight."""
    servers = bench.put(Share(1, weight=10))
    for bent in ("{", "[]", '{"step": "x"}'):
        bench.server.merge(bench.path(DEPLOYMENT), {"metadata": {"annotations": {"trunkline.dev/canary-share": bent}}})
        assert (bench.canary().share, bench.canary().since) == (Share(0), 0.0)
    servers.roll_out(bench.beside(Share(1, weight=10)))
    assert bench.canary().share == Share(1, weight=10)


# ------------------------------------------------------------------------------------------------- kills


Act = Callable[[KubernetesServers, Beside], object]
ACTS: dict[str, tuple[Share, Act]] = {
    "step": (Share(1, weight=10), lambda servers, bench: servers.roll_out(bench.beside(Share(2, weight=50)))),
    "promoted": (Share(2, weight=50), lambda servers, bench: servers.roll_out(bench.target(*TWO))),
    "given up": (Share(2, weight=50), lambda servers, bench: servers.roll_out(bench.target(*ONE), LIVE)),
}


@pytest.mark.parametrize("name", ACTS)
def test_killed_after_any_effect(bench: Beside, name: str) -> None:
    """Cut off anywhere, either nothing is said to be done, or all is; done again, it ends as undisturbed."""
    share, act = ACTS[name]
    bench.put(share)
    owners: Callable[[ModelKey], Owner | None] = lambda key: bench.owner  # noqa: E731
    deaths = []
    for number in range(2, 6):  # the first two are about Service and policy, which are there
        before = said(bench)
        try:
            api: KubernetesApi = dying(bench, number, "after")
            act(KubernetesServers(api, owners, STYLE, network_policies=True, clock=lambda: bench.now), bench)
        except Killed:
            deaths.append(said(bench))
        act(bench.servers(), bench)
        assert deaths[-1] in (before, said(bench))
        undisturbed = versions(bench)
        act(bench.servers(), bench)
        assert versions(bench) == undisturbed
        if name != "step":
            bench.rolled_out(*ONE)
        bench.put(share)
    assert 1 < len(deaths) < 4, "it was killed after each of its effects, and then after none"


def said(bench: Beside) -> tuple[Any, ...]:
    """Give what an operator would go by."""
    state = bench.state()
    return state.canary and replace(state.canary, ready=True), state.asked, state.asked_version, state.rejected
