"""``serving.batching``: what a latency budget makes of the queue before a model. Time is told, not measured."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from specs.serving import Batching
from tests.support import onnx_models
from tests.support.gated_engine import GatedEngine, Notes, occupied, picture, taught
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.limits import Limits
from workloads.serve.pacing import Pace


class Scene:
    """A batcher with an engine that waits for a gate, and a clock that a test sets."""

    def __init__(self, pace: Pace, rules: Batching | None, limits: Limits | None = None) -> None:
        self.now = 0.0
        self._each = pace.expected(1)
        self.engine = GatedEngine(onnx_models.classifier())
        self.engine.ran = self.pass_time
        self.notes = Notes()
        self.batcher = Batcher(
            self.engine, limits or Limits(max_batch=16), self.notes, rules=rules, pace=pace, clock=lambda: self.now
        )

    def pass_time(self) -> None:
        """Let the time of an inference of one row go by."""
        self.now += self._each

    def ask(self) -> asyncio.Future[Any]:
        """Submit one row."""
        return self.batcher.submit(picture(0.1), 1)

    async def occupied(self) -> asyncio.Future[Any]:
        """Submit one row and give its future once it is being worked on."""
        return await occupied(self.engine, self.batcher)

    async def taken(self) -> None:
        """Return once nothing waits in the queue: the thread has it in its hands."""
        await asyncio.sleep(0)
        while self.batcher.depth:  # noqa: ASYNC110 - there is nothing that could tell
            await asyncio.sleep(0)


def played(story: Callable[[Scene], Awaitable[None]], pace: Pace, **rules: object) -> Scene:
    """Play a story over a scene whose spec has these rules; gives the scene afterwards."""

    async def play() -> Scene:
        scene = Scene(pace, Batching.model_validate(rules) if rules else None)
        await story(scene)
        scene.batcher.close()
        return scene

    return asyncio.run(play())


def test_who_cannot_be_in_time_is_told_at_once() -> None:
    """As soon as those ahead take longer than the budget, 429 and Retry-After; whoever was let in is answered."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        let_in = [scene.ask(), scene.ask()]
        with pytest.raises(Refusal, match=r"latencyBudget allows \(35 ms\)") as caught:
            scene.batcher.submit(picture(0.1), 1)
        assert caught.value.status == 429
        assert caught.value.headers["Retry-After"] == "1"
        scene.now += 0.006  # most of the running one is over, so that there is room again
        let_in.append(scene.ask())
        scene.engine.gate.set()
        await asyncio.gather(working, *let_in)

    assert sum(played(story, taught(first=0.010, more=0.010), latencyBudget="35ms").notes.rows) == 4


def test_retry_after_says_how_long_those_ahead_take() -> None:
    """A client that comes back after Retry-After finds those gone that were ahead of it."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        let_in = [scene.ask() for _ in range(3)]
        with pytest.raises(Refusal) as caught:
            scene.batcher.submit(picture(0.1), 1)
        assert caught.value.headers["Retry-After"] == "9"
        scene.engine.gate.set()
        await asyncio.gather(working, *let_in)

    played(story, taught(first=2.0, more=2.0), latencyBudget="9s")


def test_an_idle_model_refuses_nobody() -> None:
    """A budget that no inference can keep makes nothing unreachable: who need not wait is answered."""

    async def story(scene: Scene) -> None:
        scene.engine.gate.set()
        for _ in range(3):
            await scene.ask()

    assert played(story, taught(first=5.0, more=5.0), latencyBudget="10ms").notes.rows == [1, 1, 1]


def test_nothing_is_refused_out_of_ignorance() -> None:
    """While it is not known how long an inference takes, only the full queue refuses."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        waiting = [scene.ask() for _ in range(20)]
        scene.engine.gate.set()
        await asyncio.gather(working, *waiting)

    played(story, Pace(16), latencyBudget="1ms")


