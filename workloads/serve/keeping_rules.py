"""Which live pictures are worth keeping for people: by what the model said, and by what they look like. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from specs.kept_records import Why
from specs.modelspec import Task
from specs.monitoring import Labelling
from workloads.serve.query import CONFIDENCE
from workloads.serve.tensors import Array

MOST_PER_DAY = 200
RETENTION = "30d"
MOST_MEGABYTES = 1000
"""What holds where the spec does not say."""

_ROWS, _COLUMNS, _CELL = 8, 9, 4
_EDGE = 0.02
"""Difference of grey, 0 to 1, that counts: without it the noise of an even wall would be most of its hash."""
_ALIKE = 2
"""Bits. Noise and light change up to 2 in 95 of 100 pictures; digits of two writers differ in 9 (median)."""


@dataclass(frozen=True)
class Shares:
    """How many pictures of a day may be kept: of the random sample, and for all other reasons."""

    random: int
    others: int


def shares(labelling: Labelling) -> Shares:
    """Divide the day's budget: where both are asked for each gets half, so that neither takes the other's place."""
    most = MOST_PER_DAY if labelling.max_per_day is None else labelling.max_per_day
    if not labelling.random_percent:
        return Shares(0, most)
    if labelling.confidence is None and not labelling.zero_detections:
        return Shares(most, 0)
    return Shares(most // 2, most - most // 2)


def reasons(labelling: Labelling, task: Task, found: Array, draw: float) -> list[Why]:
    """Give all reasons to keep a picture, sorted; none for most pictures.

    ``found`` is what the model said about it, whatever the client asked for: shape (C,), the score of each class, or
    (R, 6) with the confidence of each detection in column 4. ``draw`` is what ``specs.kept_records.draw`` gives.
    """
    why: list[Why] = []
    judged = found.max(keepdims=True) if task == "classify" else found[:, 4]
    if task != "classify" and labelling.zero_detections and not (judged >= CONFIDENCE).any():
        why.append("nothing")
    if draw * 100 < (labelling.random_percent or 0):
        why.append("random")
    band = labelling.confidence
    if band is not None and ((judged >= band.min) & (judged <= band.max)).any():
        why.append("uncertain")
    return why


def look_of(rows: Array) -> int:
    """Give 64 bits that are nearly the same for what looks nearly the same to the model.

    ``rows`` is its input, shape (1, 3, H, W), values 0 to 1. A picture is a raster of 8 x 9 cells; each bit says
    whether a cell is clearly darker than its right neighbour (a difference hash). Reads 1152 points, whatever the size.
    """
    points = rows[0].reshape(3, -1).take(_raster(rows.shape[2], rows.shape[3]), axis=1).astype(np.float32, copy=False)
    cells = points.sum(axis=0).reshape(_ROWS, _CELL, _COLUMNS, _CELL).sum(axis=(1, 3)) / (3 * _CELL**2)
    return int.from_bytes(np.packbits(cells[:, 1:] - cells[:, :-1] > _EDGE).tobytes())


@lru_cache(16)
def _raster(height: int, width: int) -> NDArray[np.intp]:
    """Give the points that are read, as indices into a plane."""
    down, across = (
        ((np.arange(count * _CELL) + 0.5) * side / (count * _CELL)).astype(np.intp)
        for count, side in ((_ROWS, height), (_COLUMNS, width))
    )
    return (down[:, None] * width + across).ravel()


def seen_before(look: int, looks: Iterable[int]) -> bool:
    """Whether one of ``looks`` is nearly the same."""
    return any((look ^ other).bit_count() <= _ALIKE for other in looks)
