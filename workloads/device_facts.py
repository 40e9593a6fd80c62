"""What an engine depends on: the GPU, TensorRT, CUDA and the driver, found without importing any of them.

Names of facts are those of ``specs.engines``: ``gpu``, ``computeCapability``, ``tensorrt``, ``cuda``, ``driver``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,name,compute_cap,driver_version", "--format=csv,noheader")
_TENSORRT = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-lean", "tensorrt-dispatch")
_CUDA = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11")
_BOARD = Path("/proc/device-tree/model")
"""Where Jetsons, which have no nvidia-smi of use, say what they are."""


def facts() -> dict[str, str]:
    """Give what this machine is like; empty where it has no NVIDIA GPU."""
    return describe(_listed(), _board(), _version, os.environ.get("CUDA_VISIBLE_DEVICES"))


def describe(listed: str, board: str, version: Callable[[str], str], visible: str | None = None) -> dict[str, str]:
    """Make facts of what was found.

    ``listed`` is nvidia-smi's answer, ``board`` the name of the board; ``version`` gives that of an installed
    distribution, or nothing; ``visible`` is ``CUDA_VISIBLE_DEVICES``: the first that it names is the one in use.
    """
    found: dict[str, str] = {}
    rows = [[cell.strip() for cell in line.split(",")] for line in listed.splitlines() if line.count(",") >= 4]
    row = _in_use(rows, visible)
    if row is not None:
        # A name may have commas in it, the other cells have none.
        found = {"gpu": ", ".join(row[2:-2]), "computeCapability": row[-2], "driver": row[-1]}
    elif not rows and "jetson" in board.lower():
        found = {"gpu": board}
    if not found:
        return {}
    for name, distributions in (("tensorrt", _TENSORRT), ("cuda", _CUDA)):
        found[name] = next(filter(None, map(version, distributions)), "")
    return {name: value for name, value in sorted(found.items()) if value and value != "[N/A]"}


def _in_use(rows: list[list[str]], visible: str | None) -> list[str] | None:
    if not rows:
        return None
    if visible is None:
        return rows[0]
    first = visible.split(",")[0].strip()
    return next((row for row in rows if first == row[0] or (first and row[1].startswith(first))), None)


def unlike(wanted: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Say how this machine differs from what is wanted; empty where it does not."""
    return ", ".join(
        f"{name} is {here.get(name) or 'unknown'}, not {value}"
        for name, value in sorted(wanted.items()) if here.get(name) != value
    )  # fmt: skip


def _listed() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    return ""


def _board() -> str:
    with suppress(OSError):
        return _BOARD.read_text(encoding="utf-8", errors="replace").strip("\x00\n ")
    return ""


def _version(distribution: str) -> str:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return ""
