"""The Open Inference Protocol over gRPC: each method as a function from a request to the bytes of its response."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from workloads.serve import protocol
from workloads.serve.answers import Refusal
from workloads.serve.batching import Outputs
from workloads.serve.engine import EngineFailure
from workloads.serve.exposition import Metrics
from workloads.serve.fallback import answered_instead, refused
from workloads.serve.grpc_messages import (
    HEALTH,
    HEALTH_CHECK,
    INFERENCE,
    NOT_SERVING,
    SERVICE,
    SERVICE_UNKNOWN,
    SERVING,
)
from workloads.serve.grpc_tensors import call_of, response_of
from workloads.serve.orders import Orders, described
from workloads.serve.recent import is_name
from workloads.serve.repository import Repository
from workloads.serve.results import findings
from workloads.serve.served import Served
from workloads.serve.state import Asked
from workloads.serve.watching import Watching

FILE_PARAMETER, REQUEST_PARAMETER = "trunkline_file", "trunkline_request"
"""Of a response: first digits of the file that answered, and the request's name, by which the truth can be told."""

Method = Callable[[Any], Awaitable[bytes]]


@dataclass(frozen=True)
class Service:
    """What answers. All methods take a parsed request, and raise Refusal."""

    repository: Repository
    orders: Orders
    metrics: Metrics
    watching: Watching
    version: str
    unready: Callable[[], str]
    """Says why no requests should come here; empty where they may."""

    def methods(self) -> dict[str, dict[str, tuple[type[Any], Method]]]:
        """Give service to method to the class of its requests and what answers them."""
        answers: dict[str, Method] = {
            "ServerLive": self.server_live, "ServerReady": self.server_ready, "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata, "ModelMetadata": self.model_metadata, "ModelInfer": self.infer,
            "RepositoryIndex": self.index, "RepositoryModelLoad": self.load, "RepositoryModelUnload": self.unload,
        }  # fmt: skip
        inference = {name: (INFERENCE[f"{name}Request"], answer) for name, answer in answers.items()}
        return {SERVICE: inference, HEALTH: {"Check": (HEALTH_CHECK["HealthCheckRequest"], self.health)}}

    async def server_live(self, request: Any) -> bytes:
        """Say that the event loop turns."""
        del request
        return _encoded("ServerLiveResponse", live=True)

    async def server_ready(self, request: Any) -> bytes:
        """Say whether to send requests here."""
        del request
        return _encoded("ServerReadyResponse", ready=not self.unready())

    async def model_ready(self, request: Any) -> bytes:
        """Say whether a model answers; unlike over HTTP, one that does not is no error."""
        return _encoded("ModelReadyResponse", ready=self._answers(request.name, request.version))

    async def server_metadata(self, request: Any) -> bytes:
        """Say what this server is."""
        del request
        about = {"name": "trunkline", "version": self.version, "extensions": protocol.EXTENSIONS}
        return _encoded("ServerMetadataResponse", **about)

    async def model_metadata(self, request: Any) -> bytes:
        """Describe a model: what it takes and gives."""
        served = self.repository.get(request.name, request.version or None)
        about = described(request.name, served, self.repository.versions(request.name))
        del about["parameters"]  # the message has no place for them
        return _encoded("ModelMetadataResponse", **about)

    async def infer(self, request: Any) -> bytes:
        """Answer with the model's raw outputs."""
        with self.metrics.request() as tally:
            name = request.model_name
            served = await self.repository.answering(name, request.model_version or None)
            tally.series = served.observer.series
            call = call_of(request)
            answered = partial(_answered, call=call)
            try:
                rows, outputs = await answered(served)
            except (EngineFailure, Refusal) as error:
                if request.model_version:
                    raise refused(error) from error
                served, (rows, outputs) = await answered_instead(
                    self.repository, name, served, error, tally, answered
                )  # fmt: skip
            named = self._watch(name, served, call, outputs, rows)
            parameters = {FILE_PARAMETER: served.file, REQUEST_PARAMETER: named}
            return response_of(call, name, served.target.version, outputs, parameters)

    def _watch(self, name: str, served: Served, call: protocol.Call, outputs: Outputs, rows: int) -> str:
        """Count what was answered, offer a copy to who wants one, and give the request's name."""
        named = call.id if call.id and is_name(call.id) else self.watching.recent.name()
        found = findings(served.artifact, outputs, rows)
        tensor = call.inputs[served.engine.inputs[0].name]
        self.watching.answered(name, served, named, rows=tensor, found=found)
        if served.copies is not None:
            served.copies.offer(tensor)
        return named

    async def index(self, request: Any) -> bytes:
        """List the models that were asked for, ready or not."""
        return _encoded("RepositoryIndexResponse", models=self.orders.index(only_ready=request.ready))

    async def load(self, request: Any) -> bytes:
        """Serve another file; answers when it is ready, or says why the old one goes on."""
        name = self.orders.check(request.model_name)
        try:
            asked = Asked.model_validate(_parameters(request))
        except ValidationError as error:
            raise Refusal(400, f"not such a request: {protocol.first_problem(error)}", reason="LoadFailed") from error
        await self.orders.load(name, asked)
        return _encoded("RepositoryModelLoadResponse")

    async def unload(self, request: Any) -> bytes:
        """Stop serving a model; also where it does not serve."""
        await self.orders.unload(self.orders.check(request.model_name))
        return _encoded("RepositoryModelUnloadResponse")

    async def health(self, request: Any) -> bytes:
        """Answer gRPC's own health check: of the server, of a service, or of a model."""
        name = request.service
        if name in ("", SERVICE, HEALTH):
            status = NOT_SERVING if self.unready() else SERVING
        elif name in self.repository.slots():
            status = SERVING if self._answers(name) else NOT_SERVING
        else:
            status = SERVICE_UNKNOWN
        encoded: bytes = HEALTH_CHECK["HealthCheckResponse"](status=status).SerializeToString()
        return encoded

    def _answers(self, name: str, version: str = "") -> bool:
        try:
            self.repository.get(name, version or None)
        except Refusal:
            return False
        return True


async def _answered(served: Served, *, call: protocol.Call) -> tuple[int, Outputs]:
    """Give how many rows were asked about, and the answers."""
    rows = served.engine.check(call.inputs, call.outputs)
    with served.lease():
        return rows, await served.batcher.submit(call.inputs, rows)


def _encoded(kind: str, **fields: Any) -> bytes:
    encoded: bytes = INFERENCE[kind](**fields).SerializeToString()
    return encoded


def _parameters(request: Any) -> dict[str, Any]:
    """Give what to load: parameters by name, those that are no plain values as JSON; or all of it as JSON in config."""
    given: dict[str, Any] = {}
    for name, value in request.parameters.items():
        chosen = value.WhichOneof("parameter_choice")
        given[name] = getattr(value, chosen) if chosen else None
    try:
        for name in {"config", "options", "share"} & given.keys():
            given[name] = json.loads(given[name])
    except (TypeError, ValueError) as error:
        raise Refusal(400, f"parameters.{name} is not JSON: {error}", reason="LoadFailed") from error
    config = given.pop("config", {})
    return (config if isinstance(config, dict) else {}) | given
