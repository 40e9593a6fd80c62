"""What would merging do? The plan itself, asked about another commit, in a world where the old one has converged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapters.source_git import GitSource
from controller.wiring import App
from reconcilers.forecast import Forecast, forecast
from reconcilers.observe import Observer, Shared
from reconcilers.ports import Forge, Repository, Store
from specs.diff import changes, describe
from specs.errors import Problem
from specs.facts import JobState, ServingState, ServingTarget, SourcedSpec
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec
from specs.names import serving_name
from specs.placement import Placement
from specs.workorders import AnyOrder


@dataclass(frozen=True)
class Consequence:
    """What merging means for one model."""

    key: ModelKey
    change: str
    """``added``, ``changed``, ``removed`` or ``unchanged``."""
    lines: tuple[str, ...]
    """The change of the file, as people would say it."""
    forecast: Forecast


class _NoJobs:
    """A port for jobs in a world where none runs."""

    def state(self, order: AnyOrder) -> JobState | None:
        return None

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        raise AssertionError(order)


class _AsReleased:
    """A port for servers in a world where the old release serves."""

    def __init__(self, states: dict[str, ServingState]) -> None:
        self._states = states

    def state(self, name: str) -> ServingState | None:
        return self._states.get(name)

    def roll_out(self, target: ServingTarget) -> ServingState:
        raise AssertionError(target)

    def withdraw(self, name: str) -> None:
        raise AssertionError(name)

    def names(self) -> Sequence[str]:
        return list(self._states)


def consequences(app: App, base: str, head: str, now: float) -> tuple[list[Consequence], tuple[Problem, ...]]:
    """Compare two commits and say what merging the second means, model by model; and what is wrong in it."""
    app.repository.fetch()
    base, head = app.repository.resolve(base), app.repository.resolve(head)
    before, _, _ = _specs(app, app.repository.merge_base(base, head) or base)
    after, broken, problems = _specs(app, head)
    found = []
    for key in sorted((before.keys() | after.keys()) - broken):  # what serves for a broken one goes on serving
        old, new = before.get(key), after.get(key)
        if new is None:
            found.append(Consequence(key, "removed", (), Forecast(("stops serving",))))
            continue
        lines = tuple(describe(changes(old[1], new[1]))) if old else ()
        if old and not lines:
            continue
        told = _forecast(app.store, app.repository, app.forge, new, old[1] if old else None, now)
        found.append(Consequence(key, "changed" if old else "added", lines, told))
    return found, problems


def _specs(
    app: App, commit: str
) -> tuple[dict[ModelKey, tuple[SourcedSpec, Spec]], frozenset[ModelKey], tuple[Problem, ...]]:
    """Read all models of a commit; those whose file is broken by name only; and what is wrong."""
    source = GitSource(app.repository, prefix=app.settings.prefix)
    source.read(commit)
    keys = source.keys()
    every = [sourced for key in keys if (sourced := source.get(key)) is not None]
    found = {each.key: (each, parse(each.text, each.path, each.key).model.spec) for each in every}
    return found, frozenset(source.broken), tuple(source.problems)


def _forecast(
    store: Store, repository: Repository, forge: Forge, new: tuple[SourcedSpec, Spec], old: Spec | None, now: float
) -> Forecast:
    sourced, spec = new
    states = {}
    if old is not None and old.release is not None and old.serving is not None:
        name, file = serving_name(*sourced.key), old.release.exports.get(old.serving.export)
        states[name] = ServingState(name, True, old.release.version, file)
    observer = Observer(store, repository, forge, _NoJobs(), _AsReleased(states))
    pulls = observer.share().pulls  # what people decided before counts
    observed = observer.observe(sourced, spec, Shared(sourced.head, pulls, {}))
    return forecast(sourced.key, spec, observed, now, again=old is not None)
