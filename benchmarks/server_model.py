"""The model that is measured where none is given: a plain convolutional classifier for pictures of 224 pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 224
CLASSES = 10
_WIDTHS = (32, 64, 128, 256, 256)
"""Channels after each layer that halves the picture's sides; each is followed by one that keeps them."""


def convolutional(seed: int = 0) -> bytes:
    """Give a model (batch, 3, 224, 224) -> (batch, 10), of about 2 million weights and 0.4 GFLOP, never trained."""
    random = np.random.default_rng(seed)
    nodes: list[Any] = []
    constants: list[tuple[str, NDArray[np.float32]]] = []
    last, channels = "images", 3
    for number, (width, stride) in enumerate((width, stride) for width in _WIDTHS for stride in (2, 1)):
        weights = random.normal(size=(width, channels, 3, 3)).astype(np.float32) * (2 / (9 * channels)) ** 0.5
        constants.append((f"w{number}", weights))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], strides=[stride] * 2, pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last, channels = f"r{number}", width
    constants.append(("head", random.normal(size=(channels, CLASSES)).astype(np.float32) / channels**0.5))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]), helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["scores"]), helper.make_node("Softmax", ["scores"], ["output"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "convolutional",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
