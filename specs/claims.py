"""The edit proof of a pull request: one that claims to be a proposal of ours changes what its intent allows, no more.

A claim is the branch's name (``trunkline/<intent>/<namespace>.<name>/<key>``), or one commit with the trailer
``Trunkline-Intent``. Who pushed it does not matter: the proof is made from what git holds. Pure; contents of files are
handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from specs.changeset import PLAIN, Changeset, FileChange
from specs.data_claims import data_evidence_flaw
from specs.diff import changes
from specs.digests import digest_bytes
from specs.edits import INTENT_FIELDS
from specs.errors import InvalidManifest, UnsafeEdit
from specs.manifest import decode, find, parse, prove, prove_rewritten
from specs.modelspec import ModelKey, Spec
from specs.names import evidence_dir, parse_branch
from specs.release import Release
from specs.signal_claims import signal_evidence_flaw
from specs.tuning_claims import tuning_evidence_flaw

Read = Callable[[str], bytes]
"""Gives the content of a blob by its git name."""

RELEASING = ("promote", "rollback")


class Standing(StrEnum):
    """How a pull request stands to the edit proof."""

    PROVED = "proved"
    """It claims to be a proposal, and changes only what that may change."""
    REFUSED = "refused"
    """It claims to be a proposal, and is not one."""
    DETACHED = "detached"
    """It was a proposal until somebody else committed to it: it is theirs now, and the proof does not apply."""
    UNCLAIMED = "unclaimed"
    """It is somebody's own."""


@dataclass(frozen=True)
class Proof:
    """The verdict, with sentences that say why."""

    standing: Standing
    sentences: tuple[str, ...] = ()
    intent: str = ""
    key: ModelKey | None = None


@dataclass(frozen=True)
class _Claim:
    intent: str
    key: ModelKey


def judge(change: Changeset, read: Read) -> Proof:
    """Say whether a pull request is what it claims to be."""
    try:
        claim = _claim(change)
        if claim is None:
            return Proof(Standing.UNCLAIMED)
        if len(change.commits) != 1:
            return Proof(Standing.DETACHED, tuple(_why_detached(change)), claim.intent, claim.key)
        field = _prove(claim, change, read)
    except UnsafeEdit as error:
        return Proof(Standing.REFUSED, (error.message,))
    sentence = f"only {field} of {claim.key} changes" + (", and its evidence" if len(change.files) > 1 else "")
    return Proof(Standing.PROVED, (sentence,), claim.intent, claim.key)


def _claim(change: Changeset) -> _Claim | None:
    """Give what the pull request says it is; UnsafeEdit where branch and commit say different things.

    Several commits say nothing together: somebody collects what was proposed, as a merge queue does.
    """
    named = parse_branch(change.branch)
    claims = [_Claim(named[0], ModelKey(named[1], named[2]))] if named else []
    if len(change.commits) != 1:
        return claims[0] if claims else None
    intent, model = (change.commits[0].trailer(f"Trunkline-{name}") for name in ("Intent", "Model"))
    if intent:
        namespace, _, name = model.rpartition("/")
        claims.append(_Claim(intent, ModelKey(namespace or "default", name)))
    elif named:
        raise UnsafeEdit(f"the commit on {change.branch} has no Trunkline-Intent trailer, so Trunkline did not make it")
    if intent and intent not in INTENT_FIELDS:
        raise UnsafeEdit(f"commit {change.commits[0].sha[:12]} claims the intent {intent!r}, which does not exist")
    if len(set(claims)) > 1:
        said = " and ".join(f"{claim.intent} {claim.key}" for claim in claims)
        raise UnsafeEdit(f"branch and commit claim different things: {said}")
    return claims[0] if claims else None


def _why_detached(change: Changeset) -> Iterator[str]:
    others = [commit for commit in change.commits if not commit.trailer("Trunkline-Intent")]
    names = ", ".join(commit.sha[:12] for commit in others[:5])
    made = f"{len(others)} of them by others ({names})" if others else "a proposal has one"
    yield f"it has {len(change.commits)} commits, {made}"


