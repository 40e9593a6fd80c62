"""How commits came to the tracked branch: the forge is asked once about each, and what it said is kept in a file.

Forges lag behind themselves, and an approval may come late, so an answer that is not enough is asked for again, ever
more rarely. One that is enough holds for ever: whatever happens to a pull request later, the commit is merged.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from adapters.git_environment import check_commit
from specs.errors import Transient, TrunklineError
from specs.facts import Arrival, PullRequest, PullState

_CACHE_SIZE = 50_000
_CURIOUS_PER_HOUR = 600
"""Questions an hour that nothing depends on, so that the forge's quota is left to those that matter."""
_FIRST_PAUSE, _LAST_PAUSE = 60.0, 3600.0
_AFTER_TROUBLE = 30.0
"""Seconds in which a forge that failed is left alone."""

Enough = Callable[[Arrival], bool]


class Reviews(Protocol):
    """What is needed of a forge."""

    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged pull request by which a commit came to the tracked branch, None where by none."""

    def approvals(self, number: int) -> Sequence[str]:
        """Give who approves the last commit of a pull request."""


@dataclass(frozen=True)
class _Known:
    arrival: Arrival
    due: float = 0.0
    """When it is worth asking again, where the answer was not enough."""
    pause: float = _FIRST_PAUSE


class ForgeArrivals:
    """Remembers for one repository. ``workdir`` is ours alone; ``clock`` gives Unix time in seconds.

    Any number of threads may ask; one question goes to the forge at a time.
    """

    def __init__(self, reviews: Reviews, workdir: Path, clock: Callable[[], float] = time.time) -> None:
        self._reviews, self._clock = reviews, clock
        self._folder = workdir.absolute() / "arrivals"
        self._known: dict[str, _Known] = {}
        self._lock = Lock()
        self._trouble: tuple[float, Transient] | None = None
        """Until when the forge is left alone, and why."""
        self._curious: tuple[float, int] = (0.0, 0)
        """When this hour of curiosity began, and how often it asked."""

    def of(self, commit: str, *, enough: Enough | None = None) -> Arrival:
        """Give how a commit came to the branch; see ``reconcilers.ports.Arrivals``."""
        known = self._known.get(commit)
        if known is None or not self._holds(known, enough):
            with self._lock:
                known = self._known.get(commit) or self._recall(commit)
                if known is None or not self._holds(known, enough):
                    known = self._ask(commit, known, enough)
        return known.arrival

    def _holds(self, known: _Known, enough: Enough | None) -> bool:
        if enough is None:
            return known.arrival.pull is not None or self._clock() < known.due
        arrival = known.arrival
        complete = arrival.asked and (arrival.pull is None or arrival.approved_by is not None)
        return enough(arrival) or (complete and self._clock() < known.due)

    def _ask(self, commit: str, known: _Known | None, enough: Enough | None) -> _Known:
        """Ask now, unless that must wait."""
        now = self._clock()
        pause = min(known.pause * 2, _LAST_PAUSE) if known is not None and known.arrival.asked else _FIRST_PAUSE
        try:
            if self._trouble is not None and now < self._trouble[0]:
                raise Transient(self._trouble[1].reason, self._trouble[1].message)
            if enough is None and not self._may_wonder(now):
                return known or _Known(Arrival())
            arrival = self._answer(commit, enough)
        except TrunklineError as error:
            if isinstance(error, Transient) and (self._trouble is None or now >= self._trouble[0]):
                self._trouble = (now + _AFTER_TROUBLE, error)
            if known is not None and known.arrival.asked:
                return known  # the last verdict holds
            if enough is not None:
                raise
            arrival = Arrival()
        made = _Known(arrival, now + pause, pause)
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        self._known[commit] = made
        if arrival.asked:
            self._keep(commit, arrival)
        return made

    def _answer(self, commit: str, enough: Enough | None) -> Arrival:
        pull = self._reviews.pull_of(commit)
        if pull is None or pull.state is not PullState.MERGED:
            return Arrival(asked=True)
        arrival = Arrival(True, pull.number, pull.url, pull.author)
        if enough is None or enough(arrival):
            return arrival
        return Arrival(True, pull.number, pull.url, pull.author, tuple(sorted(self._reviews.approvals(pull.number))))

    def _may_wonder(self, now: float) -> bool:
        """Count a question that nothing depends on."""
        began, count = self._curious
        if now >= began + 3600:
            began, count = now, 0
        self._curious = (began, count + 1)
        return count < _CURIOUS_PER_HOUR

    def _recall(self, commit: str) -> _Known | None:
        """Read what an earlier process was told; where that was not enough, or cannot be read, it is asked again."""
        try:
            fields = json.loads(self._file(commit).read_text())
            names = fields.pop("approved_by")
            arrival = Arrival(**fields, approved_by=None if names is None else tuple(names))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        self._known[commit] = _Known(arrival)
        return self._known[commit]

    def _keep(self, commit: str, arrival: Arrival) -> None:
        """Write it down, whole or not at all. A state folder that is full or gone costs a question, no more."""
        file = self._file(commit)
        aside = file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(asdict(arrival)))
            aside.rename(file)

    def _file(self, commit: str) -> Path:
        return self._folder / check_commit(commit)[:2] / f"{commit}.json"
