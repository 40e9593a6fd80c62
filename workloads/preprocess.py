"""From an encoded picture to the tensor a model expects, exactly as Ultralytics does it, without torch.

The server imports this. classify: the shortest side is resized to the model's, then the centre is cropped; all other
tasks: resized to fit, and padded with grey. cv2 is only imported for the latter.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from specs.modelspec import Task

MAX_PIXELS = 64_000_000
GREY = 114

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode a picture to RGB uint8 of shape (H, W, 3), upright by its EXIF orientation.

    ValueError where it is no picture, is broken, or has more than ``max_pixels`` (seen before anything is decoded).
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                msg = f"the picture has {image.width} x {image.height} pixels; at most {max_pixels} are accepted"
                raise ValueError(msg)
            upright = _coloured(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ImportError) as error:
        # ImportError: once Ultralytics is imported, Image.open looks for a plugin before it gives up
        msg = f"not a readable picture: {error}"
        raise ValueError(msg) from error
    return np.asarray(upright)


def _coloured(image: Image.Image) -> Image.Image | Pixels:
    """Give a picture in RGB, rounded as OpenCV does, which reads pictures for Ultralytics."""
    if image.mode.startswith("I;16"):
        high = np.asarray(image) >> 8  # Pillow would cut off what is above 255
        return np.repeat(high.astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "CMYK":
        ink = np.asarray(image, np.uint16)
        light = 255 - ink[:, :, 3:]
        return (light - (ink[:, :, :3] * light >> 8)).astype(np.uint8)
    return image.convert("RGB")


def preprocess(image: Pixels, task: Task, image_size: tuple[int, int]) -> Tensor:
    """Make a float32 tensor of shape (1, 3, H, W) with values 0..1 from RGB uint8 of shape (h, w, 3)."""
    fitted = _crop(image, image_size) if task == "classify" else letterbox(image, image_size)[0]
    planes = np.ascontiguousarray(fitted.transpose(2, 0, 1)[None])
    return planes.astype(np.float32) / np.float32(255)


def _crop(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize so that a square of the model's size just fits, and cut out the middle; other shapes are stretched."""
    height, width = size
    picture = Image.fromarray(image)
    if height == width:
        short, long = sorted(picture.size)
        stretched = int(height * long / short)
        target = (height, stretched) if picture.width <= picture.height else (stretched, height)
    else:
        target = (width, height)
    if picture.size != target:
        picture = picture.resize(target, Image.Resampling.BILINEAR)
    left, top = round((picture.width - width) / 2), round((picture.height - height) / 2)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


def letterbox(image: Pixels, size: tuple[int, int]) -> tuple[Pixels, float, tuple[int, int]]:
    """Resize to fit into ``size`` (height, width) and pad with grey all round.

    Gives the picture, the scale (new over old), and the padding (left, top) in pixels: what is needed to carry boxes
    back to the original.
    """
    import cv2

    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    across, down = (size[1] - inner[0]) / 2, (size[0] - inner[1]) / 2
    left, top = round(across - 0.1), round(down - 0.1)
    right, bottom = round(across + 0.1), round(down + 0.1)
    resized: Any = image if (width, height) == inner else cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    padded = cv2.copyMakeBorder(resized, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    return np.asarray(padded, dtype=np.uint8), scale, (left, top)
