"""Where live specs come from: a repository with 10,000 commits and 10,000 ModelSpecs, and every one is asked about.

    python -m benchmarks.provenance [--models 10000] [--commits 10000] [--signatures 2000]

Prints a table: what was measured, seconds, seconds of processor (those of git and its helpers too), peak memory of the
process that did it, and how many times as much processor as ``git log --raw`` of the same repository, which is the
least that reading a history can cost. Goals are about processor time, so that a busy machine does not miss them.
Ends with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from adapters.provenance_git import GitProvenance
from adapters.repository import Repository
from adapters.signatures import CommitSignatures, KeyFiles
from benchmarks.signed_history import sign
from specs.digests import desired_digest
from specs.facts import Seal, Standing
from specs.modelspec import ModelKey

GOAL, STEP_GOAL = 15.0, 1.0
"""Seconds of processor from nothing until all 10,000 are known to be verified, and for one commit more."""
WORKERS = 8
SPEC = """\
# A model of the benchmark.
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata:
  name: {name}
  namespace: default
spec:
  task: classify
  data:
    train: {{uri: {{url: "store://train", digest: "sha256:{a}"}}}}
    golden: {{uri: {{url: "store://golden", digest: "sha256:{b}"}}}}
  training:
    model: yolo26n-cls.yaml
    args: {{epochs: {epochs}, imgsz: 32}}
  exports:
    - {{name: onnx, format: onnx, args: {{dynamic: true}}}}
  gates:
    - {{name: floor, metric: metrics/accuracy_top1, min: 0.9}}
    - {{name: no-regression, metric: metrics/accuracy_top1, maxRegression: 0.01}}
  serving: {{export: onnx, replicas: 2}}
  release:
    version: 1
    run: sha256:{a}
    weights: sha256:{b}
    exports: {{onnx: "sha256:{a}"}}
"""


def text(number: int, epochs: int) -> str:
    return SPEC.format(name=f"model-{number:05}", a="a" * 64, b="b" * 64, epochs=epochs)


def path(number: int) -> str:
    return f"models/{number // 100:03}/model-{number:05}.yaml"


def epochs_at(number: int, models: int, commits: int) -> int:
    """Give what a model's file says at the head: those that were edited last say something of their own."""
    edits = commits // 2
    last = max((edit for edit in range(number, edits, models)), default=None)
    return 8 if last is None else 100 + last


def stream(models: int, commits: int) -> Iterator[bytes]:
    """Give the history: the first half of the commits adds the files, the second half edits one each."""
    adds, edits = commits - commits // 2, commits // 2
    share = -(-models // adds)
    for number in range(commits):
        if number < adds:
            files = [(each, 8) for each in range(number * share, min((number + 1) * share, models))]
        else:
            files = [((number - adds) % models, 100 + number - adds)]
        message = f"Change {number}\n".encode()
        who = b"Ada <ada@example.com> %d +0000" % (1_700_000_000 + number)
        yield b"commit refs/heads/main\ncommitter %s\ndata %d\n%s" % (who, len(message), message)
        for each, epochs in files:
            data = text(each, epochs).encode()
            yield b"M 100644 inline %s\ndata %d\n%s\n" % (path(each).encode(), len(data), data)
    assert edits


def make(folder: Path, models: int, commits: int) -> Path:
    """Make the repository."""
    hub = folder / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(hub)], check=True)
    with subprocess.Popen(["git", "-C", str(hub), "fast-import", "--quiet"], stdin=subprocess.PIPE) as importer:
        assert importer.stdin is not None
        for part in stream(models, commits):
            importer.stdin.write(part)
    assert importer.returncode == 0
    return hub


