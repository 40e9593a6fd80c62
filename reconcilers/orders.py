"""The work orders that the current inputs ask for and whose records are not there yet. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconcilers.context import Context
from specs.data import Source
from specs.data_records import ValidationRecord
from specs.exports import Export
from specs.names import serving_name
from specs.records import ExportRecord
from specs.workorders import (
    AnyOrder,
    CompareOrder,
    DiffOrder,
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    ProfileOrder,
    TrackOrder,
    ValidateOrder,
    train_order,
    tune_order,
)


def import_of(ctx: Context, source: Source) -> ImportOrder:
    """Give the order that fetches a data set."""
    return ImportOrder(
        model=str(ctx.key), commit=ctx.observed.source.changed.sha, task=ctx.spec.task, source=source.plain()
    )


def lookups(ctx: Context) -> Iterator[AnyOrder]:
    """Give the fetching of addresses without digest whose digest nobody knows yet."""
    for field, source in ctx.spec.unpinned:
        if source.kind == "uri" and field not in ctx.observed.resolved and field not in ctx.observed.troubles:
            yield import_of(ctx, source)


def imports(ctx: Context) -> Iterator[AnyOrder]:
    """Give the fetching of pinned data that the store does not have. What a run has learned is not needed again."""
    for field, source in ctx.spec.data.named:
        fact = ctx.observed.fact(field)
        there = fact is not None and (fact.manifest is not None or fact.reason)
        if field == "spec.data.train" and ctx.run is not None:
            continue
        if source.digest is not None and not source.in_store and not there:
            yield import_of(ctx, source)


def is_about(record: ValidationRecord | None, train: str | None, golden: str | None) -> bool:
    """Whether a validation is that of these two data sets."""
    return record is not None and (record.train_digest, record.golden_digest) == (train, golden)


def validation(ctx: Context) -> Iterator[AnyOrder]:
    """Give the validation, unless its record is there, or neither training nor measuring is still to come."""
    weights, train, golden = ctx.weights, ctx.dataset, ctx.golden
    if train is None or (golden is None and ctx.spec.data.golden is not None):
        return
    to_come = ctx.run is None or (weights and golden and (weights, golden) not in ctx.observed.evaluations)
    if to_come and not is_about(ctx.observed.validation, train, golden):
        yield _validate(ctx, train)
    apart = ctx.calibration if ctx.spec.data.calibration is not None else None
    to_come = any(export.is_calibrated and export_record(ctx, export) is None for export in ctx.spec.exports)
    if to_come and apart not in (None, train) and not is_about(ctx.observed.calibration_validation, apart, golden):
        yield _validate(ctx, apart)


def _validate(ctx: Context, train: str) -> ValidateOrder:
    commit = ctx.observed.source.changed.sha
    return ValidateOrder(model=str(ctx.key), commit=commit, task=ctx.spec.task, train=train, golden=ctx.golden)


def newer(ctx: Context) -> Iterator[AnyOrder]:
    """Give what is to be found out about the newest version of the training data before anybody is asked about it."""
    found = ctx.observed.newer
    if found is None or found.fact.reason:
        return
    if found.fact.manifest is None:
        yield import_of(ctx, found.source)
        return
    after, before = found.fact.digest, ctx.dataset
    if not is_about(found.validation, after, ctx.golden):
        yield _validate(ctx, after)
    if before is not None and found.difference is None:
        commit = ctx.observed.source.changed.sha
        yield DiffOrder(model=str(ctx.key), commit=commit, task=ctx.spec.task, before=before, after=after)


def training(ctx: Context) -> Iterator[AnyOrder]:
    """Give the training, unless a record (of success or failure) is there."""
    if ctx.run is None:
        yield train_order(ctx.key, ctx.spec, ctx.observed.source.changed.sha, ctx.dataset)


def export_record(ctx: Context, export: Export) -> ExportRecord | None:
    """Give the record of the candidate's export, or None."""
    if ctx.weights is None:
        return None
    return ctx.observed.exports.get((ctx.weights, ctx.export_digests[export.name]))


def _evaluate(ctx: Context, subject: str, format_: str) -> Iterator[EvaluateOrder]:
    """Order a measurement. Only the candidate was trained at the spec's size; others know their own."""
    golden = ctx.golden
    if golden and (subject, golden) not in ctx.observed.evaluations:
        yield EvaluateOrder(
            model=str(ctx.key), commit=ctx.observed.source.changed.sha, subject=subject, format=format_,
            task=ctx.spec.task, golden=golden, image_size=ctx.spec.image_size if subject == ctx.weights else None,
        )  # fmt: skip


def evaluations(ctx: Context) -> Iterator[AnyOrder]:
    """Give the missing measurements of candidate and champion, then of their difference.

    A champion that no run made (a hand-edited release) cannot be measured, so nobody is sent to try.
    """
    if ctx.weights is None or ctx.golden is None:
        return
    yield from _evaluate(ctx, ctx.weights, "pt")
    if ctx.champion and any(run.weights == ctx.champion for run in ctx.observed.runs.values()):
        yield from _evaluate(ctx, ctx.champion, "pt")
        yield from _compare(ctx, ctx.weights, ctx.champion)


