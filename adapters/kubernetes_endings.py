"""What a Job and its pods tell: whether it waits, works or is over, and why it ended as it did. Pure.

Only the Job's own conditions say that it is over; pods explain it, and may be gone already. Messages do not change
while nothing changes, so that a status that shows them does not either.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters.logs import plain, redact

Object = dict[str, Any]
PERMANENT_EXIT = 10
QUEUE = "kueue.x-k8s.io/queue-name"

_LIMIT = 500
_SIGNALLED = 128
_MEMORY = re.compile(r"MemoryError|OutOfMemory|out of memory|can(no|')t allocate memory|std::bad_alloc", re.IGNORECASE)
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_CANNOT_START = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
_DISRUPTIONS = {
    "PreemptionByScheduler": ("Preempted", "had to make room for a pod of higher priority"),
    "PreemptionByKubeScheduler": ("Preempted", "had to make room for a pod of higher priority"),
    "DeletionByTaintManager": ("NodeLost", "its node failed or was tainted"),
    "DeletionByPodGC": ("NodeLost", "its node is gone"),
    "EvictionByEvictionAPI": ("Evicted", "was evicted, as when a node is drained"),
    "TerminationByKubelet": ("Evicted", "its node ran short of something or was shut down"),
}
_POD_REASONS = {
    "Evicted": "Evicted", "Preempting": "Preempted", "Preempted": "Preempted", "NodeLost": "NodeLost",
    "NodeAffinity": "NodeLost", "NodeShutdown": "NodeLost", "Shutdown": "NodeLost", "Terminated": "NodeLost",
    "UnexpectedAdmissionError": "NodeLost", "OutOfcpu": "NodeLost", "OutOfmemory": "NodeLost",
}  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``reason`` is empty where it ended well."""

    code: int | None
    reason: str
    message: str


def conclusion(job: Object) -> Object | None:
    """Give the condition that says that a Job is over (no pod of it runs any more), or None."""
    for found in (job.get("status") or {}).get("conditions") or ():
        if found.get("type") in ("Complete", "Failed") and found.get("status") == "True":
            return dict(found)
    return None


def ended_well(condition: Object) -> bool:
    """Whether a conclusion says that the pod ended with exit code 0."""
    return bool(condition["type"] == "Complete")


def unix(time: object) -> float:
    """Give a time of Kubernetes as Unix time in seconds; 0 where there is none."""
    return datetime.fromisoformat(str(time)).timestamp() if time else 0.0


def ending(job: Object, condition: Object, pods: Sequence[Object]) -> Ending:
    """Explain the end of a Job that failed, by its pods as far as they are still there."""
    pod = _decisive(pods)
    end = _terminated(pod)
    code = end.get("exitCode")
    words = str(end.get("message") or "")
    reason, why = _verdict(job, condition, pod, end, words)
    if reason == "Permanent":
        code = PERMANENT_EXIT
    said = plain(words, limit=_LIMIT - len(why) - 2)
    return Ending(code, reason, f"{why}: {said}" if said else why)


def suspension(job: Object) -> str:
    """Say why a Job is suspended; empty where it is not."""
    if not job["spec"].get("suspend"):
        return ""
    queue = (job["metadata"].get("labels") or {}).get(QUEUE)
    if queue:
        return f"waits until Kueue's queue {queue} admits it"
    what = f"{job.get('kind') or 'Job'} {job['metadata']['name']}"
    return f"{what} is suspended, and not for a queue: somebody set spec.suspend; set it to false"


def hindrance(job: Object, pods: Sequence[Object], *, patient: bool, kind: str = "Job") -> tuple[str, str]:
    """Say what keeps a Job from working: a reason, and the sentence for people; both empty where nothing is known.

    ``patient`` says that it is too early to wonder why there is no pod.
    """
    alive = [pod for pod in _by_name(pods) if _phase(pod) not in ("Succeeded", "Failed")]
    for pod in alive:
        for container in _statuses(pod):
            waiting = (container.get("state") or {}).get("waiting") or {}
            said = brief(waiting.get("message"))
            if waiting.get("reason") in _IMAGE:
                image = brief(container.get("image"))
                return "ImageUnavailable", f"its image {image} cannot be pulled; mend its name, or the access to it"
            if waiting.get("reason") in _CONFIG:
                return "ContainerConfig", f"its container cannot be made: {said or waiting['reason']}"
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
                # What follows tells of pods that might be put out instead, and changes often.
                words = brief(str(condition.get("message") or "").partition(" preemption:")[0])
                return "Unschedulable", f"no node takes its pod: {words}"
    if pods or patient:
        return "", ""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    often = "a missing service account, or a quota" if kind == "Job" else "a runtime that fits not, or a quota"
    hint = f"`kubectl -n {namespace} describe {kind.lower()} {name}` says why (often {often})"
    return "NoPod", f"the cluster has made no pod of it yet; {hint}"


