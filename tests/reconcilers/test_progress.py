"""How far jobs are: what is believed of what they report, and when a status says something new."""

from __future__ import annotations

import json

import pytest

from reconcilers.progress import reported, shown, told
from specs.facts import JobPhase, JobState
from specs.records import Progress, progress_key
from tests.support.fakes import FakeStore

JOB = "train-digits-0123456789ab"
RUNNING = JobState(JOB, JobPhase.RUNNING, started=1_767_258_000.7)
SAID = Progress(
    job=JOB, phase="training", epoch=12, epochs=100, eta_seconds=247.3, updated="2026-01-01T09:00:00+00:00",
    metrics={"train/loss": 0.123456, "metrics/accuracy_top1": 0.9, "metrics/accuracy_top5": 1.0, "val/loss": 0.1},
)  # fmt: skip
NO_EPOCHS = {"epoch": 0, "epochs": 0, "eta_seconds": None}


def spoilt(**changes: object) -> bytes:
    """What a job said, with values that no job of ours would write."""
    return json.dumps({**json.loads(SAID.encode()), **changes}).encode()


def store_with(text: bytes) -> FakeStore:
    """A store in which the job's progress is ``text``."""
    store = FakeStore()
    store.records[progress_key(JOB)] = text
    return store


def test_only_running_jobs_are_asked() -> None:
    """What a job said last stays in the store when it ends; it is no news then."""
    store = store_with(SAID.encode())
    assert reported(store, [RUNNING]) == {JOB: SAID}
    for phase in (JobPhase.QUEUED, JobPhase.ENDED):
        assert reported(store, [JobState(JOB, phase)]) == {}
    assert reported(FakeStore(), [RUNNING]) == {}


def test_an_earlier_attempt_says_nothing_about_this_one() -> None:
    """A killed attempt at epoch 90 must not make the next one look nearly done."""
    late = JobState(JOB, JobPhase.RUNNING, started=RUNNING.started + 1)
    assert reported(store_with(SAID.encode()), [late]) == {}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"job": "x", "epoch": "many"}', id="no number"),
        pytest.param(spoilt(epoch=10**400), id="no number of an API"),
        pytest.param(spoilt(eta_seconds=float("inf")), id="never"),
        pytest.param(spoilt(eta_seconds=-1.0), id="in the past"),
    ],
)
def test_what_is_no_progress_is_none(text: bytes) -> None:
    """Whatever lies there, the pass goes on and the status stays sound."""
    assert reported(store_with(text), [RUNNING]) == {}


def test_what_cannot_be_shown_is_left_out() -> None:
    """Words that steer terminals, numbers that JSON does not have, and names without end."""
    bad = {"metrics/\x1b[2J": 1.0, "metrics/nan": float("nan"), "m" * 500: 1.0, "metrics/fine": 0.5}
    found = reported(store_with(spoilt(phase="\x1b[31mred", metrics=bad)), [RUNNING])[JOB]
    assert (found.phase, found.metrics) == ("", {"metrics/fine": 0.5})


def test_the_metric_that_matters_comes_first() -> None:
    """Three at most, of four digits, the task's own before others."""
    found = shown(JOB, SAID, "classify")
    assert list(found.metrics) == ["metrics/accuracy_top1", "metrics/accuracy_top5", "train/loss"]
    assert found.metrics["train/loss"] == 0.1235


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "training 12/100 epochs, 4 min left"),
        ({"phase": "validating"}, "training 12/100 epochs, 4 min left"),
        ({"eta_seconds": 4.2}, "training 12/100 epochs, 10 s left"),
        ({"eta_seconds": 5400.0}, "training 12/100 epochs, 1 h 30 min left"),
        ({"eta_seconds": None}, "training 12/100 epochs"),
        ({"phase": "finishing", "epoch": 100, "eta_seconds": 0.0}, "finishing 100/100 epochs"),
        ({**NO_EPOCHS, "phase": "fetching data"}, "fetching data"),
        ({**NO_EPOCHS, "phase": "fetching", "done": 33, "total": 100}, "fetching 30 %"),
    ],
)
def test_one_sentence_says_it(changes: dict[str, object], text: str) -> None:
    """Phase, epoch, and the time left, no finer than anybody knows it."""
    assert shown(JOB, SAID.model_copy(update=changes)).text == text


def test_a_status_says_a_new_epoch_now_and_then() -> None:
    """A fiftieth of the way is news; a second epoch of a hundred, or another second, is none."""
    status = told({JOB: SAID}, "classify", [])
    near = SAID.model_copy(update={"epoch": 13, "eta_seconds": 200.0, "phase": "validating"})
    assert told({JOB: near}, "classify", status) == status
    far = SAID.model_copy(update={"epoch": 14})
    (new,) = told({JOB: far}, "classify", status)
    assert new.epoch == 14
    again = SAID.model_copy(update={"epoch": 0})
    assert told({JOB: again}, "classify", status)[0].epoch == 0


def test_a_whole_training_is_told_fifty_times_at_most() -> None:
    """However many epochs, phases and seconds: every write of a status goes to the cluster's own database."""
    status, writes = told({}, "classify", []), 0
    for epoch in range(1001):
        for phase in ("training", "validating"):
            changes = {"epoch": epoch, "epochs": 1000, "phase": phase, "eta_seconds": 1000.0 - epoch}
            new = told({JOB: SAID.model_copy(update=changes)}, "classify", status)
            writes += new != status
            status = new
    assert 40 <= writes <= 51


def test_what_does_not_run_is_not_told() -> None:
    """When a job ends, nothing about it stays."""
    assert told({}, "classify", told({JOB: SAID}, "classify", [])) == []
