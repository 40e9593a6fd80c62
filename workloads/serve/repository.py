"""Which models serve. A new version replaces the old one only after it has proved itself, without losing a request."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any

from specs.errors import TrunklineError
from workloads.serve.answers import Refusal
from workloads.serve.cache import Blobs, Cache
from workloads.serve.canaries import Canaries, check_weights, told
from workloads.serve.engine import facts_of
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.probation import Probation
from workloads.serve.served import Served
from workloads.serve.slot import Slot
from workloads.serve.stage import Stage
from workloads.serve.state import Asked, Saved, State
from workloads.serve.supply import Supply
from workloads.serve.trust import Trust
from workloads.serve.watching import Watching


class Repository:
    """Models by name.

    All methods belong to the event loop's thread; loads run in the executor, one at a time for each model.
    """

    def __init__(
        self, store: Blobs, cache: Cache, state: State, limits: Limits, metrics: Metrics, executor: Executor,
        *, trust: Trust | None = None, watching: Watching | None = None,
    ) -> None:  # fmt: skip
        self._supply = Supply(store, cache, state, limits, executor, trust or Trust())
        self._probation = Probation(self._supply)
        self._stage = Stage(limits, metrics, watching or Watching(), self._probation, self._supply)
        self._canaries = Canaries(self._supply, self._stage)
        self._slots: dict[str, Slot] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asked: dict[tuple[str, str], asyncio.Task[None]] = {}

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
            if slot.canary is not None and version == str(slot.canary.served.target.version):
                return slot.canary.served
            msg = f"model {name!r} serves version {slot.served.target.version}, not {version[:20]!r}"
            raise Refusal(404, msg)
        return slot.served

    def versions(self, name: str) -> list[str]:
        """Give the versions that answer: what serves, and its canary."""
        slot = self._slots[name]
        both = (slot.served, slot.canary.served if slot.canary is not None else None)
        return [str(served.target.version) for served in both if served is not None]

    async def answering(self, name: str, version: str | None = None) -> Served:
        """Give who answers one request: without a version, so many are the canary's; refuses like ``get``.

        What is not in memory comes back first. Whoever asks takes a lease before it awaits anything else.
        """
        slot = self._slots.get(name)
        if slot is not None and slot.canary is not None and version is None and slot.canary.answers():
            served = slot.canary.served
        else:
            served = self.get(name, version)
        if self._stage.parking is None or await self._stage.ready(served):
            return served
        return await self.answering(name, version)

    async def instead(self, name: str, failed: Served) -> Served | None:
        """Give who may answer instead of a version that could not; None where it is what serves."""
        slot = self._slots.get(name)
        if slot is None or slot.served is None or slot.served is failed:
            return None
        await self._stage.ready(slot.served)
        return slot.served

    async def restore(self) -> None:
        """Load all models that served last, then their canaries; one that fails is reported, the others serve."""
        for saved in self._supply.saved():
            slot = self._slots[saved.name] = Slot()
            try:
                proven = await self._supply.engine_again(saved, park=self._stage.is_full(saved))
            except TrunklineError as error:
                await self._fall_back(slot, saved)
                self._stage.failed(slot, saved.name, saved.target, error)
            else:
                self._stage.swap(slot, saved, self._stage.dressed(saved, proven))
        for slot in list(self._slots.values()):
            if slot.saved is not None and slot.saved.canary is not None:
                await self._canaries.restore(slot, slot.saved, slot.saved.canary)

    async def _fall_back(self, slot: Slot, broken: Saved) -> None:
        """Serve what served before, where what served last cannot be loaded again."""
        before = self._supply.before(broken.name)
        if before is None:
            return
        with suppress(TrunklineError):
            self._stage.swap(slot, before, self._stage.dressed(before, await self._supply.engine_again(before)))

    async def load(self, name: str, asked: Asked) -> None:
        """Serve what is asked for; returns when it does. What serves now goes on until then, and whenever this fails.

        With a share it is loaded beside what serves, or takes another share where it is there; without one a canary
        takes over as it is, and any other is let go.

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
            self._supply.forget(name)
            self._stage.clear(name, self._slots.pop(name, Slot()))
            self._prune()

    async def check(self, name: str) -> str:
        """Repeat the self-tests of what serves, and remember what is wrong; empty where all is well.

        Refusal as ``get``; CorruptArtifact, Stalled and Transient where the tests themselves cannot be had.
        """
        return await self._probation.check(name, await self.answering(name))

    async def _load(self, name: str, asked: Asked) -> None:
        async with self._turns[name]:
            slot = self._slots.setdefault(name, Slot())
            if slot.saved is not None and slot.served is not None and slot.saved.target.engine == asked.engine:
                await self._renumber(slot, slot.saved, slot.served, asked)
            elif slot.saved is not None and slot.served is not None and asked.share is not None:
                await self._canaries.ask(slot, slot.saved, asked, asked.share)
            elif not (await self._canaries.promote(slot, asked) or await self._take_back(slot, asked)):
                await self._bring(slot, name, asked)
            self._prune()

    async def _bring(self, slot: Slot, name: str, asked: Asked) -> None:
        """Load what is asked for, and have it take over."""
        target = asked.target
        if (slot.failed_file, slot.failed_build) != target.engine:
            slot.failed_file, slot.failure = None, ""
        try:
            artifact, proof = await self._supply.look_up(target)
            saved = Saved(name=name, target=target, artifact=artifact, previous=_previous(slot), proof=proof,
                          told=told(asked, slot))  # fmt: skip
            slot.incoming = saved
            proven = await self._supply.engine(saved)
            saved = saved.model_copy(update={"since": time.time(), "engine": facts_of(proven.engine)})
            # On disk first: killed in between, a restart serves the new one, which has proved itself.
            await self._supply.keep(saved)
        except TrunklineError as error:
            self._stage.failed(slot, name, target, error)
            raise
        finally:
            slot.incoming = None
        self._stage.swap(slot, saved, self._stage.dressed(saved, proven))

    async def _take_back(self, slot: Slot, asked: Asked) -> bool:
        """Let the version before take over again, where it still stands by and is asked for exactly."""
        found = slot.standby.take(asked.target)
        if found is None:
            return False
        served, before = found
        saved = before.model_copy(update={"told": told(asked, slot), "since": time.time()})
        try:
            await self._supply.keep(saved)
        except TrunklineError:
            slot.standby.keep(served, before, saved.options.standby)
            raise
        served.options = saved.options
        self._stage.swap(slot, saved, served)
        return True

    async def _renumber(self, slot: Slot, saved: Saved, served: Served, asked: Asked) -> None:
        """The file serves already: nothing to load, but its version, run and weights may have other names now.

        So may the server's options. It is all that is asked for, so a canary is let go.
        """
        check_weights(saved, asked)
        update: dict[str, Any] = {"told": told(asked, slot), "canary": None}
        if asked.target != saved.target:
            update |= {"target": asked.target, "proof": await self._supply.proof(asked.target), "since": time.time()}
        renumbered = saved.model_copy(update=update)
        if renumbered != saved:
            await self._supply.keep(renumbered)
            self._stage.dismiss(slot)
            self._stage.renumber(slot, renumbered, served)
        slot.failed_file, slot.failure = None, ""

    def _prune(self) -> None:
        needed = (saved for slot in self._slots.values() for saved in (slot.saved, slot.incoming))
        self._supply.prune(saved for saved in needed if saved is not None)

    def close(self) -> None:
        """Answer what waits, then stop all inference threads."""
        self._probation.close()
        for slot in self._slots.values():
            self._stage.strike(slot)


def _previous(slot: Slot) -> list[str]:
    return slot.saved.digests() if slot.saved is not None else []

