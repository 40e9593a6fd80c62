"""The process kubelet behaves as clusters do, as far as Jobs, Deployments, pods and owners show it."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.apiserver import OwnServer
from tests.support.kubelet import Kubelet
from tests.support.living import until

pytestmark = pytest.mark.xdist_group("kubelet")
Object = dict[str, Any]
SERVER = """
import http.server, os, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path != "/ready" or os.path.exists(os.environ["READY"])
        text = os.environ["TEXT"].encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[4])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
open(sys.argv[6] + "/here", "w").close()
server.serve_forever()
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(99)"


class Room:
    """A namespace of one test's own, in a cluster that all tests here share."""

    def __init__(self, server: OwnServer, kubelet: Kubelet, folder: Path) -> None:
        self.server, self.kubelet, self.folder = server, kubelet, folder
        self.name = f"room-{uuid.uuid4().hex[:8]}"

    def path(self, plural: str, name: str = "") -> str:
        root = {"jobs": "/apis/batch/v1", "deployments": "/apis/apps/v1"}.get(plural, "/api/v1")
        return f"{root}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def job(self, program: str, *, container: Object | None = None, pod: Object | None = None, **spec: Any) -> None:
        """Create the Job ``work`` that runs a Python program."""
        main = {"name": "main", "image": "trainer:1", "command": [sys.executable, "-c", program],
                "terminationMessagePolicy": "FallbackToLogsOnError", **(container or {})}  # fmt: skip
        template = {"metadata": {"labels": {"team": "retail"}},
                    "spec": {"restartPolicy": "Never", "containers": [main], **(pod or {})}}  # fmt: skip
        manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"},
                    "spec": {"backoffLimit": 0, "template": template, **spec}}  # fmt: skip
        self.server.create(self.path("jobs"), manifest)

    def gated_job(self, **spec: Any) -> Path:
        """Create the Job ``work`` that ends once the file that this gives is there."""
        gate = self.folder / "gate"
        self.job(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)", **spec)
        return gate

    def deployment(self, text: str = "one", *, replicas: int = 1, program: str = SERVER, **container: Any) -> None:
        """Apply the Deployment ``web``, whose pods say ``text`` and are ready while the file ``text`` is there."""
        mount = "/var/lib/web"
        main = {
            "name": "main", "image": "server:1", "command": [sys.executable, "-c", program],
            "args": ["--host", "0.0.0.0", "--port", "8000", "--state", mount],
            "env": [{"name": "TEXT", "value": text}, {"name": "READY", "value": str(self.folder / text)}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1, "failureThreshold": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},  # so that no connection is on its way to it any more
            "volumeMounts": [{"name": "state", "mountPath": mount}],
            "terminationMessagePolicy": "FallbackToLogsOnError", **container,
        }  # fmt: skip
        spec = {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {"app": "web"}},
                         "spec": {"containers": [main], "volumes": [{"name": "state", "emptyDir": {}}]}},
        }  # fmt: skip
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
        answer = self.server.apply(self.path("deployments", "web"), manifest)
        assert answer.is_success, answer.text

    def service(self) -> str:
        """Create the Service ``web``; give its address."""
        spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
        self.server.create(self.path("services"), {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})  # fmt: skip
        return self.kubelet.url(self.name, "web")

    def ready(self, text: str) -> None:
        """Let the pods that say ``text`` be ready."""
        (self.folder / text).touch()

    def status(self, plural: str = "jobs", name: str = "work") -> Object:
        found = self.server.find(self.path(plural, name)) or {}
        return dict(found.get("status", {}))

    def conditions(self, plural: str = "jobs", name: str = "work") -> dict[str, tuple[str, str, str]]:
        """Give status, reason and message of each condition."""
        found = self.status(plural, name).get("conditions", ())
        return {c["type"]: (c["status"], c.get("reason", ""), c.get("message", "")) for c in found}

    def ended(self, condition: str) -> tuple[str, str]:
        """Wait until the Job ended that way; give reason and message."""
        until(lambda: condition in self.conditions())
        return self.conditions()[condition][1:]

    def rolled_out(self, text: str) -> None:
        """Wait until the Deployment's status says that it is whole, and pods of that text answer."""

        def whole() -> bool:
            deployment = self.server.get(self.path("deployments", "web"))
            conditions = deployment.get("status", {}).get("conditions", ())
            seen = deployment.get("status", {}).get("observedGeneration") == deployment["metadata"]["generation"]
            return seen and any(c["reason"] == "NewReplicaSetAvailable" for c in conditions) and self.texts() == {text}

        until(whole)

    def texts(self) -> set[str]:
        """Give what the running pods say, by the templates that they were made from."""
        pods = self.server.items(self.path("pods"), {"app": "web"})
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {pod["spec"]["containers"][0]["env"][0]["value"] for pod in staying}

    def pods(self) -> list[Object]:
        """Give all pods."""
        return self.server.items(self.path("pods"))

    def container(self) -> Object:
        """Give the container status of the only pod; empty where it has none yet."""
        (pod,) = self.pods() or [{}]
        (status,) = pod.get("status", {}).get("containerStatuses", ()) or [{}]
        return dict(status)

    def waits(self) -> str:
        """Give the reason that the only pod's container waits for."""
        return str(self.container().get("state", {}).get("waiting", {}).get("reason", ""))

    def runs(self) -> bool:
        return bool(self.kubelet.pods(self.name))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server that only these tests use: a kubelet runs whatever it finds."""
    with OwnServer(tmp_path_factory.mktemp("kubelet-api")) as server:
        yield server


@pytest.fixture(scope="module")
def kubelet(server: OwnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """The kubelet of these tests; probes and preStop pauses lose patience ten times sooner."""
    environment = {"PATH": os.environ["PATH"]}
    with Kubelet(server, tmp_path_factory.mktemp("pods"), environment=environment, hurry=10) as kubelet:
        yield kubelet


@pytest.fixture
def room(server: OwnServer, kubelet: Kubelet, tmp_path: Path) -> Iterator[Room]:
    """An empty namespace; what is left in it is deleted, and its processes end."""
    room = Room(server, kubelet, tmp_path)
    yield room
    for plural in ("jobs", "deployments"):
        for obj in server.items(room.path(plural)):
            server.delete(room.path(plural, obj["metadata"]["name"]))
    until(lambda: not room.runs())
    assert not kubelet.crashes


def test_a_job_runs_once_and_is_complete(room: Room) -> None:
    """A Job makes one pod with its labels and owner, runs it, and counts it as real Jobs do."""
    room.job("import os; print('hello', os.environ['WHO'])", container={"env": [{"name": "WHO", "value": "you"}]})

    assert room.ended("Complete") == ("CompletionsReached", "Reached expected number of succeeded pods")
    status = room.status()
    (pod,) = room.pods()
    assert (status["succeeded"], status["ready"], status.get("active"), status.get("failed")) == (1, 0, None, None)
    assert status["startTime"] <= status["completionTime"]
    assert pod["metadata"]["labels"].items() >= {"team": "retail", "batch.kubernetes.io/job-name": "work"}.items()
    assert pod["metadata"]["ownerReferences"][0].items() >= {"kind": "Job", "name": "work", "controller": True}.items()
    assert pod["status"]["phase"] == "Succeeded"
    assert room.container()["state"]["terminated"].items() >= {"exitCode": 0, "reason": "Completed"}.items()
    assert room.kubelet.log(room.name, pod["metadata"]["name"]) == "hello you\n"


def test_containers_see_only_what_they_are_given(room: Room) -> None:
    """A container's environment is the kubelet's base and its own, not that of whoever runs the tests."""
    room.job("import os; print(sorted(os.environ))")
    room.ended("Complete")
    said = room.kubelet.log(room.name, room.pods()[0]["metadata"]["name"])
    assert said.replace("'LC_CTYPE', ", "") == "['HOSTNAME', 'PATH', 'TMPDIR', 'TRUNKLINE_TEST_KUBELET']\n"


@pytest.mark.parametrize(
    ("policy", "message"), [("FallbackToLogsOnError", "no disk\n"), ("File", "")], ids=["log", "file"]
)
def test_a_job_fails_with_last_words(room: Room, policy: str, message: str) -> None:
    """A failed container leaves its exit code, and the end of its log where the policy says so."""
    room.job("import sys; sys.stderr.write('no disk\\n'); sys.exit(3)", container={"terminationMessagePolicy": policy})

    assert room.ended("Failed") == ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert "FailureTarget" in room.conditions()
    terminated = room.container()["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"], terminated.get("message", "")) == (3, "Error", message)
    assert room.status()["failed"] == 1


def test_a_job_tries_as_often_as_it_may(room: Room) -> None:
    """With a backoffLimit of 1 a Job that always fails makes two pods."""
    room.job("raise SystemExit(1)", backoffLimit=1)
    room.ended("Failed")
    assert room.status()["failed"] == len(room.pods()) == 2


def test_an_exit_code_may_fail_a_job_at_once(room: Room) -> None:
    """A FailJob rule ends the Job whatever its backoffLimit, with the sentence of the real controller."""
    rules = [{"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [10]}}]
    room.job("raise SystemExit(10)", backoffLimit=5, podFailurePolicy={"rules": rules})
    reason, message = room.ended("Failed")
    (pod,) = room.pods()
    assert reason == "PodFailurePolicy"
    assert message == (f"Container main for pod {room.name}/{pod['metadata']['name']} failed with exit code 10 "
                       "matching FailJob rule at index 0")  # fmt: skip


def test_an_evicted_pod_does_not_count(room: Room) -> None:
    """With an Ignore rule for DisruptionTarget an evicted pod is replaced, and not counted as failed."""
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    gate = room.gated_job(podFailurePolicy={"rules": rules})
    until(room.runs)
    (first,) = room.kubelet.pods(room.name, "work")
    room.kubelet.evict(room.name, "work")
    until(lambda: room.runs() and room.kubelet.pods(room.name) != [first])
    gate.touch()

    room.ended("Complete")
    evicted = room.server.get(room.path("pods", first))["status"]
    assert (evicted["phase"], evicted["reason"]) == ("Failed", "Evicted")
    assert ("DisruptionTarget", "True") in {(c["type"], c["status"]) for c in evicted["conditions"]}
    assert "failed" not in room.status()


def test_out_of_memory_has_its_reason(room: Room) -> None:
    """A container that is killed for memory ends with 137 and OOMKilled; any other SIGKILL with 137 and Error."""
    room.job("import time; time.sleep(99)", backoffLimit=1)
    until(room.runs)
    room.kubelet.run_out_of_memory(room.name, "work")
    until(lambda: room.status().get("failed") == 1 and room.runs())
    room.kubelet.crash(room.name, "work")
    room.ended("Failed")
    ends = [pod["status"]["containerStatuses"][0]["state"]["terminated"] for pod in room.pods()]
    assert sorted((end["exitCode"], end["reason"]) for end in ends) == [(137, "Error"), (137, "OOMKilled")]


def test_a_deadline_ends_a_job(room: Room) -> None:
    """A Job that is active too long fails with DeadlineExceeded, and its pod is taken away."""
    room.job("import time; time.sleep(99)", activeDeadlineSeconds=3600)
    until(room.runs)
    room.kubelet.pass_deadline(room.name, "work")
    assert room.ended("Failed") == ("DeadlineExceeded", "Job was active longer than specified deadline")
    until(lambda: not room.pods() and not room.runs())


def test_a_suspended_job_waits(room: Room) -> None:
    """A suspended Job has no pod until it is resumed, and loses its pod, uncounted, when it is suspended again."""
    room.job("import time; time.sleep(99)", suspend=True)
    until(lambda: room.conditions().get("Suspended") == ("True", "JobSuspended", "Job suspended"))
    assert not room.pods()
    assert "startTime" not in room.status()
    room.server.merge(room.path("jobs", "work"), {"spec": {"suspend": False}})
    until(room.runs)
    until(lambda: room.conditions()["Suspended"] == ("False", "JobResumed", "Job resumed"))
    assert room.status()["startTime"]
    room.server.merge(room.path("jobs", "work"), {"spec": {"suspend": True}})
    until(lambda: not room.pods() and not room.runs())
    until(lambda: room.conditions()["Suspended"][0] == "True")
    assert "failed" not in room.status()


@pytest.mark.parametrize("lifetime", [86400, None], ids=["with a lifetime", "without"])
def test_a_finished_job_is_collected(room: Room, lifetime: int | None) -> None:
    """A finished Job goes, with its pods, once its time to live is over; without one it stays."""
    room.job("", **({"ttlSecondsAfterFinished": lifetime} if lifetime else {}))
    room.ended("Complete")
    room.kubelet.pass_lifetimes()
    if lifetime:
        until(lambda: not room.server.items(room.path("jobs")) and not room.pods())
    else:
        room.kubelet.look_twice()
        assert room.server.items(room.path("jobs"))


def test_a_deleted_job_takes_its_process_along(room: Room) -> None:
    """Deleting a Job ends its process, by SIGKILL where SIGTERM does not help, and only then is the pod gone."""
    room.job(STUBBORN, pod={"terminationGracePeriodSeconds": 1})
    until(room.runs)
    (pod,) = room.kubelet.pods(room.name)
    until(lambda: "on" in room.kubelet.log(room.name, pod))
    room.server.delete(room.path("jobs", "work"))
    until(lambda: "deletionTimestamp" in (room.server.find(room.path("pods", pod)) or {"metadata": {}})["metadata"])
    until(lambda: not room.pods())
    assert not room.runs()


def test_trouble_before_a_start_shows(room: Room) -> None:
    """A pod waits for a node, then its image, then its Secret; and has the Secret's keys as variables once it runs."""
    room.kubelet.lose_nodes("gpu", "l4")
    room.kubelet.lose_image("trainer:1")
    room.job("import os; print(os.environ['PASSWORD'])", pod={"nodeSelector": {"gpu": "l4"}},
             container={"envFrom": [{"secretRef": {"name": "store"}}]})  # fmt: skip
    until(lambda: room.pods() and room.pods()[0].get("status"))
    assert room.pods()[0]["status"]["phase"] == "Pending"
    assert room.pods()[0]["status"]["conditions"][0]["reason"] == "Unschedulable"
    assert "containerStatuses" not in room.pods()[0]["status"]
    room.kubelet.find_nodes("gpu", "l4")
    until(lambda: room.waits() == "ImagePullBackOff")
    room.kubelet.find_image("trainer:1")
    until(lambda: room.waits() == "CreateContainerConfigError")
    assert 'secret "store" not found' in room.container()["state"]["waiting"]["message"]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "data": {"PASSWORD": "c2VzYW1l"}}
    room.server.create(room.path("secrets"), secret)
    room.ended("Complete")
    assert room.kubelet.log(room.name, room.pods()[0]["metadata"]["name"]) == "sesame\n"


