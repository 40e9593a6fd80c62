"""Stands in for a trial of a tuning: speaks as ``workloads.trials`` does, and learns nothing. No imports of ours.

The file that TINY_TRIALS names says what happens, as JSON: ``{"epochs": 4, "3": "crash"}``, by trial number. Every
start is noted in ``began`` beside it. The objective is best at ``lr0`` 0.01; nothing is random or timed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import select
import sys
from pathlib import Path

METRIC = "metrics/accuracy_top1"


def main() -> int:
    """Note the start, then do as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--task", type=Path, required=True)
    task = json.loads(parser.parse_args().task.read_bytes())
    script = Path(os.environ["TINY_TRIALS"])
    with (script.parent / "began").open("a") as began:
        began.write(f"{task['number']}\n")
    return act(task, json.loads(script.read_text()), script.parent)


def tell(kind: str, **values: object) -> None:
    """Say something and wait for the answer; end where that is no, or where nobody answers."""
    sys.stdout.write(json.dumps({"kind": kind, **values}) + "\n")
    sys.stdout.flush()
    if sys.stdin.readline() != "go on\n":
        os._exit(0)


def hang(folder: Path, number: int) -> None:
    """Do nothing while ``hold`` is there, or until the tuning is gone."""
    (folder / f"hangs-{number}").touch()
    while (folder / "hold").exists():
        if select.select([sys.stdin], [], [], 0.02)[0]:
            os._exit(1)


def act(task: dict, told: dict[str, str | int], folder: Path) -> int:  # type: ignore[type-arg]
    """Live the life of a trial."""
    args, number = task["inputs"]["args"], task["number"]
    lr0 = args.get("lr0", 0.001)
    tell("began", searched={"lr0": lr0})
    what = str(told.get(str(number), ""))
    value = 0.0 if what == "bad" else 1 - abs(math.log10(lr0) + 2) / 4
    for epoch in range(1, int(told.get("epochs", 1)) + 1):
        tell("epoch", epoch=epoch, metrics={METRIC: value * epoch / (epoch + 1)})
        if what == "hang":
            hang(folder, number)
        if what == "crash":
            sys.stderr.write("the pretended driver is gone\n")
            sys.stderr.flush()
            os.abort()
        if what.startswith("exit"):
            sys.stderr.write("trunkline: StoreUnavailable: nobody answers\n")
            return int(what.split()[1])
    if what in ("Diverged", "UnknownMetric"):
        tell("failed", reason=what, message="as told", hopeless=what == "UnknownMetric")
    else:
        tell("finished", metrics={METRIC: round(value, 6)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
