"""What making each export format takes, and where its files run. Nothing is ever installed by a job."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from specs.base import Args
from specs.exports import needs_calibration
from workloads.errors import Hopeless


@dataclass(frozen=True)
class Needs:
    """What must be there where exports run."""

    modules: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    """Where the module alone does not tell."""
    programs: tuple[str, ...] = ()
    install: str = ""
    """For people: what brings them."""
    int8: tuple[str, ...] = ()
    """Modules that INT8 takes as well."""
    int8_install: str = ""
    gpu: bool = False
    """Whether it is made on an NVIDIA GPU."""
    runs_on: str = ""
    """Where its files run, if not on every machine that can make them."""


_TENSORFLOW = "pip packages tensorflow, tf_keras, onnx2tf (below 1.29), sng4onnx, onnx_graphsurgeon, ai-edge-litert"
NEEDS: dict[str, Needs] = {
    "torchscript": Needs(),
    "onnx": Needs(("onnx", "onnxruntime", "onnxslim"), install="pip packages onnx (below 2), onnxslim, onnxruntime"),
    "openvino": Needs(("openvino",), install="pip package openvino", int8=("nncf",), int8_install="pip package nncf"),
    "engine": Needs(
        ("tensorrt", "onnx", "onnxslim"), gpu=True, runs_on="GPUs of the kind it was made on",
        install="pip packages tensorrt (for the CUDA of the machine), onnx (below 2), onnxslim",
    ),
    "coreml": Needs(("coremltools",), install="pip package coremltools (9 or newer)", runs_on="macOS"),
    "coreai": Needs(("coreai_torch",), install="pip package coreai-torch (0.4.3 or newer)", runs_on="macOS 26"),
    "saved_model": Needs(("tensorflow", "onnx2tf"), install=_TENSORFLOW),
    "pb": Needs(("tensorflow", "onnx2tf"), install=_TENSORFLOW),
    "edgetpu": Needs(
        ("tensorflow", "onnx2tf"), programs=("edgetpu_compiler",), runs_on="a Coral Edge TPU",
        install=f"{_TENSORFLOW}, and Google's edgetpu_compiler",
    ),
    "litert": Needs(
        ("litert_torch", "ai_edge_litert"), install="pip packages litert-torch and ai-edge-litert",
        int8=("ai_edge_quantizer",), int8_install="pip package ai-edge-quantizer",
    ),
    "paddle": Needs(("paddle", "x2paddle"), install="pip packages paddlepaddle and x2paddle"),
    "mnn": Needs(("MNN", "onnx", "onnxslim"), install="pip packages MNN (2.9.6 or newer), onnx (below 2), onnxslim"),
    "ncnn": Needs(("ncnn", "pnnx"), install="pip packages ncnn and pnnx (20260526)"),
    "imx": Needs(
        ("model_compression_toolkit", "edgemdt_tpc", "edgemdt_cl", "onnx"), programs=("imxconv-pt", "java"),
        install="pip packages model-compression-toolkit, edge-mdt-tpc, edge-mdt-cl, imx500-converter[pt], and Java",
        runs_on="a Sony IMX500 camera",
    ),
    "rknn": Needs(("rknn",), install="pip package rknn-toolkit2 (with torch 2.4)", runs_on="Rockchip boards"),
    "executorch": Needs(("executorch",), install="pip package executorch"),
    "axelera": Needs(("axelera.compiler",), install="Axelera's pip package axelera-devkit", runs_on="Axelera Metis"),
    "deepx": Needs(("dx_com",), install="DEEPX's pip package dx_com", runs_on="DEEPX NPUs"),
    "qnn": Needs(
        ("onnx",), ("onnxruntime-qnn",), install="pip package onnxruntime-qnn", runs_on="Qualcomm Hexagon NPUs"
    ),
    "hailo": Needs(("hailo_sdk_client",), install="Hailo's Dataflow Compiler", runs_on="Hailo accelerators"),
    "ascend": Needs(programs=("atc",), install="Huawei's CANN toolkit, which has atc", runs_on="Huawei Ascend NPUs"),
    "xilinx": Needs(("quark", "onnx"), install="pip package amd-quark (0.13)", runs_on="AMD Versal boards"),
}  # fmt: skip
"""By format. Versions are those that Ultralytics 8.4 asks for."""


def check_needs(format_: str, args: Args) -> None:
    """Hopeless ``FormatUnavailable`` where something is missing here, with what brings it."""
    needs = NEEDS.get(format_, Needs())
    missing = [name for name in needs.modules if not _is_there(name)]
    missing += [name for name in needs.distributions if not _is_installed(name)]
    missing += [f"the program {name}" for name in needs.programs if shutil.which(name) is None]
    if missing:
        raise Hopeless("FormatUnavailable", f"exporting to {format_} needs {_told(missing, needs.install)}")
    missing = [name for name in needs.int8 if needs_calibration(format_, args) and not _is_there(name)]
    if missing:
        raise Hopeless("FormatUnavailable", f"INT8 for {format_} needs {_told(missing, needs.int8_install)}")
    if needs.gpu and not _has_gpu():
        advice = "give the export a node with one (resources.limits, nodeSelector), or let devices make it (buildOn)"
        raise Hopeless("FormatUnavailable", f"exporting to {format_} needs an NVIDIA GPU, and none is here; {advice}")


def _told(missing: list[str], install: str) -> str:
    return f"{', '.join(missing)}; install it where exports run ({install}): jobs install nothing themselves"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _is_installed(distribution: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(distribution))
    return False


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
