"""Benches for attempts in a cluster: a namespace on a real API server, where a test plays the controllers.

A Job is what the Job controller reports; a TrainJob what Kubeflow Trainer reports of the JobSet that it makes, as its
API describes: no condition until it was suspended once, ``Complete`` or ``Failed`` in JobSet's words, and counts of
child Jobs. Its pods come of the runtime, changed as the TrainJob asks.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.jobs_kubernetes import KubernetesJobs
from adapters.kubernetes_api import JOB, POD, TRAIN_JOB, WORKLOAD, Kind, KubernetesApi, Object
from adapters.kubernetes_pods import Owner, PodStyle
from specs.modelspec import ModelKey
from specs.names import attempt_name
from specs.placement import Placement
from specs.training import TrainJob
from specs.workorders import AnyOrder, EvaluateOrder, TrainOrder
from tests.support.apiserver import START_SECONDS, ApiServer, needed

STYLE = PodStyle("registry.example.com/trunkline@sha256:" + "a" * 64, ("python", "-m", "workloads"), "trunkline-job",
                 "s3://models", secret="store-credentials")  # fmt: skip
SHA = ["sha256:" + digit * 64 for digit in "abcdef"]
TIMES = {"startTime": "2026-11-24T10:00:00Z"}
BEGAN, OVER = 1_795_514_400.0, 1_795_518_000.0
NUMBERS = itertools.count()
PUBLISHED = {TRAIN_JOB: "kubeflow-trainjobs.yaml", WORKLOAD: "kueue-workloads.yaml"}


def published(name: str) -> str:
    """Give the text of a CRD that others published; skip the test, or in CI fail it, where it is not at hand."""
    folder = Path(os.environ.get("PUBLISHED_CRDS", needed().parent.parent / "crds"))
    if not (folder / name).is_file():
        words = f"no {name}: set PUBLISHED_CRDS to the folder of published CRDs; their API took no part in this test"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return (folder / name).read_text()


class Bench:
    """A namespace of its own with one model, and the order to evaluate something of it, which a Job does."""

    kind: Kind = JOB
    longest = 63
    train_job: TrainJob | None = None

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.key = ModelKey(f"jobs-{next(NUMBERS)}", "shelf")
        self.owner: Owner | None = Owner(self.key, "00000000-0000-4000-8000-000000000001")
        self.asked: list[tuple[str, str, int]] = []
        self.now = OVER
        path = str(server.kubeconfig_of("operator"))
        self.api = KubernetesApi.connect(kubeconfig=path, counted=lambda *asked: self.asked.append(asked))

    @property
    def here(self) -> Placement:
        """Anywhere."""
        return Placement(train_job=self.train_job)

    @property
    def queued(self) -> Placement:
        """In a queue."""
        return Placement(queue="gpus", train_job=self.train_job)

    @property
    def gpu(self) -> Placement:
        """Where there is a GPU."""
        return Placement({"cpu": "2"}, {"nvidia.com/gpu": "1"}, {"gpu": "l4"}, train_job=self.train_job)

    @property
    def jobs(self) -> KubernetesJobs:
        """An operator's view of the cluster, made anew each time: nothing is remembered."""
        owners = lambda key: self.owner if key == self.key else None  # noqa: E731
        return KubernetesJobs(self.api, owners, STYLE, clock=lambda: self.now)

    def through(self, kind: type[KubernetesApi]) -> KubernetesJobs:
        """Give an operator's view through another connection."""
        api = kind.connect(kubeconfig=str(self.server.kubeconfig_of("operator")))
        return KubernetesJobs(api, lambda key: self.owner, STYLE, clock=lambda: self.now)

    @property
    def order(self) -> AnyOrder:
        """The work order."""
        return EvaluateOrder(
            model=str(self.key), commit="c" * 40, subject=SHA[0], format="pt", task="classify", golden=SHA[1]
        )

    def name(self, number: int = 1) -> str:
        """Give the name of an attempt."""
        return attempt_name(self.order.job, number, self.longest)

    def path(self, number: int = 1, part: str = "") -> str:
        """Give the path of an attempt."""
        return self.kind.path(self.key.namespace, self.name(number), part)

    def live(self, number: int = 1) -> Any:
        """Give an attempt as it is, or None."""
        return self.server.find(self.path(number))

    def all(self) -> list[str]:
        """Give the names of all attempts of the namespace."""
        return [job["metadata"]["name"] for job in self.server.items(self.kind.path(self.key.namespace))]

    def report(self, number: int = 1, **status: Any) -> None:
        """Play the controller; ``ready`` and ``active`` count pods."""
        self.server.merge(self.path(number, "status"), {"status": TIMES | status})

    def finish(self, number: int = 1, type_: str = "Failed", reason: str = "BackoffLimitExceeded") -> None:
        """End an attempt."""
        self.report(number, conditions=[concluded(type_, reason)])

    def pod(self, number: int = 1, phase: str = "Failed", *, state: Object | None = None, **status: Any) -> None:
        """Play the kubelet: make a pod of an attempt; ``state`` is that of its container."""
        job = self.live(number)
        metadata, template = job["metadata"], self.template(job)
        name = f"{metadata['name'][:50]}-{next(NUMBERS)}"
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"],
                 "controller": True}  # fmt: skip
        labels = template["metadata"]["labels"] | {"batch.kubernetes.io/job-name": metadata["name"]}
        made = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}}  # fmt: skip
        self.server.create(POD.path(self.key.namespace), made)
        (main,) = template["spec"]["containers"]
        container = {"name": main["name"], "image": "i", "imageID": "", "ready": False, "restartCount": 0}
        states = [container | {"state": state}] if state else []
        told = {"phase": phase, "containerStatuses": states, **status}
        self.server.merge(POD.path(self.key.namespace, name, "status"), {"status": told})

    def template(self, job: Object) -> Any:
        """Give the template of an attempt's pods."""
        return job["spec"]["template"]

    def foreign(self, **metadata: Any) -> str:
        """Let somebody else have an object of our name; gives its version."""
        manifest = {"apiVersion": self.kind.api_version, "kind": self.kind.name, "spec": self.others(),
                    "metadata": {"name": self.name(), **metadata}}  # fmt: skip
        return str(self.server.create(self.kind.path(self.key.namespace), manifest)["metadata"]["resourceVersion"])

    def others(self) -> Object:
        """Give the spec of somebody else's."""
        container = {"name": "c", "image": "i"}
        return {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}}

    def calls(self) -> list[str]:
        """Give what was asked since the last look, as verb and resource: of an attempt's own kind as of jobs."""
        done = [f"{verb} {resource}" for verb, resource, _ in self.asked]
        self.asked.clear()
        other = "trainjobs" if self.kind is JOB else "jobs"
        mine = [asked for asked in done if asked.split()[1] not in (other, "apis")]
        return [asked.replace("trainjobs", "jobs") for asked in mine]


