"""The production line of a candidate: data, training, evaluation, exports, gates. Pure; one function a step."""

from __future__ import annotations

from reconcilers import jobs, orders
from reconcilers.context import Context, Step, Verdict
from reconcilers.gating import GateResult, Measured, judge, shown
from reconcilers.observed import DatasetFact
from specs.data import Source
from specs.exports import Export
from specs.modelspec import MAIN_METRIC
from specs.records import DatasetManifest, ExportRecord
from specs.status import ConditionType as Type
from specs.status import Reason


def plan_data(ctx: Context) -> Step:
    """Data must be pinned, there, intact, as expected, and apart from golden."""
    for field, source in (("spec.data.train", ctx.spec.data.train), ("spec.data.golden", ctx.spec.data.golden)):
        problem = _source_problem(field, source) if source else None
        if problem:
            return problem
    for field, fact in (("spec.data.train", ctx.observed.train), ("spec.data.golden", ctx.observed.golden)):
        if fact is not None and fact.manifest is None:
            return _stop(Reason(fact.reason), f"{field}: {fact.message}")
    problem = _other_task(ctx) or _unexpected(ctx) or _leakage(ctx) or _foreign_classes(ctx)
    return problem or Step(Type.DATA_READY, Verdict.DONE, Reason.DATA_VERIFIED)


def _stop(reason: Reason, message: str) -> Step:
    return Step(Type.DATA_READY, Verdict.STOP, reason, message)


def _source_problem(field: str, source: Source) -> Step | None:
    if source.uri is None or not source.uri.url.startswith("store://"):
        return _stop(
            Reason.DATA_UNSUPPORTED,
            f"{field}: only store:// sources can be used by this version; `trunkline data add FOLDER` makes one",
        )
    if source.digest is None:
        return _stop(
            Reason.DATA_NOT_PINNED,
            f"{field}.uri.digest is missing; a reference without digest is never trained on. "
            "`trunkline data add` prints the digest",
        )
    return None


def _other_task(ctx: Context) -> Step | None:
    for field, fact in (("spec.data.train", ctx.observed.train), ("spec.data.golden", ctx.observed.golden)):
        manifest = _manifest(fact)
        if manifest is not None and manifest.task != ctx.spec.task:
            text = f"{field} is a data set for {manifest.task}, but spec.task is {ctx.spec.task}; correct one of them"
            return _stop(Reason.DATA_UNEXPECTED, text)
    return None


def _unexpected(ctx: Context) -> Step | None:
    expect, fact = ctx.spec.data.expect, ctx.observed.train
    if expect is None or fact is None or fact.manifest is None:
        return None
    manifest = fact.manifest
    counts = [manifest.class_counts.get(name, 0) for name in manifest.names]
    faults: list[str] = []
    if expect.min_images is not None and manifest.images < expect.min_images:
        faults.append(f"{manifest.images} images, at least {expect.min_images} expected")
    if expect.classes is not None and set(expect.classes) != set(manifest.names):
        more, less = set(manifest.names) - set(expect.classes), set(expect.classes) - set(manifest.names)
        faults.append(f"classes differ: unexpected {sorted(more) or 'none'}, missing {sorted(less) or 'none'}")
    smallest, largest = min(counts, default=0), max(counts, default=0)
    if expect.max_class_imbalance is not None and largest > expect.max_class_imbalance * smallest:
        faults.append(f"largest class {largest}, smallest {smallest}: over {expect.max_class_imbalance:g} to 1")
    return _stop(Reason.DATA_UNEXPECTED, "spec.data.expect: " + "; ".join(faults)) if faults else None


def _leakage(ctx: Context) -> Step | None:
    """A picture that is in both sets would make every measurement too good."""
    shared = ctx.observed.shared_pictures
    if not shared:
        return None
    return _stop(
        Reason.DATA_LEAKAGE,
        f"{len(shared)} golden images are also in the training data, for instance {', '.join(shared[:3])}; "
        "remove them from one of the two",
    )


def _foreign_classes(ctx: Context) -> Step | None:
    train, golden = _manifest(ctx.observed.train), _manifest(ctx.observed.golden)
    if train is None or golden is None or train.names == golden.names:
        return None
    text = f"golden has classes {golden.names}, training data {train.names}; they must be the same, in order"
    return _stop(Reason.DATA_UNEXPECTED, text)


def _manifest(fact: DatasetFact | None) -> DatasetManifest | None:
    return fact.manifest if fact else None


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
        extra = record.metrics if record else None
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


def parity_failure(ctx: Context, export: Export) -> str | None:
    """Say how an export breaks ``parity.maxDrop``; None where it does not."""
    record = orders.export_record(ctx, export)
    if export.parity is None or record is None:
        return None
    found = parity(ctx, export, record)
    if found is None:
        return f"export {export.name}: parity was not measured; spec.data.golden is needed for it"
    metric, drop = found
    if drop <= export.parity.max_drop:
        return None
    most = export.parity.max_drop
    return f"export {export.name} loses {shown(drop, most)} of {metric}; parity.maxDrop is {most:g}"
