"""The port where forges knock. Everybody on the network may, so nothing is believed, kept, or waited for long."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import AbstractEventLoop, BaseTransport, TimerHandle
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from aiohttp import web

from controller.hooks import Hooks, Outcome, may_be_signed

PATH = "/webhook"
MOST_BYTES = 1 << 20
"""Of a body. Forges send up to 25 MB; larger ones are told so, and the next poll finds what they were about."""
PATIENCE = 10.0
"""Seconds that a connection has in all, whatever it does with them."""
CONNECTIONS = 64
"""At once; further ones are closed."""
_LINGER = 1.0
_SILENT = logging.getLogger("trunkline.webhooks.strangers")
_SILENT.setLevel(logging.CRITICAL)  # whoever sends rubbish does not get to fill our log with it

_STATUS = {Outcome.REFUSED: 401, Outcome.OVERSIZED: 413, Outcome.BROKEN: 400}


class Webhooks:
    """Answers ``POST /webhook``, from a thread of its own. Answers have no body: strangers learn nothing from them."""

    def __init__(
        self, port: int, hooks: Hooks, counted: Callable[[str], None] = lambda outcome: None, *,
        patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        """``counted`` is told the outcome of each request to the path."""
        self._hooks, self._counted, self._patience = hooks, counted, patience
        self._socket = socket.socket()  # bound at once, so that a port that is taken ends the start; heard later
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("", port))
        self._ready = Event()
        self._loop: AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), name="webhooks", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Stop answering."""
        if self._loop is None or self._ended is None:
            self._socket.close()
            return
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._answer)
        listening = await self._loop.create_server(lambda: self._connection(server), sock=self._socket)
        self._ready.set()
        await self._ended.wait()
        listening.close()
        await server.shutdown(1.0)

    def _connection(self, server: web.Server) -> web.RequestHandler:
        return _Connection(
            server, self._patience, loop=asyncio.get_running_loop(), access_log=None, logger=_SILENT,
            auto_decompress=False, lingering_time=_LINGER, keepalive_timeout=0,
        )  # fmt: skip

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST" or request.path != PATH:
            return _bare(404)
        outcome = Outcome.BROKEN
        try:
            outcome = await self._judge(request)
        finally:
            self._counted(outcome)
        return _bare(_STATUS.get(outcome, 204))

    async def _judge(self, request: web.BaseRequest) -> Outcome:
        if not may_be_signed(request.headers):
            return Outcome.REFUSED
        if (request.content_length or 0) > MOST_BYTES:
            return Outcome.OVERSIZED
        body = bytearray()
        async for part in request.content.iter_any():
            body += part
            if len(body) > MOST_BYTES:
                return Outcome.OVERSIZED
        return self._hooks.take(request.headers, bytes(body))


class _Connection(web.RequestHandler):
    """A connection that ends in time, and says little about what is wrong with what came over it."""

    def __init__(self, server: web.Server, patience: float, **how: Any) -> None:
        super().__init__(server, **how)
        self._server, self._patience = server, patience
        self._end: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        patience = self._patience if len(self._server.connections) <= CONNECTIONS else 0.0
        self._end = asyncio.get_running_loop().call_later(patience, self.force_close)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:  # fmt: skip
        """Answer what is no HTTP, or too much of it."""
        return _bare(status)


def _bare(status: int) -> web.Response:
    answer = web.Response(status=status, headers={"Server": ""})
    answer.force_close()
    return answer
