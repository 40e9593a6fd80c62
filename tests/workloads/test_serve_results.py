"""What raw outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.digests import digest_of
from specs.modelspec import Task
from specs.records import ArtifactRecord
from workloads.preprocess import letterbox
from workloads.serve import results, results_masks
from workloads.serve.answers import Refusal
from workloads.serve.fitting import Fit
from workloads.serve.query import Query, query_of

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
    found = results.decode_results(artifact("classify"), {"output0": scores}, (10, 10))
    assert [entry["class"] for entry in found] == [1, 3, 0, 2, 5]
    assert [entry["name"] for entry in found] == ["dog", "3", "cat", "owl", "5"]
    assert found[0]["confidence"] == pytest.approx(0.5)


def test_boxes_in_original_pixels() -> None:
    """Boxes come back in the uploaded picture's pixels, clipped to it, above the threshold, best first."""
    rows = np.array(
        [[16, 8, 48, 40, 0.3, 2], [16, 8, 48, 40, 0.9, 1], [0, 0, 64, 64, 0.5, 0], [1, 1, 2, 2, 0.1, 0]], np.float32
    )
    # 200 wide, 100 high into 64 x 64: scale 0.32, 16 rows of padding above and below.
    found = results.decode_results(artifact("detect"), {"output0": rows[None]}, (100, 200))
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
    np.testing.assert_allclose(Fit.of(image_size, size).boxes(moved), box, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        pytest.param("segment", (1, 300, 38), id="segment-without-prototypes"),
        pytest.param("pose", (1, 7, 8400), id="pose-without-points"),
        pytest.param("obb", (1, 300, 6), id="obb-without-angle"),
        pytest.param("detect", (1, 84, 8400), id="detect-with-other-classes"),
        pytest.param("detect", (1, 300), id="detect-of-two-dimensions"),
    ],
)  # fmt: skip
def test_unsupported_outputs(task: Task, shape: tuple[int, ...]) -> None:
    """What cannot be decoded is refused with 501 and the way to the raw outputs."""
    with pytest.raises(Refusal, match="/v2/models") as caught:
        results.decode_results(artifact(task), {"output0": np.zeros(shape, np.float32)}, (10, 10))
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
    found = results.decode_results(artifact("detect"), {"output0": raw}, (64, 64))
    assert [(entry["name"], round(entry["confidence"], 2)) for entry in found] == [
        ("cat", 0.8), ("dog", 0.6), ("cat", 0.5),
    ]  # fmt: skip
    assert found[0]["box"] == pytest.approx({"x1": 15, "y1": 15, "x2": 25, "y2": 25})


