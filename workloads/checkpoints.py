"""Keeps the state of a training in the store while it runs, so that another attempt goes on where it stood.

Nothing here holds a training up or fails it. The trainer's files are copied aside when it has just written them, and
stored by a thread of its own, as seldom as its own use of the processor asks for: at most a hundredth of the time.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from adapters.store import Store
from specs.checkpoint_records import (
    BEST,
    CURVES,
    LAST,
    ROOT,
    Checkpoint,
    checkpoint_file_key,
    checkpoint_folder,
    checkpoint_key,
)
from specs.digests import Digest
from specs.errors import Stalled, TrunklineError
from specs.records import run_key
from workloads.progress import now

INTERVAL = "TRUNKLINE_CHECKPOINT_SECONDS"
"""Variable: seconds between two checkpoints at least; empty: ``SECONDS``; ``off``: none are written."""
SECONDS = 60.0
_SHARE = 0.01
"""Of the processor's time, at most."""
_KEPT_DAYS = 30
"""What a training left that was never finished goes after as many days, when another one begins."""
_TOGETHER = (LAST, BEST, CURVES)
Stamp = tuple[tuple[int, int], ...]
"""Size and time of change, in nanoseconds, of the files of a checkpoint."""


@dataclass(frozen=True)
class Past:
    """What attempts before this one did."""

    resumed_from: list[int] = field(default_factory=list)
    started: str = ""
    seconds: float = 0.0
    files: frozenset[Digest] = frozenset()
    """Of the checkpoint that this attempt goes on from."""


