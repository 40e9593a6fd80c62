"""Finds pictures that show the same, although their bytes differ: encoded again, resized, cropped a little, brightened.

Two steps. A picture's slowest waves (the signs of the first coefficients of its cosine transform) name a drawer; what
lies in one drawer may be alike. Then two small thumbnails are laid over each other, moved and stretched a little,
brightness and contrast evened out: what remains must be next to nothing of the detail that they have. So two people's
handwritten sevens stay two pictures, and a copy is found. Mirrored and turned copies are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Pixels of a thumbnail's side."""
COLOURS = 8
"""Likewise of its colours: they need no more."""

_MOST_LEFT, _MOST_SPOT = 0.05, 0.3
"""What may remain of the detail: as standard deviation, and at the worst spot. Among the 1,797 digits of scikit-learn,
the two that are most alike leave 0.062; of a photograph that was encoded again, halved or cropped by a pixel, 95 of 100
leave less than 0.04."""
_MOST_AT_FIRST = 0.15
"""Where the first, rough fit leaves more than that, no better one is looked for."""
_LEAST_DETAIL = 3.0
"""Shades; a picture with less, its slope from side to side taken away, is as good as blank and is like no other."""
_MOST_COLOUR, _MOST_COLOUR_SPOT = 5.0, 16.0
"""Shades by which the colours may differ, as above."""
_MOST_MOVED = 0.03 * SIDE
_GAIN = (0.6, 1.7)
_MOST_SHAPE = 0.08
"""By how much width / height may differ, as logarithm."""
_STEPS = 3
_EDGE = 2
"""Pixels at the edge that are left out: what was cropped away has no counterpart."""

_WAVES, _UNSURE = 20, 4
"""Signs that name a drawer; of those that are closest to zero, either is taken."""
_LEAST_LIKE = 0.95
"""Cosine between the waves of two pictures that are worth a closer look."""
_NEIGHBOURS = 16
"""Pictures of a crowded drawer that each one is compared with, in the order of the slowest wave."""
_AT_ONCE = 512

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Looks:
    """What many pictures look like, small: an index is a picture."""

    light: NDArray[np.uint8]
    """Shape (n, 32, 32)."""
    colour: NDArray[np.uint8]
    """Blue and red difference, 128 where there is no colour; shape (n, 8, 8, 2)."""
    shape: Floats
    """Width divided by height; 0 where there is no picture. Shape (n,)."""

    @classmethod
    def on_disk(cls, folder: Path, count: int) -> Looks:
        """Make room for so many pictures in files below ``folder``: 1.2 kB each, which need not stay in memory."""
        return cls(
            _file(folder / "light", (count, SIDE, SIDE)), _file(folder / "colour", (count, COLOURS, COLOURS, 2)),
            np.zeros(count, np.float32),
        )  # fmt: skip


