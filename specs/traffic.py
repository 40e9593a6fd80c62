"""What live traffic looks like: counts in fixed bins, so that replicas, windows and days add up. Pure.

The server counts, a profile holds the same counts for the golden set, Prometheus carries them, the control plane reads
them. So the bins and the names are decided here and nowhere else; changing one is changing all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate


def _steps(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(round(first + (last - first) * step / count, 6) for step in range(count + 1))


@dataclass(frozen=True)
class Measure:
    """One thing that is counted for each picture or request: its Prometheus name, and the upper edges of its bins.

    There is one more bin than edges: the last one has no upper edge. A value on an edge belongs to the bin below it.
    """

    metric: str
    """Of the histogram, without ``_bucket``, ``_sum``, ``_count``."""
    edges: tuple[float, ...]
    help: str

    @property
    def bins(self) -> int:
        """How many bins."""
        return len(self.edges) + 1


CONFIDENCE = Measure(
    "trunkline_confidence", _steps(0.05, 0.95, 18), "Highest confidence in a picture; none where nothing was found."
)
BOX_CONFIDENCE = Measure(
    "trunkline_prediction_confidence", _steps(0.05, 0.95, 18),
    "Confidence of every prediction by class: the top one of a picture for classify, every detection else.",
)  # fmt: skip
DETECTIONS = Measure(
    "trunkline_detections", (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100), "Detections in a picture."
)
BRIGHTNESS = Measure("trunkline_image_brightness", _steps(0.05, 0.95, 18), "Mean grey of a model's input, 0 to 1.")
CONTRAST = Measure(
    "trunkline_image_contrast", _steps(0.025, 0.475, 18), "Standard deviation of grey of a model's input, 0 to 0.5."
)
SHARPNESS = Measure(
    "trunkline_image_sharpness",
    (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3),
    "Mean difference of grey between neighbouring pixels of a model's input, 0 to 1.",
)  # fmt: skip
PIXELS = Measure(
    "trunkline_image_pixels", tuple(float(4**power) for power in range(4, 14)), "Pixels of a picture as it was sent."
)
SECONDS = Measure(
    "trunkline_request_seconds",
    (
        0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0,
        2.5, 5.0, 10.0,
    ),
    "Time of a request in each stage, seconds.",
)  # fmt: skip

OF_PICTURES: Mapping[str, Measure] = {
    "confidence": CONFIDENCE, "detections": DETECTIONS, "brightness": BRIGHTNESS, "contrast": CONTRAST,
    "sharpness": SHARPNESS, "size": PIXELS,
}  # fmt: skip
"""Measures with one value for each picture, by the names that specs and profiles use."""
BY_STAGE = SECONDS
"""Has the label ``stage``: ``decode``, ``queue``, ``inference``, ``total``."""
BY_CLASS = BOX_CONFIDENCE
"""Has the label ``class``; its counts are the class mix."""

REQUESTS = "trunkline_requests_total"
"""Counter with the labels ``model``, ``version``, ``outcome``."""
TRUTH = "trunkline_truth_total"
"""Counter of predictions whose truth was told later: labels ``model``, ``version``, ``verdict``."""
LOADED = "trunkline_model_loaded_timestamp_seconds"
"""Gauge with the labels ``model``, ``version``: Unix time at which this server began to serve the version."""
OUTCOMES = ("ok", "rejected", "too_large", "timeout", "overloaded", "unsupported", "unavailable", "error", "gone")
OURS = ("overloaded", "unavailable", "error")
"""Outcomes that are the server's fault; of the others, but for ``ok``, the client's, or nobody's."""
VERDICTS = ("right", "wrong", "missed")
"""``missed``: an object that is there and was not found; classify knows none."""
OTHER = "other"
"""Stands for all classes beyond ``MOST_CLASSES``, so that no model can flood Prometheus."""
MOST_CLASSES = 100

Counts = tuple[float, ...]
"""One number for each bin of a measure."""


