"""The numbers of the live gate: how seldom they speak against a good release, and how soon against a bad one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from reconcilers.live_checks import FINE, MISS, TOO_HIGH, TOO_LOW, Check, compare, level, read, said
from reconcilers.statistics import Estimate, mean, proportion
from specs.modelspec import Task
from specs.profile_records import ProfileRecord
from specs.traffic import BY_STAGE, CONFIDENCE, Measure, Traffic
from tests.support.counts import counted

RELEASES = 1000
"""Simulated, for each statement about how often something happens."""
LOOKS = (30, 60, 100, 200, 400, 800, 1600, 3200)
"""Requests that had come when a trial was looked at."""


def traffic(
    rng: np.random.Generator, n: int, *, errors: float = 0.01, sure: float = 8.0, scale: float = 0.01
) -> list[Traffic]:
    """Give what a release saw at each look: the same requests, more each time. Confidences are skewed, as real ones."""
    failed = rng.random(n) < errors
    confidences = rng.beta(sure, 1.0, n)
    seconds = rng.lognormal(np.log(scale), 0.5, n)
    return [
        Traffic(
            0.0, 1.0, {"confidence": counted(CONFIDENCE, confidences[:k][~failed[:k]])}, {},
            {"total": counted(BY_STAGE, seconds[:k])},
            {"ok": float((~failed[:k]).sum()), "error": float(failed[:k].sum())},
        )
        for k in (*[look for look in LOOKS if look < n], n)
    ]  # fmt: skip


def failing(new: Traffic, old: Traffic, task: Task = "classify") -> list[str]:
    """Give the names of the checks that fail."""
    return [check.name for check in compare(new, old, task) if check.fails]


def test_a_release_that_is_as_good_is_never_given_up() -> None:
    """Of 1,000 releases like the one before, each looked at 8 times, none is given up: margins are beyond doubt."""
    rng = np.random.default_rng(20261126)
    blamed = 0
    for _ in range(RELEASES):
        old = traffic(rng, 2000)[-1]
        blamed += any(failing(new, old) for new in traffic(rng, 3200))
    assert blamed == 0


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_intervals_hold_at_every_look(share: float) -> None:
    """Without any margin: whoever looks at a share again and again sees its interval miss in one of 1,000 trials."""
    rng = np.random.default_rng(round(1000 * share))
    missed = 0
    for _ in range(RELEASES):
        hits = np.cumsum(rng.random(LOOKS[-1]) < share)
        missed += any(
            not found.low <= share <= found.high
            for found in (_share(float(hits[k - 1]), k) for k in LOOKS)
        )
    assert missed / RELEASES <= 2 * MISS


@cache
def _share(hits: float, n: int) -> Estimate:
    return proportion(hits, n, level(n))


def test_means_hold_at_every_look() -> None:
    """Likewise the mean of binned confidences, which lean to one side."""
    rng = np.random.default_rng(5)
    truth = _binned(rng.beta(8.0, 1.0, 2_000_000))
    missed = 0
    for _ in range(RELEASES):
        values = rng.beta(8.0, 1.0, LOOKS[-1])
        found = [mean(counted(CONFIDENCE, values[:k]), CONFIDENCE, level(k)) for k in LOOKS]
        missed += any(not each.low <= truth <= each.high for each in found)
    assert missed / RELEASES <= 2 * MISS


def _binned(values: NDArray[np.float64]) -> float:
    counts = counted(CONFIDENCE, values)
    return mean(counts, CONFIDENCE).value


BAD: list[tuple[str, dict[str, float], int, str]] = [
    ("one in five fails", {"errors": 0.2}, 200, "error rate"),
    ("one in sixteen fails", {"errors": 0.0625}, 1600, "error rate"),
    ("unsure", {"sure": 3.0}, 200, "mean top confidence"),
    ("a little unsure", {"sure": 4.0}, 1600, "mean top confidence"),
    ("ten times as slow", {"scale": 0.1}, 200, "p95 latency"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "by", "name"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
def test_a_bad_release_is_given_up_soon(change: dict[str, float], by: int, name: str) -> None:
    """Of 50 bad releases at least 45 are given up by so many requests, for what is bad about them and nothing else."""
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(50):
        old, new = traffic(rng, 2000)[-1], traffic(rng, by, **change)
        told = [names for each in new if (names := failing(each, old))]
        found += bool(told)
        assert all(names == [name] for names in told)
    assert found >= 45


def detections(rng: np.random.Generator, n: int, nothing: float) -> Traffic:
    """Give the traffic of a detector that finds nothing in a share of the pictures."""
    empty = round(n * nothing)
    counts = (float(empty), float(n - empty), *[0.0] * 13)
    pictures = {"confidence": counted(CONFIDENCE, rng.beta(8, 1, n - empty)), "detections": counts}
    return Traffic(0.0, 1.0, pictures, outcomes={"ok": float(n)})


def test_a_detector_that_finds_nothing_is_unsure() -> None:
    """Pictures without a detection count as the least confidence: who finds nothing has not just no confidences."""
    rng = np.random.default_rng(1)
    old = detections(rng, 1000, 0.1)
    assert failing(detections(rng, 500, 0.1), old, "detect") == []
    assert failing(detections(rng, 500, 0.9), old, "detect") == ["mean top confidence"]
    assert failing(detections(rng, 500, 1.0), old, "detect") == ["mean top confidence"]


def profile(right: float) -> ProfileRecord:
    """Give a profile of 1,000 golden predictions at a confidence of 0.92, a share of them right."""
    at = [1000 if index == 17 else 0 for index in range(CONFIDENCE.bins)]
    hits = [round(count * right) for count in at]
    digest = "sha256:" + "d" * 64
    return ProfileRecord(
        file=digest, golden=digest, task="classify", n=1000, pictures={}, classes={"a": at}, right={"a": hits}
    )


def sure(n: int, at: int) -> Traffic:
    """Give predictions that all fall into one bin of confidence."""
    counts = _spike(CONFIDENCE, n, at)
    return Traffic(0.0, 1.0, {"confidence": counts}, {"a": counts}, outcomes={"ok": float(n)})


def _spike(measure: Measure, n: int, at: int) -> tuple[float, ...]:
    return tuple(float(n) if index == at else 0.0 for index in range(measure.bins))


def test_estimated_accuracy_takes_the_place_of_confidence() -> None:
    """Where golden profiles of both are known it is judged, each by its own; a scale of confidences says nothing."""
    new, old = sure(1000, 15), sure(1000, 17)
    assert failing(new, old) == ["mean top confidence"]
    (_, check) = compare(new, old, "classify", profile=profile(0.95), before=profile(0.95))
    assert (check.name, check.verdict) == ("estimated accuracy", FINE)
    (_, check) = compare(new, old, "classify", profile=profile(0.6), before=profile(0.95))
    assert (check.name, check.verdict) == ("estimated accuracy", TOO_LOW)
    failed = profile(0.9).model_copy(update={"status": "Failed"})
    (*_, last) = compare(new, old, "classify", profile=failed, before=profile(0.9))
    assert last.name == "mean top confidence"


def test_words_can_be_read_again() -> None:
    """What a host remembers of a verdict is one sentence, and a table can be made of it; other words give none."""
    rng = np.random.default_rng(3)
    checks = compare(traffic(rng, 400, errors=0.3)[-1], traffic(rng, 400)[-1], "classify")
    assert [check.verdict for check in checks] == [TOO_HIGH, FINE, FINE]
    assert read(said(checks)) == checks
    assert read(said(reversed(checks)))[0].name == "error rate"
    assert read("self-test, repeated while it serves: output 'x' differs by 1, too high") == ()
    assert read("") == ()
    assert str(Check("a", "1", "2", FINE)) == "a: 1 against 2, not worse"
