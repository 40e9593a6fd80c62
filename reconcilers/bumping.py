"""Newer versions of the training data: fetched, looked at and compared beside the line, then asked about. Pure."""

from __future__ import annotations

import json
from dataclasses import replace

from reconcilers import data_page, jobs, orders, retrain_page
from reconcilers.asking import held_back, is_on_its_way, unanswered
from reconcilers.context import Context, Step, Verdict
from reconcilers.data_steps import Flaw, flaw_of, invalid
from reconcilers.drafts import Draft, Edit, key_of
from reconcilers.observed import FOLLOWED, NewerData
from reconcilers.pinning import INTENT, answered, content, edits
from reconcilers.proposals import plan_proposal
from specs.data_records import new_labels
from specs.digests import digest_of
from specs.facts import PullState
from specs.names import data_evidence_dir
from specs.status import ConditionType as Type
from specs.status import Reason

SCHEMA = "trunkline.dev/data/v1"


def plan_newer_data(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Say how the pinned version stands to the newest, and ask for that once it is known to be good.

    Nothing that comes of it is an error of the model: what serves was trained on the pinned version.
    """
    ready = any(step.type is Type.DATA_READY and step.verdict is Verdict.DONE for step in steps)
    if not ready or any(step.reason is Reason.FALLBACK for step in steps) or not _is_asked(ctx, steps):
        return None
    trouble, newer = ctx.observed.troubles.get(FOLLOWED), ctx.observed.newer
    if trouble is not None:
        return _rest(trouble.reason, f"{FOLLOWED}: {trouble.message}")
    if newer is None:
        return Step(Type.DATA_CURRENT, Verdict.DONE, Reason.DATA_NEWEST, actions=answered(ctx))
    name = f"data {data_page.name_of(newer.source)}"
    flaw = _flaw(ctx, newer)
    if flaw is not None:
        return _rest(flaw.reason, f"{name} is not proposed: {flaw.message}")
    if newer.fact.manifest is not None and newer.fact.digest == ctx.dataset:
        text = f"{name} has the same pictures and labels"
        return Step(Type.DATA_CURRENT, Verdict.DONE, Reason.DATA_NEWEST, text, answered(ctx))
    step = jobs.work(ctx, Type.DATA_CURRENT, Reason.DATA_NEWER, orders.newer(ctx))
    step = step or _held_back(ctx, newer) or plan_proposal(ctx, _draft(ctx, newer))
    verdict = Verdict.REST if step.verdict is Verdict.STOP else step.verdict
    return replace(step, type=Type.DATA_CURRENT, verdict=verdict, message=f"{name}: {step.message}")


def _is_asked(ctx: Context, steps: tuple[Step, ...]) -> bool:
    """Whether anybody wants to know: who follows the data always does, a trigger when it has a cause."""
    if ctx.spec.follows is not None:
        return True
    return ctx.spec.newer_from is not None and not is_on_its_way(steps) and bool(unanswered(ctx))


def _held_back(ctx: Context, newer: NewerData) -> Step | None:
    """Wait for more labels, or until some time went by, unless this very version is asked about already."""
    key = key_of(ctx, INTENT, content({"spec.data.train": newer.source}))[:12]
    if any(each.key == key and each.pull.state is PullState.OPEN for each in ctx.observed.proposals):
        return None
    found = newer.difference
    return held_back(ctx, Type.DATA_CURRENT, new_labels(found) if found is not None else None)


def _rest(reason: Reason, message: str) -> Step:
    return Step(Type.DATA_CURRENT, Verdict.REST, reason, message)


def _flaw(ctx: Context, newer: NewerData) -> Flaw | None:
    """Say why merging the newest version would stop the line; None where it would not, as far as is known by now."""
    fact = newer.fact
    if fact.reason:
        return Flaw(Reason(fact.reason), fact.message)
    found = flaw_of(ctx, fact, newer.shared_pictures)
    if found is None and newer.validation is not None and orders.is_about(newer.validation, fact.digest, ctx.golden):
        found = invalid(newer.validation, ctx.spec.data.expect)
    return found


def _draft(ctx: Context, newer: NewerData) -> Draft:
    named = content({"spec.data.train": newer.source})
    (field, value), *more = edits("spec.data.train", ctx.spec.data.train, newer.source)
    causes = unanswered(ctx)
    return Draft(
        intent=INTENT, content=named, subject=digest_of(named), field=field,
        title=data_page.title(ctx, newer), body=data_page.body(ctx, newer, evidence_folder(ctx, newer)),
        edit=lambda: _edit(ctx, newer, value, more), instead="wait for another version",
        told=retrain_page.why_now(ctx, causes[0]) if causes else "",
    )  # fmt: skip


def evidence_folder(ctx: Context, newer: NewerData) -> str:
    """Give where the evidence about a version lies: named after the data, and after what it was held against."""
    return data_evidence_dir(*ctx.key, newer.fact.digest, digest_of([ctx.dataset, ctx.golden]))


def _edit(ctx: Context, newer: NewerData, value: object, more: list[tuple[str, object]]) -> Edit:
    folder = evidence_folder(ctx, newer)
    text = json.dumps(_evidence(ctx, newer), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    pictures = data_page.pictures(newer)
    page = data_page.page(ctx, newer, sorted(pictures))
    trailers = (("Trunkline-Data", newer.source.digest or ""), ("Trunkline-Source", ctx.observed.source.changed.sha))
    return Edit(
        value, trailers, {f"{folder}/data.json": text.encode() + b"\n", f"{folder}/report.md": page.encode()},
        {f"{folder}/{name}": digest for name, digest in pictures.items()}, tuple(more),
    )  # fmt: skip


def _evidence(ctx: Context, newer: NewerData) -> dict[str, object]:
    """Give what was found out about a version, as plain JSON values."""
    records = {"import": newer.fact.imported, "difference": newer.difference, "validation": newer.validation}
    return {
        "schema": SCHEMA, "model": str(ctx.key), "field": "spec.data.train",
        "before": ctx.spec.data.train.plain(), "after": newer.source.plain(),
        **{name: record.model_dump(mode="json", exclude_none=True) if record else None
           for name, record in records.items()},
    }  # fmt: skip
