"""What is measured of exports: bounded by gates, shown in pull requests, and said where it could not be measured."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.context import Step, Verdict
from specs.exports import Gate
from specs.records import ExportRecord
from specs.status import ConditionType, Reason
from tests.support.builders import TOP1, Stage, candidate_ready, proposed, spec

TAKEN = {"artifact/bytes": 1.5e6, "memory/peak_bytes": 9e7, "memory/added_bytes": 3.1e7, "latency/p99_ms": 4.25}


def measured(*, gates: list[dict[str, Any]], loses: float = 0.0, **changes: Any) -> Stage:
    """Give a candidate whose export takes so much, and loses so much against its weights."""
    stage = candidate_ready(gates=gates)
    exports = {
        key: record.model_copy(update={"metrics": record.metrics | TAKEN} | changes)
        for key, record in stage.world.exports.items()
    }
    evaluations = {
        key: record.model_copy(update={"values": {TOP1: record.values[TOP1] - loses}}) if _is_export(exports, key[0])
        else record
        for key, record in stage.world.evaluations.items()
    }  # fmt: skip
    return stage.but(exports=exports, evaluations=evaluations)


def _is_export(exports: dict[tuple[str, str], ExportRecord], subject: str) -> bool:
    return subject in {record.file for record in exports.values()}


def judged(stage: Stage) -> Step:
    """Give what the plan says about gates."""
    step = stage.plan.step(ConditionType.GATES_PASSED)
    assert step is not None
    return step


BOUNDS = [
    ("memory/peak_bytes", 1e8, True), ("memory/peak_bytes", 8e7, False), ("memory/added_bytes", 3e7, False),
    ("artifact/bytes", 1e6, False), ("latency/p99_ms", 4, False), ("parity/drop", 0.1, True),
    ("parity/drop", 0.01, False),
]  # fmt: skip


@pytest.mark.parametrize(("metric", "most", "passes"), BOUNDS)
def test_gates_bound_each_export(metric: str, most: float, passes: bool) -> None:  # noqa: FBT001  as the table has it
    """Size, memory, latency and what is lost are judged like any metric."""
    step = judged(measured(gates=[{"name": "g", "export": "onnx", "metric": metric, "max": most}], loses=0.05))
    assert step.verdict is (Verdict.DONE if passes else Verdict.STOP)
    assert passes or f"g: {metric} of export onnx" in step.message


def test_only_exports_have_them() -> None:
    """Where the gate names no export, the sentence says so."""
    step = judged(measured(gates=[{"name": "g", "metric": "memory/peak_bytes", "max": 1}]))
    assert step.message == "g: memory/peak_bytes was not measured; only exports have it; name one (export)"


@pytest.mark.parametrize(
    ("metric", "golden"), [("memory/peak_bytes", False), ("artifact/bytes", False), ("parity/drop", True), (TOP1, True)]
)
def test_golden_is_needed_for_what_it_tells(metric: str, golden: bool) -> None:  # noqa: FBT001  as the table has it
    """Losses are told by golden alone; what an export takes is known without it."""
    assert Gate(name="g", metric=metric, max=1, export="onnx").needs_golden is golden


def test_pull_request_shows_what_an_export_takes() -> None:
    """Latency to p99, memory, what of it is the export's own, and what it loses."""
    stage = measured(gates=[], loses=0.05)
    body = proposed(stage.spec, stage.world).body
    assert "| onnx | onnx | 1.50 MB | 1.5 | 2.5 | 4.25 | 90.0 MB | 31.0 MB | +0.05 |" in body


def test_export_that_cannot_run_here_is_not_measured_again() -> None:
    """No job is sent to try; where parity is asked for, the reason is the answer, and the pull request has it."""
    why = "it runs on Rockchip boards"
    given = spec(exports=[{"name": "onnx", "format": "onnx", "parity": {"maxDrop": 0.1}}])
    stage = measured(gates=[], unmeasured=why)
    files = {record.file for record in stage.world.exports.values()}
    kept = {key: record for key, record in stage.world.evaluations.items() if key[0] not in files}
    stage = stage.but(evaluations=kept)
    assert f"`onnx` could not be run where it was made: {why}." in proposed(stage.spec, stage.world).body
    asked = Stage(given, stage.world, stage.lab)
    assert judged(asked).reason is Reason.PARITY_FAILED
    assert judged(asked).message == f"export onnx: parity was not measured; {why}"