def _verdict(job: Object, condition: Object, pod: Object, end: Object, said: str) -> tuple[str, str]:
    """Give the reason, and the sentence for people."""
    code = end.get("exitCode")
    # Of our rules only the one for exit code 10 fails a Job, so that is known without its pod.
    if code == PERMANENT_EXIT or condition.get("reason") == "PodFailurePolicy":
        return "Permanent", "never going to work"
    if end.get("reason") == "OOMKilled":
        return "OutOfMemory", "it used more memory than its limit; raise resources.limits.memory, or lower batch"
    if "DeadlineExceeded" in (condition.get("reason"), (pod.get("status") or {}).get("reason")):
        deadline = job["spec"].get("activeDeadlineSeconds")
        return "DeadlineExceeded", "ran longer than its deadline" + (f" of {deadline} s" if deadline else "")
    disruption = _disruption(pod)
    if disruption is not None:
        return disruption
    if not isinstance(code, int):
        return _without_exit(condition, pod)
    return _by_exit_code(code, end, said)


def _by_exit_code(code: int, end: Object, said: str) -> tuple[str, str]:
    if end.get("reason") in _CANNOT_START:
        return "StartError", "its container could not start"
    if _MEMORY.search(said):
        return "OutOfMemory", f"ran out of memory (exit code {code})"
    number = code - _SIGNALLED
    if number in (signal.SIGKILL, signal.SIGTERM):
        return "Killed", f"killed by signal {number}"
    name = f" ({signal.Signals(number).name})" if number in set(signal.Signals) else ""
    return "Error", f"exit code {code}{name}"


def _without_exit(condition: Object, pod: Object) -> tuple[str, str]:
    """Explain a failure of which no exit code is known."""
    for container in _statuses(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _IMAGE:
            return "ImageUnavailable", f"its image {brief(container.get('image'))} could not be pulled"
    words = brief(condition.get("message"))
    gone = "its pod is gone, and with it the reason" if not pod else "its pod does not say why"
    return "Error", f"{gone} ({condition.get('reason') or 'Failed'}{f': {words}' if words else ''})"


def _disruption(pod: Object) -> tuple[str, str] | None:
    """Say whether the cluster itself ended a pod."""
    status = pod.get("status") or {}
    words = brief(status.get("message"))
    if status.get("reason") in _POD_REASONS:
        return _POD_REASONS[status["reason"]], f"ended by its node ({status['reason']}{f': {words}' if words else ''})"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            known = _DISRUPTIONS.get(str(condition.get("reason")))
            return known or ("Evicted", f"ended by the cluster ({condition.get('reason') or 'DisruptionTarget'})")
    return None


def _decisive(pods: Sequence[Object]) -> Object:
    """Give the pod that failed the Job: one that can never work, else the last one, rather one that failed by itself.

    Of several nodes one fails, and the others are ended for it.
    """
    failed = [pod for pod in _by_name(pods) if _phase(pod) == "Failed"] or list(_by_name(pods))

    def weight(pod: Object) -> tuple[bool, bool, bool, str]:
        end = _terminated(pod)
        ended = end.get("exitCode") in (_SIGNALLED + signal.SIGKILL, _SIGNALLED + signal.SIGTERM) and len(failed) > 1
        permanent = end.get("exitCode") == PERMANENT_EXIT
        return permanent, _disruption(pod) is None, not ended, str(end.get("finishedAt") or "")

    return max(failed, key=weight, default={})


def _terminated(pod: Object) -> Object:
    """Give how the container of a pod ended: ours is named like the component; others may have been added to it."""
    component = ((pod.get("metadata") or {}).get("labels") or {}).get("app.kubernetes.io/component")
    for container in sorted(_statuses(pod), key=lambda c: c.get("name") != component):
        end = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
        return dict(end or {})
    return {}


def brief(words: object) -> str:
    """Give the beginning of what the cluster says, fit for people's eyes."""
    return plain(redact(str(words or ""), {})[: _LIMIT // 2])  # a URL cut in two could not be recognised any more


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _statuses(pod: Object) -> Sequence[Object]:
    return (pod.get("status") or {}).get("containerStatuses") or ()


def _by_name(pods: Sequence[Object]) -> Sequence[Object]:
    """Sort, so that the same world gives the same words."""
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