def test_a_program_that_is_not_there_cannot_start(room: Room) -> None:
    """A command that does not exist ends the container with 128 and StartError."""
    room.job("", container={"command": ["/no/such/program"]})
    room.ended("Failed")
    assert room.container()["state"]["terminated"].items() >= {"exitCode": 128, "reason": "StartError"}.items()


def test_a_deployment_is_available_when_its_pods_are_ready(room: Room) -> None:
    """Counts and conditions follow readiness, and the Service leads nowhere before that."""
    url = room.service()
    room.deployment()
    until(lambda: room.status("deployments", "web").get("unavailableReplicas") == 1 and room.runs())
    assert room.conditions("deployments", "web")["Available"][:2] == ("False", "MinimumReplicasUnavailable")
    assert room.conditions("deployments", "web")["Progressing"][:2] == ("True", "ReplicaSetUpdated")
    with pytest.raises(httpx.HTTPError):
        httpx.get(url, verify=False)

    room.ready("one")
    room.rolled_out("one")
    status = room.status("deployments", "web")
    counts = {key: value for key, value in status.items() if key.endswith("eplicas")}
    assert counts == {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    assert room.conditions("deployments", "web")["Available"][:2] == ("True", "MinimumReplicasAvailable")
    assert httpx.get(url, verify=False).text == "one"
    assert (room.kubelet.folder(room.name, room.kubelet.pods(room.name)[0]) / "state/here").exists()


def test_a_rollout_loses_no_request(room: Room) -> None:
    """The old pod serves until the new one is ready, and clients of the Service notice nothing but the new text."""
    url = room.service()
    room.ready("one")
    room.deployment()
    room.rolled_out("one")
    heard: list[str] = []
    stop = threading.Event()
    client = threading.Thread(target=_keep_asking, args=(url, heard, stop))
    client.start()

    room.deployment("two")
    until(lambda: len(room.kubelet.pods(room.name)) == 2)
    assert room.status("deployments", "web")["readyReplicas"] == 1
    room.ready("two")
    room.rolled_out("two")
    until(lambda: set(heard[-20:]) == {"two"})
    stop.set()
    client.join()

    assert (heard[0], set(heard)) == ("one", {"one", "two"})
    revision = room.server.get(room.path("deployments", "web"))["metadata"]["annotations"]
    assert revision["deployment.kubernetes.io/revision"] == "2"


def test_a_bad_rollout_leaves_the_old_pod(room: Room) -> None:
    """A new pod that never gets ready never replaces the old one; past the deadline the status says so."""
    room.ready("one")
    room.deployment()
    room.rolled_out("one")
    room.deployment("two")
    until(lambda: len(room.kubelet.pods(room.name)) == 2)
    room.kubelet.pass_deadline(room.name, "web")
    until(lambda: room.conditions("deployments", "web")["Progressing"][:2] == ("False", "ProgressDeadlineExceeded"))
    assert room.conditions("deployments", "web")["Available"][0] == "True"
    assert room.status("deployments", "web")["readyReplicas"] == 1

    room.deployment("three")
    room.ready("three")
    room.rolled_out("three")
    until(lambda: len(room.kubelet.pods(room.name)) == 1)


def test_a_crashing_container_is_started_again(room: Room) -> None:
    """A container that ends is started again after a pause, with the count and the end of the last start."""
    room.deployment(program="import sys; sys.exit('no such device')")
    until(lambda: room.container().get("restartCount", 0) >= 2)
    until(lambda: room.waits() == "CrashLoopBackOff")
    last = room.container()["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (1, "Error", "no such device\n")


def test_a_dead_container_is_killed_for_its_liveness(room: Room) -> None:
    """Out of patience with the liveness probe, the kubelet kills the container and starts it again."""
    room.ready("one")
    probe = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1, "failureThreshold": 3}
    room.deployment(livenessProbe=probe)
    room.rolled_out("one")
    (room.folder / "one").unlink()
    until(lambda: room.container().get("restartCount") == 1)
    assert room.conditions("deployments", "web")["Available"][0] == "False"


def test_replicas_come_and_go(room: Room) -> None:
    """Connections to a Service are spread over all ready pods, as many as the Deployment asks for."""
    url = room.service()
    room.ready("one")
    room.deployment(replicas=3)
    until(lambda: room.status("deployments", "web").get("readyReplicas") == 3)
    names = room.kubelet.pods(room.name, "web")
    assert len({room.kubelet.address(room.name, name) for name in names}) == 3
    assert {httpx.get(url, verify=False).text for _ in range(6)} == {"one"}
    room.deployment(replicas=1)
    until(lambda: len(room.kubelet.pods(room.name)) == 1)
    until(lambda: room.status("deployments", "web")["replicas"] == 1)


@pytest.mark.parametrize(
    ("propagation", "stays"),
    [("Background", False), ("Foreground", False), ("Orphan", True)],
    ids=["background", "foreground", "orphan"],
)
def test_what_lost_its_owner_goes(room: Room, propagation: str, stays: bool) -> None:  # noqa: FBT001  a parameter
    """Children of a deleted owner are deleted with it, unless they are orphaned, which takes the reference off."""
    room.job("import time; time.sleep(99)")
    until(room.runs)
    owner = room.server.get(room.path("jobs", "work"))["metadata"]
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": owner["uid"]}
    metadata = {"name": "child", "ownerReferences": [reference]}
    room.server.create(room.path("services"), {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}})
    room.server.delete(room.path("jobs", "work"), propagation)
    until(lambda: room.server.find(room.path("jobs", "work")) is None)
    if stays:
        assert "ownerReferences" not in room.server.get(room.path("services", "child"))["metadata"]
        (pod,) = room.pods()
        assert room.runs()
        room.server.delete(room.path("pods", pod["metadata"]["name"]))
    until(lambda: (room.server.find(room.path("services", "child")) is not None) == stays and not room.pods())


