"""Who answers: versions are put on and taken off here, and everybody who must know is told."""

from __future__ import annotations

import logging
import time

from specs.errors import Transient, TrunklineError
from workloads.serve.batching import Batcher
from workloads.serve.canary import Canary
from workloads.serve.engine import Parked
from workloads.serve.exposition import SHARES, Metrics
from workloads.serve.limits import Limits
from workloads.serve.loading import Proven
from workloads.serve.mirroring import Mirror
from workloads.serve.parking import Parking, ParkingSeries
from workloads.serve.probation import Probation
from workloads.serve.served import Asleep, Served
from workloads.serve.slot import Slot
from workloads.serve.state import Saved, SavedCanary, Share, Target
from workloads.serve.supply import Supply
from workloads.serve.watching import Watching

log = logging.getLogger(__name__)
_ALWAYS = 86400.0
"""Nobody knows how many seconds a canary is one; long enough that its self-tests are repeated seldom."""


class Stage:
    """Changes slots, each time in one turn of the event loop: a request meets what was before, or what is after."""

    def __init__(
        self, limits: Limits, metrics: Metrics, watching: Watching, probation: Probation, supply: Supply
    ) -> None:
        self._limits = limits
        self._metrics = metrics
        self._watching = watching
        self._probation = probation
        self.parking: Parking | None = None
        """Who keeps engines within the memory budget; None where there is none."""
        if limits.memory_budget is not None:
            series = ParkingSeries(metrics.registry)
            self.parking = Parking(limits.memory_budget, limits, series, reopen=supply.reopen, batcher=self.batcher)

    def dressed(self, saved: Saved, proven: Proven) -> Served:
        """Give a version that can answer as soon as somebody asks it."""
        observer = self._metrics.observer(saved.name, saved.artifact.names)
        served = Served(proven, saved, Asleep(), observer)
        if not isinstance(proven.engine, Parked):
            served.wake(proven, self.batcher(served, proven))
        if self.parking is not None:
            self.parking.admit(served)
        return served

    async def ready(self, served: Served) -> bool:
        """Bring a version back that is not in memory; whether it can answer: it may have been let go of meanwhile.

        Refusal as ``Parking.awake``.
        """
        if self.parking is not None:
            while served.parked and not served.gone:
                await self.parking.awake(served)
            self.parking.touch(served)
        return not (served.parked or served.gone)

    def is_full(self, saved: Saved) -> bool:
        """Whether a version that served before need not be in memory, since others are."""
        return self.parking is not None and saved.engine is not None and not self.parking.has_room(saved.engine.memory)

    def batcher(self, served: Served, proven: Proven) -> Batcher:
        """Give a version's engine a queue."""
        return Batcher(proven.engine, self._limits, served.observer, rules=served.options.batching)

    def swap(self, slot: Slot, saved: Saved, served: Served) -> None:
        """From here on new requests meet this version alone.

        The one before it finishes what it has, and may stand by.
        """
        self.dismiss(slot, but=served)
        old, before = slot.served, slot.saved
        slot.served, slot.saved = served, saved
        slot.failed_file, slot.failure = None, ""
        if old is not None and before is not None:
            slot.standby.keep(old, before.model_copy(update={"canary": None}), served.options.standby)
        self._probation.end(saved.name)
        if slot.standby.version is not None:
            self._probation.begin(
                saved.name, served, seconds=served.options.standby,
                lasts=lambda: slot.served is served and slot.standby.version is not None,
            )  # fmt: skip
        self._metrics.load(saved.name, "ok")
        self._metrics.alone(saved.name, saved.target)
        self.show(saved, served)
        log.info("model %s serves version %d, file %s", saved.name, saved.target.version, served.file)

    def beside(self, slot: Slot, saved: Saved, kept: SavedCanary, served: Served) -> None:
        """From here on this version takes part in the traffic of what serves; ``saved`` is both of them."""
        assert slot.served is not None  # noqa: S101 - for type checkers: a canary is beside something
        slot.failed_file, slot.failure = None, ""
        slot.saved = saved
        mirror = Mirror(saved.name, slot.served, served, self._metrics, self._watching)
        served.pinned = True
        canary = slot.canary = Canary(served, mirror, kept.share, kept.since)
        self._probation.begin(
            _beside(saved.name), served, seconds=_ALWAYS, lasts=lambda: slot.canary is canary
        )  # fmt: skip
        self._metrics.load(saved.name, "ok")
        self._metrics.beside(saved.name, kept.saved.target, served.observer, since=kept.saved.since)
        self._metrics.share(saved.name, kept.saved.target, _percent(kept.share))
        words = (saved.name, kept.saved.target.version, served.file, saved.target.version, kept.share)
        log.info("model %s has version %d, file %s, beside version %d (%s)", *words)

    def share(self, slot: Slot, saved: Saved, kept: SavedCanary, canary: Canary) -> None:
        """From here on the canary takes another share; ``saved`` is what serves and it."""
        if canary.served.target.version != kept.saved.target.version:
            self._metrics.alone(saved.name, saved.target)
        slot.saved, canary.served.target = saved, kept.saved.target
        canary.take(kept.share, kept.since)
        slot.failed_file, slot.failure = None, ""
        self._metrics.beside(saved.name, kept.saved.target, canary.served.observer, since=kept.saved.since)
        self._metrics.share(saved.name, kept.saved.target, _percent(kept.share))
        log.info("model %s: version %d takes part with %s", saved.name, kept.saved.target.version, kept.share)

    def dismiss(self, slot: Slot, *, but: Served | None = None) -> None:
        """Let the canary go, once its requests are answered; no-op where there is none.

        ``but`` is what serves from here on: where that was the canary, it only stops to be one.
        """
        canary, slot.canary = slot.canary, None
        if canary is None or slot.saved is None or slot.served is None:
            return
        canary.end()
        canary.served.pinned = False
        self._probation.end(_beside(slot.saved.name))
        if canary.served is not but:
            canary.served.retire()
            self._metrics.alone(slot.saved.name, slot.served.target)
            log.info("model %s: version %d is let go", slot.saved.name, canary.served.target.version)

    def renumber(self, slot: Slot, saved: Saved, served: Served) -> None:
        """What serves goes on as ``saved`` says: as another version perhaps, or with other options."""
        slot.saved, served.target, served.options = saved, saved.target, saved.options
        if slot.canary is not None:
            slot.canary.served.options = saved.options
        slot.standby.last(served.options.standby)
        self.show(saved, served)

    def show(self, saved: Saved, served: Served) -> None:
        """Let Prometheus see what serves, and since when."""
        since = saved.since or time.time()
        self._metrics.serve(saved.name, saved.target, served.observer, lambda: served.batcher.depth, since=since)

    def failed(self, slot: Slot, name: str, target: Target, error: TrunklineError) -> None:
        """Take down why a target does not serve."""
        slot.failure = error.message
        # Trouble of the moment is no verdict on the file.
        slot.failed_file = None if isinstance(error, Transient) else target.file
        slot.failed_build = None if isinstance(error, Transient) else target.build
        self._metrics.load(name, error.reason)
        keeps = f"; version {slot.served.target.version} keeps serving" if slot.served else ""
        log.warning("model %s: %s did not load (%s): %s%s", name, target.file, error.reason, error.message, keeps)

    def clear(self, name: str, slot: Slot) -> None:
        """Take a model off; its requests are still answered."""
        self.strike(slot)
        self._metrics.withdraw(name)

    def strike(self, slot: Slot) -> None:
        """Let go of all versions of a model, once their requests are answered."""
        self.dismiss(slot)
        if slot.served is not None:
            slot.served.retire()
        slot.standby.drop()


def _beside(name: str) -> str:
    """Give the name under which a canary is on trial; no model has it."""
    return f"{name}, beside"


def _percent(share: Share) -> dict[str, int]:
    return {kind: getattr(share, kind) for kind in SHARES}
