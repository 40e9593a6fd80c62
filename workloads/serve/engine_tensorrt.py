"""TensorRT engines, as Ultralytics writes them and as this server makes them of ONNX. Needs a GPU and ``tensorrt``."""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tensorrt

from specs.engines import MISMATCH, fits, refusal
from specs.errors import Stalled
from workloads import device_facts
from workloads.serve.answers import Refusal
from workloads.serve.cuda import Cuda, CudaFailure
from workloads.serve.engine import ANY, TOLERANCES, Declared, EngineFailure, Opening, Signature, first_line, signature
from workloads.serve.engine_header import join, split
from workloads.serve.tensors import Array, datatype_of

MOST_ROWS = 16
"""In one inference of an engine that is made here of a file with an open batch axis."""
_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)


class _Words(tensorrt.ILogger):  # type: ignore[misc]
    """Keeps what TensorRT says is wrong, which it says nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self._lock, self._last = threading.Lock(), ""

    def log(self, severity: Any, message: str) -> None:
        """Be told by TensorRT."""
        if severity in (tensorrt.ILogger.INTERNAL_ERROR, tensorrt.ILogger.ERROR):
            with self._lock:
                self._last = message

    def last(self) -> str:
        """Give the last error, and forget it."""
        with self._lock:
            message, self._last = self._last, ""
        return (message.splitlines() or ["TensorRT does not say why"])[0][:300]


@dataclass(frozen=True)
class _Buffer:
    """Where one input or output is: pinned memory of the machine, and memory of the GPU."""

    pinned: int
    device: int
    size: int

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """Give the pinned memory as an array. It is a view."""
        raw = (ctypes.c_char * self.size).from_address(self.pinned)
        return np.ndarray(shape, dtype, buffer=memoryview(raw).cast("B"))


class TensorRtEngine(Declared):
    """An engine, with one execution context and its buffers for each inference that runs at once."""

    platform = "tensorrt_plan"

    def __init__(self, data: bytes, opening: Opening) -> None:
        """Load an engine. Stalled ``EngineMismatch`` where it was made for another kind of device, else ``LoadFailed``.

        The message of a mismatch has this device's facts, for people and for ``specs.engines.refused_by``.
        """
        described, plan = split(data)
        here, built = device(), dict(opening.built_on or {})
        if not fits(built, here):
            raise Stalled(MISMATCH, refusal(built, here))
        gpu().enter()
        self._runtime = tensorrt.Runtime(words())
        if described.get("dla") is not None:
            self._runtime.DLA_core = int(described["dla"])
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            said = words().last()
            if built:
                raise Stalled("LoadFailed", f"TensorRT cannot load this file: {said}")
            raise Stalled(MISMATCH, refusal({}, here))  # nobody wrote down where it was made, and it was not here
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        takes = [name for name in names if self._engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        super().__init__(
            tuple(self._signature(name, opening.image_size) for name in takes),
            tuple(self._signature(name, None) for name in sorted(set(names) - set(takes))),
        )
        self._types = {part.name: _dtype(self._engine, part.name) for part in (*self.inputs, *self.outputs)}
        self._largest = {name: tuple(self._engine.get_tensor_profile_shape(name, 0)[2]) for name in takes}
        self.most_rows = min((shape[0] for shape in self._largest.values()), default=1)
        self.memory = int(getattr(self._engine, "device_memory_size_v2", 0) or 0)
        self.tolerance = TOLERANCES[opening.precision]
        self.runtime = f"tensorrt {tensorrt.__version__} on {here.get('gpu', 'a GPU')}"
        self._idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()

    def check(self, inputs: Mapping[str, Array], outputs: Mapping[str, object] | None) -> int:
        """Give the number of rows; Refusal 400 where a request does not fit, or has more rows than the engine takes."""
        rows = super().check(inputs, outputs)
        if self.batched and rows > self.most_rows:
            raise Refusal(400, f"the engine takes at most {self.most_rows} rows at once; the request has {rows}")
        return rows

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give all outputs by name; EngineFailure where the runtime fails."""
        try:
            gpu().enter()
            try:
                lane = self._idle.get_nowait()
            except queue.Empty:
                lane = _Lane(self._engine, self._largest, self._types)
            outputs = lane.run(inputs, self._output_names)
        except (*_ERRORS, CudaFailure) as error:
            raise EngineFailure(first_line(error)) from error
        self._idle.put(lane)
        return outputs

    def _signature(self, name: str, size: tuple[int, int] | None) -> Signature:
        shape = tuple(int(side) if side >= 0 else ANY for side in self._engine.get_tensor_shape(name))
        return signature(name, datatype_of(np.empty(0, _dtype(self._engine, name))), shape, size)


open_engine = TensorRtEngine


