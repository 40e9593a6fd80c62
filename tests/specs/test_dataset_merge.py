"""What people labelled, put into a data set: where pictures come to lie, what counts, what stays out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from specs.dataset_diff import difference
from specs.dataset_merge import Labelled, label_text, merge
from specs.datasets import pictures, train_and_val
from specs.errors import Stalled
from specs.label_records import AskedRecord, Box, Thing, asked, box_between, truth
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry
from tests.support.to_label import kept

BOX = Box(x=0.5, y=0.25, width=0.5, height=0.125)


def base(task: Task, *paths: str, names: tuple[str, ...] = ("green", "red")) -> DatasetManifest:
    """Give a data set with files at these paths, each of its own bytes."""
    files = [FileEntry(path=path, size=1, digest=f"sha256:{index:064x}") for index, path in enumerate(sorted(paths))]
    images = sum(path.endswith((".png", ".jpg")) for path in paths)
    return DatasetManifest(task=task, names=list(names), files=files, images=images, class_counts={names[0]: images})


def labelled(request: str, *things: Thing, picture: bytes = b"") -> Labelled:
    """Give a picture and what a person said about it."""
    task = "classify" if things and things[0].box is None else "detect"
    return Labelled(asked(kept(task, request, picture or request.encode()), ""), things)  # type: ignore[arg-type]


def added(found: DatasetManifest) -> list[str]:
    """Give the paths of what was added."""
    return [file.path for file in found.files if "kept-" in file.path]


@pytest.mark.parametrize(
    ("task", "paths", "expected"),
    [
        ("classify", ["green/a.png", "red/b.png"], "red/kept-{}.png"),
        ("classify", ["train/green/a.png", "train/red/b.png", "val/red/c.png"], "train/red/kept-{}.png"),
        ("classify", ["training/green/a.png", "test/red/c.png"], "training/red/kept-{}.png"),
        ("detect", ["images/a.png", "images/b.png"], "images/kept-{}.png"),
        ("detect", ["images/train/a.png", "images/val/b.png", "images/val/c.png"], "images/train/kept-{}.png"),
        ("detect", ["train/images/a.png", "val/images/b.png"], "train/images/kept-{}.png"),
        ("detect", ["images/day1/a.png", "images/day2/b.png", "images/day2/c.png"], "images/day2/kept-{}.png"),
    ],
)
def test_new_pictures_lie_among_those_that_are_learnt_from(task: Task, paths: list[str], expected: str) -> None:
    """Whatever the layout: in the training split, where most of it is; labels where YOLO looks for them."""
    before = base(task, *paths)
    given = labelled("one", Thing(name="red", box=BOX if task == "detect" else None))
    found = merge(before, frozenset(), [given]).manifest
    (picture,) = (each for each in pictures(found) if "kept-" in each.file.path)
    assert picture.file.path == expected.format(given.picture.id)
    assert picture.split in ("train", "")
    if task == "classify":
        assert picture.class_name == "red"
    else:
        assert picture.label is not None
    assert (found.images, found.class_counts["red"]) == (before.images + 1, 1)
    assert difference(before, found).added == 1


def test_order_and_repetition_change_nothing() -> None:
    """The same answers give the same version, whoever brings them; a second time nothing is added."""
    before = base("classify", "green/a.png", "red/b.png")
    given = [labelled(str(number), Thing(name="red")) for number in range(8)]
    once = merge(before, frozenset(), given)
    again = random.Random(1).sample(given, len(given))
    assert merge(before, frozenset(), again).manifest.digest() == once.manifest.digest()
    half = merge(before, frozenset(), given[:4]).manifest
    assert merge(half, frozenset(), given).manifest.digest() == once.manifest.digest()
    twice = merge(once.manifest, frozenset(), given)
    assert (twice.manifest, twice.added, len(twice.present)) == (once.manifest, (), 8)


def test_bytes_are_learnt_once_and_golden_never() -> None:
    """Copies of a picture, of one that is there, and of a golden one."""
    before = base("classify", "green/a.png", "red/b.png")
    there = labelled("one", Thing(name="red"))
    known = Labelled(there.picture.model_copy(update={"picture": before.files[0].digest}), there.things)
    copies = [labelled(name, Thing(name="green"), picture=b"same") for name in ("two", "three")]
    golden = labelled("four", Thing(name="green"))
    found = merge(before, frozenset({golden.picture.picture}), [known, *copies, golden])
    assert (len(found.added), len(found.present), found.golden) == (1, 2, (golden.picture.id,))
    assert golden.picture.picture not in found.manifest.image_digests()
    assert merge(before, frozenset({golden.picture.picture}), [golden]).manifest == before


def test_label_files_say_what_people_said() -> None:
    """One line an object, in the numbers of the data set; none at all where nothing is there."""
    before = base("detect", "images/a.png", "labels/a.txt")
    full, empty = labelled("one", Thing(name="red", box=BOX), Thing(name="green", box=BOX)), labelled("two")
    found = merge(before, frozenset(), [full, empty])
    assert sorted(found.labels.values()) == [
        b"", b"1 0.500000 0.250000 0.500000 0.125000\n0 0.500000 0.250000 0.500000 0.125000\n",
    ]  # fmt: skip
    assert set(found.labels) < {file.digest for file in found.manifest.files}
    assert label_text(["red"], []) == b""


def test_new_classes_keep_the_numbers_of_old_ones() -> None:
    """Boxes name classes by number, so a new one comes last; folders are numbered by name, as the trainer does."""
    box = labelled("one", Thing(name="blue", box=BOX))
    assert merge(base("detect", "images/a.png"), frozenset(), [box], ["blue"]).manifest.names == [
        "green", "red", "blue",
    ]  # fmt: skip
    unused = merge(base("detect", "images/a.png"), frozenset(), [box], ["blue", "black"]).manifest
    assert unused.names == ["green", "red", "blue"], "what nobody has seen yet is no class"
    tag = labelled("one", Thing(name="blue"))
    before = base("classify", "green/a.png", "red/b.png")
    assert merge(before, frozenset(), [tag], ["blue"]).manifest.names == ["blue", "green", "red"]
    with pytest.raises(Stalled, match="blue"):
        merge(before, frozenset(), [tag])
    for name in ("a/b", ".hidden", " red", "two\nlines", ".."):
        with pytest.raises(Stalled, match="plain"):
            merge(before, frozenset(), [labelled("one", Thing(name=name))], [name])


def test_other_tasks_are_refused() -> None:
    """Polygons and keypoints cannot come back as boxes."""
    with pytest.raises(Stalled, match="segment"):
        merge(base("segment", "images/a.png"), frozenset(), [])


def test_a_data_set_that_grew_can_be_divided() -> None:
    """Without a split of its own a tenth is held out, and never a copy on both sides."""
    before = base("classify", *(f"green/{number}.png" for number in range(20)), "red/b.png")
    found = merge(before, frozenset(), [labelled(str(n), Thing(name="red")) for n in range(20)]).manifest
    train, val = train_and_val(found)
    assert len(train) + len(val) == 41
    assert not {each.file.digest for each in train} & {each.file.digest for each in val}


@pytest.mark.parametrize(
    ("sides", "found"),
    [
        ((0.25, 0.25, 0.75, 0.5), (0.25, 0.25, 0.75, 0.5)), ((-0.005, 0.0, 1.005, 1.0), (0.0, 0.0, 1.0, 1.0)),
        ((-0.1, 0.0, 0.5, 0.5), None), ((0.5, 0.5, 0.5, 0.9), None), ((0.6, 0.5, 0.5, 0.9), None),
        ((float("nan"), 0.0, 1.0, 1.0), None),
    ],
)
def test_boxes_lie_in_the_picture(sides: tuple[float, ...], found: tuple[float, ...] | None) -> None:
    """What tools round is moved to the edge; what is no rectangle, or elsewhere, is none."""
    box = box_between(*sides)
    assert found is None if box is None else box.corners == pytest.approx(found)
    assert (box is None) == (found is None)


def test_questions_and_truths_are_about_the_same_places() -> None:
    """A prediction becomes a guess in parts of the picture, and the truth goes back in pixels, unchanged."""
    box = {"x1": 4.0, "y1": 8.0, "x2": 28.0, "y2": 24.0}
    strange: list[dict[str, Any]] = [
        {"name": "red"}, {"name": "", "confidence": 1.0}, {"name": "red", "confidence": 0.3, "box": {"x1": 1}},
        {"name": "red", "confidence": 0.2, "box": {"x1": -50.0, "y1": 0.0, "x2": 4.0, "y2": 4.0}},
    ]  # fmt: skip
    record = asked(
        kept("detect", "one", b"x", predictions=[{"name": "red", "confidence": 0.4, "box": box}, *strange]), "a queue"
    )
    assert [thing.name for thing in record.guesses] == ["red"]
    assert record.score == 0.4
    assert truth(record, record.guesses) == {"request": "one", "boxes": [{"name": "red", "box": box}]}
    assert truth(record, []) == {"request": "one", "boxes": []}
    first = asked(kept("classify", "one", b"x"), "")
    assert truth(first, [Thing(name="green")]) == {"request": "one", "label": "green"}
    assert AskedRecord.decode(record.encode()) == record
