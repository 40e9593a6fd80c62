"""What raw outputs mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specs.digests import digest_of
from specs.modelspec import Task
from specs.records import ArtifactRecord
from tests.support import onnx_models
from workloads import preprocess
from workloads.preprocess import letterbox
from workloads.serve import results
from workloads.serve.answers import Refusal

DIGEST = digest_of("x")


def artifact(task: Task, size: tuple[int, int] = (64, 64)) -> ArtifactRecord:
    """Give a record of a model with three classes."""
    return ArtifactRecord(
        file=DIGEST, format="onnx", task=task, names=["cat", "dog", "owl"], image_size=size, weights=DIGEST,
        self_tests=[],
    )  # fmt: skip


def test_classes_best_first() -> None:
    """A classification names at most five classes, the likeliest first; a class without a name shows its number."""
    scores = np.array([[0.1, 0.5, 0.05, 0.3, 0.02, 0.03]], np.float32)
    found = results.decode_results(artifact("classify"), {"output0": scores}, (10, 10), 0.25)
    assert [entry["class"] for entry in found] == [1, 3, 0, 2, 5]
    assert [entry["name"] for entry in found] == ["dog", "3", "cat", "owl", "5"]
    assert found[0]["confidence"] == pytest.approx(0.5)


def test_boxes_in_original_pixels() -> None:
    """Boxes come back in the uploaded picture's pixels, clipped to it, above the threshold, best first."""
    rows = np.array(
        [[16, 8, 48, 40, 0.3, 2], [16, 8, 48, 40, 0.9, 1], [0, 0, 64, 64, 0.5, 0], [1, 1, 2, 2, 0.1, 0]], np.float32
    )
    # 200 wide, 100 high into 64 x 64: scale 0.32, 16 rows of padding above and below.
    found = results.decode_results(artifact("detect"), {"output0": rows[None]}, (100, 200), 0.25)
    assert [entry["name"] for entry in found] == ["dog", "cat", "owl"]
    assert found[0]["box"] == pytest.approx({"x1": 50, "y1": 0, "x2": 150, "y2": 75})
    assert found[1]["box"] == pytest.approx({"x1": 0, "y1": 0, "x2": 200, "y2": 100})


@pytest.mark.parametrize("size", [(100, 200), (333, 77), (64, 64), (1, 999), (31, 33)], ids=str)
@pytest.mark.parametrize("image_size", [(64, 64), (96, 160)], ids=str)
def test_unletterbox_inverts_preprocessing(size: tuple[int, int], image_size: tuple[int, int]) -> None:
    """A box carried through the padding that preprocessing made lands where it was."""
    padded, _, (left, top) = letterbox(np.zeros((*size, 3), np.uint8), image_size)
    down, across = ((padded == 0).all(axis=2).any(axis=axis).sum() for axis in (1, 0))
    share = np.array([[0.1, 0.2, 0.7, 0.9]])
    moved = share * [across, down, across, down] + [left, top, left, top]
    box = share * [size[1], size[0], size[1], size[0]]
    np.testing.assert_allclose(results.unletterbox(moved, image_size, size), box, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        pytest.param("segment", (1, 300, 38), id="segment"), pytest.param("pose", (1, 300, 57), id="pose"),
        pytest.param("obb", (1, 300, 7), id="obb"),
        pytest.param("detect", (1, 84, 8400), id="detect-with-other-classes"),
    ],
)  # fmt: skip
def test_unsupported_outputs(task: Task, shape: tuple[int, ...]) -> None:
    """What cannot be decoded is refused with 501 and the way to the raw outputs."""
    with pytest.raises(Refusal, match="/v2/models") as caught:
        results.decode_results(artifact(task), {"output0": np.zeros(shape, np.float32)}, (10, 10), 0.25)
    assert caught.value.status == 501


def test_overlapping_boxes_are_one_object() -> None:
    """Of a model without its own suppression, the best box of each heap is kept, for each class by itself."""
    columns = [
        # centre x, centre y, width, height, three scores
        [20, 20, 10, 10, 0.8, 0.1, 0.0],  # the best cat
        [21, 20, 10, 10, 0.7, 0.1, 0.0],  # the same cat
        [21, 20, 10, 10, 0.1, 0.6, 0.0],  # a dog on the cat
        [26, 20, 10, 10, 0.5, 0.1, 0.0],  # another cat beside it
        [50, 50, 10, 10, 0.0, 0.0, 0.2],  # hardly an owl
    ]
    raw = np.array([columns], np.float32).transpose(0, 2, 1)
    found = results.decode_results(artifact("detect"), {"output0": raw}, (64, 64), 0.25)
    assert [(entry["name"], round(entry["confidence"], 2)) for entry in found] == [
        ("cat", 0.8), ("dog", 0.6), ("cat", 0.5),
    ]  # fmt: skip
    assert found[0]["box"] == pytest.approx({"x1": 15, "y1": 15, "x2": 25, "y2": 25})


