"""Inference requests and responses of the Open Inference Protocol v2, with its binary tensor extension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import to_json

from workloads.serve import tensors
from workloads.serve.answers import Refusal
from workloads.serve.limits import Limits
from workloads.serve.tensors import Array

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Says how many bytes of the body are JSON; binary tensors follow."""

EXTENSIONS = ("binary_tensor_data", "model_repository")
_SHORT = 2048
"""Bytes of a head worth remembering."""

_Text = Annotated[str, StringConstraints(max_length=1024)]
_Datatype = Literal[
    "BOOL", "BYTES", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"
]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _InputParameters(_Part):
    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    shared_memory_region: Any = None


class _Input(_Part):
    name: _Text
    datatype: _Datatype
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=16)]
    parameters: _InputParameters = _InputParameters()
    data: list[Any] | None = None


class _OutputParameters(_Part):
    binary_data: bool | None = None
    classification: Any = None
    shared_memory_region: Any = None


class _Output(_Part):
    name: _Text
    parameters: _OutputParameters = _OutputParameters()


class _RequestParameters(_Part):
    binary_data_output: bool = False


class _Request(_Part):
    id: _Text | None = None
    parameters: _RequestParameters = _RequestParameters()
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[_Output], Field(max_length=64)] | None = None


@dataclass(frozen=True)
class Call:
    """One inference as the client asks for it."""

    id: str | None
    inputs: dict[str, Array]
    outputs: dict[str, bool] | None
    """Wanted output to whether it goes back as binary; None means all outputs."""
    binary: bool
    """How all outputs go back where none are named."""


def parse(body: bytes, header_length: str | None, *, most: int = Limits.max_json) -> Call:
    """Read a request; ``header_length`` is the header of that name.

    Raises Refusal 413 for more than ``most`` bytes of JSON, 400 for all else, and nothing but refusals.
    """
    split = _header_length(header_length, len(body))
    if split > most:
        message = f"the request has {split} bytes of JSON; this server takes {most}: send tensors as binary data"
        raise Refusal(413, message)
    head = body if split == len(body) else body[:split]
    try:
        request = _remembered(head) if split <= _SHORT else _Request.model_validate_json(head)
    except ValidationError as error:
        raise Refusal(400, f"not an inference request: {first_problem(error)}") from error
    inputs: dict[str, Array] = {}
    rest = memoryview(body)[split:]
    for given in request.inputs:
        if given.name in inputs:
            raise Refusal(400, f"input {given.name!r} is given twice")
        inputs[given.name], rest = _read_input(given, rest)
    if len(rest):
        raise Refusal(400, f"{len(rest)} bytes follow the last tensor; binary_data_size of the inputs must add up")
    return Call(request.id, inputs, _wanted(request), request.parameters.binary_data_output)


@lru_cache(maxsize=256)
def _remembered(head: bytes) -> _Request:
    """Read a short head. Clients that send binary tensors send the same head again and again."""
    return _Request.model_validate_json(head)


def _header_length(text: str | None, size: int) -> int:
    if text is None:
        return size
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
        msg = f"{HEADER_LENGTH}: {text[:40]!r} is not a number of bytes within the body, which has {size}"
        raise Refusal(400, msg)
    return int(text)


def first_problem(error: ValidationError) -> str:
    """Give one line: where in the request, and what is wrong."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]


def _read_input(given: _Input, rest: memoryview) -> tuple[Array, memoryview]:
    """Give the tensor and the bytes after it."""
    size = given.parameters.binary_data_size
    if given.parameters.shared_memory_region is not None:
        raise Refusal(400, f"input {given.name!r}: shared memory is not supported; send the data")
    if size is None:
        if given.data is None:
            raise Refusal(400, f"input {given.name!r}: give data, or parameters.binary_data_size and binary data")
        return tensors.from_json(given.name, given.datatype, given.shape, given.data), rest
    if given.data is not None:
        raise Refusal(400, f"input {given.name!r}: give either data or binary data, not both")
    if size > len(rest):
        raise Refusal(400, f"input {given.name!r}: binary_data_size is {size}, but only {len(rest)} bytes are left")
    return tensors.from_bytes(given.name, given.datatype, given.shape, rest[:size]), rest[size:]


def _wanted(request: _Request) -> dict[str, bool] | None:
    if not request.outputs:
        return None
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name in wanted:
            raise Refusal(400, f"output {output.name!r} is asked for twice")
        if output.parameters.classification is not None or output.parameters.shared_memory_region is not None:
            msg = f"output {output.name!r}: classification and shared memory are not supported; ask for the tensor"
            raise Refusal(400, msg)
        binary = output.parameters.binary_data
        wanted[output.name] = request.parameters.binary_data_output if binary is None else binary
    return wanted


def respond(
    call: Call, name: str, version: int, file: str, outputs: Mapping[str, Array], request: str
) -> web.Response:
    """Give the response to ``call``: JSON, followed by the outputs that go back as binary.

    Clients that gave no id find ``request``, the name that was made for theirs, in a header.
    """
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    wanted = call.outputs if call.outputs is not None else dict.fromkeys(outputs, call.binary)
    for output, binary in wanted.items():
        array = outputs[output]
        tensor: dict[str, Any] = {"name": output, "datatype": tensors.datatype_of(array), "shape": array.shape}
        if binary:
            parts.append(tensors.to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = tensors.to_json(array)
        described.append(tensor)
    answer: dict[str, Any] = {"model_name": name, "model_version": str(version), "outputs": described}
    if call.id is not None:
        answer["id"] = call.id
    head = to_json(answer, inf_nan_mode="constants")
    headers = {FILE_HEADER: file, REQUEST_HEADER: request}
    if not parts:
        return web.Response(body=head, headers=headers, content_type="application/json")
    headers[HEADER_LENGTH] = str(len(head))
    return web.Response(body=b"".join((head, *parts)), headers=headers, content_type="application/octet-stream")


FILE_HEADER = "Trunkline-File"
"""First digits of the digest of the file that answered."""
REQUEST_HEADER = "Trunkline-Request"
"""Names a request, so that the truth about it can be told later."""
