"""What lies between two commits: files with their modes, and the commits themselves. Reads objects, runs nothing."""

from __future__ import annotations

from collections.abc import Iterator

from adapters.git_environment import check_commit, printable
from adapters.git_objects import GitObjects
from specs.changeset import Changeset, FileChange, PushedCommit, Version
from specs.errors import Stalled

_GONE = "000000"
_FIELDS = "%H%x00%P%x00%ae%x00%ce%x00%(trailers:only,unfold,separator=%x1e)"


def changeset(objects: GitObjects, base: str, head: str, branch: str = "") -> Changeset:
    """Give what merging ``head`` into ``base`` brings. Stalled ``NoMergeBase`` where they have nothing in common."""
    since = merge_base(objects, base, head)
    return Changeset(since, head, branch, tuple(_commits(objects, base, head)), tuple(_files(objects, since, head)))


def merge_base(objects: GitObjects, base: str, head: str) -> str:
    """Give where ``head`` left ``base``; Stalled ``ShallowClone`` or ``NoMergeBase`` with what to do."""
    found = objects.merge_base(base, head)
    if found is not None:
        return found
    if is_shallow(objects):
        msg = (
            "this clone is shallow, so where the pull request left its target is not known; fetch the whole history: "
            "`fetch-depth: 0` for actions/checkout, `GIT_DEPTH: 0` for GitLab, or `git fetch --unshallow`"
        )
        raise Stalled("ShallowClone", msg)
    raise Stalled("NoMergeBase", f"{base[:12]} and {head[:12]} have no common history; rebase the branch")


def is_shallow(objects: GitObjects) -> bool:
    """Whether the clone's history was cut off."""
    return objects.git.run("rev-parse", "--is-shallow-repository").text == "true"


def _commits(objects: GitObjects, base: str, head: str) -> Iterator[PushedCommit]:
    span = f"{check_commit(base)}..{check_commit(head)}"
    parts = objects.git.run("log", "-z", f"--format={_FIELDS}", span).parts()
    for at in range(0, len(parts) - 4, 5):
        sha, parents, author, committer, trailers = (printable(part) for part in parts[at : at + 5])
        pairs = (line.partition(": ") for line in trailers.split("\x1e") if line)
        told = tuple((key, value.strip()) for key, _, value in pairs)
        yield PushedCommit(sha, len(parents.split()), author, committer, told)


def _files(objects: GitObjects, since: str, head: str) -> Iterator[FileChange]:
    args = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", check_commit(since), check_commit(head))
    parts = objects.git.run(*args).parts()
    for meta, path in zip(parts[::2], parts[1::2], strict=True):
        old_mode, new_mode, old_blob, new_blob, _ = meta.removeprefix(":").split()
        before = None if old_mode == _GONE else Version(old_mode, old_blob)
        after = None if new_mode == _GONE else Version(new_mode, new_blob)
        yield FileChange(path, before, after)