class TrainJobBench(Bench):
    """Likewise with the order to train, which a TrainJob does."""

    kind = TRAIN_JOB
    longest = 52
    train_job = TrainJob()

    @property
    def order(self) -> AnyOrder:
        """The work order."""
        return TrainOrder(model=str(self.key), commit="c" * 40, inputs_digest=SHA[5], inputs={"args": {}})

    def report(self, number: int = 1, **status: Any) -> None:
        """Play Trainer: it was let go on, once."""
        resumed = {"type": "Suspended", "status": "False", "reason": "Resumed", "message": "TrainJob is resumed",
                   "lastTransitionTime": TIMES["startTime"]}  # fmt: skip
        counts = {"active": 0, "ready": 0, "failed": 0, "succeeded": 0, "suspended": 0}
        jobs = [{"name": "node", **counts, **{k: v for k, v in status.items() if k in counts}}]
        told = {"jobsStatus": jobs, "conditions": [resumed, *status.get("conditions", ())]}
        self.server.merge(self.path(number, "status"), {"status": told})

    def finish(self, number: int = 1, type_: str = "Failed", reason: str = "BackoffLimitExceeded") -> None:
        """End an attempt: Trainer takes JobSet's reason over."""
        words = {"BackoffLimitExceeded": "FailedJobs", "CompletionsReached": "AllJobsCompleted"}
        self.report(number, conditions=[concluded(type_, words.get(reason, reason))])

    def template(self, job: Object) -> Any:
        """Give the template of the runtime's pods."""
        return runtime_template(job)

    def others(self) -> Object:
        """Give the spec of somebody else's."""
        return {"runtimeRef": {"name": "torch-distributed"}}


def runtime_template(job: Object) -> Any:
    """Give the template of the runtime's pods, as Trainer makes it of ``torch-distributed`` and the patches."""
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template, trainer = node["template"]["spec"]["template"], job["spec"]["trainer"]
    (ours,) = template["spec"]["containers"]
    main = {
        **ours, "image": trainer["image"], "command": trainer["command"], "env": [*trainer["env"], *torchrun(job)],
        "ports": [{"containerPort": 29400, "protocol": "TCP"}],
    }  # fmt: skip
    spec = {key: value for key, value in template["spec"].items() if key != "containers"}
    return {"metadata": template["metadata"], "spec": {**spec, "containers": [main], "restartPolicy": "Never"}}


def torchrun(job: Object) -> list[Object]:
    """Give the variables that Trainer adds for torchrun; each pod has another node rank, of which this is the first."""
    name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
    told = {"PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"], "PET_NODE_RANK": 0,
            "PET_MASTER_ADDR": f"{name}-node-0-0.{name}", "PET_MASTER_PORT": 29400}  # fmt: skip
    return [{"name": variable, "value": str(value)} for variable, value in told.items()]


def concluded(type_: str, reason: str) -> Object:
    """Give the condition that an attempt is over."""
    return {"type": type_, "status": "True", "reason": reason, "message": "said the controller",
            "lastTransitionTime": "2026-11-24T11:00:00Z"}  # fmt: skip


BENCHES: dict[str, Callable[[ApiServer], Bench]] = {"Job": Bench, "TrainJob": TrainJobBench}


def install(server: ApiServer, *kinds: Kind) -> None:
    """Install published CRDs of others, unless they are there."""
    for kind in kinds:
        name = f"{kind.plural}.{kind.api_version.partition('/')[0]}"
        if server.find(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}") is None:
            server.install(published(PUBLISHED[kind]), name, kind.path(""))
        give_up = time.monotonic() + START_SECONDS
        while not _listed(server, kind):  # a moment after it is served
            assert time.monotonic() < give_up, f"{name} is not listed"
            time.sleep(0.05)


def _listed(server: ApiServer, kind: Kind) -> bool:
    found = server.find(f"/apis/{kind.api_version}") or {}
    return any(resource["name"] == kind.plural for resource in found.get("resources", ()))
