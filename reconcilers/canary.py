"""A release in steps: loaded beside what serves, its share of live traffic grows, until it serves alone. Pure.

Where it stands is what the host says, and nothing else; so a step that git changes meanwhile holds at once, a number of
steps that shrinks ends it earlier, and whoever comes second asks for the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconcilers.actions import Action, RollOut
from reconcilers.context import Context, Step, Verdict
from specs.base import seconds
from specs.modelspec import Spec
from specs.serving import PAUSE, CanaryStep
from specs.serving_facts import CanaryState, ServingState, ServingTarget, Share
from specs.status import ConditionType as Type
from specs.status import Reason

LOADED = Share(0)
"""Beside what serves, and nothing else."""


def steps_of(spec: Spec) -> Sequence[CanaryStep]:
    """Give the steps in which a release takes over; none where it does so at once."""
    strategy = spec.serving.strategy if spec.serving else None
    return strategy.canary.steps if strategy is not None and strategy.canary is not None else ()


def beside(state: ServingState | None, target: ServingTarget) -> CanaryState | None:
    """Give the target as it stands beside what serves; None where it does not."""
    canary = state.canary if state is not None else None
    same = canary is not None and (canary.version, canary.file) == (target.version, target.file)
    return canary if same else None


def in_steps(ctx: Context, state: ServingState | None, target: ServingTarget) -> bool:
    """Whether a release that does not serve yet takes over in steps.

    Only a newer one does so, with other bytes, beside something that answers: a first release has nothing beside it,
    and going back, or undoing what serves, must take no time. One that the host works towards already is past them.
    """
    if state is None or not steps_of(ctx.spec) or (state.version, state.file) == (target.version, target.file):
        return False
    if (state.asked_version, state.asked) == (target.version, target.file):
        return False
    if beside(state, target) is not None:
        return True  # also while all is started again, and nothing answers for a moment
    if not state.ready or state.version is None or state.replicas == (0, 0) or state.file == target.file:
        return False
    return target.version > state.version and not _undone(ctx, state)


def _undone(ctx: Context, state: ServingState) -> bool:
    """Whether what serves is what the release takes back: its run is denied."""
    release, serving = ctx.spec.release, ctx.spec.serving
    previous = release.previous if release is not None else None
    if release is None or serving is None or previous is None or previous.exports.get(serving.export) != state.file:
        return False
    return any(denied.run == previous.run for denied in release.deny or ())


@dataclass(frozen=True)
class Progress:
    """How far a release is in its steps."""

    step: int
    """From 1, as git has them now; 0: it only has to be loaded."""
    share: Share
    """What the step asks for."""
    left: float | None
    """Seconds of its pause that are left, none of them negative; None while the share is not in force."""
    last: bool

    @property
    def over(self) -> bool:
        """Whether the last step is over."""
        return self.last and self.left == 0


def progress(ctx: Context, canary: CanaryState) -> Progress:
    """Say how far it is; a step that git has no more counts as the last one."""
    steps = steps_of(ctx.spec)
    step = min(canary.share.step, len(steps))
    if not step:
        return Progress(0, LOADED, 0.0 if canary.ready else None, last=False)
    share = share_at(steps, step)
    pause = seconds(steps[step - 1].pause or PAUSE)
    held = canary.ready and canary.share == share and canary.since > 0
    left = max(canary.since + pause - ctx.now, 0.0) if held else None
    return Progress(step, share, left, last=step == len(steps))


def share_at(steps: Sequence[CanaryStep], step: int) -> Share:
    """Give the share of a step, counted from 1."""
    asked = steps[step - 1]
    return Share(step, asked.weight or 0, asked.mirror or 0)


def plan_canary(ctx: Context, state: ServingState, target: ServingTarget, *, passed: bool) -> Step:
    """Ask for the step that is due. ``passed``: live traffic speaks for it, so that it may serve alone."""
    canary, name = beside(state, target), f"v{target.version}"
    if canary is None:
        return _waits(state, f"{name} is being loaded{_where(state)}", (RollOut(replace(target, share=LOADED)),))
    at, steps = progress(ctx, canary), steps_of(ctx.spec)
    if at.over and passed:
        return _waits(state, f"{name} passed its steps; it is asked to serve alone", (RollOut(target),))
    share, after = at.share, at.left or 0.0
    if at.left == 0 and not at.last:
        share, after = share_at(steps, at.step + 1), 0.0
    text = f"{name} {_takes(share)}{_where(state)} (step {share.step} of {len(steps)})"
    if not share.step or not canary.ready:
        text = f"{name} is being loaded{_where(state)}"
    as_asked = canary.share == share and state.shape in (None, target.shape.digest)
    as_asked = as_asked and state.options in (None, target.options.digest)
    return _waits(state, text, () if as_asked else (RollOut(replace(target, share=share)),), after)


def _takes(share: Share) -> str:
    if share.mirror:
        return f"gets a copy of {share.mirror} % of the requests"
    return f"answers {share.weight} %" if share.weight else "gets no requests"


def _where(state: ServingState) -> str:
    words = f"; {state.failure}" if state.failure and state.failed_file is None else ""
    return (f" beside v{state.version}" if state.ready else ", and nothing answers now") + words


def _waits(state: ServingState, text: str, actions: tuple[Action, ...], after: float = 0.0) -> Step:
    reason = Reason.CANARY if state.ready else Reason.ROLLING_OUT  # two versions that do not answer are none
    return Step(Type.SERVING, Verdict.WAIT, reason, text, actions, after)


def told(spec: Spec) -> str:
    """Say the steps in a few words, ``10 % for 15m, a copy of 100 % for 5m``."""
    each = [
        f"{f'a copy of {step.mirror}' if step.mirror else step.weight} % for {step.pause or PAUSE}"
        for step in steps_of(spec)
    ]
    return ", ".join(each)
