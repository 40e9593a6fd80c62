"""MLflow's model registry as a mirror of releases: asked and told by threads of its own, so that nobody waits for it.

A registered model is ours by its tag ``trunkline.model``; one without it is somebody else's and never touched. A
version stands for a release by its tags, so one whose creation was never answered is found, not made again. Which
version we set the alias to is written down beside it: another one there is somebody else's doing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

from adapters.mlflow_api import Exists, Missing, MlflowApi
from adapters.tracking_access import Access
from specs.errors import Stalled, TrunklineError
from specs.registry_facts import Registered, Registration

log = logging.getLogger("trunkline.registry")

ALIAS = "champion"
OWNER, OURS = "trunkline.model", "trunkline.champion"
RELEASE, RUN, WEIGHTS = "trunkline.release", "trunkline.run", "trunkline.weights"
_LOOK = 60.0
"""Seconds between two looks."""
_PEACE = 5
"""Looks that are left out after one that failed."""
_TIMEOUT = 10.0
_REMEMBERED = 50_000


@dataclass
class _Entry:
    """What is known of one registration."""

    found: Registered | None = None
    due: float = 0.0
    busy: bool = False


@dataclass
class _Server:
    """One tracking server, and the thread that speaks with it."""

    api: MlflowApi
    work: SimpleQueue[Callable[[], None]] = field(default_factory=SimpleQueue)
    down_until: float = 0.0


class MlflowRegistry:
    """All registries that specs name. May be used by several threads; ``state`` and ``register`` return at once."""

    def __init__(
        self, access: Access, clock: Callable[[], float], *, look: float = _LOOK, timeout: float = _TIMEOUT
    ) -> None:
        """``look``: seconds between two looks at the same thing."""
        self._access, self._clock, self._pace, self._timeout = access, clock, look, timeout
        self._lock = threading.Lock()
        self._servers: dict[str, _Server] = {}
        self._known: dict[Registration, _Entry] = {}

    def state(self, wanted: Registration) -> Registered | None:
        """Give what the last look found, and have it looked at again where that is long ago; None until one ended."""
        with self._lock:
            entry = self._entry(wanted)
            if not entry.busy and self._clock() >= entry.due:
                entry.busy = True
                self._ask(wanted, entry, register=False)
            found = entry.found
            return replace(found, old=True) if found is not None and entry.busy and found.reached else found

    def register(self, wanted: Registration) -> None:
        """Have it registered; no-op where something about it is under way."""
        with self._lock:
            entry = self._entry(wanted)
            if not entry.busy:
                entry.busy, entry.found = True, None
                self._ask(wanted, entry, register=True)

    def _entry(self, wanted: Registration) -> _Entry:
        if wanted not in self._known and len(self._known) >= _REMEMBERED:
            self._known.clear()
        return self._known.setdefault(wanted, _Entry())

    def _ask(self, wanted: Registration, entry: _Entry, *, register: bool) -> None:
        server = self._servers.get(wanted.tracking_uri)
        if server is None:
            api = MlflowApi(wanted.tracking_uri, self._access, timeout=self._timeout)
            server = self._servers[wanted.tracking_uri] = _Server(api)
            threading.Thread(target=self._serve, args=(server,), name="registry", daemon=True).start()
        server.work.put(lambda: self._do(server, wanted, entry, register=register))

    @staticmethod
    def _serve(server: _Server) -> None:
        while True:
            server.work.get()()

    def _do(self, server: _Server, wanted: Registration, entry: _Entry, *, register: bool) -> None:
        """Look, or register and look; a server that failed just now is left in peace, whoever asks."""
        found: Registered | None = None
        if self._clock() >= server.down_until:
            try:
                found = _register(server.api, wanted) if register else _look(server.api, wanted)
            except Exception as error:  # noqa: BLE001  whatever a server answers, the others are served
                what = f"{error.reason}: {error.message}" if isinstance(error, TrunklineError) else type(error).__name__
                log.warning("%s: the registry is not told for now: %s", wanted.model, what)
                if not isinstance(error, Stalled):
                    server.down_until = self._clock() + self._pace * _PEACE
        with self._lock:
            now = self._clock()
            entry.found = found or replace(entry.found or Registered(), reached=False, old=False)
            entry.due = now + self._pace * (1 if found else _PEACE)
            entry.busy = False


def _look(api: MlflowApi, wanted: Registration) -> Registered:
    """Find what is there. Reads only."""
    runs = []
    experiment = api.find_experiment(wanted.experiment)
    if experiment:
        runs = api.runs(experiment, wanted.run)
    source = runs[0].id if runs else ""
    try:
        model = api.get("registered-models/get", name=wanted.name)["registered_model"]
    except Missing:
        return Registered(source=source)
    tags = _tags(model)
    aliases = {each["alias"]: str(each["version"]) for each in model.get("aliases", ())}
    versions = _versions(api, wanted)
    return Registered(
        owner=tags.get(OWNER, ""), version=versions[0] if versions else "", source=source,
        champion=aliases.get(ALIAS, ""), ours=tags.get(OURS, ""),
    )  # fmt: skip


def _versions(api: MlflowApi, wanted: Registration) -> list[str]:
    """Give the versions that stand for the release, oldest first."""
    named = wanted.name.replace("'", "")
    query = f"name = '{named}' AND tags.`{RUN}` = '{wanted.run}' AND tags.`{RELEASE}` = '{wanted.release}'"
    found = api.get("model-versions/search", filter=query, max_results="100").get("model_versions", ())
    ours = [each for each in found if _tags(each).get(WEIGHTS) == wanted.weights]
    return sorted((str(each["version"]) for each in ours), key=int)


def _register(api: MlflowApi, wanted: Registration) -> Registered:
    """Bring the registry to what is wanted, one step after the other, each of which may have been done before."""
    found = _look(api, wanted)
    if found.owner is None:
        about = f"Mirror of the ModelSpec {wanted.model}: what is released is decided in git, and shown here."
        try:
            tags = [{"key": OWNER, "value": wanted.model}]
            api.post("registered-models/create", name=wanted.name, description=about, tags=tags)
        except Exists:  # somebody was quicker; whose it is, looking tells
            pass
        found = _look(api, wanted)
    if found.owner != wanted.model:
        return found
    if not found.version:
        if not found.source:
            return found
        _add_version(api, wanted, found.source)
        found = _look(api, wanted)
    if found.champion != found.version:
        api.post("registered-models/alias", name=wanted.name, alias=ALIAS, version=found.version)
    if found.ours != found.version:  # last: cut off before it, the alias is right and nobody else's
        api.post("registered-models/set-tag", name=wanted.name, key=OURS, value=found.version)
    return replace(found, champion=found.version, ours=found.version)


def _add_version(api: MlflowApi, wanted: Registration, source: str) -> None:
    """Make a version of the mirrored run's weights; what two made at the same time, is one again."""
    run = api.get("runs/get", run_id=source)["run"]["info"]
    said = {RELEASE: str(wanted.release), RUN: wanted.run, WEIGHTS: wanted.weights, **dict(wanted.tags)}
    api.post(
        "model-versions/create", name=wanted.name, source=f"{run['artifact_uri']}/model", run_id=source,
        tags=[{"key": key, "value": value} for key, value in sorted(said.items())],
        description=f"Release v{wanted.release} of {wanted.model}",
    )  # fmt: skip
    for version in _versions(api, wanted)[1:]:
        api.delete_at("model-versions/delete", name=wanted.name, version=version)


def _tags(given: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in given.get("tags", ())}
