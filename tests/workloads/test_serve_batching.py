"""The queue before a model: what goes together, what is dropped, what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import numpy as np
import pytest

from tests.support import onnx_models
from tests.support.gated_engine import NAME, GatedEngine, Notes, occupied, picture, taught
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.engine import EngineFailure
from workloads.serve.engine_onnx import OnnxEngine
from workloads.serve.limits import Limits
from workloads.serve.tensors import Array


def _no_time() -> float:
    """Every inference takes no time, however large, so that larger batches are the better ones."""
    return 0.0


def test_waiting_requests_share_an_inference() -> None:
    """Requests that wait go through together, and each gets the rows that it asked about."""

    async def story() -> None:
        engine, notes = GatedEngine(onnx_models.classifier()), Notes()
        batcher = Batcher(engine, Limits(max_batch=16), notes, pace=taught(16, first=0.0), clock=_no_time)
        first = await occupied(engine, batcher)
        inputs = [picture(value, rows) for value, rows in ((0.1, 1), (0.2, 3), (0.3, 2))]
        waiting = [batcher.submit(given, len(given[NAME])) for given in inputs]
        await asyncio.sleep(0)
        assert batcher.depth == 3
        engine.gate.set()
        await first
        for given, future in zip(inputs, waiting, strict=True):
            answer = (await future)[onnx_models.OUTPUT]
            np.testing.assert_allclose(answer, OnnxEngine.run(engine, given)[onnx_models.OUTPUT], rtol=1e-5)
        assert notes.rows == [1, 6]
        batcher.close()

    asyncio.run(story())


def test_batches_keep_to_the_limit() -> None:
    """No inference has more rows than the limit, unless a single request alone has."""

    async def story() -> None:
        engine, notes = GatedEngine(onnx_models.classifier()), Notes()
        batcher = Batcher(engine, Limits(max_batch=4), notes, pace=taught(4, first=0.0), clock=_no_time)
        first = await occupied(engine, batcher)
        waiting = [batcher.submit(picture(0.1, rows), rows) for rows in (3, 2, 2, 7, 1)]
        engine.gate.set()
        results = await asyncio.gather(first, *waiting)
        assert [len(result[onnx_models.OUTPUT]) for result in results] == [1, 3, 2, 2, 7, 1]
        assert notes.rows == [1, 3, 4, 7, 1]
        batcher.close()

    asyncio.run(story())


def test_fixed_batch_axis_is_respected() -> None:
    """A model that takes one row gets one row at a time."""

    async def story() -> None:
        engine, notes = GatedEngine(onnx_models.classifier(batch=1)), Notes()
        batcher = Batcher(engine, Limits(), notes)
        first = await occupied(engine, batcher)
        waiting = [batcher.submit(picture(0.1), 1) for _ in range(3)]
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert notes.rows == [1, 1, 1, 1]
        batcher.close()

    asyncio.run(story())


def test_full_queue_refuses() -> None:
    """One more request than may wait gets 429 with Retry-After; those that wait are answered."""

    async def story() -> None:
        engine = GatedEngine(onnx_models.classifier())
        batcher = Batcher(engine, Limits(queue=2), Notes())
        first = await occupied(engine, batcher)
        waiting = [batcher.submit(picture(0.1), 1) for _ in range(2)]
        with pytest.raises(Refusal) as caught:
            batcher.submit(picture(0.1), 1)
        assert caught.value.status == 429
        assert caught.value.headers["Retry-After"]
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert (await batcher.submit(picture(0.1), 1))[onnx_models.OUTPUT].shape == (1, 10)
        batcher.close()

    asyncio.run(story())


def test_cancelled_requests_are_dropped() -> None:
    """A request whose client went away while it waited is never run."""

    async def story() -> None:
        engine, notes = GatedEngine(onnx_models.classifier()), Notes()
        batcher = Batcher(engine, Limits(), notes)
        first = await occupied(engine, batcher)
        gone, stays = batcher.submit(picture(0.1), 1), batcher.submit(picture(0.2), 1)
        gone.cancel()
        engine.gate.set()
        await asyncio.gather(first, stays)
        assert notes.rows == [1, 1]
        batcher.close()

    asyncio.run(story())


def test_one_bad_request_fails_alone() -> None:
    """Where a batch fails, its requests are run one by one, and only the bad one fails."""

    async def story() -> None:
        engine = GatedEngine(onnx_models.classifier())
        batcher = Batcher(engine, Limits(max_batch=16), Notes(), pace=taught(16, first=0.0), clock=_no_time)
        first = await occupied(engine, batcher)
        waiting = [batcher.submit(picture(value), 1) for value in (0.1, 666, 0.3)]
        engine.gate.set()
        await first
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(result, EngineFailure) for result in results] == [False, True, False]
        batcher.close()

    asyncio.run(story())


def test_closing_answers_what_waits() -> None:
    """Requests submitted before the close are answered, then the thread ends."""

    async def story() -> None:
        engine = GatedEngine(onnx_models.classifier())
        before = set(threading.enumerate())
        batcher = Batcher(engine, Limits(max_batch=1), Notes())
        (thread,) = set(threading.enumerate()) - before
        first = await occupied(engine, batcher)
        waiting = [batcher.submit(picture(0.1), 1) for _ in range(3)]
        batcher.close()
        engine.gate.set()
        assert len(await asyncio.gather(first, *waiting)) == 4
        await asyncio.to_thread(thread.join, 30)
        assert not thread.is_alive()

    asyncio.run(story())


class BuggyEngine(GatedEngine):
    """An engine with a bug: the first run raises what no engine may raise."""

    bugs = 1

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Fail once."""
        if self.bugs:
            self.bugs -= 1
            raise LookupError("a bug")
        return super().run(inputs)


def test_a_bug_in_the_thread_hangs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the thread dies of a bug, that is told once, its requests fail, and a new thread answers the next ones."""
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    async def story() -> None:
        engine = BuggyEngine(onnx_models.classifier())
        engine.gate.set()
        batcher = Batcher(engine, Limits(), Notes())
        with pytest.raises(EngineFailure, match="unexpectedly"):
            await asyncio.wait_for(batcher.submit(picture(0.1), 1), 30)
        answer = await asyncio.wait_for(batcher.submit(picture(0.1), 1), 30)
        assert answer[onnx_models.OUTPUT].shape == (1, 10)
        batcher.close()

    asyncio.run(story())
    assert [entry.exc_type for entry in told] == [LookupError]
