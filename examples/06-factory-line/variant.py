"""A new variant of a product: the same digits, leaning and thinner. Computed from real ones; nobody wrote them so."""

from __future__ import annotations

import numpy as np
from camera import Pixels
from PIL import Image, ImageFilter

DEGREES = 18.0
"""Counter-clockwise."""
THINNER = 3
"""Each pixel becomes the darkest of so many in a row and column, which takes away from strokes."""


def new_variant(pixels: Pixels) -> Pixels:
    """Turn a digit and thin its strokes."""
    picture = Image.fromarray(pixels).rotate(DEGREES, Image.Resampling.BILINEAR)
    return np.asarray(picture.filter(ImageFilter.MinFilter(THINNER)))
