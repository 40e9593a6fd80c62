"""Pictures and predictions in bins: what is counted, however it comes in."""

from __future__ import annotations

import math
from bisect import bisect_left
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageEnhance, ImageFilter

from specs.digests import digest_of
from specs.modelspec import Task
from specs.records import ArtifactRecord
from specs.traffic import CONFIDENCE, OF_PICTURES, OTHER, SECONDS
from tests.support.datasets import photographs
from workloads.preprocess import preprocess
from workloads.serve.counting import TOGETHER, Bins, Seen, features
from workloads.serve.matching import match
from workloads.serve.recent import Answered, Recent, is_name
from workloads.serve.results import findings
from workloads.serve.watching import Watching

NAMES = ["cat", "dog", "owl"]
DIGEST = digest_of("x")
FLAT: dict[str, tuple[float, float, float]] = {"black": (0, 0, 0), "grey": (0.5, 0, 0), "white": (1, 0, 0)}


def artifact(task: Task, names: list[str] | None = None) -> ArtifactRecord:
    """Give a record of a model."""
    return ArtifactRecord(
        file=DIGEST, format="onnx", task=task, names=names or NAMES, image_size=(32, 32), weights=DIGEST,
        self_tests=[],
    )  # fmt: skip


def rows(*values: float, side: int = 32) -> NDArray[np.float32]:
    """Give pictures of one shade each."""
    return np.stack([np.full((3, side, side), value, np.float32) for value in values])


