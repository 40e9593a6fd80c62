"""What people read before they use what a search found: the title, the body, and the page beside the evidence. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from reconcilers.context import Context
from reconcilers.estimate import duration
from reconcilers.markdown import code, escape, number, picture, plain, table
from specs.experiment_records import TrialRecord, TuningRecord

Rows = Sequence[tuple[str, object, object]]
"""Argument, value now, value proposed."""
_SHOWN = 10
_WORDS = {
    "TrialCount": "all trials that `maxTrialCount` allows were made", "Goal": "the goal was reached",
    "Deadline": "`activeDeadlineSeconds` were over", "Exhausted": "every value was tried",
}  # fmt: skip


def in_short(record: TuningRecord) -> str:
    """Say in a few words what came of a search."""
    best, first = record.best, record.baseline
    name = record.metric.removeprefix("metrics/")
    before = f", {first.value:.4g} before" if first is not None and first.value is not None else ""
    return f"{name} {best.value:.4g}{before}, in {len(record.trials)} trials" if best and best.value is not None else ""


def title(ctx: Context, record: TuningRecord) -> str:
    """Give the pull request's title, with the objective."""
    return f"{ctx.key}: tune training.args ({in_short(record)})"


def body(ctx: Context, record: TuningRecord, rows: Rows, folder: str) -> str:
    """Give the pull request's text: what changes, the proof, what merging does, how to undo it, how to say no."""
    refusal = (
        "### How to say no\n\nClose this without merging: Trunkline remembers that, and asks again only when "
        "`spec.tuning` asks for another search.\n"
    )
    return f"{_findings(ctx, record, rows, folder)}\n{refusal}"


def page(ctx: Context, record: TuningRecord, rows: Rows, pictures: Sequence[str]) -> str:
    """Give report.md: the body, the pictures, and every trial."""
    lines = [f"# {escape(str(ctx.key))}: search for better arguments\n", _findings(ctx, record, rows, "")]
    lines += [f"{picture(name)}\n" for name in pictures]
    lines.append("### All trials\n\n" + _trials(ctx, record, record.trials))
    return "\n".join(lines)


def _findings(ctx: Context, record: TuningRecord, rows: Rows, folder: str) -> str:
    what, commit = code(str(ctx.key)), code(ctx.observed.source.changed.sha[:12])
    head = (
        f"A search asked for by `spec.tuning` of {what} found better training arguments: "
        f"{escape(in_short(record))}.\n\nIt ended because {_WORDS.get(record.stopped_by, 'it ended')}. "
        f"The file is changed as of commit {commit}.\n"
    )
    changed = table(("argument", "now", "after"), [(code(name), _shown(old), _shown(new)) for name, old, new in rows])
    best = ranked(ctx, record)[:_SHOWN]
    undo = "`git revert` the merge. The earlier run is still in the store: nothing is trained again.\n"
    parts = [
        head, changed, *_caveats(ctx, record),
        f"### The best of {len(record.trials)} trials\n\n" + _trials(ctx, record, best),
        "### What merging does\n\n" + _consequence(ctx), "### How to undo it\n\n" + undo,
    ]
    if folder:
        parts.append(f"Evidence: {code(folder + '/report.md')} with pictures of the search, all trials beside it.\n")
    return "\n".join(parts)


def _consequence(ctx: Context) -> str:
    text = "A model is trained with these arguments, measured on golden, and exported. The gates decide whether it is\n"
    text += "proposed for release. What serves now goes on serving, and nothing else changes.\n"
    given = ctx.spec.tuning.trial_args if ctx.spec.tuning else None
    if given:
        named = ", ".join(f"{name}: {_plain(value)}" for name, value in given.items())
        text += f"\nThe trials were trained with {code(named)}, which is not part of this change.\n"
    return text


def _caveats(ctx: Context, record: TuningRecord) -> list[str]:
    """Say how the trials stand to the inputs as they are now, and to golden."""
    measured = "The objective was measured on the validation part of the training data, with one seed"
    lines = [f"{measured}; golden was not looked at.\n"]
    then, now = record.inputs, ctx.spec.inputs()
    others = {p.name for p in ctx.spec.tuning.parameters} if ctx.spec.tuning else set()
    before, after = then.get("args", {}), now["args"]
    names = sorted({n for n in before.keys() | after.keys() if before.get(n) != after.get(n)} - others)
    if then.get("data") != now["data"]:
        lines.append("**The training data is another one by now** than in the trials.\n")
    if names:
        lines.append(f"**Other arguments changed** since the search began: {', '.join(map(code, names))}.\n")
    return lines


def ranked(ctx: Context, record: TuningRecord) -> list[TrialRecord]:
    """Give the trials that came to a good end, best first, and the first one whatever its rank."""
    done = [trial for trial in record.trials if trial.status == "Succeeded" and trial.value is not None]
    down = ctx.spec.tuning is not None and ctx.spec.tuning.objective.type == "maximize"
    done.sort(key=lambda trial: ((-1 if down else 1) * (trial.value or 0), trial.number))
    first = [trial for trial in done[_SHOWN - 1 :] if trial.number == 0]
    return [*done[: _SHOWN - 1], *first, *(trial for trial in done[_SHOWN - 1 :] if trial.number != 0)]


def _trials(ctx: Context, record: TuningRecord, trials: Sequence[TrialRecord]) -> str:
    names = [p.name for p in ctx.spec.tuning.parameters] if ctx.spec.tuning else []
    best = record.best.number if record.best else None
    rows = []
    for trial in trials:
        mark = "**best**" if trial.number == best else "as it was" if trial.number == 0 else ""
        ended = {"Pruned": "cut short", "Failed": f"failed: {escape(trial.message)}"}.get(trial.status, mark)
        values = [_shown(trial.args.get(name)) for name in names]
        rows.append((str(trial.number), number(trial.value), *values, duration(trial.seconds), ended))
    return table(("trial", escape(record.metric), *map(code, names), "took", ""), rows)


def _shown(value: object) -> str:
    return "–" if value is None else code(_plain(value))


def _plain(value: object) -> str:
    return plain(value) if isinstance(value, str) else json.dumps(value)
