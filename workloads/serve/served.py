"""One model at the server: the version that answers, and the one before it that could again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from specs.digests import short
from specs.records import ArtifactRecord
from specs.serving import ServerOptions
from workloads.serve.batching import Batcher
from workloads.serve.engine import Engine
from workloads.serve.exposition import ModelObserver
from workloads.serve.loading import Proven
from workloads.serve.state import Saved, Target


class Served:
    """One version that answers requests, until it is retired and the last of them is done."""

    def __init__(self, proven: Proven, saved: Saved, batcher: Batcher, observer: ModelObserver) -> None:
        self.engine: Engine = proven.engine
        self.observer = observer
        self.artifact: ArtifactRecord = proven.artifact
        self.target = saved.target
        self.options: ServerOptions = saved.options
        self.batcher = batcher
        self.file = short(saved.target.file)
        self.flaw = ""
        """Why its self-tests failed when they were repeated; empty where they did not."""
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


@dataclass
class Slot:
    """All that is known under one model name."""

    served: Served | None = None
    saved: Saved | None = None
    failed_file: str | None = None
    failure: str = ""
    incoming: Saved | None = None
    """What is being loaded."""
    standby: Standby = field(default_factory=Standby)

    @property
    def flaw(self) -> str:
        """Why self-tests of what serves failed when they were repeated; empty where they did not."""
        return self.served.flaw if self.served else ""

    def describe(self) -> dict[str, object]:
        """Give the form that ``/trunkline/models`` shows."""
        target = self.served.target.model_dump() if self.served else dict.fromkeys(Target.model_fields)
        return {
            **target, "ready": self.served is not None, "loading": self.incoming is not None,
            "since": self.saved.since if self.saved and self.served else None,
            "self_test": self.flaw,
            "failed_file": self.failed_file, "failure": self.failure,
            "options": self.saved.options_digest if self.saved else None, "standby": self.standby.version,
        }  # fmt: skip
