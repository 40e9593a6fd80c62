"""The Job controller of the process kubelet: one pod at a time for each Job, and the Job's status as real ones have it.

Jobs of one completion only, which is all that a work order asks for.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.kubelet_mirror import Mirror
from tests.support.kubelet_pods import FINALIZER, now, stamped

Object = dict[str, Any]
_PAUSE = 0.2
"""Seconds before the second pod of a Job; twice as many before each one after that."""


@dataclass
class _Memory:
    """What is known of a Job's pods, which may be gone."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Pod uid to Succeeded, Failed or Ignored."""
    fatal: str = ""
    """The sentence of the rule of the pod failure policy that failed the Job."""
    removed: set[str] = field(default_factory=set)
    """Pods taken away by the controller: they do not count."""
    next_pod: float = 0.0


class Jobs:
    """Reconciles Jobs. ``overdue`` and ``expired`` hold the uids of Jobs whose deadline, or time to live, is over."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._memory: dict[str, _Memory] = {}
        self.overdue: set[str] = set()
        self.expired: set[str] = set()

    def pod_ended(self, pod: Object) -> None:
        """Count a pod that came to its end."""
        owner = next((o for o in pod["metadata"].get("ownerReferences", ()) if o["kind"] == "Job"), None)
        if owner is None:
            return
        job = self._mirror.get("Job", pod["metadata"]["namespace"], owner["name"])
        memory = self._memory.setdefault(owner["uid"], _Memory())
        uid = pod["metadata"]["uid"]
        if uid in memory.outcomes or uid in memory.removed or job is None:
            return
        outcome = pod["status"]["phase"]
        if outcome == "Failed":
            action, words = _policy(job, pod)
            outcome = "Ignored" if action == "Ignore" else "Failed"
            memory.fatal = words if action == "FailJob" else memory.fatal
        memory.outcomes[uid] = outcome
        failed = Counter(memory.outcomes.values())["Failed"]
        memory.next_pod = time.monotonic() + (_PAUSE * 2 ** (failed - 1) if failed else 0)

    async def look(self, job: Object, pods: list[Object]) -> None:
        """Take one Job a step on. ``pods`` are those that it controls."""
        if job["metadata"].get("deletionTimestamp"):
            return
        if _condition(job, "Complete") or _condition(job, "Failed"):
            await self._collect(job)
            return
        memory = self._memory.setdefault(job["metadata"]["uid"], _Memory())
        alive = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        status: Object = {"conditions": list(job.get("status", {}).get("conditions", ()))}
        status["startTime"] = job.get("status", {}).get("startTime")
        verdict = self._verdict(job, memory)
        if verdict is not None:
            await self._remove(alive, memory)
            _conclude(status, *verdict, done=not alive)
        elif job["spec"].get("suspend"):
            await self._remove(alive, memory)
            status["startTime"] = None
            _set(status, "Suspended", "True", "JobSuspended", "Job suspended")
        else:
            if _condition(job, "Suspended"):
                _set(status, "Suspended", "False", "JobResumed", "Job resumed")
            status["startTime"] = status["startTime"] or now()
            if not alive and time.monotonic() >= memory.next_pod:
                alive = [await self._mirror.create("Pod", _pod(job))]
        await self._write(job, status | _counts(memory, alive))

    def _verdict(self, job: Object, memory: _Memory) -> tuple[str, str, str] | None:
        """Give (final condition, reason, message) once it is clear how a Job ends."""
        outcomes = Counter(memory.outcomes.values())
        if outcomes["Succeeded"]:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if memory.fatal:
            return "Failed", "PodFailurePolicy", memory.fatal
        if outcomes["Failed"] > job["spec"].get("backoffLimit", 6):
            return "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline, begun = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
        late = deadline is not None and begun and not job["spec"].get("suspend") and _age(begun) >= deadline
        if late or job["metadata"]["uid"] in self.overdue:
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    async def _remove(self, pods: list[Object], memory: _Memory) -> None:
        for pod in pods:
            memory.removed.add(pod["metadata"]["uid"])
            if not pod["metadata"].get("deletionTimestamp"):
                await self._mirror.delete("Pod", pod)

    async def _write(self, job: Object, status: Object) -> None:
        known = job.get("status", {})
        status["conditions"] = stamped(status["conditions"], known.get("conditions", ()))
        if any(known.get(key) != value for key, value in status.items()):
            await self._mirror.merge("Job", job, {"status": status}, "/status")

    async def _collect(self, job: Object) -> None:
        """Delete a finished Job once its time to live is over."""
        lifetime = job["spec"].get("ttlSecondsAfterFinished")
        if lifetime is None:
            return
        ended = _condition(job, "Complete") or _condition(job, "Failed") or {}
        if job["metadata"]["uid"] in self.expired or _age(ended["lastTransitionTime"]) >= lifetime:
            await self._mirror.delete("Job", job)


def _policy(job: Object, pod: Object) -> tuple[str, str]:
    """Give (action, sentence) of the first rule of the Job's pod failure policy that fits; Count where none does."""
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    states = pod["status"].get("containerStatuses", ())
    codes = {state["name"]: state["state"].get("terminated", {}).get("exitCode", 0) for state in states}
    conditions = {(c["type"], c["status"]) for c in pod["status"].get("conditions", ())}
    for number, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", ())):
        ending = f"matching {rule['action']} rule at index {number}"
        asked = rule.get("onExitCodes")
        for container, code in codes.items() if asked else ():
            listed = code in asked["values"]
            if code and asked.get("containerName") in (None, container) and listed == (asked["operator"] == "In"):
                return rule["action"], f"Container {container} for pod {name} failed with exit code {code} {ending}"
        for pattern in rule.get("onPodConditions") or ():
            if (pattern["type"], pattern.get("status", "True")) in conditions:
                return rule["action"], f"Pod {name} has condition {pattern['type']} {ending}"
    return "Count", ""


