"""Two versions of a data set compared: what is the same picture, and when it is labelled otherwise."""

from __future__ import annotations

from specs.dataset_diff import changes, difference
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry
from tests.support.builders import digest


def detect(files: dict[str, str], task: Task = "detect") -> DatasetManifest:
    """Give a data set by path and what stands for the bytes; empty text stands for an empty file."""
    entries = [FileEntry(path=path, size=len(text), digest=digest(text)) for path, text in sorted(files.items())]
    images = sum(path.endswith(".png") for path in files)
    return DatasetManifest(task=task, names=["a", "b"], files=entries, images=images, class_counts={"a": 1, "b": 0})


BASE = {"images/1.png": "one", "labels/1.txt": "0", "images/2.png": "two", "labels/2.txt": "1"}


def test_pictures_come_and_go_by_their_bytes() -> None:
    """Another picture under an old name is one added and one removed."""
    found = changes(detect(BASE), detect(BASE | {"images/1.png": "new"}))
    assert [picture.file.digest for picture in found.added] == [digest("new")]
    assert [picture.file.path for picture in found.removed] == ["images/1.png"]
    assert found.relabelled == ()


def test_a_renamed_picture_is_the_same_picture() -> None:
    """Moving pictures with their labels to other folders and names changes nothing."""
    moved = {f"{folder}/train/x{path[-5:]}": text for path, text in BASE.items() for folder in [path.split("/")[0]]}
    assert difference(detect(BASE), detect(moved)) == difference(detect(BASE), detect(BASE))
    assert (difference(detect(BASE), detect(moved)).added, difference(detect(BASE), detect(moved)).relabelled) == (0, 0)


def test_other_labels_are_a_relabelled_picture() -> None:
    """Also where the picture was renamed meanwhile; both versions of it are given."""
    after = {"images/9.png": "one", "labels/9.txt": "0 0", "images/2.png": "two", "labels/2.txt": "1"}
    ((old, new),) = changes(detect(BASE), detect(after)).relabelled
    assert (old.file.path, new.file.path) == ("images/1.png", "images/9.png")
    assert new.label is not None
    assert new.label.digest == digest("0 0")


def test_no_label_and_an_empty_one_are_the_same() -> None:
    """Both say that there is nothing in the picture; labels that are removed altogether are a change."""
    empty, none = BASE | {"labels/1.txt": ""}, {k: v for k, v in BASE.items() if k != "labels/1.txt"}
    assert difference(detect(empty), detect(none)).relabelled == 0
    assert difference(detect(BASE), detect(none)).relabelled == 1


def test_copies_are_one_picture() -> None:
    """A copy with the same labels is no news; one that says otherwise is shown with what is new about it."""
    copied = BASE | {"images/3.png": "one", "labels/3.txt": "0"}
    found = difference(detect(BASE), detect(copied))
    assert (found.images, found.added, found.removed, found.relabelled) == ((2, 3), 0, 0, 0)
    ((old, new),) = changes(detect(BASE), detect(copied | {"labels/3.txt": "1 1"})).relabelled
    assert (old.file.path, new.file.path) == ("images/1.png", "images/3.png")


def test_another_class_folder_is_another_label() -> None:
    """For classify the folder is the label; a split's folder is not."""
    before = detect({"a/1.png": "one", "b/2.png": "two"}, "classify")
    assert difference(before, detect({"b/1.png": "one", "b/2.png": "two"}, "classify")).relabelled == 1
    assert difference(before, detect({"train/a/1.png": "one", "train/b/2.png": "two"}, "classify")).relabelled == 0
