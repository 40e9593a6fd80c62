"""Looks over Ultralytics' shoulder through its callbacks: how far it is, and whether it leaves pictures out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from specs.datasets import Picture
from workloads.errors import Hopeless
from workloads.progress import Reporter

INTERVAL = 1.0
"""Seconds between looks within an epoch; a look costs nothing next to a batch, but there may be many."""
_SHOWN = 5


class Listener(Protocol):
    """Hears how a training goes."""

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``. They must not hold it up, and not fail."""


class Watch:
    """Turns training callbacks into progress."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._started = time.monotonic()
        self._looked = 0.0
        self._batch = 0
        self._metrics: dict[str, float] = {}
        self._epochs = (0, 0)

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``."""
        return {
            "on_train_start": self._begin,
            "on_train_epoch_start": self._epoch,
            "on_train_batch_end": self._within,
            "on_val_start": self._validate,
            "on_fit_epoch_end": self._end,
        }

    def _begin(self, _trainer: Any) -> None:
        self._started = time.monotonic()

    def _epoch(self, _trainer: Any) -> None:
        self._batch = 0

    def _within(self, trainer: Any) -> None:
        self._batch += 1
        if time.monotonic() - self._looked >= INTERVAL:
            self._looked = time.monotonic()
            self._report(trainer, "training", trainer.epoch + self._batch / max(len(trainer.train_loader), 1))

    def _validate(self, _validator: Any) -> None:
        done, epochs = self._epochs
        self._reporter.report("validating", epoch=done, epochs=epochs, metrics=self._metrics)

    def _end(self, trainer: Any) -> None:
        named = {k: v for k, v in (trainer.metrics or {}).items() if isinstance(v, (int, float)) and math.isfinite(v)}
        self._metrics = {name: float(value) for name, value in named.items()}
        done = min(trainer.epoch + 1, trainer.epochs)
        self._report(trainer, "training" if done < trainer.epochs else "finishing", done)

    def _report(self, trainer: Any, phase: str, done: float) -> None:
        spent = time.monotonic() - self._started
        left = spent / done * (trainer.epochs - done) if done > 0 else None
        self._epochs = min(int(done), trainer.epochs), trainer.epochs
        self._reporter.report(phase, epoch=self._epochs[0], epochs=trainer.epochs, eta=left, metrics=self._metrics)


def refuse_missing(loaded: Any, expected: dict[Path, Picture]) -> None:
    """Hopeless ``UnreadablePictures`` where Ultralytics' data set lacks some of the expected files."""
    there = set(getattr(loaded, "im_files", None) or (sample[0] for sample in getattr(loaded, "samples", ())))
    missing = sorted(picture.file.path for path, picture in expected.items() if str(path) not in there)
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        message = f"{', '.join(missing[:_SHOWN])}{more}: the picture or its labels cannot be read; repair or remove it"
        raise Hopeless("UnreadablePictures", message)
