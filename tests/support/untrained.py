"""Exports of small models for every task that nobody has trained, but that find something all the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from specs.digests import digest_of
from specs.modelspec import Task
from specs.records import ArtifactRecord

SIDE = 96
SUFFIXES: dict[Task, str] = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
_SPREAD, _SHIFT = 1.5, -2.5
"""Of class scores: some are sure, most are not, and no two are alike."""


@dataclass(frozen=True)
class Untrained:
    """One ONNX file, and Ultralytics' own way of predicting with it."""

    path: Path
    task: Task

    @cached_property
    def model(self) -> Any:
        """Ultralytics' model of the file."""
        from ultralytics import YOLO

        return YOLO(self.path, task=self.task)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])

    @cached_property
    def artifact(self) -> ArtifactRecord:
        """What a server is told about the file."""
        said = self._session.get_modelmeta().custom_metadata_map
        names = [str(index) for index in range(said["names"].count(":"))]
        points = (17, 3) if self.task == "pose" else None
        return ArtifactRecord(
            file=digest_of(self.path.name), format="onnx", task=self.task, names=names, image_size=(SIDE, SIDE),
            weights=digest_of("weights"), self_tests=[], kpt_shape=points,
        )  # fmt: skip

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Give what onnxruntime alone answers."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"images": tensor}), strict=True))

    def predict(self, picture: Path, **options: Any) -> Any:
        """Give Ultralytics' results for a picture."""
        (results,) = self.model.predict(picture, imgsz=SIDE, verbose=False, **options)
        return results

    def tensor(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give what Ultralytics feeds to the model for a picture as it decoded it, after a prediction."""
        prepared: NDArray[np.float32] = self.model.predictor.preprocess([picture]).numpy()
        return prepared


def export(folder: Path, task: Task, *, finished: bool, usual: NDArray[np.float32]) -> Untrained:
    """Export a model whose rows are ``finished``, as YOLO26 has them, or one that leaves suppression to its user.

    ``usual`` are inputs, (n, 3, SIDE, SIDE), on which it finds some things, and is sure of none.
    """
    import torch
    from ultralytics import YOLO

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    model = YOLO(f"{'yolo26n' if finished else 'yolo11n'}{SUFFIXES[task]}.yaml")
    net = model.model
    with torch.no_grad():
        # As after a step of training on them: signals neither fade away nor explode on their way through.
        for layer in net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        net.train()
        net(torch.from_numpy(usual))
        net.eval()
        for branch in ("cv3", "one2one_cv3"):
            for scores in getattr(net.model[-1], branch, None) or []:
                scores[-1].weight.mul_(_SPREAD)
                scores[-1].bias.fill_(_SHIFT)
    model.save(folder / "model.pt")
    nms = False if finished and task != "classify" else None
    made = YOLO(folder / "model.pt").export(format="onnx", imgsz=SIDE, nms=nms, simplify=False, opset=18)
    return Untrained(Path(made), task)
