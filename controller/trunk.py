"""The tracked branch and its pull requests, looked at once for all models, again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event, Lock

from adapters.provenance_git import GitProvenance
from reconcilers.loop import Reconciler
from reconcilers.observe import Shared
from specs.errors import TrunklineError
from specs.modelspec import ModelKey

log = logging.getLogger("trunkline.trunk")


@dataclass(frozen=True)
class Touched:
    """Whom a look concerns: models by name (in whatever namespace), and models by key."""

    names: frozenset[str]
    keys: frozenset[ModelKey]


class Trunk:
    """Polls. A webhook, or a pass that pushed something, may ask for a look at once; it never says what to find."""

    def __init__(
        self, reconciler: Reconciler, provenance: GitProvenance, clock: Callable[[], float],
        looked: Callable[[str], None] = lambda outcome: None,
    ) -> None:  # fmt: skip
        """``looked`` is told how each look ended: ``ok`` or ``error``."""
        self._looked = looked
        self._reconciler = reconciler
        self._provenance = provenance
        self._clock = clock
        self._wanted = Event()
        self._lock = Lock()
        self._waiting: set[ModelKey] = set()
        self._trouble = ""
        self.shared: Shared | None = None
        """The last look; None before the first one."""
        self.looked = -1.0
        """When it began, on the clock of this process."""

    def want(self, keys: Iterable[ModelKey] = ()) -> None:
        """Ask for a look now; ``keys`` are concerned by it, whatever it finds."""
        with self._lock:
            self._waiting.update(keys)
        self._wanted.set()

    def forever(self, interval: float, stop: Event, touched: Callable[[Touched], None]) -> None:
        """Look every ``interval`` seconds, and when asked to, until told to stop."""
        while not stop.is_set():
            self._wanted.clear()
            try:
                touched(self.look())
                self._trouble = ""
                self._looked("ok")
            except TrunklineError as error:
                self._complain(error)
                self._looked("error")
            self._wanted.wait(interval)

    def look(self) -> Touched:
        """Look once, at forge and git; Transient or Stalled where that fails, and the last look stays."""
        began = self._clock()
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        try:
            shared = self._reconciler.share()
            names = self._provenance.read(shared.head)
        except TrunklineError:
            with self._lock:
                self._waiting |= waiting
            raise
        before, self.shared, self.looked = self.shared, shared, began
        return Touched(names, frozenset(waiting | _moved(before, shared)))

    def _complain(self, error: TrunklineError) -> None:
        """Log trouble once until it changes."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("%s: %s", error.reason, error)


def _moved(before: Shared | None, now: Shared) -> set[ModelKey]:
    """Give the models whose proposals changed, or whose proposals stand on another head."""
    if before is None:
        return set()
    every = {*before.pulls, *now.pulls, *before.branches, *now.branches}
    if before.head != now.head:
        return every
    return {
        key
        for key in every
        if (before.pulls.get(key), before.branches.get(key)) != (now.pulls.get(key), now.branches.get(key))
    }
