"""Where the embedded forge writes its pull requests down: references of the bare repository.

``refs/trunkline/pulls`` points at a commit whose tree has one ``<number>.json`` for each pull request; every change of
one is a commit there. ``refs/pull/<number>/head`` keeps the commits of a pull request after its branch is gone. All
references that one act touches move in one git transaction, each only if it is where the act was thought out for.

What git says outranks what was written: a pull request whose commits reached the base is merged, whoever did it.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from adapters.git_objects import GitObjects
from adapters.repository import Git
from specs.errors import Stalled, Transient
from specs.facts import Commit, PullRequest, PullState

PULLS = "refs/trunkline/pulls"
HEADS = "refs/heads/"
NUMBER_TRAILER = "Trunkline-Pull-Request"
MERGER_TRAILER = "Merged-by"
APPROVER_TRAILER = "Approved-by"
_NOTHING = "0" * 40
_STALE_SECONDS = 60


@dataclass(frozen=True)
class View:
    """The repository at one moment. ``pulls`` are as git has it now, ``stored`` as they were last written."""

    refs: Mapping[str, str]
    base: str
    names: Mapping[str, str]
    stored: Mapping[int, PullRequest]
    pulls: Mapping[int, PullRequest]

    def pull(self, number: int) -> PullRequest:
        """Give one; Stalled ``PullRequestUnknown``."""
        if number not in self.pulls:
            there = f"there are #1 to #{max(self.pulls)}" if self.pulls else "there is none yet"
            raise Stalled("PullRequestUnknown", f"there is no pull request #{number}; {there}")
        return self.pulls[number]

    def branch(self, name: str) -> str | None:
        """Give a branch's head, None where it is gone."""
        return self.refs.get(HEADS + name)


@dataclass(frozen=True)
class Edit:
    """What one act wants to be true afterwards."""

    pull: PullRequest
    what: str = ""
    refs: tuple[str, ...] = field(default=())
    """More lines of git's reference transaction."""


