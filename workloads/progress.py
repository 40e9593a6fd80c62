"""Tells how far a job is, without ever holding it up or failing it."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from adapters.store import Store
from specs.errors import TrunklineError
from specs.records import Progress, progress_key

INTERVAL = 1.0
"""Seconds between writes."""


def now() -> str:
    """Give the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Reporter:
    """Writes the newest progress about once a second, from a thread of its own: a slow store must not slow training.

    What is reported between two writes is passed over, except the last, which is written when the job ends.
    """

    def __init__(self, store: Store, job: str) -> None:
        self._store = store
        self._key = progress_key(job)
        self._job = job
        self._latest: Progress | None = None
        self._news = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._news.set()
        self._thread.join(timeout=5)

    def report(
        self, phase: str, *, epoch: int = 0, epochs: int = 0, eta: float | None = None,
        metrics: dict[str, float] | None = None, done: int = 0, total: int = 0,
    ) -> None:  # fmt: skip
        """Say where the job is; returns at once. ``eta`` in seconds; ``done`` and ``total`` in bytes or files."""
        self._latest = Progress(
            job=self._job, phase=phase, epoch=epoch, epochs=epochs, metrics=metrics or {}, updated=now(),
            eta_seconds=None if eta is None else round(eta, 1), done=done, total=total,
        )  # fmt: skip
        self._news.set()

    def _write_on(self) -> None:
        while not self._over.is_set():
            self._news.wait()
            self._news.clear()
            latest, self._latest = self._latest, None
            if latest is not None:
                self._write(latest)
            self._over.wait(INTERVAL)
        if self._latest is not None:
            self._write(self._latest)

    def _write(self, progress: Progress) -> None:
        try:
            self._store.replace(self._key, progress.encode())
        except (TrunklineError, OSError) as error:
            sys.stderr.write(f"progress could not be written: {error}\n")  # for people; the work goes on
