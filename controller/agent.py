"""The agent: the whole loop without a cluster. ModelSpecs come from git, jobs and server are local processes."""

from __future__ import annotations

import fcntl
import logging
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from controller.metrics import Metrics
from controller.passes import Passes, is_crowded_out, works
from controller.readings import Readings
from controller.statuses import Statuses
from reconcilers.observe import Shared
from reconcilers.ports import Servers, Source
from specs.errors import Problem, Stalled, Transient, TrunklineError
from specs.modelspec import ModelKey
from specs.names import serving_name

log = logging.getLogger("trunkline.agent")
_FIRST_BACKOFF, _LAST_BACKOFF = 1.0, 300.0


@dataclass
class _Pace:
    """When a model is looked at again after trouble. Lost with the process, which only means: sooner."""

    failures: int = 0
    due: float = 0.0

    def failed(self, now: float) -> None:
        """Wait twice as long as before, give or take, up to five minutes."""
        self.failures += 1
        delay = min(_FIRST_BACKOFF * 2.0 ** (self.failures - 1), _LAST_BACKOFF)
        self.due = now + delay * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret

    def went_well(self) -> None:
        """Look again at the host's own pace."""
        self.failures, self.due = 0, 0.0


@dataclass
class Agent:
    """Looks at all models, again and again."""

    passes: Passes
    source: Source
    servers: Servers
    statuses: Statuses
    readings: Readings | None = None
    """Where what signals said is kept for people; None where nobody looks."""
    metrics: Metrics = field(default_factory=Metrics)
    """What is told to Prometheus, if it asks."""
    _paces: dict[ModelKey, _Pace] = field(default_factory=dict)
    _trouble: str = ""
    _problems: tuple[Problem, ...] = ()

    def once(self) -> bool:
        """Look at every model that is due; True while there is work under way or trouble to retry."""
        try:
            shared = self.passes.reconciler.share()
            self.source.refresh()
        except TrunklineError as error:
            self._complain(error)
            return True
        self._trouble = ""
        self._complain_of_files()
        busy = False
        keys = self.source.keys()
        for key in keys:
            busy = self._one(key, shared) or busy
        for key, problems in self.source.broken.items():
            self.passes.report_broken(key, problems)
        self._sweep()
        return busy

    def forever(self, interval: float, stop: Event) -> None:
        """Look every ``interval`` seconds until told to stop."""
        while not stop.is_set():
            self.once()
            stop.wait(interval)

    def _one(self, key: ModelKey, shared: Shared) -> bool:
        pace = self._paces.setdefault(key, _Pace())
        sourced = self.source.get(key)
        if sourced is None or time.time() < pace.due:
            return True
        began = time.monotonic()
        result = self.passes.look(sourced, shared)
        outcome = "retry" if result.retry else "acted" if result.acted else "ok"
        self.metrics.pass_done(outcome, time.monotonic() - began)
        if self.readings is not None and result.spec is not None and result.observed is not None:
            self.readings.keep(result.spec, result.observed)
        if result.retry:
            pace.failed(time.time())
        else:
            pace.went_well()
        working = works(result.status) and not is_crowded_out(result.status)
        return result.acted or result.retry or working

    def _sweep(self) -> None:
        """Stop serving models that left the trunk; never while a file is broken, for it may be theirs."""
        if self.source.problems:
            return
        keys = set(self.source.keys())
        wanted = {serving_name(*key) for key in keys}
        try:
            for name in self.servers.names():
                if name not in wanted:
                    self.servers.withdraw(name)
        except Transient as error:
            self._complain(error)
        self.statuses.remove_others(keys)

    def _complain(self, error: TrunklineError) -> None:
        """Log trouble that concerns all models, once until it changes."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            log.warning("%s: %s", error.reason, error)

    def _complain_of_files(self) -> None:
        """Log what is wrong with files, once: a file that never was right has no model whose status could say it."""
        problems = tuple(self.source.problems)
        for problem in problems:
            if problem not in self._problems:
                log.warning("%s", problem)
        self._problems = problems


class OnlyOne:
    """At most one agent per state folder; the lock goes with the process, however it ends."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._file = (state / "agent.lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"another agent works in {state}; stop it first, or give this one another `state` folder"
            raise Stalled("AgentRuns", text) from error
