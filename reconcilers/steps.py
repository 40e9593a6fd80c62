"""The production line behind its data: training, evaluation, exports, gates. Pure; one function a step."""

from __future__ import annotations

from reconcilers import jobs, orders
from reconcilers.context import Context, Step, Verdict
from reconcilers.gating import GateResult, Measured, judge, shown
from specs.exports import Export
from specs.modelspec import MAIN_METRIC
from specs.records import ExportRecord
from specs.status import ConditionType as Type
from specs.status import Reason


def plan_training(ctx: Context) -> Step:
    """Train unless a run of these inputs is there; a run that failed for good stays failed until inputs change."""
    run = ctx.run
    if run is not None and run.status == "Failed":
        return Step(
            Type.TRAINED, Verdict.STOP, Reason.TRAINING_FAILED,
            f"{run.reason}: {run.message} Change the inputs, or spec.training.nonce to try the same ones again.",
        )  # fmt: skip
    release = ctx.spec.release
    denied = next((d for d in (release.deny or ()) if d.run == ctx.inputs_digest), None) if release else None
    if denied is not None:
        text = f"spec.release.deny lists this run: {denied.reason}; change the inputs, or remove it from the list"
        return Step(Type.TRAINED, Verdict.STOP, Reason.DENIED, text)
    step = jobs.work(ctx, Type.TRAINED, Reason.TRAINING, orders.training(ctx))
    return step or Step(Type.TRAINED, Verdict.DONE, Reason.TRAINED)


def plan_evaluation(ctx: Context) -> Step:
    """Measure candidate and champion on golden, and compare them."""
    if ctx.golden is None:
        text = "spec.data.golden is not given: nothing is measured"
        return Step(Type.EVALUATED, Verdict.DONE, Reason.NO_GOLDEN, text)
    step = jobs.work(ctx, Type.EVALUATED, Reason.EVALUATING, orders.evaluations(ctx))
    return step or Step(Type.EVALUATED, Verdict.DONE, Reason.EVALUATED)


def plan_exports(ctx: Context) -> Step:
    """Export what is missing; never retrains."""
    for export in ctx.spec.exports:
        record = orders.export_record(ctx, export)
        if record is not None and record.status == "Failed":
            return Step(
                Type.EXPORTED, Verdict.STOP, Reason.EXPORT_FAILED,
                f"export {export.name}: {record.reason}: {record.message} Change spec.exports to try again.",
            )  # fmt: skip
    step = jobs.work(ctx, Type.EXPORTED, Reason.EXPORTING, orders.exports(ctx))
    return step or Step(Type.EXPORTED, Verdict.DONE, Reason.EXPORTED)


def plan_gates(ctx: Context) -> Step:
    """Every gate must pass, and every export must be as good as its weights."""
    drops = [text for export in ctx.spec.exports if (text := parity_failure(ctx, export))]
    if drops:
        return Step(Type.GATES_PASSED, Verdict.STOP, Reason.PARITY_FAILED, "; ".join(drops))
    failed = [f"{result.name}: {result.text}" for result in gate_results(ctx) if not result.passed]
    if failed:
        return Step(Type.GATES_PASSED, Verdict.STOP, Reason.GATE_FAILED, "; ".join(failed))
    return Step(Type.GATES_PASSED, Verdict.DONE, Reason.GATES_PASSED)


def measured(ctx: Context, export_name: str | None) -> Measured:
    """Gather the numbers of the candidate's weights, or of one of its exports."""
    golden = ctx.golden or ""
    if export_name is None:
        subject, baseline, extra = ctx.weights or "", ctx.champion or "", None
    else:
        export = next(e for e in ctx.spec.exports if e.name == export_name)
        record = orders.export_record(ctx, export)
        subject = (record.file if record else None) or ""
        baseline = ctx.spec.release.exports.get(export_name, "") if ctx.spec.release else ""
        extra = metrics_of(ctx, export, record) if record else None
    return Measured(
        ctx.observed.evaluations.get((subject, golden)),
        ctx.observed.comparisons.get((subject, baseline, golden)),
        extra,
    )


def gate_results(ctx: Context) -> tuple[GateResult, ...]:
    """Judge all gates of the candidate."""
    results = []
    for gate in ctx.spec.gates:
        champion = ctx.champion
        if gate.export is not None:
            released = ctx.spec.release.exports.get(gate.export) if ctx.spec.release else None
            record = orders.export_record(ctx, next(e for e in ctx.spec.exports if e.name == gate.export))
            champion = released if record and released != record.file else None
        results.append(judge(gate, measured(ctx, gate.export), has_champion=champion is not None))
    return tuple(results)


def parity(ctx: Context, export: Export, record: ExportRecord) -> tuple[str, float] | None:
    """Give the metric and how much of it the export loses against its weights; None where not measured."""
    metric = (export.parity.metric if export.parity else None) or MAIN_METRIC[ctx.spec.task]
    golden = ctx.golden or ""
    whole = ctx.observed.evaluations.get((record.weights, golden))
    part = ctx.observed.evaluations.get((record.file or "", golden))
    if whole is None or part is None or metric not in whole.values or metric not in part.values:
        return None
    return metric, whole.values[metric] - part.values[metric]


def metrics_of(ctx: Context, export: Export, record: ExportRecord) -> dict[str, float]:
    """Give the numbers that only exports have: latency, size, memory, and what it loses against its weights."""
    found = parity(ctx, export, record)
    return record.metrics | ({"parity/drop": found[1]} if found else {})


def parity_failure(ctx: Context, export: Export) -> str | None:
    """Say how an export breaks ``parity.maxDrop``; None where it does not."""
    record = orders.export_record(ctx, export)
    if export.parity is None or record is None:
        return None
    found = parity(ctx, export, record)
    if found is None:
        why = record.unmeasured or "spec.data.golden is needed for it"
        return f"export {export.name}: parity was not measured; {why}"
    metric, drop = found
    if drop <= export.parity.max_drop:
        return None
    most = export.parity.max_drop
    return f"export {export.name} loses {shown(drop, most)} of {metric}; parity.maxDrop is {most:g}"
