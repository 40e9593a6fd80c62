"""What would merging do? The plan itself, asked about another commit, in a world where the old one has converged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from adapters.calendar import CronCalendar
from adapters.checkout import Checkout
from adapters.git_changes import merge_base
from adapters.repository import Repository
from adapters.source_git import GitSource
from adapters.store import Store
from controller.named_data import manifest_digest
from reconcilers.consequence import Consequence, DataChange
from reconcilers.estimate import Estimate, past, training_time
from reconcilers.forecast import Forecast, forecast, without_expectations
from reconcilers.imagined import converged
from reconcilers.observe import Observer, Shared
from reconcilers.targets import options_of
from reconcilers.world import Ports
from specs.data import Source
from specs.dataset_diff import DatasetDifference, difference
from specs.datasets import read_manifest
from specs.diff import changes, describe
from specs.errors import Problem, Stalled
from specs.facts import JobState, PullRequest, SourcedSpec
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec, Task
from specs.names import serving_name
from specs.placement import Placement
from specs.records import DatasetManifest, RunRecord, dataset_key
from specs.serving_facts import Rejected, ServingState, ServingTarget
from specs.workorders import AnyOrder

_RUNS_READ = 500
"""Records of earlier runs that are looked at for an estimate."""


@dataclass(frozen=True)
class View:
    """What is looked at: a repository, and where there is one its store and what people decided on proposals."""

    git: Repository | Checkout
    store: Store | None = None
    prefix: str = ""
    pulls: Mapping[ModelKey, tuple[PullRequest, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """All models of one commit."""

    specs: Mapping[ModelKey, tuple[SourcedSpec, Spec]]
    broken: frozenset[ModelKey]
    """Those whose file is wrong, by name only."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Answer:
    """What merging means."""

    before: Models
    after: Models
    consequences: tuple[Consequence, ...]


class _NoJobs:
    """A port for jobs in a world where none runs."""

    def state(self, order: AnyOrder) -> JobState | None:
        return None

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        raise AssertionError(order)


class _AsReleased:
    """A port for servers in a world where the old release serves."""

    def __init__(self, state: ServingState | None) -> None:
        self._state = state

    def state(self, name: str) -> ServingState | None:
        return self._state

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        raise AssertionError(target)

    def withdraw(self, name: str) -> None:
        raise AssertionError(name)

    def names(self) -> Sequence[str]:
        return []


def consequences(view: View, base: str, head: str, now: float) -> Answer:
    """Compare two commits (full names) and say what merging the second means, model by model.

    Without a store the files alone are asked, in an imagined world. Stalled where the commits have nothing in common.
    """
    before = _models(view, merge_base(view.git, base, head))
    after = _models(view, head)
    found = []
    for key in sorted((before.specs.keys() | after.specs.keys()) - after.broken):  # a broken one goes on serving
        old, new = before.specs.get(key), after.specs.get(key)
        if new is None:
            path = old[0].path if old else ""
            found.append(Consequence(key, "removed", (), Forecast(("stops serving",)), path))
            continue
        lines = tuple(describe(changes(old[1], new[1]))) if old else ()
        if lines or not old:
            found.append(_consequence(view, new, old[1] if old else None, lines, now))
    return Answer(before, after, tuple(found))


def _consequence(
    view: View, new: tuple[SourcedSpec, Spec], old: Spec | None, lines: tuple[str, ...], now: float
) -> Consequence:
    sourced, spec = new
    told = _forecast(view, sourced, spec, old, now)
    trains = {"trains", "retrains"} & set(told.effects)
    data = tuple(_data_changes(view.store, old, spec)) if old else ()
    training = _estimate(view, sourced, spec) if trains else None
    return Consequence(sourced.key, "changed" if old else "added", lines, told, sourced.path, data, training)


def _models(view: View, commit: str) -> Models:
    """Read all models of a commit; those whose file is broken by name only; and what is wrong."""
    source = GitSource(view.git, prefix=view.prefix)
    source.read(commit)
    keys = source.keys()
    every = [sourced for key in keys if (sourced := source.get(key)) is not None]
    found = {each.key: (each, parse(each.text, each.path, each.key).model.spec) for each in every}
    return Models(found, frozenset(source.broken), tuple(source.problems))


def _forecast(view: View, sourced: SourcedSpec, spec: Spec, old: Spec | None, now: float) -> Forecast:
    state = None
    if old is not None and old.release is not None and old.serving is not None:
        file = old.release.exports.get(old.serving.export)
        options = options_of(old).digest
        state = ServingState(serving_name(*sourced.key), True, old.release.version, file, options=options)
    again = old is not None
    if view.store is None:
        world = converged(sourced, old, spec, state)
        return forecast(sourced.key, without_expectations(spec), world, now, again=again, blind=True)
    unasked: Any = None  # what all models share is handed in, so neither repository nor forge is asked
    observer = Observer(Ports(view.store, unasked, unasked, _NoJobs(), _AsReleased(state), calendar=CronCalendar()))
    observed = observer.observe(sourced, spec, Shared(sourced.head, view.pulls, {}))
    return forecast(sourced.key, spec, observed, now, again=again)


def _data_changes(store: Store | None, old: Spec, new: Spec) -> Iterator[DataChange]:
    for name in ("train", "golden"):
        one, other = (getattr(spec.data, name) for spec in (old, new))
        before, after = (source.digest or "" if source else "" for source in (one, other))
        if before != after:
            told = _difference((_manifest(store, old.task, one), _manifest(store, new.task, other))) if store else None
            yield DataChange(name, before, after, told)


def _difference(both: tuple[DatasetManifest | None, DatasetManifest | None]) -> DatasetDifference | None:
    old, new = both
    return difference(old, new) if old and new else None


def _manifest(store: Store, task: Task, source: Source | None) -> DatasetManifest | None:
    """Give a data set's manifest; None where the store has none that fits, which the forecast tells."""
    try:
        digest = manifest_digest(store, source, task)
        return read_manifest(store.read(dataset_key(digest)), digest) if digest else None
    except Stalled:
        return None


def _estimate(view: View, sourced: SourcedSpec, spec: Spec) -> Estimate:
    """Estimate from the store's runs, and from those whose evidence is in the repository."""
    known = {run.inputs_digest: run for run in _runs(view, sourced)}
    times = [found for run in known.values() if (found := past(run)) is not None]
    return training_time(sourced.key, spec, times)


def _runs(view: View, sourced: SourcedSpec) -> Iterator[RunRecord]:
    keys = view.store.list("runs/")[:_RUNS_READ] if view.store else []
    for text in (view.store.read(key) for key in keys if view.store):
        with suppress(ValidationError):
            yield RunRecord.decode(text or b"")
    yield from _runs_in_git(view.git, sourced)


def _runs_in_git(git: Repository | Checkout, sourced: SourcedSpec) -> Iterator[RunRecord]:
    folder = "evidence/{}.{}".format(*sourced.key)
    entries = git.entries(sourced.head, folder)
    blobs = git.blobs(e.sha for path, e in entries.items() if e.plain and path.endswith("/evidence.json"))
    for text in blobs.values():
        with suppress(ValueError, TypeError, KeyError):  # whatever a person wrote there
            yield RunRecord.model_validate(json.loads(text)["run"])
