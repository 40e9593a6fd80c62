"""Whose turn it is to ask: a model has as many questions open at once as ``policy.maxOpenProposals`` says. Pure."""

from __future__ import annotations

from reconcilers.actions import Propose
from reconcilers.context import Context, Step, Verdict
from reconcilers.proposals import DEFAULT_MAX_OPEN
from specs.facts import PullState
from specs.status import ConditionType, Reason


def wait_for_turn(ctx: Context, type_: ConditionType, intent: str, steps: tuple[Step, ...]) -> Step | None:
    """Say what an intent's question waits for, over all intents; None where it is its turn, or it is open already.

    People are asked about a release first, and one thing at a time unless the policy allows more.
    """
    opened = [p for p in ctx.observed.proposals if p.pull.state is PullState.OPEN]
    if any(p.intent == intent for p in opened):
        return None
    asking = [a.proposal.intent for step in steps for a in step.actions if isinstance(a, Propose) and a.number is None]
    names = [f"pull request #{p.pull.number} ({p.intent})" for p in opened]
    names += [f"the proposal to {asked}, which is being opened" for asked in asking]
    policy = ctx.spec.policy
    if len(names) < ((policy.max_open_proposals if policy else None) or DEFAULT_MAX_OPEN):
        return None
    text = f"it is proposed after {', '.join(names)} is merged or closed"
    theirs = any(p.theirs for p in opened)
    return Step(type_, Verdict.REST if theirs else Verdict.WAIT, Reason.TOO_MANY_PROPOSALS, text)
