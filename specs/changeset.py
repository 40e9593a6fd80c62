"""What a pull request changes, as git tells it: the commits it adds and the files that differ. Facts only."""

from __future__ import annotations

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
