"""Runs an export once, and times it: onnxruntime for ONNX, Ultralytics' AutoBackend for every other format."""

from __future__ import annotations

import time
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
    return _onnx(path) if format_ == "onnx" else _backend(path)


def _onnx(path: Path) -> Infer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    kind = np.float16 if given.type == "tensor(float16)" else np.float32

    def infer(tensor: Tensor) -> dict[str, Any]:
        return dict(zip(names, session.run(None, {given.name: tensor.astype(kind, copy=False)}), strict=True))

    return infer


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
