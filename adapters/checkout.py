"""A clone that somebody else made and looks after, such as that of a CI job: read, never fetched, never written."""

from __future__ import annotations

from pathlib import Path

from adapters.git_environment import check_branch, is_commit_name
from adapters.git_objects import GitObjects
from adapters.repository import Git
from specs.errors import Stalled


class Checkout(GitObjects):
    """The repository of a work tree (or a bare one) at ``folder``. ``branch`` is the target of the pull request.

    Only objects are read: whatever lies in the work tree, nobody runs or follows it.
    """

    def __init__(self, folder: Path, *, branch: str = "main", url: str = "") -> None:
        git_dir = folder / ".git" if (folder / ".git").exists() else folder
        if not git_dir.is_file() and not (git_dir / "HEAD").is_file():
            raise Stalled("NoRepository", f"{folder} is no clone of a git repository; run this where the checkout is")
        super().__init__(Git(git_dir))
        self.url = url or "this clone"
        self.branch = check_branch(branch)

    def fetch(self) -> str:
        """Give the commit that is checked out; whoever made the clone fetched it."""
        return self.resolve("HEAD")

    def resolve(self, rev: str) -> str:
        """Give the full name of a commit: ``HEAD``, a full commit name, or a branch, the remote's before one of here.

        Stalled ``BranchMissing``, or ``CommitMissing`` for what a shallow clone left out.
        """
        if rev == "HEAD" or is_commit_name(rev):
            found = self._exact(rev)
            if found is None:
                msg = f"{rev} is not in this clone; fetch the whole history (fetch-depth: 0, or GIT_DEPTH: 0)"
                raise Stalled("CommitMissing", msg)
            return found
        remote = None if set("~^") & set(rev) else self._exact(f"refs/remotes/origin/{check_branch(rev)}")
        return remote or super().resolve(rev)

    def _exact(self, name: str) -> str | None:
        answer = self.git.run("rev-parse", "--verify", "--quiet", name + "^{commit}", accept=(0, 1, 128))
        return answer.text if answer.status == 0 else None
