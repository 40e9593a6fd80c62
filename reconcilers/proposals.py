"""The life of a proposal, the same for every intent: open, bring up to date, supersede, close, leave alone. Pure."""

from __future__ import annotations

from dataclasses import replace

from reconcilers.actions import Action, CloseProposal, Propose, Withdrawn
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import (
    APPLIED,
    ASKED,
    Draft,
    answered,
    asking,
    build,
    closed_because,
    closing,
    is_outdated,
    key_of,
    marker,
    merge_answer,
    subject_of,
)  # fmt: skip
from reconcilers.limits import EXEMPT
from reconcilers.markdown import escape
from specs.digests import short
from specs.facts import ProposalState, PullState
from specs.names import proposal_branch
from specs.status import ConditionType as Type
from specs.status import Reason

DEFAULT_MAX_OPEN = 1
PAUSE = 300.0
"""Seconds in which what we closed stays closed: whatever flaps, people hear of it a few times an hour at most."""
RELEASING = ("promote", "rollback")
"""Intents that edit ``spec.release``: the one merged last is what trunk said until a person undid it."""
_RELEASED = "What is released is what the inputs ask for; nothing is left to propose."


def plan_proposal(ctx: Context, draft: Draft) -> Step:
    """Bring the world of pull requests to the state that ``draft`` wants, or say whose decision stands against it."""
    key = key_of(ctx, draft.intent, draft.content)
    ours = [p for p in ctx.observed.proposals if p.intent == draft.intent]
    same = [p for p in ours if p.key == key[:12]]
    state = next((p for p in reversed(same) if p.pull.state is PullState.OPEN), None)
    others = _close_others(ours, draft, key)
    if state is None:
        decision = _decision(ctx, draft, same)
        if decision is None:
            return _open(ctx, draft, key, same, others)
        gone = stale(ctx, draft.intent, reason="Obsolete", sentence="Something else would be proposed now.")
        return Step(Type.PROPOSED, *decision, actions=gone)
    if state.retargeted:
        text = f"{_name(state)} goes to {state.pull.base} now, so it is a person's; point it back, merge or close it"
        return Step(Type.PROPOSED, Verdict.REST, Reason.RETARGETED, text, others)
    if state.foreign:
        text = f"{_name(state)} has commits of others; it is theirs now"
        return Step(Type.PROPOSED, Verdict.REST, Reason.DETACHED, text, others)
    text, actions = _open_one(ctx, draft, key, state)
    return Step(Type.PROPOSED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN, text, (*actions, *others))


def _open_one(ctx: Context, draft: Draft, key: str, state: ProposalState) -> tuple[str, tuple[Action, ...]]:
    """Say how an open proposal of ours stands, and what it needs: to be rebuilt, to be merged by the forge, nothing."""
    pull, name, answer = state.pull, _name(state), merge_answer(state.pull)
    under_way = answer == ASKED and pull.auto_merge is not False
    if under_way and not draft.auto_merge:
        sentence = "spec.policy.autoMerge says no by now. It is opened again, for a person to merge."
        return f"{name} is not to be merged by the forge any more", (closing(state, "Withdrawn", sentence),)
    waits = f"{name} waits for a person to merge it"
    turned_off = answer == ASKED and not under_way
    if state.conflicted or state.branch_head is None or is_outdated(pull, marker(draft, key)):
        proposal = build(ctx, draft, key)
        body = answered(proposal.body, None) if turned_off else proposal.body  # whoever did that is not asked again
        return waits, (Propose(replace(proposal, body=body), pull.number, state.branch_head),)
    if draft.auto_merge and answer is None:
        return waits, (asking(pull),)
    if pull.auto_merge or under_way:
        return f"{name} is merged by the forge as soon as its rules allow", ()
    if draft.auto_merge:
        waits += ": its auto-merge was turned off" if turned_off else ": the forge said no to auto-merge, its text why"
    return waits, ()


def _decision(ctx: Context, draft: Draft, same: list[ProposalState]) -> tuple[Verdict, Reason, str] | None:
    """Find the decision of people that stands against the proposal that these pull requests, none open, were for."""
    if not same:
        return None
    last = same[-1]
    if last.pull.state is PullState.CLOSED and closed_because(last.pull) is None:
        text = f"{_name(last)} was closed without merging; {draft.instead}, or reopen it, to propose again"
        return Verdict.STOP, Reason.REJECTED, text
    if last.pull.state is PullState.MERGED and last.retargeted:
        text = f"{_name(last)} was merged into {last.pull.base}; bring that here by pull request, or {draft.instead}"
        return Verdict.REST, Reason.RETARGETED, text
    if not _arrived(last):
        return None
    releasing = last.intent in RELEASING
    alike = RELEASING if releasing else (last.intent,)
    arrived = [p for p in ctx.observed.proposals if p.intent in alike and _arrived(p)]
    if max(arrived, key=lambda p: (p.pull.closed, p.pull.number)) is not last:
        return None  # another one was merged since: going back to this one is a new question
    again = "to release it again" if releasing else "to have it again"
    text = f"{_name(last)} was merged and later undone; {draft.instead}, or undo the undoing, {again}"
    return Verdict.REST, Reason.REVERTED, text


def was_decided(state: ProposalState) -> bool:
    """Whether people said yes or no to it: neither open still, nor withdrawn by ourselves."""
    rejected = state.pull.state is PullState.CLOSED and closed_because(state.pull) is None
    return rejected or state.pull.state is PullState.MERGED or _arrived(state)


def _arrived(state: ProposalState) -> bool:
    """Whether the tracked branch once said what was proposed: merged, however, or written there by hand."""
    if state.pull.state is PullState.MERGED:
        return not state.retargeted
    return state.pull.state is PullState.CLOSED and closed_because(state.pull) == APPLIED


