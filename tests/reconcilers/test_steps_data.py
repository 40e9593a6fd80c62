"""Data, before any compute is spent on it: every fault stops, with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.actions import StartJob
from reconcilers.context import Step, Verdict
from reconcilers.observed import DatasetFact
from reconcilers.records import shared_pictures
from specs.records import DatasetManifest
from specs.status import ConditionType, Reason
from specs.workorders import TrainOrder
from tests.support.builders import (
    GOLDEN,
    TRAIN,
    Lab,
    Stage,
    digest,
    manifest,
    observed,
    spec,
    started,
)  # fmt: skip
from tests.support.data_stages import AWAY, BARE, unknown


def the(stage: Stage, type_: ConditionType) -> Step:
    """Give one step's answer."""
    step = stage.plan.step(type_)
    assert step is not None, [s.type for s in stage.plan.steps]
    return step


def with_data(train: DatasetManifest = TRAIN, golden: DatasetManifest = GOLDEN, **expect: Any) -> Stage:
    """Give a spec with those data sets, and a world that has them."""
    changes: dict[str, Any] = {
        "data__train__uri__digest": train.digest(), "data__golden__uri__digest": golden.digest(),
    }  # fmt: skip
    if expect:
        changes["data__expect"] = expect
    world = observed(
        train=DatasetFact(train.digest(), train), golden=DatasetFact(golden.digest(), golden),
        shared_pictures=shared_pictures(train, golden),
    )  # fmt: skip
    return Stage(spec(**changes), world, Lab())


def missing(reason: Reason) -> DatasetFact:
    """Give a data set that cannot be used."""
    return DatasetFact(digest("gone"), reason=reason, message="it is not as it should be")


LEAKY = GOLDEN.model_copy(update={"files": [*GOLDEN.files, TRAIN.files[0]]})
DATA_FAULTS = [
    (Stage(spec(data__train__uri__digest=None), observed(), Lab()), Reason.DATA_NOT_PINNED,
     "spec.data.train.uri.digest is missing", "train not pinned"),
    (Stage(spec(data__golden__uri__digest=None), observed(), Lab()), Reason.DATA_NOT_PINNED,
     "spec.data.golden.uri.digest is missing", "golden not pinned"),
    (Stage(spec(data__train=BARE), observed(train=None), Lab()), Reason.DATA_NOT_PINNED,
     "spec.data.train.dvc has no digest, and nobody here can be asked", "bare, nobody to ask"),
    (Stage(spec(data__train=BARE), observed(train=None, troubles=unknown(Reason.DATA_MISSING, passing=False)), Lab()),
     Reason.DATA_MISSING, f"spec.data.train: {AWAY}", "bare, no such thing"),
    (Stage(spec(), observed(train=missing(Reason.DATA_MISSING)), Lab()), Reason.DATA_MISSING,
     "spec.data.train: it is not", "train missing"),
    (Stage(spec(), observed(golden=missing(Reason.DATA_CORRUPT)), Lab()), Reason.DATA_CORRUPT,
     "spec.data.golden: it is not", "golden corrupt"),
    (with_data(manifest("train", task="detect")), Reason.DATA_UNEXPECTED, "for detect, but spec.task is classify",
     "task"),
    (with_data(minImages=21), Reason.DATA_UNEXPECTED, "20 images, at least 21 expected", "too few images"),
    (with_data(classes=["milk", "beer"]), Reason.DATA_UNEXPECTED, "unexpected ['bread'], missing ['beer']", "classes"),
    (with_data(manifest("train", 21), maxClassImbalance=1), Reason.DATA_UNEXPECTED,
     "largest class 11, smallest 10: over 1 to 1", "imbalance"),
    (with_data(manifest("train", class_counts={"milk": 20}), maxClassImbalance=20), Reason.DATA_UNEXPECTED,
     "smallest 0", "class without a picture"),
    (with_data(golden=manifest("golden", 10, ["bread", "milk"])), Reason.DATA_UNEXPECTED, "in order",
     "order of classes"),
    (with_data(golden=LEAKY), Reason.DATA_LEAKAGE,
     "1 golden images are also in the training data, for instance milk/0.png", "leakage"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "reason", "text"), [pytest.param(*case[:3], id=case[3]) for case in DATA_FAULTS])
def test_data_fault_stops_before_any_compute(stage: Stage, reason: Reason, text: str) -> None:
    """Data that is not as it must be stops the line with its reason, and no job starts."""
    step = the(stage, ConditionType.DATA_READY)
    assert (step.verdict, step.reason) == (Verdict.STOP, reason)
    assert text in step.message
    assert started(stage.plan) == []


@pytest.mark.parametrize(
    "stage",
    [with_data(), with_data(minImages=20, classes=["bread", "milk"], maxClassImbalance=1)],
    ids=["nothing expected", "expectations met exactly"],
)
def test_good_data_trains(stage: Stage) -> None:
    """Data that is as it must be leads to the training of the inputs."""
    assert the(stage, ConditionType.DATA_READY).verdict is Verdict.DONE
    (action,) = stage.plan.actions
    assert isinstance(action, StartJob)
    assert isinstance(action.order, TrainOrder)
    assert action.order.inputs_digest == stage.spec.inputs_digest


def test_every_fault_of_the_expectations_is_told() -> None:
    """A person learns all that is wrong at once, not one thing after the other."""
    message = the(with_data(minImages=99, classes=["beer"], maxClassImbalance=1), ConditionType.DATA_READY).message
    assert "99 expected" in message
    assert "missing ['beer']" in message
