"""The history of releases, read from git alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from specs.digests import digest_bytes
from specs.errors import InvalidManifest
from specs.facts import Commit, SourcedSpec
from specs.manifest import parse
from specs.modelspec import MAIN_METRIC, ModelKey, Spec
from specs.names import evidence_dir


class History(Protocol):
    """What is needed of a repository to tell its history."""

    def log(self, commit: str, path: str) -> list[Commit]:
        """Give the first-parent commits up to ``commit`` that changed ``path``, newest first."""

    def read(self, commit: str, path: str) -> bytes | None:
        """Give a file at a commit, or None."""


@dataclass(frozen=True)
class ReleaseEvent:
    """A moment at which another release was pinned on the tracked branch."""

    version: int | None
    """None where the release was removed."""
    commit: Commit
    """The commit of the tracked branch that made it so."""
    how: str
    """``promoted``, ``went back``, ``rolled back`` or ``removed``."""
    pull_request: str = ""
    merged_by: str = ""
    run: str = ""
    weights: str = ""
    exports: dict[str, str] = field(default_factory=dict)
    source: str = ""
    """Commit that asked for the run."""
    data: str = ""
    """Digest of the training data."""
    metric: str = ""
    value: float | None = None
    evidence: str = ""
    """``verified``, ``missing``, ``altered`` or ``unreadable``."""


def releases(repository: History, source: SourcedSpec) -> list[ReleaseEvent]:
    """Give all changes of ``spec.release`` on the tracked branch, oldest first."""
    events: list[ReleaseEvent] = []
    before: dict[str, Any] | None = None
    seen: set[int] = set()
    for commit, spec in _versions(repository, source):
        release = spec.release if spec else None
        content = release.model_dump(mode="json", include={"version", "run", "weights", "exports"}) if release else None
        if content == before:
            continue
        before = content
        events.append(_event(repository, source.key, commit, spec, seen))
        if release is not None:
            seen.add(release.version)
    return events


def _versions(repository: History, source: SourcedSpec) -> Iterator[tuple[Commit, Spec | None]]:
    """Give every first-parent commit of the file with what it said, oldest first; unreadable ones are skipped."""
    for commit in reversed(repository.log(source.head, source.path)):
        data = repository.read(commit.sha, source.path)
        if data is None:
            yield commit, None
            continue
        try:
            yield commit, parse(data.decode(errors="replace"), source.path, source.key).model.spec
        except InvalidManifest:
            continue


def _event(repository: History, key: ModelKey, commit: Commit, spec: Spec | None, seen: set[int]) -> ReleaseEvent:
    trailers = dict(commit.trailers)
    release = spec.release if spec else None
    pull, merged_by = trailers.get("Trunkline-Pull-Request", ""), trailers.get("Merged-by", commit.author)
    if spec is None or release is None:
        return ReleaseEvent(None, commit, "removed", pull, merged_by)
    how = "went back" if release.version in seen else "promoted"
    if trailers.get("Trunkline-Intent") == "rollback":
        how = "rolled back"
    found, state = _evidence(repository, key, commit, release.version, release.evidence)
    metric = MAIN_METRIC[spec.task]
    value = _at(found, "evaluation", "values", metric)
    return ReleaseEvent(
        version=release.version, commit=commit, how=how, pull_request=pull, merged_by=merged_by, run=release.run,
        weights=release.weights, exports=dict(release.exports), evidence=state, metric=metric,
        source=str(_at(found, "source", "commit") or ""), data=str(_at(found, "data", "train", "digest") or ""),
        value=value if isinstance(value, float) else None,
    )  # fmt: skip


def _evidence(
    repository: History, key: ModelKey, commit: Commit, version: int, digest: str | None
) -> tuple[object, str]:
    data = repository.read(commit.sha, f"{evidence_dir(*key, version)}/evidence.json")
    if data is None:
        return None, "missing"
    if digest != digest_bytes(data):
        return None, "altered"
    try:
        return json.loads(data, parse_int=float), "verified"
    except ValueError:  # pinned by hand: any bytes can be
        return None, "unreadable"


def _at(value: object, *path: str) -> object:
    """Give what lies at a path of JSON objects, None where there is no such path."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
