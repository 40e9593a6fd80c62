"""The plan: what to do about one model, now. Pure: no clock, no network, no logging.

This function is the product. The operator, the agent and ``trunkline plan`` all ask it, so what a pull request is
said to do is what it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconcilers.actions import Action, DeleteBranch, Propose
from reconcilers.bumping import plan_newer_data
from reconcilers.context import Context, Step, Verdict
from reconcilers.data_steps import plan_data
from reconcilers.live_gate import judge, plan_live_gate
from reconcilers.markdown import escape
from reconcilers.observed import Observed
from reconcilers.promotion import INTENT as PROMOTE
from reconcilers.promotion import plan_promotion
from reconcilers.proposals import rejected_branches, stale
from reconcilers.rollback import over, plan_recall, plan_rollback
from reconcilers.rollout import plan_behind, plan_rollout
from reconcilers.steps import plan_evaluation, plan_exports, plan_gates, plan_training
from reconcilers.tracking import plan_tracking
from reconcilers.triggers import plan_triggers
from reconcilers.tuning import plan_tuning
from reconcilers.vetting import told as origin
from reconcilers.watching import plan_watching
from reconcilers.waves import plan_fleet
from specs.modelspec import ModelKey, Spec
from specs.status import ConditionType as Type
from specs.status import Reason

LINE = (plan_data, plan_training, plan_evaluation, plan_exports, plan_gates, plan_promotion)
"""The production line of a candidate, in order; the first step that is not done ends it."""


ASIDES: tuple[Callable[[Context, tuple[Step, ...]], Step | None], ...] = (
    plan_watching, plan_newer_data, plan_triggers, plan_tuning, plan_tracking,
)  # fmt: skip
"""What goes on beside the line, once it has got as far as it gets; None where there is nothing to say about it.

Each sees what those before it said.
"""


@dataclass(frozen=True)
class Plan:
    """Every step's answer, in order, and what to do."""

    steps: tuple[Step, ...]
    suspended: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """What to do now: rollout first, always."""
        return () if self.suspended else tuple(action for step in self.steps for action in step.actions)

    @property
    def intended(self) -> tuple[Action, ...]:
        """What would be done, also while suspended."""
        return tuple(action for step in self.steps for action in step.actions)

    @property
    def after(self) -> float:
        """Seconds until looking again is useful; 0 means the host's own pace."""
        return min((step.after for step in self.steps if step.after > 0), default=0.0)

    def step(self, type_: Type) -> Step | None:
        """Give the answer of the last step about ``type_``, or None where the line did not get there."""
        return next((step for step in reversed(self.steps) if step.type is type_), None)


def plan(key: ModelKey, spec: Spec, observed: Observed, now: float) -> Plan:
    """Decide. ``now`` is Unix time in seconds; it matters for pauses between attempts only."""
    ctx = Context(key, spec, observed, now)
    if not observed.verified:
        text = "this spec is not in the history of the tracked branch; nothing is done about it"
        return Plan((Step(Type.SOURCE_VERIFIED, Verdict.STOP, Reason.NOT_IN_GIT, text),))
    verified = Step(Type.SOURCE_VERIFIED, Verdict.DONE, Reason.IN_GIT, origin(observed.source))
    gate = judge(ctx)
    rollout = plan_rollout(ctx, gate)
    fleet = plan_fleet(ctx)
    rollback, recall = plan_rollback(ctx, rollout, gate), plan_recall(ctx, fleet)
    rollout = replace(rollout, actions=(*rollout.actions, *over(ctx, rollout, recalled=recall is not None)))
    rollback = rollback or recall
    told = (step for step in (plan_live_gate(ctx, gate), plan_behind(rollout), fleet) if step is not None)
    steps = (verified, rollout, *told)
    line = run_line(ctx)
    if rollback is None:
        steps += line
    elif rollback.reason in _ANSWERED:
        steps += (rollback, *line)
    else:  # one question at a time
        steps += (*(step for step in line if step.type is not Type.PROPOSED), rollback)
    for ask in ASIDES:
        step = ask(ctx, steps)
        steps += (step,) if step is not None else ()
    return Plan(_with_sweep(ctx, steps), suspended=spec.suspend)


_ANSWERED = (Reason.REJECTED, Reason.REVERTED)


def _with_sweep(ctx: Context, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Delete branches that an interrupted pass left behind, but none that is proposed now or could be reopened."""
    kept = rejected_branches(ctx)
    kept |= {a.proposal.branch for step in steps for a in step.actions if isinstance(a, Propose)}
    sweep = tuple(DeleteBranch(b, head) for b, head in sorted(ctx.observed.leftovers.items()) if b not in kept)
    return (*steps[:-1], replace(steps[-1], actions=(*steps[-1].actions, *sweep))) if sweep else steps


def run_line(ctx: Context) -> tuple[Step, ...]:
    """Ask the steps of the line in order, up to the first that is not done."""
    steps: list[Step] = []
    for ask in LINE:
        step = ask(ctx)
        steps.append(step)
        if step.verdict is not Verdict.DONE:
            break
    if steps[-1].type is not Type.PROPOSED:
        steps[-1] = replace(steps[-1], actions=(*steps[-1].actions, *_obsolete(ctx, steps[-1])))
    return tuple(steps)


def _obsolete(ctx: Context, last: Step) -> tuple[Action, ...]:
    """Close proposals for a candidate that is none any more: other inputs, or gates that no longer pass."""
    if last.type is Type.DATA_READY:
        return ()  # a store that cannot be read says nothing about the candidate
    if last.reason is Reason.DENIED:
        return stale(ctx, PROMOTE, reason="Obsolete", sentence="The run is on spec.release.deny.")
    if last.type is Type.GATES_PASSED:
        return stale(ctx, PROMOTE, reason="Obsolete", sentence=f"The gates no longer pass: {escape(last.message)}.")
    return stale(
        ctx, PROMOTE, reason="Obsolete", sentence="The inputs changed: another run is the candidate now.",
        subject=ctx.inputs_digest,
    )  # fmt: skip