@pytest.mark.parametrize("confidence", [0.05, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("kind", ["raw", "rows", "scores", "segment", "obb"])
def test_one_look_tells_the_same(kind: str, confidence: float) -> None:
    """What a client is told does not depend on what is counted beside it, whatever confidence it asks for."""
    random = np.random.default_rng(7)
    outputs = {
        "raw": np.concatenate([random.uniform(5, 60, (4, 400)), random.uniform(0, 1, (3, 400)) ** 4]),
        "rows": np.concatenate(
            [random.uniform(0, 64, (50, 4)), np.sort(random.random((50, 1)), axis=0)[::-1], np.ones((50, 1))], axis=1
        ),
        "scores": random.random(3),
        "segment": np.concatenate(
            [random.uniform(5, 60, (4, 400)), random.uniform(0, 1, (3, 400)) ** 4, random.normal(size=(2, 400))]
        ),
        "obb": np.concatenate(
            [random.uniform(5, 60, (4, 400)), random.uniform(0, 1, (3, 400)) ** 4, random.uniform(0, 3, (1, 400))]
        ),
    }  # fmt: skip
    tasks: dict[str, Task] = {"scores": "classify", "segment": "segment", "obb": "obb"}
    made = artifact(tasks.get(kind, "detect"))
    output = {"output0": outputs[kind][None].astype(np.float32), "output1": PLANE}
    told, found = results.read(made, output, (100, 200), Query(confidence))
    assert told == results.decode_results(made, output, (100, 200), Query(confidence))
    assert len(told) > 0 or confidence == 1.0
    np.testing.assert_array_equal(found[0], results.findings(made, output, 1)[0])


def test_nothing_found() -> None:
    """A picture without detections gives an empty list."""
    raw = np.zeros((1, 7, 84), np.float32)
    assert results.decode_results(artifact("detect"), {"output0": raw}, (64, 64)) == []


def test_key_points_of_records_that_do_not_say_their_shape() -> None:
    """Where nobody wrote down the shape of key points, three numbers each are taken for place and visibility."""
    row = np.array([[[16, 8, 48, 40, 0.9, 1, 32, 32, 0.7, 80, 16, 0.1]]], np.float32)
    rows = {"output0": np.repeat(row, 300, axis=1)}
    (found,) = results.decode_results(artifact("pose"), rows, (64, 64), Query(most=1))
    assert found["keypoints"] == {"x": [32, 64], "y": [32, 16], "visible": pytest.approx([0.7, 0.1])}
    said = artifact("pose").model_copy(update={"kpt_shape": (3, 2)})
    (found,) = results.decode_results(said, {"output0": row}, (64, 64))
    assert found["keypoints"]["y"] == pytest.approx([32, 64, 0.1])
    assert "visible" not in found["keypoints"]


def test_rotated_boxes_of_a_class_are_one_object() -> None:
    """Of rotated boxes that cover each other, the best of a class stays; crossed ones are two objects."""
    columns = [
        # centre x, centre y, width, height, three scores, angle
        [32, 32, 40, 8, 0.9, 0.0, 0.0, 0.5],  # the best cat
        [33, 32, 40, 8, 0.8, 0.0, 0.0, 0.5],  # the same cat
        [32, 32, 8, 40, 0.7, 0.0, 0.0, 0.5 + np.pi / 2],  # the same cat, told in another way
        [32, 32, 40, 8, 0.6, 0.0, 0.0, 0.5 + np.pi / 2],  # a cat across it
        [32, 32, 40, 8, 0.0, 0.5, 0.0, 0.5],  # a dog on it
    ]
    raw = np.array([columns], np.float32).transpose(0, 2, 1)
    found = results.decode_results(artifact("obb"), {"output0": raw}, (128, 64))
    assert [(entry["name"], round(entry["confidence"], 2)) for entry in found] == [
        ("cat", 0.9), ("cat", 0.6), ("dog", 0.5),
    ]  # fmt: skip
    assert found[0]["rotated"] == pytest.approx({"x": 32, "y": 64, "width": 80, "height": 16, "angle": 0.5})
    assert found[0]["box"]["x1"] == pytest.approx(32 + 40 * np.cos(0.5) - 8 * np.sin(0.5))


PLANE = np.full((1, 2, 16, 16), -1.0, np.float32)
PLANE[0, 0, 4:8, 4:12] = 1
"""Two prototypes, of which the first is above 0 within a rectangle."""


def masked(query: Query, size: tuple[int, int] = (64, 64), box: Sequence[float] = (0, 0, 64, 64)) -> results.Told:
    """Give what is told of an object with the first prototype as its mask, and of one without any pixel."""
    rows = np.array([[[*box, 0.9, 1, 1, 0], [*box, 0.8, 1, 0, 1]]], np.float32)
    return results.decode_results(artifact("segment"), {"output0": rows, "output1": PLANE}, size, query)


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (32, 64)], ids=str)
def test_masks_lie_in_the_picture(size: tuple[int, int]) -> None:
    """A mask covers the same part of the picture as a polygon and as run lengths; one without pixels is no object."""
    (outlined,), (run,) = masked(Query(), size), masked(Query(masks="rle"), size)
    xs, ys = outlined["segments"]["x"], outlined["segments"]["y"]
    gain = size[1] / 64
    top = 0 if size == (32, 64) else 16 * gain  # 16 rows of padding above
    assert (min(xs), max(xs)) == pytest.approx((16 * gain, 48 * gain), abs=1.5 * gain)
    assert (min(ys), max(ys)) == pytest.approx((top, top + 16 * gain), abs=1.5 * gain)
    assert run["mask"]["size"] == list(size)
    assert sum(run["mask"]["counts"]) <= size[0] * size[1]
    assert sum(run["mask"]["counts"][1::2]) == pytest.approx(32 * 16 * gain**2, rel=0.1)


