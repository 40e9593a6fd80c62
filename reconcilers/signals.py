"""Signals: what each window of live traffic says about each watched statement, held against golden. Pure.

A window is ``Failing`` only where the whole interval is out of bounds, so where nothing has changed that is said of at
most 0.5 % of windows, for each signal, however few pictures they hold. Too few of them, or nothing to compare with, is
``Inconclusive``: no data is no bad news.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reconcilers.calibration import Calibration, calibrate, estimated_accuracy
from reconcilers.distances import distance
from reconcilers.observed import Judgement, Reading
from reconcilers.statistics import Estimate, proportion, quantile
from specs.modelspec import Task
from specs.monitoring import MIN_SAMPLES, QUANTILE, Signal
from specs.profile_records import ProfileRecord
from specs.traffic import BY_CLASS, BY_STAGE, DETECTIONS, OF_PICTURES, OURS, Counts, Measure, Traffic

STAGE = "total"
"""The stage whose latency is watched: all of a request."""
Found = tuple[float, Estimate | str]
"""How many samples a window holds, and the number they give, or why they give none."""


@dataclass(frozen=True)
class Reference:
    """What live traffic is held against."""

    profile: ProfileRecord | None
    task: Task

    @cached_property
    def traffic(self) -> Traffic | None:
        """Counts on golden; None while there are none."""
        return self.profile.traffic if self.profile and self.profile.status == "Succeeded" else None

    @cached_property
    def calibration(self) -> Calibration | None:
        """How often golden predictions were right; None where nobody knows."""
        if self.profile is None or self.traffic is None or not any(map(any, self.profile.classes.values())):
            return None
        right = {name: tuple(map(float, counts)) for name, counts in self.profile.right.items()}
        return calibrate(self.traffic.classes, right)

    @cached_property
    def cluster(self) -> float:
        """See ``cluster``; of golden."""
        return cluster(self.traffic, self.task) if self.traffic else 1.0

    @property
    def lack(self) -> str:
        """Why there are no counts."""
        if self.profile is not None and self.profile.status == "Failed":
            return f"golden could not be profiled: {self.profile.message}"
        return "there is no profile of this release on golden to compare with yet"


def readings(
    signals: Sequence[Signal], windows: Sequence[Traffic], profile: ProfileRecord | None, *, task: Task,
    min_samples: int | None = None,
) -> Mapping[str, tuple[Reading, ...]]:
    """Give the reading of each signal in each window, in the order of both.

    Args:
        signals: As the spec has them.
        windows: Traffic of the version that serves, oldest first.
        profile: Of the file that serves, on golden; None while there is none.
        task: Of the model.
        min_samples: Samples that a window needs; a signal's own number goes first.

    """
    reference = Reference(profile, task)
    return {
        signal.name: tuple(reading(signal, window, reference, min_samples or MIN_SAMPLES) for window in windows)
        for signal in signals
    }


def reading(signal: Signal, window: Traffic, reference: Reference, min_samples: int) -> Reading:
    """Give what one window says about one signal."""
    n, found = _MEASURED[signal.type](signal, window, reference)
    wanted = signal.min_samples or min_samples
    if isinstance(found, str):
        return Reading(window.start, Judgement.INCONCLUSIVE, round(n), message=found)
    value, low, high = _short(found.value), _short(found.low), _short(found.high)
    if n < wanted:
        message = f"{round(n)} {_noun(signal, reference.task)} in this window, and {wanted} are needed"
        return Reading(window.start, Judgement.INCONCLUSIVE, round(n), value, low, high, message)
    judgement = Judgement.FAILING if _out_of_bounds(signal, found) else Judgement.PASSING
    return Reading(window.start, judgement, round(n), value, low, high)


def cluster(traffic: Traffic, task: Task) -> float:
    """Give how many predictions are as good as one: those in one picture are alike, so pictures are the sample.

    The mean number of detections in the picture of a detection, which holds also where all in one picture agree.
    """
    counts = traffic.pictures.get("detections", ())
    if task == "classify" or len(counts) != DETECTIONS.bins:
        return 1.0
    most = (*DETECTIONS.edges, 2 * DETECTIONS.edges[-1])
    found = sum(count * each for count, each in zip(counts, most, strict=True))
    return sum(count * each**2 for count, each in zip(counts, most, strict=True)) / found if found else 1.0


def top_confidences(traffic: Traffic, task: Task) -> Counts:
    """Give the highest confidence of each picture, in bins; a picture in which nothing was found has the lowest."""
    counts = traffic.pictures.get("confidence", ())
    detections = traffic.pictures.get("detections", ())
    if task == "classify" or not detections or not detections[0]:
        return counts
    first, *rest = counts or (0.0,) * OF_PICTURES["confidence"].bins
    return (first + detections[0], *rest)


def expected_accuracy(window: Traffic, reference: Reference, name: str | None = None) -> Estimate | str:
    """Give the accuracy that a window's predictions are expected to have, of one class or all; or why nobody knows."""
    if reference.traffic is None:
        return reference.lack
    live = {name: window.classes.get(name, ())} if name else window.classes
    if not any(map(any, live.values())):
        return _NOTHING
    if any(len(counts) != BY_CLASS.bins for counts in (*live.values(), *reference.traffic.classes.values())):
        return _OTHER_BINS
    if reference.calibration is None:
        return "nothing is predicted on golden, so nothing was right"
    return estimated_accuracy(
        reference.calibration, live, cluster=cluster(window, reference.task), golden_cluster=reference.cluster
    )


