"""What a forge keeps about one project: pull requests over a real bare repository, and the people who work there.

The state follows git: new heads, branches that are gone, commits that reached the base. Merges are real commits.
"""

from __future__ import annotations

import copy
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.gitrepo import git

BEGIN = 1_800_000_000
BOT = "trunkline-bot"


@dataclass
class Comment:
    number: int
    author: str
    body: str


@dataclass
class Review:
    """``verdict`` is ``approve``, ``reject``, ``comment`` or ``dismissed``; ``commit`` was the head then."""

    number: int
    person: str
    verdict: str
    commit: str


@dataclass
class Status:
    context: str
    state: str
    summary: str
    url: str


@dataclass
class Pull:
    """A pull request as every forge knows it; times in Unix seconds, 0 where it has not happened."""

    number: int
    title: str
    body: str
    branch: str
    base: str
    head: str
    start: str
    """Commit of the base when it was opened."""
    author: str = BOT
    state: str = "open"
    """``open``, ``closed`` or ``merged``."""
    opened: int = 0
    updated: int = 0
    closed: int = 0
    merge_commit: str | None = None
    merged_by: str = ""
    auto_merge: str = ""
    """Method by which the forge merges it when it may; empty where nobody asked."""
    fork: str = ""
    """``owner/name`` its branch is in, where that is not this repository."""
    labels: list[str] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)


