"""What a version needs to serve: its record, its proof, an engine that proved itself, and a place on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar, TypeVarTuple

from specs.builds import Build
from specs.errors import Stalled, Transient
from specs.records import ArtifactRecord
from workloads.serve.cache import Blobs, Cache
from workloads.serve.engine import Parked
from workloads.serve.limits import MIB, Limits
from workloads.serve.loading import Proven, load, prove, read_artifact
from workloads.serve.served import Served
from workloads.serve.state import Saved, State, Target
from workloads.serve.trust import Noted, Trust

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Supply:
    """Store, disk and trust of one server. Awaited from the event loop; the work itself is done in the executor."""

    def __init__(
        self, store: Blobs, cache: Cache, state: State, limits: Limits, executor: Executor, trust: Trust
    ) -> None:
        self._store = store
        self._cache = cache
        self._state = state
        self._limits = limits
        self._executor = executor
        self._trust = trust

    def saved(self) -> list[Saved]:
        """Give what served last, by name."""
        return self._state.load()

    @property
    def died(self) -> bool:
        """Whether the server before this one did not end by itself."""
        return self._state.died

    async def look_up(self, target: Target) -> tuple[ArtifactRecord, dict[str, str]]:
        """Give what the store says about a target, and the texts by which that is proved.

        Raises as ``read_artifact`` and ``Trust.demand``.
        """
        return await self._run(self._look_up, target)

    async def proof(self, target: Target) -> dict[str, str]:
        """Give what proves a target whose file serves already; where nobody signs, that needs no store."""
        return (await self.look_up(target))[1] if self._trust.keys else {}

    async def engine(self, saved: Saved) -> Proven:
        """Load; raises as ``loading.load``, and Stalled ``OverBudget`` where one engine takes more than all may."""
        proven, budget = await self._open(saved.artifact, saved.target), self._limits.memory_budget
        if budget is not None and proven.engine.memory > budget:
            took, may = (f"{size / MIB:.1f} MiB" for size in (proven.engine.memory, budget))
            msg = f"the model takes about {took}, but all models together may take {may} (--memory-budget)"
            raise Stalled("OverBudget", msg)
        return proven

    async def engine_again(self, saved: Saved, *, park: bool = False) -> Proven:
        """Load what served before, if it is still trusted; needs no store where disk has all of it.

        With ``park`` it is not loaded, where it is known without.
        """
        await self._run(self._trust.demand_again, self._store, saved.target, saved.proof)
        if park and saved.engine is not None:
            return Proven(Parked(saved.engine), saved.artifact)
        return await self.engine(saved)

    async def reopen(self, served: Served) -> Proven:
        """Load the engine of a version that was parked; raises as ``loading.load``."""
        return await self._open(served.artifact, served.target)

    async def prove(self, served: Served) -> None:
        """Repeat the self-tests; raises as ``loading.prove``."""
        with served.lease():
            await self._run(prove, served.engine, served.artifact, self._cache)

    async def keep(self, saved: Saved) -> None:
        """Remember on disk what serves; Transient where the disk does not take it."""
        await self._run(self._state.save, saved)

    def forget(self, name: str) -> None:
        """Drop a model from the disk; Transient where that does not let go of it."""
        self._state.forget(name)

    def prune(self, needed: Iterable[Saved]) -> None:
        """Keep the files of these, and of what they replaced, and no others."""
        self._cache.prune(digest for saved in needed for digest in (*saved.digests(), *saved.previous))

    def before(self, name: str) -> Saved | None:
        """Give what served before what served last; its files are on disk as well."""
        return self._state.before(name)

    def _open(self, artifact: ArtifactRecord, target: Target) -> asyncio.Future[Proven]:
        build = Build.parse(target.build)
        return self._run(partial(load, build=build), artifact, self._cache, self._limits)

    def _look_up(self, target: Target) -> tuple[ArtifactRecord, dict[str, str]]:
        try:
            return self._asked_of_store(target)
        except Transient:
            known = self._state.known(target)  # going back needs no network
            if known is None:
                raise
            self._trust.demand_again(self._store, known.target, known.proof)
            return known.artifact, known.proof

    def _asked_of_store(self, target: Target) -> tuple[ArtifactRecord, dict[str, str]]:
        records = Noted(self._store)
        artifact = read_artifact(records, target)
        self._trust.demand(records, target)
        return artifact, records.texts if self._trust.keys else {}

    def _run(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, call, *args)
