"""Copies of requests for a canary: after the client has its answer, one at a time, and the first thing to be dropped.

What serves comes first. A copy waits until no request does, and where too many wait already it is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial

from workloads.serve import images
from workloads.serve.answers import Refusal
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Metrics
from workloads.serve.limits import MIB
from workloads.serve.lot import Lot
from workloads.serve.results import findings
from workloads.serve.served import Served
from workloads.serve.tensors import Array
from workloads.serve.watching import Watching

log = logging.getLogger(__name__)
MOST = 64
"""Copies that wait at once …"""
HELD = 64 * MIB
"""… and bytes in them."""
_MOST_TOLD = 20
PAUSE = 0.005
"""Seconds between two looks whether requests wait."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that what serves has answered."""

    rows: Array
    picture: bytes | None
    size: tuple[int, int] | None

    @property
    def nbytes(self) -> int:
        """Bytes that it keeps in memory."""
        return self.rows.nbytes + len(self.picture or b"")


class Mirror:
    """Hands copies of requests that ``original`` answered to ``canary``. Belongs to the event loop's thread."""

    def __init__(self, model: str, original: Served, canary: Served, metrics: Metrics, watching: Watching) -> None:
        self._model = model
        self._original = original
        self._canary = canary
        self._metrics = metrics
        self._watching = watching
        self._percent = 0
        self._lot = Lot()
        self._copies: deque[Copy] = deque()
        self._held = 0
        self._working: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    def take(self, percent: int) -> None:
        """Take copies of so many of a hundred requests from here on; with 0, also those that wait are let go."""
        self._percent = percent
        self._original.copies = self if percent else None
        if not percent:
            self._copies.clear()
            self._held = 0

    def offer(self, rows: Array, picture: bytes | None = None, size: tuple[int, int] | None = None) -> None:
        """Take a copy, or do not; see ``served.Copies``."""
        if not self._lot.drawn(self._percent):
            return
        copy = Copy(rows, picture, size)
        if len(self._copies) >= MOST or self._held + copy.nbytes > HELD:
            self._metrics.dropped(self._model)
            return
        self._copies.append(copy)
        self._held += copy.nbytes
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Answer all copies that wait, and those that come meanwhile."""
        while self._copies:
            while self._original.batcher.depth:  # noqa: ASYNC110 - it is empty most of the time, and nobody tells
                await asyncio.sleep(PAUSE)
            if not self._copies:
                return
            copy = self._copies.popleft()
            self._held -= copy.nbytes
            try:
                await self._answer(copy)
            except (EngineFailure, Refusal) as error:
                self._tell(str(error))
            except Exception:
                log.exception("a copied request to model %s could not be answered", self._model)

    async def _answer(self, copy: Copy) -> None:
        """Have the canary answer, and count that under its version. What goes wrong here is always its own fault."""
        canary = self._canary
        with self._metrics.request() as tally, canary.lease():
            tally.series = canary.observer.series
            rows = await self._prepared(copy)
            inputs = {canary.engine.inputs[0].name: rows}
            try:
                number = canary.engine.check(inputs, None)
            except Refusal as error:
                raise EngineFailure(f"it does not take what version {self._version} takes: {error.message}") from error
            outputs = await canary.batcher.submit(inputs, number)
            self._watching.counted(self._model, canary, rows=rows, found=findings(canary.artifact, outputs, number),
                                   size=copy.size)  # fmt: skip

    async def _prepared(self, copy: Copy) -> Array:
        """Give the canary's input: the same tensor, unless it is a picture that the canary wants in another form."""
        part, size = self._canary.engine.inputs[0], self._canary.artifact.image_size
        same = (self._original.engine.inputs[0].datatype, self._original.artifact.image_size) == (part.datatype, size)
        if copy.picture is None or same:
            return copy.rows
        pixels = copy.size[0] * copy.size[1] if copy.size else 0
        prepare = partial(images.prepared, copy.picture, self._canary.artifact, part.datatype, pixels)
        # Not where the pictures of clients are decoded: they would have to wait for it.
        _, rows = await asyncio.get_running_loop().run_in_executor(None, prepare)
        return rows

    @property
    def _version(self) -> int:
        return self._original.target.version

    def _tell(self, words: str) -> None:
        """Log the first of each kind of trouble; all of them are counted."""
        words = words[:200]
        if words not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(words)
            version = self._canary.target.version
            log.warning("model %s: version %d cannot answer a copied request: %s", self._model, version, words)
