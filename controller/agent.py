"""The agent: the whole loop without a cluster. ModelSpecs come from git, jobs and server are local processes."""

from __future__ import annotations

import fcntl
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from controller.statuses import Statuses
from reconcilers.loop import Reconciler, Result
from reconcilers.observe import Shared
from reconcilers.ports import Servers, Source
from reconcilers.summary import trouble_status
from specs.errors import InvalidManifest, Problem, Stalled, Transient, TrunklineError
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.status import ConditionType, ModelStatus, Reason

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

    reconciler: Reconciler
    source: Source
    servers: Servers
    statuses: Statuses
    said: Callable[[ModelKey, ModelStatus], None] = lambda key, status: None
    """Called when a model's status changed."""
    _paces: dict[ModelKey, _Pace] = field(default_factory=dict)
    _trouble: str = ""
    _problems: tuple[Problem, ...] = ()

    def once(self) -> bool:
        """Look at every model that is due; True while there is work under way or trouble to retry."""
        try:
            shared = self.reconciler.share()
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
        self._broken()
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
        previous = self.statuses.read(key)
        try:
            result = self.reconciler.run(sourced, shared, previous)
        except Exception:  # a bug in one model's pass must not stop the others
            log.exception("internal error while reconciling %s", key)
            error = Stalled("InternalError", "a bug in Trunkline; the agent's log has the traceback")
            result = Result(trouble_status(error, previous, _stamp()), retry=True)
        if result.retry:
            pace.failed(time.time())
        else:
            pace.went_well()
        self._say(key, result.status)
        return result.acted or result.retry or _works(result.status)

    def _say(self, key: ModelKey, status: ModelStatus) -> None:
        if self.statuses.write(key, status):
            self.said(key, status)

    def _broken(self) -> None:
        """Models whose file cannot be read say so; what serves goes on serving."""
        for key, problems in self.source.broken.items():
            status = trouble_status(InvalidManifest(problems), self.statuses.read(key), _stamp())
            self._say(key, status)

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


def _works(status: ModelStatus) -> bool:
    """Whether work is under way that will end by itself; waiting for a person is none."""
    found = status.condition(ConditionType.RECONCILING)
    return found is not None and found.reason != Reason.PULL_REQUEST_OPEN


def _stamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


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