class Unwilling(Exception):
    """The forge says no; ends in its own form of an error."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class ForgeProject:
    """One project and its people: ``merge``, ``close``, ``review`` and so on are what they do."""

    closes_when_branch_goes = True
    closes_when_empty = True
    opens_empty = False

    def __init__(self, repository: Path, *, project: str = "acme/models", branch: str = "main") -> None:
        self.repository, self.project, self.branch = repository, project, branch
        self.now = BEGIN
        self.tick = 1
        """Seconds that pass with each change."""
        self.pulls: dict[int, Pull] = {}
        self.statuses: dict[str, list[Status]] = {}
        """By commit, oldest first."""
        self.readers: set[str] = {"reader"}
        """People who may look and comment, but not push: their approval counts for nothing."""
        self.auto_merge_allowed = True
        self.methods: tuple[str, ...] = ("merge", "squash", "rebase")
        self.lock = threading.RLock()
        self._frozen: list[Pull] | None = None
        self._heads: dict[str, str] = {}
        self._followed: dict[str, str] = {}
        self._trace: dict[str, int] = {}
        self._numbers = 0

    # ------------------------------------------------------------------------------------------------- state
    def freeze(self) -> None:
        """Let lists of pull requests tell what is so now, whatever happens."""
        with self.lock:
            self.follow()
            self._frozen = copy.deepcopy(list(self.pulls.values()))

    def thaw(self) -> None:
        """Let lists tell the truth again."""
        self._frozen = None

    def listed(self) -> list[Pull]:
        """Give pull requests as a list has them, the most recently updated first."""
        found = self.pulls.values() if self._frozen is None else self._frozen
        return sorted(found, key=lambda pull: (-pull.updated, -pull.number))

    def pull(self, number: int | str) -> Pull:
        """Give one, as it is; 404 where there is none."""
        if int(number) not in self.pulls:
            raise Unwilling(404, "Not Found")
        return self.pulls[int(number)]

    def next_number(self) -> int:
        """Give a number for a comment or a review."""
        self._numbers += 1
        return self._numbers

    def touch(self, pull: Pull) -> None:
        """Time passes, and a pull request is updated."""
        self.now += self.tick
        pull.updated = self.now

    def heads(self) -> dict[str, str]:
        """Give branches and their commits; git is only asked where a folder of references changed."""
        newest, now = self._traces(), time.time_ns()
        # Times of files are coarse: what changed a moment ago may change again without a trace.
        if newest != self._trace or now - max(newest.values()) < 100_000_000:
            lines = git(self.repository, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads").splitlines()
            self._heads = {name.removeprefix("refs/heads/"): sha for name, sha in map(str.split, lines)}
            self._trace = newest
        return self._heads

    def _traces(self) -> dict[str, int]:
        """Give each folder of references, and when something in it changed."""
        packed = self.repository / "packed-refs"
        found, places = {str(packed): packed.stat().st_mtime_ns} if packed.exists() else {}, ["refs/heads"]
        for place in places:
            found[place] = (self.repository / place).stat().st_mtime_ns
            places += [f"{place}/{entry.name}" for entry in os.scandir(self.repository / place) if entry.is_dir()]
        return found

    def opened(self, branch: str) -> Pull | None:
        """Give the open one from a branch."""
        found = (p for p in self.pulls.values() if p.state == "open" and p.branch == branch and not p.fork)
        return next(found, None)

    def create(self, *, title: str, body: str, branch: str, base: str, author: str = BOT, fork: str = "") -> Pull:
        """Open one; 422 where it is open already, or there is nothing to merge."""
        with self.lock:
            heads = self.heads()
            if base not in heads or branch not in heads:
                raise Unwilling(422, "head is invalid" if base in heads else "base is invalid")
            if not fork and self.opened(branch) is not None:
                raise Unwilling(422, f"A pull request already exists for {branch}.")
            if not self.opens_empty and self.has(heads[base], heads[branch]):
                raise Unwilling(422, f"No commits between {base} and {branch}")
            number = len(self.pulls) + 1
            pull = Pull(number, title, body, branch, base, heads[branch], heads[base], author, fork=fork)
            self.touch(pull)
            pull.opened = pull.updated
            self.pulls[number] = pull
            return pull

    def follow(self) -> None:
        """Look at git as a forge does after each push."""
        heads = self.heads()
        if heads == self._followed:
            return
        self._followed = heads
        for pull in self.pulls.values():
            if pull.state == "open" and not pull.fork and pull.base in heads:
                self._follow(pull, heads.get(pull.branch), heads[pull.base])

    def _follow(self, pull: Pull, head: str | None, base: str) -> None:
        if self.has(base, pull.head) and not self.has(pull.start, pull.head):
            self._end(pull, "merged", merge_commit=self._arrival(pull.head, base), by="somebody")
        elif head is None:
            if self.closes_when_branch_goes:
                self._end(pull, "closed")
        elif self.has(base, head):
            if self.closes_when_empty:
                self._end(pull, "closed")
        elif head != pull.head:
            pull.head = head
            self.touch(pull)

    def _end(self, pull: Pull, state: str, *, merge_commit: str | None = None, by: str = "") -> None:
        self.touch(pull)
        pull.state, pull.closed, pull.merge_commit, pull.merged_by = state, self.now, merge_commit, by
        pull.auto_merge = ""

    def has(self, commit: str, ancestor: str) -> bool:
        """Whether one commit is in the history of another."""
        return not git(self.repository, "rev-list", "--max-count=1", ancestor, f"^{commit}")

    def brought(self, pull: Pull) -> set[str]:
        """Give the commits that a pull request brings, or brought, to its base."""
        return {*git(self.repository, "rev-list", pull.head, f"^{pull.start}").splitlines(), pull.merge_commit or ""}

    def _arrival(self, head: str, base: str) -> str:
        line = git(self.repository, "rev-list", "--first-parent", "--reverse", f"{head}..{base}").splitlines()
        return next((commit for commit in line if self.has(commit, head)), head) if line else head

    # ------------------------------------------------------------------------------------------------- people
    def merge(self, number: int, method: str = "merge", by: str = "ann") -> str:
        """Press the button; ``merge``, ``squash`` or ``rebase``. Gives the commit of the base."""
        with self.lock:
            self.follow()
            pull = self.pull(number)
            assert pull.state == "open", pull
            base = self.heads()[pull.base]
            made = self._rebased(pull) if method == "rebase" else self._commit(pull, base, method)
            git(self.repository, "update-ref", f"refs/heads/{pull.base}", made, base)
            self._end(pull, "merged", merge_commit=made, by=by)
            return made

    def _commit(self, pull: Pull, base: str, method: str) -> str:
        tree = git(self.repository, "merge-tree", "--write-tree", base, pull.head)
        parents = ["-p", base] + (["-p", pull.head] if method == "merge" else [])
        message = f"{pull.title} (#{pull.number})\n\n{pull.body}"
        return git(self.repository, "commit-tree", tree, *parents, "-m", message, when=self.now)

    def _rebased(self, pull: Pull) -> str:
        with tempfile.TemporaryDirectory() as name:
            clone = Path(name)
            git(clone, "clone", "-q", "--no-checkout", str(self.repository), ".")
            git(clone, "checkout", "-q", "--detach", pull.head)
            # A rebase on a forge makes new commits even where the old ones would do.
            git(clone, "rebase", "-q", "--no-ff", f"origin/{pull.base}", when=self.now)
            git(clone, "push", "-q", "origin", "HEAD:refs/heads/rebased")
            made = git(clone, "rev-parse", "HEAD")
            git(self.repository, "update-ref", "-d", "refs/heads/rebased")
            return made

    def close(self, number: int) -> None:
        """Close one as a person does."""
        with self.lock:
            self.follow()
            if self.pull(number).state == "open":
                self._end(self.pull(number), "closed")

    def reopen(self, number: int) -> None:
        """Open one again; 422 where its branch is gone, was rewritten, or another is open from it."""
        with self.lock:
            self.follow()
            pull = self.pull(number)
            head = self.heads().get(pull.branch)
            if pull.state == "open":
                return
            if pull.state == "merged" or head is None or not self.has(head, pull.head) or self.opened(pull.branch):
                raise Unwilling(422, "state cannot be changed. The pull request cannot be reopened.")
            pull.state, pull.closed, pull.head = "open", 0, head
            self.touch(pull)

    def retarget(self, number: int, base: str) -> None:
        """Let it go into another branch."""
        with self.lock:
            self.pull(number).base = base
            self.touch(self.pull(number))

    def review(self, number: int, person: str, verdict: str = "approve") -> None:
        """Say ``approve``, ``reject`` or ``comment`` to the head as it is now."""
        with self.lock:
            self.follow()
            pull = self.pull(number)
            pull.reviews.append(Review(self.next_number(), person, verdict, pull.head))
            self.touch(pull)

    def dismiss(self, number: int, person: str) -> None:
        """Take back what somebody said."""
        with self.lock:
            for review in self.pull(number).reviews:
                if review.person == person and review.verdict in ("approve", "reject"):
                    review.verdict = "dismissed"

    def requirements_met(self, number: int) -> None:
        """Branch protection is satisfied: what waits for that is merged."""
        with self.lock:
            method = self.pull(number).auto_merge
            if method:
                self.merge(number, method, by=BOT)
