"""Keeps live pictures for people to label, behind the server's back: no answer waits for it, or is lost by it.

``offer`` looks at what the model said and mostly returns. What is worth keeping goes into a short queue; one thread
takes it to the store. Where the thread is behind, the store is in trouble or the day's budget is spent, the picture is
dropped, and that is counted.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from specs.base import seconds
from specs.digests import digest_bytes
from specs.errors import TrunklineError
from specs.kept_records import KeptRecord, Why, draw, kept_id, moment
from specs.monitoring import Labelling
from specs.records import ArtifactRecord
from workloads.serve.keeping_pictures import prepare
from workloads.serve.keeping_rules import RETENTION, Shares, look_of, reasons, shares
from workloads.serve.keeping_series import KeptSeries
from workloads.serve.keeping_shelf import AT_ONCE, KeptStore, Shelf
from workloads.serve.results import recalled
from workloads.serve.state import Target
from workloads.serve.tensors import Array

MOST_WAITING = 64
MOST_BYTES = 32 << 20
"""Of pictures that wait to be kept; one that is larger waits alone."""
_NAP = 30.0
"""Seconds after which an idle thread looks whether other models serve."""
_NOTHING: Array = np.zeros(0)
_PICTURES, _KEPT, _SWEPT = "pictures for people", "kept", "swept"

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Offered:
    """A picture that was answered, and the answer."""

    model: str
    target: Target
    artifact: ArtifactRecord
    """Of what answered."""
    labelling: Labelling
    """What is asked for now."""
    request: str
    picture: bytes
    """As it was sent."""
    size: tuple[int, int]
    """Its (height, width)."""
    rows: Array
    """What the model saw: shape (1, 3, H, W), values 0 to 1."""
    found: Sequence[Array]
    """What it said: one array of shape (1, C) or (1, R, 6), or none where nobody can read it."""


@dataclass(frozen=True)
class Pace:
    """Times of the thread, in seconds."""

    sweep: float = 600.0
    """Between two sweeps of a model's pictures."""
    pause: float = 30.0
    """After trouble with the store, in which nothing is tried."""
    leave: float = 1.0
    """That a stopping server waits for what is in the queue."""


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A picture that there is a reason to keep. It waits without what the model saw, which is large."""

    offered: Offered
    why: list[Why]
    draw: float
    look: int
    when: float

    @property
    def shares(self) -> Shares:
        return shares(self.offered.labelling)

    def record(self, picture: bytes, content_type: str, replica: str) -> KeptRecord:
        """Write down what it is, kept as these bytes."""
        offered, asked = self.offered, self.offered.labelling
        found = recalled(offered.artifact, offered.found[0][0], offered.size)
        return KeptRecord(
            id=kept_id(self.when, offered.request, replica), model=offered.model, version=offered.target.version,
            file=offered.target.file, task=offered.artifact.task, request=offered.request, when=moment(self.when),
            until=moment(self.when + seconds(asked.retention or RETENTION)), why=self.why, draw=self.draw,
            content_type=content_type, size=len(picture), digest=digest_bytes(picture), width=offered.size[1],
            height=offered.size[0], hash=f"{self.look:016x}", blurred=asked.blur is not None, predictions=found,
        )  # fmt: skip


class Keeper:
    """Keeps what ``spec.labelling`` asks for, in a thread of its own."""

    def __init__(
        self, store: KeptStore, series: KeptSeries, replica: str, models: Callable[[], Mapping[str, Labelling | None]],
        pace: Pace | None = None,
    ) -> None:  # fmt: skip
        """``replica`` names this server among all that share the store; ``models`` gives what serves now."""
        self._series = series
        self._replica = replica
        self._models = models
        self._pace = pace or Pace()
        self._shelf = Shelf(store, replica)
        self._queue: deque[_Wanted] = deque()
        self._held = 0
        self._ready = threading.Condition()
        self._closing = False
        self._resume = -math.inf
        self._troubles: set[str] = set()
        self._bugs: set[type[Exception]] = set()
        self._look = -math.inf
        self._due: dict[tuple[str, bool], float] = {}
        self._thread = threading.Thread(target=self._work, name="keep", daemon=True)
        self._thread.start()

    def offer(self, offered: Offered) -> None:
        """Keep a picture if there is a reason. Returns at once, and raises nothing. For one thread."""
        if not offered.found:
            return
        try:
            self._judge(offered)
        except Exception as error:  # noqa: BLE001  a bug here must not cost the client its answer
            self._bug(offered.model, error)

    def _judge(self, offered: Offered) -> None:
        model, when, place = offered.model, time.time(), draw(offered.model, offered.request)
        why = reasons(offered.labelling, offered.artifact.task, offered.found[0][0], place)
        if not why:
            return
        if self._shelf.hopeless(model, when, why, place, shares(offered.labelling)):
            self._series.dropped(model, "budget")
        elif self._paused():
            self._series.dropped(model, "store")
        elif self._full(len(offered.picture)):
            self._series.dropped(model, "behind")
        else:
            wanted = _Wanted(_light(offered), why, place, look_of(offered.rows), when)
            with self._ready:
                self._queue.append(wanted)
                self._held += len(offered.picture)
                self._ready.notify()

    def _full(self, size: int) -> bool:
        """Whether there is no room for so many bytes. Only ``offer`` takes room, so none is lost until it does."""
        with self._ready:
            return len(self._queue) >= MOST_WAITING or bool(self._held and self._held + size > MOST_BYTES)

    def find(self, model: str, request: str) -> KeptRecord | None:
        """Give what was kept of a request, also by another replica or before a restart; None where nothing was.

        It asks the store, so it may take a while; Transient where that is in trouble.
        """
        return self._shelf.find(model, request) if model in self._models() else None

    def close(self) -> None:
        """Keep what waits, as far as that goes in ``Pace.leave`` seconds."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(self._pace.leave)

    def _work(self) -> None:
        """Live as long as the server: pictures first, and between two of them a sweep, where one is due."""
        while not self._closing or self._queue:
            wanted = self._next()
            if wanted is not None and self._paused():
                self._series.dropped(wanted.offered.model, "store")
            elif wanted is not None:
                self._keep(wanted)
            if time.monotonic() >= self._look and not self._closing and not self._paused():
                self._sweep()

    def _next(self) -> _Wanted | None:
        """Wait for the next picture; None where there is none for a while."""
        with self._ready:
            if not self._queue and not self._closing:
                self._ready.wait(max(self._look, self._resume, time.monotonic()) - time.monotonic())
            if not self._queue:
                return None
            wanted = self._queue.popleft()
            self._held -= len(wanted.offered.picture)
            return wanted

    def _keep(self, wanted: _Wanted) -> None:
        model, offered = wanted.offered.model, wanted.offered
        try:
            picture, content_type = prepare(offered.picture, offered.size, offered.labelling.blur)
            kept = self._shelf.put(wanted.record(picture, content_type, self._replica), picture, wanted.shares)
        except TrunklineError as error:
            self._series.dropped(model, "store")
            self._resume = time.monotonic() + self._pace.pause
            self._tell(_KEPT, error)
        except Exception as error:  # noqa: BLE001  one odd picture must not end the thread
            self._bug(model, error)
        else:
            if isinstance(kept, str):
                self._series.dropped(model, kept)
            else:
                self._series.kept(model, kept.version, kept.why)
                self._tell(_KEPT)

    def _sweep(self) -> None:
        """Sweep the first model whose time has come, or have a nap."""
        models, now = self._models(), time.monotonic()
        self._series.only(models)
        self._due = {key: due for key, due in self._due.items() if key[0] in models}
        for model, labelling in models.items():
            key = (model, labelling is None)
            if self._due.get(key, -math.inf) <= now:
                self._due[key] = now + self._swept(model, labelling)
                return
        self._look = now + min(_NAP, self._pace.sweep)

    def _swept(self, model: str, labelling: Labelling | None) -> float:
        """Sweep a model; give the seconds until that is of use again."""
        try:
            gone, left = self._shelf.sweep(model, labelling, time.time())
        except TrunklineError as error:
            if labelling is not None:  # else nobody asked for anything, and there is hardly anything to remove
                self._tell(_SWEPT, error)
        except Exception as error:  # noqa: BLE001  one odd picture must not end the thread
            self._bug(model, error)
        else:
            self._tell(_SWEPT)
            if gone >= AT_ONCE:
                return 0.0
            if labelling is None and not left:
                return math.inf
        return self._pace.sweep

    def _paused(self) -> bool:
        return time.monotonic() < self._resume

    def _tell(self, what: str, trouble: TrunklineError | None = None) -> None:
        """Log a trouble when it begins and when it ends, and not each time in between."""
        if trouble is not None and what not in self._troubles:
            log.warning("%s cannot be %s; requests are answered as ever: %s", _PICTURES, what, trouble.message)
            self._troubles.add(what)
        elif trouble is None and what in self._troubles:
            log.info("%s are %s again", _PICTURES, what)
            self._troubles.remove(what)

    def _bug(self, model: str, error: Exception) -> None:
        """Log a bug once, however many pictures bring it out."""
        if type(error) not in self._bugs:
            log.error("%s: one could not be kept", _PICTURES, exc_info=error)
        self._bugs.add(type(error))
        self._series.dropped(model, "error")


def _light(offered: Offered) -> Offered:
    """Give what waits in the queue: a copy of the few numbers that were found, and no input."""
    return replace(offered, rows=_NOTHING, found=[offered.found[0].copy()])
