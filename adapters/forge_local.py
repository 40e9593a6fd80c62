"""The embedded forge: pull requests that live in the bare repository itself, next to the branches they are about."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from adapters.git_environment import check_branch, printable
from adapters.local_checks import LocalChecks
from adapters.pull_ledger import (
    APPROVER_TRAILER,
    HEADS,
    MERGER_TRAILER,
    NUMBER_TRAILER,
    Edit,
    PullLedger,
    View,
    moved,
)
from specs.errors import Stalled, Transient
from specs.facts import Check, PullRequest, PullState
from specs.names import BRANCH_PREFIX


class LocalForge:
    """Pull requests towards one branch of one bare repository.

    ``actor`` (name, email) is who acts: Trunkline itself, or the person at the command line. Any number of processes
    may act at once; each act happens once and whole, or raises. ``clock`` gives Unix time in seconds;
    ``patience`` is how many seconds an act goes on trying while others are in its way (Transient ``RepositoryBusy``).
    """

    def __init__(
        self, repository_path: Path, *, branch: str = "main",
        actor: tuple[str, str] = ("Trunkline", "trunkline@localhost"),
        clock: Callable[[], float] = time.time, patience: float = 15.0,
    ) -> None:  # fmt: skip
        self.path = repository_path.absolute()
        self.branch = check_branch(branch)
        self._actor = _person(actor)
        self._clock = clock
        self._ledger = PullLedger(self.path, self.branch, self._actor, clock, patience)
        self._objects = self._ledger.objects
        self._checks = LocalChecks(self._ledger)

    def list(self, prefix: str = BRANCH_PREFIX) -> tuple[PullRequest, ...]:
        """Give pull requests whose branch begins with ``prefix`` (``""``: all), in all states, oldest first."""
        view = self._ledger.look()
        if view.pulls != view.stored:
            # What was found is written down once; who cannot write may still read.
            with contextlib.suppress(Transient):
                self._ledger.write(view, None)
        return tuple(pull for _, pull in sorted(view.pulls.items()) if pull.branch.startswith(prefix))

    def get(self, number: int) -> PullRequest:
        """Give one pull request; Stalled ``PullRequestUnknown``."""
        return {pull.number: pull for pull in self.list("")}.get(number) or self._ledger.look().pull(number)

    def open(self, *, branch: str, title: str, body: str) -> PullRequest:
        """Open one from ``branch`` to the tracked branch; adopts the open one of the same branch as it is.

        Stalled ``BranchMissing`` or ``NothingToMerge``.
        """
        name, line = check_branch(branch), _title(title)

        def edit(view: View) -> Edit | PullRequest:
            found = _open_from(view, name)
            if found is not None:
                return found
            head = view.branch(name)
            if head is None:
                text = f"there is no branch {name}; push it before you open a pull request from it"
                raise Stalled("BranchMissing", text)
            if not self._objects.unreachable([head], view.base):
                raise Stalled("NothingToMerge", f"{name} has no commit that {self.branch} does not have already")
            number = max(view.pulls, default=0) + 1
            pull = PullRequest(
                number, PullState.OPEN, name, head, self.branch, line, body,
                author=self._actor[0], opened=int(self._clock()),
            )  # fmt: skip
            return Edit(pull, "Open")

        return self._ledger.act(edit)

    def update(self, number: int, *, title: str, body: str) -> None:
        """Set title and body, and look at the branch's head anew."""
        self._ledger.act(lambda view: Edit(replace(view.pull(number), title=_title(title), body=body), "Update"))

    def comment(self, number: int, text: str) -> None:
        """Add a comment."""

        def edit(view: View) -> Edit:
            pull = view.pull(number)
            return Edit(replace(pull, comments=(*pull.comments, text)), "Comment on")

        self._ledger.act(edit)

    def close(self, number: int, *, comment: str, mark: str = "") -> None:
        """Comment once and close; no-op where it is closed or merged already. ``mark`` is added to the body."""

        def edit(view: View) -> Edit | PullRequest:
            pull = view.pull(number)
            if pull.state is not PullState.OPEN:
                return pull
            comments = (*pull.comments, comment) if comment else pull.comments
            body = f"{pull.body.rstrip()}\n\n{mark}\n" if mark and mark not in pull.body else pull.body
            now = int(self._clock())
            return Edit(replace(pull, state=PullState.CLOSED, closed=now, comments=comments, body=body), "Close")

        self._ledger.act(edit)

    def reopen(self, number: int) -> PullRequest:
        """Open a closed one again; Stalled where it is merged, its branch is gone, or another one took its place."""

        def edit(view: View) -> Edit | PullRequest:
            pull = view.pull(number)
            if pull.state is PullState.OPEN:
                return pull
            if pull.state is PullState.MERGED:
                raise Stalled("PullRequestMerged", f"#{number} is merged; revert its merge commit to undo it")
            other, head = _open_from(view, pull.branch), view.branch(pull.branch)
            if other is not None:
                raise Stalled("PullRequestOpen", f"#{other.number} is open for {pull.branch} already")
            if head is None:
                raise self._branch_gone(pull)
            return Edit(replace(moved(pull, head), state=PullState.OPEN, closed=0), "Reopen")

        return self._ledger.act(edit)

    def merge_when_allowed(self, number: int) -> None:
        """Never works: nobody but people merges here, so there is nothing to wait for."""
        text = f"the local forge merges nothing by itself; a person does, with `trunkline pr merge {number}`"
        raise Stalled("AutoMergeUnavailable", text)

    def approve(self, number: int) -> PullRequest:
        """Say yes to the last commit, as the actor; no-op where that was said already, gone when a commit follows.

        Stalled ``PullRequestClosed``, ``BranchMissing``, or ``OwnPullRequest``: nobody approves what is their own.
        """

        def edit(view: View) -> Edit | PullRequest:
            pull, me = view.pull(number), _shown(self._actor)
            if pull.state is not PullState.OPEN:
                raise Stalled("PullRequestClosed", f"#{number} is {pull.state}; only an open one can be approved")
            if pull.author == self._actor[0]:
                raise Stalled("OwnPullRequest", f"#{number} is by {pull.author}; somebody else must approve it")
            if view.branch(pull.branch) is None:
                raise self._branch_gone(pull)
            if me in pull.approved_by:
                return pull
            seen = f"verify {HEADS}{pull.branch} {pull.head}"
            return Edit(replace(pull, approved_by=tuple(sorted({*pull.approved_by, me}))), "Approve", (seen,))

        return self._ledger.act(edit)

    def approvals(self, number: int) -> tuple[str, ...]:
        """Give who approves the last commit, as ``Name <email>``, sorted."""
        return self.get(number).approved_by

    def pull_of(self, commit: str) -> PullRequest | None:
        """Give the merged pull request by which a commit came to the tracked branch, None where by none."""
        view = self._ledger.look()
        if self._objects.unreachable([commit], view.base):
            return None
        arrived = self._ledger.arrival(commit, view.base).sha
        return next((pull for pull in view.pulls.values() if pull.merge_commit in (commit, arrived)), None)

    def say(self, number: int, text: str, *, marker: str) -> None:
        """Put one comment on a pull request, or change the one that ends with that hidden ``marker``."""

        def edit(view: View) -> Edit:
            pull = view.pull(number)
            said = f"{text.rstrip()}\n\n{marker}\n"
            places = [n for n, comment in enumerate(pull.comments) if comment.rstrip().endswith(marker)]
            comments = [*pull.comments]
            comments[slice(places[0], places[0] + 1) if places else slice(len(comments), None)] = [said]
            return Edit(replace(pull, comments=tuple(comments)), "Comment on")

        self._ledger.act(edit)

    def report(self, commit: str, check: Check) -> None:
        """Set a check on a commit; the last one of a name holds."""
        self._checks.set(commit, check)

    def checks(self, commit: str) -> tuple[Check, ...]:
        """Give the checks on a commit, by name."""
        return self._checks.get(commit)

    def merge(
        self, number: int, *, method: Literal["merge", "squash"] = "merge", actor: tuple[str, str] | None = None
    ) -> str:
        """Merge into the tracked branch and give the commit; gives the same one where it is merged already.

        A ``trunkline/`` branch is deleted with it. Stalled ``MergeConflict`` names the files; ``BranchMissing``,
        ``NothingToMerge`` and ``PullRequestClosed`` say what to do.
        """
        person = _person(actor) if actor else self._actor

        def edit(view: View) -> Edit | PullRequest:
            pull = view.pull(number)
            head = view.branch(pull.branch)
            if pull.state is PullState.MERGED:
                ours = head == pull.head and pull.branch.startswith(BRANCH_PREFIX)
                return Edit(pull, refs=(f"delete {HEADS}{pull.branch} {head}",)) if ours else pull
            if pull.state is PullState.CLOSED:
                raise Stalled("PullRequestClosed", f"#{number} is closed; reopen it first if it is wanted after all")
            if head is None:
                raise self._branch_gone(pull)
            return self._merged(view, moved(pull, head), method, person)

        return self._ledger.act(edit).merge_commit or ""

    def _merged(self, view: View, pull: PullRequest, method: str, person: tuple[str, str]) -> Edit:
        if not self._objects.unreachable([pull.head], view.base):
            raise Stalled("NothingToMerge", f"{pull.branch} has no commit that {self.branch} does not have already")
        tree, files = self._objects.merge_tree(view.base, pull.head)
        if tree is None:
            where = ", ".join(files) or "the whole tree: the branches have no common ancestor"
            msg = (
                f"#{pull.number} conflicts with {self.branch} in {where}; merge {self.branch} into {pull.branch} "
                "(or rebase it), resolve the conflict, push, and merge again"
            )
            raise Stalled("MergeConflict", msg)
        now = int(self._clock())
        parents = [view.base, pull.head] if method == "merge" else [view.base]
        message = _message(pull, method, person, self._objects.log(pull.head, "", 1)[0].trailers)
        commit = self._objects.put_commit(tree, parents, message, author=person, when=now)
        ours = pull.branch.startswith(BRANCH_PREFIX)
        refs = (
            f"update {HEADS}{self.branch} {commit} {view.base}",
            f"{'delete' if ours else 'verify'} {HEADS}{pull.branch} {pull.head}",
        )
        done = replace(pull, state=PullState.MERGED, closed=now, merge_commit=commit, merged_by=_shown(person))
        return Edit(done, "Merge", refs)

    def _branch_gone(self, pull: PullRequest) -> Stalled:
        msg = (
            f"the branch {pull.branch} of #{pull.number} was deleted. Its last commit is {pull.head}; "
            f"to have it back, run: git -C {self.path} branch {pull.branch} {pull.head}"
        )
        return Stalled("BranchMissing", msg)


