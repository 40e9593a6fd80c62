"""Uploaded pictures: found in the request, judged by their header, decoded only then."""

from __future__ import annotations

import io
import re
import struct
import zlib
from email.parser import BytesHeaderParser

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from specs.records import ArtifactRecord
from workloads import preprocess
from workloads.serve.answers import Refusal
from workloads.serve.tensors import DATATYPES, Array

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError,
    AttributeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
"""What decoders raise for broken files."""


def decode(data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """Give a picture as RGB, uint8, shape (height, width, 3), turned as its EXIF orientation says.

    Raises Refusal 413 for more than ``max_pixels`` (told by the header, before any memory is spent on them), 400
    for what is no picture, or one that is cut off or broken.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
        if width * height > max_pixels:
            msg = (
                f"the picture has {width} x {height} = {width * height} pixels; "
                f"this server takes at most {max_pixels} (--max-pixels)"
            )
            raise Refusal(413, msg)
        # The same decoder that made the self-tests; no second opinion on colours and orientation.
        return preprocess.decode(data, max_pixels)
    except Image.DecompressionBombError as error:
        raise Refusal(413, f"the picture has far more than {max_pixels} pixels; send a smaller one") from error
    except (UnidentifiedImageError, ImportError) as error:
        # ImportError: where Ultralytics was imported, Image.open looks for a plugin before it gives up.
        msg = f"the body is no picture that this server reads ({', '.join(FORMATS)})"
        raise Refusal(400, msg) from error
    except _BROKEN as error:
        raise Refusal(400, f"the picture is cut off or broken: {error}") from error


def prepared(
    data: bytes, artifact: ArtifactRecord, datatype: str, max_pixels: int
) -> tuple[tuple[int, int], Array]:
    """Give a picture's (height, width), and the input of a model that takes ``datatype``: shape (1, 3, H, W).

    Raises what ``decode`` does.
    """
    image = decode(data, max_pixels=max_pixels)
    tensor = preprocess.preprocess(image, artifact.task, artifact.image_size)
    return (image.shape[0], image.shape[1]), tensor.astype(DATATYPES[datatype], copy=False)


def picture_in(body: bytes, content_type: str) -> bytes:
    """Give the picture's encoded bytes: the body itself, or the first file of a multipart form.

    Raises Refusal 415 for other content types, 400 where there is no picture.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        body = _first_file(body, content_type)
    elif not kind.startswith("image/") and kind != "application/octet-stream":
        msg = f"content type {kind or 'missing'!r} is no picture; send image/*, or multipart/form-data with a file"
        raise Refusal(415, msg)
    if not body:
        raise Refusal(400, "the picture is empty")
    return body


def _first_file(body: bytes, content_type: str) -> bytes:
    found = re.search(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', content_type, re.IGNORECASE)
    if found is None:
        raise Refusal(400, "the form's content type names no boundary")
    mark = b"--" + (found[1] or found[2]).encode("utf-8", "surrogateescape")
    start = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    while start != 1 and not body.startswith(b"--", start + len(mark)):
        start += len(mark)
        end = body.find(b"\r\n" + mark, start)
        if end < 0:
            break
        head, blank, content = body[start:end].partition(b"\r\n\r\n")
        if blank and _is_file(head):
            return content
        start = end + 2
    raise Refusal(400, "the form has no complete file part; send the picture as a file")


def _is_file(head: bytes) -> bool:
    part = BytesHeaderParser().parsebytes(head.lstrip(b" \t\r\n") + b"\r\n\r\n")
    return part.get_filename() is not None or part.get_content_maintype() == "image"
