"""One ONNX model in memory: what it takes, what it gives, and running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from specs.errors import Stalled
from workloads.serve.answers import Refusal
from workloads.serve.tensors import DATATYPES, Array, datatype_of

ENGINE_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError, ValueError, MemoryError,
    *(kind for kind in vars(native).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)  # fmt: skip
"""What onnxruntime raises; its own exceptions share no base class but Exception."""

_DATATYPES = {
    "tensor(bool)": "BOOL", "tensor(string)": "BYTES", "tensor(float16)": "FP16", "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    **{f"tensor({sign}int{bits})": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
ANY = -1


class EngineFailure(Exception):
    """The runtime could not carry out an inference that fits the model's signature."""


@dataclass(frozen=True)
class Signature:
    """One input or output. ``shape`` has -1 where any size will do."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def takes(self, array: Array) -> bool:
        """Whether an array is of this type and shape, and holds at least one value."""
        return (
            array.dtype == DATATYPES[self.datatype]
            and array.ndim == len(self.shape)
            and array.size > 0
            and all(want in (ANY, have) for want, have in zip(self.shape, array.shape, strict=True))
        )

    def describe(self) -> dict[str, object]:
        """Give the form that protocol metadata has."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


class Engine:
    """A session of onnxruntime on the CPU. ``run`` may be called from any thread."""

    def __init__(self, model: bytes, *, image_size: tuple[int, int], threads: int) -> None:
        """Load ``model``; where the graph leaves height and width open, ``image_size`` (height, width) fixes them.

        Raises Stalled ``LoadFailed`` where onnxruntime cannot load or this server cannot feed it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Waiting threads must sleep: spinning would take the core away from the sockets.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except ENGINE_ERRORS as error:
            raise Stalled("LoadFailed", f"onnxruntime cannot load this file: {_first_line(error)}") from error
        self.inputs = tuple(_signature(node, image_size) for node in self._session.get_inputs())
        self.outputs = tuple(_signature(node, None) for node in self._session.get_outputs())
        self._output_names = [output.name for output in self.outputs]
        self.batched = all(part.shape[:1] == (ANY,) for part in (*self.inputs, *self.outputs))
        """Whether rows of several requests may go through in one inference."""

    def check(self, inputs: Mapping[str, Array], outputs: Mapping[str, object] | None) -> int:
        """Give the number of rows; Refusal 400 where a request does not fit the model."""
        for signature in self.inputs:
            given = inputs.get(signature.name)
            if given is None or not signature.takes(given):
                raise _unfit(signature, given)
        if len(inputs) != len(self.inputs):
            extra = sorted(inputs.keys() - {part.name for part in self.inputs})
            names = ", ".join(part.name for part in self.inputs)
            raise Refusal(400, f"the model has no input {', '.join(extra)}; it takes {names}")
        unknown = sorted((outputs or {}).keys() - set(self._output_names))
        if unknown:
            names = ", ".join(self._output_names)
            raise Refusal(400, f"the model has no output {', '.join(unknown)}; it gives {names}")
        rows = {inputs[part.name].shape[0] for part in self.inputs} if self.batched else {1}
        if len(rows) != 1:
            raise Refusal(400, f"all inputs must have the same number of rows; found {sorted(rows)}")
        return rows.pop()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give all outputs by name; EngineFailure where the runtime fails."""
        feed = {name: np.require(array, requirements=("C", "A")) for name, array in inputs.items()}
        try:
            results: list[Any] = self._session.run(self._output_names, feed)
        except ENGINE_ERRORS as error:
            raise EngineFailure(_first_line(error)) from error
        return dict(zip(self._output_names, results, strict=True))


def _signature(node: Any, image_size: tuple[int, int] | None) -> Signature:
    datatype = _DATATYPES.get(node.type)
    if datatype is None:
        raise Stalled("LoadFailed", f"{node.name!r} is a {node.type}; this server carries plain tensors only")
    shape = tuple(size if isinstance(size, int) else ANY for size in node.shape)
    if image_size is not None and len(shape) == 4:
        sides = zip(shape[2:], image_size, strict=True)
        shape = (*shape[:2], *(wanted if fixed == ANY else fixed for fixed, wanted in sides))
    return Signature(node.name, datatype, shape)


def _unfit(signature: Signature, given: Array | None) -> Refusal:
    expected = f"{signature.datatype} of shape {list(signature.shape)}"
    if given is None:
        return Refusal(400, f"input {signature.name!r} is missing; expected {expected}")
    got = f"{datatype_of(given)} of shape {list(given.shape)}"
    return Refusal(400, f"input {signature.name!r}: expected {expected}, got {got}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
