"""Puts the requests that wait for the same model into one inference, as far as that gains anything.

Without a latency budget nothing waits on purpose: while one inference runs, requests gather, and the next one takes as
many of them as go faster together. With a budget, a request is refused as soon as it is clear that its answer would
come too late, no batch is so large that the first request in it would be late, and a few requests wait for more where
these are expected and the budget has room. One thread per model does the work, or a
few where an inference leaves cores idle; the event loop only hands over and picks up.
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

from specs.base import seconds as seconds_of
from specs.serving import Batching
from workloads.serve.answers import Refusal
from workloads.serve.engine import Engine, EngineFailure
from workloads.serve.limits import SOON, Limits, too_late
from workloads.serve.pacing import Gaps, Pace, Patience
from workloads.serve.tensors import Array

Outputs = dict[str, Array]
Result = Outputs | EngineFailure | Refusal
T = TypeVar("T")


class Observer(Protocol):
    """Is told about every inference, in the event loop's thread. Times in seconds."""

    def inference(self, rows: int, seconds: float, queued: list[float]) -> None:
        """``queued`` has the waiting time of each request that took part."""


@dataclass(eq=False, slots=True)
class _Item:
    inputs: Mapping[str, Array]
    rows: int
    future: asyncio.Future[Outputs]
    since: float
    behind: bool
    """Whether others were before it when it came."""


@dataclass(slots=True)
class _Batch:
    items: list[_Item]
    dropped: list[_Item] = field(default_factory=list)
    """Cancelled, or waited longer than their whole budget: never run."""
    started: float = 0.0
    ended: float = 0.0
    results: list[Result] = field(default_factory=list)


