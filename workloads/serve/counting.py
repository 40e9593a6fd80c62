"""Counts what pictures look like and what was found in them, in the bins of ``specs.traffic``.

The server counts live traffic with it, the job ``profile`` the golden set: the same pictures give the same counts. A
request only leaves a sample of its pixels and a reference to the model's outputs behind. They are looked at many
together, which costs a tenth of looking at each one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from specs.traffic import BOX_CONFIDENCE, MOST_CLASSES, OF_PICTURES, OTHER, Measure
from workloads.serve.query import CONFIDENCE as LEAST
from workloads.serve.results import Findings
from workloads.serve.tensors import Array

CELLS = 16
"""Along each side of a picture, at most: of each cell, two by two pixels are looked at."""
TOGETHER = 64
"""Pictures that are looked at together."""
_TIMES = 512
"""Plain numbers that are sorted into their bins together."""

Floats = NDArray[np.float32]


class Bins:
    """A histogram of one measure. Belongs to one thread."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self._edges = np.array(measure.edges)
        self._counts = np.zeros(measure.bins, np.int64)
        self._sum = 0.0
        self._new: list[float] = []

    def add(self, value: float) -> None:
        """Count one value."""
        self._new.append(value)
        if len(self._new) >= _TIMES:
            self._sort()

    def add_all(self, values: Array) -> None:
        """Count values of shape (n,); those that are no number are left out."""
        values = values[np.isfinite(values)].astype(np.float64)
        self._counts += np.bincount(self._edges.searchsorted(values), minlength=self.measure.bins)
        self._sum += float(values.sum())

    @property
    def counts(self) -> tuple[int, ...]:
        """One for each bin."""
        self._sort()
        return tuple(self._counts.tolist())

    @property
    def sum(self) -> float:
        """Of all values."""
        self._sort()
        return self._sum

    def _sort(self) -> None:
        if self._new:
            values, self._new = np.array(self._new), []
            self.add_all(values)


