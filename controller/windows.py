"""Models whose live traffic is watched, or that a schedule asks for: looked at again when that means something new.

A window closes for thousands of models at once, and for nearly all of them it says what the one before said. So what is
compared is not the window but what it means: which signal fires, in which episode, and whether anybody can tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reconcilers.context import Context
from reconcilers.episodes import standings
from reconcilers.loop import Result
from reconcilers.observing_traffic import Question, TrafficObserver, mark, question, told_before
from specs.modelspec import ModelKey
from specs.status import SignalStatus
from specs.traffic import Watched


@dataclass
class _Watching:
    """What a model's last full look found, and what its traffic meant when somebody asked last."""

    observer: TrafficObserver
    asked: Question
    before: tuple[SignalStatus, ...]
    told: str
    seen: tuple[object, ...] = ()
    """Names the windows, and the moment of the schedule, that ``now`` is about."""
    now: str = ""
    due: tuple[float, float] | None = None
    """When the schedule was due last, and is next."""


@dataclass
class Windows:
    """Remembers who watches what, in memory: after a restart each one is looked at in full once, and is known again.

    Any number of threads may use it. Asking is also what keeps traffic counted of models that are at rest.
    """

    clock: Callable[[], float] = time.time
    """Unix time, seconds."""
    _known: dict[ModelKey, _Watching] = field(default_factory=dict)

    def saw(self, result: Result, observer: TrafficObserver) -> str:
        """Remember what a full look found, and name it; empty where the model watches nothing."""
        spec, observed = result.spec, result.observed
        if spec is None or observed is None:
            return ""
        key = observed.source.key
        asked = question(Context(key, spec, observed, 0.0))
        if asked.watch is None and not asked.schedule:
            self.forget(key)
            return ""
        before = told_before(result.status, asked.watch.version) if asked.watch is not None else ()
        told = mark(observed.signals, observed.watched, observed.schedule_due)
        self._known[key] = _Watching(observer, asked, before, told)
        return told

    def forget(self, key: ModelKey) -> None:
        """Watch no more for a model."""
        self._known.pop(key, None)

    def now(self, key: ModelKey) -> str:
        """Name what traffic and calendar mean for a model now; empty where nobody looked at it in full yet."""
        known = self._known.get(key)
        return self._now(known) if known is not None else ""

    def moved(self) -> Iterable[ModelKey]:
        """Give the models for which that is something else than they were told."""
        for key, known in self._known.copy().items():
            if self._now(known) != known.told:
                yield key

    def _now(self, known: _Watching) -> str:
        asked, now = known.asked, self.clock()
        watched = known.observer.watched(asked)
        if asked.schedule and (known.due is None or not known.due[0] <= now < known.due[1]):
            known.due = known.observer.due(asked.schedule, now)
        seen = (*_windows(watched), known.due)
        if seen != known.seen:
            signals: tuple[SignalStatus, ...] = ()
            if asked.monitoring is not None and asked.watch is not None:
                found = known.observer.readings(asked, watched)
                signals = standings(asked.monitoring, asked.watch.version, found, known.before)
            known.now = mark(signals, watched, known.due[0] if known.due else None)
            known.seen = seen
        return known.now


def _windows(watched: Watched | None) -> tuple[object, ...]:
    """Name the windows that are known, without looking into them."""
    if watched is None:
        return (None,)
    each = watched.windows
    return bool(watched.trouble), watched.loaded, len(each), *((each[0].start, each[-1].start) if each else ())
