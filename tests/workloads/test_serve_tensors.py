"""Tensors in JSON and in binary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.support.refusals import attempt
from workloads.serve import tensors
from workloads.serve.answers import Refusal
from workloads.serve.tensors import DATATYPES, Array

PLAIN = [name for name in DATATYPES if name != "BYTES"]
ARRAYS = st.sampled_from(PLAIN).flatmap(
    lambda name: hnp.arrays(DATATYPES[name], hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
)


@given(ARRAYS)
def test_binary_round_trip(array: Array) -> None:
    """What goes out as bytes comes back as the same values, for each type and shape."""
    data = tensors.to_bytes(array)
    back = tensors.from_bytes("x", tensors.datatype_of(array), array.shape, memoryview(data))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@given(ARRAYS)
def test_json_round_trip(array: Array) -> None:
    """What goes out as numbers comes back as the same values, flat or nested."""
    for data in (tensors.to_json(array), array.tolist()):
        back = tensors.from_json("x", tensors.datatype_of(array), array.shape, data)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
def test_strings_round_trip(values: list[bytes]) -> None:
    """BYTES elements of any content and length survive."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    back = tensors.from_bytes("x", "BYTES", [len(values)], memoryview(tensors.to_bytes(array)))
    assert back.tolist() == values


@given(st.sampled_from(list(DATATYPES)), st.lists(st.integers(0, 5), max_size=3), st.binary(max_size=64))
def test_any_bytes_give_a_tensor_or_a_refusal(datatype: str, shape: list[int], data: bytes) -> None:
    """Bytes of an enemy never raise anything but a refusal with status 400, and never give another shape."""
    answer = attempt(lambda: tensors.from_bytes("x", datatype, shape, memoryview(data)))
    if isinstance(answer, Refusal):
        assert answer.status == 400
    else:
        assert answer.shape == tuple(shape)


JSON_VALUES = st.recursive(
    st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.booleans(), st.none(), st.just({})),
    lambda inner: st.lists(inner, max_size=4), max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(list(DATATYPES)), st.lists(st.integers(0, 4), max_size=3), st.lists(JSON_VALUES, max_size=4))
def test_any_json_gives_a_tensor_or_a_refusal(datatype: str, shape: list[int], data: list[Any]) -> None:
    """JSON of an enemy never raises anything but a refusal with status 400."""
    answer = attempt(lambda: tensors.from_json("x", datatype, shape, data))
    if isinstance(answer, Refusal):
        assert answer.status == 400
    else:
        assert answer.shape == tuple(shape)
        assert answer.dtype == DATATYPES[datatype]


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "said"),
    [
        pytest.param("FP32", [2], [1.0], "2 values, but its data has 1", id="too-few"),
        pytest.param("FP32", [2, 3], [[1, 2], [3, 4], [5, 6]], "nested as [3, 2]", id="transposed"),
        pytest.param("FP32", [3], [[1, 2], [3]], "different lengths", id="ragged"),
        pytest.param("FP32", [1], ["1.5"], "another kind", id="text-for-number"),
        pytest.param("INT32", [1], [1.5], "another kind", id="fraction-for-integer"),
        pytest.param("UINT8", [1], [256], "beyond 0 to 255", id="too-large"),
        pytest.param("UINT8", [1], [-1], "beyond 0 to 255", id="negative"),
        pytest.param("BOOL", [1], [1], "another kind", id="number-for-bool"),
        pytest.param("INT64", [1], [2**70], "goes beyond", id="beyond-64-bits"),
        pytest.param("BYTES", [1], [7], "must be strings", id="number-for-string"),
    ],
)
def test_wrong_json_is_named(datatype: str, shape: list[int], data: list[Any], said: str) -> None:
    """A refusal says which tensor is wrong, and why."""
    with pytest.raises(Refusal) as caught:
        tensors.from_json("images", datatype, shape, data)
    assert caught.value.status == 400
    assert "'images'" in caught.value.message
    assert said in caught.value.message