def _open_from(view: View, branch: str) -> PullRequest | None:
    pulls = (pull for _, pull in sorted(view.pulls.items()))
    return next((pull for pull in pulls if pull.state is PullState.OPEN and pull.branch == branch), None)


def _message(pull: PullRequest, method: str, person: tuple[str, str], trailers: tuple[tuple[str, str], ...]) -> str:
    """Word the merge commit; its last paragraph is trailers only, so that git reads them back."""
    kept = [(key, value) for key, value in trailers if key not in (NUMBER_TRAILER, APPROVER_TRAILER, MERGER_TRAILER)]
    kept += [(NUMBER_TRAILER, str(pull.number)), *((APPROVER_TRAILER, name) for name in pull.approved_by)]
    kept.append((MERGER_TRAILER, _shown(person)))
    if method == "merge":
        subject = f"Merge pull request #{pull.number} from {pull.branch}\n\n{pull.title}"
    else:
        subject = f"{pull.title} (#{pull.number})"
    return f"{subject}\n\n" + "".join(f"{key}: {value}\n" for key, value in kept)


def _title(text: str) -> str:
    """Give a title as one printable line; Stalled where nothing is left of it."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", printable(text)).split())
    if not line:
        raise Stalled("TitleMissing", "a pull request needs a title")
    return line


def _person(person: tuple[str, str]) -> tuple[str, str]:
    name, email = (text.strip() for text in person)
    if not name or not email or re.search(r"[\x00-\x1f\x7f<>\ud800-\udfff]", name + email):
        raise Stalled(
            "ActorInvalid", f"{printable(name)!r} <{printable(email)!r}> is no name and email address to sign with"
        )
    return name, email


def _shown(person: tuple[str, str]) -> str:
    return f"{person[0]} <{person[1]}>"
