"""The messages of the gRPC service, held against those of Triton's client, and tensors in both of their forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as published

from tests.support.refusals import attempt
from workloads.serve.answers import Refusal
from workloads.serve.grpc_messages import INFERENCE
from workloads.serve.grpc_tensors import call_of, response_of
from workloads.serve.tensors import DATATYPES


def fields(message: Any) -> dict[str, tuple[object, ...]]:
    """Describe a message: all that decides how it is written."""
    return {
        field.name: (
            field.number, field.type, field.is_repeated, field.is_packed, field.has_presence,
            field.message_type.full_name if field.message_type else "",
            field.containing_oneof.name if field.containing_oneof else "",
            fields(field.message_type) if field.message_type and field.message_type.GetOptions().map_entry else None,
        )
        for field in message.fields
    }  # fmt: skip


@pytest.mark.parametrize("name", INFERENCE)
def test_messages_are_the_published_ones(name: str) -> None:
    """Each message has exactly the published fields: names, numbers, types, nesting."""
    wanted = published.DESCRIPTOR
    outer, _, inner = name.partition(".")
    message = wanted.message_types_by_name[outer]
    if inner:
        message = message.nested_types_by_name[inner]
    assert fields(INFERENCE[name].DESCRIPTOR) == fields(message)
    assert INFERENCE[name].DESCRIPTOR.full_name == message.full_name


def test_a_message_of_ours_is_one_of_theirs() -> None:
    """What we write Triton's client reads, with every kind of field filled in."""
    ours = INFERENCE["ModelInferRequest"](model_name="a", raw_input_contents=[b"\0"])
    ours.parameters["x"].double_param = 0.5
    tensor = ours.inputs.add(name="images", datatype="FP32", shape=[1, 2])
    tensor.contents.fp32_contents.extend([1, 2])
    theirs = published.ModelInferRequest.FromString(ours.SerializeToString())
    assert str(theirs) == str(ours)
    assert theirs.parameters["x"].double_param == 0.5


def request(**parts: Any) -> Any:
    """Give a request for two numbers, changed as told."""
    tensor = {"name": "images", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1, 2]}}
    return published.ModelInferRequest(**({"model_name": "digits", "inputs": [tensor]} | parts))


@pytest.mark.parametrize("datatype", sorted(set(DATATYPES) - {"FP16"}))
def test_typed_tensors_come_back_as_they_went(datatype: str) -> None:
    """Every type but half floats travels in the field that is meant for it, there and back."""
    values: Any = [b"\xff\0", b""] if datatype == "BYTES" else [1, 0]
    array = np.array(values, DATATYPES[datatype]).reshape(1, 2)
    given = INFERENCE["ModelInferRequest"]()
    tensor = given.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    echoed = published.ModelInferResponse.FromString(response_of(call_of(request()), "m", 1, {"x": array}, {}))
    assert not echoed.raw_output_contents
    tensor.contents.MergeFromString(echoed.outputs[0].contents.SerializeToString())
    np.testing.assert_array_equal(call_of(given).inputs["x"], array)


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_go_back_as_they_came(raw: bool) -> None:  # noqa: FBT001 - a case
    """Raw requests get raw answers, typed ones typed answers; half floats are raw always, and so is all beside them."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1]} | ({} if raw else {"contents": {"fp32_contents": [3]}})
    call = call_of(request(id="7", inputs=[tensor], raw_input_contents=[b"\0\0\x40\x40"] if raw else []))
    outputs = {"a": np.array([3], np.float32), "b": np.array([4], np.int8)}
    echoed = published.ModelInferResponse.FromString(response_of(call, "m", 5, outputs, {"k": "v"}))
    assert (echoed.model_name, echoed.model_version, echoed.id) == ("m", "5", "7")
    assert echoed.parameters["k"].string_param == "v"
    assert len(echoed.raw_output_contents) == (2 if raw else 0)
    assert list(echoed.outputs[1].contents.int_contents) == ([] if raw else [4])
    half = published.ModelInferResponse.FromString(
        response_of(call, "m", 5, outputs | {"c": np.zeros(1, np.float16)}, {})
    )  # fmt: skip
    assert len(half.raw_output_contents) == 3


def tensor(**parts: Any) -> dict[str, Any]:
    """Give an input of two floats, changed as told."""
    return {"name": "images", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1, 2]}} | parts


BARE = {"name": "images", "datatype": "FP32", "shape": [2]}
REGION = published.InferParameter(string_param="mine")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        pytest.param({"inputs": []}, "1 to 64 inputs", id="no-input"),
        pytest.param({"inputs": [tensor(name=f"x{n}") for n in range(65)]}, "1 to 64 inputs", id="many-inputs"),
        pytest.param({"inputs": [tensor(), tensor()]}, "given twice", id="twice"),
        pytest.param({"inputs": [tensor(name="x" * 2000)]}, "too long", id="long-name"),
        pytest.param({"inputs": [tensor(datatype="FP31")]}, "no datatype 'FP31'", id="no-datatype"),
        pytest.param({"inputs": [tensor(shape=[-1])]}, "is no shape", id="negative"),
        pytest.param({"inputs": [tensor(shape=[1] * 17)]}, "is no shape", id="many-dimensions"),
        pytest.param({"inputs": [tensor(shape=[3])]}, "3 values", id="too-few"),
        pytest.param({"inputs": [tensor(shape=[2**31, 2**31])]}, "values", id="huge"),
        pytest.param({"inputs": [tensor(datatype="FP16")]}, "send raw_input_contents", id="half"),
        pytest.param({"inputs": [tensor(datatype="INT8")]}, "contents.int_contents, not fp32", id="wrong-field"),
        pytest.param(
            {"inputs": [tensor(datatype="INT8", contents={"int_contents": [1, 200]})]}, "beyond -128 to 127", id="range"
        ),
        pytest.param(
            {"inputs": [tensor(datatype="BYTES", contents={"bytes_contents": [b"x"]})]}, "1 elements", id="texts"
        ),
        pytest.param({"raw_input_contents": [b"\0" * 8]}, "not both", id="raw-and-typed"),
        pytest.param({"raw_input_contents": [b"\0" * 8] * 2}, "2 raw_input_contents", id="more-raw"),
        pytest.param({"inputs": [BARE], "raw_input_contents": [b"\0" * 7]}, "8 bytes", id="raw-too-short"),
        pytest.param(
            {"inputs": [tensor(parameters={"shared_memory_region": REGION})]}, "shared_memory_region", id="memory"
        ),
        pytest.param(
            {"outputs": [{"name": "o", "parameters": {"classification": REGION}}]}, "classification", id="classes"
        ),
        pytest.param({"outputs": [{"name": "o"}, {"name": "o"}]}, "given twice", id="output-twice"),
    ],
)  # fmt: skip
def test_what_is_no_inference(parts: dict[str, Any], problem: str) -> None:
    """Each mistake is refused with 400 and a sentence that names it."""
    with pytest.raises(Refusal, match=problem) as caught:
        call_of(request(**parts))
    assert caught.value.status == 400


@given(st.binary(max_size=80))
def test_damaged_messages(noise: bytes) -> None:
    """Whatever the bytes, what can be parsed gives a call or a refusal with 400; nothing else is ever raised."""
    message = INFERENCE["ModelInferRequest"]()
    try:
        message.MergeFromString(request().SerializeToString()[: len(noise)] + noise)
    except Exception:  # noqa: BLE001  protobuf's own, which the server answers with 400
        return
    answer = attempt(lambda: call_of(message))
    assert not isinstance(answer, Refusal) or answer.status == 400
