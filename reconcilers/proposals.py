"""The life of a proposal, the same for every intent: open, bring up to date, supersede, close, leave alone. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from reconcilers.actions import Action, CloseProposal, Proposal, Propose
from reconcilers.context import Context, Step, Verdict
from specs.digests import canonical, digest_bytes, digest_of, hex_of, short
from specs.facts import ProposalState, PullRequest, PullState
from specs.names import proposal_branch
from specs.status import ConditionType as Type
from specs.status import Reason

DEFAULT_MAX_OPEN = 1
_MARKER = re.compile(r"<!-- trunkline:v1 key=([0-9a-f]{64}) subject=([0-9a-f]{12}) body=([0-9a-f]{12}) -->")
_CLOSED = "<!-- trunkline:closed "
RELEASING = ("promote", "rollback")
"""Intents that edit ``spec.release``: the one merged last is what trunk said until a person undid it."""


@dataclass(frozen=True)
class Edit:
    """What the commit of a proposal holds."""

    value: object
    """New value of the field."""
    trailers: tuple[tuple[str, str], ...]
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    blobs: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What an intent wants to say; the rest follows from it."""

    intent: str
    content: object
    """What makes it this proposal and no other: no version, no time, no metric."""
    subject: str
    """Digest of the run it is about."""
    field: str
    title: str
    body: str
    edit: Callable[[], Edit]
    """Writes the evidence; asked only when something is to be pushed, since most passes find all as it should be."""


def key_of(ctx: Context, draft: Draft) -> str:
    """Name the proposal: sha256 hexadecimal of where it goes and what it changes."""
    source = ctx.observed.source
    return hex_of(digest_of({
        "repository": source.repository, "branch": source.branch, "path": source.path, "model": str(ctx.key),
        "intent": draft.intent, "content": draft.content,
    }))  # fmt: skip


def _marker(draft: Draft, key: str) -> str:
    words = short(digest_bytes(canonical([draft.title, draft.body])))
    return f"<!-- trunkline:v1 key={key} subject={short(draft.subject)} body={words} -->"


def build(ctx: Context, draft: Draft, key: str) -> Proposal:
    """Complete a draft: branch, marker, evidence and trailers."""
    edit = draft.edit()
    trailers = (("Trunkline-Model", str(ctx.key)), ("Trunkline-Intent", draft.intent), *edit.trailers)
    lines = "\n".join(f"{name}: {value}" for name, value in (*trailers, ("Trunkline-Key", key)))
    return Proposal(
        intent=draft.intent, key=key, branch=proposal_branch(draft.intent, *ctx.key, key),
        path=ctx.observed.source.path, field=draft.field, value=edit.value, title=draft.title,
        body=f"{draft.body.rstrip()}\n\n{_marker(draft, key)}\n", message=f"{draft.title}\n\n{lines}\n",
        files=edit.files, blobs=edit.blobs,
    )  # fmt: skip


def plan_proposal(ctx: Context, draft: Draft) -> Step:
    """Bring the world of pull requests to the state that ``draft`` wants, or say whose decision stands against it."""
    key = key_of(ctx, draft)
    ours = [p for p in ctx.observed.proposals if p.intent == draft.intent]
    same = [p for p in ours if p.key == key[:12]]
    pull = next((p for p in reversed(same) if p.pull.state is PullState.OPEN), None)
    others = _close_others(ours, draft, key)
    if pull is None:
        decision = _decision(ctx, same)
        if decision is None:
            return _open(ctx, draft, key, others)
        gone = stale(ctx, draft.intent, reason="Obsolete", sentence="Something else would be proposed now.")
        return Step(Type.PROPOSED, *decision, actions=gone)
    if pull.foreign:
        text = f"{_name(pull)} has commits of others; it is theirs now"
        return Step(Type.PROPOSED, Verdict.REST, Reason.DETACHED, text, others)
    actions: tuple[Action, ...] = others
    if pull.conflicted or pull.branch_head is None or _outdated(pull.pull, _marker(draft, key)):
        actions = (Propose(build(ctx, draft, key), pull.pull.number, pull.branch_head), *others)
    text = f"{_name(pull)} waits for a person to merge it"
    return Step(Type.PROPOSED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN, text, actions)


