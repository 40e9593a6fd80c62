"""Inference requests and responses as gRPC carries them: raw bytes, or numbers in typed fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workloads.serve import tensors
from workloads.serve.answers import Refusal
from workloads.serve.grpc_messages import INFERENCE
from workloads.serve.protocol import Call
from workloads.serve.tensors import Array

_CONTENTS = {
    "BOOL": "bool_contents", "BYTES": "bytes_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Datatype to the field that holds its values; half floats have none."""
_DIMENSIONS, _TENSORS, _NAME = 16, 64, 1024
"""At most, as over HTTP."""


def call_of(request: Any) -> Call:
    """Read a ModelInferRequest; ``binary`` of what is given says whether its tensors were raw. Refusal 400."""
    raw = len(request.raw_input_contents) > 0
    if not 0 < len(request.inputs) <= _TENSORS or len(request.outputs) > _TENSORS:
        raise Refusal(400, f"a request has 1 to {_TENSORS} inputs, and names at most {_TENSORS} outputs")
    if raw and len(request.raw_input_contents) != len(request.inputs):
        msg = f"{len(request.raw_input_contents)} raw_input_contents are given for {len(request.inputs)} inputs"
        raise Refusal(400, msg)
    inputs: dict[str, Array] = {}
    for index, given in enumerate(request.inputs):
        _check(given, "input", inputs)
        inputs[given.name] = _raw(given, request.raw_input_contents[index]) if raw else _typed(given)
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        _check(output, "output", wanted)
        wanted[output.name] = raw
    return Call(request.id or None, inputs, wanted or None, raw)


def _check(given: Any, kind: str, known: Mapping[str, object]) -> None:
    name = given.name[:64]
    if len(given.name) > _NAME or given.name in known:
        raise Refusal(400, f"{kind} {name!r} is given twice, or its name is too long")
    unsupported = sorted(given.parameters.keys() & {"shared_memory_region", "classification"})
    if unsupported:
        raise Refusal(400, f"{kind} {name!r}: {unsupported[0]} is not supported; send and ask for plain tensors")


def _described(given: Any) -> tuple[str, str, list[int]]:
    shape = list(given.shape)
    if given.datatype not in tensors.DATATYPES:
        kinds = ", ".join(tensors.DATATYPES)
        raise Refusal(400, f"input {given.name!r}: there is no datatype {given.datatype[:20]!r}; there are {kinds}")
    if len(shape) > _DIMENSIONS or not all(0 <= side <= 2**31 for side in shape):
        raise Refusal(400, f"input {given.name!r}: {shape[:_DIMENSIONS]} is no shape")
    return given.name, given.datatype, shape


def _raw(given: Any, data: bytes) -> Array:
    if given.HasField("contents"):
        raise Refusal(400, f"input {given.name!r}: give either contents or raw_input_contents, not both")
    return tensors.from_bytes(*_described(given), memoryview(data))


def _typed(given: Any) -> Array:
    name, datatype, shape = _described(given)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise Refusal(400, f"input {name!r}: there are no contents for {datatype}; send raw_input_contents")
    others = sorted({known.name for known, _ in given.contents.ListFields()} - {field})
    if others:
        raise Refusal(400, f"input {name!r}: values of {datatype} belong into contents.{field}, not {others[0]}")
    values = list(getattr(given.contents, field))
    if datatype != "BYTES":
        return tensors.from_json(name, datatype, shape, values)
    if len(values) != math.prod(shape):
        raise Refusal(400, f"input {name!r}: shape {shape} does not have {len(values)} elements")
    elements = np.empty(len(values), dtype=object)
    elements[:] = values
    return elements.reshape(shape)


def response_of(
    call: Call, name: str, version: int, outputs: Mapping[str, Array], parameters: Mapping[str, str]
) -> bytes:
    """Give the encoded ModelInferResponse: tensors are raw as those of the request were, or where no field fits."""
    given = {output: outputs[output] for output in (call.outputs or outputs)}
    kinds = {output: tensors.datatype_of(array) for output, array in given.items()}
    response = INFERENCE["ModelInferResponse"](model_name=name, model_version=str(version), id=call.id or "")
    for key, value in parameters.items():
        response.parameters[key].string_param = value
    raw = call.binary or any(kind not in _CONTENTS for kind in kinds.values())
    for output, array in given.items():
        told = response.outputs.add(name=output, datatype=kinds[output], shape=array.shape)
        if raw:
            response.raw_output_contents.append(tensors.to_bytes(array))
        elif kinds[output] == "BYTES":
            told.contents.bytes_contents.extend(_elements(array))
        else:
            getattr(told.contents, _CONTENTS[kinds[output]]).extend(array.ravel().tolist())
    encoded: bytes = response.SerializeToString()
    return encoded


def _elements(array: Array) -> list[bytes]:
    return [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