@pytest.mark.parametrize("confidence", [0.05, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["raw", "rows", "scores"])
def test_one_look_tells_the_same(kind: str, confidence: float) -> None:
    """What a client is told does not depend on what is counted beside it, whatever confidence it asks for."""
    random = np.random.default_rng(7)
    outputs = {
        "raw": np.concatenate([random.uniform(5, 60, (4, 400)), random.uniform(0, 1, (3, 400)) ** 4]),
        "rows": np.concatenate(
            [random.uniform(0, 64, (50, 4)), np.sort(random.random((50, 1)), axis=0)[::-1], np.ones((50, 1))], axis=1
        ),
        "scores": random.random(3),
    }  # fmt: skip
    made = artifact("classify" if kind == "scores" else "detect")
    output = {"output0": outputs[kind][None].astype(np.float32)}
    told, found = results.read(made, output, (100, 200), confidence)
    assert told == results.decode_results(made, output, (100, 200), confidence)
    assert len(told) > 0 or confidence == 1.0
    np.testing.assert_array_equal(found[0], results.findings(made, output, 1)[0])


def test_nothing_found() -> None:
    """A picture without detections gives an empty list."""
    raw = np.zeros((1, 7, 84), np.float32)
    assert results.decode_results(artifact("detect"), {"output0": raw}, (64, 64), 0.25) == []


@pytest.mark.ml
@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_that_of_ultralytics(seed: int) -> None:
    """On random heaps of boxes the detections are those of Ultralytics' own post-processing."""
    torch = pytest.importorskip("torch")
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    random = np.random.default_rng(seed)
    centres, sizes = random.uniform(0, 64, (2, 400)), random.uniform(5, 30, (2, 400))
    raw = np.concatenate([centres, sizes, random.uniform(0, 1, (3, 400)) ** 4]).astype(np.float32)
    (wanted,) = non_max_suppression(torch.from_numpy(raw[None].copy()), conf_thres=0.25, iou_thres=0.7, nc=3)
    boxes = scale_boxes((64, 64), wanted[:, :4].numpy(), (100, 200))
    found = results.decode_results(artifact("detect"), {"output0": raw[None]}, (100, 200), 0.25)
    assert [entry["class"] for entry in found] == wanted[:, 5].int().tolist()
    np.testing.assert_allclose([list(entry["box"].values()) for entry in found], boxes, atol=1e-3)


@pytest.mark.ml
@pytest.mark.parametrize("nms", [None, False], ids=["plain", "end-to-end"])
def test_real_model_as_ultralytics_predicts(tmp_path: Path, nms: bool | None) -> None:  # noqa: FBT001 - a case
    """The boxes of a real export, for a picture of odd size, are those that Ultralytics itself predicts with it."""
    ultralytics = pytest.importorskip("ultralytics")
    model = ultralytics.YOLO("yolo26n.yaml")
    model.save(tmp_path / "model.pt")
    exported = ultralytics.YOLO(tmp_path / "model.pt").export(format="onnx", imgsz=160, nms=nms, dynamic=True)
    data = onnx_models.picture(3, (90, 130))
    picture = preprocess.decode(data)
    (tmp_path / "picture.png").write_bytes(data)
    (wanted,) = ultralytics.YOLO(exported, task="detect").predict(
        tmp_path / "picture.png", imgsz=160, conf=1e-7, rect=False, verbose=False
    )
    tensor = preprocess.preprocess(picture, "detect", (160, 160))
    outputs = onnx_models.run(Path(exported).read_bytes(), tensor)
    record = artifact("detect", (160, 160)).model_copy(update={"names": list(wanted.names.values())})
    found = results.decode_results(record, outputs, (90, 130), 1e-7)
    assert len(found) == len(wanted.boxes) > 10
    given = np.array([[*entry["box"].values(), 1e5 * entry["confidence"], entry["class"]] for entry in found])
    expected = wanted.boxes.data.numpy() * [1, 1, 1, 1, 1e5, 1]
    alike = np.isclose(given[:, None], expected[None], atol=0.05).all(axis=2)
    assert alike.any(axis=0).all()
    assert alike.any(axis=1).all()


def rows(*confidences: float) -> np.ndarray:
    """Give detections (1, n, 6) that differ in their confidence and place."""
    return np.array([[[10 * c, 1, 20, 20, c, 1] for c in confidences]], np.float32)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        pytest.param(rows(0.9, 0.5, 0.01), True, id="equal"),
        pytest.param(rows(0.5, 0.9, 0.01), True, id="other-order"),
        pytest.param(rows(0.9, 0.5, 0.03), True, id="other-noise"),
        pytest.param(rows(0.9, 0.4, 0.01), False, id="one-differs"),
        pytest.param(rows(0.9, 0.01, 0.01), False, id="one-missing"),
        pytest.param(rows(0.9, 0.5, 0.2), False, id="one-more"),
        pytest.param(rows(0.9, 0.5), False, id="other-shape"),
        pytest.param(rows(0.9, 0.5, float("nan")), True, id="nan-is-noise"),
        pytest.param(rows(0.9, float("nan"), 0.01), False, id="nan-for-a-detection"),
    ],
)
def test_detections_agree_as_sets(given: np.ndarray, same: bool) -> None:  # noqa: FBT001 - the expectation
    """Confident detections must be found again, in any order; the others may change."""
    assert results.agree("detect", rows(0.9, 0.5, 0.01), given, 1e-3) is same


@pytest.mark.parametrize("off", [0.0005, 0.01], ids=["within", "beyond"])
def test_scores_agree_within_tolerance(off: float) -> None:
    """Class scores must be equal within the tolerance."""
    expected = np.array([[0.2, 0.8]], np.float32)
    assert results.agree("classify", expected, expected + np.float32(off), 1e-3) is (off < 1e-3)
