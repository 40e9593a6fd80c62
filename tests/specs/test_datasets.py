from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.datasets import class_folders, label_path, pictures, train_and_val
from specs.digests import digest_bytes
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry


def manifest(task: Task, files: dict[str, str]) -> DatasetManifest:
    """Make a manifest from path to content."""
    entries = [FileEntry(path=path, size=1, digest=digest_bytes(text.encode())) for path, text in files.items()]
    return DatasetManifest(task=task, names=["a", "b"], files=entries, images=len(entries), class_counts={})


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        pytest.param("images/1.png", "labels/1.txt", id="flat"),
        pytest.param("images/train/1.png", "labels/train/1.txt", id="split below"),
        pytest.param("train/images/1.jpeg", "train/labels/1.txt", id="split above"),
        pytest.param("images/images/a.b.png", "images/labels/a.b.txt", id="last folder counts"),
        pytest.param("pictures/1.png", None, id="no images folder"),
        pytest.param("images", None, id="a file called images"),
    ],
)
def test_labels_lie_in_a_labels_folder_instead_of_images(picture: str, label: str | None) -> None:
    """A picture's labels are found as Ultralytics finds them: its last ``images`` folder replaced."""
    assert label_path(picture) == label


def test_a_class_may_be_called_train() -> None:
    """Folders are splits only where every picture lies in one."""
    assert class_folders(["train/1.png", "plane/a/2.png"]) == {
        "train/1.png": ("", "train"), "plane/a/2.png": ("", "plane"),
    }  # fmt: skip
    assert class_folders(["train/plane/1.png", "valid/train/2.png"]) == {
        "train/plane/1.png": ("train", "plane"), "valid/train/2.png": ("val", "train"),
    }  # fmt: skip


def test_a_picture_without_labels_is_background() -> None:
    """Labels are attached where they exist; without them a picture still counts."""
    found = pictures(manifest("detect", {"images/1.png": "1", "labels/1.txt": "l", "images/2.png": "2"}))
    assert [(p.file.path, p.label.path if p.label else None) for p in found] == [
        ("images/1.png", "labels/1.txt"), ("images/2.png", None),
    ]  # fmt: skip


def test_splits_of_the_data_set_are_kept_and_test_pictures_left_out() -> None:
    """What the folders say is done: nothing is held out where there is a validation split."""
    files = {f"images/{split}/{i}.png": f"{split}{i}" for split in ("train", "val", "test") for i in range(20)}
    train, val = train_and_val(manifest("detect", files))
    assert {p.file.path.split("/")[1] for p in train} == {"train"}
    assert {p.file.path.split("/")[1] for p in val} == {"val"}
    assert (len(train), len(val)) == (20, 20)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4).filter(lambda sizes: max(sizes) > 1),
    task=st.sampled_from(["classify", "detect"]),
)
def test_holding_out_divides_completely_and_fairly(sizes: list[int], task: Task) -> None:
    """Every picture is on exactly one side, each class can still be learnt, and about a tenth is held out."""
    files = {f"images/c{c}/{i}.png": f"{c}-{i}" for c, size in enumerate(sizes) for i in range(size)}
    if task == "classify":
        files = {path.removeprefix("images/"): text for path, text in files.items()}
    train, val = train_and_val(manifest(task, files))
    assert sorted(p.file.path for p in [*train, *val]) == sorted(files)
    assert len(val) <= max(len(files) / 10 + len(sizes), 1)
    if task == "classify":
        assert {p.class_name for p in train} == {f"c{c}" for c in range(len(sizes))}


def test_copies_of_a_picture_stay_on_one_side() -> None:
    """A picture that lies in the data set twice must not be learnt from and validated with."""
    files = {f"images/{i}{copy}.png": str(i) for i in range(30) for copy in "ab"}
    train, val = train_and_val(manifest("detect", files))
    assert val
    assert not {p.file.digest for p in train} & {p.file.digest for p in val}


def test_one_picture_cannot_be_divided() -> None:
    """Too few pictures are an error that says what is needed."""
    with pytest.raises(ValueError, match="at least two different pictures"):
        train_and_val(manifest("detect", {"images/1.png": "1"}))
