"""Ultralytics' validators, made to keep the results of each image.

Importing this loads torch. The metrics stay Ultralytics' own; what is added is a note of what they were computed from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from specs.modelspec import Task
from workloads.dataset import Materialised
from workloads.errors import Hopeless
from workloads.results import Classified, Detected
from workloads.watch import refuse_missing

_KINDS = {"tp": "B", "tp_m": "M", "tp_p": "P"}
_SINGLE = ["item"]
"""Class names of a model that was trained with ``single_cls``."""


def validator_for(task: Task, args: dict[str, Any], golden: Materialised) -> Any:
    """Make a validator; after it was called with a model, ``results()`` gives the results of each image."""
    from ultralytics.models import yolo

    bases = {
        "classify": yolo.classify.ClassificationValidator, "detect": yolo.detect.DetectionValidator,
        "segment": yolo.segment.SegmentationValidator, "pose": yolo.pose.PoseValidator, "obb": yolo.obb.OBBValidator,
    }  # fmt: skip
    mixin = _Classifying if task == "classify" else _Detecting
    kind = type(f"Recording{bases[task].__name__}", (mixin, bases[task]), {})
    validator = kind(args=args)
    validator.golden = golden
    return validator


class _Recording:
    """Holds the golden set complete and in one order, whatever the format measured."""

    golden: Materialised
    args: Any
    names: Any
    dataloader: Any

    def _check_names(self) -> None:
        known = [self.names[index] for index in sorted(self.names)]
        wanted = self.golden.manifest.names
        if known == _SINGLE and wanted != _SINGLE:
            self.args.single_cls = True
        elif self.args.task == "classify" and not set(wanted) <= set(known):
            unknown = ", ".join(sorted(set(wanted) - set(known)))
            raise Hopeless("ClassMismatch", f"golden holds classes the model does not know: {unknown}")
        elif self.args.task != "classify" and known[: len(wanted)] != wanted:
            message = f"golden numbers its classes {', '.join(wanted)}, the model {', '.join(known)}; order them alike"
            raise Hopeless("ClassMismatch", message)

    def _image_order(self, loaded: list[str]) -> tuple[list[str], list[int]]:
        """Give golden paths, sorted, and where each is among the images as they were loaded."""
        at = {str(path): picture.file.path for path, picture in self.golden.val.items()}
        order = sorted(range(len(loaded)), key=lambda index: at[loaded[index]])
        return [at[loaded[index]] for index in order], order

    def _class_names(self) -> list[str]:
        return [str(self.names[index]) for index in sorted(self.names)]


class _Classifying(_Recording):
    pred: list[Any]
    targets: list[Any]

    def get_dataloader(self, dataset_path: Any, batch_size: int) -> Any:
        """As Ultralytics' own, but in order: pairing two models image by image needs one."""
        from ultralytics.data import build_dataloader

        self._check_names()
        loaded = self.build_dataset(dataset_path)  # type: ignore[attr-defined]
        refuse_missing(loaded, self.golden.val)
        return build_dataloader(loaded, batch_size, self.args.workers, shuffle=False)

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)  # type: ignore[misc]
        self._confidence: list[Any] = []

    def update_metrics(self, preds: Any, batch: Any) -> None:
        super().update_metrics(preds, batch)  # type: ignore[misc]
        self._confidence.append(preds.cpu().float().gather(1, self.pred[-1].long()).numpy())

    def results(self) -> Classified:
        """Give what was predicted, images sorted by their paths."""
        images, order = self._image_order([str(sample[0]) for sample in self.dataloader.dataset.samples])
        predicted = np.concatenate([part.numpy() for part in self.pred])[order]
        target = np.concatenate([part.numpy() for part in self.targets])[order]
        return Classified(
            images, self._class_names(), target.astype(np.int64), predicted.astype(np.int64),
            np.concatenate(self._confidence)[order],
        )  # fmt: skip


class _Detecting(_Recording):
    metrics: Any

    def get_dataloader(self, dataset_path: Any, batch_size: int) -> Any:
        self._check_names()
        loader = super().get_dataloader(dataset_path, batch_size)  # type: ignore[misc]
        refuse_missing(loader.dataset, self.golden.val)
        return loader

    def init_metrics(self, model: Any) -> None:
        super().init_metrics(model)  # type: ignore[misc]
        self._loaded: list[str] = []

    def update_metrics(self, preds: Any, batch: Any) -> None:
        super().update_metrics(preds, batch)  # type: ignore[misc]
        self._loaded += [str(path) for path in batch["im_file"]]

    def get_stats(self) -> Any:
        self._kept = {name: list(parts) for name, parts in self.metrics.stats.items()}
        return super().get_stats()  # type: ignore[misc]

    def results(self) -> Detected:
        """Give what was found, images sorted by their paths."""
        images, order = self._image_order(self._loaded)
        kept = {name: [parts[index] for index in order] for name, parts in self._kept.items()}

        def owners(parts: list[Any]) -> Any:
            return np.repeat(np.arange(len(parts)), [len(part) for part in parts])

        return Detected(
            images=images, names=self._class_names(),
            hits={kind: np.concatenate(kept[name]).astype(bool) for name, kind in _KINDS.items() if name in kept},
            confidence=np.concatenate(kept["conf"]).astype(np.float32),
            predicted=np.concatenate(kept["pred_cls"]).astype(np.int64), image=owners(kept["conf"]),
            target=np.concatenate(kept["target_cls"]).astype(np.int64), target_image=owners(kept["target_cls"]),
        )  # fmt: skip