def counts(seen: Seen) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Give all that was counted."""
    return {name: bins.counts for name, bins in seen.pictures.items()}, {n: c for n, (c, _) in seen.classes.items()}


def test_a_flat_picture_has_neither_contrast_nor_sharpness() -> None:
    """Brightness is the shade, whatever the size and shape of the input."""
    for side in (2, 8, 31, 32, 224, 640):
        found = features(rows(0, 0.5, 1, side=side))
        np.testing.assert_allclose(found, list(FLAT.values()), atol=1e-6)
    np.testing.assert_allclose(features(np.full((1, 3, 96, 160), 0.25, np.float32)), [[0.25, 0, 0]], atol=1e-6)


def test_stripes_are_as_sharp_as_can_be() -> None:
    """Columns of black and white: neighbours across differ by all, neighbours below by nothing."""
    picture = np.zeros((1, 3, 64, 64), np.float32)
    picture[..., ::2] = 1
    np.testing.assert_allclose(features(picture), [[0.5, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(features(picture.transpose(0, 1, 3, 2)), [[0.5, 0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        pytest.param(0, lambda p, s: ImageEnhance.Brightness(p).enhance(s), id="brightness"),
        pytest.param(1, lambda p, s: ImageEnhance.Contrast(p).enhance(s), id="contrast"),
        pytest.param(2, lambda p, s: p.filter(ImageFilter.GaussianBlur(2 - 2 * s)), id="sharpness"),
    ],
)
def test_features_follow_what_happens_to_photographs(column: int, change: Any) -> None:
    """Darker, flatter and blurred pictures have less of each, by their mean over some photographs."""

    def mean(strength: float) -> float:
        tensors = [
            preprocess(np.asarray(change(photo, strength)), "classify", (96, 96)) for photo in photographs()[:12]
        ]
        return float(features(np.concatenate(tensors))[:, column].mean())

    means = [mean(strength) for strength in (1.0, 0.8, 0.6)]
    assert means[0] > means[1] > means[2] > 0


def test_a_value_on_an_edge_belongs_below() -> None:
    """As Prometheus counts: at most the upper edge; a value beyond all edges is in the last bin."""
    bins = Bins(SECONDS)
    for value in (0.0, 0.001, 0.0010001, 10.0, 11.0):
        bins.add(value)
    found = {index: count for index, count in enumerate(bins.counts) if count}
    assert found == {0: 1, 1: 1, 2: 1, SECONDS.bins - 2: 1, SECONDS.bins - 1: 1}
    assert bins.sum == pytest.approx(21.0020001)


@given(st.lists(st.floats(0, 1, width=32), max_size=1200))
def test_no_value_is_lost(values: list[float]) -> None:
    """However many come, each is in the bin that its value alone decides."""
    bins, expected = Bins(CONFIDENCE), [0] * CONFIDENCE.bins
    for value in values:
        bins.add(value)
        expected[bisect_left(CONFIDENCE.edges, value)] += 1
    assert list(bins.counts) == expected
    assert math.isclose(bins.sum, sum(values), rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_counts_do_not_depend_on_who_came_together(task: Task) -> None:
    """One request of many pictures, many of one, looked at early or late: the counts are the same."""
    random = np.random.default_rng(4)
    pictures = random.random((TOGETHER + 36, 3, 40, 32), np.float32)
    outputs = random.random((len(pictures), 3) if task == "classify" else (len(pictures), 20, 6), np.float32)
    if task == "detect":
        outputs[:, :, 5] = random.integers(0, 3, outputs.shape[:2])
        outputs[::7, :, 4] = 0.1
    together, apart, sometimes = Seen(NAMES), Seen(NAMES), Seen(NAMES)
    record = artifact(task)
    together.saw(pictures, findings(record, {"out": outputs}, len(pictures)))
    for n in range(len(pictures)):
        apart.saw(pictures[n : n + 1], findings(record, {"out": outputs[n : n + 1]}, 1))
    for n in range(0, len(pictures), 5):
        sometimes.saw(pictures[n : n + 5], findings(record, {"out": outputs[n : n + 5]}, len(pictures[n : n + 5])))
        counts(sometimes)
    assert counts(together) == counts(apart) == counts(sometimes)
    found, classes = counts(together)
    assert sum(found["brightness"]) == len(pictures)
    assert sum(found["detections"]) == (0 if task == "classify" else len(pictures))
    assert sum(found["confidence"]) == (len(pictures) if task == "classify" else len(pictures) - len(pictures[::7]))
    sure = len(pictures) if task == "classify" else int((outputs[:, :, 4] >= 0.25).sum())
    assert sum(map(sum, classes.values())) == sure


def test_models_without_suppression_are_counted_as_they_are_answered() -> None:
    """Of a model that leaves overlapping boxes to its user, each heap is one detection."""
    heap = [[20, 20, 10, 10, 0.8, 0.1, 0.0], [21, 20, 10, 10, 0.7, 0.1, 0.0], [50, 50, 10, 10, 0.0, 0.0, 0.3]]
    raw = np.array([heap, np.zeros_like(heap)], np.float32).transpose(0, 2, 1)
    seen = Seen(NAMES)
    seen.saw(rows(0.5, 0.5), findings(artifact("detect"), {"out": raw}, 2))
    found, classes = counts(seen)
    assert (found["detections"][0], found["detections"][2]) == (1, 1)
    assert {name: sum(each) for name, each in classes.items()} == {"cat": 1, "dog": 0, "owl": 1}


@pytest.mark.parametrize(
    ("task", "output"),
    [
        pytest.param("segment", np.zeros((1, 38, 8400), np.float32), id="unknown-shape"),
        pytest.param("classify", np.zeros((2, 3), np.float32), id="other-number-of-pictures"),
        pytest.param("classify", np.zeros((1, 3), np.int64), id="no-floats"),
        pytest.param("detect", np.zeros((1,), np.float32), id="no-rows"),
    ],
)
def test_what_cannot_be_read_is_not_guessed(task: Task, output: NDArray[Any]) -> None:
    """Of outputs that nobody can read nothing is counted; the picture still is."""
    seen = Seen(NAMES)
    seen.saw(rows(0.5), findings(artifact(task), {"out": output}, 1))
    found, classes = counts(seen)
    assert {name: sum(each) for name, each in found.items() if sum(each)} == dict.fromkeys(
        ("brightness", "contrast", "sharpness"), 1
    )
    assert not any(map(sum, classes.values()))


def test_other_tasks_are_read_where_their_rows_are_alike() -> None:
    """Confidence and class of end-to-end models stand in the same place for all tasks that find objects."""
    output = np.zeros((1, 300, 7), np.float32)
    output[0, 0] = [5, 5, 3, 3, 0.7, 2, 0.1]
    seen = Seen(NAMES)
    seen.saw(rows(0.5), findings(artifact("obb"), {"out": output}, 1))
    assert {name: sum(each) for name, each in counts(seen)[1].items()} == {"cat": 0, "dog": 0, "owl": 1}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38, -5.0])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_odd_numbers_spoil_nothing(value: float, kind: type[Any]) -> None:
    """Clients send tensors of any values: sums stay finite, and others' pictures stay counted."""
    seen = Seen(NAMES)
    with np.errstate(all="ignore"):
        picture, scores = np.full((1, 3, 32, 32), value).astype(kind), np.full((1, 3), value).astype(kind)
        detections = np.full((1, 4, 6), value).astype(kind)
    seen.saw(picture, [scores])
    seen.saw(picture, [detections])
    seen.saw(rows(0.5), [np.array([[0.1, 0.8, 0.1]], np.float32)])
    found, classes = counts(seen)
    assert sum(classes["dog"]) == 1
    assert found["brightness"][9] == 1  # 0.5 is an edge, and belongs below
    assert all(bins.sum <= sum(bins.counts) for name, bins in seen.pictures.items() if name != "detections")
    assert all(total <= sum(each) for each, total in seen.classes.values())


