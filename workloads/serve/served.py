"""Versions of a model at the server: one that answers, and the one before it that could again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from specs.digests import short
from specs.records import ArtifactRecord
from specs.serving import ServerOptions
from workloads.serve.batching import Batcher
from workloads.serve.engine import Engine
from workloads.serve.exposition import ModelObserver
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
        self.copies: Copies | None = None
        """Who gets copies of the requests that it answered; None where nobody does."""
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
