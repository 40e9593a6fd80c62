"""Training through a work order against plain ``yolo train``, on the same pictures, in turns.

    python -m benchmarks.training [--epochs 5 40] [--pictures 400] [--rounds 3] [--no-mlflow]

All sides are whole processes, from start to last file, with Ultralytics' own trackers off. The work order also fetches
and verifies the data, reports progress, and stores weights and pictures; ``tracked`` moreover leaves an event file for
TensorBoard and tells an MLflow server on this machine how each epoch went. What a work order costs is nearly the same
for any length of training, so it is measured with a short one and with one of about a minute; the longest is held: at
most 1.03, tracked, by the medians of wall time. CPU seconds (user and system, with all children) tell the same where
the machine is not quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.datasets import train_and_val
from specs.digests import digest_of
from specs.records import DatasetManifest
from specs.training import MLflow, Tracking
from specs.workorders import TrainOrder
from tests.support import pictures
from tests.support.mlflow_server import serving
from workloads.environment import isolate

ROOT = Path(__file__).resolve().parents[1]
HOLD = 1.03
MODEL = "yolo26n-cls.yaml"
PLAIN, ORDERED, TRACKED = "yolo train", "work order", "tracked"


@dataclass
class Place:
    """Where it happens."""

    root: Path
    store: Store
    manifest: DatasetManifest
    tracking: Tracking
    args: dict[str, Any] = field(default_factory=dict)

    def run(self, side: str, turn: int) -> tuple[float, float]:
        """Train once; give the seconds that passed, and the seconds of processors."""
        args = {**self.args, "imgsz": 32, "batch": 32, "seed": 0, "device": "cpu"}
        if side == PLAIN:
            program = str(Path(sys.executable).with_name("yolo"))
            options = [f"{name}={value}" for name, value in args.items()]
            where = [f"data={self.root}/plain", f"project={self.root}/runs", f"name=plain-{args['epochs']}-{turn}"]
            return timed([program, "classify", "train", f"model={MODEL}", *where, *options], self.root)
        inputs = {
            "v": 1, "task": "classify", "data": self.manifest.digest(), "model": {"name": MODEL}, "args": args,
            "nonce": f"{side} {turn}",
        }  # fmt: skip
        order = TrainOrder(
            model="bench/digits", commit="0" * 40, inputs_digest=digest_of(inputs), inputs=inputs,
            tracking=self.tracking if side == TRACKED else None,
        )  # fmt: skip
        path = self.root / "order.json"
        path.write_bytes(order.encode())
        return timed([sys.executable, "-m", "workloads", "--store", self.store.url, "--order", str(path)], self.root)


def main() -> int:
    """Measure and print; give 1 where the ratio is above what must be held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 40])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-mlflow", action="store_true", help="track with TensorBoard alone")
    given = parser.parse_args()
    ratio = 0.0
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as temporary, contextlib.ExitStack() as around:
        uri = None if given.no_mlflow else around.enter_context(serving(Path(temporary)))
        place = prepare(Path(temporary), given.pictures, uri)
        for epochs in sorted(given.epochs):
            place.args = {"epochs": epochs}
            ratio = compare(place, given.rounds)
    return int(ratio > HOLD)


def prepare(root: Path, count: int, mlflow: str | None) -> Place:
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
    tracked = MLflow(tracking_uri=mlflow, experiment="bench") if mlflow else None
    return Place(root, store, manifest, Tracking(tensorboard=True, mlflow=tracked))


def compare(place: Place, rounds: int) -> float:
    """Train on all sides in turns, print the table, and give the ratio of tracked to plain by wall time."""
    sides = [PLAIN, ORDERED, TRACKED]
    taken: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in sides[turn % 3 :] + sides[: turn % 3]:  # whoever goes first warms the disk for the others
            taken[side].append(place.run(side, turn))
            wall, cpu = taken[side][-1]
            where = f"{place.args['epochs']} epochs, round {turn + 1}"
            print(f"{where}: {side:12} {wall:7.2f} s {cpu:7.2f} cpu s", flush=True)
    return report(f"{place.args['epochs']} epochs", taken)


def report(what: str, taken: dict[str, list[tuple[float, float]]]) -> float:
    """Print the table of one length of training; give the ratio of tracked to plain by wall time."""
    titles = "".join(f"{name:>10}" for name in ("median s", "min s", "max s", "cpu s", "wall", "cpu"))
    print(f"\n{what:12}{titles}")
    middle = {side: statistics.median(wall for wall, _ in pairs) for side, pairs in taken.items()}
    spent = {side: statistics.median(cpu for _, cpu in pairs) for side, pairs in taken.items()}
    for side, pairs in taken.items():
        walls = [wall for wall, _ in pairs]
        seconds = "".join(f"{value:10.2f}" for value in (middle[side], min(walls), max(walls), spent[side]))
        print(f"{side:12}{seconds}{middle[side] / middle[PLAIN]:10.3f}{spent[side] / spent[PLAIN]:10.3f}")
    ratio = middle[TRACKED] / middle[PLAIN]
    print(f"tracked, hold {HOLD}: {'held' if ratio <= HOLD else 'NOT held'}\n")
    return ratio


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command to its end; give the seconds it took, and those of processors, with its children's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRUNKLINE_SCRATCH": str(folder / "scratch")}
    log = folder / "log.txt"
    begun = time.perf_counter()
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
    return seconds, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