def _compare(ctx: Context, subject: str, baseline: str) -> Iterator[AnyOrder]:
    golden = ctx.golden
    if golden is None or subject == baseline or (subject, baseline, golden) in ctx.observed.comparisons:
        return
    if all((each, golden) in ctx.observed.evaluations for each in (subject, baseline)):
        yield CompareOrder(
            model=str(ctx.key), commit=ctx.observed.source.changed.sha,
            subject=subject, baseline=baseline, golden=golden, task=ctx.spec.task,
        )  # fmt: skip


def exports(ctx: Context) -> Iterator[AnyOrder]:
    """Give the missing exports, then what is still unmeasured about those that are there."""
    if ctx.weights is None:
        return
    for export in ctx.spec.exports:
        record = export_record(ctx, export)
        if record is None:
            yield from _export(ctx, export, ctx.weights)
        elif record.file and not record.unmeasured:
            yield from _evaluate(ctx, record.file, record.format)
            yield from _compare_export(ctx, export, record.file)


def _export(ctx: Context, export: Export, weights: str) -> Iterator[ExportOrder]:
    calibration = ctx.calibration if export.is_calibrated else None
    if export.is_calibrated and calibration is None:
        return  # the data comes first
    yield ExportOrder(
        model=str(ctx.key), commit=ctx.observed.source.changed.sha, weights=weights,
        export_digest=ctx.export_digests[export.name], task=ctx.spec.task, format=export.released_format,
        args=export.released_args, image_size=ctx.spec.image_size, golden=ctx.golden, calibration=calibration,
        runtime=ctx.made_for.get(export.name),
    )  # fmt: skip


def export_baseline(ctx: Context, export: Export, file: str) -> str | None:
    """Give the released export to compare a candidate's ``file`` with, where a gate asks for that."""
    release = ctx.spec.release
    released = release.exports.get(export.name) if release else None
    asked = any(gate.export == export.name and gate.max_regression is not None for gate in ctx.spec.gates)
    return released if asked and released != file and released in ctx.observed.artifacts else None


def _compare_export(ctx: Context, export: Export, file: str) -> Iterator[AnyOrder]:
    baseline = export_baseline(ctx, export, file)
    if baseline is not None:
        yield from _evaluate(ctx, baseline, ctx.observed.artifacts[baseline].format)
        yield from _compare(ctx, file, baseline)


def tuning(ctx: Context) -> Iterator[AnyOrder]:
    """Give the search that is asked for, unless its answer is there, or what it would search on is not."""
    order = tune_order(ctx.key, ctx.spec, ctx.observed.source.changed.sha, ctx.dataset)
    if order is not None and ctx.tuned is None and ctx.dataset is not None:
        yield order


def tracking(ctx: Context) -> Iterator[TrackOrder]:
    """Give the mirroring of candidate and release, as far as they are trained and their mirrors are not there yet."""
    mlflow = ctx.spec.tracking.mlflow if ctx.spec.tracking else None
    if mlflow is None:
        return
    release = ctx.spec.release
    wanted = dict.fromkeys([ctx.inputs_digest, *([release.run] if release else [])])
    for digest in wanted:
        run = ctx.observed.runs.get(digest)
        if run is None or digest in ctx.observed.tracked:
            continue
        measured = ctx.golden is not None and (run.weights or "", ctx.golden) in ctx.observed.evaluations
        yield TrackOrder(
            model=str(ctx.key), commit=ctx.observed.source.changed.sha, inputs_digest=digest,
            tracking_uri=mlflow.tracking_uri, experiment=mlflow.experiment or serving_name(*ctx.key),
            source=ctx.spec.data.train.plain(), golden=ctx.golden if measured else None,
        )  # fmt: skip


def profile(ctx: Context) -> Iterator[ProfileOrder]:
    """Give the counting of what the released export does on golden, unless its record is there, or nobody watches."""
    release, serving, golden = ctx.spec.release, ctx.spec.serving, ctx.golden
    if ctx.spec.monitoring is None or release is None or serving is None or golden is None:
        return
    artifact = ctx.observed.artifacts.get(release.exports.get(serving.export, ""))
    if artifact is not None and ctx.observed.profile is None:
        yield ProfileOrder(
            model=str(ctx.key), commit=ctx.observed.source.changed.sha, file=artifact.file, format=artifact.format,
            task=ctx.spec.task, golden=golden,
        )  # fmt: skip


def missing(ctx: Context) -> tuple[AnyOrder, ...]:
    """Give every order that some step could start now."""
    data = (*lookups(ctx), *imports(ctx), *validation(ctx))
    line = (*training(ctx), *evaluations(ctx), *exports(ctx))
    return (*data, *line, *newer(ctx), *tuning(ctx), *tracking(ctx), *profile(ctx))