def test_pictures_of_another_kind_are_left_alone() -> None:
    """Inputs that are no pictures of three colours from 0 to 1 have no brightness; what was found is counted."""
    seen = Seen(NAMES)
    for other in (np.zeros((1, 3, 32, 32), np.uint8), np.zeros((1, 1, 32, 32), np.float32), np.zeros((1, 9), "f4")):
        seen.saw(other, [np.array([[0.1, 0.8, 0.1]], np.float32)])
    found, classes = counts(seen)
    assert (sum(found["brightness"]), sum(found["confidence"]), sum(classes["dog"])) == (0, 3, 3)


def test_classes_of_the_same_name_and_without_one() -> None:
    """Two classes of one name share its counts; numbers beyond the names are counted as others."""
    seen = Seen(["crane", "owl", "crane"])
    detections = np.zeros((1, 5, 6), np.float32)
    detections[0, :, 4] = 0.9
    detections[0, :, 5] = [0, 2, 1, 77, -3]
    seen.saw(rows(0.5), [detections])
    assert {name: sum(each) for name, each in counts(seen)[1].items()} == {"crane": 2, "owl": 1, OTHER: 2}


def test_every_picture_measure_is_there_from_the_start() -> None:
    """All bins of all measures and classes begin at 0, so that no increase is missed."""
    found, classes = counts(Seen(NAMES))
    assert {name: len(each) for name, each in found.items()} == {n: m.bins for n, m in OF_PICTURES.items()}
    assert list(classes) == NAMES
    assert not any(map(sum, [*found.values(), *classes.values()]))


def test_the_more_confident_choose_first() -> None:
    """Each object makes one detection right; the better one wins it, even where the other overlaps it more."""
    detections = np.array([[0, 0, 10, 10, 0.5, 0], [0, 0, 10, 8, 0.9, 0], [20, 20, 30, 30, 0.8, 1]], float)
    objects = np.array([[0, 0, 10, 10, 0], [20, 20, 30, 30, 0], [50, 50, 60, 60, 1]], float)
    found = match(detections, objects)
    assert found.right.tolist() == [False, True, False]
    assert found.missed == 2
    assert match(detections, objects[:0]).right.tolist() == [False] * 3
    assert match(detections[:0], objects).missed == 3
    exactly_half = np.array([[0, 0, 10, 5, 0.9, 0]], float)
    assert match(exactly_half, objects[:1]).right.tolist() == [True]


def answered(size: int = 10) -> Answered:
    """Give an answer whose scores take four bytes each."""
    return Answered(1, artifact("classify"), [np.zeros((1, size), np.float32)], 1, (32, 32))


def test_memory_is_bounded_by_number_and_by_size() -> None:
    """The oldest answers go first; a request of the same name takes the place of the one before."""
    recent = Recent(requests=3, size=100)
    for name in "abcd":
        recent.remember("m", name, answered(2))
    assert [recent.find("m", name) is not None for name in "abcd"] == [False, True, True, True]
    recent.remember("m", "b", answered(2))
    recent.remember("m", "e", answered(2))
    assert [recent.find("m", name) is not None for name in "bcde"] == [True, False, True, True]
    recent.remember("m", "large", answered(24))
    assert [recent.find("m", name) is not None for name in ("b", "d", "e", "large")] == [False, False, False, True]
    recent.remember("m", "larger", answered(26))
    assert recent.find("m", "larger") is None
    assert recent.find("other", "large") is None
    recent.remember("m", "small", answered(24))
    assert recent.find("m", "small") is not None


def test_names_that_are_made_are_names() -> None:
    """No two are the same, of this server or another one; what could break a header is none."""
    made = [each.name() for each in (Recent(), Recent()) for _ in range(100)]
    assert len(set(made)) == 200
    assert all(map(is_name, made))
    assert not any(map(is_name, ("", "a b", "ä", "a\r\nb", "x" * 129)))


class Broken:
    """Stands for a bug in counting."""

    series = SimpleNamespace(seen=SimpleNamespace(saw=lambda *_: [].pop()))


def test_a_bug_in_counting_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log, once, however many requests bring it out."""
    served: Any = SimpleNamespace(observer=Broken, artifact=artifact("classify"))
    watching = Watching()
    for _ in range(3):
        watching.answered("digits", served, "r", rows=rows(0.5), found=[])
    assert [record.getMessage() for record in caplog.records] == ["an answer of model digits could not be counted"]
