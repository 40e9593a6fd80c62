"""What a forge knows about commits, in memory; it lags, fails and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from specs.errors import TrunklineError
from specs.facts import Check, PullRequest, PullState


def merged(number: int, commit: str, author: str = "ada") -> PullRequest:
    """Give a pull request that was merged by a commit."""
    url = f"https://git.example.com/shop/models/pulls/{number}"
    return PullRequest(
        number, PullState.MERGED, "feature", "f" * 40, "main", "Change", "", author, merge_commit=commit, url=url
    )


@dataclass
class FakeReviews:
    """The port's questions, answered from two dictionaries."""

    pulls: dict[str, PullRequest] = field(default_factory=dict)
    approved: dict[int, Sequence[str]] = field(default_factory=dict)
    trouble: TrunklineError | None = None
    asked: list[str] = field(default_factory=list)

    def pull_of(self, commit: str) -> PullRequest | None:
        self.asked.append(f"pull of {commit[:4]}")
        if self.trouble is not None:
            raise self.trouble
        return self.pulls.get(commit)

    def approvals(self, number: int) -> Sequence[str]:
        self.asked.append(f"approvals of {number}")
        if self.trouble is not None:
            raise self.trouble
        return self.approved.get(number, ())

    def say(self, number: int, text: str, *, marker: str) -> None:
        raise AssertionError(number)

    def report(self, commit: str, check: Check) -> None:
        raise AssertionError(commit)
