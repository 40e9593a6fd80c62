"""A bare repository on this machine: making one, and showing what a branch changes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from adapters.git_environment import check_branch
from adapters.git_objects import GitObjects
from adapters.repository import Git
from specs.errors import Stalled


def create_bare(path: Path, *, branch: str, files: Mapping[str, bytes]) -> None:
    """Make a bare repository whose ``branch`` has one commit with ``files``; Stalled where something is there."""
    if path.exists():
        raise Stalled("AlreadyThere", f"{path} exists already; nothing was changed")
    path.parent.mkdir(parents=True, exist_ok=True)
    git = Git(path)
    ref = f"refs/heads/{check_branch(branch)}"
    git.run("init", "--bare", "--quiet", f"--initial-branch={branch}")
    objects = GitObjects(git)
    lines = [f"100644 blob {objects.put_blob(data)}\t{name}\n" for name, data in sorted(files.items())]
    tree = git.run("mktree", stdin="".join(lines).encode()).text
    author = ("Trunkline", "trunkline@localhost")
    commit = objects.put_commit(tree, (), "Begin\n", author=author, when=int(time.time()))
    git.run("update-ref", ref, commit)


def diff(path: Path, base: str, head: str) -> str:
    """Give what ``head`` changes since it left ``base``, as git shows it; Stalled where either does not exist."""
    git = Git(path)
    objects = GitObjects(git)
    one, other = objects.resolve(base), objects.resolve(head)
    since = objects.merge_base(one, other) or one
    return git.run("diff", "--no-color", "--no-ext-diff", "--no-textconv", since, other).text


def subject(path: Path, rev: str) -> str:
    """Give the first line of a commit's message; Stalled where there is no such commit."""
    git = Git(path)
    return git.run("log", "--max-count=1", "--format=%s", GitObjects(git).resolve(rev)).text.strip()
