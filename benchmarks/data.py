"""Importing a data set of many small files through DVC, against DVC's own commands on the same remote, in turns.

    python -m benchmarks.data [--files 20000] [--rounds 3]

Both sides are whole processes, with nothing warm but the disk's own cache. ``fetch`` is ours up to a folder whose every
byte was verified, which DVC does not do; ``import`` also checks pictures and labels and puts all of it into the store.
Prints seconds, seconds of processor, and ratios to `dvc pull` in the same state. Holds are about processor time, so
that a busy machine does not miss them. Ends with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from specs.data import DvcSource
from specs.workorders import ImportOrder
from tests.support.dvc_repository import DvcProject
from tests.support.gitrepo import git
from tests.support.pictures import png
from workloads.environment import cache, scratch
from workloads.sources.dvc import fetch

ROOT = Path(__file__).resolve().parents[1]
HOLD = 1.0
"""Of `dvc pull`: fetching, whether everything, nothing or one file is missing."""
STATES = ("cold", "warm", "one file changed")
Taken = dict[tuple[str, str], list[tuple[float, float]]]
"""(Who, state) to (seconds, seconds of processor) of each round."""


class Stage:
    """A data repository with two versions of a data set, and what each side has of it."""

    def __init__(self, root: Path, files: int) -> None:
        self.root = root
        self.project = DvcProject(root / "far")
        folder = self.project.clone / "shelf"
        picture = png([[(number, 0, 0) for number in range(8)]] * 8)
        for place in ("images", "labels"):
            (folder / place).mkdir(parents=True)
        (folder / "data.yaml").write_text("names: [thing]\n")
        for number in range(files // 2):
            (folder / "images" / f"{number:06}.png").write_bytes(picture + str(number).encode())
            (folder / "labels" / f"{number:06}.txt").write_text(f"0 0.5 0.5 0.5 0.{number + 1:06}\n")
        self.project.add()
        self.before = self.project.source()
        (folder / "labels" / "000000.txt").write_text("0 0.5 0.5 0.4 0.4\n")
        self.project.add()
        self.after = self.project.source()
        self.environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TRUNKLINE_DATA_FOLDERS": str(root), "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root / "site"), "TRUNKLINE_SCRATCH": str(root / "scratch"),
            "TRUNKLINE_CACHE": str(root / "cache"),
        }  # fmt: skip

    def source(self, state: str) -> DvcSource:
        return self.after if state == STATES[2] else self.before

    def pull(self, state: str) -> tuple[float, float]:
        """Time `dvc pull`, in a clone that is at the version already."""
        clone = self.root / "clone"
        if state == "cold":
            shutil.rmtree(clone, ignore_errors=True)
            shutil.rmtree(self.root / "site", ignore_errors=True)
            git(self.root, "clone", "-q", str(self.project.path), str(clone))
        git(clone, "checkout", "-q", self.source(state).target_revision)
        return self.timed([str(Path(sys.executable).with_name("dvc")), "pull", "-q"], clone)

    def get(self, state: str) -> tuple[float, float]:
        """Time `dvc get`, which keeps nothing for the next time."""
        shutil.rmtree(self.root / "got", ignore_errors=True)
        source = self.source(state)
        command = ["get", "-q", source.repo_url, "shelf", "--rev", source.target_revision, "-o", str(self.root / "got")]
        return self.timed([str(Path(sys.executable).with_name("dvc")), *command], self.root)

    def fetch(self, state: str) -> tuple[float, float]:
        """Time what a job does up to a verified folder."""
        if state == "cold":
            shutil.rmtree(self.root / "cache", ignore_errors=True)
        text = self.source(state).model_dump_json(by_alias=True)
        return self.timed([sys.executable, "-m", "benchmarks.data", "--fetch", text], self.root)

    def imported(self, state: str) -> tuple[float, float]:
        """Time a whole import job."""
        if state == "cold":
            for name in ("cache", "store"):
                shutil.rmtree(self.root / name, ignore_errors=True)
        if state == "warm":
            for record in (self.root / "store" / "imports").glob("*"):
                record.unlink()
        source = {"dvc": self.source(state).model_dump(mode="json", by_alias=True, exclude_none=True)}
        order = ImportOrder(model="bench/shelf", commit="0" * 40, task="detect", source=source)
        (self.root / "order.json").write_bytes(order.encode())
        place = ["--store", f"file://{self.root}/store", "--order", str(self.root / "order.json")]
        return self.timed([sys.executable, "-m", "workloads", *place], self.root)

    def timed(self, command: list[str], folder: Path) -> tuple[float, float]:
        """Run a command to its end; give seconds, and seconds of processor."""
        begun, busy = time.perf_counter(), processor()
        done = subprocess.run(
            command, cwd=folder, env=self.environment, check=False, capture_output=True, text=True
        )
        taken = time.perf_counter() - begun, processor() - busy
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return taken


def processor() -> float:
    """Give the seconds of processor that ended children used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fetch_alone(text: str) -> None:
    """Fetch as a job does, and no more."""
    with scratch("bench") as folder:
        fetch(DvcSource.model_validate_json(text), folder, cache(), lambda *_: None)


def main() -> int:
    """Make, measure, print; 1 where a hold is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fetch", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fetch:
        fetch_alone(given.fetch)
        return 0
    taken: Taken = {}
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as temporary:
        stage = Stage(Path(temporary), given.files)
        sides = {"dvc pull": stage.pull, "dvc get": stage.get, "fetch": stage.fetch, "import": stage.imported}
        for turn in range(given.rounds):
            for who, run in sorted(sides.items(), reverse=bool(turn % 2)):  # whoever goes first warms the disk
                for state in STATES[:1] if who == "dvc get" else STATES:
                    taken.setdefault((who, state), []).append(run(state))
                    print(f"round {turn + 1}: {who:9} {state:17} {taken[who, state][-1][0]:8.2f} s", flush=True)
    return report(taken, given.files)


def report(taken: Taken, files: int) -> int:
    """Print the table; 1 where a ratio is too high."""
    middle = {key: tuple(statistics.median(each) for each in zip(*rows, strict=True)) for key, rows in taken.items()}
    missed = 0
    print(f"\n{files} files{'':12} {'seconds':>9} {'processor':>10} {'ratio':>7} {'of processor':>13}")
    for (who, state), (seconds, busy) in middle.items():
        least = middle["dvc pull", state]
        print(f"{who:9} {state:17} {seconds:>9.2f} {busy:>10.2f} {seconds / least[0]:>7.2f} {busy / least[1]:>13.2f}")
        missed += who == "fetch" and busy / least[1] > HOLD
    print(f"\nfetch at most {HOLD:g} of dvc pull's processor time: {'NOT held' if missed else 'held'}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
