"""What a proposal says: title, text, commit message, and the hidden words by which it is known again. Pure.

The text of a pull request is all the memory there is: what we wrote last, whether it was us who closed it, and whether
the forge was asked to merge it. So it is read from the one list that a pass has, and lost only with the forge.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from reconcilers.actions import AskToMerge, CloseProposal, Proposal
from reconcilers.context import Context
from reconcilers.markdown import escape, plain
from specs.digests import canonical, digest_bytes, digest_of, hex_of, short
from specs.facts import ProposalState, PullRequest
from specs.names import proposal_branch

APPLIED = "AlreadyApplied"
"""Reason of a closing: the tracked branch says already what was proposed."""
ASKED, REFUSED = "asked", "refused"
_MARKER = re.compile(r"<!-- trunkline:v1 key=([0-9a-f]{64}) subject=([0-9a-f]{12}) body=([0-9a-f]{12}) -->")
_CLOSED = re.compile(r"<!-- trunkline:closed reason=([A-Za-z]+) -->")
_MERGE = re.compile(r"<!-- trunkline:auto-merge (asked|refused) -->")


@dataclass(frozen=True)
class Edit:
    """What the commit of a proposal holds."""

    value: object
    """New value of the field."""
    trailers: tuple[tuple[str, str], ...]
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    blobs: dict[str, str] = dataclasses.field(default_factory=dict)
    also: tuple[tuple[str, object], ...] = ()
    """Further fields with their new values."""


@dataclass(frozen=True)
class Draft:
    """What an intent wants to say; the rest follows from it."""

    intent: str
    content: object
    """What makes it this proposal and no other: no version, no time, no metric."""
    subject: str
    """Digest of the run, or of what else it is about."""
    field: str
    title: str
    body: str
    edit: Callable[[], Edit]
    """Writes the evidence; asked only when something is to be pushed, since most passes find all as it should be."""
    auto_merge: bool = False
    """Whether the forge is to be asked to merge it by itself, as soon as its own rules allow."""
    instead: str = "change the inputs"
    """What else a person can do who said no."""
    told: str = ""
    """More for people, as it was when this was written: nothing is written anew because it is otherwise by now."""


def key_of(ctx: Context, intent: str, content: object) -> str:
    """Name the proposal: sha256 hexadecimal of where it goes and what it changes."""
    source = ctx.observed.source
    return hex_of(digest_of({
        "repository": source.repository, "branch": source.branch, "path": source.path, "model": str(ctx.key),
        "intent": intent, "content": content,
    }))  # fmt: skip


def marker(draft: Draft, key: str) -> str:
    """Give the hidden line that says which proposal this is, and of what words it was made."""
    words = short(digest_bytes(canonical([draft.title, draft.body])))
    return f"<!-- trunkline:v1 key={key} subject={short(draft.subject)} body={words} -->"


def build(ctx: Context, draft: Draft, key: str) -> Proposal:
    """Complete a draft: branch, marker, evidence and trailers. Nothing in it can begin a line that it did not mean."""
    edit = draft.edit()
    trailers = (("Trunkline-Model", str(ctx.key)), ("Trunkline-Intent", draft.intent), *edit.trailers)
    lines = "\n".join(f"{name}: {plain(value)}" for name, value in (*trailers, ("Trunkline-Key", key)))
    title = plain(draft.title)
    words = (draft.body.rstrip(), draft.told.rstrip(), marker(draft, key))
    return Proposal(
        intent=draft.intent, key=key, branch=proposal_branch(draft.intent, *ctx.key, key),
        path=ctx.observed.source.path, field=draft.field, value=edit.value, title=title,
        body="\n\n".join(part for part in words if part) + "\n", message=f"{title}\n\n{lines}\n",
        files=edit.files, blobs=edit.blobs, also=edit.also,
    )  # fmt: skip


def closing(state: ProposalState, reason: str, sentence: str) -> CloseProposal:
    """Close one with a stated reason; the hidden mark tells our closing from a person's rejection."""
    pull, comment, mark = state.pull, f"{sentence} ({reason})", f"<!-- trunkline:closed reason={reason} -->"
    return CloseProposal(pull.number, pull.branch, state.branch_head, reason, comment, mark)


def asking(pull: PullRequest) -> AskToMerge:
    """Ask the forge to merge one by itself, and keep in its text what came of it."""
    return AskToMerge(pull.number, pull.title, pull.body)


def answered(body: str, refusal: str | None) -> str:
    """Give a pull request's text after the forge was asked to merge it: agreed (None), or refused with a sentence."""
    if refusal is None:
        return f"{body.rstrip()}\n\n<!-- trunkline:auto-merge {ASKED} -->\n"
    said = f"> A person has to merge this. The forge was asked to do it by itself, and said: {escape(refusal)}"
    return f"{body.rstrip()}\n\n{said}\n\n<!-- trunkline:auto-merge {REFUSED} -->\n"


def merge_answer(pull: PullRequest) -> str | None:
    """Tell what the forge said when it was asked to merge this: ``ASKED``, ``REFUSED``, or None if it was not asked.

    Closing ends that too: what was asked before says nothing about one that is open again.
    """
    found = _MERGE.findall(pull.body)
    return found[-1] if found and closed_because(pull) is None else None


def closed_because(pull: PullRequest) -> str | None:
    """Give our reason for closing it; None where it was not us, so that somebody else decided."""
    found = _CLOSED.findall(pull.body)
    return found[-1] if found else None


def subject_of(pull: PullRequest) -> str | None:
    """Give the first 12 digits of the run it is about; None where its text does not tell any more."""
    match = _MARKER.search(pull.body)
    return match[2] if match else None


def is_outdated(pull: PullRequest, now: str) -> bool:
    """Whether what we last wrote differs from the marker of ``now``; a person's own wording is left alone.

    One that we closed and that is open again still says that we closed it: that must go.
    """
    ours = _MARKER.search(pull.body)
    return ours is not None and (ours[0] != now or closed_because(pull) is not None)