class _Lane:
    """A context, a stream and buffers: one inference at a time."""

    def __init__(
        self, engine: Any, largest: Mapping[str, tuple[int, ...]], types: Mapping[str, np.dtype[Any]]
    ) -> None:
        """Take memory for the largest inputs; needs the GPU to be this thread's own."""
        self._context = engine.create_execution_context()
        if self._context is None:
            raise CudaFailure(words().last())
        self._types, self._stream, self._buffers = types, gpu().stream(), dict[str, _Buffer]()
        for name, shape in largest.items():
            self._context.set_input_shape(name, shape)
        for name, dtype in types.items():
            size = int(np.prod([abs(side) for side in self._context.get_tensor_shape(name)])) * dtype.itemsize
            self._buffers[name] = buffer = _Buffer(gpu().allocate_pinned(size), gpu().allocate(size), size)
            self._context.set_tensor_address(name, buffer.device)

    def run(self, inputs: Mapping[str, Array], outputs: list[str]) -> dict[str, Array]:
        """Copy in, calculate, copy out. What is given are copies: the buffers belong to the next inference."""
        cuda, stream = gpu(), self._stream
        for name, array in inputs.items():
            buffer = self._buffers[name]
            if array.nbytes > buffer.size or not self._context.set_input_shape(name, array.shape):
                raise CudaFailure(f"the engine was not made for inputs of shape {list(array.shape)}")
            buffer.array(array.dtype, array.shape)[...] = array
            cuda.upload(buffer.device, buffer.pinned, array.nbytes, stream)
        if not self._context.execute_async_v3(stream):
            raise CudaFailure(words().last())
        views = {}
        for name in outputs:
            shape, buffer = tuple(self._context.get_tensor_shape(name)), self._buffers[name]
            views[name] = buffer.array(self._types[name], shape)
            cuda.download(buffer.pinned, buffer.device, views[name].nbytes, stream)
        cuda.wait(stream)
        return {name: view.copy() for name, view in views.items()}

    def __del__(self) -> None:
        """Give all memory back; where the GPU is gone, it is free anyway."""
        with suppress(*_ERRORS, CudaFailure, Stalled):
            gpu().enter()
            for buffer in self._buffers.values():
                gpu().free_pinned(buffer.pinned)
                gpu().free(buffer.device)
            gpu().destroy(self._stream)


def build(onnx: bytes, opening: Opening) -> bytes:
    """Make an engine of an ONNX file for the GPU of this device; Stalled ``BuildFailed`` where TensorRT cannot."""
    gpu().enter()
    major = int(str(tensorrt.__version__).partition(".")[0])
    explicit = 0 if major >= 10 else 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    builder = tensorrt.Builder(words())
    network, config = builder.create_network(explicit), builder.create_builder_config()
    parser = tensorrt.OnnxParser(network, words())
    if not parser.parse(onnx):
        said = parser.get_error(0).desc() if parser.num_errors else words().last()
        raise Stalled("BuildFailed", f"TensorRT cannot read the ONNX file: {said}")
    if opening.precision == "fp16":
        if not hasattr(tensorrt.BuilderFlag, "FP16"):
            msg = "takes precision from the graph alone; ask for no half precision, or release a graph that has it"
            raise Stalled("BuildFailed", f"TensorRT {tensorrt.__version__} {msg}")
        config.set_flag(tensorrt.BuilderFlag.FP16)
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # 32 bits are meant where 32 bits are said
    _open_axes(builder, network, config, opening.image_size)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Stalled("BuildFailed", f"TensorRT cannot make an engine of the ONNX file: {words().last()}")
    return join({"imgsz": list(opening.image_size), "precision": opening.precision}, bytes(plan))


def _open_axes(builder: Any, network: Any, config: Any, size: tuple[int, int]) -> None:
    """Say from which to which size the open axes of inputs go: rows from 1 to ``MOST_ROWS``, sides as they are."""
    profile, needed = builder.create_optimization_profile(), False
    for number in range(network.num_inputs):
        given = network.get_input(number)
        shape = tuple(given.shape)
        if ANY in shape:
            needed = True
            sides = (1, 3, *size)[: len(shape)]
            least = tuple(wanted if side == ANY else side for side, wanted in zip(shape, sides, strict=False))
            most = (MOST_ROWS if shape[0] == ANY else shape[0], *least[1:])
            profile.set_shape(given.name, least, least, most)
    if needed:
        config.add_optimization_profile(profile)


def device() -> dict[str, str]:
    """Give this device's facts, in the words of ``specs.engines``; Stalled ``LoadFailed`` where there is no GPU.

    What an export job would say of this machine goes first: the two are compared word for word.
    """
    return {"tensorrt": str(tensorrt.__version__)} | gpu().facts() | device_facts.facts()


@cache
def gpu() -> Cuda:
    """Give the GPU, one for all engines."""
    return Cuda()


@cache
def words() -> _Words:
    """Give whom TensorRT talks to, one for all engines."""
    return _Words()


def _dtype(engine: Any, name: str) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(tensorrt.nptype(engine.get_tensor_dtype(name)))
        return found
    except TypeError as error:
        raise Stalled("LoadFailed", f"{name!r} is of a type that this server cannot carry: {error}") from error
