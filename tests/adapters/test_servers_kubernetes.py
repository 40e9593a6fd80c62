"""Releases as Deployments, on a real API server. It has no controllers, so the tests write status and pods by hand."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from adapters.kubernetes_api import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    SERVICE,
    Kind,
    KubernetesApi,
    Object,
)  # fmt: skip
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.kubernetes_serving import service_name
from adapters.servers_kubernetes import KubernetesServers
from controller.informer import Informer
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from specs.monitoring import Labelling
from specs.names import serving_name
from specs.placement import Placement, Shape
from specs.serving import Autoscaling, ServerOptions
from specs.serving_facts import Rejected, ServingState, ServingTarget
from tests.support.apiserver import ApiServer

ALL = (NETWORK_POLICY, SERVICE, DISRUPTION_BUDGET, AUTOSCALER, DEPLOYMENT)
STYLE = PodStyle("registry.example.com/trunkline-serve:1", ("python", "-m", "workloads.serve"), "trunkline-serve",
                 "s3://models", secret="store-credentials")  # fmt: skip
AUTO = Shape(autoscaling=Autoscaling(min_replicas=2, max_replicas=5))
_NUMBERS = itertools.count()


def digest(word: str) -> str:
    """Give a digest that begins with hexadecimal digits of a word."""
    return "sha256:" + word.encode().hex().ljust(64, "0")


class Bench:
    """A namespace of its own with one model, ``servers-N/shelf``."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.key = ModelKey(f"servers-{next(_NUMBERS)}", "shelf")
        self.owner: Owner | None = Owner(self.key, "00000000-0000-4000-8000-000000000001")
        self.name = serving_name(*self.key)
        self.asked: list[tuple[str, str, int]] = []
        self._pods = itertools.count()
        self.api = self.connect(KubernetesApi)

    def connect(self, kind: type[KubernetesApi]) -> KubernetesApi:
        """Connect as the operator."""
        path = str(self.server.kubeconfig_of("operator"))
        return kind.connect(kubeconfig=path, counted=lambda *asked: self.asked.append(asked))

    def servers(self, **changes: Any) -> KubernetesServers:
        """Give an operator's view of the cluster."""
        given: dict[str, Any] = {"style": STYLE, "network_policies": True, **changes}
        owners = given.pop("owners", lambda key: self.owner if key == self.key else None)
        return KubernetesServers(self.api, owners, given.pop("style"), **given)

    def target(self, word: str = "one", version: int = 1, shape: Shape | None = None) -> ServingTarget:
        """Give a target whose file is named by a word."""
        return ServingTarget(self.name, version, digest("run"), digest("weights"), digest(word), shape or Shape())

    def path(self, kind: Kind, name: str = "serve-shelf", part: str = "") -> str:
        """Give the path of one of the model's objects."""
        return kind.path(self.key.namespace, name, part)

    def find(self, kind: Kind = DEPLOYMENT) -> Any:
        """Give an object as it is, or None."""
        return self.server.find(self.path(kind))

    def snapshot(self) -> dict[str, str]:
        """Give the versions of all objects that are there."""
        found = {kind.plural: self.find(kind) for kind in ALL}
        return {plural: obj["metadata"]["resourceVersion"] for plural, obj in found.items() if obj}

    def report(self, **status: Any) -> None:
        """Play the Deployment controller: say how far it got; by default that everything is rolled out."""
        now = self.find()
        wanted = now["spec"].get("replicas", 1)
        told = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
        told |= {"observedGeneration": now["metadata"]["generation"], **status}
        self.server.merge(self.path(DEPLOYMENT, part="status"), {"status": None})
        self.server.merge(self.path(DEPLOYMENT, part="status"), {"status": told})

    def pod(self, word: str = "one", version: int = 1, *, ready: bool = False, **status: Any) -> None:
        """Play the kubelet: make a pod of a release."""
        conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", ())]
        labels = {"trunkline.dev/model": self.key.name, "app.kubernetes.io/component": "serve"}
        notes = {"trunkline.dev/version": str(version), "trunkline.dev/file": digest(word)}
        name = f"pod-{next(self._pods)}"
        metadata = {"name": name, "labels": labels, "annotations": notes}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
                "spec": {"containers": [{"name": "serve", "image": STYLE.image}]}}  # fmt: skip
        self.server.create(POD.path(self.key.namespace), made)
        told = {"status": {"conditions": conditions, **status}}
        self.server.merge(POD.path(self.key.namespace, name, "status"), told)

    def rolled_out(self, *arguments: Any, **changes: Any) -> KubernetesServers:
        """Give servers on which a target is rolled out to its end."""
        servers = self.servers()
        servers.roll_out(self.target(*arguments, **changes))
        self.report()
        return servers

    def scale(self, replicas: int, manager: str = "kube-controller-manager") -> None:
        """Set the number of replicas as somebody else."""
        change = {"spec": {"replicas": replicas}}
        answer = self.server.client.patch(
            self.path(DEPLOYMENT), json=change, params={"fieldManager": manager},
            headers={"Content-Type": "application/merge-patch+json"},
        )  # fmt: skip
        assert answer.is_success, answer.text


@pytest.fixture
def bench(api_server: ApiServer) -> Bench:
    """A namespace of its own on the shared server, which may have just started and answers for all kinds by now."""
    made = Bench(api_server)
    for kind in (*ALL, POD):
        api_server.items(kind.path(made.key.namespace))
    return made


@pytest.fixture
def faults(api_server: ApiServer) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Set faults of the shared server, which is well again afterwards."""
    api_server.clear_faults()
    yield api_server.faults
    api_server.clear_faults()


def container(**fields: Any) -> dict[str, Any]:
    """Give the status of a pod's one container."""
    base = {"name": "serve", "image": STYLE.image, "imageID": "", "ready": False, "restartCount": 0}
    return {"containerStatuses": [base | fields]}


