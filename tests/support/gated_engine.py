"""A model that infers when a test lets it, for tests of what waits before it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping

import numpy as np

from tests.support import onnx_models
from workloads.serve.batching import Batcher
from workloads.serve.engine import EngineFailure, Opening
from workloads.serve.engine_onnx import OnnxEngine
from workloads.serve.pacing import Pace
from workloads.serve.tensors import Array

NAME = onnx_models.INPUT
SIZE = (onnx_models.SIDE, onnx_models.SIDE)


class Notes:
    """Writes down the rows of each inference."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def inference(self, rows: int, seconds: float, queued: list[float]) -> None:
        """Take down one inference."""
        assert seconds >= 0
        assert all(waited >= 0 for waited in queued)
        self.rows.append(rows)


class GatedEngine(OnnxEngine):
    """A real engine that waits for a gate before each run, and fails for rows that begin with 666."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model, Opening(SIZE))
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.entries = 0
        """Runs that began."""
        self.ran: Callable[[], None] = lambda: None
        """Is called after each run."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once the gate is open."""
        self.entries += 1
        self.entered.set()
        assert self.gate.wait(30)
        if (inputs[NAME][:, 0, 0, 0] == 666).any():
            raise EngineFailure("the devil's number")
        answer = super().run(inputs)
        self.ran()
        return answer


def picture(value: float, rows: int = 1) -> dict[str, Array]:
    """Give the input of ``rows`` equal pictures."""
    return {NAME: np.full((rows, 3, *SIZE), value, np.float32)}


async def occupied(engine: GatedEngine, batcher: Batcher) -> asyncio.Future[dict[str, Array]]:
    """Give a request that is being worked on, so that others must wait."""
    first = batcher.submit(picture(0.5), 1)
    await asyncio.to_thread(engine.entered.wait, 30)
    return first


def taught(most: int = 16, *, first: float = 1.0, more: float = 0.0) -> Pace:
    """Give the pace of a model that takes ``first`` seconds for a row, and ``more`` for each further one."""
    pace = Pace(most)
    for rows in range(1, most + 1):
        for _ in range(10):
            pace.learn(rows, first + more * (rows - 1))
    return pace
