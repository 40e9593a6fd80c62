"""``trunkline labels``: pictures go to people and come back, as a person types it, with a folder as the queue."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.label_book import LabelBook
from adapters.store import Store
from controller.label_merge import into_store, learn
from controller.labelling import Labelling
from controller.settings import load
from specs.dataset_merge import Labelled
from specs.datasets import pictures as pictures_of
from specs.errors import Stalled
from specs.label_records import Thing, label_key
from tests.support import pictures
from tests.support.dying_store import DyingStore, Killed
from tests.support.to_label import Shelf
from tests.support.typed import said, trunkline


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Give a place with a classifier."""
    return Shelf(tmp_path, "classify")


@pytest.fixture
def boxes(tmp_path: Path) -> Shelf:
    """Give a place with a detector."""
    return Shelf(tmp_path, "detect")


def done(place: Shelf, id_: str, name: str) -> None:
    """Say as a person, by moving it, that a picture is of a class."""
    queue = place.folder / "labels/shapes"
    (found,) = (queue / "todo").glob(f"*/{id_}.png")
    (queue / "done" / name).mkdir(exist_ok=True)
    found.rename(queue / "done" / name / found.name)


def refusal(place: Shelf, *words: str) -> Stalled:
    """Type what must be refused."""
    error = trunkline(place.folder, "labels", *words).exception
    assert isinstance(error, Stalled), error
    return error


def test_list_tells_why_and_how_far(shelf: Shelf) -> None:
    """What was kept when and why, what the model thought; filters leave out the rest; nothing is written."""
    first = shelf.keep("a", why=("nothing",), predictions=[])
    second = shelf.keep("b", when=1_795_694_400.0 + 86_400, version=4, why=("random", "uncertain"))
    before = shelf.store.list()
    told = shelf.labels("list", "shapes")
    assert [(each["id"], each["state"], each["why"]) for each in told["pictures"]] == [
        (first, "new", ["nothing"]), (second, "new", ["random", "uncertain"]),
    ]  # fmt: skip
    for words, found in (
        (("--why", "nothing"), [first]), (("--why", "random"), [second]), (("--day", "2026-11-27"), [second]),
        (("--release", "3"), [first]), (("--state", "asked"), []),
    ):  # fmt: skip
        assert [each["id"] for each in shelf.labels("list", "shapes", *words)["pictures"]] == found, words
    text = said(shelf.folder, "labels", "list", "shapes")
    assert "red 0.40" in text
    assert "2 pictures are kept: 2 new" in text
    assert shelf.store.list() == before
    assert trunkline(shelf.folder, "labels", "list", "shapes", "--day", "yesterday").exit_code != 0


def test_a_class_is_said_by_moving_a_picture_and_becomes_a_version(shelf: Shelf) -> None:
    """The predicted class is where a picture waits; where a person moves it is where it is learnt from."""
    ids = sorted(shelf.keep(name) for name in "abc")
    assert shelf.labels("export", "shapes")["exported"] == ids
    waiting = shelf.folder / "labels/shapes/todo/red"
    assert sorted(path.stem for path in waiting.iterdir()) == sorted(ids)
    done(shelf, ids[0], "green")
    done(shelf, ids[1], "red")
    told = shelf.labels("import", "shapes")
    assert sorted(told["dataset"]["added"]) == sorted(ids[:2])
    assert told["waiting"] == 1
    assert "opens a pull request" in told["next"]
    digest, newest = shelf.newest()
    assert digest == told["dataset"]["digest"] != shelf.train
    assert (newest.images, newest.class_counts) == (8, {"green": 4, "red": 4})
    assert {f"green/kept-{ids[0]}.png", f"red/kept-{ids[1]}.png"} < {each.file.path for each in pictures_of(newest)}
    states = {each["id"]: each["state"] for each in shelf.labels("list", "shapes")["pictures"]}
    assert states == {ids[0]: "answered", ids[1]: "answered", ids[2]: "asked"}
    again = shelf.labels("import", "shapes")
    assert again["dataset"] is None
    assert shelf.newest()[0] == digest


