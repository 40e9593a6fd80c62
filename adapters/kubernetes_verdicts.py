"""What a model's Deployment and pods tell: what answers, what is asked for, and what can never work. Pure.

A verdict on a file must not be passed lightly, since the release falls back on it: the server itself says that the
file can never load (exit code 10), or no pod of a new version ever got ready and one died again and again.
All else that is in the way (no room, no image, a quota) is told in words and waited for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters import kubernetes_canary
from adapters.kubernetes_api import Object
from adapters.kubernetes_serving import (
    FAILED_FILE,
    FAILURE,
    FILE,
    REJECTED_FILE,
    REJECTION,
    REPLICAS,
    VERSION,
    Failure,
)
from adapters.logs import plain
from specs.serving_facts import CanaryState, Rejected

HOPELESS_EXIT = 10
CANARY_FAILED = "CanaryFailed"
"""Begins the line of a server that cannot load what is to be beside what it serves; the file's digest follows."""
_DEATHS = 3
"""A server that died so often before it was ever ready is given up."""
_WORDS = 400
_SIGN = "trunkline: "
"""Begins the line in which our processes say why they end."""
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_NO_CONTAINER = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
Release = tuple[int | None, str | None]
"""Version and file, as annotations of a Deployment or a pod say."""


@dataclass(frozen=True)
class Rollout:
    """A Deployment, as far as its own status tells."""

    asked: Release
    wanted: int
    available: int
    complete: bool
    """Whether all pods are of the newest template, and there are as many as wanted."""
    proven: bool
    """Whether the newest template was rolled out to its end once: what fails later is no fault of the file."""
    latched: Failure | None
    rejected: Rejected | None
    asleep: bool
    """Whether somebody else than the release set it to 0 replicas."""
    refused: str
    """Why the cluster makes no pods; empty where it does."""
    late: bool
    canary: CanaryState | None
    """What is beside it in its pods, ready once all of them are made."""

    @classmethod
    def of(cls, deployment: Object) -> Rollout:
        """Read a Deployment, which may be trimmed to metadata, replicas, the template's annotations and status."""
        metadata, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
        notes = metadata.get("annotations") or {}
        wanted = 1 if spec.get("replicas") is None else int(spec["replicas"])
        seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
        counts = [int(status.get(field) or 0) for field in ("replicas", "updatedReplicas")]
        conditions = {c["type"]: c for c in status.get("conditions") or ()} if seen else {}
        progress = conditions.get("Progressing", {}).get("reason")
        failed = conditions.get("ReplicaFailure", {})
        return cls(
            asked=release_of(spec["template"]), wanted=wanted, available=int(status.get("availableReplicas") or 0),
            complete=seen and counts == [wanted, wanted], proven=progress == "NewReplicaSetAvailable",
            latched=Failure(notes[FAILED_FILE], notes.get(FAILURE, "")) if notes.get(FAILED_FILE) else None,
            rejected=Rejected(notes[REJECTED_FILE], notes.get(REJECTION, "")) if notes.get(REJECTED_FILE) else None,
            asleep=wanted == 0 and notes.get(REPLICAS) != "0",
            refused=plain(failed.get("message") or "", limit=_WORDS) if failed.get("status") == "True" else "",
            late=progress == "ProgressDeadlineExceeded", canary=kubernetes_canary.read(deployment),
        )  # fmt: skip

    @property
    def settled(self) -> bool:
        """Whether the Deployment alone tells all: every pod is new, and there is one that answers, or none wanted."""
        return self.complete and (self.available > 0 or self.wanted == 0)


def release_of(obj: Object) -> Release:
    """Read version and file from annotations; (None, None) where it has none of ours."""
    notes = obj["metadata"].get("annotations") or {}
    version = str(notes.get(VERSION, ""))
    return (int(version) if version.isdecimal() else None), notes.get(FILE)


def _is_newest(rollout: Rollout, pod: Object) -> bool:
    """Whether a pod has what is asked for, and beside it what is to be beside it."""
    notes = pod["metadata"].get("annotations") or {}
    beside = rollout.canary.file if rollout.canary is not None else None
    return release_of(pod) == rollout.asked and notes.get(kubernetes_canary.CANARY_FILE) == beside