def _prove(claim: _Claim, change: Changeset, read: Read) -> str:
    """Give the field that changed, and nothing else did; UnsafeEdit otherwise."""
    folder = f"evidence/{claim.key.namespace}.{claim.key.name}/"
    evidence = [file for file in change.files if file.path.startswith(folder)]
    others = [file for file in change.files if not file.path.startswith(folder)]
    if change.commits[0].parents != 1:
        raise UnsafeEdit("its commit is a merge; a proposal is one commit on top of its target")
    for file in others:
        _check_manifest(file, claim)
    if len(others) != 1:
        names = ", ".join(file.path for file in others[:5]) or "none"
        raise UnsafeEdit(f"it changes {len(others)} files besides evidence ({names}); a proposal changes one manifest")
    before, after = (_text(version.blob, others[0].path, read) for version in _both(others[0]))
    field = _proved_field(before, after, claim)
    if claim.intent in RELEASING:
        old, new = (_release(text, others[0].path, claim.key) for text in (before, after))
        _check_release(claim, old, new, evidence, read)
    elif evidence:
        old_spec, new_spec = (parse(text, others[0].path, claim.key).model.spec for text in (before, after))
        flaw = _FLAWS[claim.intent](claim.key, old_spec, new_spec, evidence, read)
        if flaw:
            raise UnsafeEdit(flaw)
    return field


def _flaw_of_data(key: ModelKey, old: Spec, new: Spec, evidence: list[FileChange], read: Read) -> str:
    return data_evidence_flaw(key, (old.data.train, new.data.train), evidence, read)


def _flaw_of_search(key: ModelKey, old: Spec, new: Spec, evidence: list[FileChange], read: Read) -> str:
    before, after = old.training.args, new.training.args
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return tuning_evidence_flaw(key, new, changed, evidence, read)


def _flaw_of_signals(key: ModelKey, old: Spec, new: Spec, evidence: list[FileChange], read: Read) -> str:
    del old
    return signal_evidence_flaw(key, new.training.nonce, evidence, read)


_FLAWS = {"bump-data": _flaw_of_data, "tune": _flaw_of_search, "retrain": _flaw_of_signals}
"""What is wrong with evidence that is not a release's, by intent."""


def _both(file: FileChange) -> tuple[Any, Any]:
    return file.before, file.after


def _check_manifest(file: FileChange, claim: _Claim) -> None:
    if file.before is None or file.after is None:
        raise UnsafeEdit(f"{file.path}: {claim.intent} adds, removes and renames no file besides evidence")
    if not file.before.plain or not file.after.plain:
        raise UnsafeEdit(f"{file.path}: is a symbolic link or a submodule")
    if file.before.mode != file.after.mode:
        raise UnsafeEdit(f"{file.path}: its mode changes from {file.before.mode} to {file.after.mode}")
    if not file.path.endswith((".yaml", ".yml")):
        raise UnsafeEdit(f"{file.path}: is no manifest; {claim.intent} edits {INTENT_FIELDS[claim.intent]} only")


def _text(blob: str, path: str, read: Read) -> str:
    try:
        return decode(read(blob), path)
    except InvalidManifest as error:
        raise UnsafeEdit(str(error.problems[0])) from error


def _proved_field(before: str, after: str, claim: _Claim) -> str:
    """Find the field at or below the intent's for which the edit can be proved, the narrowest first."""
    root = INTENT_FIELDS[claim.intent]
    try:
        old, new = (parse(text, "", claim.key).model.spec for text in (before, after))
    except InvalidManifest as error:
        raise UnsafeEdit(f"{claim.key} cannot be compared: {error.problems[0]}") from error
    paths = [f"spec.{change.path}" for change in changes(old, new)]
    outside = [path for path in paths if path != root and not path.startswith((f"{root}.", f"{root}["))]
    if outside:
        raise UnsafeEdit(f"{outside[0]} of {claim.key} changes; {claim.intent} may change {root} only")
    first: UnsafeEdit | None = None
    for field in _narrowing(paths, root):
        try:
            prove(before, after, claim.key, field, _value(after, claim.key, field))
        except UnsafeEdit as error:
            first = error  # the widest field's words are the ones to show
        else:
            return field
    with suppress(UnsafeEdit):  # several values, and what stands between them is as it was
        return " and ".join(prove_rewritten(before, after, claim.key, root))
    raise first or UnsafeEdit(f"{root} of {claim.key} does not change")


