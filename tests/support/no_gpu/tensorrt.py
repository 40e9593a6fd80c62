"""Stands in for NVIDIA's ``tensorrt``, which needs a GPU: the calls that the server makes, carried out by onnxruntime.

Its engines are ONNX files with a line before them that says which version made them for which GPU, and it loads no
others. What it takes for memory of the GPU is what ``cuda.c``, beside this file, gives out. It is found by PYTHONPATH,
and never imported into the tests' own process.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime

__version__ = os.environ.get("STAND_IN_TENSORRT", "10.9.0")
_GPU = os.environ.get("STAND_IN_GPU", "NVIDIA Stand-in")
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class ILogger:
    """Is derived from by whoever wants to be told."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class TensorIOMode(Enum):
    """Which way a tensor goes."""

    INPUT = 1
    OUTPUT = 2


class BuilderFlag(Enum):
    """What a builder may do."""

    FP16 = 1
    TF32 = 2


def nptype(datatype: str) -> type:
    """Give numpy's type; TypeError for what numpy does not have."""
    if datatype not in _TYPES:
        raise TypeError(f"could not resolve TensorRT datatype {datatype}")
    return _TYPES[datatype]


class Runtime:
    """Loads engines."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self.DLA_core = 0

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        """Give an engine; None, and words to the logger, where it is none of this version and GPU."""
        head, _, model = plan.partition(b"\n")
        try:
            made = json.loads(head)
        except ValueError:
            made = {}
        if made.get("version") != __version__ or made.get("gpu") != _GPU:
            self._logger.log(ILogger.ERROR, "[engine] the version tag does not match\nmore words")
            return None
        return Engine(model, made["rows"])


class Engine:
    """A loaded engine."""

    device_memory_size_v2 = 4096

    def __init__(self, model: bytes, rows: int) -> None:
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.parts = {part.name: part for part in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.takes = [part.name for part in self.session.get_inputs()]
        self.rows = rows
        self.num_io_tensors = len(self.parts)

    def get_tensor_name(self, number: int) -> str:
        return list(self.parts)[number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.takes else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return str(self.parts[name].type)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) else -1 for side in self.parts[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        shape = self.get_tensor_shape(name)
        return [tuple(rows if side == -1 else side for side in shape) for rows in (1, 1, self.rows)]

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    """Runs an engine at the addresses that it was told."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        (_, _, most) = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(most) or any(side > limit for side, limit in zip(shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        rows = self._shapes[self._engine.takes[0]][0]
        shape = self._shapes.get(name) or self._engine.get_tensor_shape(name)
        return tuple(rows if side == -1 else side for side in shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream
        feed = {name: self._at(name).copy() for name in self._engine.takes}
        outputs = [name for name in self._engine.parts if name not in feed]
        for name, array in zip(outputs, self._engine.session.run(outputs, feed), strict=True):
            self._at(name)[...] = array
        return True

    def _at(self, name: str) -> Any:
        shape, dtype = self.get_tensor_shape(name), np.dtype(nptype(self._engine.get_tensor_dtype(name)))
        raw = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(self._addresses[name])
        return np.ndarray(shape, dtype, buffer=memoryview(raw).cast("B"))


class Network:
    """What the parser read."""

    model = b""
    num_inputs = 0
    inputs: list[Any] = []  # noqa: RUF012 - replaced, never changed

    def get_input(self, number: int) -> Any:
        return self.inputs[number]


class OnnxParser:
    """Reads ONNX."""

    num_errors = 0

    def __init__(self, network: Network, logger: Any) -> None:
        self._network = network
        self._logger = logger

    def parse(self, model: bytes) -> bool:
        try:
            engine = Engine(model, 1)
        except Exception:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            self._logger.log(ILogger.ERROR, "ModelImporter: this is no graph")
            return False
        self._network.model, self._network.num_inputs = model, len(engine.takes)
        self._network.inputs = [_Given(name, engine.get_tensor_shape(name)) for name in engine.takes]
        return True


class _Given:
    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.shape = shape


class Profile:
    """From which to which size open axes go."""

    rows = 1

    def set_shape(self, name: str, least: Sequence[int], likely: Sequence[int], most: Sequence[int]) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, likely, most, strict=True))
        self.rows = most[0]


class Config:
    """How to build."""

    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.rows = 1

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Profile) -> None:
        self.rows = profile.rows


class Builder:
    """Makes engines."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 0
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        assert BuilderFlag.TF32 not in config.flags
        half = BuilderFlag.FP16 in config.flags
        made = {"version": __version__, "gpu": _GPU, "rows": config.rows, "half": half}
        return json.dumps(made).encode() + b"\n" + network.model