def test_without_a_budget_nothing_is_refused_for_time() -> None:
    """Without the section the queue's length is the only bound, as ever."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        waiting = [scene.ask() for _ in range(100)]
        scene.now += 3600
        scene.engine.gate.set()
        await asyncio.gather(working, *waiting)

    played(story, taught(first=5.0, more=5.0))


def test_a_batch_does_not_make_its_first_request_late() -> None:
    """Eight rows would take longer than the first one has left, so four go, which are in time."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        waiting = [scene.ask() for _ in range(8)]
        await asyncio.sleep(0)
        scene.now += 0.010
        scene.engine.gate.set()
        await asyncio.gather(working, *waiting[:4])
        await asyncio.gather(*waiting[4:], return_exceptions=True)

    assert played(story, taught(first=0.010, more=0.002), latencyBudget="40ms").notes.rows[:2] == [1, 4]


def test_whose_whole_budget_is_over_is_not_run() -> None:
    """Where an inference took far longer than ever before, those that waited get 429 instead of an answer too late."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        late = scene.ask()
        await asyncio.sleep(0)
        scene.now += 1.0
        scene.engine.gate.set()
        await working
        with pytest.raises(Refusal, match="latencyBudget"):
            await late
        await scene.ask()

    assert played(story, taught(first=0.010), latencyBudget="100ms").notes.rows == [1, 1]


def test_few_requests_wait_for_more_that_are_expected() -> None:
    """One request waits for the next where two go as fast as one; then both go at once, not when the time is over."""

    async def story(scene: Scene) -> None:
        scene.engine.gate.set()
        await scene.ask()
        scene.now += 30.0
        second = scene.ask()
        await scene.taken()
        third = scene.ask()
        await asyncio.gather(second, third)

    assert played(story, taught(2), max_rows=2, latencyBudget="1h").notes.rows == [1, 2]


def test_closing_ends_the_wait_for_more() -> None:
    """A model that is replaced answers at once whoever waits on purpose, and its thread ends."""

    async def story(scene: Scene) -> None:
        scene.engine.gate.set()
        await scene.ask()
        scene.now += 30.0
        waits = scene.ask()
        await scene.taken()
        scene.batcher.close()
        await waits

    before = set(threading.enumerate())
    assert played(story, taught(2), max_rows=2, latencyBudget="1h").notes.rows == [1, 1]
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_rules_change_while_it_serves() -> None:
    """Other options hold from the next batch on; nothing is loaded anew."""

    async def story(scene: Scene) -> None:
        working = await scene.occupied()
        waiting = [scene.ask() for _ in range(3)]
        await asyncio.sleep(0)
        scene.batcher.follow(Batching(max_rows=1))
        scene.engine.gate.set()
        await asyncio.gather(working, *waiting)

    assert played(story, taught()).notes.rows == [1, 1, 1, 1]


def test_max_rows_is_the_word_of_who_knows_the_model() -> None:
    """``maxRows`` stands above what the server allows by itself, which guesses by the size of a row."""

    async def story() -> None:
        scene = Scene(taught(8), Batching(max_rows=8), Limits(max_batch=2, max_batch_bytes=1))
        working = await scene.occupied()
        waiting = [scene.ask() for _ in range(8)]
        scene.engine.gate.set()
        await asyncio.gather(working, *waiting)
        scene.batcher.close()
        assert scene.notes.rows == [1, 8]

    asyncio.run(story())


def test_idle_cores_take_another_inference() -> None:
    """With two lanes a second request need not wait for the first, and a third waits for whichever ends first."""

    async def story() -> None:
        limits = Limits(max_batch=16, lanes=2)
        scene = Scene(taught(first=0.010, more=0.010), Batching(latency_budget="15ms"), limits)
        both = [await scene.occupied()]
        both.append(scene.ask())
        while scene.engine.entries < 2:  # noqa: ASYNC110 - there is nothing that could tell
            await asyncio.sleep(0)
        with pytest.raises(Refusal, match="latencyBudget"):
            scene.batcher.submit(picture(0.1), 1)
        scene.engine.gate.set()
        await asyncio.gather(*both)
        scene.batcher.close()
        assert scene.notes.rows == [1, 1]

    before = set(threading.enumerate())
    asyncio.run(story())
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