class Classes:
    """Confidence of predictions, by class. Belongs to one thread."""

    def __init__(self, names: Sequence[str]) -> None:
        """The first ``MOST_CLASSES`` classes have counts of their own; the others, and unknown ones, share one."""
        self.labels = [name for name in dict.fromkeys(names[:MOST_CLASSES]) if name != OTHER]
        rows = {name: row for row, name in enumerate(self.labels)}
        self._row = np.array([*(rows.get(name, len(rows)) for name in names), len(rows)])
        self._edges = np.array(BOX_CONFIDENCE.edges)
        self._counts = np.zeros((len(self.labels) + 1, BOX_CONFIDENCE.bins), np.int64)
        self._sums = np.zeros(len(self.labels) + 1)

    def add_all(self, classes: Array, confidences: Array) -> None:
        """Count predictions: class numbers and confidences, both of shape (n,)."""
        rows = self._rows(classes)
        flat = rows * BOX_CONFIDENCE.bins + self._edges.searchsorted(confidences.astype(np.float64))
        self._counts += np.bincount(flat, minlength=self._counts.size).reshape(self._counts.shape)
        self._sums += np.bincount(rows, weights=confidences, minlength=len(self._sums))

    def _rows(self, classes: Array) -> NDArray[np.intp]:
        """Give the row in which each class is counted; the last one is for those that have no name."""
        unknown = len(self._row) - 1
        known = (classes >= 0) & (classes < unknown)
        return np.asarray(self._row[np.where(known, classes, unknown).astype(np.intp)], np.intp)

    @property
    def counts(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """One for each bin, and the sum of all confidences, by class; also of classes that were never predicted."""
        rows = zip([*self.labels, OTHER], self._counts.tolist(), self._sums.tolist(), strict=True)
        return {name: (tuple(counts), total) for name, counts, total in rows if name != OTHER or any(counts)}


class Seen:
    """What the pictures of one model were like, and what was found in them. Belongs to one thread."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names`` are the model's classes."""
        self._pictures = {name: Bins(measure) for name, measure in OF_PICTURES.items()}
        self._classes = Classes(names)
        self._samples: list[Floats] = []
        self._found: list[Array] = []
        self._waiting = 0

    def saw(self, rows: Array, found: Findings) -> None:
        """Count pictures that were answered: the model's input of shape (n, 3, H, W), and what was found there.

        Inputs of other shapes or kinds, and outputs that nobody can read, are not counted.
        """
        if rows.ndim == 4 and rows.shape[1] == 3 and rows.dtype.kind == "f" and min(rows.shape[2:]) > 1:
            self._samples.append(_sample(rows))
        self._found += found
        self._waiting += len(rows)
        if self._waiting >= TOGETHER:
            self._look()

    def sized(self, pixels: int) -> None:
        """Count the size of a picture as it was sent."""
        self._pictures["size"].add(pixels)

    @property
    def pictures(self) -> dict[str, Bins]:
        """By the names of ``OF_PICTURES``."""
        self._look()
        return self._pictures

    @property
    def classes(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """Confidence of predictions by class: one number for each bin, and the sum."""
        self._look()
        return self._classes.counts

    def _look(self) -> None:
        samples, found, self._samples, self._found, self._waiting = self._samples, self._found, [], [], 0
        if samples:
            looks = _looks(np.concatenate(samples))
            for name, values in zip(("brightness", "contrast", "sharpness"), looks.T, strict=True):
                self._pictures[name].add_all(values)
        for together in _by_shape(found):
            if together.ndim == 2:
                self._scored(together)
            else:
                self._detected(together)

    def _scored(self, scores: Array) -> None:
        classes, confidences = scores.argmax(axis=1), scores.max(axis=1).clip(0, 1)
        sure = np.isfinite(confidences)
        self._pictures["confidence"].add_all(confidences)
        self._classes.add_all(classes[sure], confidences[sure])

    def _detected(self, rows: Array) -> None:
        confidences = rows[:, :, 4].clip(0, 1)
        sure = confidences >= LEAST
        numbers = sure.sum(axis=1)
        tops = np.where(sure, confidences, 0).max(axis=1, initial=0)
        self._pictures["detections"].add_all(numbers)
        self._pictures["confidence"].add_all(tops[numbers > 0])
        self._classes.add_all(rows[:, :, 5][sure], confidences[sure])


def features(rows: Array) -> Floats:
    """Give (n, 3) float32: brightness, contrast and sharpness of a model's input, (n, 3, H, W) with values 0 to 1.

    Brightness is the mean grey, contrast its standard deviation, sharpness the mean difference of neighbours; all of a
    sample of pixels, four in each of at most ``CELLS`` by ``CELLS`` cells.
    """
    return _looks(_sample(rows))


def _sample(rows: Array) -> Floats:
    """Give float32 (n, 3, down, 2, across, 2): two by two neighbours of each cell. A copy: the input may go."""
    height, width, shape = _cells(rows.shape[2], rows.shape[3])
    cells = rows[:, :, :height, :width].reshape(len(rows), 3, *shape)[:, :, :, :2, :, :2]
    if rows.dtype == np.float32:
        return cells.copy()
    with np.errstate(over="ignore"):
        return cells.astype(np.float32)


@lru_cache(maxsize=64)
def _cells(height: int, width: int) -> tuple[int, int, tuple[int, int, int, int]]:
    """Give the part of a picture that is made of whole cells, and their number and size: down, tall, across, wide."""
    tall, wide = (max(2, -(-side // CELLS)) for side in (height, width))
    down, across = height // tall, width // wide
    return down * tall, across * wide, (down, tall, across, wide)


def _looks(samples: Floats) -> Floats:
    with np.errstate(all="ignore"):  # clients send tensors of any values
        grey = samples.mean(axis=1)
        across, down = np.abs(grey[..., 1] - grey[..., 0]), np.abs(grey[:, :, 1] - grey[:, :, 0])
        flat = grey.reshape(len(grey), -1)
        sharpness = (across.mean(axis=(1, 2, 3)) + down.mean(axis=(1, 2, 3))) / 2
        looks: Floats = np.stack([flat.mean(axis=1), flat.std(axis=1), sharpness], axis=1)
    # One of them must not outweigh all others in a sum.
    return np.clip(looks, 0, 1)


def _by_shape(arrays: Sequence[Array]) -> list[Array]:
    """Join what fits together, so that it is looked at together."""
    groups: defaultdict[tuple[int, ...], list[Array]] = defaultdict(list)
    for array in arrays:
        groups[array.shape[1:]].append(array)
    return [group[0] if len(group) == 1 else np.concatenate(group) for group in groups.values()]
