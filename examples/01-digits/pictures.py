"""The 1,797 handwritten digits that scikit-learn ships, as folders of 32x32 PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

GOLDEN_EVERY = 5
"""Every fifth picture is golden: frozen, and never trained on."""


LIVE_IS = 2
"""Of every five, the one that a live camera sees, where there is one: neither trained on nor measured on."""


def write(folder: Path, *, live: bool = False) -> tuple[Path, Path]:
    """Write ``train`` and ``golden`` folders below ``folder``, a folder per class, and give both.

    With ``live`` a fifth of the pictures goes into a third folder of that name instead of into ``train``.

    The pictures are 8x8 with 17 shades; they are enlarged to 32x32. The split is by position, so it is the same on
    every machine. scikit-learn does not say who wrote which digit: golden holds other pictures, not other writers.
    """
    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        part = "golden" if index % GOLDEN_EVERY == 0 else "train"
        if live and index % GOLDEN_EVERY == LIVE_IS:
            part = "live"
        target = folder / part / str(label)
        target.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray((pixels * (255.0 / 16.0)).astype(np.uint8))
        small.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB").save(target / f"{index:04d}.png")
    return folder / "train", folder / "golden"
