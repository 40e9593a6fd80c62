"""The chronicle: every release of every model, from what the tracked branch said, commit by commit. Pure.

Only what merged commits say counts. A version of a file that cannot be read says nothing: what it said before holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import ValidationError

from reconcilers.said import Moment, Reader, Said
from specs.digests import canonical, digest_bytes
from specs.evidence import Evidence
from specs.modelspec import ModelKey
from specs.names import evidence_dir
from specs.past import Step
from specs.release import Release

_EVIDENCE = re.compile(r"^evidence/[a-z0-9-]+\.[a-z0-9-]+/v[0-9]+/evidence\.json$")
_BATCH = 500
"""Steps whose files are in memory at once."""


class Past(Protocol):
    """What is needed of a repository to tell its past."""

    def steps(self, head: str) -> Sequence[Step]:
        """Give the first-parent line up to a commit, oldest first."""

    def contents(self, blobs: Sequence[str]) -> Mapping[str, bytes]:
        """Give contents by their git names."""


@dataclass(frozen=True)
class Proof:
    """The evidence of a release, as it was in the commit that released."""

    state: str
    """``verified``, ``missing``, ``altered`` or ``unreadable``."""
    path: str
    blob: str = ""
    """Git's name of the file's content; empty where there is none."""
    found: str = ""
    """Digest of the file, likewise."""
    problem: str = ""
    evidence: Evidence | None = None
    of: int | None = None
    """Version that the evidence is of, where that is an earlier one with the same bytes: a rollback has none itself."""


@dataclass(frozen=True)
class Event:
    """A moment at which another release was pinned."""

    moment: Moment
    how: str
    """``promoted``, ``rolled back`` (old bytes, new version), ``went back`` (a release as it was), ``altered`` (an old
    version with other content) or ``removed``."""
    proof: Proof | None = None
    earlier: int | None = None
    """Version that released the same bytes first; None where these are new."""
    replaced: int | None = None
    ended: str = ""
    """Why it is not the release any more, empty where it is."""
    ended_by: Step | None = None

    @property
    def step(self) -> Step:
        """The commit that made it so."""
        return self.moment.step

    @property
    def key(self) -> ModelKey:
        """The model."""
        return self.moment.key

    @property
    def release(self) -> Release | None:
        """The pin; None where it was removed."""
        return self.moment.after.spec.release if self.moment.after else None

    @property
    def before(self) -> Release | None:
        """The pin that it replaced."""
        return self.moment.before.spec.release if self.moment.before else None


@dataclass(frozen=True)
class EvidenceChange:
    """A commit that changed or removed a piece of evidence; git's names of the contents, empty for none."""

    step: Step
    path: str
    before: str
    after: str


@dataclass
class Chronicle:
    """The past up to one commit."""

    steps: Sequence[Step] = ()
    moments: list[Moment] = field(default_factory=list)
    events: dict[ModelKey, list[Event]] = field(default_factory=dict)
    evidence: list[EvidenceChange] = field(default_factory=list)
    now: dict[ModelKey, Said] = field(default_factory=dict)
    """What the last commit says."""

    def find(self, key: ModelKey, version: int | None = None) -> Event | None:
        """Give the event that first released a version; without one, the last that released anything."""
        events = [event for event in self.events.get(key, []) if event.release is not None]
        if version is None:
            return events[-1] if events else None
        return next((e for e in events if e.release and e.release.version == version), None)


