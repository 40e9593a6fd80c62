"""Looking at live traffic: what is known of its windows, what each says, how signals stand; and at the calendar.

A reading is worked out once for each window, however often it is looked at. Nobody here waits for anybody: who counts
the traffic answers from what it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconcilers.causes import causes_in
from reconcilers.context import Context
from reconcilers.drafts import closed_because
from reconcilers.episodes import NOBODY, known_windows, standings
from reconcilers.observed import SCHEDULE, Observed, Reading, SourceTrouble
from reconcilers.ports import Calendar, TrafficSource
from reconcilers.records import Records
from reconcilers.signals import readings
from reconcilers.targets import bake_time
from specs.base import seconds
from specs.digests import digest_of
from specs.errors import Stalled
from specs.facts import ProposalState, PullState
from specs.modelspec import ModelKey, Task
from specs.monitoring import Monitoring
from specs.names import serving_name
from specs.profile_records import ProfileRecord, profile_key
from specs.release import Pin
from specs.status import ConditionType, ModelStatus, Reason, SignalStatus
from specs.traffic import Traffic, Watch, Watched

_REMEMBERED = 20_000
_ONE = 3600.0
"""Seconds of a window where nobody asks for any, since only a release on trial is watched."""


@dataclass(frozen=True)
class Question:
    """What is to be known of a model's traffic and calendar: little enough to be kept for thousands of models."""

    key: ModelKey
    task: Task
    watch: Watch | None = None
    """None where nobody watches."""
    monitoring: Monitoring | None = None
    profile: tuple[str, str] | None = None
    """File that serves, and golden set, whose profile is what traffic is held against."""
    schedule: str = ""


@dataclass
class _Known:
    """Readings of windows, as long as they are asked for and nothing they depend on is another."""

    basis: tuple[object, ...]
    windows: dict[float, Mapping[str, Reading]] = field(default_factory=dict)
    """By start."""
    told: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)


class TrafficObserver:
    """Adds what is known about a model's traffic to a snapshot."""

    def __init__(
        self, records: Records, traffic: TrafficSource | None, calendar: Calendar | None, *,
        remembered: int = _REMEMBERED,
    ) -> None:  # fmt: skip
        """``remembered``: of how many models readings are kept in memory.

        They take less room than the counts that they come from; forgotten ones are worked out again, all windows.
        """
        self._records = records
        self._traffic = traffic
        self._calendar = calendar
        self._remembered = remembered
        self._known: dict[ModelKey, _Known] = {}

    def look(self, ctx: Context, previous: ModelStatus, now: float) -> Observed:
        """Give the snapshot with all about traffic in it; the one given knows what serves, and the proposals."""
        asked = question(ctx)
        observed = replace(
            ctx.observed, watches=self._traffic is not None, profile=self._released(ctx, ctx.spec.release),
            profile_before=self._released(ctx, ctx.spec.release.previous if ctx.spec.release else None),
            live_gate_before=previous.condition(ConditionType.LIVE_GATE),
        )  # fmt: skip
        if asked.schedule:
            observed = self._due(asked.schedule, observed, now)
        watched = self.watched(asked)
        if asked.monitoring is None or asked.watch is None:
            return replace(observed, watched=watched)
        found, version = self.readings(asked, watched), asked.watch.version
        before = told_before(previous, version)
        signals = standings(asked.monitoring, version, found, before, _asked_for(observed.proposals))
        return replace(observed, watched=watched, readings=found, signals=signals, signals_before=before)

    def watched(self, asked: Question) -> Watched | None:
        """Ask who counts the traffic; None where nobody does, or nothing is known yet."""
        return self._traffic.look(asked.watch) if self._traffic is not None and asked.watch is not None else None

    def readings(self, asked: Question, watched: Watched | None) -> Mapping[str, tuple[Reading, ...]]:
        """Give each signal in each window that is known, oldest first."""
        monitoring = asked.monitoring
        if watched is None or monitoring is None or asked.watch is None:
            return {}
        profile = self._profile(asked.profile)
        basis = (asked.watch.version, asked.watch.window, monitoring, asked.profile, profile is not None)
        known = self._known.get(asked.key)
        if known is None or known.basis != basis:
            if len(self._known) >= self._remembered:
                self._known.clear()
            known = self._known[asked.key] = _Known(basis)
        if known.windows.keys() != {window.start for window in watched.windows}:
            known = self._known[asked.key] = _judged(asked, monitoring, known, watched.windows, profile)
        return known.told

    def due(self, schedule: str, now: float) -> tuple[float, float] | None:
        """Give when a schedule was due last, and when it is next; None where nobody knows. Unix time, seconds."""
        if self._calendar is None:
            return None
        try:
            return self._calendar.last(schedule, now), self._calendar.next(schedule, now)
        except Stalled:
            return None

    def _due(self, schedule: str, observed: Observed, now: float) -> Observed:
        if self._calendar is None:
            return observed
        try:
            return replace(observed, schedule_due=self._calendar.last(schedule, now))
        except Stalled as error:
            trouble = SourceTrouble(Reason.SCHEDULE_INVALID, error.message, passing=False)
            return replace(observed, troubles={**observed.troubles, SCHEDULE: trouble})

    def _released(self, ctx: Context, release: Pin | None) -> ProfileRecord | None:
        serving = ctx.spec.serving
        if ctx.spec.monitoring is None:
            return None
        file = release.exports.get(serving.export) if release is not None and serving is not None else None
        return self._profile((file, ctx.golden)) if file is not None and ctx.golden is not None else None

    def _profile(self, named: tuple[str, str] | None) -> ProfileRecord | None:
        return self._records.get(profile_key(*named), ProfileRecord) if named is not None else None


