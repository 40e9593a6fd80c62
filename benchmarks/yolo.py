"""The server on a real architecture: YOLO26n-cls, exported here with random weights, so nothing is downloaded."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def export(folder: Path, side: int) -> Path:
    """Export YOLO26n-cls for pictures of ``side`` pixels to ONNX with an open batch axis; give the file."""
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    from ultralytics import YOLO  # noqa: PLC0415  takes seconds to load, and must see the variable above

    os.chdir(folder)
    YOLO("yolo26n-cls.yaml").save("model.pt")
    return Path(YOLO("model.pt").export(format="onnx", imgsz=side, dynamic=True, verbose=False)).resolve()


def main() -> int:
    """Export, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=8, help="clients at once (default: %(default)s)")
    options = parser.parse_args()
    root = Path.cwd()
    with tempfile.TemporaryDirectory() as scratch:
        model = export(Path(scratch), options.side)
        os.chdir(root)
        words = ["--model", str(model), "--side", str(options.side), "--connections", str(options.connections)]
        return subprocess.run([sys.executable, "-m", "benchmarks.server", *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
