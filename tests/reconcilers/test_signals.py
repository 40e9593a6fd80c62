"""What a window says about a signal: its number, its interval, and whether that is bad news beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconcilers.observed import Judgement, Reading
from reconcilers.signals import Reference, cluster, expected_accuracy, readings, top_confidences
from specs.modelspec import Task
from specs.monitoring import MIN_SAMPLES, Signal
from specs.profile_records import ProfileRecord
from specs.traffic import BY_CLASS, BY_STAGE, OF_PICTURES, OUTCOMES, Traffic
from tests.support.counts import DIGEST, counted, profile, traffic

NAMES = ("milk", "bread", "eggs")
EMPTY = Traffic(0.0, 60.0)


def signal(**fields: Any) -> Signal:
    """Give a signal as a spec has it."""
    return Signal.model_validate({"name": "watched"} | fields, by_alias=True, by_name=False)


SIX = (
    signal(name="confidence", type="Confidence", max=0.0),
    signal(name="accuracy", type="EstimatedAccuracy", min=0.85),
    signal(name="light", type="Input", feature="brightness", max=0.0),
    signal(name="mix", type="Classes", max=0.0),
    signal(name="latency", type="Latency", max="75ms"),
    signal(name="errors", type="ErrorRate", max=0.01),
)
"""Bounds as hard as they can be: golden's own distribution, and rates of exactly what is allowed."""


class Shop:
    """A model that is right as often as its confidence says, and its pictures; what changes is said in words."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)

    def pictures(self, n: int, *, dark: float = 0.0, lean: float = 6.0, mix: Any = (0.5, 0.3, 0.2)) -> dict[str, Any]:
        """Draw features, predicted classes and confidences of n pictures."""
        confidences = self.draw.beta(lean, 1.06, n)
        return {
            "pictures": {"confidence": confidences, "brightness": self.draw.normal(0.5 - dark, 0.1, n)},
            "names": self.draw.choice(NAMES, n, p=mix).tolist(), "confidences": confidences,
        }  # fmt: skip

    def profile(self, n: int = 400, **changes: Any) -> ProfileRecord:
        found = self.pictures(n, **changes)
        return profile(**found, right=self.draw.random(n) < found["confidences"])

    def window(self, n: int, *, seconds: float = 0.03, errors: float = 0.01, **changes: Any) -> Traffic:
        """Draw a window; 5 % of its requests are slower than ``seconds``, and so many of them are errors."""
        took = seconds * np.exp(0.4 * (self.draw.normal(size=n) - 1.6449))
        failed = int(self.draw.binomial(n, errors))
        return traffic(
            **self.pictures(n, **changes), stages={"total": counted(BY_STAGE, took)},
            outcomes={"ok": float(n - failed), "error": float(failed)},
        )  # fmt: skip


def judged(given: Signal, window: Traffic, golden: ProfileRecord | None = None, task: Task = "classify") -> Reading:
    """Give the reading of one signal in one window."""
    ((found,),) = readings([given], [window], golden, task=task).values()
    return found


# ------------------------------------------------------------------------------------------------ what each type says
CHANGES: Mapping[str, dict[str, Any]] = {
    "confidence": {"lean": 3.0}, "accuracy": {"lean": 2.0}, "light": {"dark": 0.1}, "mix": {"mix": (0.1, 0.2, 0.7)},
    "latency": {"seconds": 0.2}, "errors": {"errors": 0.08},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_by_the_signal_that_is_about_it(name: str) -> None:
    """Each signal fails on its own kind of change; light, mix and latency do not disturb each other."""
    shop = Shop(1)
    golden = shop.profile()
    found = readings(SIX, [shop.window(400, **CHANGES[name])], golden, task="classify")
    failing = {each for each, (reading,) in found.items() if reading.judgement is Judgement.FAILING}
    assert name in failing
    assert failing <= {name, "confidence", "accuracy"} if name in ("confidence", "accuracy") else failing == {name}


@pytest.mark.parametrize("n", [100, 400])
def test_traffic_like_golden_is_no_alarm(n: int) -> None:
    """Over 200 windows with 20 profiles at most 0.5 % of the readings of each signal fail, and chance; seldom any.

    The bounds are the hardest there are, so real ones give fewer.
    """
    alarms = dict.fromkeys((each.name for each in SIX), 0)
    for seed in range(20):
        shop = Shop(100 + seed)
        golden, windows = shop.profile(), [shop.window(n, seconds=0.075) for _ in range(10)]
        for name, found in readings(SIX, windows, golden, task="classify").items():
            alarms[name] += sum(reading.judgement is Judgement.FAILING for reading in found)
    assert max(alarms.values()) <= 5, alarms
    assert sum(alarms.values()) <= 10, alarms


def test_readings_are_in_the_order_of_signals_and_windows() -> None:
    """Each signal has one reading for each window, oldest first."""
    shop = Shop(2)
    windows = [replace(shop.window(120), start=60.0 * index) for index in range(3)]
    found = readings(SIX, windows, shop.profile(), task="classify")
    assert list(found) == [each.name for each in SIX]
    assert all([reading.start for reading in each] == [0.0, 60.0, 120.0] for each in found.values())


def test_estimated_accuracy_of_one_class() -> None:
    """With a class the estimate is about predictions of that class alone."""
    shop = Shop(3)
    golden, window = shop.profile(2000), shop.window(600)
    found = judged(signal(type="EstimatedAccuracy", min=0.5, **{"class": "eggs"}), window, golden)
    assert found.n == sum(window.classes["eggs"])
    assert found.value == pytest.approx(0.85, abs=0.05)


def test_confidence_of_one_class() -> None:
    """A class whose confidence fell is seen, while another one's is as it was."""
    shop = Shop(4)
    golden, window = shop.profile(1000), shop.window(1000)
    low = counted(BY_CLASS, shop.draw.beta(2.0, 1.06, 200))
    window = replace(window, classes={**window.classes, "eggs": low})
    assert judged(signal(type="Confidence", max=0.1, **{"class": "eggs"}), window, golden).judgement == "Failing"
    assert judged(signal(type="Confidence", max=0.1, **{"class": "milk"}), window, golden).judgement == "Passing"


