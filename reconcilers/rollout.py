"""Serving: what the merged release pins is what answers, and the last good one until then. Pure."""

from __future__ import annotations

from typing import Any

from reconcilers.actions import Action, RollOut, Withdraw
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit
from reconcilers.markdown import code, escape
from reconcilers.promotion import next_version, pin
from reconcilers.proposals import asked, plan_proposal, stale
from specs.facts import ServingState, ServingTarget
from specs.names import serving_name
from specs.placement import Placement, Shape
from specs.release import Pin, Release
from specs.serving import Serving
from specs.status import ConditionType as Type
from specs.status import Reason

INTENT = "rollback"


def plan_rollout(ctx: Context) -> Step:
    """Serve the release; where that failed for good, fall back and propose to make git agree."""
    name = serving_name(*ctx.key)
    serving, release, state = ctx.spec.serving, ctx.spec.release, ctx.observed.serving
    withdraw = (Withdraw(name),) if state is not None else ()
    if serving is None:
        return Step(Type.SERVING, Verdict.REST, Reason.NO_SERVING, "spec.serving is not given", withdraw)
    if release is None:
        return Step(Type.SERVING, Verdict.REST, Reason.NOT_RELEASED, "nothing is released", withdraw)
    fault = release_fault(ctx, release, serving)
    if fault is not None:
        return Step(Type.SERVING, Verdict.STOP, Reason.RELEASE_UNKNOWN, fault)
    target = target_of(name, release, serving)
    if state is not None and _serves(state, target):
        return Step(Type.SERVING, Verdict.DONE, Reason.SERVING, f"v{target.version} answers{_share(state)}")
    if state is not None and state.failed_file is not None:
        failed = _failed(ctx, state, target, release, serving)
        if failed is not None:
            return failed
    before = f"; v{state.version} answers until then" if state is not None and state.ready else ""
    if state is not None and state.failure and state.failed_file is None:
        before += f"; {state.failure}"
    asked = (state.asked_version, state.asked, state.shape) if state is not None else None
    under_way = asked == (target.version, target.file, target.shape.digest)
    text = f"v{target.version} is being loaded{before}"
    return Step(Type.SERVING, Verdict.WAIT, Reason.ROLLING_OUT, text, () if under_way else (RollOut(target),))


def _serves(state: ServingState, target: ServingTarget) -> bool:
    """Whether exactly this serves, and in the shape that is asked for."""
    same = (state.file, state.version) == (target.file, target.version)
    return state.ready and same and state.shape in (None, target.shape.digest)


def _share(state: ServingState) -> str:
    """Say so where not all replicas answer; making new ones is the cluster's own work."""
    if state.replicas == (0, 0):
        return " nobody: it is scaled to no replicas"
    if state.replicas is None or state.replicas[0] >= state.replicas[1]:
        return ""
    return f" with {state.replicas[0]} of {state.replicas[1]} replicas"


def target_of(name: str, release: Pin, serving: Serving) -> ServingTarget:
    """Give what must serve when ``release`` is the release."""
    placement = Placement.of(serving.resources, serving.node_selector)
    replicas = serving.replicas if serving.replicas is not None else 1
    shape = Shape(replicas, placement, serving.autoscaling)
    return ServingTarget(name, release.version, release.run, release.weights, release.exports[serving.export], shape)


def release_fault(ctx: Context, release: Pin, serving: Serving) -> str | None:
    """Say why a pinned release cannot be what it claims; a hand-edited one often is not."""
    run = ctx.observed.runs.get(release.run)
    if run is None:
        return f"spec.release.run {release.run} is not in the store; pin a run that exists, or revert the change"
    if run.weights != release.weights:
        return f"spec.release.weights {release.weights} are not what run {release.run} made ({run.weights})"
    file = release.exports.get(serving.export)
    if file is None:
        names = ", ".join(sorted(release.exports))
        return f"spec.release.exports has no {serving.export}, which spec.serving.export names; it has {names}"
    artifact = ctx.observed.artifacts.get(file)
    if artifact is None:
        return f"spec.release.exports.{serving.export} {file} is not in the store; pin one that exists"
    if artifact.weights != release.weights:
        return f"spec.release.exports.{serving.export} {file} was not made from weights {release.weights}"
    return None


