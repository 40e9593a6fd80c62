"""The whole first-parent history of a branch in a handful of git processes, however long it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adapters.git_environment import check_commit, printable
from adapters.git_objects import GitObjects
from specs.facts import Commit
from specs.past import Step

_COMMIT = "%H%x00%P%x00%an <%ae>%x00%cn <%ce>%x00%ct%x00%s%x00%(trailers:only,unfold,separator=%x1e)%x00%b"
_FIELDS = _COMMIT.count("%x00") + 1
_MARK = "\x01"
_PLAIN = "100"
"""How the modes of plain files begin."""
_LOG = ("log", "-z", f"--format=%x01{_COMMIT}")


class GitHistory:
    """What every commit of a branch did, of a repository whose objects are here already."""

    def __init__(self, objects: GitObjects) -> None:
        self._objects = objects

    def steps(self, head: str) -> list[Step]:
        """Give the first-parent line up to ``head``, oldest first."""
        tokens = self._objects.git.run(
            *_LOG, "--first-parent", "--diff-merges=first-parent", "--raw", "--no-renames", "--no-abbrev",
            check_commit(head),
        ).parts()  # fmt: skip
        walked = [_step(fields, files) for fields, files in _entries(tokens)]
        merged = {step.parents[1] for step in walked if len(step.parents) > 1}
        brought = self._commits(merged)
        walked.reverse()
        return [
            Step(step.commit, step.parents, step.committer, step.body, step.files, brought.get(step.parents[1]))
            if len(step.parents) > 1 else step
            for step in walked
        ]  # fmt: skip

    def contents(self, blobs: Sequence[str]) -> Mapping[str, bytes]:
        """Give contents by their git names, in one process."""
        return self._objects.blobs(blobs)

    def _commits(self, names: set[str]) -> dict[str, Commit]:
        if not names:
            return {}
        stdin = "".join(f"{name}\n" for name in sorted(names)).encode()
        tokens = self._objects.git.run(*_LOG, "--no-walk=unsorted", "--stdin", stdin=stdin).parts()
        return {step.sha: step.commit for step in (_step(fields, files) for fields, files in _entries(tokens))}


def _entries(tokens: Sequence[str]) -> Iterator[tuple[list[str], dict[str, tuple[str, str]]]]:
    """Cut git's answer: the fields of each commit, and its files with their contents before and after."""
    at = 0
    while at < len(tokens):
        fields = [tokens[at].lstrip("\n").removeprefix(_MARK), *tokens[at + 1 : at + _FIELDS]]
        at += _FIELDS
        files: dict[str, tuple[str, str]] = {}
        while at < len(tokens) and not tokens[at].lstrip("\n").startswith(_MARK):
            words = tokens[at].split()
            if len(words) >= 5 and words[0].startswith(":"):
                files[printable(tokens[at + 1])] = (_name(words[0][1:], words[2]), _name(words[1], words[3]))
                at += 1
            at += 1
        yield fields, files


def _name(mode: str, blob: str) -> str:
    """Give the name of a plain file's content; links and submodules hold nothing that could be released."""
    return blob if mode.startswith(_PLAIN) else ""


def _step(fields: Sequence[str], files: Mapping[str, tuple[str, str]]) -> Step:
    sha, parents, author, committer, when, subject, trailers, body = (printable(field) for field in fields)
    pairs = (line.partition(": ") for line in trailers.split("\x1e") if line)
    named = tuple((key, value.strip()) for key, _, value in pairs)
    commit = Commit(sha, author, int(when), subject, named)
    return Step(commit, tuple(parents.split()), committer, body, files)
