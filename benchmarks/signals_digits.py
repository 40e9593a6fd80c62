"""Real digits, a small real classifier of them, and what it makes of them when something changes, step by step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits

from workloads import preprocess
from workloads.environment import isolate
from workloads.serve.counting import features
from workloads.serve.engine import Opening
from workloads.serve.engine_onnx import OnnxEngine

SIDE = 32
UNSEEN = 8
"""The digit that is never trained on, nor in golden: the new class."""
TRAINED = tuple(digit for digit in range(10) if digit != UNSEEN)
ARGUMENTS: dict[str, Any] = {
    "epochs": 8, "imgsz": SIDE, "batch": 64, "optimizer": "AdamW", "lr0": 0.002, "warmup_epochs": 1, "seed": 7,
    "fliplr": 0.0, "scale": 0.3, "auto_augment": None, "erasing": 0.0, "workers": 0, "device": "cpu",
    "deterministic": True,
}  # fmt: skip
"""As in examples/01-digits."""
GRADES = (1, 2, 3, 4)
PIXELS: dict[str, tuple[float, ...]] = {
    "brightness": (0.9, 0.75, 0.5, 0.3), "blur": (1.0, 2.0, 3.0, 4.0), "noise": (10.0, 20.0, 40.0, 60.0),
}  # fmt: skip
"""Light times this; radius of a Gaussian blur in pixels; standard deviation of Gaussian noise, of 255."""
SHARES: dict[str, tuple[float, ...]] = {"new class": (0.02, 0.05, 0.1, 0.2), "class mix": (0.15, 0.2, 0.3, 0.5)}
"""Share of pictures of the digit that was never seen; share of the digit 1, which is 11 % else."""
SHIFTS = {**PIXELS, **SHARES}


@dataclass(frozen=True)
class Pool:
    """Pictures that were not trained on, as the model and the server see them. All rows go together."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    """Softmax, by ``TRAINED``."""
    features: NDArray[np.float32]
    """Brightness, contrast, sharpness."""

    def draw(self, chances: NDArray[np.float64], n: int, random: np.random.Generator) -> Pool:
        """Draw n pictures with replacement."""
        rows = random.choice(len(self.labels), n, p=chances)
        return Pool(self.labels[rows], self.scores[rows], self.features[rows])

    @property
    def confidences(self) -> NDArray[np.float32]:
        return self.scores.max(axis=1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        return np.array(TRAINED)[self.scores.argmax(axis=1)]

    @property
    def right(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels


Images = list[NDArray[np.uint8]]


def pictures() -> tuple[Images, NDArray[np.int64], NDArray[np.bool_]]:
    """Give all 1,797 pictures, 32x32 RGB, their labels, and which are trained on: two of five by position."""
    digits = load_digits()
    images = []
    for pixels in digits.images:
        small = Image.fromarray((pixels * (255.0 / 16.0)).astype(np.uint8))
        images.append(np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("RGB")))
    trained = (np.arange(len(images)) % 5 >= 3) & (digits.target != UNSEEN)
    return images, digits.target.astype(np.int64), trained


def model(folder: Path) -> bytes:
    """Give the classifier as ONNX; trained with Ultralytics the first time, a minute or two."""
    kept = folder / "digits.onnx"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        isolate(folder)
        from ultralytics import YOLO  # noqa: PLC0415  takes seconds to load, and must see what isolate() set

        images, labels, trained = pictures()
        for part, chosen in (("train", trained), ("val", trained & (np.arange(len(images)) % 10 == 3))):
            for index in np.flatnonzero(chosen):
                target = folder / "data" / part / str(labels[index])
                target.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[index]).save(target / f"{index:04d}.png")
        here = Path.cwd()
        os.chdir(folder)
        try:
            YOLO("yolo26n-cls.yaml").train(data=str(folder / "data"), project=str(folder / "runs"), **ARGUMENTS)
            best = next((folder / "runs").rglob("last.pt"))
            exported = YOLO(best).export(format="onnx", imgsz=SIDE, dynamic=True, verbose=False)
        finally:
            os.chdir(here)
        shutil.copy(exported, kept)
    return kept.read_bytes()


def pools(folder: Path) -> dict[tuple[str, int], Pool]:
    """Give what the model makes of the pictures that it never saw: (shift, grade) to pool; ("", 0) as they are."""
    images, labels, trained = pictures()
    held = [index for index in range(len(images)) if not trained[index]]
    engine = OnnxEngine(model(folder), Opening((SIDE, SIDE)))
    random = np.random.default_rng(7)
    changes: dict[str, Callable[[NDArray[np.uint8], float], NDArray[Any]]] = {
        "brightness": lambda image, by: image * by,
        "blur": lambda image, by: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(by))),
        "noise": lambda image, by: image + random.normal(0, by, image.shape[:2])[..., None],
    }
    found = {("", 0): _seen(engine, [images[index] for index in held], labels[held])}
    for shift, steps in PIXELS.items():
        for grade, step in zip(GRADES, steps, strict=True):
            changed = [np.clip(changes[shift](images[index], step), 0, 255).astype(np.uint8) for index in held]
            found[shift, grade] = _seen(engine, changed, labels[held])
    return found | {(shift, grade): found["", 0] for shift in SHARES for grade in GRADES}


def chances(shift: str, grade: int, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give how often each picture of a pool comes: the digit that was never seen only in its own shift."""
    weights = (labels != UNSEEN).astype(float)
    if shift in SHARES:
        share, digit = SHARES[shift][grade - 1], UNSEEN if shift == "new class" else 1
        weights[labels == digit] = 0
        weights *= (1 - share) / weights.sum()
        weights[labels == digit] = share / (labels == digit).sum()
    return np.asarray(weights / weights.sum())


def _seen(engine: OnnxEngine, images: Images, labels: NDArray[np.int64]) -> Pool:
    scores, looks = [], []
    name = engine.inputs[0].name
    for start in range(0, len(images), 256):
        rows = [preprocess.preprocess(image, "classify", (SIDE, SIDE)) for image in images[start : start + 256]]
        batch = np.concatenate(rows)
        scores.append(next(iter(engine.run({name: batch}).values())))
        looks.append(features(batch))
    return Pool(labels, np.concatenate(scores), np.concatenate(looks))
