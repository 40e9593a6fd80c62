"""``spec.exports`` and ``spec.gates``: what a run ships as, and what it must prove first."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from specs.base import Args, Name, Number, Section
from specs.digests import PlainText
from specs.training import RESERVED_ARGS, Resources

FORMATS = {
    "onnx": ".onnx", "torchscript": ".torchscript", "openvino": "_openvino_model", "engine": ".engine",
    "coreml": ".mlpackage", "coreai": ".aimodel", "saved_model": "_saved_model", "pb": ".pb",
    "edgetpu": "_edgetpu.tflite", "litert": ".tflite", "paddle": "_paddle_model", "mnn": ".mnn", "ncnn": "_ncnn_model",
    "imx": "_imx_model", "rknn": "_rknn_model", "executorch": "_executorch_model", "axelera": "_axelera_model",
    "deepx": "_deepx_model", "qnn": "_qnn.onnx", "hailo": "_hailo_model", "ascend": "_ascend_model",
    "xilinx": "_xilinx_model",
}  # fmt: skip
"""Ultralytics format name to the suffix of what it writes."""
TARGETED = frozenset({"rknn", "qnn", "hailo", "ascend", "xilinx"})
"""Formats for one kind of chip, which the argument ``name`` names."""
DEVICE_BUILT = ("engine", "openvino")
"""Formats that a server makes of ONNX by itself."""
_CALIBRATED = frozenset({
    "onnx", "openvino", "engine", "saved_model", "edgetpu", "litert", "imx", "rknn", "axelera", "deepx", "qnn", "hailo",
    "xilinx",
})  # fmt: skip
"""Formats that take calibration pictures; others quantise without them."""
_ALWAYS_INT8 = frozenset({"edgetpu", "imx", "axelera", "deepx", "qnn", "hailo", "xilinx"})
_INT8 = frozenset({"8", "int8", "w8a8", "w8a16"})
_INT8_CHIPS = frozenset({"rv1103", "rv1106", "rv1103b", "rv1106b"})
_BUILD_ARGS = frozenset({"quantize", "workspace", "device", "fraction"})
"""What is about the engine that a device makes, not about the graph that it makes it of."""


def needs_calibration(format_: str, args: Args) -> bool:
    """Whether Ultralytics looks at pictures to find the ranges of INT8 numbers."""
    if format_ not in _CALIBRATED:
        return False
    asked = str(args.get("quantize")).lower() in _INT8
    return asked or format_ in _ALWAYS_INT8 or (format_ == "rknn" and str(args.get("name")).lower() in _INT8_CHIPS)


UNLABELLED = ("latency/", "artifact/", "memory/")
"""What metrics begin with that no labels are needed for."""
OF_EXPORTS = (*UNLABELLED, "parity/")
"""What metrics begin with that only exports have."""
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
    def _not_reserved(cls, args: Args, info: ValidationInfo) -> Args:
        free = {"name"} if info.data.get("format") in TARGETED else set()
        taken = sorted(((RESERVED_ARGS | {"format"}) - free) & args.keys())
        if taken:
            msg = f"{', '.join(taken)}: Trunkline sets this itself; remove it"
            raise ValueError(msg)
        return args

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.build_on != "Device":
            return self
        if self.format not in DEVICE_BUILT:
            msg = f"buildOn: Device: a device makes {' or '.join(DEVICE_BUILT)} of ONNX by itself, not {self.format}"
            raise ValueError(msg)
        if needs_calibration(self.format, self.args):
            msg = "buildOn: Device: INT8 needs calibration pictures, which devices do not have; use quantize: 16"
            raise ValueError(msg)
        return self

    @property
    def released_format(self) -> str:
        """Format of the file that a release pins."""
        return "onnx" if self.build_on == "Device" else self.format

    @property
    def released_args(self) -> Args:
        """Arguments by which that file is made; those of an engine stay with the device that makes it."""
        if self.build_on != "Device":
            return self.args
        return {name: value for name, value in self.args.items() if name not in _BUILD_ARGS}

    @property
    def is_calibrated(self) -> bool:
        """Whether making that file takes calibration data."""
        return needs_calibration(self.released_format, self.released_args)


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
        return not self.metric.startswith(UNLABELLED)
