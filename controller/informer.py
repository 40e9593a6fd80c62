"""What the watches told: the newest version of every object that matters, trimmed to what is read again.

kopf tells what changed. It does not tell what vanished while a watch was broken, so now and then the names in the
cluster are compared with the names in here; what is missing there was deleted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any

from adapters.kubernetes_api import DEPLOYMENT, INFERENCE_SERVICE, JOB, MODEL_SPEC, TRAIN_JOB, Kind, Object
from adapters.kubernetes_pods import MODEL
from specs.digests import desired_digest
from specs.modelspec import ModelKey

OPTIONAL = (INFERENCE_SERVICE, TRAIN_JOB)
"""Kinds that a cluster may not know."""
KINDS = (MODEL_SPEC, JOB, DEPLOYMENT, *OPTIONAL)
Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Live:
    """A ModelSpec as the cluster has it. Ten thousand of them must fit into memory, so text stays text."""

    key: ModelKey
    uid: str
    generation: int
    version: str
    """``metadata.resourceVersion``."""
    digest: str
    """``desired_digest`` of its spec."""
    status: bytes
    """JSON text."""
    conditions: tuple[tuple[str, str], ...]
    """Type and status of each condition."""
    seen: float
    """When it was taken in, on the clock of this process."""


@dataclass(frozen=True)
class Change:
    """What an event means: which model to look at, and whether what is asked for changed."""

    key: ModelKey
    desired: bool
    gone: bool = False


class Informer:
    """Keeps what is known; any thread may read. Every method is quick and does no IO."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = RLock()
        self._conditions: dict[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]] = {}
        self._models: dict[ModelKey, Live] = {}
        self._children: dict[str, dict[Name, bytes]] = {DEPLOYMENT.plural: {}, INFERENCE_SERVICE.plural: {}}
        self._synced: set[str] = set()
        self._known: dict[str, dict[Name, str]] = {kind.plural: {} for kind in KINDS}

    def saw(self, kind: Kind, event: str | None, body: Mapping[str, Any]) -> Change | None:
        """Take in what a watch (or an answer to a write of ours) says; None where it is nothing new.

        ``event`` is ADDED, MODIFIED or DELETED; None is an object in a list.
        """
        metadata = body["metadata"]
        name = (str(metadata["namespace"]), str(metadata["name"]))
        version = str(metadata.get("resourceVersion", ""))
        with self._lock:
            if event == "DELETED":
                return self._gone(kind, name, metadata)
            before = self._known[kind.plural].get(name)
            if before is not None and not _is_newer(version, before):
                return None
            self._known[kind.plural][name] = version
            if kind is not MODEL_SPEC:
                if kind.plural in self._children:
                    self._children[kind.plural][name] = _trimmed(kind, body)
                return _of_owner(metadata)
            live = self._live(body)
            old = self._models.get(live.key)
            self._models[live.key] = live
            same = old is not None and (old.uid, old.digest) == (live.uid, live.digest)
            return Change(live.key, desired=not same)

    def mark_synced(self, kind: Kind) -> None:
        """Note that everything of a kind is known, so that what is not here is not there."""
        self._synced.add(kind.plural)

    def is_synced(self, kind: Kind) -> bool:
        """Whether everything of a kind is known."""
        return kind.plural in self._synced

    def model(self, key: ModelKey) -> Live | None:
        """Give a ModelSpec, or None where there is none."""
        return self._models.get(key)

    def models(self) -> Sequence[ModelKey]:
        """Give all ModelSpecs."""
        with self._lock:
            return list(self._models)

    def conditions(self) -> Counter[tuple[str, str]]:
        """Count the models by type and status of their conditions."""
        with self._lock:
            return Counter(condition for live in self._models.values() for condition in live.conditions)

    def child(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Give a Deployment or InferenceService of ours, trimmed to metadata, what is asked for, and status."""
        text = self._children[kind.plural].get((namespace, name))
        return json.loads(text) if text is not None else None

    def deployment(self, namespace: str, name: str) -> Object | None:
        """Give a Deployment of ours, trimmed likewise."""
        return self.child(DEPLOYMENT, namespace, name)

    def owner_of(self, kind: Kind, name: Name) -> Change | None:
        """Give the model that a kept child belongs to, as progress of it."""
        text = self._children[kind.plural].get(name)
        return _of_owner(json.loads(text)["metadata"]) if text is not None else None

    def count(self, kind: Kind) -> int:
        """Give how many objects of a kind there are."""
        return len(self._known[kind.plural])

    def missing(self, kind: Kind, listed: Sequence[Object]) -> list[Name]:
        """Give those of a fresh list that are not in here yet, or only in an older version."""
        known = self._known[kind.plural]
        with self._lock:
            return [
                name
                for metadata in listed
                for name in [(metadata["namespace"], metadata["name"])]
                if name not in known or _is_newer(metadata["resourceVersion"], known[name])
            ]

    def vanished(self, kind: Kind, before: Mapping[Name, str], listed: Sequence[Object]) -> list[Change]:
        """Drop what a list does not have although it was here before the list was asked for (``snapshot``)."""
        there = {(metadata["namespace"], metadata["name"]) for metadata in listed}
        changes = []
        with self._lock:
            for name in before.keys() - there:
                if self._known[kind.plural].get(name) == before[name]:  # else it changed since, so it was there
                    change = self._gone(kind, name, {})
                    changes += [change] if change else []
        return changes

    def snapshot(self, kind: Kind) -> dict[Name, str]:
        """Give all known names and versions of a kind."""
        with self._lock:
            return dict(self._known[kind.plural])

    def _live(self, body: Mapping[str, Any]) -> Live:
        metadata, status = body["metadata"], body.get("status") or {}
        found = tuple((str(c.get("type")), str(c.get("status"))) for c in status.get("conditions") or ())
        return Live(
            ModelKey(str(metadata["namespace"]), str(metadata["name"])), str(metadata["uid"]),
            int(metadata.get("generation") or 0), str(metadata["resourceVersion"]),
            desired_digest(body.get("spec") or {}), json.dumps(status, separators=(",", ":")).encode(),
            self._conditions.setdefault(found, found), self._clock(),
        )  # fmt: skip

    def _gone(self, kind: Kind, name: Name, metadata: Mapping[str, Any]) -> Change | None:
        was_known = self._known[kind.plural].pop(name, None) is not None
        if kind is MODEL_SPEC:
            key = ModelKey(*name)
            self._models.pop(key, None)
            return Change(key, desired=True, gone=True) if was_known else None
        text = self._children.get(kind.plural, {}).pop(name, None)
        return _of_owner(metadata or (json.loads(text)["metadata"] if text else {"namespace": name[0]}))


def _is_newer(version: str, than: str) -> bool:
    """Compare resourceVersions: the API promises now that they are numbers that grow."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than


def _of_owner(metadata: Mapping[str, Any]) -> Change | None:
    model = (metadata.get("labels") or {}).get(MODEL)
    return Change(ModelKey(str(metadata["namespace"]), model), desired=False) if model else None


def _trimmed(kind: Kind, body: Mapping[str, Any]) -> bytes:
    metadata, spec = body["metadata"], body.get("spec") or {}
    wanted = ("name", "namespace", "uid", "generation", "resourceVersion", "labels", "annotations", "ownerReferences",
              "deletionTimestamp")  # fmt: skip
    kept = {
        "metadata": {key: metadata[key] for key in wanted if key in metadata},
        "spec": _asked_of_kserve(spec) if kind is INFERENCE_SERVICE else _asked_of_a_deployment(spec),
        "status": body.get("status") or {},
    }
    return json.dumps(kept, separators=(",", ":")).encode()


def _asked_of_a_deployment(spec: Mapping[str, Any]) -> Object:
    template = (spec.get("template") or {}).get("metadata") or {}
    notes = template.get("annotations") or {}
    return {"replicas": spec.get("replicas"), "template": {"metadata": {"annotations": notes}}}


def _asked_of_kserve(spec: Mapping[str, Any]) -> Object:
    wanted = ("annotations", "minReplicas", "canaryTrafficPercent")
    predictor = spec.get("predictor") or {}
    return {"predictor": {key: predictor[key] for key in wanted if key in predictor}}
