"""What clients ask of a server besides answers, over HTTP and gRPC: what serves, and to serve something else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError

from specs.errors import Stalled, Transient
from workloads.serve.answers import Refusal
from workloads.serve.repository import Repository
from workloads.serve.served import Served
from workloads.serve.state import Asked, ModelName

_MISSING = {"ArtifactMissing": 404}
_NAME: TypeAdapter[str] = TypeAdapter(ModelName)


class Orders:
    """The repository, as clients may use it."""

    def __init__(self, repository: Repository, *, fixed: bool = False) -> None:
        """With ``fixed``, what serves was decided when the server was started, and no client can change it."""
        self._repository = repository
        self._fixed = fixed

    def index(self, *, only_ready: bool) -> list[dict[str, Any]]:
        """List the models that were asked for, ready or not."""
        entries: list[dict[str, Any]] = []
        for name, slot in self._repository.slots().items():
            if slot.served is not None:
                versions = [slot.served, *([slot.canary.served] if slot.canary is not None else ())]
                entries += [
                    {"name": name, "version": str(served.target.version), "state": "READY", "reason": ""}
                    | ({"parked": True} if served.parked else {})
                    for served in versions
                ]
            elif not only_ready:
                entries.append({"name": name, "state": "UNAVAILABLE", "reason": slot.failure or "loading"})
        return entries

    def check(self, name: str) -> str:
        """Give the name of a model that may be loaded or unloaded; Refusal 403 where none may, 400 for no name."""
        if self._fixed:
            msg = (
                "this server was told at its start what to serve, by its Deployment, and takes no other orders; "
                "change spec.release by pull request"
            )
            raise Refusal(403, msg, reason="Fixed")
        try:
            return _NAME.validate_python(name)
        except ValidationError as error:
            msg = "a model's name has lower-case letters, digits, hyphens, at most 63; before it a namespace and a dot"
            raise Refusal(400, msg, reason="LoadFailed") from error

    async def load(self, name: str, asked: Asked) -> None:
        """Serve another file; Refusal where the old one goes on."""
        with _refused():
            await self._repository.load(name, asked)

    async def unload(self, name: str) -> None:
        """Stop serving a model; also where it does not serve."""
        with _refused():
            await self._repository.unload(name)


def described(name: str, served: Served, versions: Sequence[str]) -> dict[str, Any]:
    """Describe a model: what it takes and gives, and which release it is; ``versions`` are all that answer."""
    target, artifact = served.target, served.artifact
    return {
        "name": name,
        "versions": list(versions),
        "platform": served.engine.platform,
        "inputs": [part.describe() for part in served.engine.inputs],
        "outputs": [part.describe() for part in served.engine.outputs],
        "parameters": {
            **target.model_dump(), "task": artifact.task, "names": artifact.names, "runtime": served.engine.runtime,
        },
    }


@contextmanager
def _refused() -> Iterator[None]:
    """Turn trouble with a load into a refusal: 4xx where trying again is no use, 503 where it may be."""
    try:
        yield
    except Stalled as error:
        raise Refusal(_MISSING.get(error.reason, 422), error.message, reason=error.reason) from error
    except Transient as error:
        raise Refusal(503, error.message, reason=error.reason, headers={"Retry-After": "5"}) from error
