"""A queue of models to look at: each at most once, never two workers on one, newest changes first, nobody starved.

Threads take from it, any thread may add to it. Time is handed in, so that tests need not wait.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Condition
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 300.0
REST = 0.1
"""Seconds between two passes over one model, so that a hot one takes no more than its share."""
PATIENCE = 1.0
"""Seconds that an item may wait before every second pick goes to the oldest one."""


class Priority(IntEnum):
    """What goes first."""

    CHANGE = 0
    """Somebody changed what is asked for."""
    PROGRESS = 1
    """Something that was begun went on."""
    ROUTINE = 2
    """Nothing is known to have changed; looking costs little and may find something."""


@dataclass(order=True)
class _Later(Generic[K]):
    due: float
    number: int
    key: K = field(compare=False)
    priority: Priority = field(compare=False)


class WorkQueue(Generic[K]):
    """The queue. Every key is in one of three places: waiting in line, waiting for its time, or being worked on.

    Of equal priority the newest goes first: in a burst an edit made now does not wait behind a thousand. Every second
    pick is the oldest of all once that has waited ``PATIENCE``, so each waits at most twice the line before it.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._changed = Condition()
        self._lines: tuple[OrderedDict[K, float], ...] = tuple(OrderedDict() for _ in Priority)
        self._later: list[_Later[K]] = []
        self._due: dict[K, float] = {}
        self._working: dict[K, float] = {}
        self._again: dict[K, Priority] = {}
        self._failures: dict[K, int] = {}
        self._numbers = 0
        self._picks = 0
        self._closed = False

    def add(self, key: K, priority: Priority, after: float = 0.0) -> None:
        """Put a key in line; in ``after`` seconds where that is given, or earlier where it is due earlier already."""
        with self._changed:
            if after > 0:
                self._postpone(key, priority, after)
            else:
                self._line_up(key, priority)
            self._changed.notify()

    def get(self, timeout: float) -> K | None:
        """Take a key to work on; None after ``timeout`` seconds without one, or when closed. ``done`` must follow."""
        give_up = self._clock() + timeout
        with self._changed:
            while not self._closed:
                now = self._clock()
                self._fall_due(now)
                key = self._pick(now)
                if key is not None:
                    self._working[key] = now
                    return key
                if now >= give_up:
                    return None
                wake = min(give_up, self._later[0].due) if self._later else give_up
                self._changed.wait(max(0.001, wake - now))
            return None

    def done(self, key: K) -> None:
        """Give a key back; what was added meanwhile is due after a short rest."""
        with self._changed:
            self._working.pop(key, None)
            again = self._again.pop(key, None)
            if again is not None:
                self._postpone(key, again, REST)
                self._changed.notify()

    def retry(self, key: K) -> float:
        """Look again after a pause that doubles with each failure in a row, with jitter; gives the seconds."""
        with self._changed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(FIRST_BACKOFF * 2.0 ** (failures - 1), LAST_BACKOFF) * (0.5 + self._jitter() / 2)
            self._postpone(key, Priority.PROGRESS, pause)
            self._changed.notify()
            return pause

    def went_well(self, key: K) -> None:
        """Forget the failures of a key."""
        with self._changed:
            self._failures.pop(key, None)

    def forget(self, key: K) -> None:
        """Drop all that is known of a key; a worker that has it may finish."""
        with self._changed:
            for line in self._lines:
                line.pop(key, None)
            for known in (self._due, self._again, self._failures):
                known.pop(key, None)

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def depth(self) -> int:
        """How many wait in line now."""
        return sum(len(line) for line in self._lines)

    @property
    def working(self) -> int:
        """How many are being worked on."""
        return len(self._working)

    def oldest(self) -> float:
        """Give the seconds that the oldest one in line, or in work, has been there."""
        with self._changed:
            since = [next(iter(line.values())) for line in self._lines if line]
            since += self._working.values()
            return self._clock() - min(since) if since else 0.0

    def _line_up(self, key: K, priority: Priority) -> None:
        if key in self._working:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        self._due.pop(key, None)  # it is due now; its entry in the heap is ignored when its time comes
        for other in Priority:
            if key in self._lines[other]:
                if other <= priority:
                    return
                del self._lines[other][key]
        self._lines[priority][key] = self._clock()

    def _postpone(self, key: K, priority: Priority, after: float) -> None:
        due = self._clock() + after
        if any(key in line for line in self._lines) or self._due.get(key, due + 1) <= due:
            return
        self._numbers += 1
        self._due[key] = due
        heapq.heappush(self._later, _Later(due, self._numbers, key, priority))

    def _fall_due(self, now: float) -> None:
        while self._later and self._later[0].due <= now:
            item = heapq.heappop(self._later)
            if self._due.get(item.key) == item.due:
                del self._due[item.key]
                self._line_up(item.key, item.priority)

    def _pick(self, now: float) -> K | None:
        lines = [line for line in self._lines if line]
        if not lines:
            return None
        self._picks += 1
        oldest = min(lines, key=lambda line: next(iter(line.values())))
        if self._picks % 2 and now - next(iter(oldest.values())) >= PATIENCE:
            return oldest.popitem(last=False)[0]
        return lines[0].popitem(last=True)[0]