def test_boxes_are_said_by_a_label_file(boxes: Shelf) -> None:
    """The guess is in the label file; what a person writes there counts; empty means that nothing is there."""
    ids = [boxes.keep(name) for name in "abcd"]
    boxes.labels("export", "shapes")
    queue = boxes.folder / "labels/shapes"
    assert (queue / "classes.txt").read_text() == "green\nred\n"
    assert (queue / f"todo/labels/{ids[0]}.txt").read_text() == "1 0.500000 0.375000 0.500000 0.500000\n"
    (queue / f"todo/labels/{ids[0]}.txt").write_text("0 0.25 0.25 0.5 0.5\n1 0.75 0.75 0.5 0.5\n")
    (queue / f"done/labels/{ids[1]}.txt").write_text("")
    (queue / f"todo/labels/{ids[2]}.txt").write_text("9 0.5 0.5 2 2\n")
    (queue / f"todo/labels/{ids[3]}.txt").unlink()
    for id_ in ids:
        (queue / f"todo/images/{id_}.png").rename(queue / f"done/images/{id_}.png")
    told = boxes.labels("import", "shapes")
    assert sorted(told["dataset"]["added"]) == sorted(ids[:2])
    assert [ids[2] in told["problems"][0] or ids[2] in told["problems"][1], len(told["problems"])] == [True, 2]
    assert any("write an empty one" in problem for problem in told["problems"])
    _, newest = boxes.newest()
    assert (newest.images, newest.class_counts) == (8, {"green": 4, "red": 4})
    by_path = {each.file.path: each for each in pictures_of(newest)}
    label = by_path[f"images/kept-{ids[0]}.png"].label
    assert label is not None
    assert boxes.store.read_blob(label.digest) == (
        b"0 0.250000 0.250000 0.500000 0.500000\n1 0.750000 0.750000 0.500000 0.500000\n"
    )
    empty = by_path[f"images/kept-{ids[1]}.png"].label
    assert empty is not None
    assert empty.size == 0


def test_nobody_is_asked_twice(shelf: Shelf) -> None:
    """Neither what waits, nor what a person threw away, nor what was imported comes back; what is new does."""
    ids = [shelf.keep(name) for name in "abc"]
    shelf.labels("export", "shapes", "--limit", "2")
    queue = shelf.folder / "labels/shapes"
    gone, finished = sorted(path.stem for path in queue.glob("todo/*/*.png"))
    next(queue.glob(f"todo/*/{gone}.png")).unlink()
    done(shelf, finished, "red")
    shelf.labels("import", "shapes")
    next(queue.glob(f"done/*/{finished}.png")).unlink()
    (third,) = set(ids) - {gone, finished}
    assert shelf.labels("export", "shapes")["exported"] == [third]
    assert [path.stem for path in queue.rglob("*.png")] == [third]
    assert shelf.labels("export", "shapes")["exported"] == []


def test_an_export_that_was_killed_goes_on(shelf: Shelf) -> None:
    """Pictures that are there, in whatever state, but not written down as asked about, are not put there again."""
    ids = [shelf.keep(name) for name in "ab"]
    shelf.labels("export", "shapes")
    done(shelf, ids[0], "green")
    for id_ in ids:  # as if the kill had come just before this was written
        (shelf.folder / "store" / label_key("shapes", id_, "asked")).unlink()
    assert shelf.labels("export", "shapes")["exported"] == sorted(ids)
    assert len(list((shelf.folder / "labels").rglob("*.png"))) == 2
    assert shelf.labels("import", "shapes")["dataset"]["added"] == [ids[0]]


def test_an_import_that_was_killed_adds_nothing_twice(shelf: Shelf) -> None:
    """The name has moved, and nobody wrote down why: the pictures are found to be there, and no version is made."""
    id_ = shelf.keep("a")
    shelf.labels("export", "shapes")
    done(shelf, id_, "green")
    shelf.labels("import", "shapes")
    digest, _ = shelf.newest()
    (shelf.folder / "store" / label_key("shapes", id_, "answered")).unlink()
    told = shelf.labels("import", "shapes")
    assert (told["dataset"]["added"], told["dataset"]["present"]) == ([], [id_])
    assert shelf.newest()[0] == digest
    assert told["next"] == ""
    assert shelf.labels("import", "shapes")["dataset"] is None


def test_two_imports_at_once_lose_nothing(shelf: Shelf) -> None:
    """Both begin from the same version, with other pictures and one that both have: all of them are there once."""
    ids = sorted(shelf.keep(name) for name in "abcde")
    shelf.labels("export", "shapes")
    desk = Labelling.of(load(shelf.folder, {}), "shapes")
    asked = desk.book.asked(ids)
    given = [Labelled(asked[id_], (Thing(name="green"),)) for id_ in ids]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda part: into_store(desk, part, frozenset(), ()), (given[:3], given[2:])))
    assert sorted(len(each.merged.added) for each in outcomes) == [2, 3]
    _, newest = shelf.newest()
    assert newest.images == 11
    assert len({each.file.digest for each in pictures_of(newest)}) == 11
    assert [desk.book.marks().state(id_) for id_ in ids] == ["asked"] * 5, "that is written down afterwards"


def test_an_import_that_dies_at_any_write_learns_once(shelf: Shelf) -> None:
    """Killed before and after each thing that is written, and typed again: one version has all, and all is noted."""
    ids = sorted(shelf.keep(name, why=["random"]) for name in "abc")
    shelf.labels("export", "shapes")
    store = DyingStore(str(shelf.folder / "store"))
    desk = replace(Labelling.of(load(shelf.folder, {}), "shapes"), store=store, book=LabelBook(store, "shapes"))
    given = [Labelled(record, (Thing(name="green"),)) for record in desk.book.asked(ids).values()]
    while True:
        try:
            learn(desk, given, None, ())
        except Killed:
            continue
        break
    assert len(store.deaths) == 2 * (1 + 1 + 3 + 3), "data set, name, what is owed, what was answered"
    _, newest = shelf.newest()
    assert newest.images == 9
    assert len(store.list("datasets/names/shapes/")) == 2
    marks = desk.book.marks()
    assert marks.owed == marks.answered == set(ids)


