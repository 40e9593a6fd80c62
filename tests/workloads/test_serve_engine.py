"""What a model takes, and what it says to those who bring something else."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from specs.errors import Stalled
from tests.support import onnx_models
from workloads.serve.answers import Refusal
from workloads.serve.engine import Engine, Opening
from workloads.serve.engine_onnx import OnnxEngine
from workloads.serve.tensors import Array

SIDE = onnx_models.SIDE


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Give an engine with an open batch axis."""
    return OnnxEngine(onnx_models.classifier(), Opening((SIDE, SIDE)))


def zeros(*shape: int, dtype: type = np.float32) -> Array:
    """Give a tensor of zeros."""
    return np.zeros(shape, dtype)


def test_answers_as_onnxruntime_does(engine: Engine) -> None:
    """The outputs are those of a bare session."""
    tensor = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)
    expected = onnx_models.run(onnx_models.classifier(), tensor)
    np.testing.assert_array_equal(engine.run({"images": tensor})["output0"], expected["output0"])


def test_unaligned_read_only_input(engine: Engine) -> None:
    """A tensor cut from the middle of a body gives the same answer as a proper one."""
    tensor = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    cut = np.frombuffer(memoryview(b"x" + tensor.tobytes())[1:], "<f4").reshape(tensor.shape)
    np.testing.assert_array_equal(engine.run({"images": cut})["output0"], engine.run({"images": tensor})["output0"])


def test_open_sides_are_fixed_to_the_artifacts_size() -> None:
    """A graph with open height and width takes only the size that its artifact was made for."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["output0"])], "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    engine = OnnxEngine(model, Opening((48, 64)))
    assert engine.inputs[0].shape == (-1, 3, 48, 64)
    assert engine.check({"images": zeros(5, 3, 48, 64)}, None) == 5
    with pytest.raises(Refusal):
        engine.check({"images": zeros(1, 3, 64, 48)}, None)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        pytest.param({}, None, "'images' is missing", id="missing"),
        pytest.param({"images": zeros(1, 3, 8, 8)}, None, "got FP32 of shape [1, 3, 8, 8]", id="shape"),
        pytest.param({"images": zeros(3, SIDE, SIDE)}, None, "[-1, 3, 32, 32]", id="rank"),
        pytest.param({"images": zeros(0, 3, SIDE, SIDE)}, None, "got FP32 of shape [0,", id="no-rows"),
        pytest.param({"images": zeros(1, 3, SIDE, SIDE, dtype=np.float64)}, None, "got FP64", id="type"),
        pytest.param({"images": zeros(1, 3, SIDE, SIDE), "more": zeros(1)}, None, "no input more", id="extra"),
        pytest.param({"images": zeros(1, 3, SIDE, SIDE)}, {"y": True}, "it gives output0", id="unknown-output"),
    ],
)
def test_unfit_requests(
    engine: Engine, inputs: dict[str, Array], outputs: dict[str, bool] | None, said: str
) -> None:
    """A refusal names what was expected and what was given."""
    with pytest.raises(Refusal) as caught:
        engine.check(inputs, outputs)
    assert caught.value.status == 400
    assert said in caught.value.message


@pytest.mark.parametrize(
    "model", [b"", b"not a model", onnx_models.classifier()[:-1000]], ids=["empty", "noise", "cut-off"]
)
def test_what_is_no_model(model: bytes) -> None:
    """Bytes that onnxruntime cannot load end in LoadFailed."""
    with pytest.raises(Stalled) as caught:
        OnnxEngine(model, Opening((SIDE, SIDE)))
    assert caught.value.reason == "LoadFailed"
