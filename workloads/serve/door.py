"""Where connections come in: not more than the server can hold, and none that never takes its answer."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from aiohttp import web

_FULL = b'{"error":"this server holds as many connections as it may; try again soon (--max-connections)"}'
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n" + (
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)
_BACKLOG = 1024


class Door(web.BaseSite):
    """Listens on an address. All of it belongs to the event loop"s thread."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, *, most: int, patience: float) -> None:
        """``most`` connections at once; one whose client takes nothing of an answer for ``patience`` seconds ends."""
        super().__init__(runner, backlog=_BACKLOG)
        self._host = host
        self._port = port
        self._most = most
        self._patience = patience

    @property
    def name(self) -> str:
        """The address."""
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen; OSError for a taken port."""
        await super().start()
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(self._welcome, self._host, self._port, backlog=self._backlog)
        self._server = listening
        for listener in listening.sockets:
            # What comes in has it from here. Without it a client that reads nothing holds its answer for ever.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self._patience))

    def _welcome(self) -> asyncio.BaseProtocol:
        server = cast("web.Server", self._runner.server)
        return server() if len(server.connections) < self._most else _Refusing()


class _Refusing(asyncio.Protocol):
    """Says that there is no room, and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Do so."""
        writing = cast("asyncio.WriteTransport", transport)
        writing.write(_REFUSED)
        writing.close()
