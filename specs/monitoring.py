"""``spec.monitoring``, ``spec.triggers`` and ``spec.labelling``: watching live traffic and learning from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from specs.base import Duration, Fraction, Name, Number, Section

Method = Literal["psi", "js", "ks", "wasserstein"]


class Signal(Section):
    """A watched statement about live traffic."""

    name: Name
    type: Literal["Confidence", "EstimatedAccuracy", "Accuracy", "Input", "Classes", "Latency", "ErrorRate"]
    method: Method | None = None
    feature: Literal["brightness", "contrast", "sharpness", "size"] | None = None
    quantile: Fraction | None = None
    min: Number | None = None
    max: Number | Duration | None = None
    """A number, or a duration for latencies."""


class Monitoring(Section):
    """Signals over windows of traffic."""

    window: Duration
    signals: Annotated[list[Signal], Field(min_length=1, max_length=64)]
    min_samples: Annotated[int, Field(ge=1)] | None = None
    for_windows: Annotated[int, Field(ge=1)] | None = None


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


class ConfidenceBand(Section):
    """Predictions in this band are uncertain."""

    min: Fraction
    max: Fraction


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
    queue: dict[Literal["directory", "labelStudio", "cvat"], dict[str, Any]] | None = None
