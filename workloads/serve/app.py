"""The server put together: routes, one place for refusals, and the way from start to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Protocol as TypingProtocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from specs.errors import TrunklineError
from specs.monitoring import Labelling
from workloads.serve.answers import Refusal, json_answer
from workloads.serve.builds import Attestations, Builds
from workloads.serve.cache import Blobs, Cache
from workloads.serve.door import Door
from workloads.serve.exposition import Metrics
from workloads.serve.keeping import Keeper
from workloads.serve.keeping_series import KeptSeries
from workloads.serve.keeping_shelf import KeptStore
from workloads.serve.limits import Intake, Limits
from workloads.serve.memory import keep_small
from workloads.serve.orders import Orders
from workloads.serve.plain import Predictions
from workloads.serve.repository import Repository
from workloads.serve.startup import Wanted, serve_only
from workloads.serve.state import State
from workloads.serve.trust import Trust
from workloads.serve.truth import Truths
from workloads.serve.v2 import Protocol
from workloads.serve.watching import Watching

if TYPE_CHECKING:
    from workloads.serve.grpc_server import GrpcServer

LOADERS = 2
DRAIN = 4.0
"""Seconds that requests in flight have to end, and as many again once they are told to; together below ten."""
LINGER = 2.0
"""Seconds in which the rest of a refused body is read and dropped, so that the client gets to read the refusal."""

_TELL_AGAIN = 300.0
"""Seconds between two tries to tell the store of engines that were made here."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Settings:
    """Where a server listens and keeps its things."""

    state: Path
    cache: Path
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = field(default_factory=Limits)
    wanted: Wanted | None = None
    """All that it serves, from start to end; without it, what it served last and whatever it is asked for."""
    share_file: Path | None = None
    """Where the share of ``wanted``'s canary is told."""
    trust: Trust = field(default_factory=Trust)
    watch: bool = True
    """Whether pictures and what is found in them are counted, and remembered until the truth is told."""
    keep: bool = True
    """Whether pictures may be kept for people, where a spec asks for it."""
    drain_delay: float = 0.0
    """Seconds to go on answering after it was told to stop, so that whoever sends requests here gets to know."""
    grpc_port: int | None = None
    """Where gRPC is spoken; None means nowhere, 0 any free port."""


class ServerStore(Attestations, Blobs, KeptStore, TypingProtocol):
    """What a server needs of ``adapters.store.Store``."""