def test_accuracy_is_the_share_of_right_predictions_that_were_told() -> None:
    """What was missed has no prediction, so it does not count."""
    found = judged(signal(type="Accuracy", min=0.9), replace(EMPTY, truth={"right": 180, "wrong": 60, "missed": 99}))
    assert (found.judgement, found.value, found.n) == (Judgement.FAILING, 0.75, 240)


def test_only_what_is_the_servers_fault_is_an_error() -> None:
    """Clients that send nonsense do not make a release bad."""
    outcomes = dict.fromkeys(OUTCOMES, 10.0) | {"ok": 910.0}
    found = judged(signal(type="ErrorRate", max=0.5), replace(EMPTY, outcomes=outcomes))
    assert (found.value, found.n) == (pytest.approx(0.0303030), 990)


def test_a_latency_without_end_is_out_of_bounds() -> None:
    """Requests slower than every bin fail a signal, and their interval's end is nobody's guess."""
    slow = replace(EMPTY, stages={"total": (0.0,) * (BY_STAGE.bins - 1) + (200.0,)})
    found = judged(signal(type="Latency", max="5s"), slow)
    assert (found.judgement, found.value, found.low, found.high) == (Judgement.FAILING, 10.0, 10.0, None)


# --------------------------------------------------------------------------------------------------------- detectors
def _shelf(per_picture: int, pictures: int, classes: Mapping[str, int]) -> Traffic:
    return Traffic(
        0.0, 1.0, {"detections": counted(OF_PICTURES["detections"], [per_picture] * pictures)},
        {name: (0.0,) * (BY_CLASS.bins - 1) + (float(count),) for name, count in classes.items()},
    )  # fmt: skip


