"""Questions to places that may be slow or down, asked behind the backs of those who want the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from specs.errors import Transient, TrunklineError

PATIENCE = 2.0
"""Seconds that a first question may take before whoever asked goes on without an answer."""
STALE = 3600.0
"""Seconds after which an old answer is none: what is proposed from it might lead back."""

T = TypeVar("T")


class Lookout(Generic[T]):
    """One question. Any number of threads may ask; it is put to the place once every ``every`` seconds at most.

    ``ask`` may take as long as it likes and raise TrunklineError, which is remembered like an answer. Until there is an
    answer, Transient ``DataSourceUnreachable`` says that ``place`` has not answered yet. ``clock`` gives seconds.
    """

    def __init__(
        self, ask: Callable[[], T], place: str, every: float, clock: Callable[[], float], patience: float = PATIENCE
    ) -> None:
        self._ask, self._place, self._every, self._clock, self._patience = ask, place, every, clock, patience
        self._changing = threading.Lock()
        self._over: threading.Event | None = None
        """Set at the end of the look that is under way; None while there is none."""
        self._began = 0.0
        self._ended: float | None = None
        self._answer: tuple[T, float] | None = None
        """And when it came."""
        self._failure: TrunklineError | None = None
        """Of the last look."""

    def get(self) -> T:
        """Give the newest answer that is known; ask again behind the caller's back when it is time."""
        with self._changing:
            if self._over is None and (self._ended is None or self._clock() - self._ended >= self._every):
                self._begin()
            over, left = self._over, self._began + self._patience - self._clock()
        if self._ended is None and over is not None and left > 0:
            over.wait(left)
        with self._changing:
            if self._answer is not None and self._clock() - self._answer[1] < STALE:
                return self._answer[0]
            if self._failure is not None:
                raise self._failure.with_traceback(None)
        raise Transient("DataSourceUnreachable", f"{self._place} has not answered yet; it is still being asked")

    def _begin(self) -> None:
        self._over, self._began = threading.Event(), self._clock()
        threading.Thread(target=self._look, args=(self._over,), name=f"look at {self._place}", daemon=True).start()

    def _look(self, over: threading.Event) -> None:
        answer: tuple[T, float] | None = None
        failure: TrunklineError | None = None
        try:
            answer = self._ask(), self._clock()
        except TrunklineError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  whoever asks gets it as ours; the thread must end in order
            failure = Transient("DataSourceUnreachable", f"{self._place} could not be asked: {type(error).__name__}")
        finally:
            with self._changing:
                self._answer, self._failure = answer or self._answer, failure
                self._ended, self._over = self._clock(), None
            over.set()
