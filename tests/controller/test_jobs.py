"""``trunkline jobs``: what runs on this machine, how far it is, and what failed; with real processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.jobs_local import LocalJobs
from adapters.store import Store
from specs.facts import JobPhase
from specs.records import Progress, progress_key
from specs.workorders import EvaluateOrder
from tests.support.living import until
from tests.support.typed import said

RUNS = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
FAILS = [sys.executable, "-S", "-c", "import sys; sys.exit('the disk is on [/fire]')"]
ENDS = [sys.executable, "-S", "-c", ""]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A place with settings, and no process left behind."""
    (tmp_path / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\nstate = "state"\n')
    yield tmp_path
    LocalJobs(tmp_path / "state", "store", command=ENDS).stop_all(grace=0)


def start(folder: Path, digit: int, command: list[str]) -> str:
    """Start a job that does what ``command`` does; give its name."""
    order = EvaluateOrder(
        model="default/digits", commit="c" * 40, subject=f"sha256:{digit:064x}", format="onnx", task="classify",
        golden="sha256:" + "a" * 64,
    )  # fmt: skip
    jobs = LocalJobs(folder / "state", str(folder / "store"), command=command, max_parallel=4)
    jobs.start(order)
    if command is not RUNS:
        until(lambda: (state := jobs.find(order.job)) is not None and state.phase is JobPhase.ENDED)
    return order.job


def test_nothing_has_run_yet(folder: Path) -> None:
    """That is said, for people and for programs."""
    assert "no job runs here" in said(folder, "jobs")
    assert json.loads(said(folder, "jobs", "--json")) == []


def test_jobs_that_run_or_failed_are_shown(folder: Path) -> None:
    """With a bar for those that told how far they are, and the last words of those that ended badly."""
    running, failed, done = start(folder, 1, RUNS), start(folder, 2, FAILS), start(folder, 3, ENDS)
    store, now = Store(str(folder / "store")), "2999-01-01T00:00:00+00:00"
    for job in (running, failed):
        progress = Progress(job=job, phase="training", epoch=3, epochs=10, eta_seconds=42.3, updated=now)
        store.replace(progress_key(job), progress.encode())
    lines = said(folder, "jobs").splitlines()
    rows = {line.split()[0]: line for line in lines[1:3]}
    assert "running" in rows[running]
    assert "Error" in rows[failed]
    assert "the disk is on [/fire]" in rows[failed]
    assert [line.split()[0] for line in lines if "3/10 epochs, 40 s left" in line] == [running]
    assert done not in "\n".join(lines)
    assert "done" in {line.split()[0]: line for line in said(folder, "jobs", "--all").splitlines() if line}[done]
    found = {each["name"]: each for each in json.loads(said(folder, "jobs", "--json"))}
    assert found.keys() == {running, failed}
    assert (found[running]["progress"]["epoch"], found[failed]["progress"]) == (3, None)
