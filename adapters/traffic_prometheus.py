"""Live traffic, as Prometheus has it: for clusters, and wherever history must outlive the controller."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from adapters.prometheus_api import NoAnswer, PrometheusApi
from adapters.prometheus_counts import Counters, PrometheusCounts, Versions
from adapters.traffic_rounds import BUG, Entry, Rounds, log
from specs.errors import Transient
from specs.traffic import Traffic, Watch, Watched

_LAG = 15.0
"""Seconds, at most, after which a window's last samples are there."""
SLACK = 0.25
"""Part of a window by which a sample may be older than the moment that it stands for."""


@dataclass
class Known:
    """What is known of one model: all of it can be asked for again."""

    judged: dict[float, Versions | None] = field(default_factory=dict)
    """Start of each window that was asked about, and what was counted; None where it was not seen whole."""
    newest: tuple[float, Counters] | None = None
    """When the newest window ended, and all counters then: there the next one begins."""
    loaded: dict[int, float] = field(default_factory=dict)
    baked: tuple[int, Traffic] | None = None
    """Of a version on trial."""
    champion: tuple[tuple[int | None, float], Traffic | None] = ((None, 0.0), None)
    """Which version's, until when; and what it did last."""
    beside: tuple[int, Traffic, Traffic] | None = None
    """The version beside what serves; what it did since it was loaded, and what that did since then."""
    complaint: str = ""
    """About the newest window."""


class PrometheusTraffic(Rounds[Known]):
    """The port ``TrafficSource``. Any number of threads may ask. Nothing is kept: a restart asks for it all again."""

    def __init__(
        self, api: PrometheusApi, *, poll: float = 15.0, clock: Callable[[], float] = time.time,
        background: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(clock, poll=poll, background=background)
        self._place = f"Prometheus at {api.url}"
        self._counts = PrometheusCounts(api)

    def _begin(self, asked: Watch) -> Known:
        del asked
        return Known()

    def _answer(self, entry: Entry[Known]) -> Watched:
        known, asked = entry.known, entry.asked
        loaded = known.loaded.get(asked.version)
        windows = tuple(
            counts.get(asked.version) or Traffic(start, start + asked.window)
            for start, counts in sorted(known.judged.items())
            if counts is not None and (loaded is None or start + asked.window > loaded)
        )
        bake = known.baked[1] if asked.bake and known.baked and known.baked[0] == asked.version else None
        champion = known.champion[1] if asked.before == known.champion[0][0] else None
        beside = known.beside[1:] if known.beside and known.beside[0] == asked.canary else ()
        return Watched(windows[-asked.windows :], loaded, bake, champion, entry.told_trouble, *beside)

    def _visit(self, due: Sequence[Entry[Known]]) -> None:
        """Ask about one model after the other; once there is no answer at all, the others are spared the wait."""
        away = ""
        for entry in due:
            now, asked, found, trouble = self._clock(), entry.asked, entry.known, away
            if not away:
                try:
                    found = self._look(asked, found, now)
                except Transient as error:
                    trouble = error.message
                    away = trouble if isinstance(error, NoAnswer) else ""
                except Exception:  # noqa: BLE001  a bug about one model must not keep the others from being looked at
                    log.exception("traffic of %s could not be looked at", asked.name)
                    trouble = BUG
            with self._lock:
                entry.known = found
                trouble = trouble or self._said(asked, found)
                entry.failed(trouble) if trouble else entry.went_well()
                over = found.loaded.get(asked.version, math.inf) + asked.bake + _lag(asked)
                calm = not trouble and asked.canary is None and now >= over
                soon = math.inf if calm else now + self.every(asked)
                self._settle(entry, min(soon, _boundary(asked, now - _lag(asked)) + asked.window + _lag(asked)))

    def _said(self, asked: Watch, found: Known) -> str:
        """Say what a person should change; empty where all is well."""
        if found.complaint:
            return f"{self._place} {found.complaint}"
        missing = f"{self._place} has no series of {asked.name}: let it scrape the servers, and keep their labels"
        return "" if found.loaded else missing

    def _look(self, asked: Watch, known: Known, now: float) -> Known:
        """Ask for what is not known yet; Transient where there is no answer."""
        end = _boundary(asked, now - _lag(asked))
        span = (asked.windows + 1) * asked.window + asked.bake
        last = round(end / asked.window)
        wanted = [number * asked.window for number in range(last - asked.windows, last)]
        seen = self._counts.loaded(asked.name, now, span)
        first = {version: min(moment, known.loaded.get(version, moment)) for version, moment in seen.items()}
        found = Known(
            {start: known.judged[start] for start in wanted if start in known.judged}, known.newest, first,
            known.baked, known.champion, known.beside, known.complaint,
        )  # fmt: skip
        for start in wanted:
            if start not in found.judged:
                self._judge(asked, found, start)
        loaded, met = found.loaded.get(asked.version), found.loaded.get(asked.canary or 0)
        if loaded is not None and met is not None and asked.canary is not None:
            both = (self._counted(asked, version, met, now) for version in (asked.canary, asked.version))
            new, old = (counted or Traffic(met, now) for counted in both)
            found.beside = asked.canary, new, old
        if loaded is not None and asked.bake:
            self._bake(asked, found, loaded, now)
        if loaded is not None and asked.before is not None:
            self._champion(asked, found, min(_boundary(asked, loaded) + asked.window, end))
        return found

    def _judge(self, asked: Watch, found: Known, start: float) -> None:
        end, slack = (round(start / asked.window) + 1) * asked.window, asked.window * SLACK
        known = found.newest is not None and found.newest[0] == start
        at_start = found.newest[1] if found.newest and known else self._counts.counters(asked.name, start, slack)
        at_end = self._counts.counters(asked.name, end, slack)
        between = self._counts.between(asked.name, start, end, slack, at_start, at_end)
        found.judged[start] = dict(between.counts) if between.whole else None
        found.newest, found.complaint = (end, at_end), between.complaint

    def _bake(self, asked: Watch, found: Known, loaded: float, now: float) -> None:
        """Ask what was counted on trial, until the trial is over and its last samples are there."""
        over = loaded + asked.bake
        if found.baked is not None and found.baked[0] == asked.version and found.baked[1].end >= over:
            return
        until = over if now >= over + _lag(asked) else min(now, over - 0.001)
        found.baked = asked.version, self._counted(asked, asked.version, loaded, until) or Traffic(loaded, until)

    def _champion(self, asked: Watch, found: Known, end: float) -> None:
        """Ask what the version before did in its last windows; what it did once it was followed changes no more."""
        about = asked.before, end
        if found.champion[0] != about and asked.before is not None:
            start = end - asked.windows * asked.window
            found.champion = about, self._counted(asked, asked.before, start, end)

    def _counted(self, asked: Watch, version: int, start: float, end: float) -> Traffic | None:
        slack = asked.window * SLACK
        at_start, at_end = (self._counts.counters(asked.name, at, slack) for at in (start, end))
        return self._counts.between(asked.name, start, end, slack, at_start, at_end).counts.get(version)


def _boundary(asked: Watch, at: float) -> float:
    return math.floor(at / asked.window) * asked.window


def _lag(asked: Watch) -> float:
    return min(_LAG, asked.window * SLACK)
