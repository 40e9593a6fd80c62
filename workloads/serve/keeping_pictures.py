"""Kept pictures' bytes: as they were sent, or with regions made unreadable before anything is written."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image

from specs.monitoring import Region
from workloads import preprocess

_BEGINNINGS = (
    (b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"), (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"), (b"MM\0*", "image/tiff"),
)  # fmt: skip
_CELLS, _CELL = 8, 8
"""A blurred region keeps at most 8 x 8 colours, each the mean of at least 8 x 8 pixels: nothing can be read from it."""


def prepare(picture: bytes, size: tuple[int, int], blur: Sequence[Region] | None) -> tuple[bytes, str]:
    """Give the bytes to keep, and their content type (one of ``specs.kept_records.MEDIA``).

    Without ``blur`` they are what was sent. With it, even an empty one, the picture is encoded anew as PNG, held
    upright, without EXIF, which may tell where it was taken. ``size`` is its (height, width).
    """
    kind = _kind(picture)
    if blur is None and kind:
        return picture, kind
    image = Image.fromarray(preprocess.decode(picture, size[0] * size[1]))
    for region in blur or ():
        _hide(image, region)
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1)  # a fifth of the time of the usual level
    return target.getvalue(), "image/png"


def _kind(picture: bytes) -> str:
    """Tell by the bytes: what a client said about them may be wrong. Empty for what is none of them."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for beginning, kind in _BEGINNINGS if picture.startswith(beginning)), "")


def _hide(image: Image.Image, region: Region) -> None:
    """Replace a region, rounded outwards to whole pixels, by a coarse average of itself."""
    left, top = math.floor(region.left * image.width), math.floor(region.top * image.height)
    right, bottom = math.ceil(region.right * image.width), math.ceil(region.bottom * image.height)
    part = image.crop((left, top, right, bottom))
    across, down = (max(1, min(_CELLS, side // _CELL)) for side in part.size)
    blurred = part.resize((across, down), Image.Resampling.BOX).resize(part.size, Image.Resampling.BILINEAR)
    image.paste(blurred, (left, top))
