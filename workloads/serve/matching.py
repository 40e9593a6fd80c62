"""Whether detections are right: each object that is there makes one detection right, the most confident one first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.serve.results_rows import overlap
from workloads.serve.tensors import Array

ENOUGH = 0.5
"""Overlap (intersection over union) from which on a detection means an object."""


class Matched(NamedTuple):
    """How detections and objects of one picture go together."""

    right: NDArray[np.bool_]
    """Of each detection, in the order given."""
    missed: int
    """Objects that no detection means."""


def match(detections: Array, objects: Array) -> Matched:
    """Match detections (n, 6; x1, y1, x2, y2, confidence, class) with objects (m, 5; x1, y1, x2, y2, class).

    The more confident ones choose first, among objects of their class that nobody has chosen, the one that they overlap
    most. Both in pixels of the same picture.
    """
    right = np.zeros(len(detections), np.bool_)
    free = np.ones(len(objects), np.bool_)
    for index in np.argsort(-detections[:, 4], kind="stable"):
        candidates = np.flatnonzero(free & (objects[:, 4] == detections[index, 5]))
        if not candidates.size:
            continue
        shares = overlap(detections[index, :4], objects[candidates, :4])
        if shares.max() >= ENOUGH:
            right[index] = True
            free[candidates[shares.argmax()]] = False
    return Matched(right, int(free.sum()))
