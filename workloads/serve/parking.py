"""More models than memory: engines beyond a budget are let go, least recently used first, and come back when asked for.

A parked model keeps its place, its files and what it says about itself; only its engine is gone. Whoever asks for it
waits until the engine is back and has proved itself again: one load for many who wait, and a bounded number of these.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Counts
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NoReturn

from prometheus_client import CollectorRegistry, Counter, Gauge

from specs.errors import TrunklineError
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.limits import SOON, Limits
from workloads.serve.loading import Proven
from workloads.serve.served import Served

PATIENCE = 30.0
"""Seconds that a request waits for its model to come back, at most."""

log = logging.getLogger(__name__)


class ParkingSeries:
    """What Prometheus sees of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.parks = Counter("trunkline_parks", "Engines that were let go to make room.", ["model"], registry=registry)
        self.wakes = Counter(
            "trunkline_wakes", "Engines that were brought back, by how that ended.", ["model", "result"],
            registry=registry,
        )  # fmt: skip
        self.engines = Gauge("trunkline_engines", "Engines in memory.", registry=registry)
        self.bytes = Gauge("trunkline_engines_bytes", "Memory that they take, as estimated.", registry=registry)


class Parking:
    """The engines of all versions that are in memory, within one budget. Belongs to the event loop's thread."""

    def __init__(
        self, budget: int, limits: Limits, series: ParkingSeries, *,
        reopen: Callable[[Served], Awaitable[Proven]], batcher: Callable[[Served, Proven], Batcher],
    ) -> None:  # fmt: skip
        """``budget`` in bytes; ``reopen`` loads a version's engine again, ``batcher`` gives it a queue."""
        self._budget = budget
        self._most = limits.queue
        self._series = series
        self._reopen = reopen
        self._batcher = batcher
        self._awake: OrderedDict[Served, None] = OrderedDict()
        """Least recently used first."""
        self._coming: dict[Served, asyncio.Task[None]] = {}
        self._expected: dict[Served, int] = {}
        """Bytes that are kept free for what is being brought back."""
        self._waiting: Counts[Served] = Counts()
        self._wanting = 0
        """How many wait for room …"""
        self._over = False
        """… and whether what is in use takes more than there is."""
        self._freed = asyncio.Event()
        series.engines.set_function(lambda: len(self._awake))
        series.bytes.set_function(self._used)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes fit beside all that is in memory."""
        return self._used() + size <= self._budget

    def admit(self, served: Served) -> None:
        """Take in a version of a model; others make room for it."""
        served.idle = self._idle
        if not served.parked:
            self._awake[served] = None
            self._make_room(0)

    def touch(self, served: Served) -> None:
        """Note that a version is used."""
        if served in self._awake:
            self._awake.move_to_end(served)

    async def awake(self, served: Served) -> None:
        """Come back once a parked version can answer, or was let go of for good.

        Refusal 429 where too many wait for parked models already, 503 where it cannot be brought back now.
        """
        if self._waiting.total() >= self._most:
            msg = f"{self._most} requests wait for models that are not in memory; try again soon (--queue)"
            raise Refusal(429, msg, headers=SOON)
        task = self._coming.get(served)
        if task is None:
            task = self._coming[served] = asyncio.create_task(self._bring_back(served))
            task.add_done_callback(lambda done: self._came(served, done))
        self._waiting[served] += 1
        try:
            await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        except TrunklineError as error:
            _refuse(served.name, error.message, error)
        except TimeoutError as error:
            _refuse(served.name, f"it did not come back in {PATIENCE:g} seconds", error)
        finally:
            self._waiting[served] -= 1
            self._waiting += Counts()  # drops what is 0
            self._freed.set()  # who waits for room on behalf of nobody shall see that

    def _came(self, served: Served, task: asyncio.Task[None]) -> None:
        del self._coming[served]
        if not task.cancelled():
            task.exception()  # those who waited got it; they may all be gone

    async def _bring_back(self, served: Served) -> None:
        need = served.engine.memory
        if not await self._room(need, served):
            return
        self._expected[served] = need
        try:
            proven = await self._reopen(served)
        except TrunklineError as error:
            log.warning("model %s cannot be brought back (%s): %s", served.name, error.reason, error.message)
            self._series.wakes.labels(served.name, error.reason).inc()
            raise
        finally:
            del self._expected[served]
            self._freed.set()
        self._series.wakes.labels(served.name, "ok").inc()
        served.wake(proven, self._batcher(served, proven))
        self._awake[served] = None
        self._make_room(0)

    async def _room(self, need: int, served: Served) -> bool:
        """Wait until so many bytes fit, as long as anybody waits for the version; whether they do, and it is wanted."""
        self._wanting += 1
        try:
            while served in self._waiting and not served.gone:
                if self._make_room(need):
                    return True
                self._freed.clear()
                await self._freed.wait()
        finally:
            self._wanting -= 1
        return False

    def _make_room(self, need: int) -> bool:
        """Park what is idle until so many bytes fit; whether they do. Alone, anything may try."""
        for served in list(self._awake):
            if served.gone:
                del self._awake[served]
            elif not (self.has_room(need) or served.busy or served in self._waiting):
                served.park()
                del self._awake[served]
                self._series.parks.labels(served.name).inc()
                log.info("model %s: version %d is parked", served.name, served.target.version)
        self._over = not self.has_room(0)
        return self.has_room(need) or self._used() == 0

    def _idle(self) -> None:
        """Be told that a version answers nothing at the moment, or is gone."""
        if self._wanting or self._over:
            self._make_room(0)
            self._freed.set()

    def _used(self) -> int:
        return sum(served.engine.memory for served in self._awake if not served.gone) + sum(self._expected.values())


def _refuse(name: str, why: str, cause: Exception) -> NoReturn:
    raise Refusal(503, f"model {name!r} was parked and cannot be brought back: {why}", headers=SOON) from cause
