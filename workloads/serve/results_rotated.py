"""Rotated boxes: how alike two are, which of them stay, and where their corners lie.

A box is (5,): centre x, centre y, width, height, and the angle from the x axis to its width, clockwise in radians.
"""

from __future__ import annotations

import numpy as np

from workloads.serve.tensors import Array

_TOGETHER = 128
"""Boxes that are compared with all better ones at once."""
_TINY = 1e-7


def apart(boxes: Array, kinds: Array, most_alike: float, most: int) -> list[int]:
    """Give which of ``boxes``, best first, stay: those to which no better one of their class is too much alike.

    As Ultralytics has it, also one that does not stay itself keeps others from staying.
    """
    boxes = boxes.astype(np.float64)
    kept: list[int] = []
    for start in range(0, len(boxes), _TOGETHER):
        end = min(start + _TOGETHER, len(boxes))
        close = alike(boxes[start:end], boxes[:end]) > most_alike
        close &= kinds[start:end, None] == kinds[None, :end]
        close &= np.arange(end)[None, :] < np.arange(start, end)[:, None]
        kept += (start + np.flatnonzero(~close.any(axis=1))).tolist()
        if len(kept) >= most:
            break
    return kept[:most]


def alike(ones: Array, others: Array) -> Array:
    """Give (n, m), 0 to 1: how alike boxes (n, 5) and (m, 5) are, taken as Gaussian distributions.

    1 less their Hellinger distance (Llerena et al., arXiv:2106.06072), which stands in for their overlap.
    """
    x, y = (ones[:, None, axis] - others[None, :, axis] for axis in (0, 1))
    one, other = _spreads(ones), _spreads(others)
    across, down, mixed = (left[:, None] + right[None, :] for left, right in zip(one, other, strict=True))
    both = across * down - mixed**2
    distance = (across * y**2 + down * x**2 - 2 * mixed * x * y) / (both + _TINY) / 4
    sizes = np.clip(one[0] * one[1] - one[2] ** 2, 0, None)[:, None] * np.clip(
        other[0] * other[1] - other[2] ** 2, 0, None
    )
    distance += np.log(both / (4 * np.sqrt(sizes) + _TINY) + _TINY) / 2
    result: Array = 1 - np.sqrt(1 - np.exp(-np.clip(distance, _TINY, 100)) + _TINY)
    return result


def _spreads(boxes: Array) -> tuple[Array, Array, Array]:
    """Give variance across, variance down and covariance of each box."""
    width, height = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return width * cos**2 + height * sin**2, width * sin**2 + height * cos**2, (width - height) * cos * sin


def corners(boxes: Array) -> Array:
    """Give (n, 4, 2): the corners x, y of boxes (n, 5), in the order that Ultralytics has."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack([cos, sin], axis=1) * boxes[:, 2:3] / 2
    aside = np.stack([-sin, cos], axis=1) * boxes[:, 3:4] / 2
    centre = boxes[:, :2]
    return np.stack([centre + along + aside, centre + along - aside, centre - along - aside, centre - along + aside], 1)
