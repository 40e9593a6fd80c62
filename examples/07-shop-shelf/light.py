"""The light in a shop: what dimming does to a picture, computed, since no camera is at hand."""

from __future__ import annotations

import numpy as np
from camera import Pixels

SHADOW = 0.3
"""Of the light that is left, how much more the right edge loses: a shelf's own shadow."""
NOISE = 0.05
"""Standard deviation of the noise of a camera without any light; in good light there is none."""


def dimmed(pixels: Pixels, missing: float, chance: np.random.Generator) -> Pixels:
    """Take away a share of the light, more to the right, and add a dark camera's noise.

    ``missing`` is from 0, which changes nothing, to 1.
    """
    if missing <= 0:
        return pixels
    height, width = pixels.shape[:2]
    shadow = 1.0 - missing * SHADOW * np.linspace(0.0, 1.0, width)[None, :, None]
    noise = chance.normal(0.0, NOISE * missing, (height, width))[..., None]
    light = pixels / 255.0 * (1.0 - missing) * shadow + noise
    seen: Pixels = (np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8)
    return seen
