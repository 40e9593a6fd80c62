"""OpenVINO's own format: packed folders, as exports and device builds leave them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import CorruptArtifact, Stalled
from tests.support import onnx_models
from workloads import archive
from workloads.serve.engine import EngineFailure, Opening
from workloads.serve.engine_onnx import OnnxEngine
from workloads.serve.engine_openvino import OpenVinoEngine, build

SIDE = onnx_models.SIDE
OPENING = Opening((SIDE, SIDE))


def folder(root: Path, model: bytes, *, metadata: bool) -> Path:
    """Write what Ultralytics writes: a description, weights and, where it was Ultralytics, metadata."""
    place = root / "made_openvino_model"
    place.mkdir()
    openvino.save_model(openvino.Core().read_model(model=model), place / "made.xml", compress_to_fp16=False)
    if metadata:
        (place / "metadata.yaml").write_text("stride: 32\n")
    return place


def packed(root: Path, place: Path) -> bytes:
    """Pack it."""
    return archive.pack(place, root / "packed.tar").read_bytes()


def test_an_export_of_ultralytics(tmp_path: Path) -> None:
    """Whatever names it has inside, the input is ``images`` and outputs are numbered, as the self-tests know them."""
    model = onnx_models.classifier().replace(b"images", b"pixels").replace(b"output0", b"outputX")
    engine = OpenVinoEngine(packed(tmp_path, folder(tmp_path, model, metadata=True)), OPENING)
    assert [(part.name, part.shape) for part in (*engine.inputs, *engine.outputs)] == [
        ("images", (-1, 3, SIDE, SIDE)), ("output0", (-1, 10)),
    ]  # fmt: skip
    tensor = np.random.default_rng(0).random((3, 3, SIDE, SIDE), np.float32)
    expected = onnx_models.run(onnx_models.classifier(), tensor)["output0"]
    np.testing.assert_allclose(engine.run({"images": tensor})["output0"], expected, rtol=1e-3, atol=1e-5)


def test_names_of_the_graph(tmp_path: Path) -> None:
    """What was made of an ONNX file keeps its names."""
    model = onnx_models.classifier().replace(b"images", b"pixels").replace(b"output0", b"outputX")
    engine = OpenVinoEngine(build(model, OPENING), OPENING)
    assert (engine.inputs[0].name, engine.outputs[0].name) == ("pixels", "outputX")


def test_many_at_once(tmp_path: Path) -> None:
    """Several threads run one engine, and each gets its own answer, which the next run does not change."""
    engine = OpenVinoEngine(build(onnx_models.classifier(), OPENING), OPENING)
    tensors = [np.random.default_rng(seed).random((1, 3, SIDE, SIDE), np.float32) for seed in range(8)]
    answers: dict[int, Any] = {}

    def run(number: int) -> None:
        for _ in range(5):
            answers[number] = engine.run({"images": tensors[number]})["output0"]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, tensor in enumerate(tensors):
        expected = onnx_models.run(onnx_models.classifier(), tensor)["output0"]
        np.testing.assert_allclose(answers[number], expected, rtol=1e-3, atol=1e-5)


def test_an_inference_that_fails(tmp_path: Path) -> None:
    """What the runtime refuses is an EngineFailure, and the engine goes on."""
    engine = OpenVinoEngine(build(onnx_models.classifier(), OPENING), OPENING)
    with pytest.raises(EngineFailure):
        engine.run({"images": np.zeros((1, 3, 8, 8), np.float32)})
    assert engine.run({"images": np.zeros((1, 3, SIDE, SIDE), np.float32)})["output0"].shape == (1, 10)


def quantized() -> bytes:
    """Give a graph whose input is rounded to 8 bits, with an open batch axis."""
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["small"]),
        helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["back"]),
        helper.make_node("Conv", ["back", "kernel"], ["output0"]),
    ]
    sides = ["batch", 3, SIDE, SIDE]
    constants = [("scale", np.float32(1 / 255)), ("zero", np.uint8(0)), ("kernel", np.ones((1, 3, 1, 1), np.float32))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_quantized_models_have_a_fixed_shape() -> None:
    """One row at a time: with an open axis OpenVINO crashes on some processors."""
    engine = OpenVinoEngine(build(quantized(), OPENING), OPENING)
    assert engine.inputs[0].shape == (1, 3, SIDE, SIDE)
    assert not engine.batched
    tensor = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    expected = onnx_models.run(quantized(), tensor)["output0"]
    np.testing.assert_allclose(engine.run({"images": tensor})["output0"], expected, atol=0.02)


@pytest.mark.parametrize("kind", ["no tar", "empty", "two", "broken"])
def test_what_is_no_such_folder(tmp_path: Path, kind: str) -> None:
    """What is not one description with its weights is refused with what is wrong."""
    place = tmp_path / "made_openvino_model"
    place.mkdir()
    for name in {"two": ("a.xml", "b.xml"), "broken": ("a.xml", "a.bin")}.get(kind, ()):
        (place / name).write_text("<net/>")
    data = b"no tar" if kind == "no tar" else packed(tmp_path, place)
    with pytest.raises((Stalled, CorruptArtifact)) as caught:
        OpenVinoEngine(data, OPENING)
    assert caught.value.reason == ("CorruptArtifact" if kind == "no tar" else "LoadFailed")


def test_providers_that_are_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """The CPU answers instead, aloud: in the log, and in what the engine says of itself."""
    engine = OnnxEngine(onnx_models.classifier(), Opening((SIDE, SIDE), providers=("tensorrt", "cuda", "cpu")))
    assert engine.runtime.endswith("on CPU; asked for, but not there: TensorRT, CUDA")
    assert engine.runtime in caplog.text
    assert engine.run({"images": np.zeros((1, 3, SIDE, SIDE), np.float32)})["output0"].shape == (1, 10)
    assert OnnxEngine(onnx_models.classifier(), Opening((SIDE, SIDE))).runtime.endswith("on CPU")
