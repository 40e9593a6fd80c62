"""Work orders for tiny data sets, and the process that does them."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.digests import digest_of
from specs.exports import needs_calibration
from specs.modelspec import Task
from specs.training import Tracking
from specs.ways import export_digest
from specs.workorders import (
    AnyOrder,
    CompareOrder,
    EvaluateOrder,
    ExportOrder,
    ProfileOrder,
    TrainOrder,
    ValidateOrder,
)
from tests.support import pictures
from workloads.environment import provide_font
from workloads.job import run

MODELS: dict[Task, str] = {
    "classify": "yolo26n-cls.yaml", "detect": "yolo26n.yaml", "segment": "yolo26n-seg.yaml",
    "pose": "yolo26n-pose.yaml", "obb": "yolo26n-obb.yaml",
}  # fmt: skip
WHO: dict[str, Any] = {"model": "default/tiny", "commit": "0" * 40}
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """How a job's process ended."""

    code: int
    log: str


@dataclass(frozen=True)
class Bench:
    """A store with a training set and a golden set for one task, and orders on them."""

    store: Store
    url: str
    task: Task
    scratch: Path
    data: str
    golden: str

    def validate(self) -> ValidateOrder:
        """Order a look at both sets."""
        return ValidateOrder(**WHO, task=self.task, train=self.data, golden=self.golden)

    def train(
        self, *, model: dict[str, str] | None = None, data: str | None = None, tracking: Tracking | None = None,
        **args: Any,
    ) -> TrainOrder:  # fmt: skip
        """Order one epoch on the training set."""
        inputs = {
            "v": 1, "task": self.task, "data": data or self.data, "model": model or {"name": MODELS[self.task]},
            "args": {"epochs": 1, "imgsz": 32, "batch": 8, "plots": False, **args}, "nonce": "",
        }  # fmt: skip
        return TrainOrder(**WHO, inputs_digest=digest_of(inputs), inputs=inputs, tracking=tracking)

    def evaluate(self, subject: str, format_: str = "pt") -> EvaluateOrder:
        """Order a measurement on golden."""
        return EvaluateOrder(**WHO, subject=subject, format=format_, task=self.task, golden=self.golden, image_size=32)

    def export(self, weights: str, format_: str = "onnx", **args: Any) -> ExportOrder:
        """Order an export at 32 pixels."""
        calibration = self.data if needs_calibration(format_, args) else None
        return ExportOrder(
            **WHO, weights=weights, export_digest=export_digest(format_, args, 32, calibration=calibration),
            task=self.task, format=format_, args=args, image_size=32, golden=self.golden, calibration=calibration,
        )  # fmt: skip

    def profile(self, file: str, format_: str = "onnx") -> ProfileOrder:
        """Order a profile on golden."""
        return ProfileOrder(**WHO, file=file, format=format_, task=self.task, golden=self.golden)

    def compare(self, subject: str, baseline: str) -> CompareOrder:
        """Order a comparison on golden."""
        return CompareOrder(**WHO, subject=subject, baseline=baseline, golden=self.golden, task=self.task)

    def start(self, order: AnyOrder, **told: str) -> subprocess.Popen[str]:
        """Start the job's process, as a runtime would, with further variables."""
        environment = {
            **os.environ, "TRUNKLINE_WORK_ORDER": order.encode().decode(), "TRUNKLINE_SCRATCH": str(self.scratch),
            "PYTHONPATH": str(ROOT), **told,
        }  # fmt: skip
        command = [sys.executable, "-m", "workloads", "--store", self.url]
        return subprocess.Popen(
            command, env=environment, cwd=self.scratch, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, order: AnyOrder, **told: str) -> Finished:
        """Do an order in a process of its own."""
        process = self.start(order, **told)
        log, _ = process.communicate(timeout=240)
        return Finished(process.returncode, log)

    def run_here(self, order: AnyOrder) -> Finished:
        """Do an order in this process, which saves the seconds that importing torch takes."""
        _settle_ultralytics()
        log = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(log):
            patch.setattr(os, "environ", os.environ.copy())
            os.environ["TRUNKLINE_SCRATCH"] = str(self.scratch)
            code = run(order, self.store)
        return Finished(code, log.getvalue())


def _settle_ultralytics() -> None:
    """Import Ultralytics while its settings folder is one that outlives the job."""
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    from ultralytics.utils import USER_CONFIG_DIR

    provide_font(USER_CONFIG_DIR)


def bench(root: Path, task: Task, *, count: int = 24) -> Bench:
    """Make a store below ``root`` with tiny data sets for a task."""
    scratch = root / "scratch"
    scratch.mkdir(parents=True)
    url = f"file://{root}/store"
    store = Store(url)
    train = add_folder(store, pictures.folder(root / "train", task, count), task=task)
    golden = add_folder(store, pictures.folder(root / "golden", task, 10, seed="golden"), task=task)
    return Bench(store, url, task, scratch, train.digest(), golden.digest())
