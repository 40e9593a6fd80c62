"""Uploaded pictures, good and hostile."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support import onnx_models
from tests.support.refusals import attempt
from workloads.serve import images
from workloads.serve.answers import Refusal

PIXELS = 1_000_000
pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """Give a picture of one colour; ``size`` is (width, height)."""
    stream = io.BytesIO()
    Image.new(mode, size, 200 if mode in {"L", "P", "1"} else tuple([200] * len(mode))).save(stream, kind, **options)
    return stream.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """Give a small PNG file that says it has that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_formats(kind: str) -> None:
    """Each format that a data set may hold is read as RGB."""
    picture = images.decode(encoded(kind), max_pixels=PIXELS)
    assert picture.shape == (30, 40, 3)
    assert picture.dtype == np.uint8
    assert abs(int(picture.mean()) - 200) <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_modes_become_rgb(mode: str) -> None:
    """Grey, transparent and palette pictures become three channels."""
    assert images.decode(encoded("PNG", mode), max_pixels=PIXELS).shape == (30, 40, 3)


def test_exif_orientation() -> None:
    """A picture taken with the camera on its side is turned upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.decode(encoded("JPEG", exif=exif), max_pixels=PIXELS).shape == (40, 30, 3)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        pytest.param(10_000, 10_000, id="100-megapixels"),
        pytest.param(60_000, 60_000, id="beyond-pillows-own-limit"),
        pytest.param(1001, 1000, id="just-above"),
    ],
)
def test_pixel_limit_reads_only_the_header(width: int, height: int) -> None:
    """A picture with too many pixels is refused with 413, although its pixels could not even be decoded."""
    with pytest.raises(Refusal) as caught:
        images.decode(huge_png(width, height), max_pixels=PIXELS)
    assert caught.value.status == 413
    assert str(PIXELS) in caught.value.message


def test_pixel_limit_is_inclusive() -> None:
    """A picture of exactly the limit is taken."""
    assert images.decode(encoded("PNG", size=(1000, 1000)), max_pixels=PIXELS).shape == (1000, 1000, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_cut_off_pictures(kind: str, share: float) -> None:
    """A picture that ends too early is refused with 400, never completed with invented pixels."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind)
    data = stream.getvalue()
    with pytest.raises(Refusal) as caught:
        images.decode(data[: int(len(data) * share)], max_pixels=PIXELS)
    assert caught.value.status == 400


@given(st.data())
def test_damaged_pictures(data: st.DataObject) -> None:
    """Flipped bytes give a picture or a refusal with 400 or 413; nothing else is ever raised."""
    picture = bytearray(data.draw(st.sampled_from([encoded(kind) for kind in images.FORMATS])))
    for _ in range(data.draw(st.integers(1, 8))):
        picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
    answer = attempt(lambda: images.decode(bytes(picture), max_pixels=PIXELS))
    assert not isinstance(answer, Refusal) or answer.status in {400, 413}


def form(*parts: tuple[str, bytes], boundary: str = "xyz") -> bytes:
    """Give a multipart body of (header, content)."""
    blocks = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts]
    return b"".join(blocks) + f"--{boundary}--\r\n".encode()


FILE = 'Content-Disposition: form-data; name="picture"; filename="a.png"'
FIELD = 'Content-Disposition: form-data; name="note"'


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"PICTURE", "image/png", id="raw"),
        pytest.param(b"PICTURE", "application/octet-stream", id="octets"),
        pytest.param(form((FILE, b"PICTURE")), "multipart/form-data; boundary=xyz", id="form"),
        pytest.param(form((FILE, b"PICTURE")), 'Multipart/Form-Data; Boundary="xyz"', id="quoted-boundary"),
        pytest.param(form((FIELD, b"hi"), (FILE, b"PICTURE")), "multipart/form-data; boundary=xyz", id="after-field"),
        pytest.param(b"preamble\r\n" + form((FILE, b"PICTURE")), "multipart/form-data; boundary=xyz", id="preamble"),
        pytest.param(form(("Content-Type: image/png", b"PICTURE")), "multipart/form-data; boundary=xyz", id="by-type"),
    ],
)
def test_where_the_picture_is(body: bytes, content_type: str) -> None:
    """A picture is the body, or the first file of a form."""
    assert images.picture_in(body, content_type) == b"PICTURE"


def test_file_content_is_not_touched() -> None:
    """Bytes that look like line ends or half a boundary stay in the file."""
    content = b"\r\n--xy\r\n\x00\xff\r\n\r\n--"
    assert images.picture_in(form((FILE, content)), "multipart/form-data; boundary=xyz") == content


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(b"x", "application/json", 415, id="json"),
        pytest.param(b"x", "", 415, id="no-type"),
        pytest.param(b"", "image/png", 400, id="empty"),
        pytest.param(form((FILE, b"x")), "multipart/form-data", 400, id="no-boundary"),
        pytest.param(form((FIELD, b"x")), "multipart/form-data; boundary=xyz", 400, id="no-file"),
        pytest.param(form((FILE, b"x"))[:-12], "multipart/form-data; boundary=xyz", 400, id="cut-off"),
        pytest.param(b"nothing here", "multipart/form-data; boundary=xyz", 400, id="no-form"),
    ],
)
def test_no_picture(body: bytes, content_type: str, status: int) -> None:
    """What holds no picture is refused."""
    with pytest.raises(Refusal) as caught:
        images.picture_in(body, content_type)
    assert caught.value.status == status


@given(st.lists(st.sampled_from([b"--xyz", b"\r\n", b"--", FILE.encode(), b"abc", b"\r\n\r\n"]), max_size=12))
def test_any_form(pieces: list[bytes]) -> None:
    """Pieces of a form in any order end with a file or a refusal with 400."""
    answer = attempt(lambda: images.picture_in(b"".join(pieces), "multipart/form-data; boundary=xyz"))
    assert isinstance(answer, bytes) or answer.status == 400


def test_noise_is_no_picture() -> None:
    """Bytes of no known format are refused, with the formats that are."""
    with pytest.raises(Refusal, match="JPEG, PNG"):
        images.decode(onnx_models.classifier(), max_pixels=PIXELS)
