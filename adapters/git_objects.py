"""Reading and making git objects, without a work tree: the plumbing that repository and local forge share."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.git_environment import check_branch, check_commit, check_path, is_commit_name, printable
from specs.errors import Stalled, Transient
from specs.facts import Commit

_FIELDS = "%H%x00%an <%ae>%x00%ct%x00%s%x00%(trailers:only,unfold,separator=%x1e)"
_SYMLINK, _SUBMODULE, _TREE, _PROGRAM = "120000", "160000", "040000", "100755"
_GONE = "0" * 40
_STEPS = re.compile(r"(?:~[0-9]{0,4}|\^[1-9]?)+$")  # back from a commit, as git writes them

Folders = str | Sequence[str]
"""One or several; an empty one, or none, is the root."""


@dataclass(frozen=True)
class Answer:
    """What git said. ``err`` is fit to be shown."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output; bytes that are not UTF-8 survive as surrogates."""
        return self.out.decode("utf-8", "surrogateescape").removesuffix("\n")

    def parts(self) -> list[str]:
        """Standard output of commands that end each item with NUL."""
        return self.out.decode("utf-8", "surrogateescape").split("\0")[:-1]


class Runner(Protocol):
    """Runs git on one repository."""

    def run(
        self, *args: str, stdin: bytes = b"", accept: Collection[int] = (0,),
        env: Mapping[str, str] | None = None, timeout: float | None = None,
    ) -> Answer:  # fmt: skip
        """Run one command; Transient or Stalled where its exit status is not in ``accept``."""


@dataclass(frozen=True)
class Entry:
    """One line of a tree."""

    mode: str
    sha: str
    size: int
    """Bytes; 0 for what is no blob."""

    @property
    def plain(self) -> bool:
        """Whether it is a file: no folder, symbolic link or submodule."""
        return self.mode not in (_SYMLINK, _SUBMODULE, _TREE)


@dataclass(frozen=True)
class Change:
    """One path in one first-parent step of history. ``blob`` is None where no plain file is there any more."""

    commit: Commit
    path: str
    blob: str | None


