"""Versions of a model at the server: one that answers, and the one before it that could again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from specs.digests import short
from specs.records import ArtifactRecord
from specs.serving import Batching, ServerOptions
from workloads.serve.answers import Refusal
from workloads.serve.batching import Batcher
from workloads.serve.engine import Engine, Parked, facts_of
from workloads.serve.exposition import ModelObserver
from workloads.serve.limits import SOON
from workloads.serve.loading import Proven
from workloads.serve.state import Saved, Target
from workloads.serve.tensors import Array


class Copies(Protocol):
    """Takes copies of requests for somebody else."""

    def offer(self, rows: Array, picture: bytes | None = None, size: tuple[int, int] | None = None) -> None:
        """Take a request that was answered, or do not; never waits and never raises.

        ``rows`` is the model's input; where that was a ``picture``, ``size`` is its (height, width).
        """


class Served:
    """One version that answers requests, until it is retired and the last of them is done."""

    def __init__(self, proven: Proven, saved: Saved, batcher: Batcher | Asleep, observer: ModelObserver) -> None:
        self.name = saved.name
        self.engine: Engine = proven.engine
        self.observer = observer
        self.artifact: ArtifactRecord = proven.artifact
        self.target = saved.target
        self.batcher: Batcher | Asleep = batcher
        self.options = saved.options
        self.file = short(saved.target.file)
        self.flaw = ""
        """Why its self-tests failed when they were repeated; empty where they did not."""
        self.attestation = told(proven)
        """What this server says of the engine that it made of the file; None where it serves the file itself."""
        self.idle: Callable[[], None] | None = None
        """Who wants to know when it answers nothing at the moment."""
        self.pinned = False
        """Whether its engine must stay in memory, whatever else needs room."""
        self._lease = _Lease(self)
        self.copies: Copies | None = None
        """Who gets copies of the requests that it answered; None where nobody does."""
        self._leases = 0
        self._retired = False

    @property
    def options(self) -> ServerOptions:
        """What it does beside answering."""
        return self._options

    @options.setter
    def options(self, options: ServerOptions) -> None:
        """Do other things from now on."""
        """Take others from here on."""
        self._options = options
        self.batcher.follow(options.batching)

    @property
    def parked(self) -> bool:
        """Whether its engine is not in memory, and must come back before it can answer."""
        return isinstance(self.batcher, Asleep)

    @property
    def busy(self) -> bool:
        """Whether requests are in flight, or may be at any moment without asking for it first."""
        return self.pinned or self._leases > 0 or self.batcher.depth > 0

    @property
    def gone(self) -> bool:
        """Whether it will never answer again."""
        return self._retired and self._leases == 0

    def lease(self) -> AbstractContextManager[None]:
        """Keep it able to answer over an ``await``, even when it is replaced meanwhile."""
        return self._lease

    def park(self) -> None:
        """Let go of the engine; what it says about itself stays."""
        self.batcher.close()
        self.engine, self.batcher = Parked(facts_of(self.engine)), Asleep()

    def wake(self, proven: Proven, batcher: Batcher) -> None:
        """Take an engine again."""
        self.engine, self.batcher = proven.engine, batcher
        self.attestation = told(proven)
        self._close_when_done()

    def retire(self) -> None:
        """Take no new leases; requests in the queue are still answered."""
        self._retired = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self.gone:
            self.batcher.close()
        if self._leases == 0 and self.idle is not None:
            self.idle()


class _Lease(AbstractContextManager[None]):
    """Counts who holds a version. One for all of them: entering it is the hot path."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def __enter__(self) -> None:
        self._served._leases += 1  # noqa: SLF001 - a part of it

    def __exit__(self, *trouble: object) -> None:
        self._served._leases -= 1  # noqa: SLF001
        self._served._close_when_done()  # noqa: SLF001


class Asleep:
    """Stands for the queue of a version whose engine is not in memory."""

    depth = 0

    def submit(self, inputs: Mapping[str, Array], rows: int) -> asyncio.Future[dict[str, Array]]:
        """Refuse with 503: whoever comes here did not wait for the version to come back."""
        del inputs, rows
        raise Refusal(503, "the model is not in memory at the moment; try again", headers=SOON)

    def follow(self, rules: Batching | None) -> None:
        """Whatever comes back follows the rules of its own."""

    def close(self) -> None:
        """Nothing waits here."""


def told(proven: Proven) -> dict[str, object] | None:
    """Give what this server says of an engine that it made, as ``/trunkline/models`` shows it."""
    return proven.attestation.model_dump() if proven.attestation else None


class Standby:
    """The version before, loaded and idle until its time is over: going back to it takes no time and needs no store.

    All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        self._held: tuple[Served, Saved] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def version(self) -> int | None:
        """Which version stands by, None where none does."""
        return self._held[1].target.version if self._held else None

    def keep(self, served: Served, saved: Saved, seconds: float) -> None:
        """Keep what was replaced just now; with no time for it, it ends as soon as its requests are answered."""
        self.drop()
        self._held, self._since = (served, saved), asyncio.get_running_loop().time()
        self.last(seconds)

    def last(self, seconds: float) -> None:
        """Let it stand by until so long after it was replaced, whatever was said before."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        left = self._since + seconds - loop.time()
        if self._held is not None and left > 0:
            self._timer = loop.call_later(left, self.drop)
        else:
            self.drop()

    def take(self, target: Target) -> tuple[Served, Saved] | None:
        """Give what stands by where it is exactly ``target``, which is the caller's from then on; else None."""
        if self._held is None or self._held[1].target != target:
            return None
        found, self._held = self._held, None
        self.drop()
        return found

    def drop(self) -> None:
        """Let go of what stands by."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held is not None:
            self._held[0].retire()
            self._held = None