def _file(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if not shape[0]:
        return np.zeros(shape, np.uint8)
    return np.memmap(path, np.uint8, "w+", shape=shape)


def find(looks: Looks, trained: int, known: Numbers) -> tuple[Numbers, Numbers]:
    """Give (twin within its own set, twin in the training data) of each picture, -1 where it has none.

    The first ``trained`` pictures are training data, the others golden. A picture's twin in its own set comes before
    it. ``known`` is what is known of the latter already; such pictures are not looked for again.
    """
    own, leaked = np.full(len(looks.shape), -1, np.int64), known.copy()
    waves, detail = _waves(looks)
    usable = np.flatnonzero((looks.shape > 0) & (detail >= _LEAST_DETAIL))
    for first, second in _candidates(looks, waves, usable, trained, own, leaked):
        same = _same(looks, detail, first, second)
        for one, other in zip(first[same].tolist(), second[same].tolist(), strict=True):
            across = one < trained <= other
            twin = leaked if across else own
            if twin[other] < 0:
                twin[other] = one
    return own, leaked


def _candidates(
    looks: Looks, waves: Floats, usable: Numbers, trained: int, own: Numbers, leaked: Numbers
) -> Iterator[tuple[Numbers, Numbers]]:
    """Give pairs that are worth a closer look, none twice, of pictures whose second one still has no twin there.

    Neighbours in a drawer come first, so that in a film, where all frames are alike, hardly any others are looked at.
    """
    drawer, owner = _drawers(waves, usable)
    tried = np.zeros(0, np.int64)
    for distance in range(1, _NEIGHBOURS + 1):
        together = np.flatnonzero(drawer[distance:] == drawer[:-distance])
        if not together.size:
            return
        ends = np.stack([owner[together], owner[together + distance]])
        pairs = np.setdiff1d(ends.min(0) * len(waves) + ends.max(0), tried)
        first, second = pairs // len(waves), pairs % len(waves)
        across = (first < trained) & (second >= trained)
        open_ = np.where(across, leaked[second], own[second]) < 0
        open_ &= np.abs(np.log(looks.shape[first] / looks.shape[second])) <= _MOST_SHAPE
        first, second, pairs = first[open_], second[open_], pairs[open_]
        like = np.concatenate([
            np.einsum("nw,nw->n", waves[first[at]], waves[second[at]]) for at in _slices(len(first), 64 * _AT_ONCE)
        ] or [np.zeros(0, np.float32)]) >= _LEAST_LIKE  # fmt: skip
        tried = np.union1d(tried, pairs[like])
        yield first[like], second[like]


def _drawers(waves: Floats, usable: Numbers) -> tuple[Numbers, Numbers]:
    """Give (drawer, picture) of every picture in all the drawers it lies in, sorted by drawer, then by slowest wave."""
    chosen = waves[usable]
    sure = (chosen > 0).astype(np.int64) @ (1 << np.arange(_WAVES))
    unsure = 1 << np.argsort(np.abs(chosen), axis=1, kind="stable")[:, :_UNSURE].astype(np.int64)
    flips = [unsure @ np.array([number >> bit & 1 for bit in range(_UNSURE)]) for number in range(1 << _UNSURE)]
    drawer = np.concatenate([sure ^ flip for flip in flips])
    owner = np.tile(usable, len(flips))
    order = np.lexsort((owner, waves[owner, 0], drawer))
    return drawer[order], owner[order]


def _waves(looks: Looks) -> tuple[Floats, Floats]:
    """Give the slowest waves of every picture, of length 1, shape (n, 20), and how much detail it has, shape (n,)."""
    waves = np.zeros((len(looks.shape), _WAVES), np.float32)
    detail = np.zeros(len(looks.shape), np.float32)
    for at in _slices(len(looks.shape), _AT_ONCE):
        level = _level(_soft(looks.light[at]))
        detail[at] = level.std((1, 2))
        found = np.einsum("ki,nij,lj->nkl", _COSINES, level, _COSINES, optimize=True)[:, _SLOWEST[0], _SLOWEST[1]]
        waves[at] = found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-6)
    return waves, detail


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _same(looks: Looks, detail: Floats, first: Numbers, second: Numbers) -> NDArray[np.bool_]:
    """Whether pairs of pictures show the same; shape (pairs,)."""
    found = np.zeros(len(first), bool)
    for at in _slices(len(first), _AT_ONCE):
        least = np.minimum(detail[first[at]], detail[second[at]])
        left, share = _fitted(_soft(looks.light[first[at]]), _soft(looks.light[second[at]]), slopes=True)
        near = np.flatnonzero(left.std(1) <= _MOST_AT_FIRST * least)
        found[at.start + near] = _surely(looks, least[near], first[at][near], second[at][near], share[near])
    return found


def _surely(looks: Looks, least: Floats, first: Numbers, second: Numbers, share: Floats) -> NDArray[np.bool_]:
    left, gain = _laid_over(_soft(looks.light[first]), _soft(looks.light[second]), share)
    colour = _tint(looks.colour[first]) - gain[:, None, None, None] * _tint(looks.colour[second])
    return np.asarray(
        (left.std(1) <= _MOST_LEFT * least) & (np.abs(left).max(1) <= _MOST_SPOT * least)
        & (gain >= _GAIN[0]) & (gain <= _GAIN[1])
        & (np.sqrt((colour**2).mean((1, 2, 3))) <= _MOST_COLOUR)
        & (np.abs(colour).max((1, 2, 3)) <= _MOST_COLOUR_SPOT)
    )  # fmt: skip


def _tint(colour: NDArray[np.uint8]) -> Floats:
    return colour.astype(np.float32) - 128