_NOTHING = "nothing was counted in this window"
_OTHER_BINS = "the profile of this release has other bins than the traffic; it was made by another version of Trunkline"


def _compared(signal: Signal, live: Counts, golden: Counts, measure: Measure | None, what: str) -> Found:
    n = sum(live)
    if not sum(golden):
        return n, f"golden has no {what} to compare with"
    if not n:
        return n, _NOTHING
    if len(live) != len(golden) or (measure and len(live) != measure.bins):
        return n, _OTHER_BINS
    return n, distance(signal.compares, live, golden, measure)


def _confidence(signal: Signal, window: Traffic, reference: Reference) -> Found:
    golden, task = reference.traffic, reference.task
    if signal.class_ is None:
        live = top_confidences(window, task)
        if golden is None:
            return sum(live), reference.lack
        return _compared(signal, live, top_confidences(golden, task), OF_PICTURES["confidence"], "confidences")
    live = window.classes.get(signal.class_, ())
    if golden is None:
        return sum(live), reference.lack
    _, found = _compared(
        signal, _thinned(live, cluster(window, task)),
        _thinned(golden.classes.get(signal.class_, ()), reference.cluster), BY_CLASS, f"predictions of {signal.class_}",
    )  # fmt: skip
    return sum(live), found


def _input(signal: Signal, window: Traffic, reference: Reference) -> Found:
    feature = signal.feature or ""
    live = window.pictures.get(feature, ())
    if reference.traffic is None:
        return sum(live), reference.lack
    return _compared(signal, live, reference.traffic.pictures.get(feature, ()), OF_PICTURES[feature], feature)


def _classes(signal: Signal, window: Traffic, reference: Reference) -> Found:
    mix = window.mix
    n = sum(mix.values())
    if reference.traffic is None:
        return n, reference.lack
    before = reference.traffic.mix
    names = sorted(mix.keys() | before.keys())
    live = _thinned([mix.get(name, 0.0) for name in names], cluster(window, reference.task))
    golden = _thinned([before.get(name, 0.0) for name in names], reference.cluster)
    return n, _compared(signal, live, golden, None, "predictions")[1]


def _estimated(signal: Signal, window: Traffic, reference: Reference) -> Found:
    counts = (window.classes.get(signal.class_, ()),) if signal.class_ else window.classes.values()
    return sum(map(sum, counts)), expected_accuracy(window, reference, signal.class_)


def _told(signal: Signal, window: Traffic, reference: Reference) -> Found:
    del signal, reference
    right = window.truth.get("right", 0.0)
    n = right + window.truth.get("wrong", 0.0)
    return n, proportion(right, n) if n else "nobody told the truth about a prediction in this window"


def _latency(signal: Signal, window: Traffic, reference: Reference) -> Found:
    del reference
    counts = window.stages.get(STAGE, ())
    n = sum(counts)
    return n, quantile(counts, BY_STAGE, signal.quantile or QUANTILE) if n else _NOTHING


def _errors(signal: Signal, window: Traffic, reference: Reference) -> Found:
    del signal, reference
    n = window.requests
    return n, proportion(sum(window.outcomes.get(name, 0.0) for name in OURS), n) if n else _NOTHING


_MEASURED: Mapping[str, Callable[[Signal, Traffic, Reference], Found]] = {
    "Confidence": _confidence, "Input": _input, "Classes": _classes, "EstimatedAccuracy": _estimated,
    "Accuracy": _told, "Latency": _latency, "ErrorRate": _errors,
}  # fmt: skip


def _thinned(counts: Sequence[float], by: float) -> Counts:
    return tuple(count / by for count in counts)


def _out_of_bounds(signal: Signal, found: Estimate) -> bool:
    ceiling = signal.ceiling
    return (ceiling is not None and found.low > ceiling) or (signal.min is not None and found.high < signal.min)


def _noun(signal: Signal, task: Task) -> str:
    match signal.type:
        case "Latency" | "ErrorRate":
            return "requests"
        case "Accuracy":
            return "predictions with a known truth"
        case "Classes" | "EstimatedAccuracy":
            return "predictions" if task == "classify" else "detections"
        case _:
            return "predictions" if signal.class_ else "pictures"


def _short(value: float) -> float | None:
    """Give as many digits as are the same on every machine; None for what has no end."""
    return None if math.isinf(value) else float(f"{value:.6g}")
