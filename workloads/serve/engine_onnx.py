"""ONNX by onnxruntime: on the CPU, and on a GPU where its providers are there and asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from specs.errors import Stalled
from workloads.serve.engine import ANY, Declared, EngineFailure, Opening, Signature, first_line, signature
from workloads.serve.tensors import Array

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
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""Our word to onnxruntime's."""
_CPU = "CPUExecutionProvider"
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""32 bits are meant where 32 bits are said."""

log = logging.getLogger(__name__)


class OnnxEngine(Declared):
    """A session of onnxruntime."""

    platform = "onnxruntime_onnx"
    parallel = True

    def __init__(self, model: bytes, opening: Opening) -> None:
        """Load ``model``. Providers that are not there are done without, which ``runtime`` and the log tell.

        Raises Stalled ``LoadFailed`` where onnxruntime cannot load or this server cannot feed it.
        """
        offered = onnxruntime.get_available_providers()
        asked = [_PROVIDERS[word] for word in opening.providers if word != "cpu"]
        wanted = [*(provider for provider in asked if provider in offered), _CPU]
        try:
            self._session = _session(model, opening.threads, wanted)
            # The file's bytes are kept for other providers later on, which nobody asks for: the weights once more.
            self._session._model_bytes = None  # noqa: SLF001 - there is no other way to let go of them
        except ENGINE_ERRORS as error:
            raise Stalled("LoadFailed", f"onnxruntime cannot load this file: {first_line(error)}") from error
        super().__init__(
            tuple(_signature(node, opening.image_size) for node in self._session.get_inputs()),
            tuple(_signature(node, None) for node in self._session.get_outputs()),
        )
        self.runtime = _told(asked, self._session.get_providers())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give all outputs by name; EngineFailure where the runtime fails."""
        feed = {name: np.require(array, requirements=("C", "A")) for name, array in inputs.items()}
        try:
            results: list[Any] = self._session.run(self._output_names, feed)
        except ENGINE_ERRORS as error:
            raise EngineFailure(first_line(error)) from error
        return dict(zip(self._output_names, results, strict=True))


open_engine = OnnxEngine


def _session(model: bytes, threads: int, providers: Sequence[str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads must sleep: spinning would take the core away from the sockets.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        wanted = [(name, _OPTIONS.get(name, {})) for name in providers]
        return onnxruntime.InferenceSession(model, options, providers=wanted)
    except ENGINE_ERRORS as error:
        if list(providers) == [_CPU]:
            raise
        log.warning("%s cannot be used, so the CPU answers: %s", ", ".join(providers[:-1]), first_line(error))
        return onnxruntime.InferenceSession(model, options, providers=[_CPU])


def _told(asked: Sequence[str], used: Sequence[str]) -> str:
    """Say what runs the model, and what was asked for and does not."""
    words = {provider: word.upper().replace("TENSORRT", "TensorRT") for word, provider in _PROVIDERS.items()}
    text = f"onnxruntime {onnxruntime.__version__} on {words.get(used[0], used[0])}"
    missing = [words[provider] for provider in asked if provider not in used]
    if not missing:
        return text
    text += f"; asked for, but not there: {', '.join(missing)}"
    log.warning("%s", text)
    return text


def _signature(node: Any, size: tuple[int, int] | None) -> Signature:
    shape = tuple(side if isinstance(side, int) else ANY for side in node.shape)
    return signature(node.name, _DATATYPES.get(node.type), shape, size)
