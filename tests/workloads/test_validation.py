"""Whole data sets looked at by the job: every fault is in the record, nothing else is, and the same again each time."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from adapters.dataset_folder import add_folder
from adapters.store import Store
from reconcilers.data_report import faults
from specs.data_records import Alike, ValidationRecord, validation_key
from specs.modelspec import Task
from specs.records import DatasetManifest, Progress, blob_key, progress_key
from specs.workorders import ValidateOrder
from tests.support import pictures
from tests.support.datasets import EDITS, encoded, photographs, stored
from workloads.errors import BAD_MATERIAL, DONE, HOPELESS
from workloads.job import run
from workloads.survey import LISTED

Files = dict[str, bytes]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, and a place to work in."""
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    return Store(f"file://{tmp_path}/store")


def order(train: DatasetManifest, golden: DatasetManifest | None = None, task: Task | None = None) -> ValidateOrder:
    """Order a look at data sets."""
    return ValidateOrder(
        model="default/tiny", commit="0" * 40, task=task or train.task, train=train.digest(),
        golden=golden.digest() if golden else None,
    )  # fmt: skip


def validated(store: Store, train: DatasetManifest, golden: DatasetManifest | None = None) -> ValidationRecord:
    """Look at data sets and give what was found."""
    assert run(order(train, golden), store) == DONE
    text = store.read(validation_key(train.digest(), golden.digest() if golden else None))
    assert text is not None
    return ValidationRecord.decode(text)


def scenes(count: int, seed: str = "t") -> Files:
    """Give a good detect set."""
    files: Files = {}
    for number in range(count):
        picture, box = pictures.scene(f"{seed}{number}", pictures.COLOURS["red" if number % 2 else "green"])
        files[f"images/{seed}{number}.png"] = picture
        files[f"labels/{seed}{number}.txt"] = pictures.label("detect", number % 2, box).encode()
    return files


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "pose", "obb"])
def test_good_data_of_every_task_has_no_fault(store: Store, tmp_path: Path, task: Task) -> None:
    """What was counted when the folder was added is counted again, and there is a contact sheet of each set."""
    train = add_folder(store, pictures.folder(tmp_path / "t", task, 12), task=task)
    golden = add_folder(store, pictures.folder(tmp_path / "g", task, 6, seed="golden"), task=task)
    record = validated(store, train, golden)
    assert faults(record, None) == []
    assert record.golden is not None
    assert (record.train.images, record.golden.images) == (12, 6)
    assert (record.train.class_counts, record.train.objects) == (train.class_counts, 12)
    assert (record.train.width, record.train.height) == ((32, 32, 32), (32, 32, 32))
    assert record.files.keys() == {"train.jpg", "golden.jpg"}
    for digest in record.files.values():
        page = Image.open(io.BytesIO(store.read_blob(digest)))
        assert (page.format, page.width) == ("JPEG", 1262 if page.height > 400 else page.width)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_wrong_is_in_the_record(store: Store) -> None:
    """Broken pictures and labels are named with their place and counted; the rest is looked at all the same."""
    files = scenes(8)
    files["images/t1.png"] = files["images/t1.png"][:300]
    files["images/t2.png"] = b""
    files["labels/t3.txt"] += b"\n7 .5 .5 .1 .1\n"
    files["labels/t4.txt"] = b""
    del files["labels/t5.txt"]
    report = validated(store, stored(store, files)).train
    assert report.unreadable_count == 2
    assert [text.partition(":")[0] for text in report.unreadable] == ["images/t1.png", "images/t2.png"]
    assert report.bad_labels == ["labels/t3.txt:2: class 7 does not exist; 2 classes are numbered 0 to 1"]
    assert (report.bad_label_count, report.background, report.objects) == (1, 2, 6)
    assert report.class_counts == {"green": 3, "red": 3}
    assert len(faults(validated(store, stored(store, files)), None)) == 2


