"""Models whose spec asks for a search, in the states that it goes through."""

from __future__ import annotations

from typing import Any, Literal

from reconcilers import orders
from specs.experiment_records import TuningRecord
from specs.workorders import TuneOrder
from tests.support.builders import TOP1, Stage, context, searched, settled

TUNING: dict[str, Any] = {
    "objective": {"type": "maximize", "metric": TOP1}, "maxTrialCount": 3,
    "parameters": [{"name": "lr0", "type": "double", "min": 0.001, "max": 0.1, "scale": "log"}],
}  # fmt: skip


def order_of(stage: Stage) -> TuneOrder:
    """Give the search that a stage asks for."""
    (order,) = orders.tuning(context(stage.spec, stage.but(tuning=None).world))
    assert isinstance(order, TuneOrder)
    return order


def answered(
    stage: Stage, *, better: bool = True, status: Literal["Succeeded", "Failed"] = "Succeeded"
) -> tuple[Stage, TuningRecord]:
    """Give the stage after its search, and what that found."""
    record = searched(order_of(stage), better=better, status=status)
    return stage.but(tuning=record), record


def tuned(*, better: bool = True, status: Literal["Succeeded", "Failed"] = "Succeeded", **changes: Any) -> Stage:
    """Give a model that serves, after its search."""
    return answered(settled(**{"tuning": TUNING, **changes}), better=better, status=status)[0]


def searching(**changes: Any) -> Stage:
    """Give a model that serves, before its search."""
    return settled(**{"tuning": TUNING, **changes}).but(tuning=None)
