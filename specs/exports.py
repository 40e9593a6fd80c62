"""``spec.exports`` and ``spec.gates``: what a run ships as, and what it must prove first."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from specs.base import Args, Name, Number, Section
from specs.digests import PlainText
from specs.training import RESERVED_ARGS, Resources

FORMATS = {
    "onnx": ".onnx", "torchscript": ".torchscript", "openvino": "_openvino_model", "engine": ".engine",
    "coreml": ".mlpackage", "saved_model": "_saved_model", "litert": ".tflite", "ncnn": "_ncnn_model",
    "paddle": "_paddle_model", "mnn": ".mnn", "rknn": "_rknn_model", "imx": "_imx_model",
    "executorch": "_executorch_model",
}  # fmt: skip
"""Ultralytics format name to the suffix of what it writes."""


LEVELS = (0.8, 0.9, 0.95, 0.99)


def _level(value: float) -> float:
    if value not in LEVELS:
        msg = f"must be one of {', '.join(map(str, LEVELS))}: the levels that evaluations record"
        raise ValueError(msg)
    return value


Confidence = Annotated[float, AfterValidator(_level), Field(json_schema_extra={"enum": list(LEVELS)})]


class Parity(Section):
    """How much worse than the weights an export may be, on golden."""

    max_drop: Annotated[Number, Field(ge=0)]
    metric: PlainText | None = None
    """Default: the main metric of the task."""


class Export(Section):
    """One file made from a run's weights."""

    name: Name
    format: Annotated[str, StringConstraints(pattern=r"^[a-z_]+$")]
    args: Args = {}
    parity: Parity | None = None
    node_selector: dict[str, str] | None = None
    resources: Resources | None = None
    build_on: Literal["Cluster", "Device"] | None = None
    """``Device``: what is released is the ONNX file, and each device makes this format of it, for itself."""

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in FORMATS:
            msg = f"unknown format {value!r}; Ultralytics exports {', '.join(sorted(FORMATS))}"
            raise ValueError(msg)
        return value

    @field_validator("args")
    @classmethod
    def _not_reserved(cls, args: Args) -> Args:
        taken = sorted((RESERVED_ARGS | {"format"}) & args.keys())
        if taken:
            msg = f"{', '.join(taken)}: Trunkline sets this itself; remove it"
            raise ValueError(msg)
        return args


    @property
    def released_format(self) -> str:
        """Format of the file that a release pins."""
        return "onnx" if self.build_on == "Device" else self.format


class Gate(Section):
    """A bound that a candidate must meet before it may be proposed."""

    name: Name
    metric: Annotated[PlainText, Field(min_length=1, max_length=256)]
    min: Number | None = None
    max: Number | None = None
    max_regression: Annotated[Number, Field(ge=0)] | None = None
    """How much worse than the champion the candidate may be."""
    confidence: Confidence | None = None
    """Judge the interval's bound on the safe side instead of the point estimate."""
    export: Name | None = None
    """Measure this export instead of the weights."""
    class_: Annotated[PlainText | None, Field(alias="class")] = None
    """Measure this class alone."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [name for name in ("min", "max", "max_regression") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"give exactly one of min, max, maxRegression; found {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self

    @property
    def needs_golden(self) -> bool:
        """Whether this gate is about quality, which only the golden set can tell."""
        return not self.metric.startswith(("latency/", "artifact/"))
