"""What a training kept in the store before it was ended from outside: found, checked, gone on from, and removed."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

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

_KEPT_DAYS = 30
"""What a training left that was never finished goes after as many days, when another one begins."""
TOGETHER = (LAST, BEST, CURVES)


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
        for name in TOGETHER:
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


def _refuse_foreign(record: Checkpoint, inputs_digest: str) -> None:
    if record.inputs_digest != inputs_digest:
        raise Stalled("CheckpointUnusable", "its record is that of another training")
    if record.trainer != version():
        raise Stalled("CheckpointUnusable", f"Ultralytics {record.trainer} wrote it, and here is {version()}")
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


def _last_time(curves: Path) -> float:
    """Give the seconds that the last row of the curves tells."""
    with curves.open(encoding="utf-8", newline="") as lines:
        rows = [{name.strip(): value for name, value in row.items()} for row in csv.DictReader(lines)]
    return float(rows[-1].get("time") or 0.0) if rows else 0.0


def version() -> str:
    """Give the version of the trainer that is installed here."""
    return metadata.version("ultralytics")