def _decision(ctx: Context, same: list[ProposalState]) -> tuple[Verdict, Reason, str] | None:
    """Find the decision of people that stands against the proposal that these pull requests, none open, were for."""
    if not same:
        return None
    last = same[-1]
    if last.pull.state is PullState.CLOSED:
        if _closed_by_us(last.pull):
            return None
        text = f"{_name(last)} was closed without merging; change the inputs, or reopen it, to propose again"
        return Verdict.STOP, Reason.REJECTED, text
    merged = [p for p in ctx.observed.proposals if p.pull.state is PullState.MERGED and p.intent in RELEASING]
    if last.intent in RELEASING and max(merged, key=lambda p: (p.pull.closed, p.pull.number)) is not last:
        return None  # another release was merged since: going back to this one is a new question
    text = f"{_name(last)} was merged and later undone; change the inputs, or undo the undoing, to release it again"
    return Verdict.REST, Reason.REVERTED, text


def _closed_by_us(pull: PullRequest) -> bool:
    """Whether nobody decided anything: we closed it ourselves."""
    return _CLOSED in pull.body


def rejected_branches(ctx: Context) -> frozenset[str]:
    """Give the branches of proposals that a person closed: without its branch none can be reopened."""
    last = {p.pull.branch: p.pull for p in ctx.observed.proposals}
    return frozenset(b for b, pull in last.items() if pull.state is PullState.CLOSED and not _closed_by_us(pull))


def _open(ctx: Context, draft: Draft, key: str, others: tuple[CloseProposal, ...]) -> Step:
    opened = [p for p in ctx.observed.proposals if p.intent == draft.intent and p.pull.state is PullState.OPEN]
    theirs = [p for p in opened if p.foreign]
    policy = ctx.spec.policy
    allowed = (policy.max_open_proposals if policy else None) or DEFAULT_MAX_OPEN
    if len(theirs) >= allowed:
        names = ", ".join(_name(p) for p in theirs)
        text = f"{names} was taken over by a person; merge or close it before another is opened"
        return Step(Type.PROPOSED, Verdict.REST, Reason.TOO_MANY_PROPOSALS, text, others)
    branch = proposal_branch(draft.intent, *ctx.key, key)
    head = ctx.observed.branches.get(branch)
    if head is not None and branch not in ctx.observed.leftovers:
        text = f"branch {branch} has commits of others; open a pull request from it, or delete it"
        return Step(Type.PROPOSED, Verdict.REST, Reason.DETACHED, text, others)
    actions: tuple[Action, ...] = (Propose(build(ctx, draft, key), None, head), *others)
    return Step(Type.PROPOSED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN, f"proposing: {draft.title}", actions)


def _close_others(ours: list[ProposalState], draft: Draft, key: str) -> tuple[CloseProposal, ...]:
    """Close our open proposals of the same intent that this one replaces; those that people touched stay."""
    return tuple(
        closing(p, "Superseded", f"Replaced by a newer proposal: {draft.title}")
        for p in ours
        if p.pull.state is PullState.OPEN and p.key != key[:12] and not p.foreign
    )


def closing(state: ProposalState, reason: str, sentence: str) -> CloseProposal:
    """Close one with a stated reason; the hidden mark tells our closing from a person's rejection."""
    pull, comment, mark = state.pull, f"{sentence} ({reason})", f"{_CLOSED}reason={reason} -->"
    return CloseProposal(pull.number, pull.branch, state.branch_head, reason, comment, mark)


def stale(ctx: Context, intent: str, *, reason: str, sentence: str, subject: str | None = None) -> tuple[Action, ...]:
    """Close our open proposals of an intent that nothing asks for any more.

    With ``subject`` only those about another run are closed, as far as their text still tells.
    """
    return tuple(
        closing(p, reason, sentence)
        for p in ctx.observed.proposals
        if p.intent == intent and p.pull.state is PullState.OPEN and not p.foreign
        and (subject is None or _subject(p.pull) not in (None, short(subject)))
    )  # fmt: skip


def asked(ctx: Context, intent: str, subject: str) -> bool:
    """Whether a proposal of that intent about that run was ever opened, whatever became of it."""
    return any(p.intent == intent and _subject(p.pull) == short(subject) for p in ctx.observed.proposals)


def _subject(pull: PullRequest) -> str | None:
    match = _MARKER.search(pull.body)
    return match[2] if match else None


def _outdated(pull: PullRequest, marker: str) -> bool:
    """Whether what we last wrote differs from what we would write now; a person's own wording is left alone.

    One that we closed and a person opened again still says that we closed it: that must go.
    """
    ours = _MARKER.search(pull.body)
    return ours is not None and (ours[0] != marker or _CLOSED in pull.body)


def _name(state: ProposalState) -> str:
    return f"pull request #{state.pull.number}"
