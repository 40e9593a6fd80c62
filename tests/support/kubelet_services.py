"""The Services of the process kubelet: one local port each, which leads every connection to a pod that is ready."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress

from tests.support.kubelet_mirror import Mirror

ReadyPods = Callable[[str, Mapping[str, str]], list[tuple[str, int]]]
_CHUNK = 65536


class Services:
    """Forwards connections; ``ready_pods`` gives hosts and ports of the ready pods of a namespace with some labels."""

    def __init__(self, mirror: Mirror, ready_pods: ReadyPods) -> None:
        self._mirror, self._ready_pods = mirror, ready_pods
        self._listening: dict[tuple[str, str], asyncio.Server] = {}
        self._turn = itertools.count()
        self._connections: set[asyncio.Task[None]] = set()

    async def address(self, namespace: str, name: str) -> str:
        """Give the address of a Service, which need not exist yet."""
        if (namespace, name) not in self._listening:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.get_running_loop().create_task(self._forward(namespace, name, reader, writer))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

            self._listening[namespace, name] = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=512)
        port = self._listening[namespace, name].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def close(self) -> None:
        """Listen no more, and cut what is open."""
        for server in self._listening.values():
            server.close()
        open_ = list(self._connections)
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)

    async def _forward(
        self, namespace: str, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Lead one connection to a pod; it is closed at once where no pod is ready."""
        service = self._mirror.get("Service", namespace, name)
        selector = service["spec"].get("selector") if service else None
        pods = self._ready_pods(namespace, selector) if selector else []
        try:
            if pods:
                host, port = pods[next(self._turn) % len(pods)]
                with suppress(OSError):
                    pod_reader, pod_writer = await asyncio.open_connection(host, port)
                    await asyncio.gather(_pump(reader, pod_writer), _pump(pod_reader, writer))
        finally:
            writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Carry bytes one way until there are no more."""
    try:
        with suppress(ConnectionError):
            while data := await source.read(_CHUNK):
                sink.write(data)
                await sink.drain()
    finally:
        sink.close()
