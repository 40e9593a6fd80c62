"""What a server does about canaries: bring one, change its share, have it take over, bring it back after a restart."""

from __future__ import annotations

import time
from typing import Any

from specs.digests import short
from specs.errors import Stalled, TrunklineError
from specs.serving import ServerOptions
from workloads.serve.canary import Canary
from workloads.serve.engine import facts_of
from workloads.serve.slot import Slot
from workloads.serve.stage import Stage
from workloads.serve.state import Asked, Saved, SavedCanary, Share
from workloads.serve.supply import Supply

DEATHS = 3
"""So many in a row are no chance …"""
SOON = 600.0
"""… where the server lived no longer than so many seconds each time."""


class Canaries:
    """Belongs to the event loop's thread; whoever calls has the turn of the model.

    What serves and its canary are one file on disk: written before anything changes, so that a server which is killed
    comes back with both as they were, or both as they were to be.
    """

    def __init__(self, supply: Supply, stage: Stage) -> None:
        self._supply = supply
        self._stage = stage

    async def ask(self, slot: Slot, saved: Saved, asked: Asked, share: Share) -> None:
        """Have a target take part beside what serves; raises like a load, and what serves goes on as it was."""
        if asked.version == saved.target.version:
            msg = f"version {asked.version} serves already, with another file; a canary needs a version of its own"
            error = Stalled("LoadFailed", msg)
            self._stage.failed(slot, saved.name, asked.target, error)
            raise error
        canary, kept = slot.canary, saved.canary
        if canary is not None and kept is not None and kept.saved.target.engine == asked.engine:
            await self._share(slot, saved, kept, canary, asked, share)
            return
        if canary is not None:
            # Nobody wants this one any more, whether or not the next one loads.
            saved = saved.model_copy(update={"canary": None})
            await self._supply.keep(saved)
            self._stage.dismiss(slot)
            slot.saved = saved
        await self._bring(slot, saved, asked, share)

    async def promote(self, slot: Slot, asked: Asked) -> bool:
        """Have the canary take over, where it is what is asked for: it is loaded and proved, so this takes no time."""
        canary, kept = slot.canary, slot.saved.canary if slot.saved else None
        if slot.saved is None or canary is None or kept is None or kept.saved.target.engine != asked.engine:
            return False
        update: dict[str, Any] = {"told": told(asked, slot), "since": time.time(), "previous": slot.saved.digests()}
        saved = (await self._renumbered(kept.saved, asked)).model_copy(update=update)
        await self._supply.keep(saved)
        canary.served.target, canary.served.options = saved.target, saved.options
        self._stage.swap(slot, saved, canary.served)
        return True

    async def restore(self, slot: Slot, saved: Saved, kept: SavedCanary) -> None:
        """Bring back what took part before the server ended; where that fails it is told, and what serves serves.

        One that the server dies of again and again stays away: nobody knows that it is the reason, but what served
        before it came is not to pay for it.
        """
        now = time.time()
        if kept.deaths < DEATHS:
            soon = now - max(kept.tried, kept.saved.since) < SOON
            deaths = (kept.deaths if soon else 0) + 1 if self._supply.died else 0
            kept = kept.model_copy(update={"tried": now, "deaths": deaths})
            saved = slot.saved = _both(saved, kept)
        try:
            await self._supply.keep(saved)  # before it is loaded, for the server may die of that
            if kept.deaths >= DEATHS:
                msg = f"the server died {kept.deaths} times soon after it had started with version {_version(kept)}"
                raise Stalled("LoadFailed", f"{msg} beside version {saved.target.version}")
            proven = await self._supply.engine_again(kept.saved)
        except TrunklineError as error:
            self._stage.failed(slot, saved.name, kept.saved.target, error)
        else:
            self._stage.beside(slot, saved, kept, self._stage.dressed(kept.saved, proven))

    async def _bring(self, slot: Slot, saved: Saved, asked: Asked, share: Share) -> None:
        target = asked.target
        if (slot.failed_file, slot.failed_build) != target.engine:
            slot.failed_file, slot.failure = None, ""
        try:
            artifact, proof = await self._supply.look_up(target)
            alone = Saved(name=saved.name, target=target, artifact=artifact, proof=proof, told=told(asked, slot))
            slot.incoming, slot.incoming_share = alone, share
            proven = await self._supply.engine(alone)
            now = time.time()
            alone = alone.model_copy(update={"since": now, "engine": facts_of(proven.engine)})
            kept = SavedCanary(saved=alone, share=share, since=now)
            both = _both(saved, kept)
            await self._supply.keep(both)
        except TrunklineError as error:
            self._stage.failed(slot, saved.name, target, error)
            raise
        finally:
            slot.incoming = slot.incoming_share = None
        self._renew(slot, saved, both)
        self._stage.beside(slot, both, kept, self._stage.dressed(kept.saved, proven))

    async def _share(
        self, slot: Slot, saved: Saved, kept: SavedCanary, canary: Canary, asked: Asked, share: Share
    ) -> None:
        """It is there already: change its share, its name, or the options, as far as they are others."""
        alone = (await self._renumbered(kept.saved, asked)).model_copy(update={"told": told(asked, slot)})
        since = kept.since if share == kept.share else time.time()
        changed = kept.model_copy(update={"saved": alone, "share": share, "since": since})
        both = _both(saved, changed)
        if both == saved:
            slot.failed_file, slot.failure = None, ""
            return
        await self._supply.keep(both)
        self._renew(slot, saved, both)
        self._stage.share(slot, both, changed, canary)

    def _renew(self, slot: Slot, before: Saved, saved: Saved) -> None:
        """Options are the model's, so what serves has those that were asked for with its canary."""
        if before.told != saved.told and slot.served is not None:
            self._stage.renumber(slot, saved, slot.served)

    async def _renumbered(self, saved: Saved, asked: Asked) -> Saved:
        """Give what is loaded under the names by which it is asked for now."""
        check_weights(saved, asked)
        if asked.target == saved.target:
            return saved
        return saved.model_copy(update={"target": asked.target, "proof": await self._supply.proof(asked.target)})


def _version(canary: SavedCanary) -> int:
    return canary.saved.target.version


def _both(saved: Saved, canary: SavedCanary) -> Saved:
    return saved.model_copy(update={"canary": canary, "told": canary.saved.told})


def check_weights(saved: Saved, asked: Asked) -> None:
    """Stalled ``CorruptArtifact`` where a file that is loaded is asked for as one that was made from other weights."""
    if asked.weights != saved.artifact.weights:
        made, wanted = short(saved.artifact.weights), short(asked.weights)
        msg = f"file {short(saved.target.file)} was made from weights {made}, not {wanted}"
        raise Stalled("CorruptArtifact", msg)


def told(asked: Asked, slot: Slot) -> dict[str, Any]:
    """Give the options of what is asked for; where none are said, those of what serves."""
    if asked.options is not None:
        return asked.options
    return slot.saved.told if slot.saved is not None else ServerOptions().plain()
