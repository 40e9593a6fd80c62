from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.dataset_folder import SHOWN, add_folder
from adapters.store import Store
from specs.errors import Stalled
from specs.modelspec import Task
from specs.records import DatasetManifest, dataset_key
from tests.support import pictures

TASKS: tuple[Task, ...] = ("classify", "detect", "segment", "pose", "obb")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(f"file://{tmp_path}/store")


def refusal(store: Store, folder: Path, task: Task = "detect") -> str:
    """Give what is said about a folder that is not usable; nothing may name it in the store afterwards."""
    with pytest.raises(Stalled) as caught:
        add_folder(store, folder, task=task)
    assert caught.value.reason == "InvalidDataset"
    assert store.list("datasets/") == []
    return caught.value.message


@pytest.mark.parametrize("task", TASKS)
def test_a_folder_becomes_a_manifest_in_the_store(store: Store, tmp_path: Path, task: Task) -> None:
    """The manifest names every file by digest, counts classes, and lies under its own digest, with all files there."""
    manifest = add_folder(store, pictures.folder(tmp_path / "d", task, 10), task=task)
    assert manifest.names == ["green", "red"]
    assert manifest.class_counts == {"green": 5, "red": 5}
    assert manifest.images == 10
    assert manifest.kpt_shape == ([2, 3] if task == "pose" else None)
    assert store.read(dataset_key(manifest.digest())) == manifest.encode()
    assert DatasetManifest.decode(manifest.encode()) == manifest
    for entry in manifest.files:
        assert store.read_blob(entry.digest) == (tmp_path / "d" / entry.path).read_bytes()
        assert entry.size == (tmp_path / "d" / entry.path).stat().st_size


def test_adding_again_writes_nothing(store: Store, tmp_path: Path) -> None:
    """The same files give the same digest and leave the store as it is."""
    folder = pictures.folder(tmp_path / "d", "detect", 6)
    first = add_folder(store, folder, task="detect")
    before = store.list()
    assert add_folder(store, folder, task="detect").digest() == first.digest()
    assert store.list() == before


def test_progress_counts_files(store: Store, tmp_path: Path) -> None:
    """Progress goes up to the number of files, so that a bar can be drawn."""
    seen: list[tuple[int, int]] = []
    add_folder(
        store, pictures.folder(tmp_path / "d", "detect", 4), task="detect",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(n, 8) for n in range(1, 9)]


@pytest.mark.parametrize(
    ("task", "line", "said"),
    [
        pytest.param("detect", "2 .5 .5 .1 .1", "class 2 does not exist; 2 classes are numbered 0 to 1", id="class"),
        pytest.param("detect", "-1 .5 .5 .1 .1", "class -1 does not exist", id="negative class"),
        pytest.param("detect", "0.5 .5 .5 .1 .1", "class 0.5 does not exist", id="half a class"),
        pytest.param("detect", "0 .5 .5 .1", "expected 5 values", id="too few"),
        pytest.param("detect", "0 16 16 8 8", "16 is not between 0 and 1", id="pixels"),
        pytest.param("detect", "0 .5 .5 0 .1", "must be greater than 0", id="no width"),
        pytest.param("detect", "0 .5 .5 nan .1", "must be finite", id="nan"),
        pytest.param("detect", "cat .5 .5 .1 .1", "expected numbers only", id="words"),
        pytest.param("segment", "0 .1 .1 .2 .2", "at least 3 points", id="two points"),
        pytest.param("segment", "0 .1 .1 .2 .2 .3 .3 .4", "at least 3 points", id="half a point"),
        pytest.param("obb", "0 .5 .5 .1 .1", "9 values: class and 4 corners", id="box for obb"),
        pytest.param("pose", "0 .5 .5 .1 .1 .2 .2 2", "11 values", id="missing keypoint"),
        pytest.param("pose", "0 .5 .5 .1 .1 .2 .2 2 9 .3 2", "9 is not between 0 and 1", id="keypoint outside"),
        pytest.param("pose", "0 .5 .5 .1 .1 .2 .2 3 .3 .3 2", "visibility 3 of a keypoint must be 0", id="visibility"),
        pytest.param("segment", "0 .1 .1 .1 .2 .1 .3", "enclose nothing", id="flat polygon"),
        pytest.param("obb", "0 .1 .5 .2 .5 .3 .5 .2 .5", "enclose nothing", id="flat obb"),
    ],
)
def test_a_wrong_label_is_named_with_file_and_line(
    store: Store, tmp_path: Path, task: Task, line: str, said: str
) -> None:
    """A person reads where the wrong line is and what would be right."""
    folder = pictures.folder(tmp_path / "d", task, 4)
    label = folder / "labels" / "001.txt"
    label.write_text(f"{label.read_text()}\n{line}\n")
    message = refusal(store, folder, task)
    assert "labels/001.txt:3: " in message
    assert said in message


