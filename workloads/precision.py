"""Average precision from matched predictions, with a weight for each image, in numpy alone.

With all weights 1 the values are those of Ultralytics. A weight of k stands for k copies of an image, which makes a
bootstrap resample one pass over sorted arrays instead of a new matching.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_RECALLS = np.linspace(0, 1, 101)
_CONFIDENCES = np.linspace(0, 1, 1000)
_EPS = 1e-16


@dataclass(frozen=True)
class Predictions:
    """The predictions of one class, most confident first, and the objects that are there."""

    hit: NDArray[np.bool_]
    """Shape (P, T): whether the prediction matches an object at each of T overlap thresholds."""
    confidence: Floats
    """Shape (P,)."""
    image: NDArray[np.int64]
    """Shape (P,): index of the image."""
    target_image: NDArray[np.int64]
    """Shape (N,): index of the image of each object of the class."""

    def curves(self, weights: Floats) -> tuple[Floats, Floats, Floats] | None:
        """Give average precision (T,), and precision and recall (1000,) over confidence; None without objects."""
        objects = weights[self.target_image].sum()
        if objects == 0:
            return None
        weight = weights[self.image]
        kept = weight > 0
        if not kept.any():
            return np.zeros(self.hit.shape[1]), np.zeros(len(_CONFIDENCES)), np.zeros(len(_CONFIDENCES))
        weight, hit, confidence = weight[kept], self.hit[kept], self.confidence[kept]
        hits = (hit * weight[:, None]).cumsum(0)
        recall = hits / (objects + _EPS)
        precision = hits / weight.cumsum()[:, None]
        average = np.array([_average(recall[:, t], precision[:, t]) for t in range(hit.shape[1])])
        return (
            average,
            np.interp(-_CONFIDENCES, -confidence, precision[:, 0], left=1),
            np.interp(-_CONFIDENCES, -confidence, recall[:, 0], left=0),
        )


def _average(recall: Floats, precision: Floats) -> float:
    """Area under the falling envelope of precision over recall, read at 101 points as COCO does."""
    steps = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    envelope = np.maximum.accumulate(np.concatenate(([1.0], precision, [0.0, 0.0]))[::-1])[::-1]
    return float(np.trapezoid(np.interp(_RECALLS, steps, envelope), _RECALLS))


def by_class(classes: list[Predictions], weights: Floats) -> Floats:
    """Give precision, recall, mAP50 and mAP50-95 of each class, shape (C, 4); NaN for a class without objects.

    Precision and recall are read where the mean F1 over classes is highest.
    """
    result = np.full((len(classes), 4), np.nan)
    found = {index: curves for index, one in enumerate(classes) if (curves := one.curves(weights)) is not None}
    if not found:
        return result
    precision = np.stack([curves[1] for curves in found.values()])
    recall = np.stack([curves[2] for curves in found.values()])
    f1 = (2 * precision * recall / (precision + recall + _EPS)).mean(0)
    best = int(_smooth(f1, 0.1).argmax())
    for row, (index, curves) in enumerate(found.items()):
        result[index] = precision[row, best], recall[row, best], curves[0][0], curves[0].mean()
    return result


def _smooth(curve: Floats, fraction: float) -> Floats:
    """Moving mean over an odd window, with the ends continued."""
    window = round(len(curve) * fraction * 2) // 2 + 1
    half = window // 2
    padded = np.concatenate((np.full(half, curve[0]), curve, np.full(half, curve[-1])))
    return np.convolve(padded, np.full(window, 1 / window), mode="valid")