def _narrowing(paths: list[str], root: str) -> Iterator[str]:
    """Give the field that all changes have in common, then those above it up to ``root``."""
    common = paths[0].partition("[")[0].split(".") if paths else root.split(".")
    for path in paths:
        parts = path.partition("[")[0].split(".")
        same = [one == other for one, other in zip(common, parts, strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    for length in range(len(common), len(root.split(".")) - 1, -1):
        yield ".".join(common[:length])


def _value(text: str, key: ModelKey, field: str) -> Any:
    data: Any = next(candidate.reading.data for candidate in find(text, "") if candidate.key == key)
    for part in field.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def _release(text: str, path: str, key: ModelKey) -> Release | None:
    return parse(text, path, key).model.spec.release


def _check_release(
    claim: _Claim, old: Release | None, new: Release | None, evidence: list[FileChange], read: Read
) -> None:
    """Check that the release is a new version, and that the evidence is that of exactly this version."""
    if new is None:
        raise UnsafeEdit(f"spec.release of {claim.key} goes; {claim.intent} never removes a release")
    if old is not None:
        _check_successor(claim, old, new)
    folder = evidence_dir(*claim.key, new.version) + "/"
    for file in evidence:
        if not file.path.startswith(folder):
            raise UnsafeEdit(f"{file.path}: is not evidence of v{new.version}")
        if file.before is not None or file.after is None:
            raise UnsafeEdit(f"{file.path}: evidence is written once; here it is changed or removed")
        if file.after.mode != PLAIN:
            raise UnsafeEdit(f"{file.path}: has mode {file.after.mode}; evidence is plain files")
    if claim.intent == "promote" or new.evidence is not None:
        flaw = evidence_flaw(claim.key, new, evidence, read)
        if flaw:
            raise UnsafeEdit(flaw)


def _check_successor(claim: _Claim, old: Release, new: Release) -> None:
    """Check what the new release says about the old one: nothing that people decided is lost on the way."""
    if new.version <= old.version:
        raise UnsafeEdit(f"the version goes from v{old.version} to v{new.version}; a proposal counts up")
    pinned = (new.previous.version, new.previous.content()) if new.previous else None
    if pinned != (old.version, old.content()):
        raise UnsafeEdit(f"spec.release.previous is not v{old.version}, which this would replace")
    lost = [denied.run for denied in old.deny or () if denied not in (new.deny or ())]
    if lost:
        raise UnsafeEdit(f"spec.release.deny loses {lost[0]}; only a person takes a run off it")
    if any(denied.run == new.run for denied in new.deny or ()):
        raise UnsafeEdit(f"spec.release.run {new.run} is on spec.release.deny")
    if claim.intent == "promote" and old.hold is not None:
        raise UnsafeEdit("spec.release.hold is set: nothing is promoted until a person removes it")


def evidence_flaw(key: ModelKey, release: Release, files: list[FileChange], read: Read) -> str:
    """Say what is wrong with the evidence that comes with a release; empty where it fits."""
    path = f"{evidence_dir(*key, release.version)}/evidence.json"
    found = next((file.after for file in files if file.path == path), None)
    if found is None or not found.plain:
        return f"{path} does not come with v{release.version}"
    data = read(found.blob)
    if digest_bytes(data) != release.evidence:
        return f"{path} has the digest {digest_bytes(data)}, but spec.release.evidence names {release.evidence}"
    try:
        told = json.loads(data)
    except ValueError:
        return f"{path} is no JSON"
    content = release.content()
    claimed = {"model": str(key), "version": release.version, "release": content}
    if not isinstance(told, dict) or any(told.get(name) != value for name, value in claimed.items()):
        return f"{path} is about something else than v{release.version} of {key} with these digests"
    return ""
