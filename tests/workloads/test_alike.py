"""Which pictures show the same: copies are found whatever was done to them, and what is only similar is let be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.datasets import EDITS, encoded, photographs
from workloads.alike import Looks, Numbers, find
from workloads.looking import look


def looks(pictures: Sequence[Image.Image], folder: Path) -> Looks:
    """Look at pictures."""
    made = Looks.on_disk(folder, len(pictures))
    for place, picture in enumerate(pictures):
        found = look(encoded(picture, "BMP"))
        made.light[place], made.colour[place], made.shape[place] = found.light, found.colour, found.width / found.height
    return made


def twins(pictures: Sequence[Image.Image], folder: Path, trained: int | None = None) -> tuple[Numbers, Numbers]:
    """Find twins among pictures of which so many are training data."""
    unknown = np.full(len(pictures), -1, np.int64)
    return find(looks(pictures, folder), len(pictures) if trained is None else trained, unknown)


def test_different_handwritten_digits_are_not_the_same(tmp_path: Path) -> None:
    """1,797 pictures of ten digits, 8 pixels wide before they were enlarged: alike, and yet not one is another."""
    from sklearn.datasets import load_digits

    small = [Image.fromarray((pixels * 255 / 16).astype(np.uint8)) for pixels in load_digits().images]
    own, _ = twins([each.resize((32, 32), Image.Resampling.BILINEAR) for each in small], tmp_path)
    assert np.flatnonzero(own >= 0).tolist() == []


def test_parts_of_a_photograph_are_not_the_same(tmp_path: Path) -> None:
    """Neighbouring parts share light and colours, and even a fifth of what they show."""
    own, _ = twins(photographs(), tmp_path)
    assert np.flatnonzero(own >= 0).tolist() == []


@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_copy_is_found(tmp_path: Path, edit: str) -> None:
    """Golden pictures that were made of training pictures are found, each as that of which it was made."""
    whole = [p for p in photographs() if np.asarray(p.convert("L")).std() > 25]
    assert len(whole) >= 15
    _, leaked = twins([*whole, *map(EDITS[edit], whole)], tmp_path, len(whole))
    found = leaked[len(whole) :]
    assert ((found < 0) | (found == np.arange(len(whole)))).all()
    assert (found >= 0).mean() >= 0.9


def test_where_a_twin_is_looked_for(tmp_path: Path) -> None:
    """Training pictures have twins before them, golden ones in both sets; what is known is not looked for again."""
    photo, other = photographs()[0], photographs()[1]
    copy, third = EDITS["JPEG, good"](photo), EDITS["half"](photo)
    own, leaked = twins([photo, other, copy, third, copy], tmp_path, 3)
    assert own.tolist() == [-1, -1, 0, -1, 3]
    assert leaked[:3].tolist() == [-1, -1, -1]
    assert set(leaked[3:].tolist()) <= {0, 2}
    known = np.array([-1, -1, -1, 1, -1])
    assert find(looks([photo, other, copy, third, copy], tmp_path), 3, known)[1].tolist()[3] == 1


def test_another_colour_is_another_picture(tmp_path: Path) -> None:
    """A red light and a green one may be equally bright."""
    rng = np.random.default_rng(0)
    shades = np.asarray(Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).resize((64, 64)))
    neutral = np.full_like(shades, 128)
    reddish, greenish = neutral + 40 * (shades > 128), neutral - 40 * (shades > 128)
    made = [Image.merge("YCbCr", [Image.fromarray(np.uint8(c)) for c in (shades, neutral, tint)]).convert("RGB")
            for tint in (reddish, greenish, reddish)]  # fmt: skip
    own, _ = twins(made, tmp_path)
    assert own.tolist() == [-1, -1, 0]


def test_blank_pictures_are_like_no_other(tmp_path: Path) -> None:
    """Night, fog and empty paper look the same from afar and need not be; their exact copies are found by digest."""
    fog = [Image.linear_gradient("L").resize((80, 60)).point(lambda v, d=d: v // 4 + d) for d in (0, 20)]
    own, _ = twins([Image.new("RGB", (80, 60), shade) for shade in ("black", "white", "#010101")] + fog, tmp_path)
    assert (own == -1).all()


def test_a_film_is_found_out_frame_by_frame(tmp_path: Path) -> None:
    """Where all pictures are alike, each has a twin, though a picture is compared with few others."""
    rng = np.random.default_rng(0)
    scene = np.asarray(photographs()[0].convert("L").resize((32, 32)), np.float32)
    made = Looks.on_disk(tmp_path, 1500)
    made.light[:] = np.clip(scene + rng.normal(0, 1.5, (1500, 32, 32)), 0, 255)
    made.colour[:], made.shape[:] = 128, 1
    own, leaked = find(made, 1000, np.full(1500, -1))
    assert (own[1:1000] >= 0).mean() > 0.95
    assert (leaked[1000:] >= 0).mean() > 0.95
    assert all(own[place] < place for place in range(1500))


def test_nothing_to_compare(tmp_path: Path) -> None:
    """No picture, or none that can be used, is no trouble."""
    for count in (0, 1, 3):
        own, leaked = find(Looks.on_disk(tmp_path, count), count, np.full(count, -1))
        assert own.tolist() == leaked.tolist() == [-1] * count