def died(code: int, message: str = "", *, restarts: int = 1, reason: str = "Error", field: str = "lastState") -> Any:
    """Give the status of a container that died."""
    return container(restartCount=restarts, **{field: {"terminated": {
        "exitCode": code, "reason": reason, "message": message,
    }}})  # fmt: skip


def told(state: ServingState | None) -> tuple[Any, ...]:
    """Give what matters most of a state."""
    assert state is not None
    return state.ready, state.version, state.file, state.failed_file


# ------------------------------------------------------------------------------------------------- what is written


def test_nothing_serves_before_it_is_asked_for(bench: Bench) -> None:
    """Looking makes nothing, and withdrawing nothing is no trouble."""
    servers = bench.servers()
    assert servers.state(bench.name) is None
    servers.withdraw(bench.name)
    assert bench.snapshot() == {}
    assert {verb for verb, _, _ in bench.asked} == {"get"}


def test_a_target_becomes_objects(bench: Bench) -> None:
    """A target is a Deployment whose one container is told what to serve, and a Service that finds it."""
    state = bench.servers().roll_out(bench.target("one", 7))
    assert (state.name, state.ready, state.asked, state.asked_version) == (bench.name, False, digest("one"), 7)
    found, service = bench.find(), bench.find(SERVICE)
    assert found["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    template = found["spec"]["template"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    environment = {entry["name"]: entry["value"] for entry in template["spec"]["containers"][0]["env"]}
    assert json.loads(environment["TRUNKLINE_SERVING_TARGET"]) == {
        "name": bench.name, "version": 7, "run": digest("run"), "weights": digest("weights"), "file": digest("one"),
    }  # fmt: skip
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert state.url == f"http://{service['metadata']['name']}.{bench.key.namespace}.svc:8000/v2/models/{bench.name}"
    assert found["metadata"]["annotations"]["trunkline.dev/shape"] == state.shape == Shape().digest


SHAPES = [
    (Shape(), {"networkpolicies", "services", "deployments"}, "one"),
    (Shape(0), {"networkpolicies", "services", "deployments"}, "none"),
    (Shape(3), {"networkpolicies", "services", "deployments", "poddisruptionbudgets"}, "three"),
    (AUTO, {kind.plural for kind in ALL}, "autoscaled"),
    (Shape(2, Placement({"cpu": "250m"}, {"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": "1"}, {"gpu": "l4"})),
     {"networkpolicies", "services", "deployments", "poddisruptionbudgets"}, "placed"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "kinds"), [pytest.param(*case[:2], id=case[2]) for case in SHAPES])
def test_every_shape_is_accepted(bench: Bench, shape: Shape, kinds: set[str]) -> None:
    """Each shape makes the objects that it needs, accepted with strict validation; asked again, nothing changes."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=shape))
    before = bench.snapshot()
    assert before.keys() == kinds
    servers.roll_out(bench.target(shape=shape))
    bench.servers().roll_out(bench.target(shape=shape))
    assert bench.snapshot() == before
    for kind in ALL:
        found = bench.find(kind)
        if found:
            (owner,) = found["metadata"]["ownerReferences"]
            assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (bench.owner.uid, True, False)  # type: ignore[union-attr]
            assert {entry["manager"] for entry in found["metadata"]["managedFields"]} == {"trunkline"}


@pytest.mark.parametrize("shape", [Shape(2), AUTO], ids=["fixed", "autoscaled"])
def test_pods_are_restricted(bench: Bench, shape: Shape) -> None:
    """Pods meet Pod Security's restricted profile, have no token, and stop after the drain."""
    bench.servers().roll_out(bench.target(shape=shape))
    pod = bench.find()["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    rules = pod.get("securityContext", {}) | only["securityContext"]
    assert (rules["runAsNonRoot"], rules["runAsUser"], rules["seccompProfile"]) == (
        True, 65532, {"type": "RuntimeDefault"},
    )  # fmt: skip
    assert (rules["allowPrivilegeEscalation"], rules["capabilities"]) == (False, {"drop": ["ALL"]})
    assert rules["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all({"emptyDir", "persistentVolumeClaim"} & volume.keys() for volume in pod.get("volumes", ()))
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    command = [*only["command"], *only.get("args", ())]
    drain = float(command[command.index("--drain-delay") + 1])
    assert pod["terminationGracePeriodSeconds"] > drain + 10
    assert {only[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/v2/health/live"}
    assert only["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert pod["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"


@pytest.mark.parametrize(
    ("limit", "threads"), [("2", "2"), ("1500m", "2"), ("100m", "1"), ("2.5", "3"), ("1e1", None), ("", None)]
)
def test_threads_follow_the_cores(bench: Bench, limit: str, threads: str | None) -> None:
    """A container that gets two cores of a large node runs two threads; without a limit the server decides."""
    limits = {"cpu": limit} if limit else {}
    bench.servers().roll_out(bench.target(shape=Shape(placement=Placement(limits=limits))))
    (only,) = bench.find()["spec"]["template"]["spec"]["containers"]
    command = [*only["command"], *only.get("args", ())]
    assert (command[command.index("--threads") + 1] if "--threads" in command else None) == threads


def test_scaling_restarts_nothing(bench: Bench) -> None:
    """Other replicas and an autoscaler leave the pod template as it is; another version does not."""
    servers = bench.servers()
    templates = []
    for shape in (Shape(1), Shape(4), AUTO, Shape(2)):
        servers.roll_out(bench.target(shape=shape))
        templates.append(bench.find()["spec"]["template"])
    assert templates == templates[:1] * 4
    servers.roll_out(bench.target("one", 2, shape=Shape(2)))
    assert bench.find()["spec"]["template"] != templates[0]


def test_what_a_shape_needs_no_more_goes(bench: Bench) -> None:
    """Budget and autoscaler go with the shape that needed them; the policy goes with the setting."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=AUTO))
    servers.roll_out(bench.target(shape=Shape(1)))
    assert bench.snapshot().keys() == {"networkpolicies", "services", "deployments"}
    bench.servers(network_policies=False).roll_out(bench.target(shape=Shape(1)))
    assert bench.snapshot().keys() == {"services", "deployments"}


def test_the_policy_lets_in_the_one_port(bench: Bench) -> None:
    """With network policies, nothing but the server's port can be reached."""
    bench.servers().roll_out(bench.target())
    spec = bench.find(NETWORK_POLICY)["spec"]
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress"], [{"ports": [{"port": 8000, "protocol": "TCP"}]}])


def test_grpc_is_spoken_where_the_settings_ask_for_it(bench: Bench) -> None:
    """The server is told to, and container, service and policy have a second port; without it nothing changes."""
    bench.servers().roll_out(bench.target())
    assert "grpc" not in json.dumps([bench.find(kind) for kind in ALL])
    bench.servers(style=replace(STYLE, grpc_port=8001)).roll_out(bench.target())
    (container,) = bench.find()["spec"]["template"]["spec"]["containers"]
    assert container["command"][container["command"].index("--grpc-port") + 1] == "8001"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {"http": 8000, "grpc": 8001}
    (port,) = [port for port in bench.find(SERVICE)["spec"]["ports"] if port["name"] == "grpc"]
    assert (port["port"], port["targetPort"], port["appProtocol"]) == (8001, 8001, "kubernetes.io/h2c")
    (ingress,) = bench.find(NETWORK_POLICY)["spec"]["ingress"]
    assert [port["port"] for port in ingress["ports"]] == [8000, 8001]


NAMES = [("shelf", "serve-shelf"), ("a" * 57, "serve-" + "a" * 57), ("a" * 58, None), ("b" + "-" * 60 + "b", None)]


@pytest.mark.parametrize(("model", "name"), NAMES, ids=["short", "just fits", "cut", "cut at hyphens"])
def test_names_fit(model: str, name: str | None) -> None:
    """Names of Services are DNS labels of at most 63 characters, each model's its own."""
    made = service_name(model)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", made)
    assert made == (name or made)
    assert made != service_name(model + "x")


# ------------------------------------------------------------------------------------------------- autoscaling


def test_the_autoscaler_owns_the_replicas(bench: Bench) -> None:
    """What an autoscaler set is not fought, neither at a new version nor at a change of its bounds."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=AUTO))
    assert "replicas" not in bench.find()["spec"]
    bench.scale(4)
    for target in (bench.target(shape=AUTO), bench.target("two", 2, AUTO)):
        state = servers.roll_out(target)
        assert (bench.find()["spec"]["replicas"], state.replicas) == (4, (0, 4))


@pytest.mark.parametrize(("before", "after"), [(3, 3), (1, 2), (9, 5), (0, 2)], ids=["kept", "low", "high", "asleep"])
def test_a_new_autoscaler_finds_what_serves(bench: Bench, before: int, after: int) -> None:
    """Handing the number over never drops it to one: it stays, within the bounds, until the autoscaler sets its own."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=Shape(before)))
    servers.roll_out(bench.target(shape=AUTO))
    assert bench.find()["spec"]["replicas"] == after
    version = bench.snapshot()
    servers.roll_out(bench.target(shape=AUTO))
    assert bench.snapshot() == version
    bench.scale(5 if after != 5 else 3)
    servers.roll_out(bench.target(shape=AUTO))
    assert bench.find()["spec"]["replicas"] == (5 if after != 5 else 3)


def test_an_autoscaler_is_taken_away(bench: Bench) -> None:
    """Back to a fixed number: the autoscaler goes, and the number is set over the one it had."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=AUTO))
    bench.scale(4)
    servers.roll_out(bench.target(shape=Shape(3)))
    assert (bench.find(AUTOSCALER), bench.find()["spec"]["replicas"]) == (None, 3)


# ------------------------------------------------------------------------------------------------- what is told


def test_complete_from_the_deployment_alone(bench: Bench) -> None:
    """A finished rollout is told from the Deployment: with the operator's trimmed copies, no request at all."""
    bench.rolled_out("one", 3, shape=Shape(2))
    informer = Informer(lambda: 0.0)
    informer.saw(DEPLOYMENT, None, bench.find())
    bench.asked.clear()
    state = bench.servers(deployments=partial(informer.child, DEPLOYMENT)).state(bench.name)
    assert bench.asked == []
    assert state == ServingState(
        bench.name, True, 3, digest("one"), f"http://serve-shelf.{bench.key.namespace}.svc:8000/v2/models/{bench.name}",
        asked=digest("one"), asked_version=3, shape=Shape(2).digest, replicas=(2, 2),
        options=ServerOptions().digest, build="",
    )  # fmt: skip


ROLLOUTS: list[tuple[str, dict[str, Any], list[tuple[str, int, bool]], tuple[bool, int | None], tuple[int, int]]] = [
    ("controller has not looked yet", {"observedGeneration": 0}, [("one", 1, True)], (True, 1), (1, 3)),
    ("no status at all", {"observedGeneration": 0, "replicas": 0, "updatedReplicas": 0}, [], (False, None), (0, 3)),
    ("new ones start", {"replicas": 4, "updatedReplicas": 1},
     [("one", 1, True), ("one", 1, True), ("one", 1, True), ("two", 2, False)], (True, 1), (3, 3)),
    ("some are new", {"replicas": 4, "updatedReplicas": 2}, [("one", 1, True), ("two", 2, True), ("two", 2, True)],
     (True, 1), (3, 3)),
    ("the last old one ends", {"replicas": 4, "updatedReplicas": 3},
     [("two", 2, True), ("two", 2, True), ("two", 2, True), ("one", 1, False)], (True, 2), (3, 3)),
    ("all new, none ready", {"availableReplicas": 0}, [("two", 2, False)], (False, None), (0, 3)),
    ("all new, one ready", {"availableReplicas": 1}, [], (True, 2), (1, 3)),
    ("all new, all ready", {}, [], (True, 2), (3, 3)),
    ("two old ones, more of one", {"replicas": 5}, [("zero", 0, True), ("one", 1, True), ("one", 1, True)], (True, 1),
     (3, 3)),
    ("pods of nobody", {"replicas": 4}, [("", 0, True)], (True, 0), (1, 3)),
    ("too few pods yet", {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
     [("two", 2, True), ("two", 2, True)], (True, 2), (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "pods", "answer", "replicas"), [pytest.param(*row[1:], id=row[0]) for row in ROLLOUTS]
)
def test_what_answers(
    bench: Bench, status: dict[str, Any], pods: list[tuple[str, int, bool]],
    answer: tuple[bool, int | None], replicas: tuple[int, int],
) -> None:  # fmt: skip
    """At every point of a rollout from v1 to v2 it is told what answers, and an old one as long as any answers."""
    servers = bench.servers()
    servers.roll_out(bench.target("two", 2, Shape(3)))
    bench.report(**status)
    for word, version, ready in pods:
        bench.pod(word, version, ready=ready)
    state = servers.state(bench.name)
    assert state is not None
    assert (state.ready, state.version) == answer
    assert (state.replicas, state.asked, state.failed_file, state.failure) == (replicas, digest("two"), None, "")


def test_a_pod_that_goes_does_not_answer(bench: Bench) -> None:
    """A pod that is being deleted counts no more, ready or not."""
    servers = bench.servers()
    servers.roll_out(bench.target())
    bench.pod(ready=True)
    bench.server.merge(POD.path(bench.key.namespace, "pod-0"), {"metadata": {"finalizers": ["test/hold"]}})
    assert told(servers.state(bench.name))[0] is True
    bench.server.delete(POD.path(bench.key.namespace, "pod-0"))
    assert told(servers.state(bench.name)) == (False, None, None, None)
    bench.server.merge(POD.path(bench.key.namespace, "pod-0"), {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("shape", [Shape(3), AUTO], ids=["fixed", "autoscaled"])
def test_scaled_to_zero(bench: Bench, shape: Shape) -> None:
    """Zero replicas are as desired where the release says so; set by anybody else, they are undone."""
    servers = bench.rolled_out(shape=Shape(0))
    state = servers.state(bench.name)
    assert (told(state), state.replicas if state else None) == ((True, 1, digest("one"), None), (0, 0))
    servers.roll_out(bench.target(shape=shape))
    bench.scale(0, "kubectl")
    bench.report()
    state = servers.state(bench.name)
    assert state is not None
    assert (state.ready, state.shape, state.failure) == (False, "", "somebody set it to 0 replicas")
    servers.roll_out(bench.target(shape=shape))
    assert bench.find()["spec"]["replicas"] == (2 if shape.autoscaling else 3)


def test_another_image_is_rolled_out(bench: Bench) -> None:
    """After a change of the settings that all servers share, the shape counts as bent, so that it is asked for anew."""
    bench.rolled_out()
    newer = bench.servers(style=replace(STYLE, image="registry.example.com/trunkline-serve:2"))
    state = newer.state(bench.name)
    assert state is not None
    assert (state.ready, state.shape) == (True, "")
    newer.roll_out(bench.target())
    bench.report()
    again = newer.state(bench.name)
    assert again is not None
    assert again.shape == Shape().digest


# ------------------------------------------------------------------------------------------------- verdicts

AGAIN = "its server died again and again before it was ready: "
OURS = "INFO loading\ntrunkline: SelfTestFailed: self-test 1 of 3 differs\n"
PULL = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}
CONFIG = {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}}
PENDING = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                           "message": "0/3 nodes are available: 3 Insufficient memory."}]}  # fmt: skip
QUOTA = {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                         "message": "pods is forbidden: exceeded quota"}]}  # fmt: skip
LATE = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
DONE = {"conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]}
EVICTED = {"phase": "Failed", "reason": "Evicted", **died(137, restarts=0, field="state")}

VERDICTS: list[tuple[str, dict[str, Any], dict[str, Any] | None, bool, str]] = [
    ("can never load", {}, died(10, OURS), True, "SelfTestFailed: self-test 1 of 3 differs"),
    ("just said so", {}, died(10, OURS, restarts=0, field="state"), True, "SelfTestFailed: self-test 1 of 3 differs"),
    ("without a word", {}, died(10), True, "the server says that this file can never be served"),
    ("after all was well once", DONE, died(10, OURS), True, "SelfTestFailed: self-test 1 of 3 differs"),
    ("out of memory, thrice", {}, died(137, reason="OOMKilled", restarts=3), True,
     f"{AGAIN}it needs more memory than spec.serving.resources.limits allows (OOMKilled)"),
    ("died thrice", {}, died(139, "Segmentation fault", restarts=3), True,
     f"{AGAIN}exit code 139, Segmentation fault"),
    ("died twice", {}, died(139, restarts=2), False, "its server died and is started again: exit code 139"),
    ("died often after it was ready once", DONE, died(1, restarts=40), False,
     "its server died and is started again: exit code 1"),
    ("evicted", {}, EVICTED, False, "its server died and is started again: exit code 137"),
    ("no image", {}, container(**PULL), False, f"its image {STYLE.image} cannot be pulled"),
    ("no secret", {}, container(**CONFIG), False, 'its container cannot be made: secret "x" not found'),
    ("no room", {}, PENDING, False, "no node takes its pod: 0/3 nodes are available: 3 Insufficient memory."),
    ("no quota", QUOTA, None, False, "its pods cannot be made: pods is forbidden: exceeded quota"),
    ("too slow", LATE, {}, False, "it is not ready although there was time enough; look at the logs of its pods"),
    ("still loading", {}, {}, False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("status", "pod", "final", "words"), [pytest.param(*row[1:], id=row[0]) for row in VERDICTS])
def test_verdicts(bench: Bench, status: dict[str, Any], pod: dict[str, Any] | None, *, final: bool, words: str) -> None:
    """What can never work is told from what may pass; v1 answers meanwhile."""
    servers = bench.servers()
    servers.roll_out(bench.target("two", 2))
    bench.report(replicas=2, availableReplicas=1, **status)
    bench.pod("one", 1, ready=True)
    if pod is not None:
        bench.pod("two", 2, **pod)
    state = servers.state(bench.name)
    assert told(state) == (True, 1, digest("one"), digest("two") if final else None)
    assert state is not None
    assert state.failure == words


OTHERS = [("one", 2, "another file"), ("two", 1, "another version")]


@pytest.mark.parametrize(("word", "version"), [row[:2] for row in OTHERS], ids=[row[2] for row in OTHERS])
def test_a_death_of_another_release_is_no_verdict(bench: Bench, word: str, version: int) -> None:
    """Only pods of exactly what is asked for speak against it."""
    servers = bench.servers()
    servers.roll_out(bench.target("two", 2))
    bench.pod(word, version, **died(10, OURS))
    state = servers.state(bench.name)
    assert (told(state), state.failure if state else None) == ((False, None, None, None), "")


def test_words_are_short_and_plain(bench: Bench) -> None:
    """What a dead server said goes into status: no escapes, no passwords, no novels."""
    servers = bench.servers()
    servers.roll_out(bench.target())
    bench.pod(**died(10, "trunkline: LoadFailed: \x1b[31mred\x1b[0m s3://key:secret@host " + "x" * 1500))
    state = servers.state(bench.name)
    assert state is not None
    assert state.failure.startswith("LoadFailed: red s3://***@host xxx")
    assert len(state.failure) <= 400


# ------------------------------------------------------------------------------------------------- falling back


def fail_v2(bench: Bench) -> KubernetesServers:
    """Give servers that were asked for v2, which can never load, while v1 answers."""
    servers = bench.rolled_out("one", 1)
    servers.roll_out(bench.target("two", 2))
    bench.report(replicas=2, updatedReplicas=1, availableReplicas=1)
    bench.pod("one", 1, ready=True)
    bench.pod("two", 2, **died(10, OURS))
    assert told(servers.state(bench.name)) == (True, 1, digest("one"), digest("two"))
    return servers


def test_a_fallback_remembers_why(bench: Bench) -> None:
    """Falling back and remembering are one write: what failed is known after its pods are gone, and all is quiet."""
    servers = fail_v2(bench)
    servers.roll_out(bench.target("one", 1))
    bench.server.delete(POD.path(bench.key.namespace, "pod-1"))
    bench.report()
    state = bench.servers().state(bench.name)
    assert told(state) == (True, 1, digest("one"), digest("two"))
    assert state is not None
    assert (state.failure, state.asked) == ("SelfTestFailed: self-test 1 of 3 differs", digest("one"))
    before = bench.snapshot()
    for shape in (Shape(), Shape()):
        assert told(servers.roll_out(bench.target("one", 1, shape)))[3] == digest("two")
    assert bench.snapshot() == before
    assert told(servers.roll_out(bench.target("one", 1, Shape(3))))[3] == digest("two")


def test_a_person_may_have_it_tried_again(bench: Bench) -> None:
    """With the two annotations taken off by hand, what failed is asked for as if it never had been."""
    servers = fail_v2(bench)
    servers.roll_out(bench.target("one", 1))
    bench.report()
    notes = dict.fromkeys(("trunkline.dev/failed-file", "trunkline.dev/failure"))
    bench.server.merge(bench.path(DEPLOYMENT), {"metadata": {"annotations": notes}})
    assert told(servers.state(bench.name)) == (True, 1, digest("one"), None)
    servers.roll_out(bench.target("one", 1, Shape(2)))
    assert told(servers.state(bench.name))[3] is None


def test_a_fallback_brings_the_old_pods_back(bench: Bench) -> None:
    """The fallback asks for the very template that v1 had, so that its pods go on instead of being made anew."""
    servers = bench.rolled_out("one", 1)
    template = bench.find()["spec"]["template"]
    servers.roll_out(bench.target("two", 2))
    bench.pod("two", 2, **died(10, OURS))
    servers.roll_out(bench.target("one", 1))
    assert bench.find()["spec"]["template"] == template


@pytest.mark.parametrize(("word", "version"), [("one", 3), ("three", 3)], ids=["rolled back by merge", "mended"])
def test_a_newer_release_forgets(bench: Bench, word: str, version: int) -> None:
    """A newer version is another question: what failed before it is forgotten."""
    servers = fail_v2(bench)
    servers.roll_out(bench.target("one", 1))
    assert told(servers.roll_out(bench.target(word, version)))[3] is None
    assert not {"trunkline.dev/failed-file", "trunkline.dev/failure"} & bench.find()["metadata"]["annotations"].keys()
    assert told(servers.state(bench.name)) == (True, 1, digest("one"), None)


def test_a_newer_release_right_after_a_failure(bench: Bench) -> None:
    """A release that is merged while the failed one is still asked for does not remember it either."""
    servers = fail_v2(bench)
    assert told(servers.roll_out(bench.target("three", 3))) == (True, 1, digest("one"), None)
    assert "trunkline.dev/failed-file" not in bench.find()["metadata"]["annotations"]


def test_a_failed_fallback_is_told_before_the_remembered_one(bench: Bench) -> None:
    """Where the previous release fails too, it is the one that is told."""
    servers = fail_v2(bench)
    servers.roll_out(bench.target("one", 1))
    bench.server.delete(POD.path(bench.key.namespace, "pod-0"))
    bench.pod("one", 1, **died(10, "trunkline: LoadFailed: no"))
    state = servers.state(bench.name)
    assert told(state) == (False, None, None, digest("one"))
    assert state is not None
    assert state.failure == "LoadFailed: no"


def test_an_older_release_without_a_failure_remembers_none(bench: Bench) -> None:
    """A person who reverts a release that was well leaves no trace of a failure."""
    servers = bench.rolled_out("two", 2)
    assert told(servers.roll_out(bench.target("one", 1)))[3] is None


LIVE = Rejected(digest("two"), "error rate 0.3 against 0.01")


def test_what_was_rejected_is_remembered_with_the_fall_back(bench: Bench) -> None:
    """Giving up what serves and asking for the one before it are one write; every operator knows of it from then on."""
    bench.rolled_out("one", 1)
    servers = bench.rolled_out("two", 2)
    bench.asked.clear()
    servers.roll_out(bench.target("one", 1), LIVE)
    assert [asked[:2] for asked in bench.asked].count(("patch", "deployments")) == 1
    bench.report()
    state = bench.servers().state(bench.name)
    assert state is not None
    assert (state.version, state.rejected, state.failed_file) == (1, LIVE, None)
    before = bench.snapshot()
    assert servers.roll_out(bench.target("one", 1)).rejected == LIVE
    assert bench.snapshot() == before
    assert servers.roll_out(bench.target("one", 1, Shape(3))).rejected == LIVE


@pytest.mark.parametrize(("word", "version"), [("one", 3), ("three", 3)], ids=["rolled back by merge", "another one"])
def test_the_next_release_forgets_what_was_rejected(bench: Bench, word: str, version: int) -> None:
    """What live traffic said holds for what was asked for then; the next release begins afresh."""
    bench.rolled_out("one", 1)
    servers = bench.rolled_out("two", 2)
    servers.roll_out(bench.target("one", 1), LIVE)
    assert servers.roll_out(bench.target(word, version)).rejected is None
    assert not [name for name in bench.find()["metadata"]["annotations"] if "reject" in name]


def test_options_reach_the_server_by_its_target(bench: Bench) -> None:
    """What a server shall keep is told to new pods, and the Deployment says so; standing by restarts none."""
    servers = bench.rolled_out()
    plain = bench.find()["spec"]["template"]
    assert "options" not in json.loads(target_told(bench))
    stands_by = ServerOptions(standby=600)
    state = servers.roll_out(replace(bench.target(), options=stands_by))
    assert (state.options, bench.find()["spec"]["template"]) == (stands_by.digest, plain)
    keeps = ServerOptions(standby=600, labelling=Labelling(random_percent=10.0))
    assert servers.roll_out(replace(bench.target(), options=keeps)).options == keeps.digest
    assert json.loads(target_told(bench))["options"]["labelling"] == {"randomPercent": 10}
    assert servers.roll_out(bench.target()).options == ServerOptions().digest
    assert bench.find()["spec"]["template"] == plain


def test_what_is_made_on_the_device_is_noted(bench: Bench) -> None:
    """The Deployment says what its servers make of the file, so that asking for another format is another rollout."""
    servers = bench.rolled_out()
    before = servers.state(bench.name)
    assert before is not None
    assert before.build == ""
    assert servers.roll_out(replace(bench.target(), build="engine:fp16")).build == "engine:fp16"
    assert json.loads(target_told(bench))["build"] == "engine:fp16"
    assert servers.roll_out(bench.target()).build == ""
    assert "build" not in json.loads(target_told(bench))


def target_told(bench: Bench) -> str:
    """Give what the pods are told to serve."""
    (container,) = bench.find()["spec"]["template"]["spec"]["containers"]
    (text,) = (str(each["value"]) for each in container["env"] if each["name"] == "TRUNKLINE_SERVING_TARGET")
    return text


# ------------------------------------------------------------------------------------------------- what is not ours


def foreign(bench: Bench, kind: Kind) -> None:
    """Make an object of somebody else under the name that we need."""
    selector = {"app": "theirs"}
    pods = {"metadata": {"labels": selector}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    specs: dict[str, Any] = {
        "services": {"selector": selector, "ports": [{"port": 80}]},
        "networkpolicies": {"podSelector": {"matchLabels": selector}},
        "poddisruptionbudgets": {"selector": {"matchLabels": selector}, "minAvailable": 1},
        "horizontalpodautoscalers": {
            "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "theirs", "apiVersion": "apps/v1"}
        },
        "deployments": {"selector": {"matchLabels": selector}, "template": pods},
    }  # fmt: skip
    made = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "serve-shelf"}}
    bench.server.create(kind.path(bench.key.namespace), {**made, "spec": specs[kind.plural]})


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: str(kind.plural))
def test_objects_of_others_are_never_touched(bench: Bench, kind: Kind) -> None:
    """An object of somebody else under our name is a conflict for a person, and stays as it is, whatever we do."""
    foreign(bench, kind)
    before = bench.find(kind)
    servers = bench.servers()
    assert servers.state(bench.name) is None
    for _ in range(2):
        with pytest.raises(Stalled, match="serve-shelf") as trouble:
            servers.roll_out(bench.target(shape=AUTO))
        assert trouble.value.reason == "Conflict"
    servers.withdraw(bench.name)
    assert bench.find(kind) == before
    assert bench.snapshot() == {kind.plural: before["metadata"]["resourceVersion"]}


@pytest.mark.parametrize("kind", [DISRUPTION_BUDGET, AUTOSCALER], ids=["budget", "autoscaler"])
def test_what_we_do_not_need_may_be_theirs(bench: Bench, kind: Kind) -> None:
    """Somebody's own budget or autoscaler is no conflict where we would make none."""
    foreign(bench, kind)
    before = bench.find(kind)
    bench.servers().roll_out(bench.target())
    assert bench.find(kind) == before
    assert bench.find() is not None


def test_an_earlier_model_of_the_same_name(bench: Bench) -> None:
    """What belongs to a ModelSpec that was deleted and made again is waited out: the cluster deletes it."""
    bench.rolled_out()
    bench.owner = Owner(bench.key, "00000000-0000-4000-8000-000000000002")
    servers = bench.servers()
    assert servers.state(bench.name) is None
    with pytest.raises(Transient, match="serve-shelf"):
        servers.roll_out(bench.target())


def test_orphans_are_adopted(bench: Bench) -> None:
    """Objects that lost their owner (a deletion with --cascade=orphan) go on serving and get the new owner."""
    bench.rolled_out()
    for kind in (SERVICE, NETWORK_POLICY, DEPLOYMENT):
        bench.server.merge(bench.path(kind), {"metadata": {"ownerReferences": None}})
    bench.owner = Owner(bench.key, "00000000-0000-4000-8000-000000000002")
    servers = bench.servers()
    assert told(servers.state(bench.name))[0] is True
    servers.roll_out(bench.target())
    (owner,) = bench.find()["metadata"]["ownerReferences"]
    assert owner["uid"] == bench.owner.uid


def test_without_a_model_nothing_is_made(bench: Bench) -> None:
    """A ModelSpec that went away meanwhile gets no children; what it has can be withdrawn and is listed."""
    bench.rolled_out()
    before, bench.owner = bench.snapshot(), None
    servers = bench.servers()
    with pytest.raises(Transient, match="no ModelSpec") as trouble:
        servers.roll_out(bench.target("two", 2))
    assert trouble.value.reason == "ModelGone"
    assert bench.snapshot() == before
    assert bench.name in servers.names()
    servers.withdraw(bench.name)
    assert bench.snapshot() == {}


def test_hands_off_what_others_added(bench: Bench) -> None:
    """Annotations and labels that others put on our objects stay."""
    servers = bench.rolled_out()
    bench.server.merge(bench.path(SERVICE), {"metadata": {"annotations": {"cloud.example.com/lb": "internal"}}})
    servers.roll_out(bench.target("two", 2))
    assert bench.find(SERVICE)["metadata"]["annotations"]["cloud.example.com/lb"] == "internal"


def test_what_others_bent_is_put_straight(bench: Bench) -> None:
    """Fields that are ours are set again over what somebody else made of them."""
    servers = bench.rolled_out()
    answer = bench.server.apply(bench.path(SERVICE), {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "serve-shelf"},
        "spec": {"selector": {"app.kubernetes.io/component": "theirs"}},
    })  # fmt: skip
    assert answer.is_success, answer.text
    servers.roll_out(bench.target())
    assert bench.find(SERVICE)["spec"]["selector"] == bench.find()["spec"]["selector"]["matchLabels"]


# ------------------------------------------------------------------------------------------------- withdrawal


def test_withdrawn_is_gone(bench: Bench) -> None:
    """Withdrawing takes everything away and may be repeated; another model of the namespace stays."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=AUTO))
    other = Owner(ModelKey(bench.key.namespace, "door"), bench.owner.uid)  # type: ignore[union-attr]
    theirs = bench.servers(owners=lambda key: other)
    theirs.roll_out(replace(bench.target(), name=serving_name(*other.key)))
    names = {bench.name, serving_name(*other.key)}
    assert names <= set(servers.names())
    for _ in range(2):
        servers.withdraw(bench.name)
        assert bench.snapshot() == {}
    assert names & set(servers.names()) == {serving_name(*other.key)}
    assert bench.server.find(bench.path(SERVICE, "serve-door")) is not None


def test_names_are_those_of_clients(bench: Bench) -> None:
    """Names are as at the server: with the namespace before them, unless it is ``default``."""
    here = Owner(ModelKey("default", "names-test"), "00000000-0000-4000-8000-000000000003")
    servers = bench.servers(owners=lambda key: here)
    servers.roll_out(replace(bench.target(), name="names-test"))
    bench.rolled_out()
    names = servers.names()
    assert {"names-test", bench.name} <= set(names)
    assert sorted(set(names)) == list(names)
    servers.withdraw("names-test")
    assert "names-test" not in servers.names()


# ------------------------------------------------------------------------------------------------- faults


class Killed(BaseException):
    """Stands for the end of the process."""


def dying(bench: Bench, number: int, when: str) -> KubernetesApi:
    """Give an API whose user dies just before or just after its request of that number that changes something."""
    seen = itertools.count(1)

    class Dying(KubernetesApi):
        def apply(self, kind: Kind, manifest: Object, *, force: bool = False, status: bool = False) -> Object:
            return dict(bad(lambda: KubernetesApi.apply(self, kind, manifest, force=force, status=status)))

        def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
            bad(lambda: KubernetesApi.delete(self, kind, namespace, name, uid=uid))

    def bad(effect: Callable[[], Any]) -> Any:
        mine = next(seen) == number
        if mine and when == "before":
            raise Killed
        result = effect()
        if mine:
            raise Killed
        return result

    return bench.connect(Dying)


def kill(bench: Bench, act: Callable[[KubernetesServers], object], number: int, when: str) -> bool:
    """Do something until it is killed at an effect; False where it had no such effect."""
    owners: Callable[[ModelKey], Owner | None] = lambda key: bench.owner  # noqa: E731
    try:
        act(KubernetesServers(dying(bench, number, when), owners, STYLE, network_policies=True))
    except Killed:
        return True
    return False


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
def test_killed_in_a_first_rollout(bench: Bench, number: int, when: str) -> None:
    """Killed at any effect, a rollout is either asked for again or was complete; repeated, it ends as undisturbed."""
    target = bench.target(shape=AUTO)
    assert kill(bench, lambda servers: servers.roll_out(target), number, when)
    complete = bench.snapshot().keys() == {kind.plural for kind in ALL}
    assert (bench.servers().state(bench.name) is not None) == complete
    bench.servers().roll_out(target)
    assert bench.snapshot().keys() == {kind.plural for kind in ALL}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
def test_killed_in_a_change_of_shape(bench: Bench, number: int, when: str) -> None:
    """As long as the Deployment does not ask for the new shape, the change is asked for again; nothing stays behind."""
    servers = bench.rolled_out(shape=AUTO)
    assert kill(bench, lambda servers: servers.roll_out(bench.target(shape=Shape(1))), number, when)
    state = servers.state(bench.name)
    assert state is not None
    if state.shape != Shape(1).digest:
        servers.roll_out(bench.target(shape=Shape(1)))
    assert bench.snapshot().keys() == {"networkpolicies", "services", "deployments"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
def test_killed_in_a_withdrawal(bench: Bench, number: int, when: str) -> None:
    """As long as anything is left, the model is known to serve, so that it is withdrawn again."""
    servers = bench.servers()
    servers.roll_out(bench.target(shape=AUTO))
    assert kill(bench, lambda servers: servers.withdraw(bench.name), number, when)
    left = bench.snapshot()
    assert (servers.state(bench.name) is not None) == (bench.name in servers.names()) == bool(left)
    servers.withdraw(bench.name)
    assert bench.snapshot() == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 4))
def test_killed_in_a_fallback(bench: Bench, number: int, when: str) -> None:
    """A fallback that was cut off is either not done, and the failure is still to be seen, or done and remembered."""
    servers = fail_v2(bench)
    assert kill(bench, lambda servers: servers.roll_out(bench.target("one", 1)), number, when)
    state = servers.state(bench.name)
    assert state is not None
    assert (state.failed_file, state.asked in {digest("one"), digest("two")}) == (digest("two"), True)
    servers.roll_out(bench.target("one", 1))
    assert told(servers.state(bench.name)) == (True, 1, digest("one"), digest("two"))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 4))
def test_killed_while_a_release_is_rejected(bench: Bench, number: int, when: str) -> None:
    """Cut off, a release that live traffic rejected is either still asked for, or its verdict is remembered."""
    bench.rolled_out("one", 1)
    bench.rolled_out("two", 2)
    assert kill(bench, lambda servers: servers.roll_out(bench.target("one", 1), LIVE), number, when)
    state = bench.servers().state(bench.name)
    assert state is not None
    assert (state.asked, state.rejected) in {(digest("two"), None), (digest("one"), LIVE)}
    assert bench.servers().roll_out(bench.target("one", 1), LIVE).rejected == LIVE


FAULTS: list[dict[str, Any]] = [
    {"status": 409}, {"status": 429}, {"status": 500}, {"status": 503}, {"drop": True}, {"drop": True, "after": True},
    {"status": 500, "after": True},
]  # fmt: skip


def _fault_name(fault: dict[str, Any]) -> str:
    return f"{fault.get('status', 'cut')}{' after' if fault.get('after') else ''}"


@pytest.mark.parametrize("plural", [kind.plural for kind in ALL])
@pytest.mark.parametrize("fault", FAULTS, ids=_fault_name)
def test_faults_of_the_server(
    bench: Bench, faults: Callable[[list[dict[str, Any]]], None], fault: dict[str, Any], plural: str
) -> None:
    """Whatever a write meets is trouble that may pass, also where only the answer was lost; asked again, it is done."""
    servers = bench.servers()
    path = f"/namespaces/{bench.key.namespace}/{plural}/"
    faults([{"method": "PATCH", "path": path, "count": 1, **fault}])
    with pytest.raises(Transient):
        servers.roll_out(bench.target(shape=AUTO))
    servers.roll_out(bench.target(shape=AUTO))
    before = bench.snapshot()
    assert before.keys() == {kind.plural for kind in ALL}
    servers.roll_out(bench.target(shape=AUTO))
    assert bench.snapshot() == before
    faults([{"method": "DELETE", "path": path, "count": 1, **fault}])
    # A conflict at a deletion means that the object was another one by then: nothing of ours to delete.
    try:
        servers.withdraw(bench.name)
    except Transient:
        assert fault != {"status": 409}
    servers.withdraw(bench.name)
    assert bench.snapshot() == {}


def test_two_at_once(bench: Bench) -> None:
    """Operators that ask for the same at the same moment end as one would, and none overwrites anything of others."""
    before: list[BaseException] = []

    def ask() -> None:
        try:
            for target in (bench.target(shape=AUTO), bench.target("two", 2, Shape(2))):
                bench.servers().roll_out(target)
        except Transient:
            pass
        except Stalled as error:
            before.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == []
    state = bench.servers().roll_out(bench.target("two", 2, Shape(2)))
    assert (state.asked, bench.find()["spec"]["replicas"]) == (digest("two"), 2)
    assert bench.snapshot().keys() == {"networkpolicies", "services", "deployments", "poddisruptionbudgets"}


def test_a_deployment_that_was_made_anew_meanwhile(bench: Bench) -> None:
    """What is written is written to the very object that was looked at, never to another that took its name."""
    bench.rolled_out()

    class Late(KubernetesApi):
        def apply(self, kind: Kind, manifest: Object, *, force: bool = False, status: bool = False) -> Object:
            if kind is DEPLOYMENT:
                bench.server.delete(bench.path(DEPLOYMENT))
                foreign(bench, DEPLOYMENT)
            return KubernetesApi.apply(self, kind, manifest, force=force, status=status)

    owners: Callable[[ModelKey], Owner | None] = lambda key: bench.owner  # noqa: E731
    servers = KubernetesServers(bench.connect(Late), owners, STYLE, network_policies=True)
    with pytest.raises((Transient, Stalled)):
        servers.roll_out(bench.target("two", 2))
    assert bench.find()["spec"]["selector"] == {"matchLabels": {"app": "theirs"}}
    assert "trunkline.dev/file" not in bench.find()["metadata"].get("annotations", {})
