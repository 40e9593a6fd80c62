"""Versions on trial: their self-tests are repeated, since what answered well once need not for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from specs.errors import Stalled, TrunklineError
from workloads.serve.served import Served
from workloads.serve.supply import Supply

log = logging.getLogger(__name__)
CHECKS = 20
"""So often the self-tests of a version on trial are repeated …"""
FASTEST, SLOWEST = 0.2, 60.0
"""… with pauses of so many seconds at least and at most."""


class Probation:
    """Trials by a name of the caller's. Belongs to the event loop's thread."""

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._trials: dict[str, asyncio.Task[None]] = {}

    async def check(self, name: str, served: Served) -> str:
        """Repeat the self-tests of a version of model ``name``, and remember what is wrong; empty where all is well.

        CorruptArtifact, Stalled and Transient where the tests themselves cannot be had.
        """
        if served.parked:
            return served.flaw  # it proves itself when it comes back
        try:
            await self._supply.prove(served)
        except Stalled as error:
            if error.reason != "SelfTestFailed":
                raise
            log.warning("model %s: version %d: %s", name, served.target.version, error.message)
            served.flaw = error.message
        else:
            served.flaw = ""
        return served.flaw

    def begin(self, name: str, served: Served, *, lasts: Callable[[], bool], seconds: float) -> None:
        """Put a version on trial, as long as ``lasts`` says so; ``seconds`` is how long that is meant to be."""
        self.end(name)
        pause = min(max(seconds / CHECKS, FASTEST), SLOWEST)
        self._trials[name] = asyncio.create_task(self._look_after(name, served, lasts, pause))

    def end(self, name: str) -> None:
        """End a trial; no-op where there is none."""
        if (trial := self._trials.pop(name, None)) is not None:
            trial.cancel()

    def close(self) -> None:
        """End all trials."""
        for name in list(self._trials):
            self.end(name)

    async def _look_after(self, name: str, served: Served, lasts: Callable[[], bool], pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            if not lasts():
                return
            try:
                await self.check(name, served)
            except TrunklineError as error:
                log.warning("model %s: its self-tests cannot be repeated now: %s", name, error)
