"""Keeps the state of a training in the store while it runs, so that another attempt goes on where it stood.

Nothing here holds a training up or fails it. The trainer's files are copied aside when it has just written them, and
stored by a thread of its own, as seldom as its own use of the processor asks for: at most a hundredth of the time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adapters.store import Store
from specs.checkpoint_records import Checkpoint, checkpoint_file_key, checkpoint_key
from specs.digests import Digest
from specs.errors import Stalled, TrunklineError
from workloads.checkpoints import TOGETHER, Past, version
from workloads.progress import now

INTERVAL = "TRUNKLINE_CHECKPOINT_SECONDS"
"""Variable: seconds between two checkpoints at least; empty: ``SECONDS``; ``off``: none are written."""
SECONDS = 60.0
_SHARE = 0.01
"""Of the processor's time, at most."""
Stamp = tuple[tuple[int, int], ...]
"""Size and time of change, in nanoseconds, of the files of a checkpoint."""


class Keeper:
    """Writes checkpoints while Ultralytics trains. Use it as a context; ``folder`` is a private one beside its own.

    A training that is ended from outside leaves one more, of the last epoch that was whole.
    """

    def __init__(
        self, store: Store, inputs_digest: str, folder: Path, past: Past, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._inputs, self._folder, self._past, self._clock = store, inputs_digest, folder, past, clock
        self._least = _interval()
        self._began = clock()
        self._due = self._began + (self._least or 0.0)
        self._news, self._over, self._idle = threading.Event(), threading.Event(), threading.Event()
        self._idle.set()
        self._newest: _Saved | None = None
        self._copied: _Saved | None = None
        self._copying = 0.0
        self._stored = past.files
        self._thread = threading.Thread(target=self._write_on, name="checkpoints", daemon=True)

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``."""
        return {} if self._least is None else {"on_model_save": self._saved}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._news.set()
        self._thread.join()
        newest = self._newest
        # Ended while it wrote, the files do not belong together any more.
        if kind is not None and newest is not None and newest != self._copied and newest.stamp == _stamp(newest.files):
            self._copy(newest)
            self._try_to_write()

    def rest(self) -> None:
        """Wait until what was copied aside is written, or given up."""
        self._idle.wait()

    def _saved(self, trainer: Any) -> None:
        """Note what the trainer has just written, and copy it aside where it is time; the last epoch needs neither."""
        done = int(trainer.epoch) + 1
        if trainer.stop or done >= trainer.epochs:
            return
        files = (Path(trainer.last), Path(trainer.best), Path(trainer.csv))
        self._newest = _Saved(done, int(trainer.epochs), files, _stamp(files))
        if self._clock() < self._due or not self._idle.is_set():
            return
        if self._copy(self._newest):
            self._idle.clear()
            self._news.set()

    def _copy(self, saved: _Saved) -> bool:
        spent = time.thread_time()
        try:
            for name, path in zip(TOGETHER, saved.files, strict=True):
                shutil.copyfile(path, self._folder / name)
        except OSError as error:
            _complain(error)
            return False
        self._copying = time.thread_time() - spent
        self._copied = saved
        return True

    def _write_on(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if not self._idle.is_set():
                spent = time.thread_time()
                self._try_to_write()
                spent = time.thread_time() - spent + self._copying
                self._due = self._clock() + (max(self._least, spent / _SHARE) if self._least else 0.0)
                self._idle.set()
            if self._over.is_set():
                return

    def _try_to_write(self) -> None:
        try:
            if self._copied is not None:
                self._write(self._copied)
        except (TrunklineError, OSError) as error:
            _complain(error)

    def _write(self, saved: _Saved) -> None:
        files = {name: _digest(self._folder / name) for name in TOGETHER}
        for name, digest in files.items():
            self._store.keep(checkpoint_file_key(self._inputs, digest), self._folder / name)
        record = Checkpoint(
            inputs_digest=self._inputs, epoch=saved.done, epochs=saved.epochs, files=files, trainer=version(),
            resumed_from=self._past.resumed_from, started=self._past.started, when=now(),
            seconds=round(self._past.seconds + self._clock() - self._began, 3),
        )  # fmt: skip
        self._store.replace(checkpoint_key(self._inputs), record.encode())
        # Only what this attempt wrote or went on from: another one may be at work that nobody knows to be dead.
        for digest in self._stored - set(files.values()):
            self._store.forget(checkpoint_file_key(self._inputs, digest))
        self._stored = frozenset(files.values())


@dataclass(frozen=True)
class _Saved:
    """What the trainer wrote at the end of an epoch."""

    done: int
    epochs: int
    files: tuple[Path, ...]
    stamp: Stamp | None


def _stamp(files: Sequence[Path]) -> Stamp | None:
    try:
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in files))
    except OSError:
        return None


def _interval() -> float | None:
    """Give the seconds between two checkpoints; None where none are wanted."""
    given = os.environ.get(INTERVAL, "")
    try:
        return None if given == "off" else max(0.0, float(given or SECONDS))
    except ValueError as error:
        raise Stalled("InvalidSetting", f"{INTERVAL}: {given!r} is no number of seconds, and not `off`") from error


def _digest(path: Path) -> Digest:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _complain(error: Exception) -> None:
    words = f"{error.reason}: {error.message}" if isinstance(error, TrunklineError) else str(error)
    sys.stderr.write(f"trunkline: no checkpoint could be stored: {words}\n")  # for people; the training goes on
