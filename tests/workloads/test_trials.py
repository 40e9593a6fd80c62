"""Trials for real: Ultralytics trains them, in processes of their own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from specs.digests import digest_of
from specs.experiment_records import TrialRecord, TuningRecord, trial_key, tuning_key
from specs.training import Tuning
from specs.workorders import TuneOrder
from tests.support.orders import ROOT, WHO, Bench, bench
from workloads.arguments import check_tuning
from workloads.errors import Hopeless
from workloads.trials import Listener

TOP1 = "metrics/accuracy_top1"
LR0: dict[str, Any] = {"name": "lr0", "type": "double", "min": 0.001, "max": 0.01, "scale": "log"}


def tuning(*parameters: dict[str, Any], **changes: Any) -> Tuning:
    """Give a search."""
    searched = list(parameters or [LR0])
    base = {"objective": {"type": "maximize", "metric": TOP1}, "parameters": searched, "maxTrialCount": 3}
    return Tuning.model_validate(base | changes, by_alias=True, by_name=False)


def order(place: Bench, wanted: Tuning, **args: Any) -> TuneOrder:
    """Order a search from a training of one epoch."""
    return TuneOrder(**WHO, tuning_digest=digest_of("real"), inputs=place.train(**args).inputs, tuning=wanted)


@pytest.mark.ml
def test_a_search_trains_and_answers(tmp_path: Path) -> None:
    """Two trials at once on the training data; every record has the trial's course, and nothing stays behind.

    What trials are given beside the searched arguments holds for them alone.
    """
    place = bench(tmp_path, "classify", count=16)
    wanted = order(place, tuning(parallelTrialCount=2, trialArgs={"epochs": 1}), optimizer="AdamW", epochs=50)
    finished = place.run(wanted)
    assert finished.code == 0, finished.log[-3000:]
    text = place.store.read(tuning_key(wanted.tuning_digest))
    assert text is not None
    record = TuningRecord.decode(text)
    assert (record.status, record.stopped_by) == ("Succeeded", "TrialCount")
    assert record.baseline is not None
    assert record.baseline.args == {"lr0": 0.01}  # the trainer's default
    assert [trial.status for trial in record.trials] == ["Succeeded"] * 3
    assert record.environment is not None
    assert record.environment.packages["ultralytics"]
    kept = TrialRecord.decode(place.store.read(trial_key(wanted.tuning_digest, 1)) or b"")
    assert [epoch.epoch for epoch in kept.epochs] == [1]
    assert 0 <= (kept.value or -1) <= 1
    assert list(place.scratch.iterdir()) == []


class _Deaf:
    """A wire to nobody."""


def test_a_metric_that_nobody_measures_is_named() -> None:
    """It would fail every trial, so the whole search is hopeless; the message has the names that there are."""
    listener = Listener(_Deaf(), "metrics/mAP50(B)")  # type: ignore[arg-type]
    with pytest.raises(Hopeless, match="there are metrics/accuracy_top1, val/loss") as caught:
        listener.checked({TOP1: 0.5, "val/loss": 1.0})
    assert caught.value.reason == "UnknownMetric"


def test_an_objective_that_is_no_number_is_a_divergence() -> None:
    """That is the trial's own trouble: other values may not share it."""
    listener = Listener(_Deaf(), "val/loss")  # type: ignore[arg-type]
    assert listener.checked({TOP1: math.inf, "val/loss": 1.0}) == {"val/loss": 1.0}
    with pytest.raises(Hopeless) as caught:
        listener.checked({TOP1: 0.5, "val/loss": math.nan})
    assert caught.value.reason == "Diverged"


ARGS: dict[str, Any] = {"epochs": 1, "optimizer": "AdamW"}


@pytest.mark.parametrize(
    ("args", "wanted", "words"),
    [
        (ARGS, tuning({**LR0, "name": "momentun"}), "did you mean momentum"),
        (ARGS, tuning({"name": "fraction", "type": "double", "min": 0.5, "max": 7.0}), "fraction"),
        (ARGS, tuning({"name": "cos_lr", "type": "categorical", "values": [True, "maybe"]}), "cos_lr"),
        ({"epochs": 1}, tuning(), "lr0: Ultralytics ignores it while optimizer is auto"),
        (ARGS, tuning(LR0, {"name": "optimizer", "type": "categorical", "values": ["auto", "SGD"]}), "lr0: Ultral"),
        ({**ARGS, "epoch": 1}, tuning(), "did you mean epochs"),
    ],
    ids=["unknown", "beyond its range", "wrong kind", "moot", "moot for one value", "base arguments"],
)
def test_a_search_that_cannot_work_is_refused(args: dict[str, Any], wanted: Tuning, words: str) -> None:
    """Before anything is trained, with Ultralytics' own rules, at both ends of each parameter."""
    with pytest.raises(Hopeless, match=words) as caught:
        check_tuning(args, wanted)
    assert caught.value.reason == "InvalidArguments"


def test_what_the_arguments_are_now_is_told() -> None:
    """As given, or as Ultralytics has it by default."""
    momentum = {"name": "momentum", "type": "double", "min": 0.8, "max": 0.95}
    assert check_tuning({**ARGS, "lr0": 0.002}, tuning(LR0, momentum)) == {"lr0": 0.002, "momentum": 0.937}


TALKER = """
import sys, time
from workloads.trial_wire import Event, Wire
wire = Wire.take_over()
print("words of a library")
wire.tell(Event(kind="epoch", epoch=1, metrics={"a": 1.0}))
sys.stderr.write("told\\n")
sys.stderr.flush()
time.sleep(600)
"""


def test_a_trial_ends_with_its_tuning(tmp_path: Path) -> None:
    """When nobody listens any more the process ends at once, whatever it is doing; what libraries print is no event."""
    process = subprocess.Popen(
        [sys.executable, "-c", TALKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline()) == {"kind": "epoch", "epoch": 1, "metrics": {"a": 1.0}}
    process.stdin.write(b"go on\n")
    process.stdin.flush()
    assert process.stderr.readline() == b"words of a library\n"
    assert process.stderr.readline() == b"told\n"
    process.stdin.close()
    assert process.wait(30) == -9
    process.stdout.close()
    process.stderr.close()


FORKING = """
import multiprocessing, sys
from workloads.trial_wire import Event, Wire

Wire.take_over().tell(Event(kind="epoch", epoch=1))  # it was answered: the next answer is being waited for
loader = multiprocessing.get_context("fork").Process(target=int)
loader.start()
loader.join(20)
sys.stderr.write(f"the loader ended with {loader.exitcode}")
loader.kill()
"""


def test_a_trial_may_fork_processes_that_load_data() -> None:
    """On a GPU pictures are read by forked processes, which close standard input as they begin: nobody may hold it."""
    trial = subprocess.Popen(
        [sys.executable, "-c", FORKING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert trial.stdin is not None
    assert trial.stderr is not None
    trial.stdin.write("go on\n")
    trial.stdin.flush()
    assert trial.stderr.read() == "the loader ended with 0"
    trial.kill()
    trial.communicate()