def test_a_picture_without_labels_is_fine(store: Store, tmp_path: Path) -> None:
    """Background pictures teach what is not there; an empty label file says the same."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    (folder / "labels" / "000.txt").unlink()
    (folder / "labels" / "001.txt").write_text("\n")
    manifest = add_folder(store, folder, task="detect")
    assert manifest.images == 4
    assert manifest.class_counts == {"green": 1, "red": 1}


def broken_folder(folder: Path, what: str) -> None:
    """Spoil a good detect folder."""
    picture, label, described = folder / "images" / "000.png", folder / "labels" / "000.txt", folder / "data.yaml"
    spoil: dict[str, Callable[[], object]] = {
        "label without picture": lambda: label.with_name("999.txt").write_text("0 .5 .5 .1 .1\n"),
        "link": lambda: picture.with_name("link.png").symlink_to(picture),
        "linked folder": lambda: picture.with_name("more").symlink_to(picture.parent, target_is_directory=True),
        "empty picture": lambda: picture.write_bytes(b""),
        "web page": lambda: picture.write_text("<html>404 not found</html>"),
        "outside": lambda: picture.rename(folder / "000.png"),
        "control character": lambda: picture.rename(picture.with_name("0\n0.png")),
        "no names": described.unlink,
        "broken yaml": lambda: described.write_text("names: [green, red"),
        "code in yaml": lambda: described.write_text(f"names: !!python/object/apply:os.mkdir ['{folder}/executed']"),
        "names twice": lambda: described.write_text("names: [red, red]"),
        "binary labels": lambda: label.write_bytes(b"\xff\xfe\x00"),
    }
    spoil[what]()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("label without picture", "labels/999.txt: labels no picture"),
        ("link", "images/link.png: is a symbolic link"),
        ("linked folder", "images/more: is a symbolic link"),
        ("empty picture", "images/000.png: is empty"),
        ("web page", "images/000.png: is not a picture of a known format"),
        ("outside", "000.png: lies in no images/ folder"),
        ("control character", "a file name must be plain text"),
        ("no names", "class names are unknown"),
        ("broken yaml", "data.yaml: cannot be read as YAML"),
        ("code in yaml", "data.yaml: cannot be read as YAML"),
        ("names twice", "class names must differ"),
        ("binary labels", "labels/000.txt: is not text"),
    ],
    ids=lambda value: value if ":" not in value else "",
)
def test_what_is_wrong_with_a_folder_is_said(store: Store, tmp_path: Path, what: str, said: str) -> None:
    """Each kind of trouble is named with its file; nothing enters the store as a data set, and no YAML runs code."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    broken_folder(folder, what)
    assert said in refusal(store, folder)
    assert not (folder / "executed").exists()


def test_many_problems_are_listed_up_to_a_limit(store: Store, tmp_path: Path) -> None:
    """A screen full of problems is enough; the rest is counted."""
    folder = pictures.folder(tmp_path / "d", "detect", SHOWN + 5)
    for label in (folder / "labels").iterdir():
        label.write_text("9 .5 .5 .1 .1\n")
    message = refusal(store, folder)
    assert message.count("labels/") == SHOWN
    assert message.endswith("and 5 more")