class Run:
    """One process that measures. Its answers are lines of JSON: a row of the table each."""

    def __init__(self, hub: Path, models: int, commits: int) -> None:
        self.models, self.commits = models, commits
        self.folder = Path(tempfile.mkdtemp(dir=hub.parent))
        self.repository = Repository(str(hub), self.folder)
        self.provenance = GitProvenance(self.repository, prefix="models")
        self.hub = hub
        self.live = [self._digest(number) for number in range(models)]

    def _digest(self, number: int) -> str:
        parsed = yaml.load(text(number, epochs_at(number, self.models, self.commits)), Loader=yaml.CSafeLoader)
        return desired_digest(parsed["spec"])

    def cold(self) -> None:
        self.timed("fetch into a new mirror", self.repository.fetch)
        head = self.repository.fetch()
        self.timed("read files and history", lambda: self.provenance.read(head))
        self.timed(f"ask about {self.models} specs", self._ask_all)
        self.timed("the same again", self._ask_all)

    def _ask_all(self) -> None:
        for number, digest in enumerate(self.live):
            origin = self.provenance.origin(ModelKey("default", f"model-{number:05}"), digest)
            assert origin.standing is Standing.CURRENT, (number, origin)

    def step(self) -> None:
        """One more commit, as seen by a process that knows all the others."""
        number, epochs = self.models // 2, 77
        data = text(number, epochs).encode()
        who = b"Bob <bob@example.com> 1800000000 +0000"
        commit = b"commit refs/heads/main\ncommitter %s\ndata 4\nOne\nfrom refs/heads/main^0\n" % who
        change = b"M 100644 inline %s\ndata %d\n%s\n" % (path(number).encode(), len(data), data)
        subprocess.run(["git", "-C", str(self.hub), "fast-import", "--quiet"], input=commit + change, check=True)
        key = ModelKey("default", f"model-{number:05}")
        digest = desired_digest(yaml.safe_load(data)["spec"])

        def look() -> None:
            self.provenance.read(self.repository.fetch())
            assert self.provenance.origin(key, digest).standing is Standing.CURRENT
            assert self.provenance.origin(key, self.live[number]).standing is Standing.OLDER

        self.timed("one new commit: fetch, read, ask", look)

    def foreign(self) -> None:
        key = ModelKey("default", "model-00003")

        def ask() -> None:
            assert self.provenance.origin(key, "sha256:" + "0" * 64).standing is Standing.FOREIGN

        self.timed("a spec that git never said", ask)

    def signed(self) -> None:
        """Every model's own commit is checked, by as many workers as the operator has; then they are known."""
        self.provenance.read(self.repository.fetch())
        keys = KeyFiles(ssh_signers=self.hub.parent / "signers")
        signatures = CommitSignatures(self.repository, keys, self.folder / "state")
        found = [
            self.provenance.origin(ModelKey("default", f"model-{number:05}"), digest)
            for number, digest in enumerate(self.live)
        ]
        commits = [origin.sourced.changed.sha for origin in found if origin.sourced is not None]
        assert len(commits) == self.models

        def check() -> None:
            with ThreadPoolExecutor(WORKERS) as pool:
                assert {seal.seal for seal in pool.map(signatures.of, commits)} == {Seal.GOOD}

        self.timed(f"check the {len(set(commits))} commits of {self.models} specs", check)
        self.timed("the same again, known", check)

    def timed(self, what: str, work: Callable[[], object]) -> None:
        began, busy = time.perf_counter(), processor()
        work()
        took, used = time.perf_counter() - began, processor() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([what, took, used, peak]), flush=True)


Row = tuple[str, float, float, float]
"""What, seconds, seconds of processor, peak memory so far in MB."""


def processor() -> float:
    """Give the seconds of processor that this process and its ended children used."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(hub: Path, options: argparse.Namespace, *parts: str) -> list[Row]:
    """Run parts in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.provenance", "--run", *parts, "--hub", str(hub)]
    command += ["--models", str(options.models), "--commits", str(options.commits)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def bare(hub: Path) -> float:
    """Give the seconds of processor that git itself takes to tell the history; the fewer of two."""
    best = float("inf")
    for _ in range(2):
        began = processor()
        command = ["git", "-C", str(hub), "log", "--first-parent", "--raw", "--no-renames", "--no-abbrev", "main"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        best = min(best, processor() - began)
    return best


def show(title: str, rows: list[Row], least: float) -> None:
    print(f"\n{title}")
    print(f"  {'what':<46} {'seconds':>9} {'processor':>10} {'ratio':>7} {'peak MB':>8}")
    for what, took, used, peak in rows:
        print(f"  {what:<46} {took:>9.3f} {used:>10.3f} {used / least:>7.2f} {peak:>8.0f}")


def main() -> int:
    """Make, measure, print; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--signatures", type=int, default=2_000, help="models, and commits, of the signed repository")
    parser.add_argument("--run", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--hub", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run = Run(options.hub, options.models, options.commits)
        for part in options.run:
            getattr(run, part)()
        return 0
    folder = Path(tempfile.mkdtemp(prefix="provenance-"))
    try:
        hub = make(folder, options.models, options.commits)
        least = bare(hub)
        print(f"git log --raw of {options.commits} commits: {least:.3f} s of processor")
        rows = measure(hub, options, "cold", "foreign", "step")
        show(f"{options.models} models, {options.commits} commits", rows, least)
        total, step = sum(row[2] for row in rows[:3]), rows[-1][2]
        shutil.rmtree(hub)
        options.models = options.commits = options.signatures
        hub = make(folder, options.models, options.commits)
        sign(hub, folder / "signers")
        show(f"{options.models} models, {options.commits} signed commits", measure(hub, options, "signed"), bare(hub))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    fine = total <= GOAL and step <= STEP_GOAL
    print(f"\ncold start {total:.1f} s (goal {GOAL:g}), one commit {step:.2f} s (goal {STEP_GOAL:g}): "
          f"{'ok' if fine else 'MISSED'}")  # fmt: skip
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