def _laid_over(one: Floats, other: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Move, stretch, brighten ``other`` until it fits ``one`` best; give what remains, and the gain.

    Gauss and Newton's way: near the best place, a picture changes by its slopes. ``share`` is where the first step
    leads. Shapes (pairs, pixels) and (pairs,).
    """
    moved = np.zeros((len(one), 4), np.float32)
    there = other
    for _ in range(_STEPS):
        moved = np.clip(moved + share[:, 2:] / np.clip(share[:, :1], *_GAIN), -_MOST_MOVED, _MOST_MOVED)
        there = _moved(other, moved)
        _, share = _fitted(one, there, slopes=True)
    left, share = _fitted(one, there, slopes=False)
    return left, share[:, 0]


def _fitted(one: Floats, other: Floats, *, slopes: bool) -> tuple[Floats, Floats]:
    """Make ``one`` of ``other``, of evenly bright ground and, maybe, of the slopes of ``other``, by least squares.

    Gives what remains, and the share of each: gain, ground, how far to move right and down, how far to stretch.
    """
    pairs = len(one)
    parts: list[Floats] = [other, np.ones_like(other)]
    if slopes:
        down, right = np.gradient(other, axis=(1, 2))
        parts += [np.asarray(slope, np.float32) for slope in (right, down, right * _ACROSS, down * _DOWN)]
    basis = np.stack([part[_INNER].reshape(pairs, _PIXELS_INSIDE) for part in parts], axis=1)
    wanted = one[_INNER].reshape(pairs, _PIXELS_INSIDE)
    normal = basis @ basis.transpose(0, 2, 1) + 1e-3 * basis.shape[2] * np.eye(len(parts), dtype=np.float32)
    share = np.linalg.solve(normal, basis @ wanted[:, :, None])[..., 0]
    return wanted - np.einsum("np,npi->ni", share, basis), share


def _moved(pictures: Floats, moved: Floats) -> Floats:
    """Give the pictures moved by (right, down) and stretched by (wide, high) pixels at the edge, between pixels too."""
    across = _between(moved[:, 0:1] + moved[:, 2:3] * _ALONG)
    down = _between(moved[:, 1:2] + moved[:, 3:4] * _ALONG)
    return np.asarray(down @ pictures @ across.transpose(0, 2, 1), np.float32)


def _between(moved: Floats) -> Floats:
    """Give the matrices that read a row at other places, shape (n, 32) from where it is; shape (n, 32, 32)."""
    places = np.clip(_PIXELS + moved, 0, SIDE - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, :, None] - _PIXELS)), np.float32)


def _soft(light: NDArray[np.uint8]) -> Floats:
    """Blur a little, so that a slope says where the next pixel is going; shape (n, 32, 32)."""
    return np.asarray(np.einsum("ik,nkl,jl->nij", _BLUR, light.astype(np.float32), _BLUR, optimize=True), np.float32)


def _level(pictures: Floats) -> Floats:
    """Take away brightness and the slope from side to side: any two skies have those in common."""
    flat = pictures.reshape(len(pictures), -1)
    return np.asarray((flat - (flat @ _PLANE) @ _PLANE.T).reshape(pictures.shape), np.float32)


def _blur(width: float) -> Floats:
    """Give the matrix that blurs a row; the pixel at the edge goes on beyond it."""
    reach = int(2 * width + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    made = np.zeros((SIDE, SIDE), np.float32)
    for row in range(SIDE):
        np.add.at(made[row], np.clip(np.arange(row - reach, row + reach + 1), 0, SIDE - 1), weights / weights.sum())
    return made


def _slowest() -> tuple[list[int], list[int]]:
    """Give (down, across) of the slowest waves, slowest first, without those that _level takes away."""
    order = sorted((k * k + m * m, k, m) for k in range(7) for m in range(7) if (k, m) not in {(0, 0), (0, 1), (1, 0)})
    return [k for _, k, _ in order[:_WAVES]], [m for _, _, m in order[:_WAVES]]


_PIXELS = np.arange(SIDE, dtype=np.float32)
_ALONG: Floats = np.linspace(1 / SIDE - 1, 1 - 1 / SIDE, SIDE, dtype=np.float32)
"""From -1 at one edge to 1 at the other."""
_DOWN, _ACROSS = np.meshgrid(_ALONG, _ALONG, indexing="ij")
_INNER: Any = (slice(None), slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
_PIXELS_INSIDE = (SIDE - 2 * _EDGE) ** 2
_BLUR = _blur(1.5)
_SLOWEST = _slowest()
_COSINES = np.cos(np.pi * np.arange(7)[:, None] * (np.arange(SIDE) + 0.5) / SIDE).astype(np.float32)
_PLANE: Floats = np.linalg.qr(np.stack([np.ones(SIDE * SIDE), _ACROSS.ravel(), _DOWN.ravel()], 1))[0].astype(np.float32)
