"""A git repository and a forge in memory: real commits, real text merges, pull requests that squash. No processes."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from specs.errors import Stalled, Transient
from specs.facts import Commit, PullRequest, PullState
from specs.names import BRANCH_PREFIX
from tests.support.wire import Wire

US, PERSON = "trunkline@localhost", "ann@example.com"
TRUNK = "main"
Tree = Mapping[str, bytes]
Pulls = list[PullRequest]
Asked = list[int]
Hunk = tuple[int, int, tuple[bytes, ...]]


@dataclass(frozen=True)
class FakeCommit:
    """One commit; its name is the digest of all of it."""

    parents: tuple[str, ...]
    tree: Tree
    author: str
    message: str
    when: int

    @property
    def sha(self) -> str:
        """Give its name."""
        text = repr((self.parents, sorted(self.tree.items()), self.author, self.message, self.when))
        return hashlib.sha1(text.encode()).hexdigest()


def merge_text(base: bytes, one: bytes, other: bytes) -> bytes | None:
    """Merge two changes of a text by lines; None where they touch each other."""
    lines = base.splitlines(keepends=True)
    first, second = _hunks(lines, one), _hunks(lines, other)
    if any(a[0] <= b[1] and b[0] <= a[1] and a != b for a in first for b in second):
        return None
    for start, end, new in sorted({*first, *second}, reverse=True):
        lines[start:end] = new
    return b"".join(lines)


def _hunks(base: Sequence[bytes], text: bytes) -> list[Hunk]:
    new = text.splitlines(keepends=True)
    matcher = difflib.SequenceMatcher(None, base, new, autojunk=False)
    return [(a, b, tuple(new[c:d])) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]


@dataclass
class FakeRepository:
    """The port, and what people do to a repository. Every branch lives in one place: there is no mirror."""

    wire: Wire
    commits: dict[str, FakeCommit] = field(default_factory=dict)
    heads: dict[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------- the port
    def fetch(self) -> str:
        return self.heads[TRUNK]

    def read(self, commit: str, path: str) -> bytes | None:
        return self.commits[commit].tree.get(path)

    def branches(self, prefix: str) -> Mapping[str, str]:
        return {name: sha for name, sha in self.heads.items() if name.startswith(prefix)}

    def commit_files(self, base: str, files: Mapping[str, bytes], message: str) -> str:
        made = FakeCommit((base,), {**self.commits[base].tree, **files}, US, message, self.commits[base].when)
        return self.wire.effect("commit", lambda: self.put(made))

    def push(self, branch: str, commit: str, expected: str | None) -> None:
        self.wire.effect(f"push {branch}", lambda: self._swap(branch, commit, expected))

    def delete_branch(self, branch: str, expected: str) -> None:
        self.wire.effect(f"delete {branch}", lambda: self._swap(branch, None, expected))

    def is_foreign(self, base: str, head: str) -> bool:
        return head not in self._ancestors(base) and self.commits[head].author != US

    def has(self, commit: str) -> bool:
        return commit in self.commits

    def is_adrift(self, base: str, head: str) -> bool:
        return len(self._ancestors(head) - self._ancestors(base)) > 1

    def conflicts(self, base: str, head: str) -> bool:
        return self.merge_tree(base, head) is None

    def last_change(self, commit: str, path: str) -> Commit:
        for sha, found in self.line(commit):
            before = self.commits[found.parents[0]].tree if found.parents else {}
            if before.get(path) != found.tree.get(path):
                return Commit(sha, found.author, found.when, found.message.partition("\n")[0])
        raise Stalled("NeverChanged", path)

    # ------------------------------------------------------------------------------------------------- its inside
    def put(self, commit: FakeCommit) -> str:
        """Keep a commit and give its name."""
        self.commits[commit.sha] = commit
        return commit.sha

    def line(self, commit: str) -> Iterator[tuple[str, FakeCommit]]:
        """Walk the first parents."""
        sha: str | None = commit
        while sha is not None:
            found = self.commits[sha]
            yield sha, found
            sha = found.parents[0] if found.parents else None

    def merge_tree(self, base: str, head: str) -> Tree | None:
        """Give the tree of a merge, or None where it conflicts."""
        theirs = self._ancestors(base)
        fork = next((sha for sha, _ in self.line(head) if sha in theirs), None)
        if fork is None:
            return None
        return self.merge_three(self.commits[fork].tree, self.commits[base].tree, self.commits[head].tree)

    @staticmethod
    def merge_three(base: Tree, one: Tree, other: Tree) -> Tree | None:
        """Merge two changes of a tree."""
        merged: dict[str, bytes] = {}
        for path in {*base, *one, *other}:
            a, b, c = base.get(path), one.get(path), other.get(path)
            if b in (a, c):
                found = c
            elif a == c:
                found = b
            elif a is None or b is None or c is None or (found := merge_text(a, b, c)) is None:
                return None
            if found is not None:
                merged[path] = found
        return merged

    def _ancestors(self, sha: str) -> set[str]:
        found, todo = set(), [sha]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self.commits[each].parents
        return found

    def _swap(self, branch: str, commit: str | None, expected: str | None) -> None:
        now = self.heads.get(branch)
        if now == commit:
            return
        if now != expected:
            raise Transient("BranchMoved", f"{branch} points elsewhere")
        if commit is None:
            del self.heads[branch]
        else:
            self.heads[branch] = commit

    # ------------------------------------------------------------------------------------------------- people
    def person_commits(self, branch: str, tree: Tree, message: str, when: int, author: str = PERSON) -> str:
        """Commit on top of a branch."""
        parents = (self.heads[branch],) if branch in self.heads else ()
        self.heads[branch] = self.put(FakeCommit(parents, tree, author, message, when))
        return self.heads[branch]


@dataclass
class FakeForge:
    """The port, and what people do on a forge. Pull requests are squashed; their branch is deleted then."""

    wire: Wire
    repository: FakeRepository
    clock: Callable[[], float]
    pulls: Pulls = field(default_factory=lambda: [])  # noqa: PIE807  `list` is a method here
    auto_merge: Literal["told", "untold", "never"] = "told"
    """Whether the forge merges by itself, and whether its list says so."""
    asked: Asked = field(default_factory=lambda: [])  # noqa: PIE807
    """Numbers of those that it was asked to merge by itself, as often as it was."""
    reopens: bool = True
    """Whether it opens closed ones again."""

    # ------------------------------------------------------------------------------------------------- the port
    def list(self) -> Sequence[PullRequest]:
        return [pull for pull in self.pulls if pull.branch.startswith(BRANCH_PREFIX)]

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        return self.wire.effect(f"open {branch}", lambda: self._open(branch, title, body))

    def update(self, number: int, *, title: str, body: str) -> None:
        self.wire.effect(f"update {number}", lambda: self._set(number, title=title, body=body))

    def close(self, number: int, *, comment: str, mark: str) -> None:
        self.wire.effect(f"close {number}", lambda: self.shut(number, comment, mark))

    def reopen(self, number: int) -> PullRequest:
        def act() -> PullRequest:
            if self.pulls[number - 1].state is not PullState.OPEN and not self.opened_again(number):
                raise Stalled("BranchMissing", str(number))
            return self.pulls[number - 1]

        return self.wire.effect(f"reopen {number}", act)

    def merge_when_allowed(self, number: int) -> None:
        self.wire.effect(f"auto-merge {number}", lambda: self._ask(number))

    # ------------------------------------------------------------------------------------------------- its inside
    def _open(self, branch: str, title: str, body: str) -> PullRequest:
        for pull in self.pulls:
            if pull.branch == branch and pull.state is PullState.OPEN:
                return pull
        head = self.repository.heads.get(branch)
        if head is None:
            raise Stalled("BranchMissing", branch)
        self.pulls.append(PullRequest(
            len(self.pulls) + 1, PullState.OPEN, branch, head, TRUNK, title, body, US, int(self.clock()),
            auto_merge=False if self.auto_merge == "told" else None,
        ))  # fmt: skip
        return self.pulls[-1]

    def _ask(self, number: int) -> None:
        if self.auto_merge == "never":
            raise Stalled("AutoMergeUnavailable", "*nothing* is merged here by itself")
        self.asked.append(number)
        if self.auto_merge == "told":
            self._set(number, auto_merge=True)

    def _set(self, number: int, **changes: object) -> None:
        self.pulls[number - 1] = replace(self.pulls[number - 1], **changes)  # type: ignore[arg-type]

    def shut(self, number: int, comment: str = "", mark: str = "") -> None:
        """Close as a person does, or for the port."""
        pull = self.pulls[number - 1]
        if pull.state is PullState.OPEN:
            comments = (*pull.comments, comment) if comment else pull.comments
            body = f"{pull.body}\n{mark}\n" if mark else pull.body
            off = None if pull.auto_merge is None else False
            head = self.repository.heads.get(pull.branch, pull.head)
            self._set(
                number, state=PullState.CLOSED, closed=int(self.clock()), comments=comments, body=body,
                auto_merge=off, head=head,
            )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- people
    def opened(self) -> Sequence[PullRequest]:
        """Give the open ones."""
        return [pull for pull in self.pulls if pull.state is PullState.OPEN]

    def merge(self, number: int) -> bool:
        """Squash as a person does; False where that conflicts or the branch is gone."""
        pull, git = self.pulls[number - 1], self.repository
        head = git.heads.get(pull.branch)
        tree = git.merge_tree(git.heads[pull.base], head) if head else None
        if pull.state is not PullState.OPEN or tree is None:
            return False
        sha = git.person_commits(pull.base, tree, f"{pull.title} (#{number})", int(self.clock()))
        del git.heads[pull.branch]
        self._set(number, state=PullState.MERGED, closed=int(self.clock()), merge_commit=sha, head=head)
        return True

    def opened_again(self, number: int) -> bool:
        """Reopen; False where another one is open from its branch, or that is not where it was when it was closed."""
        pull = self.pulls[number - 1]
        taken = any(other.branch == pull.branch for other in self.opened())
        moved = self.repository.heads.get(pull.branch) != pull.head
        if pull.state is not PullState.CLOSED or taken or moved or not self.reopens:
            return False
        self._set(number, state=PullState.OPEN, closed=0)
        return True

    def retarget(self, number: int, base: str) -> None:
        """Point one at another branch, made from trunk where there is none."""
        self.repository.heads.setdefault(base, self.repository.heads[TRUNK])
        self._set(number, base=base)

    def turn_off(self, number: int) -> None:
        """Tell the forge not to merge one by itself after all."""
        if self.auto_merge == "told":
            self._set(number, auto_merge=False)

    def delete_branch(self, branch: str) -> None:
        """Delete a branch as on a page of the forge: what is open from it is closed."""
        for pull in self.opened():
            if pull.branch == branch:
                self.shut(pull.number)
        self.repository.heads.pop(branch, None)
