"""Shows a training on a tracking server while it runs. Whatever that server does, training neither waits nor fails.

What is shown here is a preview: the job of kind ``track`` makes the run whole from the store, when there is a record.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from specs.errors import TrunklineError
from specs.names import serving_name
from specs.records import Epoch
from specs.workorders import TrainOrder

if TYPE_CHECKING:
    from adapters.mlflow_api import MlflowApi, Run

GOODBYE = 5.0
"""Seconds that a job waits at its end for what is not told yet."""
_TIMEOUT = 5.0
_FIRST_PAUSE, _LAST_PAUSE = 5.0, 120.0
"""Seconds of peace after trouble."""


class Live:
    """Tells params and curves from a thread of its own. What cannot be told is dropped, with one line in the log.

    ``read`` gives the epochs of Ultralytics' ``results.csv``: the very numbers that the record will have.
    """

    def __init__(self, order: TrainOrder, read: Callable[[Path], list[Epoch]]) -> None:
        self._order = order
        self._read = read
        self._news = threading.Event()
        self._over = threading.Event()
        self._folder: Path | None = None
        self._status = "RUNNING"
        self._run: Run | None = None
        self._told = 0
        self._when: dict[int, int] = {}
        self._failures = 0
        self._thread = threading.Thread(target=self._tell_on, name="mlflow", daemon=True)

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``; they only leave a note for the thread."""
        return {"on_pretrain_routine_end": self._begin, "on_fit_epoch_end": self._epoch}

    def __enter__(self) -> Self:
        if self._order.tracking is not None and self._order.tracking.mlflow is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        self._over.set()
        self._news.set()
        if not self._failures:
            self.join(GOODBYE)

    def join(self, seconds: float | None = None) -> None:
        """Wait until the last word is told or given up."""
        if self._thread.is_alive():
            self._thread.join(timeout=seconds)

    def _begin(self, trainer: Any) -> None:
        self._folder = Path(trainer.save_dir)
        self._news.set()

    def _epoch(self, trainer: Any) -> None:
        self._when.setdefault(int(trainer.epoch) + 1, round(time.time() * 1000))
        self._news.set()

    def _tell_on(self) -> None:
        from adapters.mlflow_api import MlflowApi
        from adapters.tracking_access import Access

        tracking = self._order.tracking
        if tracking is None or tracking.mlflow is None:
            return
        api = MlflowApi(tracking.mlflow.tracking_uri, Access.of(os.environ), timeout=_TIMEOUT, patience=_TIMEOUT)
        experiment = tracking.mlflow.experiment or serving_name(*self._order.model.split("/", 1))
        over = False
        while not over:
            self._news.wait()
            self._news.clear()
            over = self._over.is_set()  # asked first: what is told below is the last word then
            try:
                self._tell(api, experiment)
                self._failures = 0
            except Exception as error:  # noqa: BLE001  whatever a server answers, training goes on
                self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Say it once, then leave the server in peace for a while; at the job's end for good."""
        if not self._failures:
            what = f"{error.reason}: {error.message}" if isinstance(error, TrunklineError) else type(error).__name__
            sys.stderr.write(f"MLflow is not told for now: {what}\n")
        self._failures += 1
        self._over.wait(min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LAST_PAUSE))
        self._news.set()

    def _tell(self, api: MlflowApi, experiment: str) -> None:
        """Tell what is not told yet. Repeated after a lost answer it tells the same, to the millisecond."""
        from workloads import mirrored
        from workloads.mirror_run import adopt

        if self._folder is None:
            return
        order = self._order
        if self._run is None:
            arguments = (self._folder / "args.yaml").read_text(encoding="utf-8")
            name = mirrored.run_name(order.model, order.inputs_digest)
            # A run with curves is that of an attempt that came to nothing: this one would draw over them.
            run = adopt(
                api, api.experiment(experiment), order.inputs_digest, name=name, started=round(time.time() * 1000),
                fits=lambda run: not run.latest,
            )  # fmt: skip
            tags = {"trunkline.model": order.model, "trunkline.commit": order.commit, "trunkline.status": "Training"}
            api.log(run, params=mirrored.params(order.inputs, arguments), tags=tags)
            self._run = run
        seen = [each for each in self._read(self._folder / "results.csv") if each.epoch in self._when]
        new = seen[self._told :]
        api.log(self._run, metrics=mirrored.points(new, self._when))
        self._told += len(new)
        if self._status != "RUNNING":
            api.end(self._run, self._status, round(time.time() * 1000))
