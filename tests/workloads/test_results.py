from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from specs.errors import CorruptArtifact
from tests.support.evaluations import NAMES, classified, detected
from workloads.results import Classified, Detected, decode


@pytest.mark.parametrize("results", [classified(), detected(), detected(masks=True)], ids=["classes", "boxes", "masks"])
def test_results_survive_the_store(results: Classified | Detected) -> None:
    """What is read back measures the same, and the same results are the same bytes."""
    blob = results.encode()
    assert blob == results.encode()
    again = decode(blob)
    assert (again.images, again.names, again.metrics) == (results.images, results.names, results.metrics)
    weights = np.ones((1, len(results.images)))
    np.testing.assert_array_equal(again.measure(weights), results.measure(weights))


def test_results_with_code_in_them_are_not_run(tmp_path: Path) -> None:
    """A pickle in a blob is refused, not loaded."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    buffer = io.BytesIO()
    np.savez(buffer, images=np.array([Evil()], dtype=object))
    with pytest.raises(CorruptArtifact):
        decode(buffer.getvalue())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip"], ids=["empty", "half a zip", "text"])
def test_what_is_no_result_is_refused(data: bytes) -> None:
    """Broken blobs are told as such."""
    with pytest.raises(CorruptArtifact):
        decode(data)


def test_accuracy_is_what_it_says() -> None:
    """Top-1 counts first guesses, top-5 any guess, a class its own images; classes without images have none."""
    results = Classified(
        ["a", "b", "c", "d"], ["cat", "dog", "owl"], target=np.array([0, 0, 1, 1]),
        predicted=np.array([[0, 1], [1, 0], [1, 0], [2, 0]]), confidence=np.zeros((4, 2), np.float32),
    )  # fmt: skip
    overall, cat, dog, owl = results.measure(np.ones((1, 4)))[0]
    assert overall.tolist() == [0.5, 0.75]
    assert (cat.tolist(), dog.tolist()) == ([0.5, 1.0], [0.5, 0.5])
    assert np.isnan(owl).all()


def test_a_weight_stands_for_copies() -> None:
    """Weighing an image twice and another not at all is measuring a set in which it lies twice and the other not."""
    results = classified(6)
    rows = [0, 0, 2, 3, 3, 3]
    copies = Classified(results.images, results.names, results.target[rows], results.predicted[rows],
                        results.confidence[rows])  # fmt: skip
    np.testing.assert_allclose(
        results.measure(np.array([[2.0, 0, 1, 3, 0, 0]])), copies.measure(np.ones((1, 6))), equal_nan=True
    )


def test_precision_by_hand() -> None:
    """Two objects, three predictions, the middle one wrong: precision 1 up to recall 1/2, then 2/3."""
    results = Detected(
        images=["a"], names=["thing"], hits={"B": np.array([[True] * 10, [False] * 10, [True] * 10])},
        confidence=np.array([0.9, 0.8, 0.7], np.float32), predicted=np.zeros(3, int), image=np.zeros(3, int),
        target=np.zeros(2, int), target_image=np.zeros(2, int),
    )  # fmt: skip
    precision, recall, map50, map95 = results.measure(np.ones((1, 1)))[0, 0]
    assert (precision, recall) == (pytest.approx(2 / 3, abs=1e-3), 1.0)
    assert map50 == map95 == pytest.approx((0.5 + 0.5 * 2 / 3), abs=0.01)


def test_nothing_found_is_zero_and_nothing_there_is_no_number() -> None:
    """A class whose objects are all missed has precision 0; a class without objects says nothing."""
    empty = Detected(
        images=["a"], names=NAMES, hits={"B": np.zeros((0, 10), bool)}, confidence=np.zeros(0, np.float32),
        predicted=np.zeros(0, int), image=np.zeros(0, int), target=np.array([0]), target_image=np.array([0]),
    )  # fmt: skip
    overall, bread, milk, _ = empty.measure(np.ones((1, 1)))[0]
    assert overall.tolist() == bread.tolist() == [0, 0, 0, 0]
    assert np.isnan(milk).all()


@pytest.mark.ml
@pytest.mark.parametrize("seed", range(5))
def test_precision_agrees_with_ultralytics(seed: int) -> None:
    """With every image once, all numbers are those that Ultralytics computes from the same predictions."""
    from ultralytics.utils.metrics import ap_per_class

    results = detected(images=30 + 10 * seed, skill=0.3 + 0.15 * seed, seed=seed)
    _, _, p, r, _, ap, classes, *_ = ap_per_class(
        results.hits["B"], results.confidence, results.predicted, results.target
    )
    table = results.measure(np.ones((1, len(results.images))))[0]
    assert classes.tolist() == [0, 1]
    np.testing.assert_allclose(table[1:3], np.stack([p, r, ap[:, 0], ap.mean(1)], axis=1), atol=1e-9)
    np.testing.assert_allclose(table[0], [p.mean(), r.mean(), ap[:, 0].mean(), ap.mean()], atol=1e-9)
