"""``spec.monitoring``, ``spec.triggers`` and ``spec.labelling``: watching live traffic and learning from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from specs.base import Duration, Fraction, Name, Number, Section, seconds
from specs.digests import PlainText
from specs.labelling import Queue

Method = Literal["psi", "js", "ks", "wasserstein"]
SignalType = Literal["Confidence", "EstimatedAccuracy", "Accuracy", "Input", "Classes", "Latency", "ErrorRate"]

MIN_SAMPLES = 100
"""In a window, for it to say anything, where the spec does not say."""
FOR_WINDOWS = 3
"""Windows in a row that must agree before a signal fires or ceases to, where the spec does not say."""
QUANTILE = 0.95
"""Of latencies, where the spec does not say."""
METHODS: Mapping[str, Method] = {"Confidence": "psi", "Input": "ks", "Classes": "js"}
"""Of distributions, where the spec does not say."""
_UP_TO_1 = ("js", "ks")
_RATES = ("EstimatedAccuracy", "Accuracy", "ErrorRate")
FLOORS = ("EstimatedAccuracy", "Accuracy")
"""What may fall too low; everything else may rise too high."""
MEANT: Mapping[str, tuple[str, ...]] = {
    "method": tuple(METHODS),
    "feature": ("Input",),
    "quantile": ("Latency",),
    "class": ("Confidence", "EstimatedAccuracy"),
    "min": FLOORS,
    "max": ("Confidence", "Input", "Classes", "Latency", "ErrorRate"),
}
"""Types for which a field means something."""


class Signal(Section):
    """A watched statement about live traffic. It is bad news where its whole interval is out of bounds."""

    name: Name
    type: SignalType
    method: Method | None = None
    """How distributions are compared: psi for Confidence, ks for Input, js for Classes where it is not said."""
    feature: Literal["brightness", "contrast", "sharpness", "size"] | None = None
    quantile: Fraction | None = None
    """Of latencies; 0.95 where it is not said."""
    class_: Annotated[PlainText | None, Field(alias="class")] = None
    """Predictions of this class alone."""
    min: Number | None = None
    max: Number | Duration | None = None
    """A number, or a duration for latencies."""
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """For this signal; that of all where it is not said."""

    @property
    def compares(self) -> Method:
        """How distributions are compared; psi for types that compare none."""
        return self.method or METHODS.get(self.type, "psi")

    @property
    def ceiling(self) -> float | None:
        """``max`` as a number; durations in seconds."""
        return seconds(self.max) if isinstance(self.max, str) else self.max

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        for field, types in MEANT.items():
            given = getattr(self, "class_" if field == "class" else field)
            if given is not None and self.type not in types:
                msg = f"{field} means nothing for {self.type}, only for {', '.join(types)}; remove it"
                raise ValueError(msg)
        if self.type == "Input" and self.feature is None:
            raise ValueError("Input needs a feature: brightness, contrast, sharpness or size")
        if self.type == "Classes" and self.compares not in ("psi", "js"):
            msg = f"{self.compares} needs bins in an order, and classes have none; use psi or js"
            raise ValueError(msg)
        if self.quantile in (0, 1):
            raise ValueError("quantile must lie between 0 and 1, such as 0.95")
        self._check_bound()
        return self

    def _check_bound(self) -> None:
        bound = "min" if self.type in FLOORS else "max"
        value = self.min if self.type in FLOORS else self.max
        if value is None:
            msg = f"{self.type} needs {bound}: without it nothing is out of bounds"
            raise ValueError(msg)
        if (self.type == "Latency") != isinstance(value, str):
            wanted = "a duration such as 80ms" if self.type == "Latency" else "a number; only latencies have durations"
            msg = f"{bound} of {self.type} must be {wanted}"
            raise ValueError(msg)
        if isinstance(value, str):
            return
        highest = 1.0 if self.type in _RATES or self.compares in _UP_TO_1 else math.inf
        if not 0 <= value <= highest:
            what = f"{self.type} by {self.compares}" if self.type in METHODS else self.type
            limits = "between 0 and 1" if highest == 1 else "at least 0"
            msg = f"{bound} of {what} must be {limits}, not {value:g}"
            raise ValueError(msg)


class Monitoring(Section):
    """Signals over windows of traffic."""

    window: Duration
    signals: Annotated[list[Signal], Field(min_length=1, max_length=64)]
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """Pictures, predictions or requests that a window needs to say anything; 100 where it is not said."""
    for_windows: Annotated[int, Field(ge=1)] | None = None
    """Windows in a row that must agree; 3 where it is not said."""


class AllOf(Section):
    """Signals that must hold together."""

    all_of: Annotated[list[Name], Field(min_length=1)]


class Require(Section):
    """What must be there before a trigger may open a pull request."""

    new_labels: Annotated[int, Field(ge=1)] | None = None


class OnData(Section):
    """Where newer versions of the training data appear. Without either field: the data repository's own branch."""

    branch: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Branch of the data repository to follow."""
    tags: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Pattern of its tags, such as ``v*``; the highest version counts."""

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.branch is not None and self.tags is not None:
            raise ValueError("give branch or tags, not both")
        return self


class Triggers(Section):
    """When Trunkline may ask for a retraining, always by pull request."""

    on_signal: list[Name | AllOf] | None = None
    on_data: bool | OnData | None = None
    schedule: Annotated[str, Field(pattern=r"^\S+ \S+ \S+ \S+ \S+$")] | None = None
    """A cron line of five fields, UTC."""
    require: Require | None = None
    cooldown: Duration | None = None

    @property
    def named(self) -> list[str]:
        """Names of the signals that are asked about, in order, each once."""
        asked = [each.all_of if isinstance(each, AllOf) else [each] for each in self.on_signal or []]
        return list(dict.fromkeys(name for names in asked for name in names))


class ConfidenceBand(Section):
    """Predictions in this band are uncertain."""

    min: Fraction
    max: Fraction

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.min >= self.max:
            msg = f"min must be below max, and {self.min:g} is not below {self.max:g}"
            raise ValueError(msg)
        return self


class Region(Section):
    """A rectangle, in parts of the picture's width and height."""

    left: Fraction
    top: Fraction
    right: Fraction
    bottom: Fraction

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.left >= self.right or self.top >= self.bottom:
            raise ValueError("left must be below right, and top below bottom")
        return self


class Labelling(Section):
    """Which live pictures are kept for people to label."""

    confidence: ConfidenceBand | None = None
    zero_detections: bool | None = None
    random_percent: Annotated[Number, Field(ge=0, le=100)] | None = None
    max_per_day: Annotated[int, Field(ge=0)] | None = None
    """Of each replica; 200 where it is not said."""
    retention: Duration | None = None
    """How long a kept picture waits for people; 30 days where it is not said."""
    max_size: Annotated[int, Field(ge=1)] | None = None
    """Megabytes of kept pictures of each replica; the oldest go first. 1000 where it is not said."""
    blur: list[Region] | None = None
    """Parts of every picture that are blurred before it is kept."""
    queue: Queue | None = None
    """Where ``trunkline labels export`` puts them before people."""
