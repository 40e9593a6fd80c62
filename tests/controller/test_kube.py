"""``trunkline kube``: what people see of models in a cluster, on a real API server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from adapters.kubernetes_api import JOB as KIND_JOB
from adapters.kubernetes_api import POD, TRAIN_JOB
from controller.commands.kube import kube
from reconcilers.progress import shown
from specs.errors import Stalled, Transient
from specs.records import Progress
from specs.status import JobProgress
from tests.support.apiserver import ApiServer
from tests.support.jobs_bench import install
from tests.support.place import SPEC

MODELS = "/apis/trunkline.dev/v1alpha1/namespaces/{}/modelspecs"
JOB = "train-digits-0123456789ab"


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace with one model whose training was lost."""
    name = f"kube-{uuid.uuid4().hex[:8]}"
    api_server.install_modelspecs()
    text = SPEC.replace("TRAIN", "sha256:" + "a" * 64).replace("GOLDEN", "sha256:" + "b" * 64)
    model = yaml.safe_load(text)
    api_server.apply(f"{MODELS.format(name)}/digits", model).raise_for_status()
    conditions = [
        {"type": "Ready", "status": "False", "reason": "JobFailed", "message": f"{JOB} failed 3 times"},
        {"type": "Stalled", "status": "True", "reason": "JobFailed", "message": f"{JOB} failed 3 times"},
        {"type": "Trained", "status": "False", "reason": "JobFailed", "message": f"{JOB} failed 3 times"},
    ]
    status = {"observedGeneration": 1, "summary": "a job failed", "conditions": conditions}
    api_server.merge(f"{MODELS.format(name)}/digits/status", {"status": status})
    for number in (1, 2):
        _job(api_server, name, number)
    return name


def _job(api_server: ApiServer, namespace: str, number: int) -> None:
    name = JOB if number == 1 else f"{JOB}-{number}"
    labels = {
        "app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/model": "digits", "trunkline.dev/job": JOB,
        "trunkline.dev/attempt": str(number),
    }  # fmt: skip
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "train", "image": "x"}]}}
    job: dict[str, Any] = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels},
                           "spec": {"template": template}}  # fmt: skip
    jobs, pods = f"/apis/batch/v1/namespaces/{namespace}/jobs", f"/api/v1/namespaces/{namespace}/pods"
    uid = api_server.create(jobs, job)["metadata"]["uid"]
    ended = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed"}]
    api_server.merge(f"{jobs}/{name}/status", {"status": {"conditions": ended}})
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
    metadata = {"name": name, "labels": {**labels, "batch.kubernetes.io/job-name": name}, "ownerReferences": [owner]}
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"], "metadata": metadata}
    api_server.create(pods, pod)
    _died(api_server, f"{pods}/{name}", f"attempt {number}: the disk is on fire")


def _died(api_server: ApiServer, pod: str, words: str) -> None:
    """Let a pod's container end."""
    containers = [{"name": "train", "ready": False, "restartCount": 0, "image": "x", "imageID": "",
                   "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": words}}}]  # fmt: skip
    api_server.merge(f"{pod}/status", {"status": {"phase": "Failed", "containerStatuses": containers}})


