"""Who asks about live traffic, and when it is looked at again: behind the backs of those who ask."""

from __future__ import annotations

import logging
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from specs.traffic import Watch, Watched

log = logging.getLogger("trunkline.traffic")

FORGET = 3600.0
"""Seconds, at least, after which a model that nobody asked about is forgotten; an operator asks every ten minutes."""
PATIENCE = 3
"""Looks that may fail in a row before that is told: one that is lost now and then is no news."""
BUG = "its traffic could not be looked at: a bug in Trunkline; the log has the traceback"
_IDLE = 60.0
_SOONEST = 0.005

T = TypeVar("T")


@dataclass
class Entry(Generic[T]):
    """A model that somebody asked about, and what is known of it."""

    asked: Watch
    wanted: float
    """When somebody asked last."""
    known: T
    due: float = 0.0
    seen: bool = False
    """Whether any look brought what was wanted."""
    failures: int = 0
    trouble: str = ""
    """Of the last look; told once there were enough of them."""
    answer: tuple[Watch, Watched] | None = None
    """To which question; None until a look brought something, or so many did not that this is the answer."""

    def failed(self, trouble: str) -> None:
        """Note a look that brought nothing."""
        self.failures += 1
        self.trouble = trouble

    def went_well(self) -> None:
        """Note a look that brought what was wanted."""
        self.seen, self.failures, self.trouble = True, 0, ""

    @property
    def told_trouble(self) -> str:
        """What there is to say about failures: nothing at first."""
        return self.trouble if self.failures >= PATIENCE else ""


class Rounds(ABC, Generic[T]):
    """Half of the port ``TrafficSource``: remembers questions, and answers from what the last round found.

    A thread of its own makes the rounds, from the first question on until nobody has this object any more; with
    ``background`` False nobody does but who calls ``turn``. ``clock`` gives Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float], *, poll: float, background: bool) -> None:
        self._clock, self._poll, self._background = clock, poll, background
        self._lock = threading.Lock()
        self._entries: dict[str, Entry[T]] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self, asked: Watch) -> Watched | None:
        """Give what is known now; None until a first look ended. Being asked is what keeps a model watched."""
        now = self._clock()
        with self._lock:
            entry = self._entries.get(asked.name)
            if entry is None or entry.asked.window != asked.window:
                entry = self._entries[asked.name] = Entry(asked, now, self._begin(asked))
                self._start()
            entry.wanted = now
            if entry.asked != asked:
                entry.asked, entry.due = asked, now
                self._start()
            if entry.answer is not None and entry.answer[0] != asked:
                entry.answer = asked, self._answer(entry)
            return entry.answer[1] if entry.answer is not None else None

    def turn(self) -> float:
        """Make a round: look at all that is due. Gives the seconds until the next one is."""
        now = self._clock()
        with self._lock:
            for name, entry in list(self._entries.items()):
                if now - entry.wanted > max(FORGET, entry.asked.window):
                    del self._entries[name]
            due = [entry for entry in self._entries.values() if entry.due <= now]
        if due:
            self._visit(due)
        with self._lock:
            soonest = min((entry.due for entry in self._entries.values()), default=self._clock() + _IDLE)
        return max(soonest - self._clock(), _SOONEST)

    def every(self, asked: Watch) -> float:
        """Give the seconds between two looks at a model."""
        return min(self._poll, asked.window / 4)

    @abstractmethod
    def _begin(self, asked: Watch) -> T:
        """Give what is known of a model before anybody looked. Called with the lock held; quick."""

    @abstractmethod
    def _answer(self, entry: Entry[T]) -> Watched:
        """Answer from what is known. Called with the lock held; quick."""

    @abstractmethod
    def _visit(self, due: Sequence[Entry[T]]) -> None:
        """Look at these models, enter what was found, say when each is due next. Called without the lock."""

    def _settle(self, entry: Entry[T], due: float) -> None:
        """End a look at a model. Called with the lock held."""
        entry.due = due
        if entry.seen or entry.told_trouble:
            entry.answer = entry.asked, self._answer(entry)

    def _start(self) -> None:
        self._wake.set()
        if self._background and self._thread is None:
            arguments = (weakref.ref(self), self._wake)
            self._thread = threading.Thread(target=_forever, args=arguments, name="traffic", daemon=True)
            self._thread.start()

    def safe_turn(self) -> float:
        """Make a round, as ``turn``; a bug in it is logged, and the next round comes as usual."""
        try:
            return self.turn()
        except Exception:
            log.exception("a look at live traffic failed; trying again")
            return self._poll


def _forever(source: weakref.ref[Rounds[T]], wake: threading.Event) -> None:
    """Make rounds as long as somebody has what makes them."""
    pause = 0.0
    while True:
        wake.wait(pause)
        wake.clear()
        rounds = source()
        if rounds is None:
            return
        pause = rounds.safe_turn()
        del rounds
