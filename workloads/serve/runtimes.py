"""Which formats this server runs, and by what. A runtime is loaded when the first file of its format is."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol, cast

from specs.builds import Build
from specs.errors import Stalled
from workloads.serve.engine import Engine, Opening


@dataclass(frozen=True)
class Runtime:
    """What runs one format."""

    module: str
    """Of ours; has ``open_engine``, and ``build`` where ``built``."""
    package: str
    """That it needs, by the name that it is imported and installed by."""
    built: bool = False
    """Whether it can make its format of an ONNX file."""

    @property
    def is_here(self) -> bool:
        """Whether the package is installed; nothing is imported."""
        return importlib.util.find_spec(self.package) is not None


RUNTIMES = {
    "onnx": Runtime("workloads.serve.engine_onnx", "onnxruntime"),
    "openvino": Runtime("workloads.serve.engine_openvino", "openvino", built=True),
    "engine": Runtime("workloads.serve.engine_tensorrt", "tensorrt", built=True),
}


class _Module(Protocol):
    open_engine: Callable[[bytes, Opening], Engine]
    build: Callable[[bytes, Opening], bytes]
    device: Callable[[], dict[str, str]]


def check(format_: str) -> None:
    """Make sure that this server runs a format; Stalled ``LoadFailed`` with what it runs and what the format needs."""
    runtime = RUNTIMES.get(format_)
    if runtime is not None and runtime.is_here:
        return
    here = ", ".join(name for name, known in RUNTIMES.items() if known.is_here)
    why = f"{format_} needs {runtime.package}, which is not installed here" if runtime else "no other format can be"
    raise Stalled("LoadFailed", f"the file's format is {format_!r}; this server runs {here}; {why}")


def open_engine(format_: str, data: bytes, opening: Opening) -> Engine:
    """Load a file of a format; Stalled ``LoadFailed`` or ``EngineMismatch``, CorruptArtifact."""
    return _module(format_).open_engine(data, opening)


def build_engine(build: Build, onnx: bytes, opening: Opening) -> bytes:
    """Make a file of the format that is asked for of an ONNX file; Stalled ``BuildFailed`` where that cannot be."""
    return _module(build.format).build(onnx, opening)


def device_facts(format_: str) -> dict[str, str]:
    """Give what a file that is made here depends on, as far as it is about the device."""
    return _module(format_).device()


def versions(format_: str) -> dict[str, str]:
    """Give name and version of the package that runs a format; Stalled ``LoadFailed`` where it is not here."""
    check(format_)
    package = RUNTIMES[format_].package
    try:
        return {package: metadata.version(package)}
    except metadata.PackageNotFoundError:
        return {package: str(getattr(importlib.import_module(package), "__version__", ""))}


def _module(format_: str) -> _Module:
    check(format_)
    return cast("_Module", importlib.import_module(RUNTIMES[format_].module))
