"""``python -m workloads.trials --store URL --task FILE``: trains one trial of a tuning, as a training order would be.

It runs in the folder that it may fill. Only the numbers are kept: weights come from the training that a merged proposal
leads to. The tuning writes the records; this process ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.errors import Stalled, Transient
from workloads import dataset, environment, models
from workloads.errors import BAD_MATERIAL, DONE, RETRY, Hopeless, end_on_sigterm
from workloads.job import is_out_of_memory
from workloads.trial_wire import Ended, Event, TrialTask, Wire

FILES = "files"
"""Folder beside those of the trials: files of the data set, fetched once for all of them."""
_OF_THE_TRIAL = ("Diverged",)
"""Reasons of failures that other values may not share."""


def main() -> int:
    """Read the task, train, tell how it goes."""
    parser = argparse.ArgumentParser(prog="python -m workloads.trials", description="Trains one trial of a tuning.")
    parser.add_argument("--store", required=True)
    parser.add_argument("--task", type=Path, required=True)
    given = parser.parse_args()
    end_on_sigterm()
    wire = Wire.take_over()
    task, folder = TrialTask.decode(given.task.read_bytes()), Path.cwd()
    try:
        environment.isolate(folder)
        metrics = perform(task, Store(given.store), folder, wire)
        wire.tell(Event(kind="finished", metrics=metrics))
    except Ended:
        return DONE
    except Hopeless as failure:
        return _failed(wire, failure.reason, failure.message, hopeless=failure.reason not in _OF_THE_TRIAL)
    except Stalled as trouble:
        return _say(BAD_MATERIAL, f"{trouble.reason}: {trouble.message}")
    except Transient as trouble:
        return _say(RETRY, f"{trouble.reason}: {trouble.message}")
    except MemoryError:
        return _failed(wire, "OutOfMemory", "the machine has too little memory for these values")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _failed(wire, "OutOfMemory", str(error).splitlines()[0])
    return DONE


def perform(task: TrialTask, store: Store, folder: Path, wire: Wire) -> dict[str, float]:
    """Train; give the metrics of the best weights. Whatever goes wrong is as in ``workloads.train``."""
    from workloads import train
    from workloads.arguments import check_tuning

    args = {"seed": 0, **task.inputs["args"], "plots": False}
    searched = check_tuning(args, task.tuning)
    manifest = dataset.load_manifest(store, task.dataset, task.inputs["task"])
    shared = environment.cache() or folder.parent / FILES
    data = dataset.for_training(store, manifest, folder / "data", shared)
    model, _ = models.base_model(store, task.inputs["model"], task.inputs["task"], folder)
    wire.tell(Event(kind="began", searched=searched, environment=environment.describe()))
    listener = Listener(wire, task.tuning.objective.metric)
    trainer = train.fit(model, _on_device(args, task.slot), data, folder, (listener,))
    return listener.checked(trainer.metrics)


def _on_device(args: dict[str, Any], slot: int) -> dict[str, Any]:
    """Give trials that run at once a GPU each, as far as there are several and nobody chose."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {**args, "device": slot % count} if count > 1 and args.get("device") is None else args


class Listener:
    """Tells the tuning of every epoch, and leaves the training where the tuning wants no more."""

    def __init__(self, wire: Wire, metric: str) -> None:
        self._wire = wire
        self._metric = metric
        self._told = 0

    def callbacks(self) -> dict[str, Callable[[Any], None]]:
        """Give event to callback, for ``YOLO.add_callback``."""
        return {"on_fit_epoch_end": self._end}

    def _end(self, trainer: Any) -> None:
        epoch = trainer.epoch + 1
        if self._told < epoch <= trainer.epochs and trainer.metrics:  # comes once more for the best weights
            self._told = epoch
            self._wire.tell(Event(kind="epoch", epoch=epoch, metrics=self.checked(trainer.metrics)))

    def checked(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Give the metrics that are numbers; Hopeless ``UnknownMetric`` or ``Diverged`` without the objective."""
        from workloads.train import finite

        numbers = finite(metrics)
        if self._metric not in metrics:
            known = ", ".join(sorted(metrics))
            raise Hopeless("UnknownMetric", f"objective.metric {self._metric} is not measured; there are {known}")
        if self._metric not in numbers:
            raise Hopeless("Diverged", f"training diverged: {self._metric} is not a finite number")
        return numbers


def _failed(wire: Wire, reason: str, message: str, *, hopeless: bool = False) -> int:
    with contextlib.suppress(Ended):  # as it does anyway
        wire.tell(Event(kind="failed", reason=reason, message=message, hopeless=hopeless))
    return DONE


def _say(code: int, message: str) -> int:
    sys.stderr.write(f"trunkline: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
