"""Whether the store still holds what was released, and says the same as the evidence. Looks through the port only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reconcilers.chronicle import Event
from reconcilers.findings import Code, Finding, finding
from reconcilers.ports import Store
from specs.data_records import import_key, validation_key
from specs.digests import canonical
from specs.errors import CorruptArtifact
from specs.evidence import Evidence
from specs.records import Record, evaluation_key, export_key, run_key
from specs.release import Pin

Unsigned = Callable[[Pin], Iterable[tuple[str, str, str]]]
"""Gives which files of a release have no signature that counts: what it is, its digest, and what is wrong."""


def prove_store(
    store: Store, events: Iterable[Event], *, deep: bool, current: frozenset[str], unsigned: Unsigned | None = None
) -> Iterator[Finding]:
    """Check files and records of releases. ``current``: digests that must serve or be fallen back to now.

    What only older releases need may have been archived: that it is missing is a warning. ``deep`` reads every byte.
    ``unsigned`` is given where artifacts must be signed; older releases may come from a time before there were keys.
    """
    known: dict[str, str] = {}
    for event in events:
        if event.release is None or event.how == "went back":
            continue
        for what, digest in (("weights", event.release.weights), *event.release.exports.items()):
            if digest not in known:
                known[digest] = _file(store, digest, deep=deep)
            problem = known[digest]
            if problem:
                missing = problem == "it is not there"
                code = Code.ARTIFACT_MISSING if missing else Code.ARTIFACT_CORRUPT
                mild = missing and digest not in current
                yield finding(event.moment, code, f"{what} {digest} in the store", problem, warning=mild)
        for what, file, problem in unsigned(event.release) if unsigned else ():
            expected = f"{what} {file} signed by a trusted key"
            yield finding(event.moment, Code.NOT_SIGNED, expected, problem, warning=file not in current)
        evidence = event.proof.evidence if event.proof else None
        if evidence is not None and event.how != "rolled back":
            yield from _records(store, event, evidence)


def _file(store: Store, digest: str, *, deep: bool) -> str:
    """Say what is wrong with a file, empty where nothing is."""
    if not store.has_blob(digest):
        return "it is not there"
    if deep:
        try:
            store.read_blob(digest)
        except CorruptArtifact as error:
            return error.message
    return ""


def _records(store: Store, event: Event, evidence: Evidence) -> Iterator[Finding]:
    for what, key, recorded in _recorded(evidence):
        stored = store.read(key)
        if stored is None:
            yield finding(event.moment, Code.ARTIFACT_MISSING, f"{key} in the store", "it is not there", warning=True)
        elif _differs(recorded, stored):
            expected = f"{what} as the store's {key} has it"
            yield finding(event.moment, Code.RECORD_DIFFERS, expected, f"differs in {_differs(recorded, stored)}")


def _recorded(evidence: Evidence) -> Iterator[tuple[str, str, Record]]:
    """Give what the evidence copied from the store: in words, its key there, the copy."""
    if evidence.run is not None:
        yield "the run", run_key(evidence.run.inputs_digest), evidence.run
    if evidence.evaluation is not None:
        yield "the evaluation", evaluation_key(evidence.evaluation.subject, evidence.evaluation.golden), \
            evidence.evaluation  # fmt: skip
    for name, told in (("training data", evidence.data.train), ("golden set", evidence.data.golden)):
        if told is not None and told.imported is not None:
            yield f"the import of {name}", import_key(told.imported.import_digest), told.imported
    looked_at = evidence.data.validation
    if looked_at is not None:
        yield "the validation", validation_key(looked_at.train_digest, looked_at.golden_digest), looked_at
    for each in evidence.exports:
        if each.record is not None:
            yield f"export {each.name}", export_key(each.record.weights, each.record.export_digest), each.record


def _differs(recorded: Record, stored: bytes) -> str:
    """Name the fields in which a copy is not what is stored; empty where it is the same."""
    try:
        there: Any = type(recorded).decode(stored).model_dump(mode="json", exclude_none=True)
    except ValueError as error:
        return f"everything: {str(error).splitlines()[0]}"
    here = json.loads(recorded.encode())
    names = sorted(here.keys() | there.keys())
    return ", ".join(name for name in names if canonical(here.get(name)) != canonical(there.get(name)))
