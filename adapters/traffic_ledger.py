"""What was counted of one model, kept so that windows can be told: pure bookkeeping, no IO.

Servers count from their start on and never take anything back, so two looks at a server tell what it counted between
them. A window is what all servers counted between the first look after its beginning and the first look after its end;
looks are due at these very moments, and one that comes more than a quarter of a window late shuts no window. So counts
stay whole numbers, nothing is counted twice, and whatever could not be seen whole is not told.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from specs.traffic import Traffic, Watch, Watched

SLACK = 0.25
"""Part of a window by which a look may be late."""
_GONE = 600.0
"""Seconds, at least, for which a server that is not there any more is remembered: it may come back."""

Versions = dict[int, Traffic]


@dataclass(frozen=True)
class Told:
    """What one server says of one model."""

    started: float
    """When its process began, Unix time."""
    counts: Mapping[int, Traffic]
    """By version, since it began."""
    loaded: Mapping[int, float]
    """When it began to serve each version, Unix time."""


@dataclass
class Replica:
    """A server as it was seen last."""

    at: float
    started: float
    counts: Versions


@dataclass
class Ledger:
    """The books of one model. Times are Unix time in seconds; it can be written down as JSON and read again."""

    window: float
    replicas: dict[str, Replica] = field(default_factory=dict)
    totals: Versions = field(default_factory=dict)
    """All that was ever counted of a version, as far as it was seen."""
    loaded: dict[int, float] = field(default_factory=dict)
    looked: float | None = None
    """When all servers answered last."""
    opened: float | None = None
    """Start of the window that is open; None where it could not be told when it ends."""
    at_opening: Versions = field(default_factory=dict)
    """The totals then."""
    shut: list[float] = field(default_factory=list)
    """Starts of the windows that were seen whole, oldest first."""
    busy: dict[int, list[Traffic]] = field(default_factory=dict)
    """Windows with traffic, by version, oldest first."""
    baked: Versions = field(default_factory=dict)
    """What was counted until a version's trial was over."""
    met: Versions = field(default_factory=dict)
    """The totals of what served when a version was first seen beside it, by that version."""

    @property
    def slack(self) -> float:
        """Seconds by which a look may be late."""
        return self.window * SLACK

    def boundary(self, now: float) -> float:
        """Give the last moment at which a window ended and one began."""
        return math.floor(now / self.window) * self.window

    def take(self, asked: Watch, now: float, told: Mapping[str, Told], silent: Collection[str] = ()) -> None:
        """Enter what servers said, and which ones that are there said nothing. ``now`` is when they were asked."""
        for name, each in told.items():
            self._enter(name, each, now)
        if not silent:
            self._part(set(told), now)
            self._shut(asked, now)
            self.looked = now
            end = self.loaded.get(asked.version, math.inf) + asked.bake
            frozen = self.baked.get(asked.version)
            if asked.bake and now >= end and (frozen is None or frozen.end < end):
                self.baked[asked.version] = self._total(asked.version, now)
            if asked.canary is not None and asked.canary in self.loaded:
                self.met.setdefault(asked.canary, self._total(asked.version, now))
        self._forget(asked)

    def watched(self, asked: Watch, trouble: str = "") -> Watched:
        """Answer a question from the books."""
        loaded = self.loaded.get(asked.version)
        known = {each.start: each for each in self.busy.get(asked.version, ())}
        starts = [start for start in self.shut if loaded is None or start + self.window > loaded]
        windows = [known.get(start) or Traffic(start, start + self.window) for start in starts[-asked.windows :]]
        beside = self._beside(asked)
        return Watched(tuple(windows), loaded, self._bake(asked), self._champion(asked), trouble, *beside)

    def due(self, asked: Watch, now: float, every: float) -> float:
        """Give when to look next: after ``every`` seconds, or earlier where something ends."""
        end = self.loaded.get(asked.version, -math.inf) + asked.bake
        return min(now + every, self.boundary(now) + self.window, *([end] if now < end else []))

    def _enter(self, name: str, told: Told, now: float) -> None:
        """Add what a server counted since it was seen last; where some of that may be older, no window is whole."""
        before = self.replicas.get(name)
        same = before is not None and before.started == told.started
        since = before.at if same and before else told.started
        for version, counts in told.counts.items():
            old = before.counts.get(version) if same and before else None
            grown = counts.since(old) if old is not None else counts
            grown = counts if grown is None else grown
            if grown.empty:
                continue
            self.totals[version] = self._total(version, now).plus(grown)
            began = max(since, told.loaded.get(version, since)) if old is None else since
            if self.opened is not None and began < self.opened:
                self.opened = None
        if before is not None and not same:
            self._lost(before, now)
        self.replicas[name] = Replica(now, told.started, dict(told.counts))
        for version, moment in told.loaded.items():
            self.loaded[version] = min(moment, self.loaded.get(version, moment))

    def _part(self, there: set[str], now: float) -> None:
        """Take leave of servers that are not there any more; they are remembered for a while."""
        for name, replica in list(self.replicas.items()):
            if name not in there:
                if self.looked is not None and replica.at >= self.looked:
                    self._lost(replica, now)
                if now - replica.at > max(_GONE, self.window):
                    del self.replicas[name]

    def _lost(self, replica: Replica, now: float) -> None:
        """What a server counted between the last look at it and its end is lost; too much of that spoils the window."""
        if now - replica.at > self.slack:
            self.opened = None

    def _shut(self, asked: Watch, now: float) -> None:
        """Shut the open window where its end has come, and open the next one."""
        boundary = self.boundary(now)
        if self.looked is not None and self.looked >= boundary and now >= self.looked:
            return
        late = now - boundary > self.slack
        if self.opened is not None and round((boundary - self.opened) / self.window) == 1 and not late:
            self._keep(asked, self.opened, boundary)
        self.opened = None if late else boundary
        self.at_opening = dict(self.totals)

    def _keep(self, asked: Watch, start: float, end: float) -> None:
        self.shut = [*self.shut, start][-asked.windows :]
        for version, total in self.totals.items():
            before = self.at_opening.get(version)
            grown = total if before is None else total.since(before)
            if grown is not None and not grown.empty:
                window = replace(grown, start=start, end=end)
                self.busy[version] = [*self.busy.get(version, ()), window][-asked.windows :]

    def _total(self, version: int, now: float) -> Traffic:
        """Give all that was counted of a version until now."""
        return replace(self.totals.get(version, Traffic(now, now)), start=self.loaded.get(version, now), end=now)

    def _bake(self, asked: Watch) -> Traffic | None:
        loaded = self.loaded.get(asked.version)
        if not asked.bake or loaded is None or self.looked is None:
            return None
        frozen = self.baked.get(asked.version)
        if frozen is not None and frozen.end >= loaded + asked.bake:
            return frozen
        return self._total(asked.version, self.looked)

    def _beside(self, asked: Watch) -> tuple[Traffic | None, Traffic | None]:
        """Give what the version beside it did since it was loaded, and what the version itself did since then."""
        met = self.met.get(asked.canary) if asked.canary is not None else None
        if asked.canary is None or met is None or self.looked is None:
            return None, None
        return self._total(asked.canary, self.looked), self._total(asked.version, self.looked).since(met)

    def _champion(self, asked: Watch) -> Traffic | None:
        """Give the last windows of the version before; where none was seen whole, all that is known of it."""
        if asked.before is None:
            return None
        windows = self.busy.get(asked.before, ())
        if windows:
            found = windows[0]
            for each in windows[1:]:
                found = found.plus(each)
            return found
        known = asked.before in self.totals and self.looked is not None
        return self._total(asked.before, self.looked or 0.0) if known else None

    def _forget(self, asked: Watch) -> None:
        """Drop versions that no server knows any more and nobody asks about."""
        known = {version for each in self.replicas.values() for version in each.counts}
        kept = {asked.version, asked.before, asked.canary, *known}
        books: list[dict[int, Any]] = [self.totals, self.at_opening, self.loaded, self.busy, self.baked]
        for book in books:
            for version in book.keys() - kept:
                del book[version]
        self.met = {version: met for version, met in self.met.items() if version == asked.canary}
