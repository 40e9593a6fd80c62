"""Training through a work order against plain ``yolo train``, on the same pictures, in turns.

    python -m benchmarks.training [--epochs 5] [--pictures 400] [--rounds 3]

Both sides are whole processes, from start to last file. The work order also fetches and verifies the data, reports
progress and stores weights and pictures; the ratio of the medians is what that costs. Hold: at most 1.03.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.datasets import train_and_val
from specs.digests import digest_of
from specs.records import DatasetManifest
from specs.workorders import TrainOrder
from tests.support import pictures
from workloads.environment import isolate

ROOT = Path(__file__).resolve().parents[1]
HOLD = 1.03
MODEL = "yolo26n-cls.yaml"


def main() -> int:
    """Measure and print; give 1 where the ratio is above what must be held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as temporary:
        root = Path(temporary)
        manifest, store = prepare(root, given.pictures)
        args = {"epochs": given.epochs, "imgsz": 32, "batch": 32, "seed": 0, "device": "cpu"}
        taken: dict[str, list[float]] = {"yolo train": [], "work order": []}
        for turn in range(given.rounds):
            for side in sorted(taken, reverse=bool(turn % 2)):  # whoever goes first warms the disk for the other
                run = plain if side == "yolo train" else ordered
                taken[side].append(run(root, manifest, store, args, turn))
                print(f"round {turn + 1}: {side:12} {taken[side][-1]:7.2f} s", flush=True)
    return report(taken)


def prepare(root: Path, count: int) -> tuple[DatasetManifest, Store]:
    """Put one data set into a store, and into a folder that is divided as the work order divides it."""
    store = Store(f"file://{root}/store")
    source = pictures.folder(root / "source", "classify", count)
    manifest = add_folder(store, source, task="classify")
    for split, part in zip(("train", "val"), train_and_val(manifest), strict=True):
        for picture in part:
            target = root / "plain" / split / picture.file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / picture.file.path, target)
    isolate(root)
    return manifest, store


def plain(root: Path, _manifest: DatasetManifest, _store: Store, args: dict[str, Any], turn: int) -> float:
    """Time ``yolo train``."""
    options = [f"{name}={value}" for name, value in args.items()]
    program = str(Path(sys.executable).with_name("yolo"))
    place = [f"data={root}/plain", f"project={root}/runs", f"name=plain{turn}"]
    return timed([program, "classify", "train", f"model={MODEL}", *place, *options], root)


def ordered(root: Path, manifest: DatasetManifest, store: Store, args: dict[str, Any], turn: int) -> float:
    """Time the same training through a work order."""
    inputs = {
        "v": 1, "task": "classify", "data": manifest.digest(), "model": {"name": MODEL}, "args": args,
        "nonce": str(turn),
    }  # fmt: skip
    order = TrainOrder(model="bench/digits", commit="0" * 40, inputs_digest=digest_of(inputs), inputs=inputs)
    path = root / "order.json"
    path.write_bytes(order.encode())
    return timed([sys.executable, "-m", "workloads", "--store", store.url, "--order", str(path)], root)


def timed(command: list[str], folder: Path) -> float:
    """Run a command to its end and give the seconds it took."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRUNKLINE_SCRATCH": str(folder / "scratch")}
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return seconds


def report(taken: dict[str, list[float]]) -> int:
    """Print the table; 1 where the ratio is too high."""
    middle = {side: statistics.median(seconds) for side, seconds in taken.items()}
    ratio = middle["work order"] / middle["yolo train"]
    print(f"\n{'':12} {'median s':>9} {'min s':>9} {'max s':>9}")
    for side, seconds in taken.items():
        print(f"{side:12} {middle[side]:9.2f} {min(seconds):9.2f} {max(seconds):9.2f}")
    print(f"{'ratio':12} {ratio:9.3f}   hold {HOLD}: {'held' if ratio <= HOLD else 'NOT held'}")
    return int(ratio > HOLD)


if __name__ == "__main__":
    sys.exit(main())
