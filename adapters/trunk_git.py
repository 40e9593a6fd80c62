"""The tracked branch on a device: only that branch is fetched, and what was fetched is there without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapters.repository import Repository
from adapters.source_git import GitSource
from specs.errors import Problem
from specs.facts import SourcedSpec
from specs.modelspec import ModelKey


class TrackedBranch(Repository):
    """A mirror of the tracked branch alone: proposals of others are none of a device's business."""

    def __init__(self, url: str, workdir: Path, *, branch: str = "main", credentials: Path | None = None) -> None:
        super().__init__(url, workdir, branch=branch, credentials=credentials)
        self.wanted = (f"+refs/heads/{self.branch}:refs/heads/{self.branch}",)


class GitTrunk:
    """The models of the tracked branch."""

    def __init__(self, repository: TrackedBranch, *, prefix: str = "") -> None:
        self._repository = repository
        self._source = GitSource(repository, prefix=prefix)

    def refresh(self) -> None:
        """Fetch, and read what changed. Raises as ``Repository.fetch`` does; what was known before then stays."""
        self._source.refresh()

    def recall(self) -> None:
        """Read what was fetched last, without asking the remote; nothing happens where nothing ever was."""
        heads: Mapping[str, str] = self._repository.branches(self._repository.branch)
        head = heads.get(self._repository.branch)
        if head is not None:
            self._source.read(head)

    @property
    def head(self) -> str:
        """The commit that was read last; empty where none was."""
        return self._source.head

    def keys(self) -> tuple[ModelKey, ...]:
        """Give all models that can be acted on, sorted."""
        return self._source.keys()

    def get(self, key: ModelKey) -> SourcedSpec | None:
        """Give one model's text and origin."""
        return self._source.get(key)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with any file."""
        return self._source.problems
