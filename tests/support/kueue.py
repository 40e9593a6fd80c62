"""Plays Kueue for one suspended object: the Workload that stands for it, with conditions as its API describes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from adapters.kubernetes_api import WORKLOAD, Object
from tests.support.apiserver import ApiServer


class Kueue:
    """The Workload of an object, and what Kueue does to both. ``path`` is that of the object."""

    def __init__(self, server: ApiServer, path: str, queue: str = "gpus") -> None:
        self._server, self._path = server, path
        job = server.get(path)
        metadata = job["metadata"]
        owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": metadata["name"],
                 "uid": metadata["uid"], "controller": True}  # fmt: skip
        container = {"name": "main", "image": "i", "resources": {"requests": {"nvidia.com/gpu": "1"}}}
        pods = {"spec": {"containers": [container], "restartPolicy": "Never"}}
        self.name = f"{job['kind'].lower()}-{metadata['name'][:40]}-{metadata['uid'][:5]}"
        self._place = WORKLOAD.path(metadata["namespace"], self.name)
        server.create(WORKLOAD.path(metadata["namespace"]), {
            "apiVersion": WORKLOAD.api_version, "kind": WORKLOAD.name,
            "metadata": {"name": self.name, "labels": {"kueue.x-k8s.io/job-uid": metadata["uid"]},
                         "ownerReferences": [owner]},
            "spec": {"active": True, "queueName": queue, "podSets": [{"name": "main", "count": 1, "template": pods}]},
        })  # fmt: skip

    def refuse(self, message: str, reason: str = "Pending") -> None:
        """Find no room for it."""
        self._say({"QuotaReserved": ("False", reason, message)})

    def reserve(self, check: str, message: str) -> None:
        """Give it its quota, and let an admission check hold it up."""
        state = {"name": check, "state": "Pending", "message": message, "lastTransitionTime": _now()}
        self._say({"QuotaReserved": ("True", "QuotaReserved", "Quota reserved in ClusterQueue team")}, [state])

    def admit(self) -> None:
        """Let it begin."""
        said = ("True", "QuotaReserved", "Quota reserved in ClusterQueue team")
        self._say({"QuotaReserved": said, "Admitted": ("True", "Admitted", "The workload is admitted"),
                   "Evicted": ("False", "QuotaReserved", "Previously: x")})  # fmt: skip
        self._server.merge(self._path, {"spec": {"suspend": False}})

    def evict(self, reason: str, message: str) -> None:
        """Take it back, and find no room for it."""
        self._say({"Evicted": ("True", reason, message), "Admitted": ("False", "NoReservation", "no reservation"),
                   "QuotaReserved": ("False", "Pending", message)})  # fmt: skip
        self._server.merge(self._path, {"spec": {"suspend": True}})

    def deactivate(self, reason: str, message: str) -> None:
        """Take it out for good."""
        self.evict(reason, message)
        self._server.merge(self._place, {"spec": {"active": False}})

    def _say(self, conditions: dict[str, tuple[str, str, str]], checks: list[Object] | None = None) -> None:
        told: list[Any] = [
            {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": _now()}
            for type_, (status, reason, message) in conditions.items()
        ]
        self._server.merge(f"{self._place}/status", {"status": {"conditions": told, "admissionChecks": checks or []}})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
