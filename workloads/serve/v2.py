"""The Open Inference Protocol v2 over HTTP, with the model repository extension."""

from __future__ import annotations

from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workloads.serve import protocol
from workloads.serve.answers import Refusal, json_answer
from workloads.serve.batching import Outputs
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Metrics, Tally
from workloads.serve.fallback import answered_instead, refused
from workloads.serve.limits import Intake
from workloads.serve.orders import Orders, described
from workloads.serve.recent import is_name
from workloads.serve.repository import Repository
from workloads.serve.results import findings
from workloads.serve.served import Served
from workloads.serve.state import Asked
from workloads.serve.watching import Watching

Request = TypeVar("Request", bound=BaseModel)


class _LoadRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")
    parameters: Asked


class _IndexRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")
    ready: Annotated[bool, Field(strict=True)] = False


class Protocol:
    """Handlers of ``/v2``."""

    def __init__(
        self, repository: Repository, intake: Intake, metrics: Metrics, watching: Watching, orders: Orders, version: str
    ) -> None:
        self._repository = repository
        self._intake = intake
        self._most_json = intake.limits.max_json
        self._metrics = metrics
        self._watching = watching
        self._version = version
        self._orders = orders
        self.unready = "the server is starting"
        """Why no requests should come here: not everything serves yet, or it is about to stop. Empty where they may."""

    def routes(self) -> list[web.RouteDef]:
        """Give all routes, with and without a version in the path."""
        models = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        return [
            web.get("/v2", self.server),
            web.get("/v2/health/live", self.live),
            web.get("/v2/health/ready", self.server_ready),
            *(web.post(f"{model}/infer", self.infer) for model in models),
            *(web.get(model, self.metadata) for model in models),
            *(web.get(f"{model}/ready", self.model_ready) for model in models),
            web.post("/v2/repository/index", self.index),
            web.post("/v2/repository/models/{name}/load", self.load),
            web.post("/v2/repository/models/{name}/unload", self.unload),
        ]

    async def server(self, request: web.Request) -> web.Response:
        """Say what this server is."""
        del request
        return json_answer({"name": "trunkline", "version": self._version, "extensions": protocol.EXTENSIONS})

    async def live(self, request: web.Request) -> web.Response:
        """Say that the event loop turns."""
        del request
        return json_answer({"live": True})

    async def server_ready(self, request: web.Request) -> web.Response:
        """Say whether to send requests here."""
        del request
        if self.unready:
            return json_answer({"ready": False, "error": self.unready}, status=503)
        return json_answer({"ready": True})

    async def model_ready(self, request: web.Request) -> web.Response:
        """Say whether a model answers; Refusal 404 or 503 where it does not."""
        served = self._find(request)
        return json_answer({"name": request.match_info["name"], "ready": served is not None})

    async def metadata(self, request: web.Request) -> web.Response:
        """Describe a model: what it takes and gives, and which release it is."""
        name = request.match_info["name"]
        return json_answer(described(name, self._find(request), self._repository.versions(name)))

    async def infer(self, request: web.Request) -> web.Response:
        """Answer with the model's raw outputs."""
        with self._metrics.request() as tally:
            async with self._intake.body(request) as body:
                served = await self._answering(request)
                tally.series = served.observer.series
                call = protocol.parse(body, request.headers.get(protocol.HEADER_LENGTH), most=self._most_json)
                try:
                    rows = served.engine.check(call.inputs, call.outputs)
                    with served.lease():
                        outputs = await served.batcher.submit(call.inputs, rows)
                except (EngineFailure, Refusal) as error:
                    served, (rows, outputs) = await self._instead(request, served, error, tally, call)
            named = call.id if call.id and is_name(call.id) else self._watching.recent.name()
            found = findings(served.artifact, outputs, rows)
            tensor = call.inputs[served.engine.inputs[0].name]
            name = request.match_info["name"]
            self._watching.answered(name, served, named, rows=tensor, found=found)
            if served.copies is not None:
                served.copies.offer(tensor)
            return protocol.respond(call, name, served.target.version, served.file, outputs, named)

    async def _instead(
        self, request: web.Request, failed: Served, trouble: EngineFailure | Refusal, tally: Tally, call: protocol.Call
    ) -> tuple[Served, tuple[int, Outputs]]:
        """Have what serves answer for a canary, unless the client asked for exactly that version."""
        if "version" in request.match_info:
            raise refused(trouble)

        async def answer(served: Served) -> tuple[int, Outputs]:
            rows = served.engine.check(call.inputs, call.outputs)
            with served.lease():
                return rows, await served.batcher.submit(call.inputs, rows)

        return await answered_instead(
            self._repository, request.match_info["name"], failed, trouble, tally, answer
        )  # fmt: skip

    async def index(self, request: web.Request) -> web.Response:
        """List the models that were asked for, ready or not."""
        async with self._intake.body(request) as body:
            only_ready = _parsed(_IndexRequest, body or b"{}").ready
        return json_answer(self._orders.index(only_ready=only_ready))

    async def load(self, request: web.Request) -> web.Response:
        """Serve another file; answers when it is ready, or says why the old one goes on."""
        name = self._orders.check(request.match_info["name"])
        async with self._intake.body(request) as body:
            asked = _parsed(_LoadRequest, body).parameters
        await self._orders.load(name, asked)
        return json_answer({"name": name, "version": str(asked.version), "file": asked.file, "ready": True})

    async def unload(self, request: web.Request) -> web.Response:
        """Stop serving a model; also where it does not serve."""
        name = self._orders.check(request.match_info["name"])
        async with self._intake.body(request):
            await self._orders.unload(name)
        return json_answer({"name": name, "ready": False})

    async def _answering(self, request: web.Request) -> Served:
        """Give who answers a request."""
        return await self._repository.answering(request.match_info["name"], request.match_info.get("version"))

    def _find(self, request: web.Request) -> Served:
        return self._repository.get(request.match_info["name"], request.match_info.get("version"))


def _parsed(kind: type[Request], body: bytes) -> Request:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(400, f"not such a request: {protocol.first_problem(error)}", reason="LoadFailed") from error