def test_golden_and_known_pictures_stay_out(shelf: Shelf) -> None:
    """A live picture with the bytes of a golden one is never trained on; one that is there is not added twice."""
    golden = min((shelf.folder / "golden").rglob("*.png")).read_bytes()
    known = min((shelf.folder / "shapes").rglob("*.png")).read_bytes()
    ids = [shelf.keep_bytes("a", golden), shelf.keep_bytes("b", known), shelf.keep("c"), shelf.keep("c", when=0)]
    shelf.labels("export", "shapes")
    for id_ in ids:
        done(shelf, id_, "red")
    told = shelf.labels("import", "shapes")["dataset"]
    assert (told["golden"], sorted(told["present"])) == ([ids[0]], sorted(ids[1:3]))
    assert told["added"] == [ids[3]], "the same picture was sent twice: the older one counts"
    assert shelf.newest()[1].images == 7
    assert shelf.labels("list", "shapes")["states"] == {"new": 0, "asked": 0, "answered": 4}


def test_unknown_classes_are_refused_until_somebody_means_it(shelf: Shelf) -> None:
    """A typing error makes no class; a new one is added by name, and what golden lacks then is said."""
    id_ = shelf.keep("a")
    shelf.labels("export", "shapes")
    done(shelf, id_, "blue")
    error = refusal(shelf, "import", "shapes")
    assert error.reason == "UnknownClass"
    assert "blue (1 picture)" in error.message
    assert shelf.newest()[0] == shelf.train
    told = shelf.labels("import", "shapes", "--new-class", "blue")
    assert "golden must know blue too" in told["next"]
    assert shelf.newest()[1].names == ["blue", "green", "red"]


def test_a_folder_is_merged_into_for_dvc(boxes: Shelf) -> None:
    """With --to the pictures and their labels come into a data set's folder; twice is once."""
    id_ = boxes.keep("a")
    boxes.labels("export", "shapes", "--to", "elsewhere")
    queue = boxes.folder / "elsewhere"
    (queue / f"todo/images/{id_}.png").rename(queue / f"done/images/{id_}.png")
    before = boxes.newest()[0]
    told = boxes.labels("import", "shapes", "--from", "elsewhere", "--to", "shapes")
    assert told["dataset"]["added"] == [id_]
    assert "trunkline data add" in told["next"]
    assert boxes.newest()[0] == before
    assert (boxes.folder / f"shapes/labels/kept-{id_}.txt").read_text() == "1 0.500000 0.375000 0.500000 0.500000\n"
    checked = json.loads(said(boxes.folder, "data", "check", "shapes", "--task", "detect", "--json"))
    assert (checked["images"], checked["classCounts"]) == (7, {"green": 3, "red": 4})
    (boxes.folder / "store" / label_key("shapes", id_, "answered")).unlink()
    assert boxes.labels("import", "shapes", "--from", "elsewhere", "--to", "shapes")["dataset"]["present"] == [id_]


def test_what_cannot_be_done_is_said(shelf: Shelf, tmp_path: Path) -> None:
    """No queue in the spec, no folder yet, data that lies elsewhere: each with what to do."""
    assert refusal(shelf, "import", "shapes").reason == "QueueMissing"
    id_ = shelf.keep("a")
    shelf.labels("export", "shapes")
    done(shelf, id_, "red")
    text = (shelf.hub.clone / "shapes.yaml").read_text()
    shelf.hub.commit({"shapes.yaml": text.replace("queue: {directory: {}}", "zeroDetections: true")})
    assert "spec.labelling.queue" in refusal(shelf, "export", "shapes").message
    dvc = 'train: {dvc: {repoURL: "https://git.example.com/d.git", targetRevision: main, path: d.dvc}}\n'
    line = next(line for line in text.splitlines() if "train:" in line)
    shelf.hub.commit({"shapes.yaml": text.replace(line + "\n", f"    {dvc}")})
    error = refusal(shelf, "import", "shapes")
    assert error.reason == "DataElsewhere"
    assert "dvc add" in error.message


def test_pictures_outlive_what_servers_keep(shelf: Shelf) -> None:
    """What people were asked about is learnt although the server removed it when its time was over."""
    id_ = shelf.keep("a")
    shelf.labels("export", "shapes")
    for key in shelf.store.list("kept/"):
        shelf.store.forget(key)
    done(shelf, id_, "red")
    assert shelf.labels("import", "shapes")["dataset"]["added"] == [id_]
    digest = next(f.digest for f in shelf.newest()[1].files if id_ in f.path)
    assert Store(str(shelf.folder / "store")).read_blob(digest) == pictures.scene("a", pictures.COLOURS["red"])[0]
