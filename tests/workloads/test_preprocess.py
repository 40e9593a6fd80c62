from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from workloads.preprocess import Pixels, decode, letterbox, preprocess

SHAPES = [(32, 32), (64, 64), (48, 100), (100, 48), (31, 33), (480, 640), (7, 300), (300, 7), (224, 224), (1, 1)]


def noise(height: int, width: int) -> Pixels:
    """A picture in which every error shows."""
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_every_kind_of_picture_becomes_rgb(mode: str) -> None:
    """Grey, transparent, palette and print pictures all end up as three bytes a pixel."""
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pixels = decode(encoded(Image.new(mode, (5, 4)), kind))
    assert (pixels.shape, pixels.dtype) == ((4, 5, 3), np.uint8)


def test_a_photo_is_turned_upright() -> None:
    """The EXIF orientation of a camera is applied, as Ultralytics does when it reads training pictures."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)).shape == (8, 4, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_decoding() -> None:
    """The header is enough to refuse; a hundred megapixels never reach memory."""
    data = encoded(Image.new("1", (10_000, 10_000)))
    assert len(data) < 100_000
    with pytest.raises(ValueError, match="10000 x 10000 pixels; at most 64000000"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", encoded(Image.new("RGB", (64, 64)))[:60], b"\x89PNG\r\n\x1a\n" + b"\xff" * 50],
    ids=["empty", "text", "cut off", "garbage"],
)
def test_broken_pictures_are_refused(data: bytes) -> None:
    """Whatever the decoder trips over becomes one kind of error."""
    with pytest.raises(ValueError, match="not a readable picture"):
        decode(data)


@pytest.mark.parametrize("task", ["classify", "detect"])
@pytest.mark.parametrize("size", [(32, 32), (64, 32)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_tensor_has_the_shape_of_the_model(task: str, size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Any picture becomes float32 between 0 and 1, planes first, of the model's height and width."""
    tensor = preprocess(noise(*shape), task, size)  # type: ignore[arg-type]
    assert (tensor.shape, tensor.dtype) == ((1, 3, *size), np.float32)
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert tensor.flags.c_contiguous


def test_letterboxing_says_how_to_get_back() -> None:
    """Scale and padding lead from the model's pixels to those of the picture."""
    image = np.full((50, 100, 3), 255, np.uint8)
    fitted, scale, (left, top) = letterbox(image, (64, 64))
    assert (scale, left, top) == (0.64, 0, 16)
    assert (fitted[:top] == 114).all()
    assert (fitted[top : top + 32] == 255).all()


@pytest.mark.ml
@pytest.mark.parametrize("size", [32, 64, 224])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_classify_is_bit_for_bit_what_ultralytics_does(size: int, shape: tuple[int, int]) -> None:
    """The server must see what the trainer saw: no difference at all."""
    from ultralytics.data.augment import classify_transforms

    image = noise(*shape)
    expected = classify_transforms(size)(Image.fromarray(image)).numpy()
    np.testing.assert_array_equal(preprocess(image, "classify", (size, size))[0], expected)


@pytest.mark.ml
@pytest.mark.parametrize("size", [(64, 64), (320, 192)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_detect_is_bit_for_bit_what_ultralytics_does(size: tuple[int, int], shape: tuple[int, int]) -> None:
    """Letterboxing, channel order and scaling as in Ultralytics' predictor: no difference at all."""
    import torch
    from ultralytics.data.augment import LetterBox

    image = noise(*shape)
    boxed = LetterBox(size, auto=False)(image=np.ascontiguousarray(image[..., ::-1]))
    expected = torch.from_numpy(boxed.copy()).permute(2, 0, 1)[None].flip(1).float().div(255).numpy()
    np.testing.assert_array_equal(preprocess(image, "detect", size), expected)
