"""Every task in every export format that can be made here: what is lost, how fast it is, what it takes.

    python -m benchmarks.exports [--epochs 60] [--pictures 96] [--side 64] [--tasks detect …] [--json]

For each task a tiny model is trained through a work order on generated pictures, measured on a golden set, and exported
by the jobs that a cluster runs. The table holds the main metric of the weights and of the export, what the export loses
(negative: it is better), milliseconds for one picture, bytes, and the memory that loading and running it adds to a
process with its libraries. Formats whose packages or hardware are not here are listed with what they need. Ends with 1
where an export with all its bits loses more than the hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.base import Args
from specs.digests import digest_of
from specs.exports import FORMATS, needs_calibration
from specs.modelspec import MAIN_METRIC, Task
from specs.records import EvaluationRecord, ExportRecord, RunRecord, evaluation_key, export_key, run_key
from specs.ways import export_digest
from specs.workorders import EvaluateOrder, ExportOrder, TrainOrder
from tests.support import pictures
from tests.support.orders import MODELS, Bench
from workloads.errors import Hopeless
from workloads.formats import check_needs

HOLD = 0.01
"""Of the main metric, for exports with 32 bits."""
BITS: tuple[Args, ...] = ({}, {"quantize": 16}, {"quantize": 8})
TASKS: tuple[Task, ...] = ("detect", "segment", "classify", "pose", "obb")
_WHO: dict[str, Any] = {"model": "bench/tiny", "commit": "0" * 40}


@dataclass(frozen=True)
class Row:
    """One export of one task."""

    task: Task
    format: str
    bits: int
    weights: float
    export: float
    drop: float
    p50_ms: float
    p95_ms: float
    megabytes: float
    added_megabytes: float
    """Of memory."""


def measured_task(root: Path, task: Task, options: argparse.Namespace, missing: dict[str, str]) -> list[Row]:
    """Train a tiny model, and export it in every way that works here; what did not work goes to ``missing``."""
    scratch = root / "scratch"
    scratch.mkdir(parents=True)
    url = f"file://{root}/store"
    store = Store(url)
    train = add_folder(store, pictures.folder(root / "train", task, options.pictures), task=task).digest()
    golden = add_folder(store, pictures.folder(root / "golden", task, 32, seed="golden"), task=task).digest()
    bench = Bench(store, url, task, scratch, train, golden)
    inputs = {
        "v": 1, "task": task, "data": train, "model": {"name": MODELS[task]}, "nonce": "",
        "args": {"epochs": options.epochs, "imgsz": options.side, "batch": 16, "plots": False, "seed": 0},
    }  # fmt: skip
    order = TrainOrder(**_WHO, inputs_digest=digest_of(inputs), inputs=inputs)
    _done(bench, order)
    weights = RunRecord.decode(store.read(run_key(order.inputs_digest)) or b"").weights or ""
    _done(bench, EvaluateOrder(
        **_WHO, subject=weights, format="pt", task=task, golden=golden, image_size=options.side
    ))  # fmt: skip
    rows = []
    for format_ in FORMATS:
        for args in BITS:
            if _why_not(format_, args) is not None:
                continue
            row = _row(bench, weights, format_, args, options.side)
            if isinstance(row, Row):
                rows.append(row)
            else:
                missing[f"{format_} with {args.get('quantize', 32)} bits for {task}"] = row
            _tell(f"{task} {format_} {args or ''}: {row}")
    return rows


def _row(bench: Bench, weights: str, format_: str, args: Args, side: int) -> Row | str:
    """Give what was measured, or why there is nothing."""
    calibration = bench.data if needs_calibration(format_, args) else None
    order = ExportOrder(
        **_WHO, weights=weights, export_digest=export_digest(format_, args, side, calibration=calibration),
        task=bench.task, format=format_, args=args, image_size=side, golden=bench.golden, calibration=calibration,
    )  # fmt: skip
    finished = bench.run_here(order)
    if finished.code != 0:
        return finished.log.strip().splitlines()[-1]
    record = ExportRecord.decode(bench.store.read(export_key(weights, order.export_digest)) or b"")
    metric, numbers = MAIN_METRIC[bench.task], record.metrics
    whole, part = (
        EvaluationRecord.decode(bench.store.read(evaluation_key(subject, bench.golden)) or b"").values[metric]
        for subject in (weights, record.file or "")
    )
    return Row(
        bench.task, format_, int(args.get("quantize", 32)), whole, part, whole - part, numbers["latency/p50_ms"],
        numbers["latency/p95_ms"], record.size / 1e6, numbers["memory/added_bytes"] / 1e6,
    )


def _done(bench: Bench, order: TrainOrder | EvaluateOrder) -> None:
    finished = bench.run_here(order)
    if finished.code != 0:
        sys.exit(f"{order.job} ended with {finished.code}:\n{finished.log[-3000:]}")


def _why_not(format_: str, args: Args) -> str | None:
    """Say why an export cannot be made here; None where it can."""
    from workloads.arguments import check_export  # noqa: PLC0415  takes seconds to load

    try:
        check_needs(format_, args)
        check_export(format_, dict(args))
    except Hopeless as error:
        return error.message
    return None


def _tell(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def table(rows: list[Row], missing: dict[str, str]) -> str:
    """Give markdown."""
    head = "| task | format | bits | weights | export | loss | p50 ms | p95 ms | MB | MB of memory |"
    lines = [head, "|---" * 10 + "|"]
    lines += [
        f"| {r.task} | {r.format} | {r.bits} | {r.weights:.4f} | {r.export:.4f} | {r.drop:+.4f} | {r.p50_ms:.2f} "
        f"| {r.p95_ms:.2f} | {r.megabytes:.2f} | {r.added_megabytes:.0f} |" for r in rows
    ]  # fmt: skip
    lines += ["", "Not made here:", "", *(f"- {name}: {why}" for name, why in missing.items())]
    return "\n".join(lines)


def main() -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60, help="of each training (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=96, help="to train on (default: %(default)s)")
    parser.add_argument("--side", type=int, default=64, help="pixels (default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--json", action="store_true", help="instead of a table")
    options = parser.parse_args()
    os.environ["YOLO_AUTOINSTALL"] = "false"
    answer = os.dup(1)  # exporters talk on it, some from C; the result must stand alone
    os.dup2(2, 1)
    missing = {name: why for name in FORMATS if (why := _why_not(name, {})) is not None}
    with tempfile.TemporaryDirectory() as place:
        rows = [row for task in options.tasks for row in measured_task(Path(place) / task, task, options, missing)]
    told = {"rows": [asdict(row) for row in rows], "missing": missing}
    with os.fdopen(answer, "w") as stdout:
        stdout.write((json.dumps(told, indent=1) if options.json else table(rows, missing)) + "\n")
    bad = [row for row in rows if row.bits == 32 and row.drop > HOLD]
    for row in bad:
        _tell(f"missed: {row.task} {row.format} loses {row.drop:.4f}, held: {HOLD}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
