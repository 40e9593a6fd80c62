"""What people read before they merge: the title, the body, and the page beside the evidence. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconcilers import orders
from reconcilers.context import Context
from reconcilers.data_report import validation_lines
from reconcilers.data_steps import validation
from reconcilers.markdown import block, code, escape, interval, number, picture, table
from reconcilers.observed import DatasetFact
from reconcilers.steps import gate_results, parity
from specs.digests import short
from specs.exports import Export
from specs.modelspec import MAIN_METRIC
from specs.names import evidence_dir
from specs.records import Environment, ExportRecord


def title(ctx: Context, version: int) -> str:
    """Give the pull request's title, with the main metric where it was measured."""
    metric = MAIN_METRIC[ctx.spec.task]
    value, champion = _value(ctx, ctx.weights, metric), _value(ctx, ctx.champion, metric)
    name = metric.removeprefix("metrics/")
    if value is None:
        return f"{ctx.key}: promote v{version}"
    change = "" if champion is None else f", {value - champion:+.4g}"
    return f"{ctx.key}: promote v{version} ({name} {value:.4g}{change})"


def _value(ctx: Context, subject: str | None, metric: str) -> float | None:
    evaluation = ctx.observed.evaluations.get((subject or "", ctx.golden or ""))
    return evaluation.values.get(metric) if evaluation else None


def body(ctx: Context, version: int) -> str:
    """Give the pull request's text: what changes, the proof, what merging does, how to undo it, how to say no."""
    return f"{findings(ctx, version)}\n{_refusal(ctx)}"


def findings(ctx: Context, version: int) -> str:
    """Give what remains true after the merge."""
    folder = evidence_dir(*ctx.key, version)
    parts = [
        _change(ctx, version),
        "### Measured on golden\n\n" + _metrics(ctx),
        "### Gates\n\n" + (_gates(ctx) or "None are asked for.\n"),
        "### Exports\n\n" + _exports(ctx),
        "### Data\n\n" + _data(ctx) + _looked_at(ctx),
        "### What merging does\n\n" + _consequence(ctx, version),
        "### How to undo it\n\n`git revert` the merge. " + _undone(ctx),
        f"Evidence: {code(folder + '/evidence.json')}, report and pictures beside it.\n",
    ]
    return "\n".join(parts)


def page(ctx: Context, version: int, pictures: Sequence[str]) -> str:
    """Give report.md: the body, the training's course, and the pictures."""
    run = ctx.run
    lines = [f"# {escape(str(ctx.key))} v{version}\n", findings(ctx, version)]
    if run is not None:
        where = run.environment
        lines.append("### Training\n")
        lines.append(table(("", ""), [
            ("run", code(run.inputs_digest)),
            ("asked for by commit", code(run.commit)),
            ("started, finished (UTC)", f"{escape(run.started)}, {escape(run.finished)}"),
            ("seconds", f"{run.seconds:.1f}{f' ({run.course})' if run.course else ''}"),
            ("seed", str(run.seed)),
            ("device", escape(where.device) if where else "–"),
            ("Python, Ultralytics, torch", escape(_versions(where)) if where else "–"),
        ]))  # fmt: skip
        lines.append(_epochs(ctx))
    lines += [f"{picture(name)}\n" for name in pictures]
    return "\n".join(lines)


def _versions(where: Environment) -> str:
    return ", ".join([where.python, *(where.packages.get(name, "–") for name in ("ultralytics", "torch"))])


def _epochs(ctx: Context) -> str:
    run = ctx.run
    if run is None or not run.epochs:
        return ""
    names = sorted({name for epoch in run.epochs for name in epoch.metrics})
    rows = [[str(e.epoch), *(number(e.metrics.get(name)) for name in names)] for e in run.epochs]
    return table(("epoch", *map(escape, names)), rows)


def _change(ctx: Context, version: int) -> str:
    release = ctx.spec.release
    source = ctx.observed.source
    before = f"v{release.version}" if release else "nothing"
    run_before = code(short(release.run)) if release else "–"
    weights_before = code(short(release.weights)) if release else "–"
    rows = [
        ("release", before, f"v{version}"),
        ("run", run_before, code(short(ctx.inputs_digest))),
        ("weights", weights_before, code(short(ctx.weights or ""))),
    ]
    for export in ctx.spec.exports:
        record = orders.export_record(ctx, export)
        old = release.exports.get(export.name) if release else None
        rows.append((
            f"export {export.name}", code(short(old)) if old else "–",
            code(short(record.file)) if record and record.file else "–",
        ))  # fmt: skip
    what, commit = code(str(ctx.key)), code(source.changed.sha[:12])
    head = f"Trunkline asks to release **v{version}** of {what}, as commit {commit} wanted it.\n"
    return head + "\n" + table(("", "now", "after"), rows)


