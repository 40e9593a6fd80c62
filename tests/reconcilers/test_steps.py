"""The production line: what each step says about training, measuring, exporting and gates."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.actions import StartJob
from reconcilers.context import Step, Verdict
from reconcilers.observed import DatasetFact
from specs.records import ExportRecord, RunRecord
from specs.status import ConditionType, Reason
from specs.workorders import CompareOrder, EvaluateOrder, ExportOrder
from tests.support.builders import (
    GOLDEN,
    TOP1,
    Lab,
    Stage,
    candidate_ready,
    decide,
    digest,
    manifest,
    moved_on,
    observed,
    produce,
    settled,
    spec,
    started,
)  # fmt: skip


def the(stage: Stage, type_: ConditionType) -> Step:
    """Give one step's answer."""
    step = stage.plan.step(type_)
    assert step is not None, [s.type for s in stage.plan.steps]
    return step


def test_run_that_failed_for_good_stops_until_inputs_change() -> None:
    """A recorded failure is final for these inputs; another nonce is another run."""
    given = spec()
    failed = RunRecord(
        inputs_digest=given.inputs_digest, inputs=given.inputs(), status="Failed", reason="UnknownArgument",
        message="epoch is not an argument.", model="retail/shelf", commit="c",
    )  # fmt: skip
    stage = Stage(given, observed(runs={given.inputs_digest: failed}), Lab())
    step = the(stage, ConditionType.TRAINED)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.TRAINING_FAILED)
    assert "UnknownArgument: epoch is not an argument." in step.message
    assert started(stage.plan) == []
    assert started(decide(spec(training__nonce="2"), stage.world)) == ["train"]


def test_denied_run_is_neither_trained_nor_proposed() -> None:
    """``spec.release.deny`` stands against training, and against a candidate that is complete."""
    stage = settled()
    denied = {"run": spec(training__args__epochs=5).inputs_digest, "reason": "bad light"}

    def deny(data: dict[str, Any]) -> None:
        data["training"]["args"]["epochs"] = 5
        data["release"]["deny"] = [denied]

    for work in (False, True):
        moved = moved_on(stage, deny, work=work)
        step = the(moved, ConditionType.TRAINED)
        assert (step.verdict, step.reason) == (Verdict.STOP, Reason.DENIED)
        assert "bad light" in step.message
        assert moved.plan.actions == ()


def test_without_golden_nothing_is_measured() -> None:
    """A spec without a golden set goes on to export, and says that nothing is measured."""
    stage = candidate_ready(data__golden=None, gates=[])
    step = the(stage, ConditionType.EVALUATED)
    assert (step.verdict, step.reason) == (Verdict.DONE, Reason.NO_GOLDEN)
    assert the(stage, ConditionType.PROPOSED).reason is Reason.PULL_REQUEST_OPEN


def test_evaluation_missing_measures_candidate_and_champion_then_compares() -> None:
    """Candidate and champion are measured on the golden set of now; their comparison waits for both."""
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=5), work=False)
    lab = Lab(dict(stage.lab.records))
    lab.do(stage.plan.actions[0].order)  # type: ignore[union-attr]
    without = {key: value for key, value in lab.records.items() if not key.startswith("evaluations/")}
    decided = decide(stage.spec, observed(Lab(without), serving=stage.world.serving))
    orders = [action.order for action in decided.actions if isinstance(action, StartJob)]
    assert [type(order) for order in orders] == [EvaluateOrder, EvaluateOrder]
    assert stage.spec.release is not None
    assert [order.subject for order in orders if isinstance(order, EvaluateOrder)] == [
        lab.run_of(digest("weights", stage.spec.inputs_digest)).weights, stage.spec.release.weights,
    ]  # fmt: skip
    for order in orders:
        lab.do(order)
    after = decide(stage.spec, observed(lab, serving=stage.world.serving))
    assert [type(action.order) for action in after.actions if isinstance(action, StartJob)] == [CompareOrder]


