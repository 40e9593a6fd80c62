"""How much a client may ask for, and how a body is read without ever trusting it."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from workloads.serve.answers import Refusal

MIB = 1 << 20
SOON = {"Retry-After": "1"}


def resident_memory() -> int:
    """Give the bytes of memory that this process has; 0 where nobody tells."""
    try:
        with Path("/proc/self/statm").open("rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. Sizes in bytes, times in seconds."""

    max_body: int = 64 * MIB
    max_held: int = 512 * MIB
    """Bytes of bodies in memory at once, over all requests."""
    max_json: int = 32 * MIB
    """Of one request: numbers as text take up to sixteen times their bytes while they are read, and hold the loop."""
    max_connections: int = 4096
    max_pixels: int = 64_000_000
    """Width times height of an uploaded picture, judged before it is decoded."""
    queue: int = 256
    """Requests of one model that may wait; the next one gets 429."""
    body_timeout: float = 30.0
    """For a whole body, and without any progress in sending an answer."""
    idle_timeout: float = 60.0
    """For a connection without a complete request head: new, slow or kept alive."""
    max_batch: int = 16
    """Rows in one inference of several requests."""
    max_batch_bytes: int = 8 * MIB
    """Input bytes in one inference of several requests: large pictures gain nothing from batching."""
    threads: int = 1
    """Threads inside one inference."""
    lanes: int = 1
    """Inferences of one model at once, where its engine can do that."""
    providers: tuple[str, ...] = ()
    """Of onnxruntime, best first, as in ``engine.Opening``."""
    memory_budget: int | None = None
    """Bytes that the engines of all models may take together; None: as many as they need."""
    resident: Callable[[], int] = resident_memory
    """Gives the bytes of memory that the process has."""


def too_late(wait: float, budget: float) -> Refusal:
    """Give the refusal of a request that would be answered later than its budget allows; both in seconds."""
    message = (
        f"the answer would come later than spec.serving.batching.latencyBudget allows ({1000 * budget:.0f} ms): "
        "more is asked than this server can answer; try again soon"
    )
    return Refusal(429, message, headers={"Retry-After": str(max(1, math.ceil(wait)))})


class Intake:
    """Reads bodies within the limits, which hold for one body and for all of them together."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of bodies in memory now."""
        return self._held

    def body(self, request: web.Request) -> Body:
        """Give a context in which the whole body is there, and counts as held.

        Entering raises Refusal: 413 (before reading anything where Content-Length tells), 408, 429, and 400 for a
        broken encoding.
        """
        return Body(self, self.limits, request)

    def hold(self, size: int) -> None:
        """Count more bytes, or fewer; Refusal 429 where there are too many."""
        if size > 0 and self._held + size > self.limits.max_held:
            raise Refusal(429, "the server holds as many request bodies as it may; try again soon", headers=SOON)
        self._held += size


class Body:
    """The body of one request, as an asynchronous context. A class, since this is the hot path."""

    def __init__(self, intake: Intake, limits: Limits, request: web.Request) -> None:
        self._intake = intake
        self._limits = limits
        self._request = request
        self._size = 0

    async def __aenter__(self) -> bytes:
        length = self._request.content_length
        if length is not None and length > self._limits.max_body:
            message = f"the body has {length} bytes; this server takes at most {self._limits.max_body} (--max-body)"
            raise Refusal(413, message)
        complete = False
        try:
            body = await self._read()
            complete = True
            return body
        finally:
            if not complete:
                self._release()

    async def __aexit__(self, *trouble: object) -> None:
        self._release()

    async def _read(self) -> bytes:
        content = self._request.content
        chunks: list[bytes] = []
        try:
            if content.is_eof():
                # All of it came along with the head: nothing to wait for, so no timer either.
                while not content.at_eof():
                    self._take(await content.readany(), chunks)
            else:
                async with asyncio.timeout(self._limits.body_timeout):
                    while not content.at_eof():
                        self._take(await content.readany(), chunks)
        except TimeoutError as error:
            message = f"the request's body did not end within {self._limits.body_timeout:g} seconds"
            raise Refusal(408, message, headers={"Connection": "close"}) from error
        except web.RequestPayloadError as error:
            raise Refusal(400, f"the request's body is not encoded as its headers say: {error}") from error
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _take(self, chunk: bytes, chunks: list[bytes]) -> None:
        if self._size + len(chunk) > self._limits.max_body:
            message = f"the body has more than {self._limits.max_body} bytes; this server takes no more (--max-body)"
            raise Refusal(413, message)
        self._intake.hold(len(chunk))
        self._size += len(chunk)
        chunks.append(chunk)

    def _release(self) -> None:
        self._intake.hold(-self._size)
        self._size = 0