def _failed(
    ctx: Context, state: ServingState, target: ServingTarget, release: Release, serving: Serving
) -> Step | None:
    """Answer a failed load, or None where it concerns another file: that verdict says nothing about this one.

    The verdict is latched: a file that failed is not tried again until the release changes.
    """
    previous, why_not = _fallback(ctx, release, serving)
    old = target_of(target.name, previous, serving) if previous else None
    failure = state.failure.rstrip(" .") or "no reason was given"
    begin = f"v{target.version} could not be loaded: {failure}."
    if old is not None and state.failed_file == old.file and asked(ctx, INTENT, release.run):
        # Only one failure is remembered; that the release failed before it, the rollback we asked for tells.
        text = f"Neither v{target.version} nor v{old.version} can be loaded: {failure}."
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, text) if not state.ready else None
    if state.failed_file != target.file:
        return None
    if old is None:
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, f"{begin} {why_not}")
    # A cluster would go on trying the failed one for ever, beside the old one that answers; so it must be told.
    keeps_trying = state.asked is not None and (state.asked != old.file or state.shape != old.shape.digest)
    actions: tuple[Action, ...] = () if state.ready and not keeps_trying else (RollOut(old),)
    now = f"v{state.version} answers." if state.ready else f"v{old.version} is asked for."
    return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, f"{begin} {now}", actions)


def _fallback(ctx: Context, release: Release, serving: Serving) -> tuple[Pin | None, str]:
    """Give what to fall back to, or why there is nothing."""
    previous = release.previous
    if previous is None:
        return None, "There is no previous release to fall back to."
    if previous.exports.get(serving.export) == release.exports.get(serving.export):
        return None, f"The previous release, v{previous.version}, has the same bytes."
    if any(denied.run == previous.run for denied in release.deny or ()):
        return None, f"The previous release, v{previous.version}, is on spec.release.deny."
    fault = release_fault(ctx, previous, serving)
    return (previous, "") if fault is None else (None, f"There is nothing to fall back to: {fault}")


def plan_rollback(ctx: Context, rollout: Step) -> Step | None:
    """Propose to make git say what serves, after a rollout that failed for good; None in any other case."""
    release, state = ctx.spec.release, ctx.observed.serving
    if rollout.reason is not Reason.FALLBACK or release is None or release.previous is None:
        return None
    return plan_proposal(ctx, draft(ctx, release, release.previous, state.failure if state else ""))


def over(ctx: Context, rollout: Step) -> tuple[Action, ...]:
    """Close rollbacks that nothing asks for any more."""
    release = ctx.spec.release
    if release is None or rollout.verdict in (Verdict.DONE, Verdict.REST):
        return stale(ctx, INTENT, reason="Obsolete", sentence="The release serves, or is gone.")
    # Not over while a server that started again tries again: nobody should be asked twice.
    return stale(ctx, INTENT, reason="Obsolete", sentence="The release is another one by now.", subject=release.run)


def draft(ctx: Context, release: Release, previous: Pin, why: str) -> Draft:
    """Write the rollback: the previous pin again, the bad run denied, promotions on hold."""
    version = next_version(ctx)
    denied = [d.model_dump(mode="json", by_alias=True, exclude_none=True) for d in release.deny or ()]
    reason = "failed rollout"
    content: dict[str, Any] = {**previous.content(), "denied": release.run}
    value: dict[str, Any] = {
        "version": version, **previous.content(), "previous": pin(release),
        "deny": [*denied, {"run": release.run, "reason": reason, "at": f"v{release.version}"}],
        "hold": {"reason": f"v{release.version} failed to roll out"},
    }  # fmt: skip
    body = (
        f"**v{release.version}** of {code(str(ctx.key))} could not be rolled out.\n\n> {escape(why)}\n\n"
        f"Merging makes git say what serves: the bytes of v{previous.version}, as v{version}. It also puts the failed "
        "run on `deny` and promotions on `hold`; remove `hold` by pull request to go on.\n\n"
        f"### How to say no\n\nClose this without merging: it is not asked again while v{release.version} is the "
        "release. What serves stays as it is.\n"
    )
    trailers = (
        ("Trunkline-Version", str(version)),
        ("Trunkline-Run", previous.run),
        ("Trunkline-Weights", previous.weights),
    )
    return Draft(
        intent=INTENT, content=content, subject=release.run, field="spec.release", body=body,
        title=f"{ctx.key}: roll back v{release.version} to the bytes of v{previous.version}",
        edit=lambda: Edit(value, trailers), auto_merge=ctx.auto_merge != "Never",
    )  # fmt: skip
