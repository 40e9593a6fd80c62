"""One encoded picture: taken where Ultralytics takes it, refused with a reason where it would leave it out."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.datasets import encoded, photographs
from workloads.looking import MOST_PIXELS, Unusable, look, show

PHOTO = photographs()[0].resize((200, 120))
TURNED = Image.Exif()
TURNED[274] = 6


def header(width: int, height: int) -> bytes:
    """Give a PNG file that claims to be huge, and is some hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


KINDS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "1", "L", "P", "LA", "RGBA", "CMYK", "I;16"]


def good(kind: str) -> bytes:
    """Give a picture of a format, or with a kind of pixels."""
    if len(kind) > 2 and kind.isalpha() and kind not in ("RGBA", "CMYK"):
        return encoded(PHOTO, kind)
    deep = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)
    return encoded(deep if kind == "I;16" else PHOTO.convert(kind), "TIFF" if kind == "CMYK" else "PNG")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_all_formats_look_the_same(form: str) -> None:
    """What a picture looks like does not depend on how it is stored."""
    found, wanted = look(encoded(PHOTO, form)), look(encoded(PHOTO, "BMP"))
    assert (found.width, found.height) == (200, 120)
    assert np.abs(found.light.astype(int) - wanted.light).max() <= 8
    assert np.abs(found.colour.astype(int) - wanted.colour).max() <= 8


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_are_seen_upright(form: str) -> None:
    """A camera that was held on its side says so in EXIF, and the trainer turns the picture."""
    lying = PHOTO.transpose(Image.Transpose.ROTATE_90)
    found = look(encoded(lying, form, exif=TURNED))
    assert (found.width, found.height) == (200, 120)
    assert np.abs(found.light.astype(int) - look(encoded(PHOTO, form)).light).mean() < 3
    assert show(encoded(lying, form, exif=TURNED), 50).width > 50


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_all_kinds_of_pixels_are_taken(mode: str) -> None:
    """Palettes, transparency, print colours, 16 bits: the trainer reads them, so they are judged by what it sees."""
    plain = look(encoded(PHOTO.convert("L")))
    assert abs(float(look(good(mode)).light.mean()) - float(plain.light.mean())) < 3


def test_of_several_pictures_the_first_counts() -> None:
    """Animations are a picture to the trainer, too."""
    other = Image.new("RGB", PHOTO.size, "white")
    for form, how in (("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        moving = encoded(PHOTO, form, save_all=True, append_images=[other], **how)
        assert np.abs(look(moving).light.astype(int) - look(encoded(PHOTO)).light).max() <= 1


def test_a_wrong_ending_of_the_name_is_no_matter() -> None:
    """Names are not even asked for: the trainer goes by the bytes."""
    assert look(encoded(PHOTO, "PNG")).width == 200


def damaged() -> bytes:
    """Give a PNG file with one bit wrong."""
    data = bytearray(encoded(PHOTO))
    data[len(data) // 2] ^= 1
    return bytes(data)


def mistaken() -> bytes:
    """Give a PNG file whose pixels are whole, and whose checksum says that they are not."""
    data = bytearray(encoded(PHOTO))
    data[-13] ^= 1  # the last byte before the chunk that ends the file
    return bytes(data)


REFUSED = {
    "empty": (b"", "is empty"),
    "web page": (b"<html>404 not found</html>", "is no JPEG, PNG, WebP, BMP or TIFF"),
    "other format": (encoded(PHOTO.convert("P"), "GIF"), "is no JPEG, PNG, WebP, BMP or TIFF"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no JPEG"),
    "half a JPEG": (encoded(PHOTO, "JPEG")[:2000], "image file is truncated"),
    "a JPEG without its end": (encoded(PHOTO, "JPEG")[:-2], "image file is truncated"),
    "start of a JPEG": (encoded(PHOTO, "JPEG")[:30], "cannot be decoded"),
    "half a PNG": (encoded(PHOTO)[:9000], "cannot be decoded"),
    "half a WebP": (encoded(PHOTO, "WEBP")[:1000], "cannot be decoded"),
    "half a BMP": (encoded(PHOTO, "BMP")[:4000], "cannot be decoded"),
    "half a TIFF": (encoded(PHOTO, "TIFF")[:4000], "cannot be decoded"),
    "one wrong bit": (damaged(), "cannot be decoded"),
    "a wrong checksum": (mistaken(), "cannot be decoded"),
    "two bytes": (b"BM", "cannot be decoded"),
    "too small": (encoded(PHOTO.resize((40, 9))), "is 40 × 9 pixels; the trainer takes none under 10"),
    "bomb": (header(60_000, 60_000), f"at most {MOST_PIXELS} are decoded"),
    "long and thin": (header(2**31 - 1, 10), f"at most {MOST_PIXELS} are decoded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_said(case: str) -> None:
    """Every kind of broken file ends in a sentence, the same one each time, without an address of this machine."""
    data, said = REFUSED[case]
    texts = set()
    for _ in range(2):
        with pytest.raises(Unusable, match=said) as caught:
            look(data)
        texts.add(str(caught.value))
    (text,) = texts
    assert "0x" not in text
    assert len(text) < 400


@pytest.mark.ml
def test_ultralytics_is_of_the_same_opinion(tmp_path: Path) -> None:
    """What is refused here it would leave out or fail to load; what is taken here it checks and loads."""
    from ultralytics.data.utils import check_image
    from ultralytics.utils.patches import imread

    def takes(data: bytes) -> bool:
        (tmp_path / "x.jpg").write_bytes(data)
        try:
            check_image(str(tmp_path / "x.jpg"))
        except (Exception, Image.DecompressionBombError):  # noqa: BLE001 - whatever it is, the picture is left out
            return False
        return imread(str(tmp_path / "x.jpg")) is not None

    assert [case for case, (data, _) in REFUSED.items() if takes(data)] == []
    assert [kind for kind in KINDS if not takes(good(kind))] == []
    assert [kind for kind in KINDS if look(good(kind)).width != 200] == []
