"""The search that ``spec.tuning`` asks for: beside the line, when that has no work of its own; then a question.

Nothing that comes of a search is an error of the model: what serves was not made by it. So a search that failed says so
in its own condition and leaves the others alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconcilers import jobs, orders, tuning_page
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit
from reconcilers.proposals import applied, plan_proposal, stale
from reconcilers.turns import wait_for_turn
from specs.base import Args, Scalar
from specs.digests import canonical
from specs.experiment_records import TuningRecord
from specs.names import tuning_dir
from specs.status import ConditionType as Type
from specs.status import Reason

INTENT = "tune"
_FIELD = "spec.training.args"
_WORKING = (Type.TRAINED, Type.EVALUATED, Type.EXPORTED)
_OTHER = "Another search was asked for, or this one has another answer by now."


def plan_tuning(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Search, then ask to use what was found where that is better; None where nobody asked."""
    if ctx.tuning_digest is None:
        gone = stale(ctx, INTENT, reason="Obsolete", sentence="spec.tuning is gone.")
        text = "spec.tuning is not given any more"
        return Step(Type.TUNED, Verdict.DONE, Reason.TUNED, text, gone) if gone else None
    record = ctx.tuned
    if record is None:
        step = _search(ctx, steps)
        gone = stale(ctx, INTENT, reason="Obsolete", sentence=_OTHER, subject=ctx.tuning_digest)
        return replace(step, actions=(*step.actions, *gone))
    if record.status == "Failed":
        text = f"{record.reason}: {record.message}. Change spec.tuning, or its nonce to search the same space again"
        gone = stale(ctx, INTENT, reason="Obsolete", sentence=_OTHER)
        return Step(Type.TUNED, Verdict.REST, Reason.TUNING_FAILED, text, gone)
    return _answer(ctx, record, steps)


def _search(ctx: Context, steps: tuple[Step, ...]) -> Step:
    """Run the job, unless the line has something to do: what people wait for comes first."""
    waits = _not_yet(ctx, steps)
    if waits:
        return Step(Type.TUNED, Verdict.REST, Reason.TUNING, waits)
    step = jobs.work(ctx, Type.TUNED, Reason.TUNING, orders.tuning(ctx))
    if step is None:
        return Step(Type.TUNED, Verdict.REST, Reason.TUNING, "the search waits for the data")
    return replace(step, verdict=Verdict.REST) if step.verdict is Verdict.STOP else step


def _not_yet(ctx: Context, steps: tuple[Step, ...]) -> str:
    """Say what the search waits for; empty where it can begin. One that has begun is not held up by anything."""
    begun = any(order.job in ctx.observed.jobs for order in orders.tuning(ctx))
    if begun:
        return ""
    ready = any(step.type is Type.DATA_READY and step.verdict is Verdict.DONE for step in steps)
    if not ready:
        return "the search waits for the data"
    if ctx.weights is None:
        return "the search waits for the training of the inputs as they are"
    at_work = any(step.type in _WORKING and step.verdict is Verdict.WAIT for step in steps)
    return "the search waits until the candidate is measured and exported" if at_work else ""


def _answer(ctx: Context, record: TuningRecord, steps: tuple[Step, ...]) -> Step:
    """Say what the search found, and ask to use it where it is better than what the arguments are."""
    found = changes(ctx, record)
    if not is_better(ctx, record) or not found:
        text = _nothing_better(record) if not is_better(ctx, record) else tuning_page.in_short(record)
        arrived = applied(ctx, INTENT, content(record), otherwise=_OTHER)
        return Step(Type.TUNED, Verdict.DONE, Reason.TUNED, text, arrived)
    turn = wait_for_turn(ctx, Type.TUNED, INTENT, steps)
    if turn is not None:
        return replace(turn, message=f"a better set of arguments was found; {turn.message}")
    step = plan_proposal(ctx, draft(ctx, record, found))
    verdict = Verdict.REST if step.verdict is Verdict.STOP else step.verdict
    return replace(step, type=Type.TUNED, verdict=verdict)


def is_better(ctx: Context, record: TuningRecord) -> bool:
    """Whether the best trial is strictly better than the arguments as they were when the search began."""
    best, first, wanted = record.best, record.baseline, ctx.spec.tuning
    if best is None or best.value is None or best.number == 0 or wanted is None:
        return False
    return first is None or first.value is None or first.status != "Succeeded" or wanted.better(best.value, first.value)


def _nothing_better(record: TuningRecord) -> str:
    return f"{len(record.trials)} trials, and none better than the arguments as they were"


def content(record: TuningRecord) -> dict[str, Any]:
    """Give what makes a proposal this one: the search, and the values that it found."""
    return {"tuning": record.tuning_digest, "args": record.best.args if record.best else {}}


def changes(ctx: Context, record: TuningRecord) -> Args:
    """Give the arguments that have to change, sorted by name, for the best trial's values to hold."""
    best = record.best.args if record.best else {}
    now = {name: in_force(ctx, record, name) for name in best}
    return {name: value for name, value in sorted(best.items()) if canonical(value) != canonical(now[name])}


def in_force(ctx: Context, record: TuningRecord, name: str) -> Scalar | list[Scalar]:
    """Give what an argument is now: as the file says, else the trainer's default, which the first trial told."""
    args = ctx.spec.training.args
    if name in args:
        return args[name]
    first = record.baseline
    told = first is not None and name in first.args and name not in record.inputs.get("args", {})
    return first.args[name] if told and first is not None else None


def draft(ctx: Context, record: TuningRecord, found: Args) -> Draft:
    """Write the proposal: which arguments change, and why."""
    rows = [(name, in_force(ctx, record, name), value) for name, value in found.items()]
    (field, _), *_ = _edits(ctx, found)
    return Draft(
        intent=INTENT, content=content(record), subject=record.tuning_digest, field=field,
        title=tuning_page.title(ctx, record), body=tuning_page.body(ctx, record, rows, folder(ctx, record)),
        edit=lambda: _edit(ctx, record, rows, found), instead="change spec.tuning",
    )  # fmt: skip


def folder(ctx: Context, record: TuningRecord) -> str:
    """Give where the evidence of a search lies."""
    return tuning_dir(*ctx.key, record.tuning_digest)


def _edits(ctx: Context, found: Args) -> list[tuple[str, object]]:
    """Give the fields that change: each argument alone, or all where the file has none."""
    if not ctx.spec.training.args:
        return [(_FIELD, found)]
    return [(f"{_FIELD}.{name}", value) for name, value in found.items()]


def _edit(ctx: Context, record: TuningRecord, rows: tuning_page.Rows, found: Args) -> Edit:
    (_, value), *more = _edits(ctx, found)
    place = folder(ctx, record)
    pictures = {name: digest for name, digest in sorted(record.files.items()) if name.endswith(".png")}
    page = tuning_page.page(ctx, record, rows, list(pictures))
    trailers = (("Trunkline-Tuning", record.tuning_digest), ("Trunkline-Source", ctx.observed.source.changed.sha))
    return Edit(
        value, trailers, {f"{place}/tuning.json": record.encode(), f"{place}/report.md": page.encode()},
        {f"{place}/{name}": digest for name, digest in pictures.items()}, tuple(more),
    )  # fmt: skip
