"""Serving: what the merged release pins is what answers, and the last good one until then. Pure."""

from __future__ import annotations

from reconcilers.actions import Action, RollOut, Withdraw
from reconcilers.context import Context, Step, Verdict
from reconcilers.live_gate import LiveGate, Outcome
from reconcilers.proposals import asked
from reconcilers.rollback import INTENT
from reconcilers.targets import fallback_of, on_devices, release_fault, serves, target_of, under_way
from specs.names import serving_name
from specs.release import Release
from specs.serving_facts import Rejected, ServingState, ServingTarget
from specs.status import ConditionType as Type
from specs.status import Reason


def plan_rollout(ctx: Context, gate: LiveGate | None = None) -> Step:
    """Serve the release; where that failed for good, or live traffic speaks against it, fall back."""
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
    if on_devices(serving):
        text = f"devices serve v{release.version}, and nothing does here"
        return Step(Type.SERVING, Verdict.DONE, Reason.ON_DEVICES, text, withdraw)
    target = target_of(name, release, ctx.spec)
    if state is not None and gate is not None and gate.outcome is Outcome.FAILED:
        given_up = _given_up(ctx, state, target, gate)
        if given_up is not None:
            return given_up
    if state is not None and serves(state, target):
        return Step(Type.SERVING, Verdict.DONE, Reason.SERVING, f"v{target.version} answers{_share(state)}")
    if state is not None and state.failed_file is not None:
        failed = _failed(ctx, state, target, release)
        if failed is not None:
            return failed
    before = f"; v{state.version} answers until then" if state is not None and state.ready else ""
    if state is not None and state.failure and state.failed_file is None:
        before += f"; {state.failure}"
    text = f"v{target.version} is being loaded{before}"
    actions = () if under_way(state, target) else (RollOut(target),)
    return Step(Type.SERVING, Verdict.WAIT, Reason.ROLLING_OUT, text, actions)


def _share(state: ServingState) -> str:
    """Say so where not all replicas answer; making new ones is the cluster's own work."""
    if state.replicas == (0, 0):
        return " nobody: it is scaled to no replicas"
    if state.replicas is None or state.replicas[0] >= state.replicas[1]:
        return ""
    return f" with {state.replicas[0]} of {state.replicas[1]} replicas"


def _failed(ctx: Context, state: ServingState, target: ServingTarget, release: Release) -> Step | None:
    """Answer a failed load, or None where it concerns another file: that verdict says nothing about this one.

    The verdict is latched: a file that failed is not tried again until the release changes.
    """
    old, why_not = fallback_of(ctx, target)
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


def _given_up(ctx: Context, state: ServingState, target: ServingTarget, gate: LiveGate) -> Step | None:
    """Let the release before serve again; None where nothing can and the release still serves: then it goes on.

    The host remembers the verdict in the same act, so it is passed once, whatever traffic says later.
    """
    rejected = state.rejected or Rejected(target.file, gate.message)
    old, why_not = fallback_of(ctx, target)
    begin = f"v{target.version} failed in live traffic."
    if old is None:
        gone = Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, f"{begin} {why_not}")
        return None if serves(state, target) else gone
    now = f" v{state.version} answers." if state.ready else ""
    if serves(state, old):
        return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, begin + now)
    if state.failed_file == old.file:
        failure = state.failure.rstrip(" .") or "no reason was given"
        text = f"{begin} v{old.version} could not be loaded: {failure}.{now}"
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, text)
    known = state.rejected is not None and under_way(state, old)
    text = f"{begin} v{old.version} is asked for."
    return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, text, () if known else (RollOut(old, rejected),))


def plan_behind(rollout: Step) -> Step | None:
    """Say that git and what serves differ, as long as they do for a release that failed; else None."""
    if rollout.reason is not Reason.FALLBACK:
        return None
    text = f"{rollout.message} Git still says otherwise: merge the rollback, or a release that does better."
    return Step(Type.GIT_BEHIND, Verdict.DONE, Reason.FALLBACK, text)