def _metrics(ctx: Context) -> str:
    golden = ctx.golden or ""
    found = ctx.observed.evaluations.get((ctx.weights or "", golden))
    if found is None:
        return "No golden set is given, so nothing was measured.\n"
    champion = ctx.observed.evaluations.get((ctx.champion or "", golden))
    comparison = ctx.observed.comparisons.get((ctx.weights or "", ctx.champion or "", golden))
    rows = []
    for name, value in sorted(found.values.items()):
        cells = [escape(name), number(value) + interval(found.intervals.get(name, {}).get("0.95"))]
        if champion is not None:
            difference = comparison.differences.get(name) if comparison else None
            cells.append(number(champion.values.get(name)))
            cells.append(f"{difference.delta:+.4g}{interval(difference.intervals.get('0.95'))}" if difference else "–")
        rows.append(cells)
    header = ["metric", f"candidate, n = {found.n}"]
    if champion is not None and ctx.spec.release is not None:
        header += [f"champion v{ctx.spec.release.version}", "difference"]
    return table(header, rows) + "\nIn parentheses: 95 % bootstrap intervals over images.\n"


def _gates(ctx: Context) -> str:
    return table(("gate", "", "what was found"), [
        (escape(r.name), "pass" if r.passed else "**FAIL**", escape(r.text)) for r in gate_results(ctx)
    ])  # fmt: skip


def _exports(ctx: Context) -> str:
    rows = []
    for export in ctx.spec.exports:
        record = orders.export_record(ctx, export)
        if record is None:
            continue
        found = parity(ctx, export, record)
        rows.append((
            escape(export.name), _format(export, record), f"{record.size / 1e6:.2f} MB",
            *(number(record.metrics.get(f"latency/p{each}_ms")) for each in (50, 95, 99)),
            _megabytes(record.metrics.get("memory/peak_bytes")),
            _megabytes(record.metrics.get("memory/added_bytes")), f"{found[1]:+.4g}" if found else "–",
        ))  # fmt: skip
    head = ("export", "format", "size", "p50 ms", "p95 ms", "p99 ms", "memory", "of it its own", "loss against weights")
    return table(head, rows) + "".join(_remarks(ctx))


def _format(export: Export, record: ExportRecord) -> str:
    """Say what it is, and what a device makes of it."""
    made = f", from which each device makes {export.format}" if export.build_on == "Device" else ""
    return escape(f"{record.format}{made}")


def _megabytes(count: float | None) -> str:
    return "–" if count is None else f"{count / 1e6:.1f} MB"


def _remarks(ctx: Context) -> Iterator[str]:
    """Say what numbers do not: on which machine an engine works, what INT8 was found on, why nothing was measured."""
    for export in ctx.spec.exports:
        record = orders.export_record(ctx, export)
        if record is None:
            continue
        if record.runtime:
            told = ", ".join(f"{name} {value}" for name, value in sorted(record.runtime.items()))
            yield f"\n{code(export.name)} works where it was made only, and on machines alike: {escape(told)}.\n"
        if record.calibration:
            yield f"\n{code(export.name)} is INT8, by the pictures of {code(short(record.calibration))}.\n"
        if record.unmeasured:
            yield f"\n{code(export.name)} could not be run where it was made: {escape(record.unmeasured)}.\n"


def _data(ctx: Context) -> str:
    every = ("train", "golden", "calibration")
    rows = [_dataset_row(name, ctx.observed.fact(name)) for name in every]
    return table(("set", "digest", "images", "classes"), [row for row in rows if row])


def _looked_at(ctx: Context) -> str:
    """Say what was found in the data itself, folded: most readers want to know only that somebody looked."""
    record = validation(ctx)
    if record is None:
        return ""
    summary = "<summary>Every picture and label was looked at</summary>"
    return f"\n<details>{summary}\n\n{validation_lines(record)}\n</details>\n"


def _dataset_row(name: str, fact: DatasetFact | None) -> tuple[str, str, str, str] | None:
    if fact is None or fact.manifest is None:
        return None
    digest = fact.imported.digest if fact.imported else fact.digest  # as git names it
    return name, code(short(digest)), str(fact.manifest.images), str(len(fact.manifest.names))


def _consequence(ctx: Context, version: int) -> str:
    serving, release = ctx.spec.serving, ctx.spec.release
    if serving is None:
        return f"v{version} becomes the release. Nothing serves it: spec.serving is not given.\n"
    instead = f" instead of v{release.version}, without losing a request" if release else ""
    return f"Export {code(serving.export)} of v{version} serves{instead}. Nothing is trained or exported.\n"


def _undone(ctx: Context) -> str:
    if ctx.spec.release is None:
        return "Then nothing is released, and nothing serves.\n"
    return "The previous bytes serve again; nothing is trained or exported.\n"


def _refusal(ctx: Context) -> str:
    """Say how to say no: here, where closing is remembered, and in git, where everybody sees it."""
    closing = "Close this without merging: Trunkline remembers that, and asks again only for other inputs.\n"
    if ctx.spec.release is None:
        return f"### How to say no\n\n{closing}"
    denied = f'spec:\n  release:\n    deny:\n      - {{run: "{ctx.inputs_digest}", reason: "say why"}}'
    file = code(ctx.observed.source.path)
    begin = f"To say so in git, for good and for everybody to see, add this to the list in {file} by pull request:"
    return f"### How to say no\n\n{closing}\n{begin}\n\n{block(denied, 'yaml')}"