def test_detections_in_one_picture_are_alike() -> None:
    """Ten pictures of twenty bottles say less than two hundred pictures of one."""
    golden = ProfileRecord(
        file=DIGEST, golden=DIGEST, task="detect",
        classes={"milk": [0] * 19 + [5000], "bread": [0] * 19 + [5000]},
        pictures={"detections": [0, 10_000] + [0] * 13},
    )  # fmt: skip
    mix = signal(type="Classes", max=0.0)
    many = judged(mix, _shelf(1, 200, {"milk": 160, "bread": 40}), golden, "detect")
    few = judged(mix, _shelf(20, 10, {"milk": 160, "bread": 40}), golden, "detect")
    assert (many.judgement, few.judgement) == (Judgement.FAILING, Judgement.PASSING)
    assert many.n == few.n == 200
    assert cluster(_shelf(20, 10, {}), "detect") == 20
    assert cluster(_shelf(20, 10, {}), "classify") == 1


def test_a_picture_without_detections_has_the_lowest_confidence() -> None:
    """A covered camera gives no confidence at all, and that is the change."""
    nothing = Traffic(0.0, 1.0, {"detections": counted(OF_PICTURES["detections"], [0] * 150)})
    golden = ProfileRecord(
        file=DIGEST, golden=DIGEST, task="detect",
        pictures={"confidence": [0] * 19 + [400], "detections": [0, 400] + [0] * 13},
    )  # fmt: skip
    assert sum(top_confidences(nothing, "detect")) == 150
    assert judged(signal(type="Confidence", max=0.2), nothing, golden, "detect").judgement == Judgement.FAILING


# --------------------------------------------------------------------------------------------------------- no verdict
def test_too_few_samples_say_nothing() -> None:
    """However bad they look; the message says how many would be needed."""
    shop = Shop(5)
    found = judged(SIX[0], shop.window(MIN_SAMPLES - 1, lean=0.5), shop.profile())
    assert found.judgement is Judgement.INCONCLUSIVE
    assert found.message == f"{MIN_SAMPLES - 1} pictures in this window, and {MIN_SAMPLES} are needed"
    assert found.value is not None


def test_a_signal_may_need_fewer_samples_than_the_others() -> None:
    """Labels come for a part of the pictures only."""
    told = replace(EMPTY, truth={"right": 20, "wrong": 10})
    assert judged(signal(type="Accuracy", min=0.9), told).judgement is Judgement.INCONCLUSIVE
    assert judged(signal(type="Accuracy", min=0.9, minSamples=30), told).judgement is Judgement.FAILING


@pytest.mark.parametrize("given", SIX, ids=[each.name for each in SIX])
def test_no_traffic_says_nothing(given: Signal) -> None:
    """An empty window is no bad news."""
    found = judged(given, EMPTY, Shop(6).profile())
    assert (found.judgement, found.n, found.message) == (
        Judgement.INCONCLUSIVE, 0, "nothing was counted in this window",
    )  # fmt: skip


WITHOUT = {
    "no profile": (None, "there is no profile of this release on golden to compare with yet"),
    "a profile that failed": (
        ProfileRecord(file=DIGEST, golden=DIGEST, task="classify", status="Failed", message="no picture opens"),
        "golden could not be profiled: no picture opens",
    ),
}


@pytest.mark.parametrize(("golden", "words"), WITHOUT.values(), ids=WITHOUT)
@pytest.mark.parametrize("given", SIX[:4], ids=[each.name for each in SIX[:4]])
def test_without_a_profile_nothing_can_be_compared(given: Signal, golden: ProfileRecord | None, words: str) -> None:
    """Signals that need golden say so; the message is that of the profile's failure where there is one."""
    found = judged(given, Shop(7).window(200), golden)
    assert (found.judgement, found.n, found.message) == (Judgement.INCONCLUSIVE, 200, words)


@pytest.mark.parametrize("given", SIX[4:], ids=[each.name for each in SIX[4:]])
def test_what_needs_no_profile_is_judged_without_one(given: Signal) -> None:
    """Latencies and errors are bad by themselves."""
    assert judged(given, Shop(8).window(400, seconds=1.0, errors=0.2)).judgement is Judgement.FAILING


