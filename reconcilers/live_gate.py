"""The live gate: a new release is on trial in live traffic, beside what the one before it did there. Pure.

It passes, or it fails and the release before it serves again, or nobody can say: then it stays, and people are told.
A release that takes over in steps is on trial in all of them, beside what answers the rest of the requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from reconcilers import canary
from reconcilers.context import Context, Step, Verdict
from reconcilers.live_checks import FEWEST, Check, compare, said
from reconcilers.targets import bake_time, fallback_of, serves, wanted
from specs.profile_records import ProfileRecord
from specs.release import Release
from specs.serving_facts import ServingState, ServingTarget
from specs.status import ConditionType as Type
from specs.status import Reason
from specs.traffic import Watched

ENOUGH = 100
"""Requests that each release needs before the new one passes, where ``monitoring.minSamples`` does not say how many."""
_STAYS = "It stays until people decide otherwise."
_NEVER_BLINDLY = (
    "It goes through its steps, and stays at the last one until there is a verdict; to end it, revert the release, or "
    "take spec.serving.strategy.canary away to let it serve alone."
)
_LOOKS = 20
"""A trial is looked at so often, at most every second and at least every ``_SLOWEST``."""
_SLOWEST = 15.0


class Outcome(StrEnum):
    """How a trial stands."""

    PASSED = "passed"
    FAILED = "failed"
    """The new release is worse, beyond doubt and by more than may be."""
    WAITING = "waiting"
    """Traffic still comes in."""
    INCONCLUSIVE = "inconclusive"
    """There was too little of it, or nobody looked: no verdict, ever. Nothing is rolled back for that."""


@dataclass(frozen=True)
class LiveGate:
    """A trial, and what to say about it."""

    outcome: Outcome
    message: str
    """Why, with the numbers; of a failure nothing but those, which the host remembers."""
    after: float = 0.0
    """Seconds until looking again is useful; 0 where nobody knows, or nothing new will come."""


def judge(ctx: Context) -> LiveGate | None:
    """Say how the release's trial stands; None where it is on none.

    A failure is found where it was remembered: at the host, together with the release before, which serves again. A
    release that only undoes a bad one is on no trial.
    """
    release, target, state, bake = ctx.spec.release, wanted(ctx), ctx.observed.serving, bake_time(ctx.spec)
    if release is None or target is None or state is None:
        return None
    if state.rejected is not None and state.rejected.file == target.file:
        return LiveGate(Outcome.FAILED, state.rejected.failure)
    if canary.in_steps(ctx, state, target):
        return _in_steps(ctx, state, target)
    if not bake or release.previous is None or undoes(release):
        return None
    if (passed := _remembered(ctx, release, Reason.LIVE_GATE_PASSED)) is not None:
        return LiveGate(Outcome.PASSED, passed)
    if not serves(state, target):
        return None
    if state.self_test:
        return _broken(state.self_test)
    if ctx.observed.watched is None and (unsure := _remembered(ctx, release, Reason.BAKE_INCONCLUSIVE)) is not None:
        return LiveGate(Outcome.INCONCLUSIVE, unsure)  # a host that was just started will know more in a moment
    return _on_trial(ctx, ctx.observed.watched, target, release.previous.version)


def _remembered(ctx: Context, release: Release, reason: Reason) -> str | None:
    """Give what the last status says about this release, where it was that."""
    before = ctx.observed.live_gate_before
    same = before is not None and before.reason == reason and before.message.startswith(f"v{release.version} ")
    return before.message if before is not None and same else None


def undoes(release: Release) -> bool:
    """Whether a release takes another one back, which is therefore denied."""
    previous = release.previous
    return previous is not None and any(denied.run == previous.run for denied in release.deny or ())


def _broken(self_test: str) -> LiveGate:
    broken = self_test.replace("; ", ", ").rstrip(".")
    return LiveGate(Outcome.FAILED, f"self-test, repeated while it serves: {broken}")


def _in_steps(ctx: Context, state: ServingState, target: ServingTarget) -> LiveGate | None:
    """Judge a release beside what serves; None as long as it gets no requests."""
    found = canary.beside(state, target)
    if found is None or not found.share.step:
        return None
    if found.self_test:
        return _broken(found.self_test)
    serving = "what serves" if state.version is None else f"v{state.version}"
    names, watched = (f"v{target.version}", serving), ctx.observed.watched
    new, old = (watched.canary, watched.beside) if watched else (None, None)
    checks = compare(new, old, ctx.spec.task, **_profiles(ctx, state)) if new and old else ()
    if any(check.fails for check in checks):
        return LiveGate(Outcome.FAILED, said(checks))
    # None of these begins with the name of the release: what is remembered of it is about a trial that comes after.
    begin = f"beside {names[1]}, {names[0]}"
    if not ctx.observed.watches or (watched is not None and watched.trouble):
        why = watched.trouble if watched is not None and watched.trouble else "nobody looks at live traffic here"
        return LiveGate(Outcome.INCONCLUSIVE, f"{begin} has no verdict: {why}. {_NEVER_BLINDLY}")
    if watched is None or not canary.progress(ctx, found).over:
        steps = len(canary.steps_of(ctx.spec))
        text = f"{begin} is on trial in live traffic, in {steps} step{'s' if steps > 1 else ''}"
        return LiveGate(Outcome.WAITING, text, _SLOWEST)
    for name, traffic in zip(names, (new, old), strict=True):
        if (traffic.requests if traffic else 0.0) < enough(ctx):
            # How many it had by now would be another text with each of them.
            text = f"{name} had fewer than {enough(ctx)} requests, which are needed to judge it"
            return LiveGate(Outcome.INCONCLUSIVE, f"{begin} has no verdict: {text}. {_NEVER_BLINDLY}")
    return LiveGate(Outcome.PASSED, f"{begin} passed: {said(checks)}")


def _profiles(ctx: Context, state: ServingState) -> dict[str, ProfileRecord | None]:
    """Give what both do on golden, where it is the release before that serves; of another one nobody knows."""
    release = ctx.spec.release
    previous = release.previous.version if release is not None and release.previous is not None else None
    known = previous == state.version
    return {"profile": ctx.observed.profile, "before": ctx.observed.profile_before} if known else {}


def enough(ctx: Context) -> int:
    """Give how many requests each release needs before the new one passes."""
    monitoring = ctx.spec.monitoring
    return max((monitoring.min_samples if monitoring else None) or ENOUGH, FEWEST)


def _on_trial(ctx: Context, watched: Watched | None, target: ServingTarget, before: int) -> LiveGate:
    """Judge by the traffic that is known. The same traffic gives the same verdict, whoever asks and whenever."""
    bake, name = bake_time(ctx.spec), f"v{target.version}"
    if not ctx.observed.watches:
        return LiveGate(Outcome.INCONCLUSIVE, f"{name} has no verdict: nobody looks at live traffic here. {_STAYS}")
    if watched is None or (watched.loaded is None and not watched.trouble):
        return LiveGate(Outcome.WAITING, _waits(name, before, bake))
    new, old = watched.bake, watched.champion
    profile, previous = ctx.observed.profile, ctx.observed.profile_before
    checks = compare(new, old, ctx.spec.task, profile=profile, before=previous) if new and old else ()
    if any(check.fails for check in checks):
        return LiveGate(Outcome.FAILED, said(checks))
    end = math.inf if watched.loaded is None else watched.loaded + bake
    if watched.trouble and (new is None or new.end < end):
        return LiveGate(Outcome.INCONCLUSIVE, f"{name} has no verdict yet: {watched.trouble}")
    if ctx.now < end:
        return LiveGate(Outcome.WAITING, _waits(name, before, bake), min(max(bake / _LOOKS, 1.0), _SLOWEST))
    return _ended(ctx, watched, checks, target.version, before)


def _ended(ctx: Context, watched: Watched, checks: tuple[Check, ...], version: int, before: int) -> LiveGate:
    """Judge a trial that is over."""
    wanted = enough(ctx)
    for name, traffic in ((version, watched.bake), (before, watched.champion)):
        had = traffic.requests if traffic else 0.0
        if had < wanted:
            text = f"v{version} has no verdict: v{name} had {had:.0f} requests to judge it by, and {wanted} are needed"
            return LiveGate(Outcome.INCONCLUSIVE, f"{text}. {_STAYS}")
    return LiveGate(Outcome.PASSED, f"v{version} passed beside v{before}: {said(checks)}")


def _waits(name: str, before: int, bake: float) -> str:
    return f"{name} is on trial in live traffic for {duration(bake)}, beside what v{before} did"


def duration(time: float) -> str:
    """Give seconds in the largest unit that keeps them whole: ``90s``, ``15m``, ``3h``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if time >= size and time % size == 0:
            return f"{time / size:.0f}{unit}"
    return f"{time:g}s"


_STEPS = {
    Outcome.PASSED: (Verdict.DONE, Reason.LIVE_GATE_PASSED),
    Outcome.FAILED: (Verdict.STOP, Reason.LIVE_GATE_FAILED),
    Outcome.WAITING: (Verdict.WAIT, Reason.BAKING),
    Outcome.INCONCLUSIVE: (Verdict.REST, Reason.BAKE_INCONCLUSIVE),
}


def plan_live_gate(ctx: Context, gate: LiveGate | None) -> Step | None:
    """Say how the trial stands; None where there is none. What follows from it is the rollout's to do."""
    release, target = ctx.spec.release, wanted(ctx)
    if gate is None or release is None or target is None:
        return None
    verdict, reason = _STEPS[gate.outcome]
    text = gate.message
    if gate.outcome is Outcome.FAILED:
        why_not = "" if canary.beside(ctx.observed.serving, target) else fallback_of(ctx, target)[1]
        text = f"v{release.version} failed: {text}" + (f". {why_not} It goes on serving." if why_not else "")
    return Step(Type.LIVE_GATE, verdict, reason, text, after=gate.after)
