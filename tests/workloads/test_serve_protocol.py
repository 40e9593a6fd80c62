"""Requests and responses of the Open Inference Protocol."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.refusals import attempt
from workloads.serve import protocol
from workloads.serve.answers import Refusal


def encoded(*inputs: dict[str, Any], tail: bytes = b"", **fields: Any) -> tuple[bytes, str]:
    """Give a body and its header of JSON length."""
    head = json.dumps({"inputs": list(inputs), **fields}).encode()
    return head + tail, str(len(head))


def tensor(**changes: Any) -> dict[str, Any]:
    """Give the description of an input."""
    return {"name": "x", "datatype": "FP32", "shape": [2]} | changes


def test_json_and_binary_inputs_together() -> None:
    """Binary tensors are cut from the tail in the order of the inputs; JSON ones may stand between them."""
    body, length = encoded(
        tensor(name="a", parameters={"binary_data_size": 8}), tensor(name="b", data=[3, 4]),
        tensor(name="c", datatype="UINT8", parameters={"binary_data_size": 2}),
        tail=np.array([1, 2], "<f4").tobytes() + b"\x05\x06", id="seven",
    )  # fmt: skip
    call = protocol.parse(body, length)
    assert {name: array.tolist() for name, array in call.inputs.items()} == {"a": [1, 2], "b": [3, 4], "c": [5, 6]}
    assert call.id == "seven"


def test_response_holds_only_what_was_asked_for() -> None:
    """Requested outputs come in the requested form and order, with the id echoed."""
    body, length = encoded(
        tensor(data=[1, 2]), id="9", outputs=[{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    )
    call = protocol.parse(body, length)
    outputs = {name: np.array([[value]], np.float32) for name, value in (("w", 1), ("y", 2), ("z", 3))}
    response = protocol.respond(call, "m", 3, "abc", outputs, "r-1")
    size = int(response.headers[protocol.HEADER_LENGTH])
    assert isinstance(response.body, bytes)
    assert json.loads(response.body[:size]) == {
        "model_name": "m", "model_version": "3", "id": "9",
        "outputs": [
            {"name": "z", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}},
            {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [2.0]},
        ],
    }  # fmt: skip
    assert np.frombuffer(response.body[size:], "<f4").tolist() == [3.0]


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        pytest.param(b"{", None, "not an inference request", id="no-json"),
        pytest.param(b"[" * 100_000, None, "not an inference request", id="deeply-nested"),
        pytest.param(b"{}", None, "inputs", id="no-inputs"),
        pytest.param(b"{}", "3", "within the body", id="header-beyond-body"),
        pytest.param(b"{}", "-1", "within the body", id="negative-header"),
        pytest.param(b"{}", "\u00b2", "within the body", id="superscript-header"),
        pytest.param(encoded(tensor(shape=[-1], data=[]))[0], None, "inputs.0.shape.0", id="negative-shape"),
        pytest.param(encoded(tensor(shape=[2**31] * 16, data=[]))[0], None, "values", id="astronomic-shape"),
        pytest.param(encoded(tensor(datatype="FP31", data=[1, 2]))[0], None, "inputs.0.datatype", id="unknown-type"),
        pytest.param(encoded(tensor())[0], None, "give data", id="no-data"),
        pytest.param(encoded(tensor(data=[1, 2]), tensor(data=[1, 2]))[0], None, "given twice", id="twice"),
        pytest.param(
            *encoded(tensor(parameters={"binary_data_size": 8}), tail=b"1234"), "only 4 bytes are left", id="short-tail"
        ),
        pytest.param(
            *encoded(tensor(parameters={"binary_data_size": 8}), tail=bytes(9)), "1 bytes follow", id="long-tail"
        ),
        pytest.param(
            *encoded(tensor(parameters={"binary_data_size": 4}), tail=bytes(4)), "that is 8 bytes", id="wrong-size"
        ),
        pytest.param(
            encoded(tensor(parameters={"shared_memory_region": "r"}))[0], None, "shared memory", id="shared-memory"
        ),
        pytest.param(
            encoded(tensor(data=[1, 2]), outputs=[{"name": "y", "parameters": {"classification": 3}}])[0], None,
            "classification", id="classification",
        ),
    ],
)  # fmt: skip
def test_wrong_requests_are_named(body: bytes, length: str | None, said: str) -> None:
    """Each thing that can be wrong with a request has its own sentence."""
    with pytest.raises(Refusal) as caught:
        protocol.parse(body, length)
    assert caught.value.status == 400
    assert said in caught.value.message


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(-5, 250).map(str), st.text(max_size=5)))
def test_noise_is_refused(body: bytes, length: str | None) -> None:
    """Random bytes are refused with 400; nothing else is ever raised."""
    with pytest.raises(Refusal) as caught:
        protocol.parse(body, length)
    assert caught.value.status == 400


@given(
    st.lists(st.integers(-3, 5), max_size=4), st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "nonsense"]),
    st.one_of(st.none(), st.integers(-2, 40)), st.binary(max_size=40), st.integers(-20, 20),
)  # fmt: skip
def test_damaged_binary_requests(shape: list[int], datatype: str, size: int | None, tail: bytes, shift: int) -> None:
    """Requests that are nearly right (sizes, shapes, header off by some bytes) are read exactly or refused."""
    parameters = {} if size is None else {"binary_data_size": size}
    body, length = encoded(tensor(shape=shape, datatype=datatype, parameters=parameters), tail=tail)
    call = attempt(lambda: protocol.parse(body, str(int(length) + shift)))
    if isinstance(call, Refusal):
        assert call.status == 400
    else:
        assert call.inputs["x"].shape == tuple(shape)
        assert size == len(tail)


def test_json_has_a_limit_of_its_own() -> None:
    """Numbers as text take far more memory than their bytes, and nobody else is served meanwhile: 413 above a limit."""
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]}'
    assert protocol.parse(body, None, most=len(body)).inputs["x"].tolist() == [1, 2]
    refusal = attempt(lambda: protocol.parse(body, None, most=len(body) - 1))
    assert isinstance(refusal, Refusal)
    assert refusal.status == 413
    assert "binary" in refusal.message
