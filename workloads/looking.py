"""Looks at one encoded picture: whether the trainer will take it, how large it is, what it looks like from afar."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from workloads.alike import COLOURS, SIDE

LEAST_SIDE = 10
"""Pixels; Ultralytics takes no smaller pictures."""
MOST_PIXELS = 178_956_970
"""Where Pillow, and so Ultralytics, takes a picture for a decompression bomb."""

_ALONE = 8_000_000
"""Pictures with more pixels are decoded one at a time, so that memory does not grow with the number of threads."""
_TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

Opener = Callable[[io.BytesIO], Image.Image]
_OPENERS: tuple[tuple[bytes, int, Opener], ...] = (
    (b"\xff\xd8\xff", 0, JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", 0, PngImagePlugin.PngImageFile),
    (b"WEBP", 8, WebPImagePlugin.WebPImageFile),
    (b"BM", 0, BmpImagePlugin.BmpImageFile),
    (b"II*\x00", 0, TiffImagePlugin.TiffImageFile),
    (b"MM\x00*", 0, TiffImagePlugin.TiffImageFile),
)
"""First bytes, where they stand, and what reads such files. Whatever else Pillow reads, the trainer may not, and some
of it hands bytes to other programs."""
_alone = threading.Lock()
_ADDRESS = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")


class Unusable(Exception):
    """The trainer would not take this picture. The text says why and what to do."""


@dataclass(frozen=True)
class Look:
    """A picture that can be used."""

    width: int
    height: int
    """Pixels, upright."""
    light: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    """As in ``workloads.alike.Looks``."""


def look(data: bytes) -> Look:
    """Decode a picture to its last byte. Unusable where that fails, or where Ultralytics would leave it out."""
    picture = _opened(data)
    width, height = picture.size
    if min(width, height) < LEAST_SIDE:
        raise Unusable(f"is {width} × {height} pixels; the trainer takes none under {LEAST_SIDE}: enlarge or remove it")
    if width * height > MOST_PIXELS:
        raise Unusable(f"is {width} × {height} pixels; at most {MOST_PIXELS} are decoded: divide it or make it smaller")
    picture.draft("RGB", (4 * SIDE, 4 * SIDE))  # JPEG is decoded whole, but only as large as is needed
    with _alone if picture.width * picture.height > _ALONE else nullcontext():
        small = _decoded(picture, data)
    turned = _orientation(picture) in _TURNED
    blue_red = small.resize((COLOURS, COLOURS), Image.Resampling.BOX)
    return Look(
        height if turned else width, width if turned else height,
        np.asarray(small)[..., 0], np.asarray(blue_red)[..., 1:],
    )  # fmt: skip


def show(data: bytes, side: int) -> Image.Image:
    """Give a picture that ``look`` found usable upright, in RGB, no smaller than ``side`` where it is larger than that.

    Which pixels are used is the same as in training: the first of several pictures, no transparency.
    """
    picture = _opened(data)
    picture.draft("RGB", (side, side))
    _upright(picture)
    return _rgb(picture)


def _opened(data: bytes) -> Image.Image:
    if not data:
        raise Unusable("is empty; remove or replace it")
    for start, at, opener in _OPENERS:
        if data[at : at + len(start)] == start:
            return _trying(partial(opener, io.BytesIO(data)))
    raise Unusable("is no JPEG, PNG, WebP, BMP or TIFF, whatever its name says; convert, replace or remove it")


def _trying(work: Callable[[], Image.Image]) -> Image.Image:
    """Do what may fail in as many ways as files can be broken."""
    try:
        return work()
    except MemoryError:
        raise
    except Exception as error:
        said = _ADDRESS.sub("it", str(error))[:200] or type(error).__name__
        raise Unusable(f"cannot be decoded: {said}; it may be cut off or damaged: replace or remove it") from error


def _decoded(picture: Image.Image, data: bytes) -> Image.Image:
    def decode() -> Image.Image:
        if picture.format == "PNG":
            _opened(data).verify()  # loading does not look at checksums
        picture.load()
        small = _rgb(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
        small.getexif()[274] = _orientation(picture)
        return ImageOps.exif_transpose(small).convert("YCbCr")

    return _trying(decode)


def _rgb(picture: Image.Image) -> Image.Image:
    """Give the colours that are trained on; of 16 bits the upper 8."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _orientation(picture: Image.Image) -> int:
    try:
        found = picture.getexif().get(274, 1)
    except Exception:  # noqa: BLE001 - broken EXIF says nothing, to the trainer either
        return 1
    return found if isinstance(found, int) else 1


def _upright(picture: Image.Image) -> None:
    if _orientation(picture) != 1:
        ImageOps.exif_transpose(picture, in_place=True)
