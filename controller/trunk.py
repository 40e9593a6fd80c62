"""A tracked branch and its pull requests, looked at once for all models that come from it, again and again."""

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

REST = 1.0
"""Seconds between two looks that nobody but webhooks asked for: a storm of them costs one look a second."""


@dataclass(frozen=True)
class Touched:
    """Whom a look concerns: models by name (in whatever namespace), and models by key."""

    names: frozenset[str]
    keys: frozenset[ModelKey]


class Trunk:
    """Polls. A webhook, or a pass that pushed something, may ask for a look at once; it never says what to find."""

    def __init__(
        self, name: str, reconciler: Reconciler, provenance: GitProvenance, clock: Callable[[], float],
        looked: Callable[[str, str], None] = lambda name, outcome: None,
    ) -> None:  # fmt: skip
        """``looked`` is told the name, and how each look ended: ``ok`` or ``error``."""
        self.name = name
        self._looked = looked
        self._reconciler = reconciler
        self._provenance = provenance
        self._clock = clock
        self._wanted = Event()
        self._hurry = False
        """Whether a pass asked, not only a webhook."""
        self._lock = Lock()
        self._waiting: set[ModelKey] = set()
        self._trouble = ""
        self.shared: Shared | None = None
        """The last look; None before the first one."""
        self.looked = -1.0
        """When it began, on the clock of this process."""

    @property
    def answers(self) -> bool:
        """Whether the last look succeeded."""
        return self.shared is not None and not self._trouble

    def want(self, keys: Iterable[ModelKey] = ()) -> None:
        """Ask for a look now; ``keys`` are concerned by it, whatever it finds. Without any there is no hurry."""
        with self._lock:
            asked = set(keys)
            self._waiting |= asked
            self._hurry |= bool(asked)
        self._wanted.set()

    def shared_with(self, key: ModelKey) -> Shared | None:
        """Give the last look. None before the first one: the model is looked at as soon as that succeeds."""
        with self._lock:
            if self.shared is None:
                self._waiting.add(key)
            return self.shared

    def forever(self, interval: float, stop: Event, touched: Callable[[Touched], None]) -> None:
        """Look every ``interval`` seconds, and when asked to, until told to stop."""
        while not stop.is_set():
            self._wanted.clear()
            self._hurry = False
            began = self._clock()
            try:
                touched(self.look())
                self._trouble = ""
                self._looked(self.name, "ok")
            except TrunklineError as error:
                self._complain(f"{error.reason}: {error.message}")
                self._looked(self.name, "error")
            except Exception as error:  # noqa: BLE001  a bug that one repository brings out is no trouble of the others
                self._complain(f"InternalError: {type(error).__name__}", error)
                self._looked(self.name, "error")
            self._wanted.wait(interval)
            if not self._hurry:
                stop.wait(max(0.0, began + min(REST, interval) - self._clock()))

    def look(self) -> Touched:
        """Look once, at forge and git; Transient or Stalled where that fails, and the last look stays."""
        began = self._clock()
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        try:
            shared = self._reconciler.share()
            names = self._provenance.read(shared.head)
        except BaseException:
            with self._lock:
                self._waiting |= waiting
            raise
        with self._lock:
            before, self.shared, self.looked = self.shared, shared, began
            if before is None:
                waiting |= self._waiting
        return Touched(names, frozenset(waiting | _moved(before, shared)))

    def _complain(self, trouble: str, bug: Exception | None = None) -> None:
        """Log trouble once until it changes; a bug with its traceback."""
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("%s: %s", self.name, trouble, exc_info=bug)


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