def _train_job(api_server: ApiServer, namespace: str) -> None:
    """Add a third attempt, which is a TrainJob of two nodes; both died, and the second was the last to be made."""
    install(api_server, TRAIN_JOB)
    labels = {"app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/model": "digits", "trunkline.dev/job": JOB,
              "trunkline.dev/attempt": "3"}  # fmt: skip
    made = {"apiVersion": TRAIN_JOB.api_version, "kind": "TrainJob", "metadata": {"name": f"{JOB}-3", "labels": labels},
            "spec": {"runtimeRef": {"name": "torch-distributed"}}}  # fmt: skip
    api_server.create(TRAIN_JOB.path(namespace), made)
    condition = {"type": "Failed", "status": "True", "reason": "FailedJobs", "message": "jobset failed",
                 "lastTransitionTime": "2026-11-24T11:00:00Z"}  # fmt: skip
    api_server.merge(TRAIN_JOB.path(namespace, f"{JOB}-3", "status"), {"status": {"conditions": [condition]}})
    for index in "01":
        name = f"{JOB}-3-node-0-{index}"
        own = {**labels, "batch.kubernetes.io/job-completion-index": index}
        spec = {"restartPolicy": "Never", "containers": [{"name": "node", "image": "x"}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": own}, "spec": spec}
        api_server.create(POD.path(namespace), pod)
        _died(api_server, POD.path(namespace, name), f"node {index}: the disk is on fire")


def run(api_server: ApiServer, *words: str) -> Result:
    """Type a command."""
    arguments = ["--kubeconfig", str(api_server.kubeconfig), *words]
    return CliRunner().invoke(kube, arguments, catch_exceptions=True, env={"COLUMNS": "300"})


def test_status_is_a_board(api_server: ApiServer, namespace: str) -> None:
    """A line for each model; with a name all its conditions; with --json what the API has."""
    assert "a job failed" in run(api_server, "status", "-n", namespace).output
    assert "JobFailed" in run(api_server, "status", "digits", "-n", namespace).output
    found = json.loads(run(api_server, "status", "digits", "-n", namespace, "--json").output)
    assert found["observedGeneration"] == 1


def test_status_tells_how_far_jobs_are(api_server: ApiServer, namespace: str) -> None:
    """A bar for people with `kube status`, a column for people with kubectl; the schema keeps every field of it."""
    told = shown(
        JOB, Progress(job=JOB, phase="training", epoch=6, epochs=10, eta_seconds=42.3, metrics={"val/loss": 0.25})
    )
    status = {"jobs": [JOB], "progress": [told.model_dump(mode="json", by_alias=True)]}
    api_server.merge(f"{MODELS.format(namespace)}/digits/status", {"status": status})
    for words in (("status",), ("status", "digits")):
        (line,) = [line for line in run(api_server, *words, "-n", namespace).output.splitlines() if "epochs" in line]
        for word in (JOB, told.text, "loss 0.25"):
            assert word in line
    found = json.loads(run(api_server, "status", "digits", "-n", namespace, "--json").output)
    assert JobProgress.model_validate(found["progress"][0]) == told
    path = f"{MODELS.format(namespace)}/digits"
    table = api_server.get(path, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    names = [column["name"] for column in table["columnDefinitions"]]
    assert table["rows"][0]["cells"][names.index("Progress")] == "training 6/10 epochs, 40 s left"


def test_an_empty_namespace_says_what_to_look_at(api_server: ApiServer, namespace: str) -> None:
    """No models is an answer, with the next question."""
    assert "Argo CD" in run(api_server, "status", "-n", "nobody-here").output


def test_why_puts_it_together(api_server: ApiServer, namespace: str) -> None:
    """Conditions, jobs, and what to do."""
    output = run(api_server, "why", f"{namespace}/digits").output
    assert f"{namespace}/digits is not ready: JobFailed" in output
    assert f"job {JOB} failed: BackoffLimitExceeded it failed" in output
    assert "trunkline kube retry" in output
    assert json.loads(run(api_server, "why", f"{namespace}/digits", "--json").output)["findings"]


def test_logs_are_those_of_the_last_attempt(api_server: ApiServer, namespace: str) -> None:
    """Where the log itself cannot be had, the pod's last words can. Any attempt's name will do."""
    for name in (JOB, f"{JOB}-2"):
        output = run(api_server, "logs", name, "-n", namespace).output
        assert "attempt 2: the disk is on fire" in output


def test_retry_forgets_all_attempts(api_server: ApiServer, namespace: str) -> None:
    """The operator then finds no attempt, and makes the first one."""
    assert "will be tried again" in run(api_server, "retry", JOB, "-n", namespace).output
    assert api_server.items(f"/apis/batch/v1/namespaces/{namespace}/jobs") == []


def test_train_jobs_are_jobs_as_well(api_server: ApiServer, namespace: str) -> None:
    """Its first node tells how the training goes; why knows of it; retry forgets it with the other attempts."""
    _train_job(api_server, namespace)
    assert run(api_server, "logs", JOB, "-n", namespace).output.endswith("node 0: the disk is on fire\n")
    assert f"job {JOB}-3 failed: FailedJobs jobset failed" in run(api_server, "why", f"{namespace}/digits").output
    assert "will be tried again" in run(api_server, "retry", JOB, "-n", namespace).output
    for kind in (KIND_JOB, TRAIN_JOB):
        assert api_server.items(kind.path(namespace)) == []


def test_retry_leaves_what_runs_alone(api_server: ApiServer, namespace: str) -> None:
    """A job that runs is not forgotten; the message says how to end it."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{JOB}-2/status"
    api_server.merge(path, {"status": {"conditions": []}})
    error = run(api_server, "retry", JOB, "-n", namespace).exception
    assert isinstance(error, Transient)
    assert len(api_server.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")) == 2


@pytest.mark.parametrize(
    "words",
    [("logs", "train-x-000000000000"), ("retry", "train-x-000000000000"), ("logs", "a/../b"), ("why", "nobody")],
    ids=["no log", "no retry", "no name", "no model"],
)  # fmt: skip
def test_what_is_not_there_is_said(api_server: ApiServer, namespace: str, words: tuple[str, ...]) -> None:
    """A wrong name is one clear sentence."""
    assert isinstance(run(api_server, *words, "-n", namespace).exception, Stalled)