@dataclass(frozen=True)
class Traffic:
    """What one version of a model saw in a stretch of time, all replicas together. Counts may be fractions."""

    start: float
    end: float
    """Unix time, seconds."""
    pictures: Mapping[str, Counts] = field(default_factory=dict)
    """By the names of ``OF_PICTURES``."""
    classes: Mapping[str, Counts] = field(default_factory=dict)
    """Confidence of predictions, by class."""
    stages: Mapping[str, Counts] = field(default_factory=dict)
    """Seconds of requests, by stage."""
    outcomes: Mapping[str, float] = field(default_factory=dict)
    truth: Mapping[str, float] = field(default_factory=dict)

    @property
    def requests(self) -> float:
        """All requests, however they ended."""
        return sum(self.outcomes.values())

    @property
    def mix(self) -> dict[str, float]:
        """Predictions by class."""
        return {name: sum(counts) for name, counts in self.classes.items()}

    @property
    def confidences(self) -> Counts:
        """Confidence of all predictions, whatever their class."""
        return tuple(map(sum, zip(*self.classes.values(), strict=True))) if self.classes else (0.0,) * BY_CLASS.bins

    def plus(self, other: Traffic) -> Traffic:
        """Give both together: from the earlier start to the later end."""
        return Traffic(
            min(self.start, other.start), max(self.end, other.end), _added(self.pictures, other.pictures),
            _added(self.classes, other.classes), _added(self.stages, other.stages),
            _sums(self.outcomes, other.outcomes), _sums(self.truth, other.truth),
        )  # fmt: skip

    def since(self, before: Traffic) -> Traffic | None:
        """Give what was counted after ``before``; None where a count is smaller now: counting began anew.

        Both must have been counted from the same moment on.
        """
        grown = tuple(
            _grown(mine, old)
            for mine, old in (
                (self.pictures, before.pictures), (self.classes, before.classes), (self.stages, before.stages),
            )
        )  # fmt: skip
        (outcomes, truth) = (
            _grown_sums(mine, old) for mine, old in ((self.outcomes, before.outcomes), (self.truth, before.truth))
        )
        if outcomes is None or truth is None or None in grown:
            return None
        pictures, classes, stages = (each or {} for each in grown)
        return Traffic(before.end, self.end, pictures, classes, stages, outcomes, truth)

    @property
    def empty(self) -> bool:
        """Whether nothing at all was counted."""
        counts = (*self.pictures.values(), *self.classes.values(), *self.stages.values())
        return not any(map(any, counts)) and not any(self.outcomes.values()) and not any(self.truth.values())


def _added(some: Mapping[str, Counts], more: Mapping[str, Counts]) -> dict[str, Counts]:
    both = {name: tuple(map(sum, zip(some[name], more[name], strict=True))) for name in some.keys() & more.keys()}
    return {**some, **more, **both}


def _sums(some: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {name: some.get(name, 0.0) + more.get(name, 0.0) for name in (*some, *more)}


def _grown(now: Mapping[str, Counts], before: Mapping[str, Counts]) -> dict[str, Counts] | None:
    if not before.keys() <= now.keys():
        return None
    found = {}
    for name, counts in now.items():
        old = before.get(name)
        found[name] = counts if old is None else tuple(new - was for new, was in zip(counts, old, strict=True))
        if old is not None and min(found[name]) < 0:
            return None
    return found


def _grown_sums(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float] | None:
    found = {name: value - before.get(name, 0.0) for name, value in now.items()}
    return found if before.keys() <= now.keys() and min(found.values(), default=0.0) >= 0 else None


def cumulated(counts: Counts) -> Counts:
    """Give, for each bin, how many values lie in it or below: what Prometheus' ``le`` buckets hold."""
    return tuple(accumulate(counts))


@dataclass(frozen=True)
class Watch:
    """What somebody wants to know about the traffic of a model."""

    name: str
    """At the server."""
    version: int
    """Of the release that serves."""
    before: int | None
    """Version of the release before it, where there was one."""
    window: float
    """Seconds. Windows begin at whole multiples of it in Unix time, so that everybody means the same ones."""
    windows: int
    """How many of the last closed ones."""
    bake: float = 0.0
    """Seconds after its loading in which a version is on trial; 0 where it is not."""
    canary: int | None = None
    """Version that serves beside it; None where none does."""


@dataclass(frozen=True)
class Watched:
    """The answer. It may be up to a few seconds old; a window is told only once it is closed and was seen whole."""

    windows: tuple[Traffic, ...] = ()
    """Of the version, oldest first; one without traffic is there too, one that nobody watched is missing."""
    loaded: float | None = None
    """Unix time at which the first server began to serve the version; None where nobody knows."""
    bake: Traffic | None = None
    """Of the version, from its loading until now, or until the end of the bake."""
    champion: Traffic | None = None
    """Of the version before, in as much of its last windows as are known."""
    trouble: str = ""
    """Why nothing newer is known; the rest is what was known before."""
    canary: Traffic | None = None
    """Of the version beside it, since that was loaded."""
    beside: Traffic | None = None
    """Of the version itself, since then."""