def test_only_the_candidate_is_measured_at_the_size_of_the_spec() -> None:
    """A champion and an export know their own size; the spec's may be another by now."""
    stage = candidate_ready(exports=[{"name": "onnx", "format": "onnx", "args": {"imgsz": 64}}])
    records = {key: value for key, value in stage.lab.records.items() if not key.startswith("evaluations/")}
    first = decide(stage.spec, observed(Lab(records)))
    (weights,) = [action.order for action in first.actions if isinstance(action, StartJob)]
    assert isinstance(weights, EvaluateOrder)
    assert weights.image_size == 32
    lab = Lab(records)
    lab.do(weights)
    (export,) = [a.order for a in decide(stage.spec, observed(lab)).actions if isinstance(a, StartJob)]
    assert isinstance(export, EvaluateOrder)
    assert (export.format, export.image_size) == ("onnx", None)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(64, 64), (64.0, 64), ([32, 64], [32, 64]), ("large", None), (True, None), (None, None), ([32, "x"], None)],
    ids=["whole", "whole as a float", "two sides", "text", "yes", "absent", "a side that is none"],
)
def test_any_image_size_can_be_planned(size: Any, wanted: Any) -> None:
    """What is no size is the trainer's to refuse: planning never fails over it."""
    stage = candidate_ready(training__args__imgsz=size)
    assert stage.spec.image_size == wanted
    assert the(stage, ConditionType.PROPOSED).reason is Reason.PULL_REQUEST_OPEN


def test_export_argument_changed_exports_again_and_never_retrains() -> None:
    """Another argument is another export of the same run."""
    stage = moved_on(settled(), lambda data: data["exports"][0].update(args={"dynamic": True}), work=False)
    orders = [action.order for action in stage.plan.actions if isinstance(action, StartJob)]
    assert [type(order) for order in orders] == [ExportOrder]
    assert the(stage, ConditionType.TRAINED).verdict is Verdict.DONE


def test_export_that_failed_for_good_stops() -> None:
    """A recorded failure of an export is final for these arguments, and says so."""
    stage = candidate_ready()
    exports = {
        key: ExportRecord(weights=key[0], export_digest=key[1], format="onnx", args={}, status="Failed",
                          reason="Unsupported", message="opset 3 is too old.")
        for key in stage.world.exports
    }  # fmt: skip
    step = the(stage.but(exports=exports), ConditionType.EXPORTED)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.EXPORT_FAILED)
    assert "export onnx: Unsupported: opset 3 is too old." in step.message


def _lossy(stage: Stage, loss: float) -> Stage:
    """Make the export worse than its weights."""
    (record,) = stage.world.exports.values()
    key = (record.file, GOLDEN.digest())
    worse = stage.world.evaluations[key]  # type: ignore[index]
    worse = worse.model_copy(update={"values": {TOP1: worse.values[TOP1] - loss}})
    return stage.but(evaluations={**stage.world.evaluations, key: worse})


@pytest.mark.parametrize(
    ("loss", "most", "verdict"),
    [(0.0, 0, Verdict.DONE), (0.01, 0.0101, Verdict.DONE), (0.02, 0.0101, Verdict.STOP), (-0.1, 0, Verdict.DONE)],
    ids=["none, none allowed", "some", "more", "a gain"],
)
def test_parity_bounds_the_loss_of_an_export(loss: float, most: float, verdict: Verdict) -> None:
    """An export may be as much worse than its weights as ``parity.maxDrop`` says."""
    exports = [{"name": "onnx", "format": "onnx", "parity": {"maxDrop": most}}]
    step = the(_lossy(candidate_ready(exports=exports), loss), ConditionType.GATES_PASSED)
    assert step.verdict is verdict
    if verdict is Verdict.STOP:
        assert step.reason is Reason.PARITY_FAILED
        assert step.message == f"export onnx loses 0.02 of {TOP1}; parity.maxDrop is 0.0101"


