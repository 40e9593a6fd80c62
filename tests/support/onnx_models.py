"""Small real ONNX models, and everything a server needs to serve them, put into a store."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from specs.digests import digest_of
from specs.modelspec import Task
from specs.records import ArtifactRecord, SelfTest, artifact_key
from workloads import preprocess

SIDE = 32
CLASSES = 10
INPUT = "images"
OUTPUT = "output0"
SLOW_ANSWERS = {OUTPUT: np.full((1, CLASSES), 0.1, np.float32)}
"""What ``slow_classifier`` answers to everything."""
NAMES = [f"class{index}" for index in range(CLASSES)]


class Store(Protocol):
    """What is needed of ``adapters.store.Store``."""

    def put_blob(self, source: bytes, /) -> str:
        """Store a file and give its digest."""

    def create(self, key: str, data: bytes, /) -> bool:
        """Store a record unless there is one."""


def classifier(seed: int = 0, *, batch: int | str = "batch", sure: float = 1.0) -> bytes:
    """Give a model (batch, 3, 32, 32) -> (batch, 10): softmax of a fixed linear map; each seed is another model.

    It is quite sure of noise; with less than 1 it is less ``sure`` of everything.
    """
    weights = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE, CLASSES)).astype(np.float32) * (sure / 8)
    nodes = [
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [OUTPUT]),
    ]
    return _model(nodes, [("weights", weights)], [batch, 3, SIDE, SIDE], [batch, CLASSES])


def fragile_classifier(seed: int = 0) -> bytes:
    """Give a model like ``classifier`` that fails at every input with a value over 100."""
    weights = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE, CLASSES)).astype(np.float32) / 8
    nodes = [
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("ReduceMax", [INPUT], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "hundred"], ["too_much"]),
        helper.make_node("Cast", ["too_much"], ["which"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "which"], ["row"]),  # of a table with one row: the second is an error
        helper.make_node("Add", ["scores", "row"], ["sum"]),
        helper.make_node("Softmax", ["sum"], [OUTPUT]),
    ]
    constants: list[tuple[str, NDArray[Any]]] = [
        ("weights", weights), ("hundred", np.array(100, np.float32)), ("table", np.zeros((1, CLASSES), np.float32)),
    ]  # fmt: skip
    return _model(nodes, constants, ["batch", 3, SIDE, SIDE], ["batch", CLASSES])


def detector(rows: NDArray[np.float32], side: int = 64) -> bytes:
    """Give a model (batch, 3, side, side) -> (batch, n, 6) that finds ``rows`` (x1 y1 x2 y2 conf class) everywhere."""
    nodes = [
        helper.make_node("ReduceMean", [INPUT, "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "column"], ["base"]),
        helper.make_node("Add", ["base", "rows"], [OUTPUT]),
    ]
    constants: list[tuple[str, NDArray[Any]]] = [
        ("axes", np.array([1, 2, 3], np.int64)), ("zero", np.zeros(1, np.float32)),
        ("column", np.array([-1, 1, 1], np.int64)), ("rows", rows[None].astype(np.float32)),
    ]  # fmt: skip
    return _model(nodes, constants, ["batch", 3, side, side], ["batch", *rows.shape])


def slow_classifier(rounds: int, width: int = 512) -> bytes:
    """Give a model like ``classifier`` that multiplies large matrices first: a few ms a round on one core."""
    nodes = [
        helper.make_node("ReduceMean", [INPUT, "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Expand", ["nothing", "square"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{n}", f"m{n}"], [f"m{n + 1}"]) for n in range(rounds)),
        helper.make_node("ReduceMax", [f"m{rounds}", "both"], ["top"], keepdims=0),
        helper.make_node("Flatten", [INPUT], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Add", ["scores", "top"], ["sum"]),
        helper.make_node("Softmax", ["sum"], [OUTPUT]),
    ]
    constants: list[tuple[str, NDArray[Any]]] = [
        ("axes", np.array([0, 1, 2, 3], np.int64)), ("zero", np.zeros(1, np.float32)),
        ("square", np.array([width, width], np.int64)), ("both", np.array([0, 1], np.int64)),
        ("weights", np.ones((3 * SIDE * SIDE, CLASSES), np.float32)),
    ]  # fmt: skip
    return _model(nodes, constants, [1, 3, SIDE, SIDE], [1, CLASSES])


def _model(
    nodes: list[Any], constants: list[tuple[str, NDArray[Any]]], takes: list[int | str], gives: list[int | str]
) -> bytes:
    graph = helper.make_graph(
        nodes, "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, takes)],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, gives)],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """Give a PNG of noise; ``size`` is (height, width)."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def run(model: bytes, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Give what onnxruntime alone answers."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: tensor}), strict=True))


@dataclass(frozen=True)
class Published:
    """A model in a store, ready to be asked for."""

    file: str
    weights: str
    run: str
    artifact: ArtifactRecord

    def target(self, version: int = 1) -> dict[str, Any]:
        """Give the parameters of a load request."""
        return {"version": version, "file": self.file, "run": self.run, "weights": self.weights}


def publish(
    store: Store, model: bytes, *, task: Task = "classify", side: int = SIDE, tests: int = 1,
    changes: Mapping[str, Any] | None = None, answers: Mapping[str, NDArray[Any]] | None = None,
) -> Published:  # fmt: skip
    """Put a model, its self-tests and its artifact record into a store.

    ``answers`` replaces what the self-tests expect, ``changes`` replaces fields of the record.
    """
    file = store.put_blob(model)
    weights = digest_of({"weights of": file})
    self_tests = [_self_test(store, model, task, side, number, answers) for number in range(tests)]
    fields: dict[str, Any] = {
        "file": file, "format": "onnx", "task": task, "names": NAMES, "image_size": (side, side), "weights": weights,
        "self_tests": self_tests,
    }  # fmt: skip
    artifact = ArtifactRecord(**(fields | dict(changes or {})))
    store.create(artifact_key(file), artifact.encode())
    return Published(file, weights, digest_of({"run of": file}), artifact)


def _self_test(
    store: Store, model: bytes, task: Task, side: int, seed: int, answers: Mapping[str, NDArray[Any]] | None
) -> SelfTest:
    image = picture(seed, (side + 8, side))
    tensor = preprocess.preprocess(preprocess.decode(image), task, (side, side))
    outputs = answers if answers is not None else run(model, tensor)
    packed, archive = io.BytesIO(), io.BytesIO()
    np.save(packed, tensor)
    np.savez(archive, allow_pickle=False, **outputs)
    return SelfTest(
        image=store.put_blob(image), input=store.put_blob(packed.getvalue()), outputs=store.put_blob(archive.getvalue())
    )
