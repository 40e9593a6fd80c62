"""Plays Kubeflow Trainer, and JobSet below it: of each TrainJob a Job whose pods the process kubelet runs.

As theirs do, it suspends and lets go, follows the Job's end with a condition of its own, makes the Job anew where
somebody removed it before that, and never removes a TrainJob.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from adapters.kubernetes_api import JOB, TRAIN_JOB, Object
from tests.support.apiserver import ApiServer
from tests.support.jobs_bench import runtime_template

_LOOK = 0.1
"""Seconds between two looks."""


class Trainer(threading.Thread):
    """Runs from ``with Trainer(...)`` on, in one namespace."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        super().__init__(name="trainer", daemon=True)
        self._server, self._namespace = server, namespace
        self._over = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(30)

    def run(self) -> None:
        """Look again and again."""
        while not self._over.wait(_LOOK):
            for train_job in self._server.items(TRAIN_JOB.path(self._namespace)):
                self._look(train_job)

    def _look(self, train_job: Object) -> None:
        name = train_job["metadata"]["name"]
        known = {c["type"]: c for c in (train_job.get("status") or {}).get("conditions") or ()}
        if {"Complete", "Failed"} & known.keys():
            return
        path = JOB.path(self._namespace, f"{name}-node-0")
        child = self._server.find(path)
        if train_job["spec"].get("suspend"):
            self._server.delete(path)
            self._tell(train_job, [_condition("Suspended", "True", "Suspended", "TrainJob is suspended")], 0)
        elif child is None:
            self._server.create(JOB.path(self._namespace), _child(train_job))
        else:
            self._follow(train_job, child, known)

    def _follow(self, train_job: Object, child: Object, known: dict[str, Object]) -> None:
        status = child.get("status") or {}
        ended = [c["type"] for c in status.get("conditions") or () if c["status"] == "True"]
        conditions = [known["Suspended"] | {"status": "False", "reason": "Resumed"}] if "Suspended" in known else []
        if "Complete" in ended:
            conditions.append(_condition("Complete", "True", "AllJobsCompleted", "jobset completed successfully"))
        if "Failed" in ended:
            conditions.append(_condition("Failed", "True", "FailedJobs", "jobset failed due to failed jobs"))
        self._tell(train_job, conditions, int(status.get("ready") or 0))

    def _tell(self, train_job: Object, conditions: list[Object], ready: int) -> None:
        jobs = [{"name": "node", "active": ready, "ready": ready, "failed": 0, "succeeded": 0, "suspended": 0}]
        before, told = train_job.get("status") or {}, {"conditions": conditions, "jobsStatus": jobs}
        same = [c["type"] for c in before.get("conditions") or ()] == [c["type"] for c in conditions]
        if not same or before.get("jobsStatus") != jobs:
            path = TRAIN_JOB.path(self._namespace, train_job["metadata"]["name"], "status")
            self._server.merge(path, {"status": told})


def _child(train_job: Object) -> Object:
    metadata = train_job["metadata"]
    owner = {"apiVersion": TRAIN_JOB.api_version, "kind": "TrainJob", "name": metadata["name"], "uid": metadata["uid"]}
    labels = {"jobset.sigs.k8s.io/jobset-name": metadata["name"]}
    spec: dict[str, Any] = {"parallelism": 1, "completions": 1, "backoffLimit": 0}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "spec": spec | {"template": runtime_template(train_job)},
        "metadata": {"name": f"{metadata['name']}-node-0", "labels": labels, "ownerReferences": [owner]},
    }  # fmt: skip


def _condition(type_: str, status: str, reason: str, message: str) -> Object:
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": when}
