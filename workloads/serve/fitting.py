"""How a picture lies in the model's input, and the way back for everything that was found there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from workloads.serve.tensors import Array


@dataclass(frozen=True)
class Fit:
    """A picture that was scaled to fit and padded on all sides, as preprocessing does. Sizes are (height, width)."""

    picture: tuple[int, int]
    image: tuple[int, int]
    """Of the model's input."""
    inner: tuple[int, int]
    """Of the picture within it, in whole pixels."""
    padding: tuple[int, int]
    """Above it and to its left."""

    @classmethod
    def of(cls, image: tuple[int, int], picture: tuple[int, int]) -> Self:
        """Work out where the picture lies."""
        gain = min(image[0] / picture[0], image[1] / picture[1])
        inner = max(round(picture[0] * gain), 1), max(round(picture[1] * gain), 1)
        padding = round((image[0] - inner[0]) / 2 - 0.1), round((image[1] - inner[1]) / 2 - 0.1)
        return cls(picture, image, inner, padding)

    @property
    def gains(self) -> tuple[float, float]:
        """Pixels of the input for one of the picture, down and across: each by its own, for each side was rounded."""
        return self.inner[0] / self.picture[0], self.inner[1] / self.picture[1]

    def points(self, points: Array) -> Array:
        """Carry points (…, 2; x, y) of the input to the picture, those outside to its edge."""
        return np.clip(self.centres(points), 0, [self.picture[1], self.picture[0]])

    def centres(self, points: Array) -> Array:
        """Carry points (…, 2; x, y) of the input to the picture, and beyond where they lie outside."""
        down, across = self.gains
        top, left = self.padding
        moved: Array = (points.astype(np.float64) - [left, top]) / [across, down]
        return moved

    def lengths(self, lengths: Array) -> Array:
        """Carry widths and heights (…, 2)."""
        down, across = self.gains
        scaled: Array = lengths.astype(np.float64) / [across, down]
        return scaled

    def boxes(self, boxes: Array) -> Array:
        """Carry boxes (n, 4; x1, y1, x2, y2), clipped to the picture."""
        return self.points(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
