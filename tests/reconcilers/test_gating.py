"""Gates: every kind of bound, on both sides, and what was not measured."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.gating import Measured, judge, shown
from specs.exports import Gate
from specs.records import ComparisonRecord, Difference, EvaluationRecord
from tests.support.builders import TOP1, digest

EVALUATION = EvaluationRecord(
    subject=digest("w"), golden=digest("g"), n=100, per_image=digest("i"), values={TOP1: 0.95, "loss": 0.2},
    intervals={TOP1: {"0.95": (0.92, 0.97)}, "loss": {"0.95": (0.1, 0.3)}},
    per_class={"milk": {TOP1: 0.8}},
)  # fmt: skip
COMPARISON = ComparisonRecord(
    subject=digest("w"), baseline=digest("c"), golden=digest("g"), n=100,
    differences={TOP1: Difference(delta=-0.004, intervals={"0.95": (-0.02, 0.01)})},
    per_class={"milk": {TOP1: Difference(delta=0.1, intervals={"0.95": (0.05, 0.2)})}},
)  # fmt: skip
MEASURED = Measured(EVALUATION, COMPARISON, {"latency/p95_ms": 12.5})


def gate(**values: Any) -> Gate:
    """Give a gate on the main metric."""
    return Gate.model_validate({"name": "g", "metric": TOP1, **values}, by_alias=True)


CASES = [
    ({"min": 0.95}, True, 0.95, "0.95 >= 0.95", "min, met exactly"),
    ({"min": 0.951}, False, 0.95, "metrics/accuracy_top1 0.95 is below 0.951", "min, missed"),
    ({"max": 0.95}, True, 0.95, "<=", "max, met exactly"),
    ({"max": 0.94}, False, 0.95, "is above 0.94", "max, missed"),
    ({"metric": "loss", "max": 0}, False, 0.2, "is above 0", "max of zero is a bound"),
    ({"min": 0.92, "confidence": 0.95}, True, 0.92, "safe side at 0.95", "min on the interval's lower end, met"),
    ({"min": 0.93, "confidence": 0.95}, False, 0.92, "is below", "min on the interval's lower end, missed"),
    ({"metric": "loss", "max": 0.25, "confidence": 0.95}, False, 0.3, "is above", "max on the interval's upper end"),
    ({"min": 0.5, "confidence": 0.99}, False, None, "with an interval", "level that was not measured"),
    ({"min": 0.8, "class": "milk"}, True, 0.8, "of class milk", "class, met"),
    ({"min": 0.9, "class": "milk"}, False, 0.8, "is below 0.9", "class, missed though all classes pass"),
    ({"min": 0.1, "class": "beer"}, False, None, "measured: nothing", "class that is not there"),
    ({"min": 0.1, "class": "milk", "confidence": 0.95}, False, None, "remove class or confidence", "class and level"),
    ({"metric": "latency/p95_ms", "max": 20, "export": "onnx"}, True, 12.5, "of export onnx", "latency, met"),
    ({"metric": "latency/p95_ms", "max": 10, "export": "onnx"}, False, 12.5, "is above 10", "latency, missed"),
    ({"metric": "latency/p95_ms", "max": 20, "confidence": 0.95}, False, None, "not measured", "level of a latency"),
    ({"metric": "mAP", "min": 0.1}, False, None, f"measured: latency/p95_ms, loss, {TOP1}", "unknown metric"),
    ({"maxRegression": 0.005}, True, -0.004, "no worse than -0.005", "regression within bounds"),
    ({"maxRegression": 0.003}, False, -0.004, "worse than -0.003", "regression beyond bounds"),
    ({"maxRegression": 0.005, "confidence": 0.95}, False, -0.02, "-0.02, worse than", "regression, safe side, missed"),
    ({"maxRegression": 0.02, "confidence": 0.95}, True, -0.02, "no worse", "regression, safe side, met"),
    ({"maxRegression": 0.5, "confidence": 0.8}, False, None, "was not compared", "regression, level not measured"),
    ({"maxRegression": 0, "class": "milk", "confidence": 0.95}, True, 0.05, "+0.05", "regression of a class"),
    ({"maxRegression": 0, "class": "beer"}, False, None, "was not compared", "regression of an unknown class"),
    ({"metric": "mAP", "maxRegression": 0}, False, None, "was not compared", "regression of an unknown metric"),
]


@pytest.mark.parametrize(
    ("values", "passed", "value", "text"), [pytest.param(*case[:4], id=case[4]) for case in CASES]
)
def test_gate(values: dict[str, Any], *, passed: bool, value: float | None, text: str) -> None:
    """A bound is judged on the number, the interval's safe side or the class it names, and says what it found."""
    result = judge(gate(**values), MEASURED, has_champion=True)
    assert (result.passed, result.value) == (passed, value)
    assert text in result.text


@pytest.mark.parametrize("values", [{"min": 0.1}, {"max": 5}, {"maxRegression": 1}], ids=["min", "max", "regression"])
def test_nothing_measured_fails(values: dict[str, Any]) -> None:
    """What was not measured is not good enough."""
    result = judge(gate(**values), Measured(), has_champion=True)
    assert (result.passed, result.value) == (False, None)


def test_regression_without_champion_passes() -> None:
    """The first release cannot be worse than the one before it."""
    result = judge(gate(maxRegression=0), Measured(EVALUATION), has_champion=False)
    assert result.passed
    assert "no other weights" in result.text


@pytest.mark.parametrize(
    ("value", "bound", "text"),
    [(0.9499999, 0.95, "0.9499999"), (0.95, 0.95, "0.95"), (0.123456, 0.95, "0.1235")],
    ids=["nearly the bound", "the bound", "far from it"],
)
def test_number_that_misses_a_bound_never_looks_like_it(value: float, bound: float, text: str) -> None:
    """Nobody is told that 0.95 is below 0.95."""
    assert shown(value, bound) == text
