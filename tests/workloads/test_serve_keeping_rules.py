"""Which live pictures are kept, what counts as looking alike, and what is written of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from specs.kept_records import draw
from specs.modelspec import Task
from specs.monitoring import Region
from tests.support.kept import boxes, encoded, labelling, scene
from workloads.preprocess import decode, preprocess
from workloads.serve.keeping_pictures import prepare
from workloads.serve.keeping_rules import Shares, look_of, reasons, seen_before, shares

BAND = {"min": 0.25, "max": 0.5}


def scores(*values: float) -> NDArray[np.float32]:
    """Give a classifier's output for one picture."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("asked", "task", "found", "why"),
    [
        ({"confidence": BAND}, "classify", scores(0.1, 0.45, 0.45), ["uncertain"]),
        ({"confidence": BAND}, "classify", scores(0.25, 0.2), ["uncertain"]),
        ({"confidence": BAND}, "classify", scores(0.5, 0.1), ["uncertain"]),
        ({"confidence": BAND}, "classify", scores(0.3, 0.7), []),
        ({"confidence": BAND}, "classify", scores(float("nan"), 0.7), []),
        ({"confidence": BAND}, "detect", boxes(0.9, 0.4)[0], ["uncertain"]),
        ({"confidence": BAND}, "detect", boxes(0.9, 0.1)[0], []),
        ({"confidence": BAND}, "detect", boxes()[0], []),
        ({"zeroDetections": True}, "detect", boxes()[0], ["nothing"]),
        ({"zeroDetections": True}, "detect", boxes(0.24)[0], ["nothing"]),
        ({"zeroDetections": True}, "detect", boxes(0.25)[0], []),
        ({"zeroDetections": False}, "detect", boxes()[0], []),
        ({"zeroDetections": True}, "classify", scores(0.1, 0.1), []),
        ({"randomPercent": 100}, "detect", boxes(0.9)[0], ["random"]),
        ({"randomPercent": 50}, "detect", boxes(0.9)[0], []),
        ({"randomPercent": 100, "zeroDetections": True, "confidence": {"min": 0.1, "max": 0.2}}, "detect",
         boxes(0.15)[0], ["nothing", "random", "uncertain"]),
        ({}, "detect", boxes()[0], []),
    ],
)  # fmt: skip
def test_reasons(asked: dict[str, Any], task: Task, found: NDArray[np.float32], why: list[str]) -> None:
    """A band has its ends; only the top class of a picture counts, but every detection; several reasons may hold."""
    assert reasons(labelling(**asked), task, found, 0.5) == why


def test_the_lot_falls_the_same_everywhere_and_fairly() -> None:
    """Whether a request is of the random share depends on model and id alone, and holds for the share asked for."""
    drawn = [draw("digits", f"request-{number}") for number in range(20_000)]
    assert drawn[:100] == [draw("digits", f"request-{number}") for number in range(100)]
    assert drawn[:100] != [draw("other", f"request-{number}") for number in range(100)]
    assert 0.095 < sum(value < 0.1 for value in drawn) / len(drawn) < 0.105
    assert 0 <= draw("digits", "\ud800\0") < 1


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"zeroDetections": True}, Shares(0, 200)),
        ({"randomPercent": 5}, Shares(200, 0)),
        ({"randomPercent": 5, "maxPerDay": 11, "confidence": BAND}, Shares(5, 6)),
        ({"randomPercent": 0, "maxPerDay": 11, "confidence": BAND}, Shares(0, 11)),
        ({"randomPercent": 5, "maxPerDay": 0, "confidence": BAND}, Shares(0, 0)),
    ],
)
def test_a_day_has_two_shares(asked: dict[str, Any], expected: Shares) -> None:
    """Where both are asked for, the random ones and the others have half of the budget each."""
    assert shares(labelling(**asked)) == expected


def seen(image: NDArray[np.uint8], task: Task = "detect") -> int:
    """Give the look of a picture."""
    return look_of(preprocess(image, task, (64, 64)))


@pytest.mark.parametrize("quality", [95, 60])
def test_near_copies_look_alike(quality: int) -> None:
    """A little more light, some noise and another JPEG quality make another picture of hardly one in twenty."""
    alike = 0
    for seed in range(100):
        random, image = np.random.default_rng(seed), scene(seed, (120, 160))
        noise = random.normal(random.integers(-20, 20), 4, image.shape)
        again = encoded(np.clip(image + noise, 0, 255).astype(np.uint8), "JPEG", quality=quality)
        alike += seen_before(seen(decode(again)), [seen(image)])
    assert alike >= 95


def test_different_pictures_do_not_look_alike() -> None:
    """No two of a hundred different pictures are taken for copies."""
    looks = [seen(scene(seed)) for seed in range(100)]
    assert not any(seen_before(look, looks[:index]) for index, look in enumerate(looks))


def test_an_even_wall_is_one_picture_whatever_its_noise() -> None:
    """Noise decides no bit where there is nothing to see."""
    walls = [np.random.default_rng(seed).normal(128, 6, (96, 96, 3)).astype(np.uint8) for seed in range(20)]
    assert {seen(wall) for wall in walls} == {0}


def test_digits_by_different_people_do_not_look_alike() -> None:
    """Of real handwritten digits, small pictures of ten kinds, at least two in three are told apart."""
    looks: list[int] = []
    for digit in load_digits().images[:300]:
        image = Image.fromarray((digit * 15.9).astype(np.uint8)).resize((32, 32), Image.Resampling.BILINEAR)
        look = seen(np.asarray(image.convert("RGB")), "classify")
        if not seen_before(look, looks):
            looks.append(look)
    assert 200 <= len(looks) < 300


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [(kind, f"image/{kind.lower()}") for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")],
)
def test_what_is_not_blurred_is_kept_as_it_was_sent(kind: str, content_type: str) -> None:
    """Byte for byte, and its type is told by the bytes, whatever the client said."""
    picture = encoded(scene(1), kind)
    assert prepare(picture, (48, 64), None) == (picture, content_type)


def with_place(image: NDArray[np.uint8]) -> bytes:
    """Encode a picture as a phone does: lying on its side, with the place where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 29.0)}
    return encoded(image, "JPEG", quality=95, exif=exif)


def test_blurred_regions_cannot_be_read() -> None:
    """Inside a region only coarse averages are left, outside nothing changes."""
    image = np.zeros((160, 320, 3), np.uint8)
    image[:, ::2] = 255  # fine stripes: any trace of them is a trace of the original
    region = Region(left=0.5, top=0, right=1, bottom=0.5)
    data, kind = prepare(encoded(image), (160, 320), [region])
    kept = decode(data)
    assert kind == "image/png"
    assert np.ptp(kept[:80, 160:].astype(int)) <= 1
    untouched = np.ones(image.shape[:2], bool)
    untouched[:80, 160:] = False
    assert (kept[untouched] == image[untouched]).all()


@pytest.mark.parametrize("blur", [[], [Region(left=0.1, top=0.1, right=0.11, bottom=0.11)]], ids=["none", "a-dot"])
def test_where_a_picture_was_taken_is_not_kept_if_anything_is_blurred(blur: list[Region]) -> None:
    """Blur, even of nothing, drops EXIF and turns the picture as EXIF said."""
    sent = with_place(scene(2, (40, 80)))
    data, _ = prepare(sent, (80, 40), blur)
    kept = Image.open(io.BytesIO(data))
    assert (kept.width, kept.height) == (40, 80)
    assert not kept.getexif()
    assert not {"exif", "icc_profile"} & kept.info.keys()
    assert Image.open(io.BytesIO(prepare(sent, (80, 40), None)[0])).getexif()
