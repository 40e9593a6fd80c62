"""Copies of requests for a canary: when they are made, when they wait, and when they are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from specs.digests import digest_of
from specs.records import ArtifactRecord
from tests.support import onnx_models
from tests.support.gated_engine import GatedEngine
from workloads.serve.batching import Batcher
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven
from workloads.serve.mirroring import HELD, MOST, Mirror
from workloads.serve.served import Served
from workloads.serve.state import Saved, Target
from workloads.serve.watching import Watching

ROWS = np.full((1, 3, 32, 32), 0.5, np.float32)
BAD = np.full((1, 3, 32, 32), 666, np.float32)


@dataclass
class Bench:
    """A version that serves, one that gets copies, and what is between them."""

    metrics: Metrics
    watching: Watching
    served: list[Served]
    engines: list[GatedEngine]
    mirror: Mirror

    def outcomes(self) -> dict[str, int]:
        """Give how copies ended, as far as any did."""
        return {outcome: n for outcome, n in self.served[1].observer.series.outcomes.items() if n}

    def dropped(self) -> float:
        """Give how many copies were dropped."""
        return self.metrics.registry.get_sample_value("trunkline_mirror_dropped_total", {"model": "digits"}) or 0

    def seen(self) -> int:
        """Give how many pictures the canary's series have seen."""
        seen = self.served[1].observer.series.seen
        assert seen is not None
        return int(sum(seen.pictures["brightness"].counts))


@asynccontextmanager
async def bench(percent: int) -> AsyncIterator[Bench]:
    """Give a bench whose mirror takes so many of a hundred requests."""
    metrics, watching = Metrics(), Watching()
    engines = [GatedEngine(onnx_models.classifier()), GatedEngine(onnx_models.classifier())]
    served = []
    for version, engine in enumerate(engines, start=1):
        file = digest_of({"version": version})
        target = Target(version=version, file=file, run=file, weights=file)
        artifact = ArtifactRecord(
            file=file, format="onnx", task="classify", names=onnx_models.NAMES, image_size=(32, 32), weights=file,
            self_tests=[],
        )  # fmt: skip
        saved = Saved(name="digits", target=target, artifact=artifact)
        observer = metrics.observer("digits", onnx_models.NAMES)
        metrics.beside("digits", target, observer, since=1)
        served.append(Served(Proven(engine, artifact), saved, Batcher(engine, Limits(), observer), observer))
    mirror = Mirror("digits", served[0], served[1], metrics, watching)
    mirror.take(percent)
    yield Bench(metrics, watching, served, engines, mirror)
    for each, engine in zip(served, engines, strict=True):
        engine.gate.set()
        each.retire()


async def until(true: Callable[[], bool]) -> None:
    """Let the others work until something is true."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.005)


def test_so_many_of_a_hundred_are_copied() -> None:
    """Exactly the share of what is offered is answered by the canary, and counted under its version, pictures too."""

    async def main() -> None:
        async with bench(30) as b:
            b.engines[1].gate.set()
            for _ in range(20):
                b.mirror.offer(ROWS)
            await until(lambda: b.outcomes() == {"ok": 6})
            assert (b.seen(), b.dropped()) == (6, 0)
            assert sum(b.served[1].observer.series.stages["total"].counts) == 6
            assert sum(b.served[0].observer.series.outcomes.values()) == 0

    asyncio.run(main())


def test_what_does_not_fit_is_dropped() -> None:
    """While a copy is answered others wait, up to a number and a size; the rest is dropped and counted."""

    async def main() -> None:
        async with bench(100) as b:
            b.mirror.offer(ROWS)
            await until(b.engines[1].entered.is_set)
            for _ in range(MOST + 5):
                b.mirror.offer(ROWS)
            assert b.dropped() == 5
            b.engines[1].gate.set()
            await until(lambda: b.outcomes() == {"ok": MOST + 1})
            b.engines[1].gate.clear()
            b.engines[1].entered.clear()
            b.mirror.offer(ROWS)
            await until(b.engines[1].entered.is_set)
            half = np.zeros(HELD // 8, np.float32)
            for _ in range(3):
                b.mirror.offer(half, b"picture", (1, 1))
            assert b.dropped() == 7

    asyncio.run(main())


def test_requests_come_first() -> None:
    """While a request waits for what serves, copies wait too."""

    async def main() -> None:
        async with bench(100) as b:
            b.engines[1].gate.set()
            inputs = {onnx_models.INPUT: ROWS}
            first = b.served[0].batcher.submit(inputs, 1)
            await until(b.engines[0].entered.is_set)
            second = b.served[0].batcher.submit(inputs, 1)
            b.mirror.offer(ROWS)
            for _ in range(5):
                await asyncio.sleep(0.01)
                assert b.outcomes() == {}
            b.engines[0].gate.set()
            await asyncio.gather(first, second)
            await until(lambda: b.outcomes() == {"ok": 1})

    asyncio.run(main())


def test_what_goes_wrong_with_a_copy_is_the_canary_s_fault() -> None:
    """A failed inference and a shape that it does not take are errors of its own; the next copy goes on."""

    async def main() -> None:
        async with bench(100) as b:
            b.engines[1].gate.set()
            b.mirror.offer(BAD)
            b.mirror.offer(np.zeros((1, 3, 64, 64), np.float32))
            b.mirror.offer(ROWS)
            await until(lambda: b.outcomes() == {"error": 2, "ok": 1})
            assert b.seen() == 1

    asyncio.run(main())


def test_nothing_is_copied_any_more() -> None:
    """Told to take nothing, it lets go of what waits, and what serves knows nobody who wants copies."""

    async def main() -> None:
        async with bench(100) as b:
            for _ in range(3):
                b.mirror.offer(ROWS)
            await until(b.engines[1].entered.is_set)
            wants = [b.served[0].copies]
            b.mirror.take(0)
            assert [*wants, b.served[0].copies] == [b.mirror, None]
            b.engines[1].gate.set()
            await until(lambda: b.outcomes() == {"ok": 1})
            await asyncio.sleep(0.02)
            assert b.outcomes() == {"ok": 1}

    asyncio.run(main())
