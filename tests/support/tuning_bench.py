"""A place to search in with pretended trials: a store, a script for the trials, and what they left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.store import Store
from specs.digests import digest_of
from specs.experiment_records import TrialRecord, TuningRecord, trial_key, tuning_key
from specs.training import Tuning
from specs.workorders import TuneOrder
from tests.support.living import alive_with
from tests.support.orders import ROOT, WHO
from tests.support.tiny_trial import METRIC
from workloads.progress import Reporter
from workloads.tuning import Search

COMMAND = (sys.executable, "-I", str(Path(__file__).with_name("tiny_trial.py")))
SCRIPT = "TINY_TRIALS"
LR0: dict[str, Any] = {"name": "lr0", "type": "double", "min": 0.0001, "max": 0.1, "scale": "log"}


def tuning(**changes: Any) -> Tuning:
    """Give a search for a learning rate, four trials."""
    base = {"objective": {"type": "maximize", "metric": METRIC}, "parameters": [LR0], "maxTrialCount": 4}
    return Tuning.model_validate(base | changes, by_alias=True, by_name=False)


@dataclass
class Workshop:
    """Where a search is worked on."""

    folder: Path
    order: TuneOrder
    clock: Callable[[], float] = field(default=lambda: 1000.0)
    attempts: int = 0

    @property
    def store(self) -> Store:
        """The store."""
        return Store(str(self.folder / "store"))

    @property
    def command(self) -> tuple[str, ...]:
        """What a trial runs."""
        return ("env", f"{SCRIPT}={self.folder}/script", *COMMAND)

    def trials_alive(self) -> list[int]:
        """Give the process numbers of trials that live."""
        return alive_with(SCRIPT, f"{self.folder}/script")

    def go_on(self, store: Store | None = None) -> TuningRecord:
        """Do an attempt in this process; give the answer."""
        store = store or self.store
        self.attempts += 1
        scratch = self.folder / f"scratch-{self.attempts}"
        scratch.mkdir()
        with Reporter(store, self.order.job) as reporter:
            search = Search(self.order, store, scratch, reporter, command=self.command, clock=self.clock)
            record = search.result(search.go_on())
        assert list(scratch.iterdir()) == []
        store.create(tuning_key(self.order.tuning_digest), record.encode())
        return record

    def start(self) -> subprocess.Popen[bytes]:
        """Do an attempt in a process of its own."""
        (self.folder / "order.json").write_bytes(self.order.encode())
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TRUNKLINE_SCRATCH": str(self.folder / "scratch"),
            SCRIPT: f"{self.folder}/script",
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.support.tuning_process", "--store", self.store.url]
        return subprocess.Popen([*command, "--order", str(self.folder / "order.json")], env=environment)

    def began(self) -> Counter[int]:
        """Count how often each trial was started."""
        path = self.folder / "began"
        return Counter(map(int, path.read_text().split())) if path.exists() else Counter()

    def over(self, number: int) -> TrialRecord | None:
        """Give a trial's record."""
        text = self.store.read(trial_key(self.order.tuning_digest, number))
        return TrialRecord.decode(text) if text else None


def workshop(folder: Path, script: dict[str, Any] | None = None, **changes: Any) -> Workshop:
    """Make one; ``script`` tells the trials what happens to them, see ``tiny_trial``."""
    (folder / "script").write_text(json.dumps(script or {}))
    inputs = {"v": 1, "task": "classify", "data": digest_of("data"), "model": {"name": "m"}, "args": {}, "nonce": ""}
    order = TuneOrder(**WHO, tuning_digest=digest_of("search"), inputs=inputs, tuning=tuning(**changes))
    return Workshop(folder, order)
