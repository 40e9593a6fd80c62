"""Jobs whose records are not there yet: start, wait, try again, give up."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.context import Verdict
from reconcilers.jobs import placement_of
from specs.facts import JobPhase, JobState
from specs.status import ConditionType, Reason
from specs.workorders import (
    AnyOrder,
    CompareOrder,
    DiffOrder,
    EvaluateOrder,
    ImportOrder,
    TrainOrder,
    ValidateOrder,
)  # fmt: skip
from tests.support.builders import NOW, Lab, decide, digest, observed, spec, started

GIVEN = spec()
(JOB,) = [action.order.job for action in decide(GIVEN, observed()).actions]  # type: ignore[union-attr]


def state(phase: JobPhase, **values: object) -> JobState:
    """Give the training's state."""
    return JobState(JOB, phase, **values)  # type: ignore[arg-type]


ENDED = JobPhase.ENDED
CASES = [
    pytest.param(None, 1, Verdict.WAIT, Reason.TRAINING, 0.0, "is working", id="never started"),
    pytest.param(state(JobPhase.RUNNING), 0, Verdict.WAIT, Reason.TRAINING, 0.0, "is working", id="runs"),
    pytest.param(state(JobPhase.QUEUED), 0, Verdict.WAIT, Reason.QUEUED, 0.0, "waits for room", id="queued"),
    pytest.param(
        state(JobPhase.QUEUED, message="waits until Kueue's queue gpus admits it"), 0, Verdict.WAIT, Reason.QUEUED, 0.0,
        ": waits until Kueue's queue gpus admits it", id="queued, and says for what",
    ),
    pytest.param(
        state(JobPhase.RUNNING, reason="ImageUnavailable", message="its image x cannot be pulled"), 0, Verdict.WAIT,
        Reason.TRAINING, 0.0, ": its image x cannot be pulled", id="runs, but something is in its way",
    ),
    pytest.param(
        state(ENDED, exit_code=1, ended=NOW - 1, reason="Error"), 0, Verdict.WAIT, Reason.TRAINING, 4.0,
        "attempt 1 ended (Error); trying again", id="failed once, in its pause",
    ),
    pytest.param(
        state(ENDED, exit_code=1, ended=NOW - 5), 1, Verdict.WAIT, Reason.TRAINING, 0.0, "", id="pause is over"
    ),
    pytest.param(
        state(ENDED, exit_code=1, ended=NOW - 5, attempts=2), 0, Verdict.WAIT, Reason.TRAINING, 15.0, "",
        id="second pause is four times as long",
    ),
    pytest.param(state(ENDED, ended=0.0), 1, Verdict.WAIT, Reason.TRAINING, 0.0, "", id="lost, end unknown"),
    pytest.param(
        state(ENDED, exit_code=0, ended=NOW - 60), 1, Verdict.WAIT, Reason.TRAINING, 0.0, "",
        id="went well, but its record is not there",
    ),
    pytest.param(
        state(ENDED, exit_code=-9, ended=NOW - 900, attempts=3, reason="Killed", message="no memory"), 0, Verdict.STOP,
        Reason.JOB_FAILED, 0.0, "failed 3 times, last: Killed: no memory", id="failed too often",
    ),
    pytest.param(
        state(ENDED, exit_code=10, ended=NOW - 900), 0, Verdict.STOP, Reason.JOB_FAILED, 0.0,
        "failed once, last: Error: no output", id="says it can never work",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("found", "starts", "verdict", "reason", "after", "text"), CASES)
def test_training_by_state(
    found: JobState | None, starts: int, verdict: Verdict, reason: Reason, after: float, text: str
) -> None:
    """What follows from the state of a job whose record is missing."""
    decided = decide(GIVEN, observed(jobs={JOB: found} if found else {}))
    step = decided.step(ConditionType.TRAINED)
    assert step is not None
    assert (step.verdict, step.reason) == (verdict, reason)
    assert step.after == pytest.approx(after)
    assert decided.after == pytest.approx(after)
    assert text in step.message
    assert started(decided) == ["train"] * starts


def test_record_outweighs_every_state_of_its_job() -> None:
    """Where the record is there, it does not matter what became of the process that wrote it."""
    lab = Lab()
    lab.do(decide(GIVEN, observed()).actions[0].order)  # type: ignore[union-attr]
    lost = state(ENDED, exit_code=1, attempts=3)
    step = decide(GIVEN, observed(lab, jobs={JOB: lost})).step(ConditionType.TRAINED)
    assert step is not None
    assert step.verdict is Verdict.DONE


def test_jobs_of_one_step_start_together_and_the_shortest_pause_counts() -> None:
    """Independent orders do not wait for each other, and looking again is useful when the first of them may start."""
    given = spec(exports=[{"name": name, "format": name} for name in ("onnx", "ncnn", "mnn")])
    lab = Lab()
    for _ in range(2):
        for action in decide(given, observed(lab)).actions:
            lab.do(action.order)  # type: ignore[union-attr]
    decided = decide(given, observed(lab))
    assert started(decided) == ["export"] * 3
    names = [action.order.job for action in decided.actions]  # type: ignore[union-attr]
    jobs = {
        names[0]: JobState(names[0], ENDED, 2, exit_code=1, ended=NOW - 1),
        names[1]: JobState(names[1], ENDED, 1, exit_code=1, ended=NOW - 2),
    }
    again = decide(given, observed(lab, jobs=jobs))
    assert started(again) == ["export"]
    assert again.after == pytest.approx(3.0)


def test_message_of_a_lost_job_says_what_to_do() -> None:
    """A person who reads the status knows which log to read, and how to try again."""
    lost = state(ENDED, exit_code=1, attempts=3, reason="OutOfMemory", message="killed")
    step = decide(GIVEN, observed(jobs={JOB: lost})).step(ConditionType.TRAINED)
    assert step is not None
    assert f"`trunkline logs {JOB}`" in step.message
    assert f"`trunkline retry {JOB}`" in step.message


@pytest.mark.parametrize(
    ("kind", "accelerated"),
    [("import", False), ("validate", False), ("diff", False), ("compare", False), ("train", True), ("evaluate", True)],
)
def test_work_that_needs_no_accelerator_gets_none(kind: str, accelerated: bool) -> None:  # noqa: FBT001
    """What fetches, looks and compares runs on any node, without limits; the queue admits it like all the rest."""
    training = {"resources": {"limits": {"nvidia.com/gpu": "1"}}, "nodeSelector": {"gpu": "l4"}, "queueName": "team"}
    given = spec(training={"model": "yolo26n-cls.yaml", **training})
    some: dict[str, Any] = {"model": "a/b", "commit": "c", "task": "classify"}
    one, two = digest("one"), digest("two")
    orders: dict[str, AnyOrder] = {
        "import": ImportOrder(**some, source={"uri": {"url": "s3://b/x"}}),
        "validate": ValidateOrder(**some, train=one),
        "diff": DiffOrder(**some, before=one, after=two),
        "compare": CompareOrder(**some, subject=one, baseline=two, golden=one),
        "train": TrainOrder(model="a/b", commit="c", inputs_digest=one, inputs={}),
        "evaluate": EvaluateOrder(**some, subject=one, format="pt", golden=two),
    }
    placed = placement_of(given, orders[kind])
    assert placed.queue == "team"
    assert (dict(placed.limits), dict(placed.node_selector)) == (
        ({"nvidia.com/gpu": "1"}, {"gpu": "l4"}) if accelerated else ({}, {})
    )


def test_only_trainings_are_train_jobs() -> None:
    """The backend is that of trainings; what is measured and exported stays a Job. Without a word it is one as well."""
    training = {"model": "yolo26n-cls.yaml", "backend": "TrainJob", "trainJob": {"numNodes": 2}}
    train = TrainOrder(model="a/b", commit="c", inputs_digest=digest("one"), inputs={})
    measure = EvaluateOrder(model="a/b", commit="c", subject=digest("one"), format="pt", task="classify",
                            golden=digest("two"))  # fmt: skip
    placed = placement_of(spec(training=training), train).train_job
    assert placed is not None
    assert placed.num_nodes == 2
    assert placement_of(spec(training=training), measure).train_job is None
    assert placement_of(spec(training=training | {"trainJob": None}), train).train_job is not None
    assert placement_of(spec(training=training | {"backend": "Job"}), train).train_job is None
