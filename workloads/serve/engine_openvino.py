"""OpenVINO's own format by OpenVINO, on the CPU. The file is a packed folder: see ``workloads.archive``."""

from __future__ import annotations

import queue
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from specs.errors import Stalled
from workloads import archive
from workloads.serve.engine import ANY, TOLERANCES, Declared, EngineFailure, Opening, Signature, first_line, signature
from workloads.serve.tensors import Array

_DATATYPES = {
    "boolean": "BOOL", "f16": "FP16", "f32": "FP32", "f64": "FP64", "string": "BYTES",
    **{f"{sign}{bits}": f"{'U' if sign == 'u' else ''}INT{bits}" for sign in "iu" for bits in (8, 16, 32, 64)},
}  # fmt: skip
_INPUT = "images"
_PRECISIONS = {"fp32": "f32", "fp16": "f16"}


class OpenVinoEngine(Declared):
    """A compiled model, with as many infer requests as run at once."""

    platform = "openvino"
    parallel = True

    def __init__(self, packed: bytes, opening: Opening) -> None:
        """Load a packed folder with one ``.xml`` and its ``.bin``.

        Raises CorruptArtifact where that is not what it is, Stalled ``LoadFailed`` where OpenVINO cannot load it.
        """
        files = archive.read(packed)
        xml, weights = _files(files)
        # f32 is said aloud: by itself OpenVINO calculates in bfloat16 wherever the processor can.
        config = {
            "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": opening.threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[opening.precision], "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        try:
            # The tensor is the weights' memory: it must outlive the model.
            self._weights = openvino.Tensor(np.frombuffer(weights or b"\0", np.uint8))
            model = core().read_model(model=xml, weights=self._weights)
            _fix_quantized(model, opening.image_size)
            self._model = core().compile_model(model, "CPU", config)
        except (RuntimeError, ValueError, TypeError) as error:
            raise Stalled("LoadFailed", f"openvino cannot load this file: {first_line(error)}") from error
        takes, gives = (_names(ports, files) for ports in (self._model.inputs, self._model.outputs))
        super().__init__(
            tuple(_signature(port, name, opening.image_size) for name, port in takes.items()),
            tuple(_signature(port, name, None) for name, port in gives.items()),
        )
        self.tolerance = TOLERANCES[opening.precision]
        self.runtime = f"openvino {openvino.get_version().partition('-')[0]} on CPU"
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Give all outputs by name; EngineFailure where the runtime fails."""
        feed = [np.require(inputs[part.name], requirements=("C", "A")) for part in self.inputs]
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._model.create_infer_request()
        try:
            results = request.infer(feed, share_inputs=True, share_outputs=False).to_tuple()
        except (RuntimeError, ValueError, TypeError) as error:
            raise EngineFailure(first_line(error)) from error
        self._idle.put(request)
        return dict(zip(self._output_names, results, strict=True))


open_engine = OpenVinoEngine


def build(onnx: bytes, opening: Opening) -> bytes:
    """Make a packed folder of an ONNX file; Stalled ``BuildFailed`` where OpenVINO cannot."""
    with tempfile.TemporaryDirectory(prefix="openvino-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        try:
            model = core().read_model(model=onnx)
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=opening.precision == "fp16")
        except (RuntimeError, ValueError, TypeError) as error:
            raise Stalled("BuildFailed", f"openvino cannot convert the ONNX file: {first_line(error)}") from error
        return archive.pack(folder, Path(scratch) / "model.tar").read_bytes()


def device() -> dict[str, str]:
    """Give the processor's name: the file runs on any, its answers and its speed are of this one."""
    return {"cpu": str(core().get_property("CPU", "FULL_DEVICE_NAME"))}


@cache
def core() -> Any:
    """Give OpenVINO's core, one for all models: it holds the plugins."""
    return openvino.Core()


def _files(files: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """Give the model's description and its weights."""
    (name, *more) = [name for name in files if name.endswith(".xml")] or [""]
    if not name or more:
        raise Stalled("LoadFailed", "the packed folder must hold exactly one .xml of OpenVINO")
    return files[name], files.get(f"{name.removesuffix('.xml')}.bin", b"")


def _fix_quantized(model: Any, size: tuple[int, int]) -> None:
    """Give a quantized model a fixed shape: with an open one OpenVINO crashes on processors with AMX."""
    if model.is_dynamic() and any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        model.reshape([1, 3, *size])


def _names(ports: Sequence[Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """Give ports by the names they have. In an export of Ultralytics, which brings its metadata, names mean nothing.

    There the self-tests know outputs by number, and the input is called as in all its other formats.
    """
    known = {min(port.names, default=""): port for port in ports}
    if "metadata.yaml" not in files and "" not in known and len(known) == len(ports):
        return known
    return {_INPUT if port.get_node().get_type_name() == "Parameter" else f"output{number}": port
            for number, port in enumerate(ports)}  # fmt: skip


def _signature(port: Any, name: str, size: tuple[int, int] | None) -> Signature:
    shape = tuple(ANY if side.is_dynamic else side.get_length() for side in port.partial_shape)
    return signature(name, _DATATYPES.get(port.element_type.get_type_name()), shape, size)
