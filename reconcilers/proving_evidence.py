"""Whether a release is what its evidence says, and whether that is enough. Pure; judged with the plan's own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pydantic import ValidationError

from reconcilers.chronicle import Event
from reconcilers.context import Context, Verdict
from reconcilers.context import Step as Judgement
from reconcilers.findings import Code, Finding, finding
from reconcilers.gating import GateResult
from reconcilers.observed import DatasetFact, Observed
from reconcilers.steps import gate_results, plan_gates
from specs.digests import digest_of
from specs.evidence import Evidence, GateEvidence
from specs.exports import Export, Gate
from specs.facts import SourcedSpec
from specs.modelspec import Spec
from specs.records import ComparisonRecord, DatasetManifest, EvaluationRecord, ExportRecord
from specs.release import Release
from specs.ways import way_of


def prove_evidence(event: Event) -> Iterator[Finding]:
    """Check the evidence of a release that claims any, or must have one."""
    release, proof = event.release, event.proof
    if release is None or proof is None or event.how == "went back" or proof.of is not None:
        return  # nothing is claimed that was not proved where these bytes were released first
    wanted = f"{proof.path} with digest {release.evidence or '(none is pinned)'}"
    if proof.state == "missing":
        yield finding(event.moment, Code.EVIDENCE_MISSING, wanted, "there is no such file")
    elif proof.state == "altered":
        code = Code.EVIDENCE_ALTERED if release.evidence else Code.EVIDENCE_MISSING
        yield finding(event.moment, code, wanted, f"its digest is {proof.found}")
    elif proof.evidence is None:
        yield finding(event.moment, Code.EVIDENCE_INVALID, f"{proof.path} as evidence/v1 must be", proof.problem)
    else:
        yield from _digests(event, release, proof.evidence)
        yield from _gates(event, proof.evidence)
        yield from _recorded(event, proof.evidence)


def _digests(event: Event, release: Release, evidence: Evidence) -> Iterator[Finding]:
    told: set[tuple[str, str]] = set()
    for what, expected, found in _pairs(event, release, evidence):
        if expected != found and (str(expected), str(found)) not in told:
            told.add((str(expected), str(found)))
            yield finding(event.moment, Code.DIGEST_DIFFERS, f"{what}: {expected}", f"{found}")


def _pairs(event: Event, release: Release, evidence: Evidence) -> Iterator[tuple[str, object, object]]:
    """Give (what, as it must be, as the evidence has it)."""
    run, golden = evidence.run, evidence.data.golden.digest if evidence.data.golden else None
    yield "model of the evidence", str(event.key), evidence.model
    yield "version of the evidence", release.version, evidence.version
    yield "released run", release.run, evidence.release.run
    yield "released weights", release.weights, evidence.release.weights
    for name in sorted(release.exports.keys() | evidence.release.exports.keys()):
        yield f"released export {name}", release.exports.get(name), evidence.release.exports.get(name)
    yield "digest of the recorded inputs", release.run, digest_of(evidence.inputs)
    yield "data among the inputs", evidence.inputs.get("data"), evidence.data.train and evidence.data.train.pinned
    yield from _data_pairs(evidence)
    yield "recorded run", True, run is not None
    if run is not None:
        yield "inputs of the recorded run", release.run, digest_of(run.inputs)
        yield "name of the recorded run", release.run, run.inputs_digest
        yield "weights of the recorded run", release.weights, run.weights
    if evidence.evaluation is not None:
        yield "weights that were measured", release.weights, evidence.evaluation.subject
        yield "golden set measured on", golden, evidence.evaluation.golden
    recorded = {export.name: export for export in evidence.exports}
    yield "recorded exports", sorted(release.exports), sorted(recorded)
    size = event.moment.after.spec.image_size if event.moment.after else None
    same = event.moment.after is not None and event.moment.after.spec.inputs_digest == release.run
    for name in sorted(release.exports.keys() & recorded.keys()):
        record, measured = recorded[name].record, recorded[name].evaluation
        yield f"file of export {name}", release.exports[name], record.file if record else None
        if record is not None:
            yield f"weights of export {name}", release.weights, record.weights
            if same:
                way = way_of(record, size)
                yield f"way of export {name}", way, record.export_digest
        if measured is not None:
            yield f"measured file of export {name}", release.exports[name], measured.subject


def _data_pairs(evidence: Evidence) -> Iterator[tuple[str, object, object]]:
    """Give likewise what must be so about data: its imports are those of the bytes, and what was looked at is it."""
    data = evidence.data
    for name, told in (("training data", data.train), ("golden set", data.golden)):
        if told is not None and told.imported is not None:
            yield f"imported {name}", (told.pinned, told.digest), (told.imported.digest, told.imported.manifest)
    run, train = evidence.run, data.train.digest if data.train else None
    if run is not None and run.dataset is not None:
        yield "data that the run was trained on", train, run.dataset
    if data.validation is not None:
        looked_at = (data.validation.train_digest, data.validation.golden_digest)
        yield "data that was looked at", (train, data.golden.digest if data.golden else None), looked_at


def _gates(event: Event, evidence: Evidence) -> Iterator[Finding]:
    """Judge again, by the gates of the commit itself and by those that held before it."""
    before, after = event.moment.before, event.moment.after
    if after is None:
        return
    now = _judge(event, evidence, after.spec)
    if now.verdict is not Verdict.DONE:
        yield finding(event.moment, Code.GATE_FAILED, "the gates of the commit pass", now.message)
        return
    then = _judge(event, evidence, before.spec) if before else now
    if then.verdict is not Verdict.DONE:
        yield finding(
            event.moment, Code.GATE_LOOSENED, "the gates before the commit pass",
            f"{then.message}; the same commit changes what is asked, and passes",
        )  # fmt: skip


def _judge(event: Event, evidence: Evidence, spec: Spec) -> Judgement:
    return plan_gates(_context(event, evidence, spec.model_copy(update={"release": event.before})))


def _recorded(event: Event, evidence: Evidence) -> Iterator[Finding]:
    """Compare every judgement that the evidence holds with the one that its own numbers give."""
    after = event.moment.after
    golden = after.spec.data.golden.digest if after and after.spec.data.golden else None
    measured = evidence.data.golden.pinned if evidence.data.golden else None
    if after is None or (evidence.evaluation is not None and golden != measured):
        return
    try:
        gates = [Gate.model_validate(each.gate, by_alias=True, by_name=False) for each in evidence.gates]
        exports = [
            Export(name=each.name, format=each.record.format, args=each.record.args)
            for each in evidence.exports if each.record
        ]  # fmt: skip
    except ValidationError as error:
        problem = f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        yield finding(event.moment, Code.EVIDENCE_INVALID, "recorded gates and exports as a spec has them", problem)
        return
    if {gate.export for gate in gates if gate.export} - {export.name for export in exports}:
        return  # an export is missing, which was found before
    asked = {"release": event.before, "gates": gates, "exports": exports}
    results = gate_results(_context(event, evidence, after.spec.model_copy(update=asked)))
    for result, recorded in zip(results, evidence.gates, strict=True):
        if (result.passed, result.value) != (recorded.passed, recorded.value):
            expected = f"gate {result.name}, from the recorded numbers: {_told(result)}"
            yield finding(event.moment, Code.JUDGEMENT_DIFFERS, expected, f"recorded: {_told(recorded)}")


def _told(result: GateResult | GateEvidence) -> str:
    return f"{result.text} ({'pass' if result.passed else 'fail'})"


def _context(event: Event, evidence: Evidence, spec: Spec) -> Context:
    """Put the recorded numbers where the plan looks for measurements, with the release of before as champion."""
    step, run = event.step, evidence.run
    evaluations = [evidence.evaluation, evidence.champion.evaluation, *(each.evaluation for each in evidence.exports)]
    comparisons = [evidence.champion.comparison, *(each.comparison for each in evidence.exports)]
    records = [each.record for each in evidence.exports if each.record]
    source = SourcedSpec(event.key, "", "", step.sha, step.commit)
    observed = Observed(
        source, golden=_golden(evidence, spec), runs={spec.inputs_digest: run} if run else {},
        evaluations={(each.subject, each.golden): each for each in _there(evaluations)},
        comparisons={(each.subject, each.baseline, each.golden): each for each in _compared(comparisons)},
        exports={(each.weights, each.export_digest): each for each in records},
    )  # fmt: skip
    ctx = Context(event.key, spec, observed, float(step.commit.when))
    return replace(ctx, observed=replace(observed, exports={**observed.exports, **_looked_up(ctx, evidence)}))


def _looked_up(ctx: Context, evidence: Evidence) -> dict[tuple[str, str], ExportRecord]:
    """Give the exports as the plan of the spec looks them up.

    What a way of exporting owes to calibration data or to a device, only the evidence knows here.
    """
    found, size = {}, ctx.spec.image_size
    recorded = {each.name: each.record for each in evidence.exports if each.record}
    for export in ctx.spec.exports:
        record = recorded.get(export.name)
        if record is None or (record.format, record.args) != (export.released_format, export.released_args):
            continue
        if record.export_digest == way_of(record, size):
            found[record.weights, ctx.export_digests[export.name]] = record
    return found


def _golden(evidence: Evidence, spec: Spec) -> DatasetFact | None:
    """Believe the evidence, whose other numbers are of it, which data set the golden set of a spec stands for."""
    told, source = evidence.data.golden, spec.data.golden
    if told is None or source is None or source.digest != told.pinned:
        return None
    manifest = DatasetManifest(
        task=spec.task, names=told.names, files=[], images=told.images, class_counts=told.class_counts
    )
    return DatasetFact(told.digest, manifest)


def _there(records: Iterable[EvaluationRecord | None]) -> Iterator[EvaluationRecord]:
    return (record for record in records if record is not None)


def _compared(records: Iterable[ComparisonRecord | None]) -> Iterator[ComparisonRecord]:
    return (record for record in records if record is not None)
