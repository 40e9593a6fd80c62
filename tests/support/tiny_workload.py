"""A job that does what the variable TINY tells it: ``say some words; leave-child; exit 3``. No imports of ours.

Every start appends its process number to ``began`` in the folder that ``--store`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Note the start, then act."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--order", type=Path, required=True)
    asked = parser.parse_args()
    with (asked.store / "began").open("a") as began:
        began.write(f"{os.getpid()}\n")
    for step in os.environ.get("TINY", "exit 0").split(";"):
        word, _, rest = step.strip().partition(" ")
        _act(word, rest, asked.store, asked.order)


def _act(word: str, rest: str, store: Path, order: Path) -> None:
    match word:
        case "say":
            sys.stdout.write(rest.encode().decode("unicode_escape") + "\n")
        case "sleep":
            time.sleep(float(rest))
        case "exit":
            sys.exit(int(rest))
        case "signal":
            os.kill(os.getpid(), int(rest))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "await":
            while not (store / rest).exists():
                time.sleep(0.02)
        case "leave-child":
            subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 60; done"])
        case "report":
            report = {
                "environment": dict(os.environ), "nice": os.nice(0), "order": json.loads(order.read_bytes()),
                "arguments": sys.argv[1:],
            }  # fmt: skip
            (store / "report.json").write_text(json.dumps(report))
        case _:
            sys.exit(f"unknown step {word!r}")


main()