@dataclass(frozen=True)
class Resumed:
    """What an earlier attempt left, in a folder of this machine. A listener: it tidies up what resuming leaves."""

    folder: Path
    record: Checkpoint
    model: str
    """What the training began with, as the trainer's arguments name it."""

    @property
    def past(self) -> Past:
        """What was done before."""
        record = self.record
        files = frozenset(record.files.values())
        return Past([*record.resumed_from, record.epoch], record.started, record.seconds, files)

    def restore(self, save_dir: Path) -> dict[str, Any]:
        """Put the best weights and the curves where the trainer goes on writing them; give the arguments to resume."""
        (save_dir / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.folder / BEST, save_dir / "weights" / BEST)
        shutil.copyfile(self.folder / CURVES, save_dir / CURVES)
        return {"resume": str(self.folder / LAST), "save_dir": str(save_dir)}

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``."""
        return {"on_train_start": self._begin}

    def _begin(self, trainer: Any) -> None:
        """Let arguments say again what was asked for, not how it was resumed; and the clock go on where it stopped."""
        from ultralytics.utils import YAML

        trainer.args.model, trainer.args.resume = self.model, False
        trainer.args.project = str(Path(trainer.save_dir).parent)
        YAML.save(Path(trainer.save_dir) / "args.yaml", vars(trainer.args))
        if not trainer.args.time:  # it counts how long epochs take from there
            trainer.train_time_start -= _last_time(Path(trainer.csv))


def find(store: Store, inputs_digest: str, model: str, folder: Path) -> Resumed | None:
    """Fetch the newest checkpoint of a training; None where there is none that can be gone on from, with a line why.

    ``Transient`` where the store does not answer: then nobody knows, and a later attempt may find it.
    """
    text = store.read(checkpoint_key(inputs_digest))
    if text is None:
        return None
    try:
        record = Checkpoint.decode(text)
        _refuse_foreign(record, inputs_digest)
        for name in _TOGETHER:
            store.fetch(checkpoint_file_key(inputs_digest, record.files[name]), record.files[name], folder / name)
        _refuse_unreadable(folder / LAST, record.epoch)
    except (ValidationError, KeyError, ValueError, Stalled) as error:
        words = error.message if isinstance(error, TrunklineError) else type(error).__name__
        sys.stderr.write(f"trunkline: the checkpoint cannot be used, training begins anew: {words}\n")
        return None
    return Resumed(folder, record, model)


def forget(store: Store, inputs_digest: str) -> None:
    """Remove all checkpoints of a training; no-op where there are none. The record goes first."""
    store.forget(checkpoint_key(inputs_digest))
    for key in store.list(checkpoint_folder(inputs_digest)):
        store.forget(key)


def sweep(store: Store, inputs_digest: str) -> None:
    """Remove what nobody needs any more: of runs that have their record, of trainings that were given up long ago.

    ``inputs_digest`` is the training that begins now; of it only what no record names goes.
    """
    keys = store.list(ROOT)
    for folder in sorted({key.rpartition("/")[0] for key in keys}):
        digest = f"sha256:{folder.removeprefix(ROOT)}"
        text = store.read(checkpoint_key(digest))
        record = None if text is None else _decoded(text)
        if digest == inputs_digest:
            named = set() if record is None else {checkpoint_file_key(digest, file) for file in record.files.values()}
            for key in keys:
                if key.startswith(f"{folder}/") and key != checkpoint_key(digest) and key not in named:
                    store.forget(key)
        elif store.read(run_key(digest)) is not None or (record is not None and _is_old(record)):
            forget(store, digest)


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
            for name, path in zip(_TOGETHER, saved.files, strict=True):
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
        files = {name: _digest(self._folder / name) for name in _TOGETHER}
        for name, digest in files.items():
            self._store.keep(checkpoint_file_key(self._inputs, digest), self._folder / name)
        record = Checkpoint(
            inputs_digest=self._inputs, epoch=saved.done, epochs=saved.epochs, files=files, trainer=_version(),
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


def _refuse_foreign(record: Checkpoint, inputs_digest: str) -> None:
    if record.inputs_digest != inputs_digest:
        raise Stalled("CheckpointUnusable", "its record is that of another training")
    if record.trainer != _version():
        raise Stalled("CheckpointUnusable", f"Ultralytics {record.trainer} wrote it, and here is {_version()}")
    if not 0 < record.epoch < record.epochs:
        raise Stalled("CheckpointUnusable", f"it is from epoch {record.epoch} of {record.epochs}")


def _refuse_unreadable(path: Path, epoch: int) -> None:
    """Read it as Ultralytics will: classes that it knows, and nothing else."""
    from ultralytics.nn.tasks import load_checkpoint

    try:
        _, state = load_checkpoint(path)
        done = int(state["epoch"]) + 1
    except Exception as error:  # whatever is wrong with bytes that are meant to be a pickle
        raise Stalled("CheckpointUnusable", f"Ultralytics cannot read it ({type(error).__name__})") from error
    if done != epoch or state.get("optimizer") is None:
        raise Stalled("CheckpointUnusable", f"it holds the state after epoch {done}, not after {epoch}")


def _decoded(text: bytes) -> Checkpoint | None:
    try:
        return Checkpoint.decode(text)
    except ValidationError:
        return None


def _is_old(record: Checkpoint) -> bool:
    try:
        return datetime.now(UTC) - datetime.fromisoformat(record.when) > timedelta(days=_KEPT_DAYS)
    except (ValueError, TypeError):
        return False


def _interval() -> float | None:
    """Give the seconds between two checkpoints; None where none are wanted."""
    given = os.environ.get(INTERVAL, "")
    try:
        return None if given == "off" else max(0.0, float(given or SECONDS))
    except ValueError as error:
        raise Stalled("InvalidSetting", f"{INTERVAL}: {given!r} is no number of seconds, and not `off`") from error


def _last_time(curves: Path) -> float:
    """Give the seconds that the last row of the curves tells."""
    with curves.open(encoding="utf-8", newline="") as lines:
        rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(lines)]
    return float(rows[-1].get("time") or 0.0) if rows else 0.0


def _digest(path: Path) -> Digest:
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _version() -> str:
    return metadata.version("ultralytics")


def _complain(error: Exception) -> None:
    words = f"{error.reason}: {error.message}" if isinstance(error, TrunklineError) else str(error)
    sys.stderr.write(f"trunkline: no checkpoint could be stored: {words}\n")  # for people; the training goes on
