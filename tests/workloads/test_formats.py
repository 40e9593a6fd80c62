"""YOLO's format of every task, end to end: what Ultralytics reads and counts is what was validated."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.dataset_folder import add_folder
from adapters.store import Store
from reconcilers.data_report import faults
from specs.data_records import ValidationRecord, validation_key
from specs.errors import Stalled
from specs.modelspec import Task
from specs.records import DatasetManifest
from specs.workorders import ValidateOrder
from tests.support import pictures
from workloads.dataset import Materialised, for_training
from workloads.job import run

pytestmark = pytest.mark.ml
BOXES: tuple[Task, ...] = ("detect", "segment", "pose", "obb")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, and the working directory that a job has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    return Store(f"file://{tmp_path}/store")


def folder(root: Path, task: Task) -> Path:
    """Lay out a set with splits, with backgrounds (no file, and an empty one), and with two objects in one picture."""
    for split, count in (("train", 10), ("val", 6), ("test", 4)):
        place = root / split
        pictures.folder(place, task, count, seed=split)
        if task != "classify":
            (place / "labels" / "000.txt").unlink()
            (place / "labels" / "001.txt").write_text("\n")
            first = place / "labels" / "002.txt"
            first.write_text(first.read_text() + pictures.label(task, 1, (3, 4, 14, 17)) + "\n")
            (place / "data.yaml").rename(root / "data.yaml")
    return root


def laid_out(store: Store, root: Path, task: Task) -> tuple[DatasetManifest, ValidationRecord, Materialised]:
    """Add a set, validate it, and lay it out for training."""
    manifest = add_folder(store, folder(root / "source", task), task=task)
    order = ValidateOrder(model="default/tiny", commit="0" * 40, task=task, train=manifest.digest())
    assert run(order, store) == 0
    record = ValidationRecord.decode(store.read(validation_key(manifest.digest(), None)) or b"")
    assert faults(record, None) == []
    return manifest, record, for_training(store, manifest, root / "data", None)


def loaded(data: Materialised, split: str, task: Task) -> Any:
    """Read a split as Ultralytics' trainer does."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    described = check_det_dataset(data.argument)
    args = get_cfg(overrides={"task": task, "imgsz": 32, "cache": False, "plots": False})
    return build_yolo_dataset(args, described[split], 4, described, mode="train" if split == "train" else "val")


@pytest.mark.parametrize("task", BOXES)
def test_ultralytics_counts_what_was_validated(store: Store, tmp_path: Path, task: Task) -> None:
    """Pictures, backgrounds and objects of each class; the test split is validated, and never trained on."""
    manifest, record, data = laid_out(store, tmp_path, task)
    assert (record.train.images, record.train.background) == (20, 6)
    assert record.train.class_counts == manifest.class_counts
    counted: Counter[str] = Counter()
    for split, expected, background in (("train", data.train, 2), ("val", data.val, 2)):
        read = loaded(data, split, task)
        assert sorted(read.im_files) == sorted(map(str, expected))
        assert sum(not len(label["cls"]) for label in read.labels) == background
        counted.update(manifest.names[int(number)] for label in read.labels for number in label["cls"].ravel())
        if task in ("segment", "obb"):
            assert all(len(label["segments"]) == len(label["cls"]) for label in read.labels)
    tested = {"green": 1, "red": 2}  # of the four pictures there, two are backgrounds and one has two objects
    assert {name: counted[name] + tested[name] for name in manifest.names} == record.train.class_counts


def test_classes_of_pictures_are_counted_alike(store: Store, tmp_path: Path) -> None:
    """For classify Ultralytics numbers the folders itself."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset

    manifest, record, data = laid_out(store, tmp_path, "classify")
    args = get_cfg(overrides={"task": "classify", "imgsz": 32})
    counted: Counter[str] = Counter()
    for split in ("train", "val"):
        read = ClassificationDataset(str(tmp_path / data.argument / split), args, augment=False)
        assert read.base.classes == manifest.names
        counted.update(manifest.names[sample[1]] for sample in read.samples)
    assert {name: counted[name] + 2 for name in manifest.names} == record.train.class_counts


@pytest.mark.parametrize("mirrored", [True, False])
def test_keypoints_are_mirrored_only_where_the_set_says_how(store: Store, tmp_path: Path, mirrored: bool) -> None:  # noqa: FBT001
    """With flip_idx left becomes right when a picture is mirrored; without it Ultralytics mirrors no picture."""
    source = folder(tmp_path / "source", "pose")
    described = yaml.safe_load((source / "data.yaml").read_text())
    (source / "data.yaml").write_text(yaml.safe_dump(described | ({"flip_idx": [1, 0]} if mirrored else {})))
    manifest = add_folder(store, source, task="pose")
    data = for_training(store, manifest, tmp_path / "data", None)
    said = yaml.safe_load((tmp_path / data.argument).read_text())
    assert (said["kpt_shape"], said.get("flip_idx")) == ([2, 3], [1, 0] if mirrored else None)
    read = loaded(data, "train", "pose")
    assert all(label["keypoints"].shape[1:] == (2, 3) for label in read.labels)
    flips = [step for step in read.transforms.transforms if type(step).__name__ == "RandomFlip"]
    sideways = next(step for step in flips if step.direction == "horizontal")
    assert (sideways.p > 0, list(sideways.flip_idx)) == (mirrored, [1, 0] if mirrored else [])


@pytest.mark.parametrize(
    ("task", "line", "alone"),
    [
        pytest.param("detect", "0 .1 .1 .6 .1 .6 .6 .1 .6", True, id="a polygon in a detect set"),
        pytest.param("segment", "0 .5 .5 .3 .3", True, id="a box in a segment set"),
        pytest.param("obb", "0 .5 .5 .3 .3", True, id="a box in an obb set"),
        pytest.param("pose", "0 .5 .5 .3 .3", False, id="a box in a pose set"),
    ],
)
def test_labels_of_another_task_are_refused(store: Store, tmp_path: Path, task: Task, line: str, alone: bool) -> None:  # noqa: FBT001
    """Ultralytics leaves out a picture whose labels mix both kinds, quietly; ``alone`` is whether it takes one kind.

    Then it makes boxes of polygons, and stops at a set with fewer polygons than boxes. A label of another kind is
    mostly an accident, so file and line are named instead.
    """
    from ultralytics.data.utils import verify_image_label

    source = pictures.folder(tmp_path / "source", task, 6)
    label = source / "labels" / "000.txt"

    def takes() -> bool:
        keypoints = (True, 2, 2, 3, False) if task == "pose" else (False, 2, 0, 0, False)
        return verify_image_label((str(source / "images" / "000.png"), str(label), "", *keypoints))[0] is not None

    good = label.read_text()
    assert takes()
    label.write_text(f"{good}{line}\n")
    assert not takes()
    label.write_text(f"{line}\n")
    assert takes() == alone
    with pytest.raises(Stalled, match=r"labels/000.txt:1: expected"):
        add_folder(store, source, task=task)