class Server:
    """One server process: ``start``, then ``stop``."""

    def __init__(self, store: ServerStore, settings: Settings) -> None:
        """Take the state directory; Stalled ``StateInUse`` where another server has it. Needs a running loop."""
        self._settings = settings
        limits = settings.limits
        self._state = State(settings.state)
        self._loaders = ThreadPoolExecutor(LOADERS, "load")
        self._decoders = ThreadPoolExecutor(max(2, limits.threads), "decode")
        metrics, watching = Metrics(watch=settings.watch), Watching()
        intake = Intake(limits)
        self._builds = Builds(settings.state / "builds", store)
        self._telling: asyncio.Task[None] | None = None
        cache = Cache(settings.cache, store, self._builds)
        self.repository = Repository(
            store, cache, self._state, limits, metrics, self._loaders, trust=settings.trust, watching=watching
        )
        orders = Orders(self.repository, fixed=settings.wanted is not None)
        self._protocol = Protocol(self.repository, intake, metrics, watching, orders, _version())
        self._grpc = self._make_grpc(intake, metrics, watching, orders) if settings.grpc_port is not None else None
        self._keeper = self._make_keeper(store, metrics) if settings.keep else None
        predictions = Predictions(
            self.repository, intake, metrics, watching, limits, self._decoders, keeper=self._keeper
        )  # fmt: skip
        truths = Truths(intake, metrics, watching.recent, self._decoders, self._keeper)
        self._metrics = metrics
        self._leaving = False
        app = web.Application(middlewares=[self._farewell, _refusals])
        app.add_routes([
            *self._protocol.routes(),
            web.post("/models/{name}/predict", predictions.predict),
            web.post("/models/{name}/truth", truths.tell),
            web.get("/trunkline/models", self._models),
            web.post("/trunkline/models/{name}/self-test", self._self_test),
            web.get("/metrics", self._exposition),
        ])  # fmt: skip
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, keepalive_timeout=limits.idle_timeout,
            lingering_time=LINGER, shutdown_timeout=DRAIN,
        )  # fmt: skip
        self._small: asyncio.Task[None] | None = None
        self.url = ""
        self._following: asyncio.Task[None] | None = None

    def _make_grpc(self, intake: Intake, metrics: Metrics, watching: Watching, orders: Orders) -> GrpcServer:
        from workloads.serve.grpc_server import GrpcServer  # some MiB, for those who ask for it
        from workloads.serve.grpc_service import Service

        def unready() -> str:
            return self._protocol.unready

        service = Service(self.repository, orders, metrics, watching, _version(), unready)
        return GrpcServer(service, intake, self._settings.limits)

    def _make_keeper(self, store: ServerStore, metrics: Metrics) -> Keeper:
        replica = f"{socket.gethostname()}:{self._settings.state.absolute()}"

        def labelling() -> dict[str, Labelling | None]:
            """Give what is asked for of each model that serves. The keeper's thread asks; ``slots`` gives a copy."""
            slots = self.repository.slots()
            return {name: slot.served.options.labelling for name, slot in slots.items() if slot.served is not None}

        return Keeper(store, KeptSeries(metrics.registry), replica, labelling)

    async def start(self) -> None:
        """Listen, load what must serve, then be ready and say so in ``address.json``.

        OSError for a taken port, Hopeless where the target that it was told can never serve.
        """
        self._small = asyncio.create_task(keep_small())
        await self._runner.setup()
        limits = self._settings.limits
        await Door(
            self._runner, self._settings.host, self._settings.port,
            most=limits.max_connections, patience=limits.body_timeout,
        ).start()  # fmt: skip
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        wanted, spoken = self._settings.wanted, await self._listen_for_grpc()
        if wanted is None:
            await self.repository.restore()
        else:
            beside = wanted.beside(self._settings.share_file)
            await serve_only(wanted, beside, self._state, self.repository, self._explain)
            if beside is not None:
                self._following = asyncio.create_task(beside.follow(self.repository))
        self._telling = asyncio.create_task(self._tell())
        self._state.announce(self.url, spoken)
        self._explain("")

    async def _listen_for_grpc(self) -> str:
        """Give host and port, empty where gRPC is not spoken."""
        if self._grpc is None or self._settings.grpc_port is None:
            return ""
        return await self._grpc.start(self._settings.host, self._settings.grpc_port)

    async def drain(self) -> None:
        """Say at once that nothing more should come here, and answer what comes nevertheless for a while.

        Every answer ends its connection: one kept open would carry a request just when the server closes it.
        """
        self._leaving = True
        self._explain("the server is about to stop")
        await asyncio.sleep(self._settings.drain_delay)

    async def _tell(self) -> None:
        """Tell the store again and again of engines that it could not be told of when they were made."""
        while True:
            await asyncio.sleep(_TELL_AGAIN)
            await asyncio.get_running_loop().run_in_executor(self._loaders, self._builds.tell)

    def _explain(self, unready: str) -> None:
        self._protocol.unready = unready

    async def stop(self) -> None:
        """Stop accepting, answer what is in flight (at most twice DRAIN seconds), and let go of everything."""
        self._explain("the server stops")
        for task in (self._telling, self._following):
            if task is not None:
                task.cancel()
        ends = [self._runner.cleanup()] + ([self._grpc.stop(DRAIN)] if self._grpc is not None else [])
        await asyncio.gather(*ends)
        if self._small is not None:
            self._small.cancel()
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.close)
        self.repository.close()
        self._state.retract()
        self._state.close()
        self._loaders.shutdown(wait=False, cancel_futures=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @web.middleware
    async def _farewell(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Send clients elsewhere for their next request, once it is known that the server stops."""
        response = await handler(request)
        if self._leaving:
            response.force_close()
        return response

    async def _models(self, request: web.Request) -> web.Response:
        del request
        return json_answer({"models": {name: slot.describe() for name, slot in self.repository.slots().items()}})

    async def _self_test(self, request: web.Request) -> web.Response:
        """Repeat the self-tests of what serves; 503 where they cannot be had now."""
        name = request.match_info["name"]
        try:
            flaw = await self.repository.check(name)
        except TrunklineError as error:
            raise Refusal(503, error.message, reason=error.reason) from error
        return json_answer({"name": name, "passed": not flaw, "error": flaw})

    async def _exposition(self, request: web.Request) -> web.Response:
        del request
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals, ours and the router's, into JSON."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.answer()
    except web.HTTPNotFound:
        return json_answer({"error": f"there is nothing at {request.path[:200]!r}"}, status=404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method[:20]} is not possible here; use {allowed}"
        return json_answer({"error": message}, status=405, headers={"Allow": allowed})


def _version() -> str:
    try:
        return version("trunkline")
    except PackageNotFoundError:
        return "0"


async def serve(store: ServerStore, settings: Settings, stop: asyncio.Event) -> None:
    """Run a server until ``stop`` is set; prints one line when it is ready. Raises what ``Server.start`` raises."""
    server = Server(store, settings)
    starting = asyncio.create_task(server.start())
    told = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            names = ", ".join(name for name, slot in server.repository.slots().items() if slot.served)
            names = names or "no models yet"
            sys.stdout.write(f"trunkline server ready at {server.url} (pid {os.getpid()}), serving {names}\n")
            sys.stdout.flush()
            await told
            await server.drain()
    finally:
        starting.cancel()
        told.cancel()
        await server.stop()
