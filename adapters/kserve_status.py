"""What an InferenceService tells about itself, held against what was asked of it. Pure.

KServe's ``observedGeneration`` is that of what it made, so it does not say whether KServe has seen the newest spec.
A revision that was not there when the template was written does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.kubernetes_api import Object
from adapters.kubernetes_kserve import KNATIVE, STANDARD, TEMPLATE, Memory
from adapters.kubernetes_serving import Failure
from adapters.kubernetes_verdicts import HOPELESS_EXIT, Rollout, release_of, said
from adapters.logs import plain

REVISION = "serving.knative.dev/revision"
"""Label by which Knative tells the pods of revisions apart."""
_STANDARD_WORDS = frozenset({STANDARD, "RawDeployment"})
_WORDS = 400
_NOTHING = Rollout(
    asked=(None, None), wanted=1, available=0, complete=False, proven=False, latched=None, rejected=None,
    asleep=False, refused="", late=False, canary=None,
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """An InferenceService, and what is remembered beside it."""

    memory: Memory
    url: str
    is_ours: bool
    """Whether it has the template that is remembered: else somebody died, or bent it, between the two writes."""
    created: str
    """Name of the newest revision."""
    loaded: bool
    """Whether the newest revision is of this template, and can answer."""
    routed: Mapping[str, int]
    """Names of the revisions that get requests, and how many per cent."""
    percent: int | None
    """``canaryTrafficPercent`` as it is written."""
    standard: bool
    """Whether KServe made a Deployment of it, which has no revisions."""
    asleep: bool
    """Whether nothing runs because nobody asks."""
    verdict: Failure | None
    """What KServe itself says about the file, where that is final."""
    words: str
    """What KServe says is in the way; empty where nothing is."""

    @classmethod
    def of(cls, found: Object, memory: Memory) -> Told:
        """Read an InferenceService, which may be trimmed to metadata, the predictor's annotations, share and status."""
        wanted, status = found["spec"].get("predictor") or {}, found.get("status") or {}
        part: Mapping[str, Any] = (status.get("components") or {}).get("predictor") or {}
        notes = wanted.get("annotations") or {}
        is_ours = bool(memory.template) and notes.get(TEMPLATE) == memory.template
        created = str(part.get("latestCreatedRevision") or "")
        seen, standard = is_ours and bool(created) and created != memory.before, mode_of(found) == STANDARD
        routed: dict[str, int] = {}
        for entry in part.get("traffic") or ():
            if entry.get("percent"):
                name = str(entry.get("revisionName") or "")
                routed[name] = routed.get(name, 0) + int(entry["percent"])
        model = status.get("modelStatus") or {}
        return cls(
            memory, str(status.get("url") or ""), is_ours, created,
            loaded=seen and created == part.get("latestReadyRevision"), routed=routed,
            percent=wanted.get("canaryTrafficPercent"), standard=standard, asleep=wanted.get("minReplicas") == 0,
            verdict=_verdict(memory, model) if seen or standard else None,
            words=_words(status, model, seen=seen),
        )  # fmt: skip

    @property
    def alone(self) -> bool:
        """Whether all requests go to the newest revision, which is what is asked for."""
        return self.loaded and set(self.routed) == {self.created}

    @property
    def rollout(self) -> Rollout:
        """Give the form in which pods are judged."""
        return replace(
            _NOTHING, asked=self.memory.release, proven=self.loaded, rejected=self.memory.rejected, latched=self.latched
        )

    @property
    def latched(self) -> Failure | None:
        """Give the failure that is remembered."""
        memory = self.memory
        return Failure(memory.failed_file, memory.failure) if memory.failed_file else None

    def answering(self, pods: Sequence[Object]) -> Sequence[Object]:
        """Give those pods that requests are led to."""
        return [pod for pod in pods if self.standard or _revision(pod) in self.routed]

    def asleep_release(self) -> tuple[int | None, str | None]:
        """Say what would answer, of what sleeps until it is asked."""
        if not self.asleep:
            return None, None
        if self.memory.beside_file and set(self.routed) - {self.created}:
            return self.memory.beside
        return self.memory.release if self.loaded else (None, None)

    def in_force(self, weight: int) -> bool:
        """Whether the canary gets that share now."""
        return self.loaded and self.routed.get(self.created, 0) == weight


def mode_of(found: Object) -> str:
    """Give how KServe runs an InferenceService; empty before it has said so."""
    told = str((found.get("status") or {}).get("deploymentMode") or "")
    if not told:
        return ""
    return STANDARD if told in _STANDARD_WORDS else KNATIVE


def of_deployment(found: Object | None, told: Told) -> Rollout:
    """Give how far KServe's own Deployment is; nothing is known where it is of another template."""
    notes = ((found or {}).get("spec", {}).get("template", {}).get("metadata") or {}).get("annotations") or {}
    if found is None or not told.is_ours or notes.get(TEMPLATE) != told.memory.template:
        return told.rollout
    rollout = Rollout.of(found)
    return replace(rollout, asked=release_of(found["spec"]["template"]), rejected=told.memory.rejected,
                   latched=told.latched, asleep=False)  # fmt: skip


def _revision(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(REVISION, ""))


def _verdict(memory: Memory, model: Mapping[str, Any]) -> Failure | None:
    """Give what is final: our server's own exit code, which KServe keeps when the pods are gone."""
    info = model.get("lastFailureInfo") or {}
    blocked = model.get("transitionStatus") == "BlockedByFailedLoad"
    if not blocked or info.get("exitCode") != HOPELESS_EXIT or not memory.file:
        return None
    return Failure(memory.file, said(info) or "the server says that this file can never be served")


def _words(status: Mapping[str, Any], model: Mapping[str, Any], *, seen: bool) -> str:
    if not status.get("conditions"):
        return "KServe has not looked at it yet; does its controller run?"
    if model.get("transitionStatus") == "InvalidSpec":
        why = (model.get("lastFailureInfo") or {}).get("message") or "no reason is given"
        return f"KServe does not take it: {plain(str(why), limit=_WORDS)}"
    bad = {str(c["type"]): c for c in status["conditions"] if c.get("status") == "False" and c.get("message")}
    for kind in ("PredictorReady", "IngressReady"):
        if kind in bad and seen:
            return f"KServe says: {plain(str(bad[kind]['message']), limit=_WORDS)}"
    return ""
