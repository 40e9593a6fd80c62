"""Measures weights or an export on golden: one path for every task and format, through Ultralytics' validators.

Pictures are letterboxed to the model's size for every format, as the server does it (``rect`` off), so that weights
and exports are measured alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.modelspec import Task
from specs.records import ArtifactRecord, EvaluationRecord, artifact_key, evaluation_key
from specs.workorders import EvaluateOrder
from workloads import dataset, models
from workloads.bootstrap import intervals, measured
from workloads.environment import cache, describe
from workloads.pictures import keep_pictures
from workloads.progress import Reporter
from workloads.results import Classified, Detected

_BATCH = 16


@dataclass(frozen=True)
class Measurement:
    """What came out of one evaluation."""

    values: dict[str, float]
    """As Ultralytics computed them."""
    results: Classified | Detected
    folder: Path
    """Where its pictures are."""


def run(order: EvaluateOrder, store: Store, scratch: Path) -> None:
    """Write the EvaluationRecord, after what it names. Hopeless where subject and golden cannot fit together."""
    with Reporter(store, order.job) as reporter:
        reporter.report("fetching data")
        manifest = dataset.load_manifest(store, order.golden, order.task)
        golden = dataset.for_golden(store, manifest, scratch / "golden", cache())
        subject = models.fetch_subject(store, order.subject, order.format, scratch)
        reporter.report("measuring")
        size = _image_size(order, store, subject)
        measurement = measure(subject, order.task, golden, size, scratch / "runs", plots=True)
        reporter.report("finishing")
        record(store, order.subject, order.golden, measurement)


def measure(
    subject: Path, task: Task, golden: dataset.Materialised, image_size: int | list[int], folder: Path, *, plots: bool
) -> Measurement:
    """Run a model over golden. Hopeless ``ClassMismatch``, ``UnreadablePictures``."""
    import torch

    from workloads.validators import validator_for

    args: dict[str, Any] = {
        "model": str(subject), "data": golden.argument, "task": task, "imgsz": image_size, "batch": _BATCH,
        "rect": False, "plots": plots, "workers": 0, "project": str(folder), "name": "val", "exist_ok": True,
        "mode": "val", "verbose": False, "device": None if torch.cuda.is_available() else "cpu",
    }  # fmt: skip
    validator = validator_for(task, args, golden)
    values = validator(model=str(subject))
    kept = {name: float(value) for name, value in values.items() if name != "fitness" and math.isfinite(value)}
    return Measurement(kept, validator.results(), Path(validator.save_dir))


def record(store: Store, subject: str, golden: str, measurement: Measurement) -> None:
    """Store what was measured: results of each image and pictures first, the record last."""
    results = measurement.results
    _, per_class = measured(results)
    written = EvaluationRecord(
        subject=subject, golden=golden, n=len(results.images), values=measurement.values,
        intervals=intervals(results, seed=subject), per_class=per_class, per_image=store.put_blob(results.encode()),
        environment=describe(), files=keep_pictures(store, measurement.folder),
    )  # fmt: skip
    store.create(evaluation_key(subject, golden), written.encode())


def _image_size(order: EvaluateOrder, store: Store, subject: Path) -> int | list[int]:
    """Take the order's, the export's, or the one the weights were trained with."""
    if order.image_size is not None:
        return order.image_size
    known = store.read(artifact_key(order.subject))
    if known is not None:
        return list(ArtifactRecord.decode(known).image_size)
    if order.format != "pt":
        return 640
    size: int | list[int] = models.load(subject, order.task).overrides.get("imgsz", 640)
    return size
