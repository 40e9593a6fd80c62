"""Two versions of a data set, compared by the job: the numbers, the classes, and a picture of what changed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from adapters.store import Store
from specs.data_records import ClassDifference, DifferenceRecord, difference_key, new_labels
from specs.records import DatasetManifest
from specs.workorders import DiffOrder
from tests.support import pictures
from tests.support.datasets import stored
from workloads.choosing import Choice
from workloads.errors import BAD_MATERIAL, DONE
from workloads.job import run

Files = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, and a place to work in."""
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    return Store(f"file://{tmp_path}/store")


def scenes(*numbers: int) -> Files:
    """Give detect pictures by number, even ones green, odd ones red."""
    files: Files = {}
    for number in numbers:
        picture, box = pictures.scene(f"d{number}", pictures.COLOURS["red" if number % 2 else "green"])
        files[f"images/{number}.png"] = picture
        files[f"labels/{number}.txt"] = pictures.label("detect", number % 2, box).encode()
    return files


def compared(store: Store, before: DatasetManifest, after: DatasetManifest) -> DifferenceRecord:
    """Compare two versions."""
    order = DiffOrder(
        model="default/tiny", commit="0" * 40, task="detect", before=before.digest(), after=after.digest()
    )
    assert run(order, store) == DONE
    return DifferenceRecord.decode(store.read(difference_key(order.before, order.after)) or b"")


def page(store: Store, record: DifferenceRecord) -> Image.Image:
    """Open the picture of a difference."""
    return Image.open(io.BytesIO(store.read_blob(record.files["difference.jpg"])))


def test_what_changed_is_counted_and_drawn(store: Store) -> None:
    """Added, removed and relabelled each have a row; classes have their numbers before and after."""
    files = scenes(*range(8))
    before = stored(store, files, class_counts={"green": 4, "red": 4})
    renamed = {path.replace("/1.", "/one."): data for path, data in files.items() if "/0." not in path}
    renamed["labels/2.txt"] = b"1" + renamed["labels/2.txt"][1:]
    counts = {"green": 2, "red": 6, "blue": 0}
    after = stored(store, renamed | scenes(11), names=("green", "red", "blue"), class_counts=counts)
    record = compared(store, before, after)
    assert (record.images, record.added, record.removed, record.relabelled) == ((8, 8), 1, 1, 1)
    assert record.classes == [
        ClassDifference(name="green", before=4, after=2), ClassDifference(name="red", before=4, after=6),
        ClassDifference(name="blue", after=0),
    ]  # fmt: skip
    assert page(store, record).height > 3 * 144


def test_only_rows_with_something_in_them_are_drawn(store: Store) -> None:
    """Pictures that were added make one row; where nothing changed there is no picture at all."""
    before, after = stored(store, scenes(*range(4))), stored(store, scenes(*range(30)))
    record = compared(store, before, after)
    assert (record.added, page(store, record).size) == (26, (1262, 272))
    same = compared(store, before, before)
    assert (same.added, same.removed, same.relabelled, same.files) == (0, 0, 0, {})


def test_new_labels_are_counted(store: Store) -> None:
    """A picture with an empty label file was looked at by somebody, as a relabelled one; one without any was not."""
    more = scenes(8, 9, 10)
    more["labels/9.txt"] = b""
    del more["labels/10.txt"]
    files = scenes(1, 2)
    changed = files | {"labels/2.txt": b"1" + files["labels/2.txt"][1:]}
    record = compared(store, stored(store, files), stored(store, changed | more))
    assert (record.added, record.labelled, record.relabelled, new_labels(record)) == (3, 2, 1, 3)
    assert new_labels(record.model_copy(update={"labelled": None})) == 4, "of an old record all that was added counts"


def test_broken_pictures_are_counted_and_not_drawn(store: Store) -> None:
    """That they cannot be used is for validation to say."""
    record = compared(store, stored(store, scenes(1)), stored(store, scenes(1) | {"images/x.png": b"x"}))
    assert (record.added, record.files) == (1, {})


def test_the_same_versions_leave_the_same_record(store: Store, tmp_path: Path) -> None:
    """Byte for byte, with the picture, wherever it is done; what is there already is not written again."""
    other = Store(f"file://{tmp_path}/other")
    made = [
        compared(each, stored(each, scenes(*range(20))), stored(each, scenes(*range(5, 30)))) for each in (store, other)
    ]  # fmt: skip
    assert made[0] == made[1]
    before = store.list()
    compared(store, stored(store, scenes(*range(20))), stored(store, scenes(*range(5, 30))))
    assert [key for key in store.list() if not key.startswith("progress/")] == [
        key for key in before if not key.startswith("progress/")
    ]


def test_a_version_that_is_not_there_is_said(store: Store) -> None:
    """Without both there is nothing to compare, and no record."""
    there = stored(store, scenes(1)).digest()
    order = DiffOrder(model="default/x", commit="0" * 40, task="detect", before="sha256:" + "0" * 64, after=there)
    assert run(order, store) == BAD_MATERIAL
    assert store.list("differences/") == []


def test_classes_take_turns_on_a_contact_sheet(store: Store) -> None:
    """Rare classes are seen, copies once; and a set that grows keeps most of the pictures it was shown with."""
    from specs.datasets import Picture
    from specs.records import FileEntry
    from tests.support.builders import digest

    def chosen(count: int) -> list[Picture]:
        choice = Choice(["many", "rare"], 6)
        for number in range(count):
            entry = FileEntry(path=f"{number:04}.png", size=1, digest=digest(number % 500))
            choice.offer(Picture(entry), [["many"], ["rare", "many"], []][0 if number % 50 else 1 + number % 100 // 50])
        return choice.chosen()

    first, more = chosen(500), chosen(900)
    assert len({picture.file.digest for picture in first}) == 6
    assert first == more
    numbers = [int(picture.file.path[:4]) for picture in first]
    assert [number % 100 for number in numbers[1::3]] == [0, 0]
    assert [number % 100 for number in numbers[2::3]] == [50, 50]
    assert [number % 50 > 0 for number in numbers[0::3]] == [True, True]
