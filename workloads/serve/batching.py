"""Puts the requests that wait for the same model into one inference.

Nothing waits on purpose: while one inference runs, requests gather, and the next inference takes them all, up to
the limits. A thread per model does the work; the event loop only hands over and picks up.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from workloads.serve.answers import Refusal
from workloads.serve.engine import Engine, EngineFailure
from workloads.serve.limits import SOON, Limits
from workloads.serve.tensors import Array

Outputs = dict[str, Array]
T = TypeVar("T")


class Observer(Protocol):
    """Is told about every inference, in the event loop's thread. Times in seconds."""

    def inference(self, rows: int, seconds: float, queued: list[float]) -> None:
        """``queued`` has the waiting time of each request that took part."""


@dataclass(eq=False)
class _Item:
    inputs: Mapping[str, Array]
    rows: int
    future: asyncio.Future[Outputs]
    since: float = field(default_factory=time.perf_counter)


@dataclass
class _Batch:
    items: list[_Item]
    started: float = 0.0
    ended: float = 0.0
    results: list[Outputs | EngineFailure] = field(default_factory=list)


class Batcher:
    """The bounded queue of one loaded model. All methods belong to the event loop's thread."""

    def __init__(self, engine: Engine, limits: Limits, observer: Observer) -> None:
        self._engine = engine
        self._limit = limits.queue
        self._rows = _rows_per_batch(engine, limits)
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        # SimpleQueue is written in C: handing over costs less than any lock of ours would.
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._arrived: list[_Item] = []
        self._closed = False
        self._start()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._arrived) + self._waiting.qsize()

    def submit(self, inputs: Mapping[str, Array], rows: int) -> asyncio.Future[Outputs]:
        """Queue one request; cancel the future to drop it. Refusal 429 where the queue is full.

        The future raises EngineFailure where the runtime fails.
        """
        if self.depth >= self._limit:
            msg = f"{self._limit} requests wait for this model already; try again soon (--queue)"
            raise Refusal(429, msg, headers=SOON)
        item = _Item(inputs, rows, self._loop.create_future())
        if not self._arrived:
            # Whatever else arrives in this turn of the loop goes along: one wake-up of the thread, one inference.
            self._loop.call_soon(self._hand_over)
        self._arrived.append(item)
        return item.future

    def close(self) -> None:
        """Finish what waits, then end the thread; nothing may be submitted any more."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._waiting.put(None)

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        for item in arrived:
            self._waiting.put(item)

    def _start(self) -> None:
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    def _work(self) -> None:
        """Run batches until closed. Runs in the thread."""
        left_over: _Item | None = None
        batch = _Batch([])
        try:
            while (first := left_over or self._waiting.get()) is not None:
                batch, left_over = self._gather(first)
                if batch.items:
                    batch.started = time.perf_counter()
                    batch.results = self._run(batch.items)
                    batch.ended = time.perf_counter()
                    self._tell(self._deliver, batch)
                batch = _Batch([])
        finally:
            # Reached with requests in hand only by a bug; they must not hang, nor those that come after.
            stranded = [*batch.items, *([left_over] if left_over else [])]
            if stranded:
                self._tell(self._recover, stranded)

    def _tell(self, callback: Callable[[T], None], value: T) -> None:
        """Have the loop call back. When the process ends the loop may be gone, and nobody is left to be told."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, value)

    def _gather(self, first: _Item) -> tuple[_Batch, _Item | None]:
        """Give ``first`` and what waits behind it, as far as it fits; and the item that did not fit."""
        items = [] if first.future.cancelled() else [first]
        rows = first.rows
        while rows < self._rows:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._waiting.put(None)
                break
            if item.future.cancelled():
                continue
            if rows + item.rows > self._rows:
                return _Batch(items), item
            items.append(item)
            rows += item.rows
        return _Batch(items), None

    def _run(self, items: list[_Item]) -> list[Outputs | EngineFailure]:
        try:
            if len(items) == 1:
                return [self._engine.run(items[0].inputs)]
            joined = {name: np.concatenate([item.inputs[name] for item in items]) for name in items[0].inputs}
            return list(_split(self._engine.run(joined), items))
        except EngineFailure as error:
            if len(items) == 1:
                return [error]
            # One bad request must not fail the others: ask again, one by one.
            return [result for item in items for result in self._run([item])]

    def _deliver(self, batch: _Batch) -> None:
        for item, result in zip(batch.items, batch.results, strict=True):
            if item.future.done():
                continue
            if isinstance(result, EngineFailure):
                item.future.set_exception(result)
            else:
                item.future.set_result(result)
        queued = [batch.started - item.since for item in batch.items]
        self._observer.inference(sum(item.rows for item in batch.items), batch.ended - batch.started, queued)

    def _recover(self, stranded: list[_Item]) -> None:
        for item in stranded:
            if not item.future.done():
                item.future.set_exception(EngineFailure("the inference thread ended unexpectedly; see the log"))
        self._start()


def _rows_per_batch(engine: Engine, limits: Limits) -> int:
    if not engine.batched:
        return 1
    row = sum(abs(int(np.prod(part.shape[1:]))) * 4 for part in engine.inputs)
    return max(1, min(limits.max_batch, limits.max_batch_bytes // max(row, 1)))


def _split(outputs: Outputs, items: list[_Item]) -> list[Outputs]:
    """Give each request its rows. The arrays are views of the batch's."""
    parts: list[Outputs] = []
    offset = 0
    for item in items:
        parts.append({name: array[offset : offset + item.rows] for name, array in outputs.items()})
        offset += item.rows
    return parts