def test_masks_end_at_their_boxes() -> None:
    """Nothing of a mask lies outside the object's box."""
    (run,) = masked(Query(masks="rle"), box=(20, 16, 30, 20))
    assert sum(run["mask"]["counts"][1::2]) == 10 * 4
    assert run["mask"]["counts"][:2] == [20 * 64 + 16, 4]


def test_whoever_wants_no_masks_gets_boxes() -> None:
    """With ``masks=none`` all objects are told, without a look at their masks."""
    assert [sorted(each) for each in masked(Query(masks="none"))] == [["box", "class", "confidence", "name"]] * 2


def test_masks_that_would_take_for_ever() -> None:
    """Masks in far too many pixels are refused with 413 before any is drawn, and the answer says what to ask for."""
    rows = np.tile(np.array([0, 0, 64, 64, 0.9, 1, 1, 0], np.float32), (1, 300, 1))
    with pytest.raises(Refusal, match="max_det") as caught:
        results.decode_results(
            artifact("segment"), {"output0": rows, "output1": PLANE}, (6000, 6000), Query(masks="rle")
        )  # fmt: skip
    assert caught.value.status == 413


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6)), min_size=1))
def test_parts_are_joined_into_one_outline(parts: list[tuple[int, int, int, int]]) -> None:
    """An outline around several parts encloses them and hardly more, and each of their points is on it."""
    outlines = [np.array([(x, y), (x, y + h), (x + w, y + h), (x + w, y)]) + 12 * index
                for index, (x, y, w, h) in enumerate(parts)]  # fmt: skip
    whole = results_masks.joined(outlines)
    assert {tuple(point) for outline in outlines for point in outline} == {tuple(point) for point in whole}
    x, y = whole.T.astype(float)
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(sum(width * height for *_, width, height in parts))


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"conf": "1.5"}, "conf='1.5' is not a number from 0 to 1"), ({"conf": "nan"}, "conf='nan'"),
        ({"iou": "x"}, "iou='x' is not a number"), ({"max_det": "0"}, "from 1 to 300"),
        ({"max_det": "301"}, "max_det='301'"), ({"max_det": "٣"}, "whole number"),
        ({"masks": "png"}, "none of polygon, rle, none"), ({"confidence": "0.5"}, "options are conf, iou"),
        ({"masks": "rle"}, "only segment models find masks, and this one is for detect"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for(asked: dict[str, str], problem: str) -> None:
    """Wrong options are refused with 400, and the answer says what is right."""
    with pytest.raises(Refusal, match=problem) as caught:
        query_of(asked, "detect")
    assert caught.value.status == 400


def test_what_can_be_asked_for() -> None:
    """Options have Ultralytics' names and meaning."""
    assert query_of({}, "detect") == Query()
    asked = {"conf": "0.1", "iou": "0.5", "max_det": "20", "masks": "rle"}
    assert query_of(asked, "segment") == Query(0.1, 0.5, 20, "rle")


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_what_was_found_is_told_again(task: Task) -> None:
    """From what is remembered of an answer its boxes can be told again, though no masks and key points."""
    extra = {"detect": 0, "segment": 2, "pose": 3, "obb": 1}[task]
    rows = np.random.default_rng(1).uniform(0, 1, (1, 300, 6 + extra)).astype(np.float32)
    outputs = {"output0": rows} | ({"output1": PLANE} if task == "segment" else {})
    told, found = results.read(artifact(task), outputs, (100, 200), Query(masks="none"))
    again = results.recalled(artifact(task), found[0][0], (100, 200))
    assert again == [{key: value for key, value in each.items() if key != "keypoints"} for each in told]
    assert len(again) > 100


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
    found = results.decode_results(artifact("detect"), {"output0": raw[None]}, (100, 200))
    assert [entry["class"] for entry in found] == wanted[:, 5].int().tolist()
    np.testing.assert_allclose([list(entry["box"].values()) for entry in found], boxes, atol=1e-3)


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