def answering(rollout: Rollout, pods: Sequence[Object]) -> tuple[Release | None, int]:
    """Give what most requests are answered by, None where nothing answers; and how many pods answer.

    While a new version is rolled out that is an old one as long as any answers.
    """
    ready = Counter(release_of(pod) for pod in pods if _is_ready(pod))
    old = [(count, release) for release, count in ready.items() if release != rollout.asked]
    if old:
        return max(old, key=lambda entry: (entry[0], -(entry[1][0] or 0)))[1], ready.total()
    return (rollout.asked, ready.total()) if ready else (None, 0)


def failure(rollout: Rollout, pods: Sequence[Object]) -> Failure | None:
    """Give the verdict on what is asked for, None where there is none (yet)."""
    mine = [pod for pod in _by_name(pods) if _is_newest(rollout, pod)]
    # What serves has served: where pods die that have something beside it, that is what they die of.
    file = rollout.canary.file if rollout.canary is not None else rollout.asked[1]
    if file is None:
        return None
    for pod in mine:
        for end in _ends(pod):
            if end.get("exitCode") == HOPELESS_EXIT and (rollout.canary is None or _blames(end, file)):
                return Failure(file, said(end) or "the server says that this file can never be served")
    for pod in () if rollout.proven else mine:
        for container in _containers(pod):
            deaths = int(container.get("restartCount") or 0)
            last = (container.get("lastState") or {}).get("terminated")
            if deaths >= _DEATHS and last and not container.get("ready"):
                return Failure(file, f"its server died again and again before it was ready: {_death(last)}")
    return None


def hindrance(rollout: Rollout, pods: Sequence[Object]) -> str:
    """Say what keeps the asked-for version from answering that may pass; empty where nothing is known."""
    if rollout.asleep:
        return "somebody set it to 0 replicas"
    if rollout.refused:
        return f"its pods cannot be made: {rollout.refused}"
    mine = [pod for pod in _by_name(pods) if _is_newest(rollout, pod) and not _is_ready(pod)]
    for pod in mine:
        words = _hindrance_of(pod)
        if words:
            return words
    return "it is not ready although there was time enough; look at the logs of its pods" if rollout.late else ""


def _hindrance_of(pod: Object) -> str:
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _NO_IMAGE:
            return f"its image {plain(str(container.get('image', '')), limit=200)} cannot be pulled"
        if waiting.get("reason") in _NO_CONTAINER:
            return f"its container cannot be made: {plain(str(waiting.get('message') or ''), limit=_WORDS)}"
        for end in _ends_of(container):
            return f"its server died and is started again: {_death(end)}"
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node takes its pod: {plain(str(condition.get('message') or ''), limit=_WORDS)}"
    return ""


def _death(end: Object) -> str:
    if end.get("reason") == "OOMKilled":
        return "it needs more memory than spec.serving.resources.limits allows (OOMKilled)"
    words = said(end)
    return f"exit code {end.get('exitCode')}" + (f", {words}" if words else "")


def said(end: Mapping[str, Any]) -> str:
    """Give a dead server's own words: its line for us, or else its last ones."""
    return plain(_line(end)[:_WORDS] or str(end.get("message") or ""), limit=_WORDS)


def _line(end: Mapping[str, Any]) -> str:
    """Give its line for us, empty where there is none."""
    text = str(end.get("message") or "")
    ours = [line.removeprefix(_SIGN) for line in text.splitlines() if line.startswith(_SIGN)]
    return ours[-1] if ours else ""


def _blames(end: Object, file: str) -> bool:
    """Whether a server ended because this file cannot be served beside what it serves."""
    return _line(end).startswith(f"{CANARY_FAILED}: {file}")


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def _ends(pod: Object) -> Iterator[Object]:
    for container in _containers(pod):
        yield from _ends_of(container)


def _ends_of(container: Object) -> Iterator[Object]:
    """Give how a container ended, newest first."""
    for field in ("state", "lastState"):
        end = (container.get(field) or {}).get("terminated")
        if end:
            yield end


def _containers(pod: Object) -> Sequence[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _by_name(pods: Sequence[Object]) -> Sequence[Object]:
    """Sort, so that the same world gives the same words."""
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
