"""What a pull request changes, as git tells it: the commits it adds and the files that differ. Facts only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLAIN, PROGRAM = "100644", "100755"
"""Modes of files; anything else is a symbolic link or a submodule."""


@dataclass(frozen=True)
class Version:
    """One side of a changed file."""

    mode: str
    blob: str
    """Its content, by its git name."""

    @property
    def plain(self) -> bool:
        """Whether it is a file: no symbolic link, no submodule."""
        return self.mode in (PLAIN, PROGRAM)


@dataclass(frozen=True)
class FileChange:
    """One path that differs. A file that was renamed is one that went and one that came."""

    path: str
    before: Version | None
    """None where there was nothing."""
    after: Version | None
    """None where nothing is left."""


def evidence_flaw(files: Sequence[FileChange], folder: str, about: str) -> str:
    """Say which of these files is no new, plain file below ``folder/`` (``about`` names its subject); empty if none."""
    for file in files:
        if not file.path.startswith(folder):
            return f"{file.path}: is not evidence of {about}"
        if file.before is not None or file.after is None:
            return f"{file.path}: evidence is written once; here it is changed or removed"
        if file.after.mode != PLAIN:
            return f"{file.path}: has mode {file.after.mode}; evidence is plain files"
    return ""


@dataclass(frozen=True)
class PushedCommit:
    """One commit that merging would bring."""

    sha: str
    parents: int
    author: str
    committer: str
    """Email addresses, as the commit claims them."""
    trailers: tuple[tuple[str, str], ...] = ()

    def trailer(self, name: str) -> str:
        """Give the value of a trailer, empty where there is none."""
        return dict(self.trailers).get(name, "")


@dataclass(frozen=True)
class Changeset:
    """A pull request as git sees it."""

    base: str
    """Where it left the target branch: the merge base."""
    head: str
    branch: str
    """Its branch; empty where nobody said."""
    commits: tuple[PushedCommit, ...]
    """Newest first."""
    files: tuple[FileChange, ...]
    """Sorted by path."""