def test_a_paused_kubelet_writes_nothing(room: Room) -> None:
    """Processes go on and end while the kubelet is paused; the API hears of it afterwards."""
    gate = room.gated_job()
    until(lambda: room.status().get("ready") == 1)
    room.kubelet.pause()
    gate.touch()
    until(lambda: not room.runs())
    assert "Complete" not in room.conditions()
    room.kubelet.resume()
    room.ended("Complete")


def test_troubles_of_the_server_are_lived_through(room: Room) -> None:
    """Conflicts, errors, lost answers and cut watches delay the kubelet, and nothing happens twice."""
    room.server.faults([
        {"method": "POST", "path": "/pods$", "status": 500, "count": 2},
        {"method": "POST", "path": "/pods$", "status": 503, "count": 1},
        {"method": "PATCH", "path": "/status$", "status": 409, "count": 3},
        {"method": "PATCH", "path": "/status$", "drop": True, "after": True, "count": 2},
        {"method": "WATCH", "path": "jobs$", "drop": True, "count": 2},
    ])  # fmt: skip
    try:
        room.job("print('once')")
        room.ended("Complete")
    finally:
        room.server.clear_faults()
    assert len(room.pods()) == 1


def test_an_outage_stops_no_process(room: Room) -> None:
    """While the API server is away containers live on; what ended meanwhile is told when it is back."""
    gate = room.gated_job()
    room.ready("one")
    room.deployment()
    room.rolled_out("one")
    before = room.kubelet.pods(room.name)
    with room.server.outage():
        assert room.kubelet.pods(room.name) == before
        gate.touch()
        until(lambda: len(room.kubelet.pods(room.name)) == 1)
    room.ended("Complete")
    room.deployment("two")
    room.ready("two")
    room.rolled_out("two")


def test_nothing_outlives_the_kubelet(tmp_path: Path) -> None:
    """When the kubelet stops, also the stubborn and those who ran away into sessions of their own are gone."""
    away = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], start_new_session=True)\n"
    path = {"PATH": os.environ["PATH"]}
    with OwnServer(tmp_path / "api") as own, Kubelet(own, tmp_path / "pods", environment=path) as kubelet:
        room = Room(own, kubelet, tmp_path)
        room.job(away + STUBBORN)
        until(lambda: len(kubelet.processes()) == 2)
    assert not kubelet.processes()


def _keep_asking(url: str, heard: list[str], stop: threading.Event) -> None:
    while not stop.wait(0.005):
        try:
            heard.append(httpx.get(url, timeout=5, verify=False).text)
        except httpx.HTTPError as error:
            heard.append(repr(error))
