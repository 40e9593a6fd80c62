from __future__ import annotations

import numpy as np
import pytest

from specs.exports import LEVELS
from tests.support.evaluations import classified, detected
from workloads.bootstrap import differences, intervals, measured
from workloads.results import Classified, Detected

BOTH = pytest.mark.parametrize("results", [classified(), detected(masks=True)], ids=["classes", "objects"])


@BOTH
def test_an_interval_is_around_the_value_and_grows_with_confidence(results: Classified | Detected) -> None:
    """More confidence needs a wider interval, and what was measured lies inside."""
    overall, _ = measured(results)
    for metric, levels in intervals(results, seed="sha256:a").items():
        widths = [levels[str(level)][1] - levels[str(level)][0] for level in LEVELS]
        assert widths == sorted(widths)
        low, high = levels["0.99"]
        assert low <= overall[metric] <= high


@BOTH
def test_the_same_seed_gives_the_same_intervals(results: Classified | Detected) -> None:
    """An audit can compute every number again; another subject draws other samples."""
    assert intervals(results, seed="sha256:a") == intervals(results, seed="sha256:a")
    assert intervals(results, seed="sha256:a") != intervals(results, seed="sha256:b")


def test_the_width_is_that_of_statistics() -> None:
    """For an accuracy p over n images the 95 % interval is about 1.96 standard errors to each side."""
    results = classified(images=900, skill=0.8)
    p = measured(results)[0]["metrics/accuracy_top1"]
    low, high = intervals(results, seed="x")["metrics/accuracy_top1"]["0.95"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(p * (1 - p) / 900), rel=0.1)


def test_classes_without_images_are_left_out() -> None:
    """A class that golden does not hold has no numbers, rather than zeros that a gate would trip over."""
    _, per_class = measured(detected())
    assert list(per_class) == ["bread", "milk"]


@BOTH
def test_a_model_does_not_differ_from_itself(results: Classified | Detected) -> None:
    """Paired with itself every resample differs by nothing: the interval is exactly zero."""
    overall, per_class = differences(results, results, seed="x")
    for table in (overall, *per_class.values()):
        for found in table.values():
            assert found.delta == 0
            assert set(found.intervals.values()) == {(0.0, 0.0)}


def test_pairing_sees_a_small_but_sure_improvement() -> None:
    """Four images more out of 200, none lost: surely better, though the two intervals alone overlap widely."""
    baseline = classified()
    wrong = np.flatnonzero(baseline.predicted[:, 0] != baseline.target)[:4]
    predicted = baseline.predicted.copy()
    predicted[wrong, 0] = baseline.target[wrong]
    better = Classified(baseline.images, baseline.names, baseline.target, predicted, baseline.confidence)
    found = differences(better, baseline, seed="x")[0]["metrics/accuracy_top1"]
    assert found.delta == pytest.approx(0.02)
    assert found.intervals["0.95"][0] > 0
    alone = intervals(better, "x")["metrics/accuracy_top1"]["0.95"][0]
    assert alone < intervals(baseline, "x")["metrics/accuracy_top1"]["0.95"][1]


def test_classes_are_paired_by_name() -> None:
    """A candidate may order its classes otherwise, or know more of them; only shared names are compared."""
    baseline = detected()
    swap = np.array([1, 0, 2])
    subject = Detected(
        baseline.images, ["milk", "bread", "new"], baseline.hits, baseline.confidence, swap[baseline.predicted],
        baseline.image, swap[baseline.target], baseline.target_image,
    )  # fmt: skip
    overall, per_class = differences(subject, baseline, seed="x")
    assert sorted(per_class) == ["bread", "milk"]
    assert all(d.delta == 0 for table in (overall, *per_class.values()) for d in table.values())


def test_other_images_cannot_be_compared() -> None:
    """Pairing needs the same images."""
    with pytest.raises(ValueError, match="not of the same images"):
        differences(classified(200), classified(100), seed="x")
