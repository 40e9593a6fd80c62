"""The results of each image of an evaluation: kept as a blob, from which metrics are computed again at will.

Needs numpy only, so that comparing two models starts in no time.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specs.errors import CorruptArtifact
from workloads.precision import Floats, Predictions, by_class

Ints = NDArray[np.int64]
_OF_OBJECTS = ("precision", "recall", "mAP50", "mAP50-95")


class Results(Protocol):
    """What metrics are computed from, whatever the task."""

    @property
    def images(self) -> list[str]:
        """Paths in the golden set, sorted."""

    @property
    def names(self) -> list[str]:
        """Class names; the index is the class number."""

    @property
    def metrics(self) -> list[str]:
        """Names of what ``measure`` gives, as Ultralytics calls them."""

    def measure(self, weights: Floats) -> Floats:
        """Give values of shape (R, 1 + C, M) for weights of shape (R, images): overall first, then each class.

        NaN where a class has no images or objects.
        """

    def encode(self) -> bytes:
        """Give the blob: ``.npz`` without pickles; the same results give the same bytes."""


@dataclass(frozen=True)
class Classified:
    """What was predicted for each image of a classify evaluation."""

    images: list[str]
    names: list[str]
    target: Ints
    """Shape (n,)."""
    predicted: Ints
    """Shape (n, k): classes, most confident first; k is 5, or the number of classes if that is smaller."""
    confidence: NDArray[np.float32]
    """Shape (n, k)."""
    metrics: list[str] = field(default_factory=lambda: ["metrics/accuracy_top1", "metrics/accuracy_top5"])

    def measure(self, weights: Floats) -> Floats:
        """Give accuracies; those of a class are over the images that belong to it."""
        right = self.predicted == self.target[:, None]
        scores = right[:, 0], right.any(1)
        table = np.empty((len(weights), 1 + len(self.names), len(scores)))
        for row, weight in enumerate(weights):
            counts = self._per_class(weight)
            for column, score in enumerate(scores):
                sums = self._per_class(weight * score)
                with np.errstate(invalid="ignore"):
                    table[row, :, column] = np.append(sums.sum() / counts.sum(), sums / counts)
        return table

    def _per_class(self, weight: Floats) -> Floats:
        return np.bincount(self.target, weights=weight, minlength=len(self.names)).astype(np.float64)

    def encode(self) -> bytes:
        """Give the blob."""
        return _pack(
            images=self.images, names=self.names, target=self.target, predicted=self.predicted,
            confidence=self.confidence,
        )  # fmt: skip


@dataclass(frozen=True)
class Detected:
    """What was found in each image, for every task that finds objects."""

    images: list[str]
    names: list[str]
    hits: dict[str, NDArray[np.bool_]]
    """``B`` for boxes, ``M`` for masks, ``P`` for poses: shape (P, 10), matched at overlaps 0.5, 0.55 … 0.95."""
    confidence: NDArray[np.float32]
    """Shape (P,)."""
    predicted: Ints
    """Shape (P,): class."""
    image: Ints
    """Shape (P,): index into ``images``."""
    target: Ints
    """Shape (N,): class of each object that is there."""
    target_image: Ints

    @property
    def metrics(self) -> list[str]:
        """Four for boxes, and four more for masks or poses."""
        return [f"metrics/{name}({kind})" for kind in self.hits for name in _OF_OBJECTS]

    def measure(self, weights: Floats) -> Floats:
        """Give precision, recall and mean average precision; overall is the mean over classes that have objects."""
        order = np.argsort(-self.confidence)
        parts = {kind: [self._of_class(c, kind, order) for c in range(len(self.names))] for kind in self.hits}
        rows = []
        for row in weights:
            table = np.concatenate([by_class(classes, row) for classes in parts.values()], axis=1)
            seen = ~np.isnan(table[:, 0])
            overall = table[seen].mean(0) if seen.any() else np.zeros(table.shape[1])
            rows.append(np.concatenate([overall[None], table]))
        return np.stack(rows)

    def _of_class(self, number: int, kind: str, order: Ints) -> Predictions:
        mine = order[self.predicted[order] == number]
        return Predictions(
            hit=self.hits[kind][mine], confidence=self.confidence[mine].astype(np.float64), image=self.image[mine],
            target_image=self.target_image[self.target == number],
        )  # fmt: skip

    def encode(self) -> bytes:
        """Give the blob."""
        hits = {f"hits_{kind}": matrix for kind, matrix in self.hits.items()}
        return _pack(
            images=self.images, names=self.names, confidence=self.confidence, predicted=self.predicted,
            image=self.image, target=self.target, target_image=self.target_image, **hits,
        )  # fmt: skip


def _pack(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def decode(data: bytes) -> Classified | Detected:
    """Read a blob that ``encode`` gave; CorruptArtifact for anything else. Never unpickles."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        images, names = arrays.pop("images").tolist(), arrays.pop("names").tolist()
        hits = {name.removeprefix("hits_"): arrays.pop(name) for name in list(arrays) if name.startswith("hits_")}
        if hits:
            return Detected(images, names, hits, **arrays)
        return Classified(images, names, **arrays)
    except (ValueError, OSError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CorruptArtifact(f"not the results of an evaluation: {error}") from error