def test_parity_that_was_not_measured_stops() -> None:
    """A parity bound without a golden set can never be kept, and says why."""
    exports = [{"name": "onnx", "format": "onnx", "parity": {"maxDrop": 0.1}}]
    step = the(candidate_ready(exports=exports, data__golden=None, gates=[]), ConditionType.GATES_PASSED)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.PARITY_FAILED)
    assert "spec.data.golden is needed" in step.message


def test_failed_gates_are_all_named_with_their_numbers() -> None:
    """A person learns every gate that failed, its number and its bound."""
    gates = [
        {"name": "floor", "metric": TOP1, "min": 0.999},
        {"name": "speed", "export": "onnx", "metric": "latency/p95_ms", "max": 1},
        {"name": "fine", "metric": TOP1, "min": 0.1},
    ]
    step = the(candidate_ready(gates=gates), ConditionType.GATES_PASSED)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.GATE_FAILED)
    assert step.message == (
        f"floor: {TOP1} 0.9906 is below 0.999; speed: latency/p95_ms of export onnx 2.5 is above 1"
    )


@pytest.mark.parametrize("export", [None, "onnx"], ids=["weights", "export"])
def test_regression_gate_compares_with_the_champion(export: str | None) -> None:
    """No-regression is judged against what is released: the weights, or the export of that name."""
    gate = {"name": "no-worse", "metric": TOP1, "maxRegression": 0.001} | ({"export": export} if export else {})
    stage = settled(gates=[gate])
    assert the(stage, ConditionType.GATES_PASSED).verdict is Verdict.DONE
    worse = moved_on(stage, lambda data: data["training"]["args"].update(epochs=5))
    step = the(worse, ConditionType.GATES_PASSED)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.GATE_FAILED)
    assert "against the champion -0.01462, worse than -0.001" in step.message


def test_export_is_compared_with_the_released_one_only_where_a_gate_asks() -> None:
    """Nothing is measured that nobody asked for."""
    plain = settled()
    moved = moved_on(plain, lambda data: data["training"]["args"].update(epochs=5))
    subjects = {record.subject for record in moved.world.comparisons.values()}
    assert subjects == {digest("weights", moved.spec.inputs_digest)}


def test_golden_changed_measures_again_without_training_or_exporting() -> None:
    """Another golden set is looked at, then candidate and exports alike are measured on it; no more than that."""
    golden = manifest("other golden", 6)
    stage = settled()

    def change(data: dict[str, Any]) -> None:
        data["data"]["golden"]["uri"]["digest"] = golden.digest()

    moved = moved_on(stage, change, work=False).but(golden=DatasetFact(golden.digest(), golden))
    kinds: list[str] = []
    lab = Lab(dict(stage.lab.records))
    for _ in range(5):
        world = observed(lab, golden=moved.world.golden, serving=stage.world.serving)
        for action in decide(moved.spec, world).actions:
            if isinstance(action, StartJob):
                kinds.append(action.order.kind)
                lab.do(action.order)
    assert kinds == ["validate", "evaluate", "evaluate"]
    assert produce(moved.spec, lab).records == lab.records


def test_champion_that_nobody_made_is_not_measured_and_passes_no_regression_gate() -> None:
    """A hand-edited release starts no job that can only fail, and what was not compared is not good enough."""
    gates = [{"name": "no-worse", "metric": TOP1, "maxRegression": 0.5}]

    def change(data: dict[str, Any]) -> None:
        data["training"]["args"]["epochs"] = 9
        data["release"]["weights"] = digest("nobody's")

    stage = moved_on(settled(gates=gates), change)
    assert started(stage.plan) == []
    step = the(stage, ConditionType.GATES_PASSED)
    assert (step.verdict, "was not compared with the champion" in step.message) == (Verdict.STOP, True)