WRONG_LABELS: dict[str, tuple[Task, bytes, str]] = {
    "outside": ("detect", b"0 1.2 .5 .1 .1", "is not between 0 and 1"),
    "polygon in a detect set": ("detect", b"0 .1 .1 .3 .1 .3 .3 .1 .3", "expected 5 values"),
    "box in a segment set": ("segment", b"0 .5 .5 .1 .1", "at least 3 points"),
    "two points": ("segment", b"0 .1 .1 .2 .2", "at least 3 points"),
    "flat": ("segment", b"0 .1 .1 .2 .1 .3 .1", "enclose nothing"),
    "three corners": ("obb", b"0 .1 .1 .3 .1 .3 .3", "9 values: class and 4 corners"),
    "a keypoint too few": ("pose", b"0 .5 .5 .1 .1 .2 .2 2", "11 values"),
    "visibility": ("pose", b"0 .5 .5 .1 .1 .2 .2 -1 .3 .3 2", "visibility -1"),
    "keypoint outside": ("pose", b"0 .5 .5 .1 .1 .2 1.5 2 .3 .3 2", "is not between 0 and 1"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_labels_are_judged_by_the_task(store: Store, case: str) -> None:
    """A manifest may come from anywhere: what its labels say is checked on the stored bytes."""
    task, line, said = WRONG_LABELS[case]
    more = {"kpt_shape": [2, 3]} if task == "pose" else {}
    files = {"images/a.png": pictures.scene("a", (9, 9, 200))[0], "labels/a.txt": line}
    report = validated(store, stored(store, files, task, **more)).train
    assert report.bad_label_count == 1
    assert said in report.bad_labels[0]


def test_a_picture_in_no_class_is_a_wrong_label(store: Store) -> None:
    """For classify the folder is the label."""
    picture = pictures.scene("a", (9, 9, 200))[0]
    report = validated(store, stored(store, {"blue/a.png": picture, "b.png": picture}, "classify")).train
    assert report.bad_label_count == 2
    assert report.bad_labels[0] == "b.png: lies in no class folder; move it to <class>/"


def test_copies_are_found_within_and_across_the_sets(store: Store) -> None:
    """Exact copies by their bytes, changed ones by what they show; each golden picture counts once."""
    one, two, three = (encoded(photo) for photo in photographs()[:3])
    poor, small = (encoded(EDITS[edit](photographs()[0]), "JPEG") for edit in ("JPEG, poor", "half"))
    train = stored(store, {"green/1.png": one, "green/2.png": two, "red/1.png": two, "red/9.jpg": poor}, "classify")
    golden = stored(store, {"green/g.png": two, "red/h.jpg": small, "red/i.png": three}, "classify")
    record = validated(store, train, golden)
    assert record.train.duplicates == [
        Alike(first="green/2.png", second="red/1.png", exact=True),
        Alike(first="green/1.png", second="red/9.jpg", exact=False),
    ]
    assert (record.train.duplicate_count, record.train.near_duplicate_count) == (2, 1)
    assert (record.leak_count, record.near_leak_count) == (2, 1)
    assert record.leaks[0] == Alike(first="green/2.png", second="green/g.png", exact=True)
    assert (record.leaks[1].second, record.leaks[1].exact) == ("red/h.jpg", False)
    assert record.leaks[1].first in ("green/1.png", "red/9.jpg")
    assert record.golden is not None
    assert record.golden.duplicate_count == 0
    assert len(faults(record, None)) == 2


def test_lists_are_cut_and_counts_are_not(store: Store) -> None:
    """A set that is wrong throughout leaves a record that people can still read."""
    files = scenes(LISTED + 10)
    files = {path: b"9 9 9 9 9" if path.endswith(".txt") else data for path, data in files.items()}
    files |= {f"images/broken{n}.png": b"x" for n in range(LISTED + 5)}
    files |= {f"images/z{n}.png": files["images/t0.png"] for n in range(LISTED + 1)}
    report = validated(store, stored(store, files)).train
    assert (report.bad_label_count, len(report.bad_labels)) == (LISTED + 10, LISTED)
    assert (report.unreadable_count, len(report.unreadable)) == (LISTED + 5, LISTED)
    assert (report.duplicate_count, len(report.duplicates)) == (LISTED + 1 + LISTED + 4, LISTED)


def plain(record: ValidationRecord) -> ValidationRecord:
    """Leave out what time it was."""
    return record.model_copy(update={"started": "", "finished": ""})


def test_the_same_data_leaves_the_same_record(store: Store, tmp_path: Path) -> None:
    """Done twice, in two stores: all but the times is the same, pictures too; a third time writes nothing."""
    other = Store(f"file://{tmp_path}/other")
    files = scenes(30) | {"images/x.png": b"broken"}
    first, again = (validated(each, stored(each, files), stored(each, scenes(9, "g"))) for each in (store, other))
    assert plain(first) == plain(again)
    before = other.list()
    validated(other, stored(other, files), stored(other, scenes(9, "g")))
    assert other.list() == before


class Dying(Store):
    """A store at which the job is killed when it reads its so-and-so-manieth file."""

    left = 0

    def read_blob(self, digest: str) -> bytes:
        """Read, or die."""
        self.left -= 1
        if self.left < 0:
            raise SystemExit(137)
        return super().read_blob(digest)


@pytest.mark.parametrize("reads", [0, 5, 30, 62])
def test_killed_and_repeated_it_is_as_if_nothing_had_been(store: Store, tmp_path: Path, reads: int) -> None:
    """Killed anywhere, there is no record; the next attempt leaves the one that an undisturbed one leaves."""
    train, golden = stored(store, scenes(20)), stored(store, scenes(5, "g"))
    dying = Dying(store.url)
    dying.left = reads
    with pytest.raises(SystemExit):
        run(order(train, golden), dying)
    assert store.list("validations/") == []
    other = Store(f"file://{tmp_path}/other")
    undisturbed = validated(other, stored(other, scenes(20)), stored(other, scenes(5, "g")))
    assert plain(validated(store, train, golden)) == plain(undisturbed)
    assert list((tmp_path / "scratch").iterdir()) == []


def spoil(store: Store, digest: str, how: str) -> None:
    """Take a file away, or change it behind the store's back."""
    path = Path(store.url.removeprefix("file://"), blob_key(digest))
    path.chmod(0o644)
    path.write_bytes(b"other") if how == "changed" else path.unlink()


@pytest.mark.parametrize("how", ["changed", "missing"])
@pytest.mark.parametrize("what", ["images/t1.png", "labels/t1.txt"])
def test_a_store_that_is_damaged_is_no_fault_of_the_data(store: Store, how: str, what: str) -> None:
    """Other bytes than the manifest names: the job says so and leaves no record, so that a repair is enough."""
    train = stored(store, scenes(4))
    spoil(store, next(entry.digest for entry in train.files if entry.path == what), how)
    assert run(order(train), store) == BAD_MATERIAL
    assert store.list("validations/") == []


def test_a_data_set_of_another_task_is_hopeless(store: Store) -> None:
    """No attempt will ever read boxes as classes."""
    assert run(order(stored(store, scenes(2)), task="segment"), store) == HOPELESS


def test_how_far_it_is_can_be_seen(store: Store) -> None:
    """Pictures and labels are counted up to the end."""
    train = stored(store, scenes(6))
    validated(store, train)
    text = store.read(progress_key(order(train).job))
    assert text is not None
    progress = Progress.decode(text)
    assert (progress.phase, progress.epoch, progress.epochs) == ("looking for copies", 12, 12)


def test_it_loads_neither_trainer_nor_torch() -> None:
    """A small machine looks at data, and begins at once."""
    heavy = ("torch", "torchvision", "ultralytics", "cv2", "onnx", "onnxruntime", "matplotlib", "scipy")
    program = f"import sys, workloads.validation, workloads.difference; print(set({heavy!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def brightest(page: Image.Image, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> int:
    """Give how near the pixels of a part of a page come to a colour: 0 is the colour itself."""
    return min(
        max(abs(one - two) for one, two in zip(pixel, colour, strict=True))
        for pixel in page.crop(box).convert("RGB").get_flattened_data()
    )


@pytest.mark.parametrize(
    ("task", "line", "spots"),
    [
        ("detect", b"0 .5 .5 .5 .5", [(0.25, 0.5), (0.5, 0.75)]),
        ("segment", b"0 .2 .2 .8 .2 .8 .8", [(0.5, 0.2), (0.5, 0.5)]),
        ("obb", b"0 .5 .2 .8 .5 .5 .8 .2 .5", [(0.35, 0.35), (0.65, 0.65)]),
        ("pose", b"0 .5 .5 .9 .9 .3 .3 2 .6 .6 1", [(0.3, 0.3), (0.6, 0.6), (0.05, 0.5)]),
    ],
)
def test_labels_are_drawn_where_they_say(
    store: Store, task: Task, line: bytes, spots: list[tuple[float, float]]
) -> None:
    """Boxes, polygons and keypoints lie on the picture in the colour of their class."""
    files = {"images/a.png": encoded(Image.new("RGB", (90, 90), "white")), "labels/a.txt": line}
    record = validated(store, stored(store, files, task, kpt_shape=[2, 3] if task == "pose" else None))
    page = Image.open(io.BytesIO(store.read_blob(record.files["train.jpg"])))
    for x, y in spots:
        at = (20 + round(144 * x), 46 + round(144 * y))
        assert brightest(page, (at[0] - 2, at[1] - 2, at[0] + 3, at[1] + 3), (37, 120, 255)) < 60, (x, y)
    middle = {"detect": (0.5, 0.2), "segment": (0.3, 0.7), "obb": (0.25, 0.25), "pose": (0.02, 0.5)}[task]
    at = (20 + round(144 * middle[0]), 46 + round(144 * middle[1]))
    assert brightest(page, (*at, at[0] + 1, at[1] + 1), (37, 120, 255)) > 100


HOSTILE: list[Callable[[], Files]] = [
    lambda: {"images/\u202e\u2028`<b>.png": b"x", "labels/a b.txt": b"\x00"},
    lambda: {f"images/{'x' * 3000}.png": b"x"},
    lambda: {"a/images/a.png": pictures.scene("a", (1, 2, 200))[0], "a/labels/a.txt": b"0 " * 200_000},
]


@pytest.mark.parametrize("files", HOSTILE)
def test_hostile_names_and_files_leave_a_small_record(store: Store, files: Callable[[], Files]) -> None:
    """Whatever a manifest names, the job ends, and its record stays one that people and programs can read."""
    train = stored(store, files(), names=("\x07<script>\n", "日本", "g" * 500))
    assert len(validated(store, train).encode()) < 20_000
