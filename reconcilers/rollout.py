"""Serving: what the merged release pins is what answers, and the last good one until then. Pure."""

from __future__ import annotations

from dataclasses import replace

from reconcilers import canary, engines
from reconcilers.actions import Action, RollOut, Withdraw
from reconcilers.context import Context, Step, Verdict
from reconcilers.live_gate import LiveGate, Outcome
from reconcilers.proposals import asked, not_agreed
from reconcilers.rollback import INTENT
from reconcilers.targets import fallback_of, on_devices, release_fault, serves, target_of, under_way
from specs.engines import MACHINE_BOUND, fits
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
        text = f"v{target.version} answers{_share(state)}"
        let_go = () if state.canary is None else (RollOut(target),)
        return Step(Type.SERVING, Verdict.DONE, Reason.SERVING, text, let_go)
    if state is not None and state.failed_file is not None:
        failed = _failed(ctx, state, target, release)
        if failed is not None:
            return failed
    if state is not None and canary.in_steps(ctx, state, target):
        passed = gate is not None and gate.outcome is Outcome.PASSED
        return canary.plan_canary(ctx, state, target, passed=passed)
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
    device = engines.refusing(ctx.spec, ctx.observed)
    if device:
        return _mismatched(ctx, state, old, begin, device)
    known = asked(ctx, INTENT, release.run) or _is_made_again(ctx, release, target)
    if old is not None and state.has_failed(old) and known:
        # Only one failure is remembered; that the release failed before it, what we asked for since then tells.
        text = f"Neither v{target.version} nor v{old.version} can be loaded: {failure}."
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, text) if not state.ready else None
    if not state.has_failed(target):
        return None
    if old is None:
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, f"{begin} {why_not}")
    actions = _fall_back(state, old)
    now = f"v{state.version} answers." if state.ready else f"v{old.version} is asked for."
    return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, f"{begin} {now}", actions)


def _is_made_again(ctx: Context, release: Release, target: ServingTarget) -> bool:
    """Whether people were asked to release the same weights with another engine, since this one does not fit."""
    artifact = ctx.observed.artifacts.get(target.file)
    return artifact is not None and artifact.format in MACHINE_BOUND and not_agreed(ctx, "promote", release.run)


def _fall_back(state: ServingState, old: ServingTarget) -> tuple[Action, ...]:
    """Ask for the release before, unless it answers and nothing else is being tried.

    A cluster would go on trying the failed one for ever, beside the old one that answers; so it must be told.
    """
    keeps_trying = state.asked is not None and (state.asked != old.file or state.shape != old.shape.digest)
    if state.canary is not None:
        keeps_trying = (state.version, state.file) == (old.version, old.file)
    return () if state.ready and not keeps_trying else (RollOut(old),)


def _mismatched(
    ctx: Context, state: ServingState, old: ServingTarget | None, begin: str, device: dict[str, str]
) -> Step:  # fmt: skip
    """Wait for an engine that fits the device: the line makes one and asks for it. Nothing is wrong with the weights.

    A release before that fits no better is not asked for: it would take the verdict away, and begin a circle.
    """
    made = ctx.observed.artifacts.get(old.file) if old is not None else None
    actions = _fall_back(state, old) if old is not None and made is not None and fits(made.runtime, device) else ()
    now = f" v{state.version} answers until then." if state.ready else ""
    if engines.is_circle(ctx.spec, ctx.observed, device):
        text = (
            f"{begin} The release before was made for this device, and this one for another: the servers run on unlike "
            "devices. Let all run on one kind (serving.nodeSelector), or let each make its own (exports[].buildOn)."
        )
        return Step(Type.SERVING, Verdict.STOP, Reason.ENGINE_MISMATCH, text, actions)
    released = ctx.spec.release is not None and ctx.spec.release.run == ctx.inputs_digest
    again = "It is exported again for this device." if released else "The next release is exported for this device."
    return Step(Type.SERVING, Verdict.WAIT, Reason.ENGINE_MISMATCH, f"{begin} {again}{now}", actions)


def _given_up(ctx: Context, state: ServingState, target: ServingTarget, gate: LiveGate) -> Step | None:
    """Let the release before serve again; None where nothing can and the release still serves: then it goes on.

    The host remembers the verdict in the same act, so it is passed once, whatever traffic says later.
    """
    known = state.rejected if state.rejected is not None and state.rejected.file == target.file else None
    rejected = known or Rejected(target.file, gate.message)
    old, why_not = fallback_of(ctx, target)
    begin = f"v{target.version} failed in live traffic."
    if (taken := canary.beside(state, target)) is not None:
        actions = _let_go(state, target, old, rejected)
        done = taken.share == canary.LOADED and known is not None and actions[0].target.share is not None
        now = f" v{state.version} answers." if state.ready else ""
        return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, begin + now, () if done else actions)
    if old is None:
        gone = Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, f"{begin} {why_not}")
        return None if serves(state, target) else gone
    now = f" v{state.version} answers." if state.ready else ""
    if serves(state, old):
        return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, begin + now)
    if state.has_failed(old):
        failure = state.failure.rstrip(" .") or "no reason was given"
        text = f"{begin} v{old.version} could not be loaded: {failure}.{now}"
        return Step(Type.SERVING, Verdict.STOP, Reason.ROLLOUT_FAILED, text)
    asked_for = state.rejected is not None and under_way(state, old)
    text = f"{begin} v{old.version} is asked for."
    return Step(Type.SERVING, Verdict.STOP, Reason.FALLBACK, text, () if asked_for else (RollOut(old, rejected),))


def _let_go(
    state: ServingState, target: ServingTarget, old: ServingTarget | None, rejected: Rejected
) -> tuple[RollOut]:
    """Give up what is beside what serves; where git does not name that any more, it only gets no requests."""
    if old is not None and (old.version, old.file) == (state.version, state.file):
        return (RollOut(old, rejected),)
    return (RollOut(replace(target, share=canary.LOADED), rejected),)


def plan_behind(rollout: Step) -> Step | None:
    """Say that git and what serves differ, as long as they do for a release that failed; else None."""
    if rollout.reason is not Reason.FALLBACK:
        return None
    text = f"{rollout.message} Git still says otherwise: merge the rollback, or a release that does better."
    return Step(Type.GIT_BEHIND, Verdict.DONE, Reason.FALLBACK, text)
