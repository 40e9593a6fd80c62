"""Tensors as the Open Inference Protocol writes them: JSON numbers, or raw little-endian bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workloads.serve.answers import Refusal

Array = NDArray[Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"), "BYTES": np.dtype("O"),
    "UINT8": np.dtype("<u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip
"""Protocol name to numpy type."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_JSON_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
"""Kind of the wanted type to the kinds of JSON values it takes."""


def datatype_of(array: Array) -> str:
    """Give the protocol's name of an array's type."""
    return _NAMES[np.dtype("O") if array.dtype.kind in "SU" else array.dtype.newbyteorder("<")]


def from_json(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Array:
    """Give the tensor whose values are in ``data``: flat in row-major order, or nested like ``shape``.

    Raises Refusal 400 where number, nesting, kind or range of the values do not fit.
    """
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return _texts(name, shape, data)
    try:
        values = np.array(data)
    except ValueError as error:
        raise _misfit(name, datatype, shape, "the nested lists have different lengths") from error
    if values.size == 0:
        values = values.astype(dtype)
    exact = dtype.kind in "iu" and values.dtype.kind in "fO"
    if exact:
        # numpy takes large unsigned integers beside small ones for fractions; look at the numbers themselves.
        values = np.array(data, dtype=object)
        exact = all(type(item) is int for item in values.flat)
    if not exact and values.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise _misfit(name, datatype, shape, "its data holds values of another kind, or too large")
    if dtype.kind in "iu" and values.size:
        bounds = np.iinfo(dtype)
        if int(values.min()) < bounds.min or int(values.max()) > bounds.max:
            raise _misfit(name, datatype, shape, f"its data goes beyond {bounds.min} to {bounds.max}")
    _check_size(name, datatype, shape, values.shape)
    with np.errstate(over="ignore"):
        return values.astype(dtype).reshape(shape)


def _texts(name: str, shape: Sequence[int], data: list[Any]) -> Array:
    flat: list[Any] = data
    while flat and all(isinstance(item, list) for item in flat):
        flat = [item for row in flat for item in row]
    if not all(isinstance(item, str) for item in flat):
        raise _misfit(name, "BYTES", shape, "its data must be strings")
    _check_size(name, "BYTES", shape, (len(flat),))
    values = np.empty(len(flat), dtype=object)
    values[:] = [item.encode() for item in flat]
    return values.reshape(shape)


def _check_size(name: str, datatype: str, shape: Sequence[int], given: tuple[int, ...]) -> None:
    count = math.prod(given)
    if count != math.prod(shape):
        raise _misfit(name, datatype, shape, f"that is {math.prod(shape)} values, but its data has {count}")
    if len(given) > 1 and given != tuple(shape):
        raise _misfit(name, datatype, shape, f"its data is nested as {list(given)}")


def _misfit(name: str, datatype: str, shape: Sequence[int], problem: str) -> Refusal:
    return Refusal(400, f"input {name!r}, {datatype} of shape {list(shape)}: {problem}")


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: memoryview) -> Array:
    """Give the tensor whose values are the bytes of ``data``; no copy is made, so it is read-only.

    Raises Refusal 400 where the number of bytes does not fit.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return _split(name, shape, data, count)
    dtype = DATATYPES[datatype]
    if count * dtype.itemsize != len(data):
        problem = f"that is {count * dtype.itemsize} bytes, but binary_data_size is {len(data)}"
        raise _misfit(name, datatype, shape, problem)
    if datatype == "BOOL":
        return np.frombuffer(data, np.uint8).astype(np.bool_).reshape(shape)
    return np.frombuffer(data, dtype).reshape(shape)


def _split(name: str, shape: Sequence[int], data: memoryview, count: int) -> Array:
    """Take apart elements that are each preceded by their length, four bytes little-endian."""
    elements: list[bytes] = []
    offset = 0
    while offset < len(data):
        if offset + 4 > len(data):
            raise _misfit(name, "BYTES", shape, "its binary data ends inside a length")
        (size,) = struct.unpack_from("<I", data, offset)
        offset += 4
        if offset + size > len(data):
            raise _misfit(name, "BYTES", shape, "its binary data ends inside an element")
        elements.append(bytes(data[offset : offset + size]))
        offset += size
    if len(elements) != count:
        raise _misfit(name, "BYTES", shape, f"that is {count} elements, but its binary data has {len(elements)}")
    values = np.empty(count, dtype=object)
    values[:] = elements
    return values.reshape(shape)


def to_bytes(array: Array) -> bytes:
    """Give the binary form; the inverse of ``from_bytes``."""
    if array.dtype.kind not in "OSU":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    elements = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    return b"".join(part for item in elements for part in (struct.pack("<I", len(item)), item))


def to_json(array: Array) -> list[Any]:
    """Give the values as a flat list in row-major order; bytes that are no UTF-8 get replacement characters."""
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind not in "OSU":
        return values
    return [item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in values]
