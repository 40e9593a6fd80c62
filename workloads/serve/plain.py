"""``POST /models/NAME/predict``: a picture goes up, what is in it comes down."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from functools import partial
from typing import Any

from aiohttp import web

from workloads.serve import images, results
from workloads.serve.answers import Refusal, json_answer
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Metrics
from workloads.serve.fallback import answered_instead
from workloads.serve.keeping import Keeper, Offered
from workloads.serve.limits import SOON, Intake, Limits
from workloads.serve.protocol import FILE_HEADER, REQUEST_HEADER
from workloads.serve.query import Query, query_of
from workloads.serve.repository import Repository
from workloads.serve.served import Served
from workloads.serve.tensors import Array
from workloads.serve.watching import Watching


class Predictions:
    """The handler of plain uploads. Decoding runs in the executor, for it takes longer than an event loop may."""

    def __init__(
        self, repository: Repository, intake: Intake, metrics: Metrics, watching: Watching, limits: Limits,
        executor: Executor, *, keeper: Keeper | None,
    ) -> None:  # fmt: skip
        """``keeper`` is offered every picture that was answered."""
        self._keeper = keeper
        self._repository = repository
        self._intake = intake
        self._metrics = metrics
        self._watching = watching
        self._limits = limits
        self._executor = executor
        self._decoding = 0

    async def predict(self, request: web.Request) -> web.Response:
        """Answer with decoded results; ``query.query_of`` says what may be asked for."""
        with self._metrics.request() as tally:
            name = request.match_info["name"]
            query_of(request.query)  # what can never be answered is refused before anything is read
            named = self._watching.name(request.headers.get(REQUEST_HEADER))
            async with self._intake.body(request) as body:
                served = await self._repository.answering(name)
                tally.series = served.observer.series
                query = query_of(request.query, served.artifact.task)
                picture = images.picture_in(body, request.headers.get("Content-Type", ""))
                answered = partial(self._answered, picture=picture, query=query)
                try:
                    size, tensor, told, found = await answered(served)
                except (EngineFailure, Refusal) as error:
                    served, (size, tensor, told, found) = await answered_instead(
                        self._repository, name, served, error, tally, answered
                    )  # fmt: skip
            self._watching.answered(name, served, named, rows=tensor, found=found, size=size)
            if self._keeper is not None and served.options.labelling is not None:
                about = (served.target, served.artifact, served.options.labelling)
                self._keeper.offer(Offered(name, *about, named, picture, size, tensor, found))
            if served.copies is not None:
                served.copies.offer(tensor, picture, size)
            answer = {
                "model": name, "version": served.target.version, "file": served.file, "task": served.artifact.task,
                "request": named, "image": {"height": size[0], "width": size[1]}, "results": told,
            }  # fmt: skip
            version = str(served.target.version)
            headers = {FILE_HEADER: served.file, "Trunkline-Version": version, REQUEST_HEADER: named}
            return json_answer(answer, headers=headers)

    async def _answered(
        self, served: Served, *, picture: bytes, query: Query
    ) -> tuple[tuple[int, int], Array, list[dict[str, Any]], results.Findings]:
        """Give the picture's (height, width), the model's input, what the client is told, and what was found."""
        with served.lease():
            size, tensor = await self._prepare(served, picture)
            inputs = {served.engine.inputs[0].name: tensor}
            outputs = await served.batcher.submit(inputs, served.engine.check(inputs, None))
        read = partial(results.read, served.artifact, outputs, size, query)
        told, found = await asyncio.get_running_loop().run_in_executor(self._executor, read)
        return size, tensor, told, found

    async def _prepare(self, served: Served, picture: bytes) -> tuple[tuple[int, int], Array]:
        """Give the picture's (height, width) and the model's input."""
        if self._decoding >= self._limits.queue:
            raise Refusal(429, f"{self._decoding} pictures wait to be decoded; try again soon", headers=SOON)
        self._decoding += 1
        started = time.perf_counter()
        try:
            datatype = served.engine.inputs[0].datatype
            prepare = partial(images.prepared, picture, served.artifact, datatype, self._limits.max_pixels)
            return await asyncio.get_running_loop().run_in_executor(self._executor, prepare)
        finally:
            self._decoding -= 1
            served.observer.series.stages["decode"].add(time.perf_counter() - started)
