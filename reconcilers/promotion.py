"""The last step of the line: ask people to release the candidate. Pure."""

from __future__ import annotations

from typing import Any

from reconcilers import orders, report
from reconcilers.actions import Action
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit
from reconcilers.evidence import evidence_files
from reconcilers.proposals import applied, plan_proposal, stale
from specs.engines import MACHINE_BOUND
from specs.release import Pin
from specs.status import ConditionType as Type
from specs.status import Reason

INTENT = "promote"


def candidate(ctx: Context) -> dict[str, Any] | None:
    """Give what a release of the candidate would say, or None while it is not complete."""
    if ctx.weights is None:
        return None
    records = {export.name: orders.export_record(ctx, export) for export in ctx.spec.exports}
    exports = {name: record.file for name, record in records.items() if record and record.file}
    if len(exports) != len(ctx.spec.exports):
        return None
    return {"run": ctx.inputs_digest, "weights": ctx.weights, "exports": dict(sorted(exports.items()))}


def is_released(ctx: Context) -> bool:
    """Whether the release is the candidate, digest for digest."""
    return ctx.spec.release is not None and ctx.spec.release.content() == candidate(ctx)


def next_version(ctx: Context) -> int:
    """Count releases over the whole history, so that a version is never used for two things."""
    release = ctx.spec.release
    return max(ctx.observed.source.last_version, release.version if release else 0) + 1


def plan_promotion(ctx: Context) -> Step:
    """Propose the candidate, unless it is released, or people decided otherwise."""
    content = candidate(ctx)
    if content is None:  # never so behind the steps before this one
        return Step(Type.PROPOSED, Verdict.WAIT, Reason.EXPORTING, "the candidate is not complete")
    if is_released(ctx):
        return Step(Type.PROPOSED, Verdict.DONE, Reason.RELEASED, actions=_over(ctx, content))
    release = ctx.spec.release
    if release is not None and release.hold is not None:
        actions = stale(ctx, INTENT, reason="Obsolete", sentence="Promotions are on hold.")
        text = f"spec.release.hold: {release.hold.reason}; remove it by pull request to go on"
        return Step(Type.PROPOSED, Verdict.REST, Reason.HELD, text, actions)
    return plan_proposal(ctx, draft(ctx, content))


def _over(ctx: Context, content: dict[str, Any]) -> tuple[Action, ...]:
    """Close what is asked no more.

    Not while the engine of a release waits to be loaded: a server that started again will say once more that it is for
    another device, and what was asked then is asked still.
    """
    release, serving = ctx.spec.release, ctx.spec.serving
    file = release.exports.get(serving.export) if release and serving else None
    artifact, state = ctx.observed.artifacts.get(file or ""), ctx.observed.serving
    waits = artifact is not None and artifact.format in MACHINE_BOUND and (state is None or state.file != file)
    return () if waits else applied(ctx, INTENT, content)


def draft(ctx: Context, content: dict[str, Any]) -> Draft:
    """Write the proposal: what is asked, and why."""
    version = next_version(ctx)
    return Draft(
        intent=INTENT, content=content, subject=ctx.inputs_digest, field="spec.release",
        title=report.title(ctx, version), body=report.body(ctx, version), edit=lambda: _edit(ctx, content, version),
        auto_merge=bool(ctx.spec.gates) and ctx.auto_merge == "WhenGatesPass",  # no gates, nobody who would say no
    )  # fmt: skip


def _edit(ctx: Context, content: dict[str, Any], version: int) -> Edit:
    """Write the release as it should be, with its evidence."""
    files, blobs, digest = evidence_files(ctx, content, version)
    release = ctx.spec.release
    value: dict[str, Any] = {"version": version, **content, "evidence": digest}
    if release is not None:
        value["previous"] = pin(release)
        if release.deny:
            value["deny"] = [d.model_dump(mode="json", by_alias=True, exclude_none=True) for d in release.deny]
    trailers = (
        ("Trunkline-Version", str(version)),
        ("Trunkline-Run", str(content["run"])),
        ("Trunkline-Weights", str(content["weights"])),
        ("Trunkline-Evidence", digest),
        ("Trunkline-Source", ctx.observed.source.changed.sha),
    )
    return Edit(value, trailers, files, blobs)


def pin(release: Pin) -> dict[str, Any]:
    """Give the pin alone, as it is kept under ``previous``."""
    return {"version": release.version, **release.content()}