def question(ctx: Context) -> Question:
    """Give what there is to know about a model: of the version that answers, and of the release until one does."""
    spec, triggers, state = ctx.spec, ctx.spec.triggers, ctx.observed.serving
    schedule = (triggers.schedule if triggers else None) or ""
    release, bake = spec.release, bake_time(spec)
    beside = state.canary.version if state is not None and state.canary is not None else None
    if release is None or spec.serving is None or (spec.monitoring is None and not bake and beside is None):
        return Question(ctx.key, spec.task, schedule=schedule)
    answers = state.version if state is not None and state.ready and state.version is not None else release.version
    file = state.file if state is not None and state.ready else release.exports.get(spec.serving.export)
    before = release.previous.version if release.previous is not None and answers == release.version else None
    window = seconds(spec.monitoring.window) if spec.monitoring is not None else _ONE
    windows = known_windows(spec.monitoring) if spec.monitoring is not None else 0
    watch = Watch(serving_name(*ctx.key), answers, before, window, windows, bake, beside)
    profile = (file, ctx.golden) if file is not None and ctx.golden is not None else None
    return Question(ctx.key, spec.task, watch, spec.monitoring, profile, schedule)


def told_before(previous: ModelStatus, version: int) -> tuple[SignalStatus, ...]:
    """Give what the last status says about signals, where that may be about this release."""
    then = previous.serving.version if previous.serving is not None else previous.version
    return tuple(status for status in previous.signals if then == version or status.state == "Firing")


def mark(signals: Sequence[SignalStatus], watched: Watched | None, due: float | None) -> str:
    """Name all that a pass would find another of, were it made now: not the numbers of windows, but what they mean."""
    standing = [[each.name, each.state, each.episode] for each in signals]
    loaded = watched.loaded if watched is not None else None
    return digest_of([standing, watched is not None, bool(watched and watched.trouble), loaded, due])[7:15]


def _judged(
    asked: Question, monitoring: Monitoring, known: _Known, windows: Sequence[Traffic], profile: ProfileRecord | None
) -> _Known:
    """Work out what is new, and forget what is not asked for any more."""
    new = [window for window in windows if window.start not in known.windows]
    made = readings(monitoring.signals, new, profile, task=asked.task, min_samples=monitoring.min_samples)
    judged = {window.start: {name: each[at] for name, each in made.items()} for at, window in enumerate(new)}
    found = {window.start: known.windows.get(window.start) or judged[window.start] for window in windows}
    told = {name: tuple(found[start][name] for start in sorted(found)) for name in made}
    return _Known(known.basis, found, told)


def _asked_for(proposals: Sequence[ProposalState]) -> Mapping[str, bool]:
    """Give the episodes that pull requests of ours are about, and whether one is open; not those that were over."""
    found: dict[str, bool] = {}
    for each in proposals:
        open_ = each.pull.state is PullState.OPEN
        if open_ or closed_because(each.pull) is None:
            found |= dict.fromkeys(causes_in(each.pull.body), open_)
    return found or NOBODY
