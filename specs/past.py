"""The past of a repository as plain facts: what each commit of the tracked branch did, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from specs.facts import Commit

PULL_REQUEST = "Trunkline-Pull-Request"
MERGED_BY = "Merged-by"
APPROVED_BY = "Approved-by"
_SUBJECTS = (
    re.compile(r"Merge pull request #(\d+) from "),
    re.compile(r"Merge pull request '.*' \(#(\d+)\) from "),
    re.compile(r"\(#(\d+)\)$"),
)
_MERGE_REQUEST = re.compile(r"^See merge request \S*!(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """One commit of the first-parent line, and what it changed against its first parent."""

    commit: Commit
    parents: tuple[str, ...]
    committer: str
    """``Name <email>``."""
    body: str
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Path to git's names of the content (before, after); empty where there was none, or is none any more."""
    brought: Commit | None = None
    """Of a merge: the last commit of the branch that it merged."""

    @property
    def sha(self) -> str:
        """Full name."""
        return self.commit.sha

    def said(self, name: str) -> tuple[str, ...]:
        """Give all values of a trailer: of the commit itself, else of what it merged."""
        for commit in (self.commit, self.brought):
            found = tuple(value for key, value in commit.trailers if key == name) if commit else ()
            if found:
                return found
        return ()

    def one(self, name: str) -> str:
        """Give the last value of a trailer, empty where there is none."""
        return next(reversed(self.said(name)), "")


@dataclass(frozen=True)
class PullClaim:
    """What a commit says about the pull request it came by. Anybody can write that; only a forge can confirm it."""

    number: int | None
    where: str
    """``trailer``, ``subject``, ``body`` or ``merge``; empty where it says nothing."""


def pull_claim(step: Step) -> PullClaim:
    """Read which pull request a commit says it merged; a merge commit without a word is still one of something."""
    named = step.one(PULL_REQUEST)
    if named.isdecimal():
        return PullClaim(int(named), "trailer")
    for pattern in _SUBJECTS:
        match = pattern.search(step.commit.subject)
        if match:
            return PullClaim(int(match[1]), "subject")
    match = _MERGE_REQUEST.search(step.body)
    if match:
        return PullClaim(int(match[1]), "body")
    return PullClaim(None, "merge" if len(step.parents) > 1 else "")


def email(person: str) -> str:
    """Give the address in ``Name <address>``."""
    return person.rpartition("<")[2].removesuffix(">")


def proposed_by(step: Step) -> str:
    """Say who wrote what was merged; empty where git cannot tell: a squash may keep its author or not."""
    if step.brought is not None:
        return step.brought.author
    merger = step.one(MERGED_BY)
    return "" if merger and merger == step.commit.author else step.commit.author


def merged_by(step: Step) -> str:
    """Say who put it on the tracked branch; empty where git cannot tell.

    A forge that squashes or rebases commits in its own name, so the person is lost; one that makes a merge commit
    makes it in the person's name.
    """
    named = step.one(MERGED_BY)
    if named:
        return named
    if len(step.parents) > 1:
        return step.commit.author
    return step.committer if pull_claim(step).number is None else ""
