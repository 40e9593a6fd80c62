"""Which models serve. A new version replaces the old one only after it has proved itself, without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

from specs.digests import short
from specs.errors import Stalled, Transient, TrunklineError
from specs.records import ArtifactRecord
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.cache import Blobs, Cache
from workloads.serve.engine import Engine
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven, load, read_artifact
from workloads.serve.state import Saved, State, Target
from workloads.serve.trust import Noted, Trust

log = logging.getLogger(__name__)
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Served:
    """One version that answers requests, until it is retired and the last of them is done."""

    def __init__(self, proven: Proven, target: Target, batcher: Batcher) -> None:
        self.engine: Engine = proven.engine
        self.artifact: ArtifactRecord = proven.artifact
        self.target = target
        self.batcher = batcher
        self.file = short(target.file)
        self._leases = 0
        self._retired = False

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep it able to answer over an ``await``, even when it is replaced meanwhile."""
        self._leases += 1
        try:
            yield
        finally:
            self._leases -= 1
            self._close_when_done()

    def retire(self) -> None:
        """Take no new leases; requests in the queue are still answered."""
        self._retired = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._retired and self._leases == 0:
            self.batcher.close()


@dataclass
class Slot:
    """All that is known under one model name."""

    served: Served | None = None
    saved: Saved | None = None
    failed_file: str | None = None
    failure: str = ""
    incoming: Saved | None = None
    """What is being loaded."""

    def describe(self) -> dict[str, object]:
        """Give the form that ``/trunkline/models`` shows."""
        target = self.served.target.model_dump() if self.served else dict.fromkeys(Target.model_fields)
        return {
            **target, "ready": self.served is not None, "loading": self.incoming is not None,
            "failed_file": self.failed_file, "failure": self.failure,
        }  # fmt: skip