def rejected_branches(ctx: Context) -> frozenset[str]:
    """Give the branches of proposals that a person closed: without its branch none can be reopened."""
    last = {p.pull.branch: p.pull for p in ctx.observed.proposals}
    return frozenset(b for b, pull in last.items() if pull.state is PullState.CLOSED and closed_because(pull) is None)


def _open(
    ctx: Context, draft: Draft, key: str, same: list[ProposalState], others: tuple[CloseProposal, ...]
) -> Step:  # fmt: skip
    branch = proposal_branch(draft.intent, *ctx.key, key)
    head = ctx.observed.branches.get(branch)
    if head is not None and branch not in ctx.observed.leftovers:
        text = f"branch {branch} has commits of others; open a pull request from it, or delete it"
        return Step(Type.PROPOSED, Verdict.REST, Reason.DETACHED, text, others)
    step = _taken_over(ctx, draft) or _too_soon(ctx, draft, same)
    if step is not None:
        return Step(Type.PROPOSED, step.verdict, step.reason, step.message, others, step.after)
    last = same[-1] if same else None
    again = None
    if last is not None and last.pull.state is PullState.CLOSED and last.pull.head and not last.retargeted:
        again = Withdrawn(last.pull.number, last.pull.head)
    actions: tuple[Action, ...] = (Propose(build(ctx, draft, key), None, head, again), *others)
    return Step(Type.PROPOSED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN, f"proposing: {draft.title}", actions)


def _taken_over(ctx: Context, draft: Draft) -> Step | None:
    """Wait for people who took over as many proposals of this model as may be open."""
    opened = [p for p in ctx.observed.proposals if p.intent == draft.intent and p.pull.state is PullState.OPEN]
    theirs = [p for p in opened if p.theirs]
    policy = ctx.spec.policy
    if len(theirs) < ((policy.max_open_proposals if policy else None) or DEFAULT_MAX_OPEN):
        return None
    names = ", ".join(_name(p) for p in theirs)
    text = f"{names} was taken over by a person; merge or close it before another is opened"
    return Step(Type.PROPOSED, Verdict.REST, Reason.TOO_MANY_PROPOSALS, text)


def _too_soon(ctx: Context, draft: Draft, same: list[ProposalState]) -> Step | None:
    """Wait while the repository has too many proposals, or while this one was closed by us only just now."""
    last = same[-1].pull if same else None
    if last is not None and last.state is PullState.CLOSED and (ago := abs(ctx.now - last.closed)) < PAUSE:
        again = f"it is opened again {PAUSE / 60:g} minutes after that"
        text = f"{_name(same[-1])} was closed by Trunkline only just now; {again}"
        return Step(Type.PROPOSED, Verdict.WAIT, Reason.PROPOSAL_PAUSED, text, after=PAUSE - ago)
    full = None if draft.intent in EXEMPT else ctx.observed.crowd.full(ctx.now)
    if full is None:
        return None
    return Step(Type.PROPOSED, Verdict.WAIT, Reason.PROPOSAL_LIMIT, full[0], after=full[1])


def _close_others(ours: list[ProposalState], draft: Draft, key: str) -> tuple[CloseProposal, ...]:
    """Close our open proposals of the same intent that this one replaces; those that people touched stay."""
    return tuple(
        closing(p, "Superseded", f"Replaced by a newer proposal: {escape(draft.title)}")
        for p in ours
        if p.pull.state is PullState.OPEN and p.key != key[:12] and not p.theirs
    )


def stale(ctx: Context, intent: str, *, reason: str, sentence: str, subject: str | None = None) -> tuple[Action, ...]:
    """Close our open proposals of an intent that nothing asks for any more. ``sentence`` is markdown already.

    With ``subject`` only those about another run are closed, as far as their text still tells.
    """
    return tuple(
        closing(p, reason, sentence)
        for p in _opened(ctx, intent)
        if subject is None or subject_of(p.pull) not in (None, short(subject))
    )


def applied(ctx: Context, intent: str, *contents: object, otherwise: str = _RELEASED) -> tuple[Action, ...]:
    """Close our open proposals of an intent: those whose content the tracked branch has, arrived; others are over.

    ``otherwise`` is said to those others.
    """
    opened = _opened(ctx, intent)
    keys = {key_of(ctx, intent, content)[:12] for content in contents} if opened else set()
    arrived = "The tracked branch says already what this proposes; nothing is left to merge."
    return tuple(
        closing(p, APPLIED, arrived)
        if p.key in keys
        else closing(p, "Obsolete", otherwise)
        for p in opened
    )


def _opened(ctx: Context, intent: str) -> list[ProposalState]:
    """Give our open proposals of an intent, without those that people took over."""
    every = (p for p in ctx.observed.proposals if p.intent == intent and not p.theirs)
    return [p for p in every if p.pull.state is PullState.OPEN]


def asked(ctx: Context, intent: str, subject: str) -> bool:
    """Whether a proposal of that intent about that run was ever opened, whatever became of it."""
    return any(p.intent == intent and subject_of(p.pull) == short(subject) for p in ctx.observed.proposals)


def not_agreed(ctx: Context, intent: str, subject: str) -> bool:
    """Whether a proposal of that intent about that run is open, or was closed by people who said no."""
    same = (p.pull for p in ctx.observed.proposals if p.intent == intent and subject_of(p.pull) == short(subject))
    return any(
        pull.state is PullState.OPEN or (pull.state is PullState.CLOSED and closed_because(pull) is None)
        for pull in same
    )


def _name(state: ProposalState) -> str:
    return f"pull request #{state.pull.number}"
