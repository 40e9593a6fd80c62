"""Masks of objects: from prototypes and coefficients to polygons or run lengths in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from workloads.serve.answers import Refusal
from workloads.serve.fitting import Fit
from workloads.serve.tensors import Array

MOST_PIXELS = 200_000_000
"""Within all boxes of one answer: some seconds of work."""
_TOGETHER = 32
"""Objects whose sums are worked out at once."""
_STRIP = 1 << 20
"""Pixels that are worked out at once, so that a large mask takes little memory."""

Bits = NDArray[np.bool_]
Floats = NDArray[np.float32]


class Prototypes:
    """The prototypes of one picture. An object's mask is where a sum of them, weighed by its coefficients, is above 0.

    Masks end at their boxes. Between the points of the prototypes, which are coarser, sums are interpolated.
    """

    def __init__(self, prototypes: Array, fit: Fit) -> None:
        """``prototypes`` are (coefficients, height, width), and cover the model's input."""
        self._prototypes = prototypes
        self._fit = fit
        self._steps = prototypes.shape[1] / fit.image[0], prototypes.shape[2] / fit.image[1]

    def sums(self, coefficients: Array) -> Iterator[Floats]:
        """Give the sum (height, width) of each object, whose coefficients are (n, c)."""
        number, *size = self._prototypes.shape
        flat = self._prototypes.reshape(number, -1).astype(np.float32, copy=False)
        for start in range(0, len(coefficients), _TOGETHER):
            part = coefficients[start : start + _TOGETHER].astype(np.float32, copy=False)
            yield from (part @ flat).reshape(-1, *size)

    def polygon(self, sums: Floats, box: Array) -> Array:
        """Give the outline (k, 2; x, y) in the picture's pixels; no points where the mask has no pixel.

        ``box`` is x1, y1, x2, y2 in the model's input, in whose pixels the mask is drawn. Holes are left out; parts
        that lie apart are joined by lines.
        """
        import cv2

        rows, columns = _pixels(box, self._fit.image)
        down, across = (_middles(side, step) for side, step in zip((rows, columns), self._steps, strict=True))
        bits = (_at(sums, down, across) > 0).astype(np.uint8)
        if not bits.any():
            return np.zeros((0, 2))
        corner = (columns.start, rows.start)
        outlines, _ = cv2.findContours(bits, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
        return self._fit.points(joined([outline.reshape(-1, 2) for outline in outlines]))

    def runs(self, sums: Floats, box: Array) -> list[int]:
        """Give run lengths of the mask, drawn in the picture's pixels; empty where it has none.

        Column by column, first of pixels outside, then inside, and so on, as COCO has it without compression. ``box``
        is x1, y1, x2, y2 in the picture.
        """
        height, width = self._fit.picture
        rows, columns = _pixels(box, self._fit.picture)
        bits = np.zeros((len(columns), height), np.bool_)
        if bits.size and rows:
            bits[:, rows.start : rows.stop] = self._magnified(sums, rows, columns).T
        changes = np.flatnonzero(np.diff(bits.ravel(), prepend=False, append=False)) + columns.start * height
        if not changes.size:
            return []
        counts: list[int] = np.diff(changes, prepend=0, append=height * width).tolist()
        return counts if counts[-1] else counts[:-1]

    def _magnified(self, sums: Floats, rows: range, columns: range) -> Bits:
        """Give the mask at these pixels of the picture.

        Sums are interpolated twice: first so finely that the picture begins and ends at a point, then to its pixels.
        """
        fit = self._fit
        lengths = zip((rows, columns), fit.picture, fit.inner, fit.padding, self._steps, strict=True)
        finer, places = self._finer, []
        for side, whole, inner, padding, step in lengths:
            points = round(inner * step * finer)
            places.append(_middles(side, points / whole).clip(0, points - 1) + round(padding * step * finer))
        down, across = places
        first = int(down[0]), int(across[0])
        grid = ((np.arange(low, side[-1] + 2) + 0.5) / finer - 0.5 for low, side in zip(first, places, strict=True))
        finely = _at(sums, *grid)
        bits = np.empty((len(rows), len(columns)), np.bool_)
        for strip in _strips(len(rows), len(columns)):
            bits[strip] = between(finely, down[strip] - first[0], across - first[1]) > 0
        return bits

    @property
    def _finer(self) -> int:
        """How many times finer sums must be known, so that the picture's edges fall on whole points."""
        edges = zip(self._steps * 2, (*self._fit.padding, *self._fit.inner), strict=True)
        parts = [step * pixels for step, pixels in edges]
        return next((finer for finer in (1, 2) if all((part * finer).is_integer() for part in parts)), 4)


def _at(plane: Floats, down: Array, across: Array) -> Floats:
    """Interpolate as ``between`` does; what is outside is like the edge."""
    return between(plane, down.clip(0, plane.shape[0] - 1), across.clip(0, plane.shape[1] - 1))


def between(plane: Floats, down: Array, across: Array) -> Floats:
    """Interpolate a plane at these rows and columns, each from 0 to its last."""
    upper, lower, ahead = _neighbours(down, plane.shape[0])
    lines: Array = plane[upper] * (1 - ahead[:, None]) + plane[lower] * ahead[:, None]
    left, right, ahead = _neighbours(across, plane.shape[1])
    return np.asarray(lines[:, left] * (1 - ahead) + lines[:, right] * ahead, np.float32)


def check_size(boxes: Array) -> None:
    """Refusal 413 where masks within ``boxes`` (n, 4; x1, y1, x2, y2) would take far too long to draw."""
    pixels = int((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1).sum())
    if pixels > MOST_PIXELS:
        msg = (
            f"the boxes of {len(boxes)} objects have {pixels} pixels together, and this server draws masks in at most "
            f"{MOST_PIXELS}; ask for a higher conf, a lower max_det or masks=none"
        )
        raise Refusal(413, msg)


def joined(outlines: Sequence[Array]) -> Array:
    """Give one closed outline (k, 2) that goes around all of ``outlines``, on lines there and back between them.

    Each is tied to the next where they come closest. What it encloses is what they enclose.
    """
    whole = outlines[-1]
    for index in range(len(outlines) - 2, -1, -1):
        here, there = outlines[index], outlines[index + 1]
        apart = (here[:, :1] - there[:, 0]) ** 2 + (here[:, 1:] - there[:, 1]) ** 2
        leave, arrive = np.unravel_index(apart.argmin(), apart.shape)
        start = int(np.flatnonzero((whole == there[arrive]).all(axis=1))[0])
        around = np.roll(whole, -start, axis=0)
        whole = np.concatenate([here[: leave + 1], around, around[:1], here[leave:]])
    return whole


def _pixels(box: Array, size: tuple[int, int]) -> tuple[range, range]:
    """Give the rows and columns of a picture of ``size`` whose upper left corners lie within a box."""
    sides = np.nan_to_num(np.ceil(box)).clip(0, [size[1], size[0]] * 2)
    left, top, right, bottom = map(int, sides.tolist())
    return range(top, max(bottom, top)), range(left, max(right, left))


def _middles(pixels: range, step: float) -> Array:
    """Give where the middles of pixels lie among points, of which there are ``step`` for each pixel."""
    return (np.arange(pixels.start, pixels.stop) + 0.5) * step - 0.5


def _neighbours(places: Array, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Give, of places along an axis, the points before and after each, and how far it lies from the first."""
    before = places.astype(np.intp)
    return before, np.minimum(before + 1, size - 1), (places - before).astype(np.float32)


def _strips(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _STRIP // width)
    return (slice(start, start + step) for start in range(0, rows, step))
