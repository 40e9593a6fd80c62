"""What git recorded about one release, well enough to train it again: its evidence, checked against its digests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from adapters.checkout import Checkout
from adapters.repository import Repository
from adapters.store import Store
from controller.named_data import manifest_digest
from specs.digests import DIGEST_PATTERN, digest_bytes, digest_of
from specs.errors import InvalidManifest, Stalled
from specs.exports import Gate
from specs.facts import SourcedSpec
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec
from specs.names import evidence_dir
from specs.records import EvaluationRecord, ExportRecord, RunRecord, evaluation_key, run_key
from specs.release import Release

_NAME = re.compile(r"(?P<model>.+?)(?:@v?(?P<version>[0-9]{1,9}))?")


@dataclass(frozen=True)
class RecordedRelease:
    """One release, as it was proved when it was merged."""

    key: ModelKey
    version: int
    commit: str
    """Commit of the tracked branch that pinned it first."""
    spec: Spec
    """The whole spec of then."""
    release: Release
    run: RunRecord
    evaluation: EvaluationRecord | None = None
    """Of the weights, on golden."""
    exports: tuple[tuple[str, ExportRecord], ...] = ()
    gates: tuple[Gate, ...] = ()
    origin: str = "evidence in git"
    """Where the record was found."""


def split_name(text: str) -> tuple[str, int | None]:
    """Give model and version of ``MODEL@vN``; without a version None."""
    match = _NAME.fullmatch(text)
    if match is None:
        raise Stalled("NoSuchRelease", f"{text!r} names no release; write MODEL@vN, for instance digits@v3")
    return match["model"], int(match["version"]) if match["version"] else None


def recorded(git: Repository | Checkout, store: Store, sourced: SourcedSpec, version: int | None) -> RecordedRelease:
    """Find a release (None: the current one) in the tracked branch's history; its evidence, else the store's record.

    Stalled ``NoSuchRelease``, ``EvidenceMissing`` or ``EvidenceContradicts``.
    """
    pins = list(_pins(git, sourced))
    if version is None:
        version = pins[-1][1].release.version if pins and pins[-1][1].release else None
    found = [(commit, spec, spec.release) for commit, spec in pins if spec.release and spec.release.version == version]
    if not found:
        known = ", ".join(dict.fromkeys(f"v{spec.release.version}" for _, spec in pins if spec.release)) or "none"
        raise Stalled("NoSuchRelease", f"{sourced.key} has no release v{version} in git; there is {known}")
    commit, spec, release = found[0]
    # A rollback brings no evidence of its own: it pins a run that another release proved.
    for when, _, other in [found[0], *((c, s, r) for c, s in reversed(pins) if (r := s.release))]:
        if other.run == release.run and other.weights == release.weights:
            told = _evidence(git, sourced.key, when, other)
            if told is not None:
                return _checked(_from_evidence(told, RecordedRelease(
                    sourced.key, release.version, commit, spec, release, _run(told.get("run")),
                )))  # fmt: skip
    return _checked(_from_store(store, sourced.key, commit, spec, release))


def _pins(git: Repository | Checkout, sourced: SourcedSpec) -> Iterator[tuple[str, Spec]]:
    """Give every version of the file that pins a release, oldest first."""
    steps = [s for s in git.changes(sourced.head, sourced.path) if s.blob and s.path == sourced.path]
    blobs = git.blobs(step.blob for step in steps if step.blob)
    for step in reversed(steps):
        try:
            text = blobs[step.blob or ""].decode(errors="replace")
            spec = parse(text, sourced.path, sourced.key).model.spec
        except InvalidManifest:
            continue
        if spec.release is not None:
            yield step.commit.sha, spec


def _evidence(git: Repository | Checkout, key: ModelKey, commit: str, release: Release) -> dict[str, Any] | None:
    path = f"{evidence_dir(*key, release.version)}/evidence.json"
    data = git.read(commit, path) if release.evidence else None
    if data is None:
        return None
    if digest_bytes(data) != release.evidence:
        text = f"{path} at {commit[:12]} is not what v{release.version} names; `trunkline verify-history` tells more"
        raise Stalled("EvidenceContradicts", text)
    try:
        told = json.loads(data)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _run(value: object) -> RunRecord:
    try:
        return RunRecord.model_validate(value)
    except ValidationError as error:
        text = f"the evidence holds no run record that can be read: {error.error_count()} fields are wrong"
        raise Stalled("EvidenceContradicts", text) from error


def _from_evidence(told: dict[str, Any], bare: RecordedRelease) -> RecordedRelease:
    try:
        measured = told.get("evaluation")
        records = [(each["name"], each["record"]) for each in told.get("exports") or () if each.get("record")]
        return replace(
            bare, evaluation=EvaluationRecord.model_validate(measured) if measured else None,
            exports=tuple((str(name), ExportRecord.model_validate(record)) for name, record in records),
            gates=tuple(Gate.model_validate(each["gate"]) for each in told.get("gates") or ()),
        )  # fmt: skip
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise Stalled("EvidenceContradicts", f"the evidence of v{bare.version} has another shape: {error}") from error


def _from_store(store: Store, key: ModelKey, commit: str, spec: Spec, release: Release) -> RecordedRelease:
    text = store.read(run_key(release.run))
    if text is None:
        words = f"v{release.version} of {key} has no evidence in git, and its run {release.run} is not in the store"
        raise Stalled("EvidenceMissing", words)
    golden = manifest_digest(store, spec.data.golden, spec.task)
    measured = store.read(evaluation_key(release.weights, golden)) if golden else None
    try:
        run, evaluation = RunRecord.decode(text), EvaluationRecord.decode(measured) if measured else None
    except ValidationError as error:
        raise Stalled("CorruptRecord", f"the store's record of run {release.run} cannot be read: {error}") from error
    return RecordedRelease(
        key, release.version, commit, spec, release, run, evaluation, gates=tuple(spec.gates), origin="the store alone"
    )


def _checked(found: RecordedRelease) -> RecordedRelease:
    """Refuse a record that is about something else than the release."""
    run, release = found.run, found.release
    for what, one, other in (
        ("the run's inputs", digest_of(run.inputs), release.run), ("the run", run.inputs_digest, release.run),
        ("the run's weights", run.weights, release.weights),
    ):  # fmt: skip
        if one != other:
            text = f"{what} in {found.origin} have the digest {one}, but v{found.version} pins {other}"
            raise Stalled("EvidenceContradicts", text)
    model, args = run.inputs.get("model"), run.inputs.get("args")
    data = run.dataset or str(run.inputs.get("data"))
    if not isinstance(model, dict) or not isinstance(args, dict) or not re.match(DIGEST_PATTERN, data):
        text = f"the inputs of v{found.version} name no data set of the store, base model and arguments to train with"
        raise Stalled("EvidenceContradicts", text)
    return found
