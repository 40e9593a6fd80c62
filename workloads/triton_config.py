"""Triton's ``config.pbtxt`` for one model, as text. Pure: the same model always gives the same text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from workloads.serve.engine import Signature

Device = Literal["cpu", "gpu"]
ONNX, PLAN = "model.onnx", "model.plan"
_BACKENDS = {ONNX: "onnxruntime", PLAN: "tensorrt"}
_ACCELERATORS = {
    "engine": 'gpu_execution_accelerator { name: "tensorrt" }',
    "openvino": 'cpu_execution_accelerator { name: "openvino" }',
}
BUILDS = tuple(_ACCELERATORS)
"""Formats that Triton itself makes of an ONNX file."""


@dataclass(frozen=True)
class Warmup:
    """An input that Triton tries before it is ready. ``data`` names a file in the model's folder ``warmup``."""

    name: str
    signature: Signature
    shape: tuple[int, ...]
    data: str
    """Empty: zeros."""


@dataclass(frozen=True)
class Model:
    """What Triton must know. Without ``inputs`` and ``outputs`` it reads them from the file itself."""

    name: str
    version: int
    file: str
    """``ONNX`` or ``PLAN``."""
    device: Device
    max_batch: int = 0
    """Rows in one inference; 0 where the model takes no more than its file says."""
    inputs: Sequence[Signature] = ()
    outputs: Sequence[Signature] = ()
    warmups: Sequence[Warmup] = ()
    build: str = ""
    """Format that is made of an ONNX file where it runs; empty where none is."""
    parameters: Mapping[str, str] = field(default_factory=dict)


def config_text(model: Model) -> str:
    """Give the configuration. Strings are quoted as JSON quotes them, which protobuf's text format reads alike."""
    batched = model.max_batch > 0
    lines = [f"name: {_quoted(model.name)}", f"backend: {_quoted(_BACKENDS[model.file])}",
             f"default_model_filename: {_quoted(model.file)}"]  # fmt: skip
    if model.inputs:
        lines.append(f"max_batch_size: {model.max_batch}")
    lines.append(_block("version_policy", [_block("specific", [f"versions: {model.version}"])]))
    lines += [_block("input", _tensor(part, batched=batched)) for part in model.inputs]
    lines += [_block("output", _tensor(part, batched=batched)) for part in model.outputs]
    lines.append(_block("instance_group", ["count: 1", f"kind: KIND_{model.device.upper()}"]))
    if batched:
        lines.append("dynamic_batching { }")
    if model.build:
        lines.append(_block("optimization", [_block("execution_accelerators", [_ACCELERATORS[model.build]])]))
    lines += [_block("model_warmup", _warmup(warmup, batched=batched)) for warmup in model.warmups]
    for key, text in sorted(model.parameters.items()):
        value = _block("value", [f"string_value: {_quoted(text)}"])
        lines.append(_block("parameters", [f"key: {_quoted(key)}", value]))
    return "\n".join(lines) + "\n"


def _tensor(part: Signature, *, batched: bool) -> list[str]:
    shape = part.shape[1:] if batched else part.shape
    return [f"name: {_quoted(part.name)}", f"data_type: {_type(part)}", f"dims: [ {_joined(shape)} ]"]


def _warmup(warmup: Warmup, *, batched: bool) -> list[str]:
    shape = warmup.shape[1:] if batched else warmup.shape
    data = f"input_data_file: {_quoted(warmup.data)}" if warmup.data else "zero_data: true"
    value = _block("value", [f"data_type: {_type(warmup.signature)}", f"dims: [ {_joined(shape)} ]", data])
    size = ["batch_size: 1"] if batched else []
    return [f"name: {_quoted(warmup.name)}", *size, _block("inputs", [f"key: {_quoted(warmup.signature.name)}", value])]


def _type(part: Signature) -> str:
    return "TYPE_STRING" if part.datatype == "BYTES" else f"TYPE_{part.datatype}"


def _joined(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _quoted(text: str) -> str:
    return json.dumps(text)


def _block(name: str, lines: Sequence[str]) -> str:
    inside = "\n".join(lines).replace("\n", "\n  ")
    return f"{name} {{\n  {inside}\n}}"