class GitObjects:
    """Commits, trees and files of one bare repository.

    Revisions are full commit names or plain branch names, either with steps back: ``main~1``, ``main^2``.
    """

    def __init__(self, git: Runner) -> None:
        self.git = git

    def resolve(self, rev: str) -> str:
        """Give the full name of the commit; Stalled ``BranchMissing`` or ``CommitMissing`` where there is none."""
        steps = _STEPS.search(rev)
        start = rev.removesuffix(steps[0]) if steps else rev
        name = start if is_commit_name(start) else f"refs/heads/{check_branch(start)}"
        name += steps[0] if steps else ""
        answer = self.git.run("rev-parse", "--verify", "--quiet", name + "^{commit}", accept=(0, 1, 128))
        if answer.status:
            if steps or is_commit_name(rev):
                raise Stalled("CommitMissing", f"there is no commit {rev}; it was never pushed, or was removed since")
            raise Stalled("BranchMissing", f"there is no branch {rev}")
        return answer.text

    def refs(self, *prefixes: str) -> dict[str, str]:
        """Give full reference names below the prefixes and the commits they point at, sorted by name."""
        lines = self.git.run("for-each-ref", "--format=%(objectname) %(refname)", *prefixes).text.splitlines()
        return {name: sha for sha, _, name in (line.partition(" ") for line in lines)}

    def entries(self, commit: str, prefix: Folders = "") -> dict[str, Entry]:
        """Give all files below folders at a commit, by path."""
        where = [f"{word}/" if word != "--" else word for word in _where(prefix)]
        return dict(_tree_lines(self.git.run("ls-tree", "-r", "-l", "-z", "--full-tree", check_commit(commit), *where)))

    def files(self, commit: str, prefix: str = "") -> list[str]:
        """Give the paths of all files below a folder at a commit, sorted; no symbolic links, no submodules."""
        return sorted(path for path, entry in self.entries(commit, prefix).items() if entry.plain)

    def read(self, commit: str, path: str, limit: int | None = None) -> bytes | None:
        """Give a file, or None; Stalled ``UnsafePath`` for a link or submodule, ``FileTooLarge`` above ``limit``."""
        entry = self._along(commit, (path,)).get(path)
        if entry is None or entry.mode == _TREE:
            return None
        if not entry.plain:
            msg = f"{path} is a symbolic link or a submodule at {commit[:12]}; Trunkline reads plain files only"
            raise Stalled("UnsafePath", msg)
        if limit is not None and entry.size > limit:
            raise Stalled("FileTooLarge", f"{path} at {commit[:12]} has {entry.size} bytes; at most {limit} are read")
        return self.blobs([entry.sha])[entry.sha]

    def blobs(self, shas: Iterable[str]) -> dict[str, bytes]:
        """Give the contents of blobs by name, in one call; Transient where one is missing."""
        wanted = list(dict.fromkeys(shas))
        if not wanted:
            return {}
        out = self.git.run("cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in wanted).encode()).out
        found, at = {}, 0
        for sha in wanted:
            end = out.index(b"\n", at)
            header = out[at:end].split()
            if len(header) != 3 or header[1] != b"blob":
                raise Transient("RepositoryUnavailable", f"the file content {sha} is missing from the local copy")
            size = int(header[2])
            found[sha] = out[end + 1 : end + 1 + size]
            at = end + size + 2
        return found

    def log(self, commit: str, path: str, limit: int | None = None, since: str | None = None) -> list[Commit]:
        """Give the first-parent commits up to ``commit`` that changed ``path``, newest first (``""``: all commits).

        ``since`` leaves out whatever is in the history of that commit.
        """
        span = f"{check_commit(since)}..{check_commit(commit)}" if since else check_commit(commit)
        args = [f"--max-count={int(limit)}"] if limit is not None else []
        where = ["--", check_path(path)] if path else []
        parts = self.git.run("log", "--first-parent", "-z", f"--format={_FIELDS}", *args, span, *where).parts()
        return [_commit(parts[at : at + 5]) for at in range(0, len(parts) - 4, 5)]

    def last_change(self, commit: str, path: str) -> Commit:
        """Give the newest first-parent commit up to ``commit`` that changed ``path``; Stalled where none did."""
        found = self.log(commit, path, 1)
        if not found:
            raise Stalled("PathMissing", f"no commit up to {commit[:12]} ever touched {path}")
        return found[0]

    def changes(self, commit: str, prefix: Folders = "", since: str | None = None) -> Iterator[Change]:
        """Give what each first-parent step up to ``commit`` (after ``since``) did to files, newest first."""
        span = f"{check_commit(since)}..{check_commit(commit)}" if since else check_commit(commit)
        tokens = iter(self.git.run(
            "log", "--first-parent", "--diff-merges=first-parent", "--raw", "--no-renames", "--no-abbrev", "-z",
            f"--format=%x01{_FIELDS}", span, *_where(prefix),
        ).parts())  # fmt: skip
        now: Commit | None = None
        for token in tokens:
            if token.startswith("\x01"):
                now = _commit([token[1:], *(next(tokens) for _ in range(4))])
            elif token.lstrip("\n").startswith(":") and now is not None:
                _, mode, _, blob, _ = token.split()
                yield Change(now, next(tokens), None if blob == _GONE or mode in (_SYMLINK, _SUBMODULE) else blob)

    def extends(self, old: str, new: str) -> bool:
        """Whether ``old`` is on the first-parent line of ``new``, so that steps since ``old`` are all that is new."""
        if old == new:
            return True
        span = f"{check_commit(old)}..{check_commit(new)}"
        answer = self.git.run("rev-list", "--first-parent", "--parents", span, accept=(0, 128))
        oldest = answer.text.splitlines()[-1:] if answer.status == 0 else []
        return bool(oldest) and oldest[0].split()[1:2] == [old]

    def merge_base(self, one: str, other: str) -> str | None:
        """Give the best common ancestor, None where histories are unrelated."""
        answer = self.git.run("merge-base", check_commit(one), check_commit(other), accept=(0, 1))
        return answer.text.splitlines()[0] if answer.status == 0 else None

    def has(self, commit: str) -> bool:
        """Whether a commit is here, with everything in it that no branch has."""
        flags = ("--objects", "--quiet", check_commit(commit), "--not", "--branches")
        return self.git.run("rev-list", *flags, accept=(0, 128)).status == 0

    def is_adrift(self, base: str, head: str) -> bool:
        """Whether ``base..head`` is more than one commit."""
        span = f"{check_commit(base)}..{check_commit(head)}"
        return int(self.git.run("rev-list", "--count", "--max-count=2", span).text) > 1

    def unreachable(self, commits: Iterable[str], base: str) -> set[str]:
        """Give those of ``commits`` that are not in the history of ``base``; one call for any number."""
        wanted = {check_commit(commit) for commit in commits}
        if not wanted:
            return set()
        stdin = "".join(f"{commit}\n" for commit in sorted(wanted)) + f"^{check_commit(base)}\n"
        answer = self.git.run("rev-list", "--stdin", "--ignore-missing", stdin=stdin.encode())
        return wanted.intersection(answer.text.splitlines())

    def diff_paths(self, one: str, other: str) -> list[str]:
        """Give the paths that differ between two commits, sorted."""
        args = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", check_commit(one), check_commit(other))
        return sorted(self.git.run(*args).parts())

    def merge_tree(self, base: str, head: str) -> tuple[str | None, tuple[str, ...]]:
        """Merge two commits without a work tree: (tree, ()) or (None, files in conflict; none if unrelated)."""
        flags = ("--write-tree", "--name-only", "--no-messages", "-z")
        answer = self.git.run("merge-tree", *flags, check_commit(base), check_commit(head), accept=(0, 1, 128))
        if answer.status == 128:
            if "unrelated histories" not in answer.err:
                raise Transient("RepositoryUnavailable", f"git merge-tree failed: {answer.err}")
            return None, ()
        tree, *paths = answer.parts()
        files = tuple(dict.fromkeys(printable(path) for path in paths if path))
        return (tree, ()) if answer.status == 0 else (None, files)

    def conflicts(self, base: str, head: str) -> bool:
        """Whether merging ``head`` into ``base`` would conflict (or their histories are unrelated)."""
        return self.merge_tree(base, head)[0] is None

    def put_commit(
        self, tree: str, parents: Sequence[str], message: str, *, author: tuple[str, str], when: int,
        committer: tuple[str, str] | None = None,
    ) -> str:  # fmt: skip
        """Make a commit and give its name; the same arguments give the same name. ``when``: Unix time, seconds."""
        args = [word for parent in parents for word in ("-p", check_commit(parent))]
        people = {"AUTHOR": author, "COMMITTER": committer or author}
        env = {f"GIT_{role}_{field}": value for role, (name, email) in people.items()
               for field, value in (("NAME", name), ("EMAIL", email), ("DATE", f"@{int(when)} +0000"))}  # fmt: skip
        return self.git.run("commit-tree", *args, "-F", "-", tree, stdin=message.encode(), env=env).text

    def put_blob(self, data: bytes) -> str:
        """Write a file's content and give its name."""
        return self.git.run("hash-object", "-w", "--stdin", stdin=data).text

    def put_tree(self, base: str, files: Mapping[str, bytes]) -> str:
        """Make the tree of ``base`` with some files added or replaced; Stalled ``UnsafePath`` where one must not be."""
        there = self._along(base, tuple(files))
        for path in files:
            _check_target(path, there, files)
        lines = []
        for path, data in sorted(files.items()):
            mode = _PROGRAM if path in there and there[path].mode == _PROGRAM else "100644"
            lines.append(f"{mode} {self.put_blob(data)}\t{path}\0")
        with tempfile.TemporaryDirectory(prefix="trunkline-index-") as folder:
            env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git.run("read-tree", check_commit(base), env=env)
            self.git.run("update-index", "-z", "--index-info", stdin="".join(lines).encode(), env=env)
            return self.git.run("write-tree", env=env).text

    def _along(self, commit: str, paths: Iterable[str]) -> dict[str, Entry]:
        """Give what is at the paths and at every folder on the way to them."""
        steps = {
            "/".join(parts[: at + 1])
            for parts in (check_path(path).split("/") for path in paths)
            for at in range(len(parts))
        }
        args = ("ls-tree", "-l", "-z", "--full-tree", check_commit(commit), "--", *sorted(steps))
        return dict(_tree_lines(self.git.run(*args))) if steps else {}


def _where(folders: Folders) -> list[str]:
    """Give the arguments that narrow git down to folders; none where one of them is the root."""
    cleaned = [folder.strip("/") for folder in ([folders] if isinstance(folders, str) else folders)]
    return ["--", *map(check_path, cleaned)] if cleaned and all(cleaned) else []


def _tree_lines(answer: Answer) -> Iterator[tuple[str, Entry]]:
    for line in answer.parts():
        meta, _, path = line.partition("\t")
        mode, _, sha, size = meta.split()
        yield path, Entry(mode, sha, int(size) if size.isdigit() else 0)


def _check_target(path: str, there: Mapping[str, Entry], files: Mapping[str, bytes]) -> None:
    """Refuse to write through a link or submodule, over a folder, or below a file."""
    parents = [str(parent) for parent in Path(path).parents if str(parent) != os.curdir]
    for parent in parents:
        if parent in files or (parent in there and there[parent].mode != _TREE):
            why = f"{parent} is not a folder (a file, link or submodule)"
            raise Stalled("UnsafePath", f"{path} cannot be written: {why}")
    if path in there and not there[path].plain:
        raise Stalled("UnsafePath", f"{path} cannot be written: it is a folder, a symbolic link or a submodule now")


def _commit(fields: Sequence[str]) -> Commit:
    sha, author, when, subject, trailers = (printable(field) for field in fields)
    pairs = (line.partition(": ") for line in trailers.split("\x1e") if line)
    return Commit(sha, author, int(when), subject, tuple((key, value.strip()) for key, _, value in pairs))
