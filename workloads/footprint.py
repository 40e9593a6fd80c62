"""``python -m workloads.footprint FILE FORMAT HEIGHT WIDTH``: how much memory loading and running an export takes.

It must be a process of its own: what a job needed before to make the export is no part of that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from specs.errors import Transient
from workloads.inference import load_libraries, open_export

_RUNS = 5
_MAIN = 5
_TIMEOUT = 900
_WORDS = 300


def footprint(path: Path, format_: str, size: tuple[int, int]) -> dict[str, float]:
    """Give ``memory/peak_bytes`` of a process that does nothing else; ``memory/added_bytes`` is without its libraries.

    Memory of a GPU is no part of it. Transient ``MemoryNotMeasured`` where the process fails.
    """
    root = str(Path(__file__).parents[1])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "workloads.footprint", str(path.resolve()), format_, *map(str, size)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    with suppress(ValueError, IndexError, KeyError):
        told = json.loads(done.stdout.splitlines()[-1])
        return {f"memory/{name}_bytes": float(told[name]) for name in ("peak", "added")}
    words = done.stderr.strip()[-_WORDS:] or "it said nothing"
    raise Transient("MemoryNotMeasured", f"the process that runs the export ended with {done.returncode}: {words}")


def _memory(field: str) -> int:
    """Give a line of the kernel's about this process, in bytes: ``VmRSS`` is now, ``VmHWM`` the most it ever was."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024


def main(arguments: list[str]) -> int:
    """Load and run; print what it took as JSON."""
    if len(arguments) != _MAIN:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    _, path, format_, height, width = arguments
    load_libraries(format_)
    before = _memory("VmRSS")
    infer = open_export(Path(path), format_)
    tensor = np.zeros((1, 3, int(height), int(width)), np.float32)
    for _ in range(_RUNS):
        infer(tensor)
    peak = _memory("VmHWM")
    sys.stdout.write(json.dumps({"peak": peak, "added": max(peak - before, 0)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
