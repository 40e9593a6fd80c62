"""Which models serve. A new version replaces the old one only after it has proved itself, without losing a request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from specs.digests import short
from specs.errors import Stalled, Transient, TrunklineError
from specs.records import ArtifactRecord
from specs.serving import ServerOptions
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.cache import Blobs, Cache
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven, load, prove, read_artifact
from workloads.serve.served import Served, Slot
from workloads.serve.state import Asked, Saved, State, Target
from workloads.serve.trust import Noted, Trust

log = logging.getLogger(__name__)
_CHECKS = 20
"""So often the self-tests of a version on trial are repeated …"""
_FASTEST, _SLOWEST = 0.2, 60.0
"""… with pauses of so many seconds at least and at most."""
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


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
        self._asked: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._trials: dict[str, asyncio.Task[None]] = {}

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

    async def answering(self, name: str, version: str | None = None) -> Served:
        """Give who answers one request; refuses like ``get``."""
        return self.get(name, version)

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

    async def load(self, name: str, asked: Asked) -> None:
        """Serve what is asked for; returns when it does. What serves now goes on until then, and whenever this fails.

        The same load asked for twice at once is one load, and a load outlives the client that asked for it. Where it
        serves already nothing is loaded; where it stands by it only takes over again, without the store. Raises
        Stalled ``ArtifactMissing``, ``SignatureMissing``, ``SignatureInvalid``, ``LoadFailed``, ``SelfTestFailed``;
        CorruptArtifact; Transient.
        """
        key = (name, asked.model_dump_json())
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._load(name, asked))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._answered(key, done))
        await asyncio.shield(task)

    def _answered(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # it is in the log; the client that would have got it may be gone

    async def unload(self, name: str) -> None:
        """Stop serving a model once its requests are answered; no-op where there is none."""
        async with self._turns[name]:
            self._state.forget(name)
            slot = self._slots.pop(name, None)
            if slot is not None and slot.served is not None:
                slot.served.retire()
                slot.standby.drop()
            self._metrics.withdraw(name)
            self._prune()

    async def check(self, name: str) -> str:
        """Repeat the self-tests of what serves, and remember what is wrong; empty where all is well.

        Refusal as ``get``; CorruptArtifact, Stalled and Transient where the tests themselves cannot be had.
        """
        served, slot = self.get(name), self._slots[name]
        with served.lease():
            try:
                await self._run(prove, served.engine, served.artifact, self._cache)
            except Stalled as error:
                if error.reason != "SelfTestFailed":
                    raise
                log.warning("model %s: version %d: %s", name, served.target.version, error.message)
                served.flaw = error.message
            else:
                served.flaw = ""
        return slot.flaw

    async def _look_after(self, name: str, served: Served) -> None:
        """Repeat the self-tests of a version that is on trial, until its trial is over."""
        pause = min(max(served.options.standby / _CHECKS, _FASTEST), _SLOWEST)
        slot = self._slots[name]
        while True:
            await asyncio.sleep(pause)
            if slot.served is not served or slot.standby.version is None:
                return
            try:
                await self.check(name)
            except (Refusal, TrunklineError) as error:
                log.warning("model %s: its self-tests cannot be repeated now: %s", name, error)

    async def _load(self, name: str, asked: Asked) -> None:
        async with self._turns[name]:
            slot, target = self._slots.setdefault(name, Slot()), asked.target
            if slot.saved is not None and slot.served is not None and slot.saved.target.file == target.file:
                await self._renumber(slot, slot.saved, slot.served, asked)
                return
            if await self._take_back(slot, asked):
                return
            if slot.failed_file != target.file:
                slot.failed_file, slot.failure = None, ""
            try:
                artifact, proof = await self._run(self._look_up, target)
                saved = Saved(name=name, target=target, artifact=artifact, previous=_previous(slot), proof=proof,
                              told=_told(asked, slot))  # fmt: skip
                slot.incoming = saved
                proven = await self._in_thread(saved)
                saved = saved.model_copy(update={"since": time.time()})
                # On disk first: killed in between, a restart serves the new one, which has proved itself.
                await self._run(self._state.save, saved)
            except TrunklineError as error:
                self._note_failure(slot, name, target, error)
                raise
            finally:
                slot.incoming = None
            self._install(slot, saved, proven)
            self._prune()

    async def _take_back(self, slot: Slot, asked: Asked) -> bool:
        """Let the version before take over again, where it still stands by and is asked for exactly."""
        found = slot.standby.take(asked.target)
        if found is None:
            return False
        served, before = found
        saved = before.model_copy(update={"told": _told(asked, slot), "since": time.time()})
        try:
            await self._run(self._state.save, saved)
        except TrunklineError:
            slot.standby.keep(served, before, saved.options.standby)
            raise
        served.options = saved.options
        self._swap(slot, saved, served)
        self._prune()
        return True

    async def _renumber(self, slot: Slot, saved: Saved, served: Served, asked: Asked) -> None:
        """The file serves already: nothing to load, but its version, run and weights may have other names now.

        So may the server's options.
        """
        target, told = asked.target, _told(asked, slot)
        if target.weights != saved.artifact.weights:
            made, wanted = short(saved.artifact.weights), short(target.weights)
            msg = f"file {served.file} was made from weights {made}, not {wanted}"
            raise Stalled("CorruptArtifact", msg)
        proof, since = saved.proof, saved.since
        if target != saved.target:
            # Unsigned, this needs no store: nothing but a number changes.
            proof, since = (await self._run(self._look_up, target))[1] if self._trust.keys else {}, time.time()
        if (target, told) != (saved.target, saved.told):
            renumbered = saved.model_copy(update={"target": target, "proof": proof, "told": told, "since": since})
            await self._run(self._state.save, renumbered)
            slot.saved, served.target, served.options = renumbered, target, renumbered.options
            slot.standby.last(served.options.standby)
            self._show(renumbered, served)
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
        observer = self._metrics.observer(saved.name, saved.artifact.names)
        batcher = Batcher(proven.engine, self._limits, observer)
        self._swap(slot, saved, Served(proven, saved, batcher, observer))

    def _swap(self, slot: Slot, saved: Saved, served: Served) -> None:
        """From here on new requests meet this version; the one before it finishes what it has, and may stand by."""
        old, before = slot.served, slot.saved
        slot.served, slot.saved = served, saved
        slot.failed_file, slot.failure = None, ""
        if old is not None and before is not None:
            slot.standby.keep(old, before, served.options.standby)
        if (ended := self._trials.pop(saved.name, None)) is not None:
            ended.cancel()
        if slot.standby.version is not None:
            self._trials[saved.name] = asyncio.create_task(self._look_after(saved.name, served))
        self._metrics.load(saved.name, "ok")
        self._show(saved, served)
        log.info("model %s serves version %d, file %s", saved.name, saved.target.version, served.file)

    def _show(self, saved: Saved, served: Served) -> None:
        since = saved.since or time.time()
        self._metrics.serve(saved.name, saved.target, served.observer, lambda: served.batcher.depth, since=since)

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
        for task in self._trials.values():
            task.cancel()
        for slot in self._slots.values():
            slot.standby.drop()
            if slot.served is not None:
                slot.served.retire()


def _told(asked: Asked, slot: Slot) -> dict[str, Any]:
    """Give the options of what is asked for; where none are said, those of what serves."""
    if asked.options is not None:
        return asked.options
    return slot.saved.told if slot.saved is not None else ServerOptions().plain()


def _previous(slot: Slot) -> list[str]:
    return slot.saved.digests() if slot.saved is not None else []