def chronicle(past: Past, head: str, prefix: str = "", only: str = "") -> Chronicle:
    """Tell the past up to ``head`` of models in files below ``prefix``; ``only`` reads no file without that word."""
    story, reader = Chronicle(past.steps(head)), Reader(prefix.strip("/"), only.encode())
    pins: list[tuple[Moment, str]] = []
    evidence: dict[str, str] = {}
    known: dict[ModelKey, _Known] = {}
    for batch in (story.steps[at : at + _BATCH] for at in range(0, len(story.steps), _BATCH)):
        wanted = dict.fromkeys(blob for step in batch for blob in reader.wanted(step))
        contents = past.contents(list(wanted))
        for step in batch:
            for path, (before, after) in step.files.items():
                if _EVIDENCE.match(path):
                    story.evidence.append(EvidenceChange(step, path, before, after))
                    evidence[path] = after
            for moment in reader.apply(step, contents):
                story.moments.append(moment)
                if _pin(moment.before) != _pin(moment.after):
                    pins.append((moment, evidence.get(evidence_path(moment), "")))
    story.now = dict(reader.said)
    for at in range(0, len(pins), _BATCH):
        proofs = past.contents(list({blob for _, blob in pins[at : at + _BATCH] if blob}))
        for moment, blob in pins[at : at + _BATCH]:
            event = _event(moment, _proof(moment, blob, proofs.get(blob)), known.setdefault(moment.key, _Known()))
            story.events.setdefault(moment.key, []).append(event)
    for events in story.events.values():
        events[:] = [_ended(event, later) for event, later in zip(events, [*events[1:], None], strict=True)]
    return story


def evidence_path(moment: Moment) -> str:
    """Give where the evidence of what a moment pins must lie; empty where it pins nothing."""
    release = moment.after.spec.release if moment.after else None
    return f"{evidence_dir(*moment.key, release.version)}/evidence.json" if release else ""


def _pin(said: Said | None) -> dict[str, Any] | None:
    release = said.spec.release if said else None
    return release.model_dump(include={"version", "run", "weights", "exports", "evidence"}) if release else None


@dataclass
class _Known:
    """What one model released so far."""

    first: dict[bytes, Event] = field(default_factory=dict)
    """What is released, as canonical text, to the event that released it first."""
    pins: dict[int, set[tuple[bytes, str | None]]] = field(default_factory=dict)
    """Version to what it ever pinned: content and evidence."""


def _event(moment: Moment, proof: Proof, known: _Known) -> Event:
    release = moment.after.spec.release if moment.after else None
    old = moment.before.spec.release if moment.before else None
    replaced = old.version if old else None
    if release is None:
        return Event(moment, "removed", replaced=replaced)
    content = canonical(release.content())
    first, pins = known.first.get(content), known.pins.setdefault(release.version, set())
    earlier = first.release if first else None
    how = "promoted" if earlier is None or release.evidence else "rolled back"
    if pins:
        how = "went back" if (content, release.evidence) in pins else "altered"
    if first is not None and earlier is not None and how == "rolled back" and proof.state == "missing":
        proof = replace(first.proof, of=earlier.version) if first.proof else proof
    event = Event(moment, how, proof, earlier.version if earlier else None, replaced)
    known.first.setdefault(content, event)
    pins.add((content, release.evidence))
    return event


def _proof(moment: Moment, blob: str, data: bytes | None) -> Proof:
    path, release = evidence_path(moment), moment.after.spec.release if moment.after else None
    if data is None or release is None:
        return Proof("missing", path)
    digest = digest_bytes(data)
    if digest != release.evidence:
        return Proof("altered", path, blob, digest)
    try:
        evidence = Evidence.decode(data)
        canonical(json.loads(data))  # NaN and infinity pass the first and have no digest
        return Proof("verified", path, blob, digest, evidence=evidence)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return Proof("unreadable", path, blob, digest, f"{where}: {first['msg']}" if where else first["msg"])
    except ValueError as error:
        return Proof("unreadable", path, blob, digest, str(error))


def _ended(event: Event, later: Event | None) -> Event:
    if later is None or event.release is None:
        return event
    version = later.release.version if later.release else None
    words = {
        "promoted": f"superseded by v{version}", "rolled back": f"rolled back by v{version}",
        "went back": f"reverted to v{version}", "altered": f"pinned anew as v{version}", "removed": "removed",
    }  # fmt: skip
    return replace(event, ended=words[later.how], ended_by=later.step)