class Repository:
    """Models by name.

    All methods belong to the event loop's thread; loads run in the executor, one at a time for each model.
    """

    def __init__(
        self, store: Blobs, cache: Cache, state: State, limits: Limits, metrics: Metrics, executor: Executor,
        *, trust: Trust | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._trust = trust or Trust()
        self._cache = cache
        self._state = state
        self._limits = limits
        self._metrics = metrics
        self._executor = executor
        self._slots: dict[str, Slot] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asked: dict[tuple[str, Target], asyncio.Task[None]] = {}

    def slots(self) -> dict[str, Slot]:
        """Give all models that were asked for, by name."""
        return dict(sorted(self._slots.items()))

    def get(self, name: str, version: str | None = None) -> Served:
        """Give what serves; Refusal 404 for an unknown model or version, 503 for one that is not ready."""
        slot = self._slots.get(name)
        if slot is None:
            raise Refusal(404, f"no model {name[:64]!r} here; /trunkline/models lists them")
        if slot.served is None:
            why = slot.failure or "it is being loaded"
            raise Refusal(503, f"model {name!r} is not ready: {why}", headers={"Retry-After": "5"})
        if version is not None and version != str(slot.served.target.version):
            msg = f"model {name!r} serves version {slot.served.target.version}, not {version[:20]!r}"
            raise Refusal(404, msg)
        return slot.served

    async def restore(self) -> None:
        """Load all models that served last; one that fails is reported, the others serve."""
        for saved in self._state.load():
            slot = self._slots[saved.name] = Slot()
            try:
                await self._run(self._trust.demand_again, self._store, saved.target, saved.proof)
                proven = await self._in_thread(saved)
            except TrunklineError as error:
                self._note_failure(slot, saved.name, saved.target, error)
            else:
                self._install(slot, saved, proven)

    async def load(self, name: str, target: Target) -> None:
        """Serve ``target``; returns when it does. What serves now goes on until then, and whenever this fails.

        The same load asked for twice at once is one load, and a load outlives the client that asked for it. Raises
        Stalled ``ArtifactMissing``, ``SignatureMissing``, ``SignatureInvalid``, ``LoadFailed``, ``SelfTestFailed``;
        CorruptArtifact; Transient.
        """
        task = self._asked.get((name, target))
        if task is None:
            task = asyncio.create_task(self._load(name, target))
            self._asked[name, target] = task
            task.add_done_callback(lambda done: self._answered(name, target, done))
        await asyncio.shield(task)

    def _answered(self, name: str, target: Target, task: asyncio.Task[None]) -> None:
        del self._asked[name, target]
        if not task.cancelled():
            task.exception()  # it is in the log; the client that would have got it may be gone

    async def unload(self, name: str) -> None:
        """Stop serving a model once its requests are answered; no-op where there is none."""
        async with self._turns[name]:
            self._state.forget(name)
            slot = self._slots.pop(name, None)
            if slot is not None and slot.served is not None:
                slot.served.retire()
            self._metrics.withdraw(name)
            self._prune()

    async def _load(self, name: str, target: Target) -> None:
        async with self._turns[name]:
            slot = self._slots.setdefault(name, Slot())
            if slot.saved is not None and slot.served is not None and slot.saved.target.file == target.file:
                await self._renumber(slot, slot.saved, slot.served, target)
                return
            if slot.failed_file != target.file:
                slot.failed_file, slot.failure = None, ""
            try:
                artifact, proof = await self._run(self._look_up, target)
                saved = Saved(name=name, target=target, artifact=artifact, previous=_previous(slot), proof=proof)
                slot.incoming = saved
                proven = await self._in_thread(saved)
                # On disk first: killed in between, a restart serves the new one, which has proved itself.
                await self._run(self._state.save, saved)
            except TrunklineError as error:
                self._note_failure(slot, name, target, error)
                raise
            finally:
                slot.incoming = None
            self._install(slot, saved, proven)
            self._prune()

    async def _renumber(self, slot: Slot, saved: Saved, served: Served, target: Target) -> None:
        """The file serves already: nothing to load, but its version, run and weights may have other names now."""
        if target.weights != saved.artifact.weights:
            made, asked = short(saved.artifact.weights), short(target.weights)
            msg = f"file {served.file} was made from weights {made}, not {asked}"
            raise Stalled("CorruptArtifact", msg)
        if target != saved.target:
            # Unsigned, this needs no store: nothing but a number changes.
            proof = (await self._run(self._look_up, target))[1] if self._trust.keys else {}
            renumbered = saved.model_copy(update={"target": target, "proof": proof})
            await self._run(self._state.save, renumbered)
            slot.saved, served.target = renumbered, target
            self._metrics.serve(saved.name, target, lambda: served.batcher.depth)
        slot.failed_file, slot.failure = None, ""

    def _look_up(self, target: Target) -> tuple[ArtifactRecord, dict[str, str]]:
        """Give what the store says about a target, and the texts by which that is proved."""
        records = Noted(self._store)
        artifact = read_artifact(records, target)
        self._trust.demand(records, target)
        return artifact, records.texts if self._trust.keys else {}

    async def _in_thread(self, saved: Saved) -> Proven:
        return await self._run(load, saved.artifact, self._cache, self._limits)

    def _run(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    def _install(self, slot: Slot, saved: Saved, proven: Proven) -> None:
        """Swap: from here on new requests meet the new version, and the old one finishes what it has."""
        served = Served(proven, saved.target, Batcher(proven.engine, self._limits, self._metrics.observer(saved.name)))
        old, slot.served, slot.saved = slot.served, served, saved
        slot.failed_file, slot.failure = None, ""
        if old is not None:
            old.retire()
        self._metrics.load(saved.name, "ok")
        self._metrics.serve(saved.name, saved.target, lambda: served.batcher.depth)
        log.info("model %s serves version %d, file %s", saved.name, saved.target.version, served.file)

    def _note_failure(self, slot: Slot, name: str, target: Target, error: TrunklineError) -> None:
        slot.failure = error.message
        # Trouble of the moment is no verdict on the file.
        slot.failed_file = None if isinstance(error, Transient) else target.file
        self._metrics.load(name, error.reason)
        keeps = f"; version {slot.served.target.version} keeps serving" if slot.served else ""
        log.warning("model %s: %s did not load (%s): %s%s", name, target.file, error.reason, error.message, keeps)

    def _prune(self) -> None:
        needed = [saved for slot in self._slots.values() for saved in (slot.saved, slot.incoming) if saved is not None]
        self._cache.prune(digest for saved in needed for digest in (*saved.digests(), *saved.previous))

    def close(self) -> None:
        """Answer what waits, then stop all inference threads."""
        for slot in self._slots.values():
            if slot.served is not None:
                slot.served.retire()


def _previous(slot: Slot) -> list[str]:
    return slot.saved.digests() if slot.saved is not None else []

