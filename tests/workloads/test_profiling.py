"""What an export does on golden is counted as the server counts live traffic, and beside it, how often it is right."""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_left
from pathlib import Path

import numpy as np
import pytest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.modelspec import Task
from specs.profile_records import ProfileRecord, profile_key
from specs.records import DatasetManifest, Progress, artifact_key, progress_key
from specs.traffic import CONFIDENCE, MOST_CLASSES, OF_PICTURES, OTHER
from specs.workorders import ProfileOrder
from tests.support import onnx_models
from tests.support.counted import counted
from tests.support.datasets import stored
from tests.support.dying_store import DyingStore, Killed
from tests.support.inference_server import running
from tests.support.onnx_models import Published
from tests.support.orders import ROOT, WHO
from workloads import profiling
from workloads.job import run
from workloads.preprocess import decode, preprocess

ROWS = np.array([[16, 16, 48, 48, 0.92, 1], [2, 2, 12, 12, 0.62, 0], [16, 16, 47, 47, 0.42, 1]], np.float32)
"""In a picture of 128 pixels twice as large: what the detector finds everywhere."""
LABELS = {
    "a": "1 0.5 0.5 0.5 0.5\n",  # what it finds, and finds twice
    "b": "0 0.5 0.5 0.5 0.5\n0 0.11 0.11 0.16 0.16\n",  # the large one is of another class
    "c": None,  # background
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, and a place where jobs may work."""
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    return Store(f"file://{tmp_path}/store")


def classes(store: Store, names: list[str] | None = None) -> DatasetManifest:
    """Put a golden set for classify into the store: twelve noisy pictures in two classes."""
    files = {f"class{n % 2}/{n:02}.png": onnx_models.picture(n, (40, 30 + n)) for n in range(12)}
    return stored(store, files, "classify", tuple(names or ["class0", "class1"]))


def boxes(store: Store, names: tuple[str, ...] = ("class0", "class1")) -> DatasetManifest:
    """Put a golden set for detect into the store."""
    files = {f"images/{name}.png": onnx_models.picture(n, (128, 128)) for n, name in enumerate(LABELS)}
    files |= {f"labels/{name}.txt": text.encode() for name, text in LABELS.items() if text}
    return stored(store, files, "detect", names)


def order(model: Published, golden: DatasetManifest, task: Task = "classify", form: str = "onnx") -> ProfileOrder:
    """Order a profile."""
    return ProfileOrder(**WHO, file=model.file, format=form, task=task, golden=golden.digest())


def profile(store: Store, asked: ProfileOrder) -> ProfileRecord:
    """Give the record, which must be there."""
    text = store.read(profile_key(asked.file, asked.golden))
    assert text is not None
    return ProfileRecord.decode(text)


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_a_profile_is_what_the_server_counts(store: Store, tmp_path: Path, task: Task) -> None:
    """Golden posted to a live server gives the very counts that the profile of golden holds."""
    golden = classes(store) if task == "classify" else boxes(store)
    model = (
        onnx_models.publish(store, onnx_models.classifier(3))
        if task == "classify"
        else onnx_models.publish(store, onnx_models.detector(ROWS), task="detect", side=64)
    )
    asked = order(model, golden, task)
    assert run(asked, store) == 0
    made = profile(store, asked)
    with running(tmp_path) as server:
        assert server.load("digits", model.target(1)).status_code == 200
        for entry in golden.files:
            if entry.path.endswith(".png"):
                server.http.post(
                    "/models/digits/predict?conf=0.9", content=store.read_blob(entry.digest),
                    headers={"Content-Type": "image/png"},
                ).raise_for_status()  # fmt: skip
        live = counted(server.http.get("/metrics").text, "digits")
    assert made.n == golden.images == live.outcomes["ok"]
    assert made.pictures.keys() == OF_PICTURES.keys()
    assert made.traffic.pictures == live.pictures
    assert made.traffic.classes == live.classes
    assert made.names == onnx_models.NAMES
    last = Progress.decode(store.read(progress_key(asked.job)) or b"")
    assert (last.phase, last.job) == ("finishing", asked.job)


def test_how_often_a_classifier_is_right(store: Store) -> None:
    """Of each class that was predicted, the pictures that are of this class, in the bin of their confidence."""
    files, expected = {}, {name: [0] * CONFIDENCE.bins for name in onnx_models.NAMES}
    for n in range(12):
        image = onnx_models.picture(n)
        scores = onnx_models.run(onnx_models.classifier(3), preprocess(decode(image), "classify", (32, 32)))["output0"]
        best = onnx_models.NAMES[int(scores.argmax())]
        if n % 3:
            files[f"{best}/{n:02}.png"] = image
            expected[best][bisect_left(CONFIDENCE.edges, float(scores.max()))] += 1
        else:
            files[f"class{(int(scores.argmax()) + 1) % 10}/{n:02}.png"] = image
    golden = stored(store, files, "classify", tuple(onnx_models.NAMES))
    asked = order(onnx_models.publish(store, onnx_models.classifier(3)), golden)
    assert run(asked, store) == 0
    made = profile(store, asked)
    assert made.right == expected
    assert (sum(map(sum, made.right.values())), sum(map(sum, made.classes.values()))) == (8, 12)


def test_how_often_a_detector_is_right(store: Store) -> None:
    """A detection is right that overlaps an object of its class by one half; one that finds it again is not."""
    model = onnx_models.publish(store, onnx_models.detector(ROWS), task="detect", side=64)
    asked = order(model, boxes(store), "detect")
    assert run(asked, store) == 0
    made = profile(store, asked)
    assert made.n == 3
    assert sum(made.pictures["detections"][4:]) == 0
    assert made.pictures["detections"][3] == 3
    assert {name: sum(counts) for name, counts in made.classes.items() if sum(counts)} == {"class0": 3, "class1": 6}
    assert {name: sum(counts) for name, counts in made.right.items() if sum(counts)} == {"class0": 1, "class1": 1}
    assert made.right["class1"][18] == 1  # the one of 0.92, between 0.9 and 0.95
    assert made.right["class1"].index(1) == 18
    assert made.right["class0"].index(1) == 12


def test_classes_beyond_the_most_share_one_row(store: Store) -> None:
    """No model can flood Prometheus, and its profile is counted by the same rows."""
    names = [f"class{number:04}" for number in range(MOST_CLASSES + 50)]
    rows = np.array([[1, 1, 9, 9, 0.9, 3], [1, 1, 9, 9, 0.8, 120], [1, 1, 9, 9, 0.7, 149], [1, 1, 9, 9, 0.6, 999]])
    model = onnx_models.publish(
        store, onnx_models.detector(rows.astype(np.float32)), task="detect", side=64, changes={"names": names}
    )
    asked = order(model, boxes(store, tuple(names[:2])), "detect")
    assert run(asked, store) == 0
    made = profile(store, asked)
    assert len(made.classes) == MOST_CLASSES + 1
    assert (sum(made.classes["class0003"]), sum(made.classes[OTHER])) == (3, 9)
    assert made.right.keys() == made.classes.keys()


def test_outputs_that_nobody_can_read_still_show_pictures(store: Store) -> None:
    """Where the server cannot tell what was found, light and sharpness are counted; nothing is said to be right."""
    golden = stored(store, {"images/a.png": onnx_models.picture(0, (64, 64))}, "segment")
    changes = {"names": ["green", "red"]}
    model = onnx_models.publish(store, onnx_models.detector(ROWS), task="segment", side=64, changes=changes)
    asked = order(model, golden, "segment")
    assert run(asked, store) == 0
    made = profile(store, asked)
    assert [sum(made.pictures[name]) for name in ("brightness", "contrast", "sharpness", "size")] == [1] * 4
    assert (sum(made.pictures["confidence"]), made.right) == (0, {})


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        pytest.param({"format": "ncnn"}, "LoadFailed", "this server runs onnx, openvino", id="format"),
        pytest.param({"names": ["class0", "other"]}, "ClassMismatch", "does not know: other", id="classes"),
        pytest.param({"file": b"no model"}, "LoadFailed", "cannot load", id="file"),
        pytest.param({"picture": b"\x89PNG no more"}, "UnreadablePictures", "class0/00.png", id="picture"),
    ],
)
def test_what_can_never_be_profiled(store: Store, change: dict[str, object], reason: str, said: str) -> None:
    """It ends with exit code 10, and the record says why, so that nobody tries again."""
    model = onnx_models.publish(store, onnx_models.classifier(3))
    golden = classes(store, change.get("names"))  # type: ignore[arg-type]
    if isinstance(change.get("picture"), bytes):
        golden = stored(store, {"class0/00.png": change["picture"]}, "classify", ("class0",))  # type: ignore[dict-item]
    if isinstance(change.get("file"), bytes):
        broken = store.put_blob(change["file"])  # type: ignore[arg-type]
        artifact = model.artifact.model_copy(update={"file": broken})
        store.create(artifact_key(broken), artifact.encode())
        model = Published(broken, model.weights, model.run, artifact)
    asked = order(model, golden, form=str(change.get("format", "onnx")))
    assert run(asked, store) == 10
    made = profile(store, asked)
    assert (made.status, made.reason, made.n) == ("Failed", reason, 0)
    assert said in made.message


def test_a_store_at_fault_leaves_no_record(store: Store) -> None:
    """Without the artifact or the data set nothing is recorded: the same order works once the store is right."""
    golden, model = classes(store), onnx_models.publish(store, onnx_models.classifier(3))
    missing = digest_bytes(b"nobody")
    for asked in (
        order(model, golden).model_copy(update={"golden": missing}),
        order(model, golden).model_copy(update={"file": missing}),
    ):
        assert run(asked, store) == 65
        assert store.read(profile_key(asked.file, asked.golden)) is None


def test_killed_anywhere_it_comes_to_the_same_bytes(store: Store, tmp_path: Path) -> None:
    """Killed before and after its only write, and done once more: one record, the same as without a kill."""
    golden, model = classes(store), onnx_models.publish(store, onnx_models.classifier(3))
    asked = order(model, golden)
    assert run(asked, store) == 0
    expected = store.read(profile_key(asked.file, asked.golden))
    other = tmp_path / "other"
    (tmp_path / "store" / "profiles").rename(other)
    dying = DyingStore(store.url)
    with pytest.raises(Killed):
        profiling.run(asked, dying, tmp_path)
    assert store.read(profile_key(asked.file, asked.golden)) is None
    with pytest.raises(Killed):
        profiling.run(asked, dying, tmp_path)
    assert store.read(profile_key(asked.file, asked.golden)) == expected
    profiling.run(asked, dying, tmp_path)
    assert store.read(profile_key(asked.file, asked.golden)) == expected


def test_profiling_loads_no_torch(store: Store) -> None:
    """A profile needs the server's libraries alone, and not even those that carry requests and metrics out."""
    code = """if True:
        import sys
        import workloads.profiling
        sys.exit(bool({"torch", "ultralytics", "matplotlib", "prometheus_client"} & set(sys.modules)))
    """
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
