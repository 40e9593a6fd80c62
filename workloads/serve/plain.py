"""``POST /models/NAME/predict``: a picture goes up, what is in it comes down."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import Executor
from functools import partial

from aiohttp import web

from workloads.preprocess import preprocess
from workloads.serve import images, results
from workloads.serve.answers import Refusal, json_answer
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Metrics
from workloads.serve.limits import SOON, Intake, Limits
from workloads.serve.protocol import FILE_HEADER
from workloads.serve.repository import Repository, Served
from workloads.serve.tensors import DATATYPES, Array

CONFIDENCE = 0.25


class Predictions:
    """The handler of plain uploads. Decoding runs in the executor, for it takes longer than an event loop may."""

    def __init__(
        self, repository: Repository, intake: Intake, metrics: Metrics, limits: Limits, executor: Executor
    ) -> None:
        self._repository = repository
        self._intake = intake
        self._metrics = metrics
        self._limits = limits
        self._executor = executor
        self._decoding = 0

    async def predict(self, request: web.Request) -> web.Response:
        """Answer with decoded results; ``?conf=0.25`` is the least confidence of a detection."""
        with self._metrics.request() as tally:
            name = request.match_info["name"]
            confidence = _confidence(request.query.get("conf"))
            async with self._intake.body(request) as body:
                served = self._repository.get(name)
                tally.model, tally.version = name, str(served.target.version)
                with served.lease():
                    picture = images.picture_in(body, request.headers.get("Content-Type", ""))
                    size, tensor = await self._prepare(name, served, picture)
                    outputs = await self._infer(served, tensor)
            decode = partial(results.decode_results, served.artifact, outputs, size, confidence)
            found = await asyncio.get_running_loop().run_in_executor(self._executor, decode)
            answer = {
                "model": name, "version": served.target.version, "file": served.file, "task": served.artifact.task,
                "image": {"height": size[0], "width": size[1]}, "results": found,
            }  # fmt: skip
            headers = {FILE_HEADER: served.file, "Trunkline-Version": str(served.target.version)}
            return json_answer(answer, headers=headers)

    async def _prepare(self, name: str, served: Served, picture: bytes) -> tuple[tuple[int, int], Array]:
        """Give the picture's (height, width) and the model's input."""
        if self._decoding >= self._limits.queue:
            raise Refusal(429, f"{self._decoding} pictures wait to be decoded; try again soon", headers=SOON)
        self._decoding += 1
        started = time.perf_counter()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, _tensor, served, picture, self._limits.max_pixels)
        finally:
            self._decoding -= 1
            self._metrics.decoded(name, time.perf_counter() - started)

    async def _infer(self, served: Served, tensor: Array) -> dict[str, Array]:
        inputs = {served.engine.inputs[0].name: tensor}
        rows = served.engine.check(inputs, None)
        try:
            return await served.batcher.submit(inputs, rows)
        except EngineFailure as error:
            raise Refusal(500, f"the model failed: {error}") from error


def _tensor(served: Served, picture: bytes, max_pixels: int) -> tuple[tuple[int, int], Array]:
    image = images.decode(picture, max_pixels=max_pixels)
    tensor = preprocess(image, served.artifact.task, served.artifact.image_size)
    dtype = DATATYPES[served.engine.inputs[0].datatype]
    return (image.shape[0], image.shape[1]), tensor.astype(dtype, copy=False)


def _confidence(text: str | None) -> float:
    if text is None:
        return CONFIDENCE
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Refusal(400, f"conf={text[:20]!r} is not a number from 0 to 1")
    return value