@pytest.mark.parametrize("missing", ["no folder", "no pictures"])
def test_an_empty_or_missing_folder_is_refused(store: Store, tmp_path: Path, missing: str) -> None:
    """A mistyped path must not become an empty data set."""
    folder = tmp_path / "d"
    if missing == "no pictures":
        folder.mkdir()
    assert ("no such folder" if missing == "no folder" else "holds no pictures") in refusal(store, folder)


def test_hidden_files_and_other_files_stay_outside(store: Store, tmp_path: Path) -> None:
    """Only pictures and their labels are the data set; caches, notes and hidden files would change its digest."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    clean = add_folder(store, folder, task="detect").digest()
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"x")
    (folder / "images" / ".DS_Store").write_bytes(b"x")
    (folder / "labels.cache").write_bytes(b"x")
    (folder / "README.md").write_text("x")
    assert add_folder(store, folder, task="detect").digest() == clean


@pytest.mark.parametrize("source", ["data.yaml mapping", "classes.txt", "argument"])
def test_class_names_come_from_where_they_are_written(store: Store, tmp_path: Path, source: str) -> None:
    """An argument wins, then data.yaml, then classes.txt."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    (folder / "data.yaml").unlink()
    if source == "data.yaml mapping":
        (folder / "data.yaml").write_text("names: {1: rot, 0: gruen}\ndownload: rm -rf /\n")
    else:
        (folder / "classes.txt").write_text("gruen\nrot\n" if source == "classes.txt" else "x\ny\n")
    names = ["gruen", "rot"] if source == "argument" else None
    assert add_folder(store, folder, task="detect", names=names).names == ["gruen", "rot"]


def test_classes_are_numbered_as_the_trainer_will(store: Store, tmp_path: Path) -> None:
    """Ultralytics sorts class folders as text; a list of names may add classes but not reorder or drop any."""
    folder = tmp_path / "d"
    for name in ("10", "9", "1"):
        pictures.folder(folder / "all", "classify", 2)
        (folder / name).mkdir()
        (folder / "all" / "red" / "001.png").rename(folder / name / "1.png")
    for leftover in (folder / "all").rglob("*.png"):
        leftover.unlink()
    assert add_folder(store, folder, task="classify").names == ["1", "10", "9"]
    with pytest.raises(Stalled, match="9/: is not among the class names given"):
        add_folder(store, folder, task="classify", names=["1", "10"])
    assert add_folder(store, folder, task="classify", names=["9", "10", "1", "0"]).names == ["0", "1", "10", "9"]


def test_pose_needs_the_number_of_keypoints(store: Store, tmp_path: Path) -> None:
    """Keypoints cannot be told from the columns alone, so their shape must be written down."""
    folder = pictures.folder(tmp_path / "d", "pose", 4)
    (folder / "data.yaml").write_text("names: [green, red]\n")
    assert "kpt_shape: [number of keypoints, 2 or 3]" in refusal(store, folder, "pose")
    (folder / "data.yaml").write_text("names: [green, red]\nkpt_shape: [2, 4]\n")
    assert "kpt_shape must be" in refusal(store, folder, "pose")


def test_how_keypoints_are_mirrored_is_kept(store: Store, tmp_path: Path) -> None:
    """Without it the trainer mirrors nothing; one that does not name every keypoint once is refused."""
    folder = pictures.folder(tmp_path / "d", "pose", 4)
    plain = add_folder(store, folder, task="pose")
    assert b"flip_idx" not in plain.encode()
    (folder / "data.yaml").write_text("names: [green, red]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n")
    assert add_folder(store, folder, task="pose").flip_idx == [1, 0]
    for wrong in ("[0, 0]", "[0]", "[0, 2]", "[true, false]", "left", "[0, '1']", "[[0], 1]"):
        (folder / "data.yaml").write_text(f"names: [green, red]\nkpt_shape: [2, 3]\nflip_idx: {wrong}\n")
        with pytest.raises(Stalled, match="flip_idx must name each of 0 to 1 once"):
            add_folder(store, folder, task="pose")
