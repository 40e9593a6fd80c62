"""References to data without a digest: never trained on, so Trunkline asks to pin what they stand for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

from reconcilers import jobs, orders
from reconcilers.actions import Action
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit
from reconcilers.markdown import code, table
from reconcilers.proposals import applied, plan_proposal
from specs.data import Source
from specs.digests import digest_of
from specs.status import ConditionType as Type
from specs.status import Reason

INTENT = "bump-data"
_NAMES = {
    "spec.data.train": "training data", "spec.data.golden": "golden set", "spec.data.calibration": "calibration data",
}  # fmt: skip


def plan_pins(ctx: Context) -> Step | None:
    """Ask to pin all bare references at once, as soon as it is known what they stand for; None where there are none."""
    bare = ctx.spec.unpinned
    if not bare:
        return None
    for field, _ in bare:
        trouble = ctx.observed.troubles.get(field)
        if trouble is not None:
            verdict = Verdict.WAIT if trouble.passing else Verdict.STOP
            return Step(Type.DATA_READY, verdict, trouble.reason, f"{field}: {trouble.message}")
    step = jobs.work(ctx, Type.DATA_READY, Reason.IMPORTING, orders.lookups(ctx))
    if step is not None:
        return step
    names = ", ".join(f"{field}.{source.kind}" for field, source in bare)
    resolved = {field: ctx.observed.resolved[field] for field, _ in bare if field in ctx.observed.resolved}
    if len(resolved) < len(bare):
        text = f"{names} has no digest, and nobody here can be asked; a reference without digest is never trained on"
        return Step(Type.DATA_READY, Verdict.STOP, Reason.DATA_NOT_PINNED, text)
    step = plan_proposal(ctx, _draft(ctx, resolved))
    reason = Reason.DATA_NOT_PINNED if step.reason is Reason.PULL_REQUEST_OPEN else step.reason
    return replace(step, type=Type.DATA_READY, reason=reason, message=f"{names} has no digest: {step.message}")


def settled_pins(ctx: Context) -> tuple[Action, ...]:
    """Close what was asked about data where nothing is to be asked any more: all is pinned, and nobody follows."""
    return () if ctx.spec.newer_from is not None else answered(ctx)


def answered(ctx: Context) -> tuple[Action, ...]:
    """Close open proposals about data: the tracked branch names what they ask for, or asks for something else."""
    if not any(each.intent == INTENT for each in ctx.observed.proposals):
        return ()
    given = ctx.spec.data.named
    asked = (dict(some) for count in range(1, len(given) + 1) for some in combinations(given, count))
    return applied(ctx, INTENT, *map(content, asked), otherwise=_OTHER)


_OTHER = "The data that the tracked branch names is not what this was about any more."


def content(named: Mapping[str, Source]) -> dict[str, str | None]:
    """Give what makes a proposal this one: the data, wherever it lies and by whatever revision it was found."""
    return {field: source.digest for field, source in named.items()}


def edits(field: str, before: Source, after: Source) -> list[tuple[str, object]]:
    """Give the values that differ, each with its field: the smallest edit there is."""
    old, new = (source.plain()[after.kind] for source in (before, after))
    return [(f"{field}.{after.kind}.{name}", value) for name, value in sorted(new.items()) if old.get(name) != value]


def _draft(ctx: Context, resolved: Mapping[str, Source]) -> Draft:
    every = sorted(edit for field, source in ctx.spec.unpinned for edit in edits(field, source, resolved[field]))
    (field, value), *more = every
    named = content(resolved)
    title = f"{ctx.key}: pin {' and '.join(_NAMES[each] for each in resolved)}"
    trailers = tuple(("Trunkline-Data", str(digest)) for digest in named.values())
    return Draft(
        intent=INTENT, content=named, subject=digest_of(named), field=field, title=title, body=_body(ctx, every),
        edit=lambda: Edit(value, trailers, also=tuple(more)), instead="write the digest, or name other data",
    )  # fmt: skip


def _body(ctx: Context, every: list[tuple[str, object]]) -> str:
    rows = [(code(field), code(str(value))) for field, value in every]
    head = (
        f"{code(str(ctx.key))} names data by a reference that may mean something else tomorrow. Trunkline never trains "
        "on that; it asks to pin what the reference stands for now.\n"
    )
    merged = (
        "### What merging does\n\nThe data is fetched, held against the digest, and every picture and label is looked "
        "at. If all is well, a model is trained on it.\n"
    )
    undone = "### How to undo it\n\n`git revert` the merge. Then nothing is trained until a digest is named.\n"
    refused = (
        "### How to say no\n\nClose this without merging: Trunkline remembers that, and asks again only when the "
        "reference stands for other data.\n"
    )
    return "\n".join((head, table(("field", "becomes"), rows), merged, undone, refused))
