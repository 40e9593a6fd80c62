"""Runs an export once, and times it: by its own runtime where that is light, else by Ultralytics' AutoBackend."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workloads.preprocess import Tensor
from workloads.selftest import Infer

WARM_UP = 10
RUNS = 200
SECONDS = 3.0
"""Timing ends with whichever comes first, but not before ``LEAST`` runs."""
LEAST = 20


def open_export(path: Path, format_: str) -> Infer:
    """Load an export; what is given takes float32 of shape (1, 3, H, W)."""
    return _OPENERS.get(format_, _backend)(path)


def load_libraries(format_: str) -> None:
    """Import what running a format takes."""
    other = format_ if format_ in _OPENERS else "ultralytics.nn.autobackend"
    importlib.import_module(_MODULES.get(format_, other))


def _onnx(path: Path) -> Infer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    kind = np.float16 if given.type == "tensor(float16)" else np.float32

    def infer(tensor: Tensor) -> dict[str, Any]:
        return dict(zip(names, session.run(None, {given.name: tensor.astype(kind, copy=False)}), strict=True))

    return infer


def _openvino(path: Path) -> Infer:
    import openvino

    core = openvino.Core()
    model = core.compile_model(next(path.glob("*.xml")), "CPU", {"PERFORMANCE_HINT": "LATENCY"})

    def infer(tensor: Tensor) -> dict[str, Any]:
        return {f"output{index}": np.array(output) for index, output in enumerate(model(tensor).values())}

    return infer


def _ncnn(path: Path) -> Infer:
    import ncnn

    net, described = ncnn.Net(), next(path.glob("*.param"))
    net.load_param(str(described))
    net.load_model(str(described.with_suffix(".bin")))
    given, names = net.input_names()[0], sorted(net.output_names())

    def infer(tensor: Tensor) -> dict[str, Any]:
        picture = np.ascontiguousarray(tensor[0])
        with net.create_extractor() as run:
            run.input(given, ncnn.Mat(picture))
            return {f"output{index}": np.array(run.extract(name)[1])[None] for index, name in enumerate(names)}

    return infer


def _mnn(path: Path) -> Infer:
    import MNN

    threads = {"backend": "CPU", "precision": "low", "numThread": len(os.sched_getaffinity(0))}
    runtime = MNN.nn.create_runtime_manager((threads,))
    net = MNN.nn.load_module_from_file(str(path), [], [], runtime_manager=runtime, rearrange=True)

    def infer(tensor: Tensor) -> dict[str, Any]:
        picture = np.ascontiguousarray(tensor)
        outputs = net.onForward([MNN.expr.const(picture.ctypes.data, picture.shape)])
        return {f"output{index}": output.read().copy() for index, output in enumerate(outputs)}

    return infer


_OPENERS: dict[str, Callable[[Path], Infer]] = {"onnx": _onnx, "openvino": _openvino, "ncnn": _ncnn, "mnn": _mnn}
_MODULES = {"onnx": "onnxruntime", "mnn": "MNN"}
"""Runtimes that are called otherwise than their format."""


def _backend(path: Path) -> Infer:
    import torch
    from ultralytics.nn.autobackend import AutoBackend

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = AutoBackend(str(path), device=device, verbose=False)

    def infer(tensor: Tensor) -> dict[str, Any]:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(tensor).to(device))
        several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return {f"output{index}": output.float().cpu().numpy() for index, output in enumerate(several)}

    return infer


def latency(infer: Infer, tensor: Tensor) -> dict[str, float]:
    """Time one picture at a time; give percentiles in milliseconds."""
    for _ in range(WARM_UP):
        infer(tensor)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < RUNS and (len(taken) < LEAST or time.perf_counter() - begun < SECONDS):
        start = time.perf_counter()
        infer(tensor)
        taken.append((time.perf_counter() - start) * 1000)
    return {f"latency/p{p}_ms": round(float(np.percentile(taken, p)), 4) for p in (50, 95, 99)}