class PullLedger:
    """The pull requests of one bare repository towards ``branch``; ``actor`` signs, ``clock`` gives Unix time.

    ``patience`` is how many seconds an act goes on trying while others move what it wants to move.
    """

    def __init__(
        self, path: Path, branch: str, actor: tuple[str, str], clock: Callable[[], float], patience: float
    ) -> None:
        self.path = path
        self.branch = branch
        self._actor = actor
        self._clock = clock
        self._patience = patience
        self._git = Git(path)
        self.objects = GitObjects(self._git)
        self._parsed: dict[str, PullRequest] = {}
        self._merges: tuple[str, dict[int, Commit]] | None = None

    def act(self, edit: Callable[[View], Edit | PullRequest]) -> PullRequest:
        """Think on what is there and write it down; think again where something moved meanwhile."""
        for _ in self.attempts():
            view = self.look()
            wanted = edit(view)
            if isinstance(wanted, PullRequest):
                return wanted
            if self.write(view, wanted):
                return wanted.pull
        raise AssertionError

    def attempts(self) -> Iterator[None]:
        """Go round as long as patience lasts, with pauses; Transient ``RepositoryBusy`` then."""
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            yield
            time.sleep(random.uniform(0.005, 0.1))  # noqa: S311 - spreads, hides nothing
        msg = (
            f"others keep changing {self.path}, or a killed git left a *.lock below its refs; remove that if it is old"
        )
        raise Transient("RepositoryBusy", msg)

    def look(self) -> View:
        """Give what is there now; Stalled ``RepositoryMissing``, ``BranchMissing`` or ``PullRequestsCorrupt``."""
        if not (self.path / "HEAD").is_file():
            hint = (
                "it is a clone with a work tree; give its .git folder"
                if (self.path / ".git").exists()
                else "make one first"
            )
            raise Stalled("RepositoryMissing", f"there is no bare git repository at {self.path}; {hint}")
        refs = self.objects.refs(HEADS, PULLS)
        base = refs.get(HEADS + self.branch)
        if base is None:
            raise Stalled(
                "BranchMissing", f"{self.path} has no branch {self.branch}; push one, or name another tracked branch"
            )
        names = {name: entry.sha for name, entry in self.objects.entries(refs[PULLS]).items()} if PULLS in refs else {}
        unknown = [sha for sha in names.values() if sha not in self._parsed]
        self._parsed |= {sha: _decode(data) for sha, data in self.objects.blobs(unknown).items()}
        stored = {pull.number: pull for pull in (self._parsed[sha] for sha in names.values())}
        return View(refs, base, names, stored, self._settle(refs, base, stored))

    def _settle(self, refs: Mapping[str, str], base: str, stored: Mapping[int, PullRequest]) -> dict[int, PullRequest]:
        """Give the pull requests as git has them: merged where the base has their commits, else with today's heads."""
        waiting = {
            number: pull for number, pull in stored.items() if pull.state is PullState.OPEN and pull.base == self.branch
        }
        if not waiting:
            return dict(stored)
        now = {number: refs.get(HEADS + pull.branch, pull.head) for number, pull in waiting.items()}
        outside = self.objects.unreachable({*now.values(), *(pull.head for pull in waiting.values())}, base)
        merges = self._announced(base)
        settled = dict(stored)
        for number, pull in waiting.items():
            head = now[number]
            commit = merges.get(number)
            if commit is None and pull.head not in outside:
                commit = self.arrival(pull.head, base)
            elif commit is None and head not in outside:
                if self.objects.extends(head, base):
                    continue  # set back to the base: that is no merge, and no head worth to be remembered
                commit = self.arrival(head, base)  # pushed, and merged by hand before we saw the push
            settled[number] = moved(pull, head) if commit is None else _done(moved(pull, head), commit)
        return settled

    def _announced(self, base: str) -> dict[int, Commit]:
        """Give the merge commits that say in a trailer which pull request they merge, by number."""
        if self._merges is not None and self.objects.extends(self._merges[0], base):
            since, known = self._merges
        else:
            since, known = None, {}
        if since != base:
            found = dict(known)
            for commit in reversed(self.objects.log(base, "", since=since)):
                found |= {
                    int(value): commit for key, value in commit.trailers if key == NUMBER_TRAILER and value.isdecimal()
                }
            self._merges = known_now = (base, found)
            return known_now[1]
        return known

    def arrival(self, head: str, base: str) -> Commit:
        """Give the first-parent commit of ``base`` that brought ``head`` in: bisect, as all later ones have it."""
        if self.objects.extends(head, base):
            return self.objects.log(head, "", 1)[0]
        line = self.objects.log(base, "", since=head)
        low, high = 0, len(line) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if self.objects.unreachable([head], line[middle].sha) else (middle, high)
        return line[low]

    def write(self, view: View, edit: Edit | None) -> bool:
        """Move all references at once; False where one of them is not where ``view`` saw it."""
        pulls = dict(view.pulls) | ({edit.pull.number: edit.pull} if edit else {})
        changed = {number: pull for number, pull in pulls.items() if view.stored.get(number) != pull}
        lines = [*(edit.refs if edit else ())]
        if changed:
            names = dict(view.names) | {
                f"{n}.json": self.objects.put_blob(_encode(pull)) for n, pull in changed.items()
            }
            listing = "".join(f"100644 blob {sha}\t{name}\0" for name, sha in names.items())
            tree = self._git.run("mktree", "-z", stdin=listing.encode()).text
            tip = view.refs.get(PULLS)
            what = (
                f"{edit.what} #{edit.pull.number}"
                if edit
                else "Note what git did to " + ", ".join(f"#{n}" for n in changed)
            )
            commit = self.objects.put_commit(
                tree, [tip] if tip else [], what, author=self._actor, when=int(self._clock())
            )
            lines += [f"update refs/pull/{number}/head {pull.head}" for number, pull in changed.items()]
            lines.append(f"update {PULLS} {commit} {tip or _NOTHING}")
        return not lines or self.swap(lines)

    def swap(self, lines: Sequence[str]) -> bool:
        """Move references in one transaction of git; False where one of them is not where a line expects it."""
        script = "".join(f"{line}\n" for line in ("start", *lines, "prepare", "commit"))
        answer = self._git.run("update-ref", "--stdin", stdin=script.encode(), accept=(0, 128))
        if answer.status == 0:
            return True
        if "cannot lock ref" not in answer.err or "denied" in answer.err or "space" in answer.err:
            raise Transient("RepositoryUnavailable", f"{self.path} cannot be written: {answer.err}")
        for leftover in (*self.path.glob("refs/trunkline/*.lock"), *self.path.glob("refs/pull/*/*.lock")):
            # Only we write these references, each in a moment: an old lock is that of a killed process.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                    leftover.unlink()
        return False


def moved(pull: PullRequest, head: str) -> PullRequest:
    """Give a pull request whose branch is at ``head`` now; who approved another commit did not approve this one."""
    return replace(pull, head=head, approved_by=pull.approved_by if head == pull.head else ())


def _done(pull: PullRequest, commit: Commit) -> PullRequest:
    merger = dict(commit.trailers).get(MERGER_TRAILER, commit.author)
    return replace(pull, state=PullState.MERGED, closed=commit.when, merge_commit=commit.sha, merged_by=merger)


def _encode(pull: PullRequest) -> bytes:
    return (json.dumps(asdict(pull), indent=1, sort_keys=True) + "\n").encode()


def _decode(data: bytes) -> PullRequest:
    try:
        fields = json.loads(data)
        fields |= {"state": PullState(fields["state"]), "comments": tuple(fields["comments"])}
        fields["approved_by"] = tuple(fields.get("approved_by", ()))
        return PullRequest(**fields)
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{PULLS} cannot be read ({error}); to go back to the last good one: git update-ref {PULLS} {PULLS}~1"
        raise Stalled("PullRequestsCorrupt", msg) from error
