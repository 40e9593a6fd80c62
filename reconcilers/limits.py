"""How many proposals a repository takes: a bound on what a bad day does to people's inboxes. Rollbacks are exempt.

The count is taken from the list of pull requests that all models share, so no model can hide from it; what was opened
since that list was asked for is remembered here, so that many workers together keep to it as one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reconcilers.causes import causes_in
from specs.errors import Transient
from specs.facts import PullRequest, PullState
from specs.names import parse_branch, parse_episode

HOUR = 3600.0
UNSEEN = 300.0
"""Seconds in which the forge's list may lag behind what we opened; after that it never was opened."""
EXEMPT = ("rollback",)


@dataclass(frozen=True)
class Limits:
    """What is too much, for one repository."""

    max_open: int = 10
    """Proposals open at once."""
    max_per_hour: int = 20
    """Proposals opened in any one hour."""


@dataclass(frozen=True)
class Crowd:
    """The proposals of all models of a repository, held against its limits."""

    limits: Limits | None = None
    """None: as many as there are."""
    open: int = 0
    newest: tuple[int, ...] = ()
    """When the newest ``max_per_hour`` of them were opened, Unix seconds, oldest first."""
    because: tuple[tuple[str, str], ...] = ()
    """(name of a signal, ``namespace.name`` of a model) where an open one says that this signal made us ask."""

    def full(self, now: float, more: int = 0) -> tuple[str, float] | None:
        """Say why another one has to wait, and how many seconds if that is known (else 0); None where there is room.

        ``more`` were opened since this was counted.
        """
        if self.limits is None:
            return None
        most = self.limits.max_open
        if self.open + more >= most:
            text = f"the repository has {self.open + more} open proposals, of at most {most}; merge or close one"
            return text, 0.0
        most = self.limits.max_per_hour
        lately = [when for when in self.newest if when > now - HOUR]
        if len(lately) + more >= most:
            text = f"the repository got {len(lately) + more} proposals within an hour, of at most {most}"
            return text, max(lately[0] + HOUR - now, 1.0) if lately else HOUR
        return None


@dataclass
class Allowance:
    """What may still be opened in one repository; all workers of a process share it.

    Threads need no lock here: each puts its name down first, and then reads in what order the names stand. All of them
    see the same order.
    """

    limits: Limits | None = None
    _crowd: Crowd = field(default_factory=Crowd)
    _taken: dict[str, float] = field(default_factory=dict)
    """Branch to when it was asked for, in that order, until the forge's list shows it."""

    def looked(self, pulls: Sequence[PullRequest]) -> Crowd:
        """Take in a new list, and give what it comes to."""
        counted = [pull for pull in pulls if _counts(pull)]
        opened = {pull.branch for pull in counted if pull.state is PullState.OPEN}
        most = self.limits.max_per_hour if self.limits else 0
        newest = tuple(sorted(pull.opened for pull in counted)[-most:]) if most else ()
        self._crowd = Crowd(
            self.limits, sum(pull.state is PullState.OPEN for pull in counted), newest, tuple(sorted(_because(counted)))
        )
        for branch in opened:
            self._taken.pop(branch, None)
        return self._crowd

    def take(self, intent: str, branch: str, now: float) -> None:
        """Allow to open one, now (Unix time, seconds); Transient ``ProposalLimit`` where there is no room.

        Asking again for the same branch takes no more than asking once.
        """
        if intent in EXEMPT:
            return
        for other, when in self._taken.copy().items():
            if abs(now - when) >= UNSEEN:
                self._taken.pop(other, None)
        self._taken.setdefault(branch, now)
        order = list(self._taken.copy())
        found = self._crowd.full(now, order.index(branch)) if branch in order else None  # else a list just showed it
        if found:
            self._taken.pop(branch, None)
            raise Transient("ProposalLimit", found[0])


def _counts(pull: PullRequest) -> bool:
    parsed = parse_branch(pull.branch)
    return parsed is not None and parsed[0] not in EXEMPT


def _because(pulls: Sequence[PullRequest]) -> set[tuple[str, str]]:
    found = set()
    for pull in pulls:
        parsed, named = parse_branch(pull.branch), [parse_episode(cause) for cause in causes_in(pull.body)]
        if parsed is not None and pull.state is PullState.OPEN:
            found |= {(each[0], f"{parsed[1]}.{parsed[2]}") for each in named if each is not None}
    return found