class Batcher:
    """The bounded queue of one loaded model. All public methods belong to the event loop's thread."""

    def __init__(
        self, engine: Engine, limits: Limits, observer: Observer,
        *, rules: Batching | None = None, pace: Pace | None = None, clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        """``rules`` are the spec's, ``pace`` is what is known about the model already; ``clock`` gives seconds."""
        self._engine = engine
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        # SimpleQueue is written in C: handing over costs less than any lock of ours would.
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._arrived: list[_Item] = []
        self._gaps = Gaps()
        # One lane at a time listens to the queue and gathers; the lock is what the others wait at.
        self._turn = threading.Lock()
        self._left_over: _Item | None = None
        # The first is written by the loop's thread only, the second under the lock: rows that came, and were taken out.
        self._came = self._taken = 0
        self._running: dict[int, tuple[float, int]] = {}
        """When the inference of each lane began, and its rows."""
        self._lanes = limits.lanes if engine.parallel else 1
        self._closed = False
        self._pace = pace or Pace(_most_rows(engine, limits, rules))
        self._patience = Patience(self._pace)
        self.follow(rules)
        for lane in range(self._lanes):
            self._start(lane)

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._arrived) + self._waiting.qsize()

    def follow(self, rules: Batching | None) -> None:
        """Keep to other rules from now on; what was learned about the model is kept where it still fits."""
        budget = rules.latency_budget if rules else None
        self._budget = seconds_of(budget) if budget else None
        most = _most_rows(self._engine, self._limits, rules)
        if self._pace.most != most:
            self._pace = Pace(most)
            self._patience = Patience(self._pace)

    def submit(self, inputs: Mapping[str, Array], rows: int) -> asyncio.Future[Outputs]:
        """Queue one request; cancel the future to drop it.

        Refusal 429 where the queue is full, or the answer would come later than the budget allows. The future raises
        EngineFailure where the runtime fails, and Refusal 429 where a request waited too long after all.
        """
        if self.depth >= self._limits.queue:
            msg = f"{self._limits.queue} requests wait for this model already; try again soon (--queue)"
            raise Refusal(429, msg, headers=SOON)
        now = self._clock()
        if self._budget is not None:
            self._gaps.arrived(now, rows)
            self._demand_time(rows, self._budget, now)
        item = _Item(inputs, rows, self._loop.create_future(), now, self._behind)
        if not self._arrived:
            # Whatever else arrives in this turn of the loop goes along: one wake-up of the thread, one inference.
            self._loop.call_soon(self._hand_over)
        self._arrived.append(item)
        self._came += rows
        return item.future

    def close(self) -> None:
        """Finish what waits, then end the thread; nothing may be submitted any more."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._waiting.put(None)

    @property
    def _behind(self) -> bool:
        """Whether a request that comes now has to wait for others."""
        return self._came > self._taken or len(self._running) >= self._lanes

    def _demand_time(self, rows: int, budget: float, now: float) -> None:
        """Refuse a request that would be answered too late, before it makes others late; none that need not wait."""
        if not self._behind:
            return
        wait = self._pace.drained(self._came - self._taken) / self._lanes
        ends = [began + self._pace.expected(size) - now for began, size in list(self._running.values())]
        if len(ends) >= self._lanes:
            wait += max(0.0, min(ends))
        if wait + self._pace.expected(rows) > budget:
            raise too_late(wait, budget)

    def _hand_over(self) -> None:
        arrived, self._arrived = self._arrived, []
        for item in arrived:
            self._waiting.put(item)

    def _start(self, lane: int) -> None:
        threading.Thread(target=self._work, args=(lane,), name=f"inference-{lane}", daemon=True).start()

    # ---------------------------------------------------------------------------------------------- in the threads
    def _work(self, lane: int) -> None:
        """Run batches until closed."""
        batch: _Batch | None = _Batch([])
        try:
            while (batch := self._listen()) is not None:
                if batch.items:
                    self._infer(batch, lane)
                if batch.items or batch.dropped:
                    self._tell(self._deliver, batch)
        finally:
            # Reached with requests in hand only by a bug; they must not hang, nor those that come after.
            self._running.pop(lane, None)
            if batch is not None:
                stranded = [*batch.items, *batch.dropped]
                self._tell(lambda _: self._recover(stranded, lane), None)

    def _listen(self) -> _Batch | None:
        """Give what is to be run next; None where all is over, which the next lane gets to see too."""
        with self._turn:
            first, self._left_over = self._left_over or self._waiting.get(), None
            if first is None:
                self._waiting.put(None)
                return None
            batch, self._left_over = self._gather(first)
            return batch

    def _tell(self, callback: Callable[[T], None], value: T) -> None:
        """Have the loop call back. When the process ends the loop may be gone, and nobody is left to be told."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, value)

    def _gather(self, first: _Item) -> tuple[_Batch, _Item | None]:
        """Give ``first`` and what waits behind it, as far as it fits and gains; and the item that did not fit."""
        now, batch, rows, most = self._clock(), _Batch([]), 0, 1
        item: _Item | None = first
        while item is not None:
            left = self._left(item, now)
            if item.future.cancelled() or (item.behind and left is not None and left < 0):
                batch.dropped.append(item)
            elif not batch.items:
                most = self._pace.size(item.rows + self._waiting.qsize(), left)
                batch.items.append(item)
                rows = item.rows
            elif rows + item.rows > most:
                return batch, item
            else:
                batch.items.append(item)
                rows += item.rows
            self._taken += item.rows
            item = self._next(batch, rows) if rows < most else None
        return batch, None

    def _next(self, batch: _Batch, rows: int) -> _Item | None:
        """Give the next request that waits, or comes within a wait that pays; None where none does."""
        wait = 0.0
        if batch.items and self._waiting.empty():
            left = self._left(batch.items[0], self._clock())
            wait = 0.0 if left is None else self._patience.worth(rows, left, self._gaps.mean)
        try:
            item = self._waiting.get(timeout=wait) if wait else self._waiting.get_nowait()
        except queue.Empty:
            item = None
        else:
            if item is None:  # the sign that all is over, which is for ``_work`` to see
                self._waiting.put(None)
        if wait:
            self._patience.paid(came=item is not None)
        return item

    def _left(self, item: _Item, now: float) -> float | None:
        return None if self._budget is None else item.since + self._budget - now

    def _infer(self, batch: _Batch, lane: int) -> None:
        rows = sum(item.rows for item in batch.items)
        batch.started = self._clock()
        self._running[lane] = (batch.started, rows)
        batch.results = self._run(batch.items)
        batch.ended = self._clock()
        del self._running[lane]
        if not any(isinstance(result, EngineFailure) for result in batch.results):
            self._pace.learn(rows, batch.ended - batch.started)

    def _run(self, items: list[_Item]) -> list[Result]:
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

    # ---------------------------------------------------------------------------------------------- in the loop
    def _deliver(self, batch: _Batch) -> None:
        for item, result in zip(batch.items, batch.results, strict=True):
            if item.future.done():
                continue
            if isinstance(result, Exception):
                item.future.set_exception(result)
            else:
                item.future.set_result(result)
        for item in batch.dropped:
            if not item.future.done():
                item.future.set_exception(too_late(0.0, self._budget or 0.0))
        if batch.items:
            queued = [batch.started - item.since for item in batch.items]
            self._observer.inference(sum(item.rows for item in batch.items), batch.ended - batch.started, queued)

    def _recover(self, stranded: list[_Item], lane: int) -> None:
        for item in stranded:
            if not item.future.done():
                item.future.set_exception(EngineFailure("the inference thread ended unexpectedly; see the log"))
        self._start(lane)


def _most_rows(engine: Engine, limits: Limits, rules: Batching | None) -> int:
    """Give how many rows of several requests may go together; who wrote ``maxRows`` knows how large pictures are."""
    if not engine.batched:
        return 1
    most = engine.most_rows
    if rules is not None and rules.max_rows is not None:
        return min(rules.max_rows, most or rules.max_rows)
    most = min(limits.max_batch, most or limits.max_batch)
    row = sum(abs(int(np.prod(part.shape[1:]))) * 4 for part in engine.inputs)
    return max(1, min(most, limits.max_batch_bytes // max(row, 1)))


def _split(outputs: Outputs, items: list[_Item]) -> list[Outputs]:
    """Give each request its rows. The arrays are views of the batch's."""
    parts: list[Outputs] = []
    offset = 0
    for item in items:
        parts.append({name: array[offset : offset + item.rows] for name, array in outputs.items()})
        offset += item.rows
    return parts