def test_what_golden_lacks_is_named() -> None:
    """A feature or a class that the profile does not have is told by its name."""
    shop = Shop(9)
    golden, window = shop.profile(), shop.window(200)
    sized = replace(window, pictures={**window.pictures, "size": counted(OF_PICTURES["size"], [4096.0] * 200)})
    found = judged(signal(type="Input", feature="size", max=0.1), sized, golden)
    assert found.message == "golden has no size to compare with"
    strange = replace(window, classes={**window.classes, "beer": window.classes["milk"]})
    found = judged(signal(type="Confidence", max=0.1, **{"class": "beer"}), strange, golden)
    assert (found.judgement, found.message) == (
        Judgement.INCONCLUSIVE, "golden has no predictions of beer to compare with",
    )  # fmt: skip


def test_golden_without_predictions_estimates_nothing() -> None:
    """A detector that finds nothing on golden has no confidence whose worth is known."""
    blind = ProfileRecord(file=DIGEST, golden=DIGEST, task="detect", n=4, classes={"milk": [0] * BY_CLASS.bins})
    found = judged(signal(type="EstimatedAccuracy", min=0.5), Shop(10).window(200), blind, "detect")
    assert found.message == "nothing is predicted on golden, so nothing was right"


def test_a_profile_with_other_bins_is_told_apart() -> None:
    """After an upgrade that changes bins, old profiles compare with nothing and crash nothing."""
    shop = Shop(11)
    golden = shop.profile()
    old = golden.model_copy(
        update={
            "pictures": {name: counts[:-2] for name, counts in golden.pictures.items()},
            "classes": {name: counts[:-2] for name, counts in golden.classes.items()},
        }
    )
    for each in SIX[:3]:
        assert "has other bins" in judged(each, shop.window(200), old).message


# -------------------------------------------------------------------------------------------------------- properties
@given(st.integers(0, 10_000), st.integers(2, 300), st.integers(1, 4))
@settings(deadline=None)
def test_replicas_add_up(seed: int, n: int, parts: int) -> None:
    """The counts of several replicas together are read as those of one that saw everything."""
    shop = Shop(seed)
    found, golden = shop.pictures(n), shop.profile(50)
    owners = shop.draw.integers(0, parts, n)
    whole, *rest = (
        traffic(
            {name: values[chosen] for name, values in found["pictures"].items()},
            [name for name, is_in in zip(found["names"], chosen, strict=True) if is_in], found["confidences"][chosen],
        )
        for chosen in (owners >= 0, *(owners == part for part in range(parts)))
    )  # fmt: skip
    together = rest[0]
    for each in rest[1:]:
        together = together.plus(each)
    assert readings(SIX, [together], golden, task="classify") == readings(SIX, [whole], golden, task="classify")


ROWS = st.lists(st.floats(0, 1e5, allow_subnormal=False), min_size=BY_CLASS.bins, max_size=BY_CLASS.bins).map(tuple)


@given(st.dictionaries(st.sampled_from([*NAMES, "other"]), ROWS), ROWS, ROWS, st.integers(0, 1000))
@settings(deadline=None)
def test_readings_are_numbers_in_their_intervals(classes: Any, confidence: Any, brightness: Any, seed: int) -> None:
    """Whatever was counted, also in fractions: no NaN, value within interval, shares within 0 and 1."""
    window = Traffic(
        0.0, 1.0, {"confidence": confidence, "brightness": brightness}, classes, {"total": (*brightness, 1.0)},
        {"ok": sum(confidence), "error": confidence[0]}, {"right": brightness[0], "wrong": brightness[1]},
    )  # fmt: skip
    told = signal(name="told", type="Accuracy", min=0.5, minSamples=1)
    for (reading,) in readings((*SIX, told), [window], Shop(seed).profile(30), task="detect").values():
        values = [each for each in (reading.low, reading.value, reading.high) if each is not None]
        assert all(math.isfinite(each) for each in values)
        assert values == sorted(values)


def test_the_estimate_is_there_for_others_too() -> None:
    """The live gate compares two versions by it, and learns why there is none."""
    shop = Shop(12)
    found = expected_accuracy(shop.window(300), Reference(shop.profile(), "classify"))
    assert not isinstance(found, str)
    assert found.low < 0.85 < found.high
    assert isinstance(expected_accuracy(shop.window(300), Reference(None, "classify")), str)