def _conclude(status: Object, final: str, reason: str, message: str, *, done: bool) -> None:
    """Say how the Job ends; that it did, only once no pod of it is left running."""
    target = "SuccessCriteriaMet" if final == "Complete" else "FailureTarget"
    known = any(condition["type"] == target for condition in status["conditions"])
    _set(status, target, "True", reason, message)
    if done and known:
        _set(status, final, "True", reason, message)
        if final == "Complete":
            status["completionTime"] = now()


def _counts(memory: _Memory, alive: list[Object]) -> Object:
    """Give the numbers of a Job's status; None, which removes the field, stands for 0."""
    outcomes = Counter(memory.outcomes.values())
    active = [pod for pod in alive if not pod["metadata"].get("deletionTimestamp")]
    ready = [pod for pod in active if _condition(pod, "Ready")]
    return {
        "active": len(active) or None, "ready": len(ready), "succeeded": outcomes["Succeeded"] or None,
        "failed": outcomes["Failed"] or None, "terminating": len(alive) - len(active), "uncountedTerminatedPods": {},
    }  # fmt: skip


def _pod(job: Object) -> Object:
    """Make a pod from the Job's template."""
    metadata, template = job["metadata"], job["spec"]["template"]
    labels = {
        "batch.kubernetes.io/job-name": metadata["name"], "batch.kubernetes.io/controller-uid": metadata["uid"],
        "job-name": metadata["name"], "controller-uid": metadata["uid"],
    }  # fmt: skip
    return pod_of("batch/v1", "Job", job, template, labels)


def pod_of(api_version: str, kind: str, owner: Object, template: Object, labels: dict[str, str]) -> Object:
    """Make a pod of an owner from a template, with a name of its own."""
    metadata, given = owner["metadata"], template.get("metadata", {})
    reference = {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
        "metadata": {
            "generateName": f"{metadata['name'][:57]}-", "namespace": metadata["namespace"],
            "labels": {**given.get("labels", {}), **labels}, "annotations": given.get("annotations", {}),
            "ownerReferences": [reference], "finalizers": [FINALIZER],
        },
    }  # fmt: skip


def _set(status: Object, type_: str, value: str, reason: str, message: str) -> None:
    condition = {"type": type_, "status": value, "reason": reason, "message": message}
    known = next((c for c in status["conditions"] if c["type"] == type_ and c["status"] == value), {})
    others = [c for c in status["conditions"] if c["type"] != type_]
    status["conditions"] = [*others, known | condition]


def _condition(obj: Object, type_: str) -> Object | None:
    """Give a condition that is True, or None."""
    conditions = obj.get("status", {}).get("conditions", ())
    return next((c for c in conditions if c["type"] == type_ and c["status"] == "True"), None)


def _age(moment: str) -> float:
    return time.time() - datetime.fromisoformat(moment).timestamp()
