"""The Deployment controller of the process kubelet, without ReplicaSets between Deployment and pods.

Rolling updates only. What a ReplicaSet would be is the group of pods with one ``pod-template-hash``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from typing import Any

from tests.support.kubelet_jobs import pod_of
from tests.support.kubelet_mirror import Mirror
from tests.support.kubelet_pods import now, stamped

Object = dict[str, Any]
REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


class Deployments:
    """Reconciles Deployments. ``overdue`` holds the uids of those whose progress deadline is over."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._hashes: dict[str, str] = {}
        """Uid to the template that was seen last."""
        self._progress: dict[str, tuple[Object, float]] = {}
        """Uid to the counts that were seen last, and when they came about."""
        self.overdue: set[str] = set()

    async def look(self, deployment: Object, pods: list[Object]) -> None:
        """Take one Deployment a step on. ``pods`` are those that it controls."""
        if deployment["metadata"].get("deletionTimestamp"):
            return
        label = _hash(deployment)
        await self._count_revision(deployment, label)
        active = [pod for pod in pods if _is_active(pod)]
        new = [pod for pod in active if pod["metadata"]["labels"].get(HASH) == label]
        old = [pod for pod in active if pod not in new]
        if not deployment["spec"].get("paused"):
            await self._roll(deployment, new, old, label)
        await self._write(deployment, new, old, label)

    async def _roll(self, deployment: Object, new: list[Object], old: list[Object], label: str) -> None:
        """Make and take away as many pods as the strategy allows now."""
        wanted, surge, needed = _bounds(deployment)
        for _ in range(min(wanted - len(new), wanted + surge - len(new) - len(old))):
            pod = pod_of("apps/v1", "Deployment", deployment, deployment["spec"]["template"], {HASH: label})
            new.append(await self._mirror.create("Pod", pod))
        ready = sum(map(_is_ready, (*old, *new)))
        unready = max(len(new) + len(old) - needed - sum(not _is_ready(pod) for pod in new), 0)
        leaving = [pod for pod in old if not _is_ready(pod)][:unready]
        leaving += [pod for pod in old if _is_ready(pod)][: max(ready - needed, 0)]
        leaving += sorted(new, key=_is_ready)[: max(len(new) - wanted, 0)]
        for pod in leaving:
            await self._mirror.delete("Pod", pod)
            (new if pod in new else old).remove(pod)

    async def _count_revision(self, deployment: Object, label: str) -> None:
        """Number the templates in an annotation, as the real controller does: a write that is not ours."""
        uid = deployment["metadata"]["uid"]
        annotations = deployment["metadata"].get("annotations", {})
        if self._hashes.get(uid, label) != label or REVISION not in annotations:
            changed = copy.deepcopy(deployment)
            number = int(annotations.get(REVISION, "0")) + 1
            changed["metadata"].setdefault("annotations", {})[REVISION] = str(number)
            deployment["metadata"] = (await self._mirror.replace("Deployment", changed))["metadata"]
            self.overdue.discard(uid)
        self._hashes[uid] = label

    async def _write(self, deployment: Object, new: list[Object], old: list[Object], label: str) -> None:
        wanted, _, needed = _bounds(deployment)
        ready = sum(map(_is_ready, (*new, *old)))
        counts = {
            "replicas": len(new) + len(old), "updatedReplicas": len(new), "readyReplicas": ready,
            "availableReplicas": ready, "unavailableReplicas": max(wanted, len(new) + len(old)) - ready,
        }  # fmt: skip
        done = len(new) == wanted and not old and ready >= wanted
        conditions = [_available(enough=ready >= needed), self._progressing(deployment, counts, label, done=done)]
        known = deployment.get("status", {})
        status: Object = {key: value or None for key, value in counts.items()}
        status["observedGeneration"] = deployment["metadata"]["generation"]
        for condition in conditions:
            same = next((c for c in known.get("conditions", ()) if _same(c, condition)), {})
            condition["lastUpdateTime"] = same.get("lastUpdateTime") or now()
        status["conditions"] = stamped(conditions, known.get("conditions", ()))
        if any(known.get(key) != value for key, value in status.items()):
            await self._mirror.merge("Deployment", deployment, {"status": status}, "/status")

    def _progressing(self, deployment: Object, counts: dict[str, int], label: str, *, done: bool) -> Object:
        """Say how the rollout goes; it stands still where no count changed within the deadline."""
        uid, name = deployment["metadata"]["uid"], f"{deployment['metadata']['name']}-{label}"
        state = {**counts, "hash": label}
        before, since = self._progress.get(uid, ({}, 0.0))
        since = since if before == state else time.monotonic()
        self._progress[uid] = (state, since)
        if done:
            self.overdue.discard(uid)
            return _progress("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        late = time.monotonic() - since > deployment["spec"].get("progressDeadlineSeconds", 600)
        if late or uid in self.overdue:
            return _progress("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
        return _progress("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')


def _bounds(deployment: Object) -> tuple[int, int, int]:
    """Give how many pods are wanted, how many more there may be, and how many must be ready at any time."""
    wanted = deployment["spec"].get("replicas", 1)
    rolling = deployment["spec"].get("strategy", {}).get("rollingUpdate", {})
    surge = _amount(rolling.get("maxSurge", "25%"), wanted, math.ceil)
    return wanted, surge, wanted - _amount(rolling.get("maxUnavailable", "25%"), wanted, math.floor)


def _is_active(pod: Object) -> bool:
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not ended and not pod["metadata"].get("deletionTimestamp")


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _hash(deployment: Object) -> str:
    text = json.dumps(deployment["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _amount(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    """Give a number of pods that is given as such, or as a share."""
    return value if isinstance(value, int) else rounded(int(value.rstrip("%")) * of / 100)


def _available(*, enough: bool) -> Object:
    if enough:
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
    else:
        reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
    return {"type": "Available", "status": str(enough), "reason": reason, "message": message}


def _progress(status: str, reason: str, message: str) -> Object:
    return {"type": "Progressing", "status": status, "reason": reason, "message": message}


def _same(known: Object, new: Object) -> bool:
    return all(known.get(key) == new[key] for key in ("type", "status", "reason", "message"))
