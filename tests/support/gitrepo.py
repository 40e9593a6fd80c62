"""Real git repositories for tests, and the person who works in them with plain git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

PERSON = ("Ada", "ada@example.com")


def git(folder: Path, *args: str, stdin: bytes = b"", when: int | None = None) -> str:
    """Run git as a person would, but without the machine's configuration; give what it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": PERSON[0],
        "GIT_AUTHOR_EMAIL": PERSON[1],
        "GIT_COMMITTER_NAME": PERSON[0],
        "GIT_COMMITTER_EMAIL": PERSON[1],
    }
    if when is not None:
        environment |= {"GIT_AUTHOR_DATE": f"@{when} +0000", "GIT_COMMITTER_DATE": f"@{when} +0000"}
    done = subprocess.run(["git", *args], cwd=folder, input=stdin, env=environment, capture_output=True, check=False)
    if done.returncode:
        message = f"git {' '.join(args)}: {done.stderr.decode(errors='replace')}"
        raise AssertionError(message)
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


class Hub:
    """A bare repository and a person's clone of it."""

    def __init__(self, folder: Path, *, branch: str = "main") -> None:
        self.path = folder / "hub.git"
        self.clone = folder / "clone"
        self.branch = branch
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q", "--bare", f"--initial-branch={branch}", str(self.path))
        git(folder, "clone", "-q", str(self.path), str(self.clone))
        git(self.clone, "symbolic-ref", "HEAD", f"refs/heads/{branch}")

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        message: str = "Change",
        *,
        branch: str | None = None,
        start: str | None = None,
        when: int | None = None,
        push: bool = True,
    ) -> str:
        """Commit files (None: remove) to a branch, begun at ``start`` if given, and push; give the commit."""
        name = branch or self.branch
        if start is not None:
            git(self.clone, "checkout", "-q", "-B", name, start)
        elif git(self.clone, "branch", "--list", name):
            git(self.clone, "checkout", "-q", name)
        for path, content in files.items():
            target = self.clone / path
            if content is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "-q", "--allow-empty", "-m", message, when=when)
        if push:
            git(self.clone, "push", "-q", "--force", "origin", name)
        return git(self.clone, "rev-parse", "HEAD")

    def submodule(self, path: str) -> str:
        """Commit a submodule (only its entry; git asks for no more) to the tracked branch, and push."""
        git(self.clone, "update-index", "--add", "--cacheinfo", f"160000,{self.head()},{path}")
        git(self.clone, "commit", "-q", "-m", "Add a submodule")
        git(self.clone, "push", "-q", "origin", self.branch)
        return git(self.clone, "rev-parse", "HEAD")

    def merge(self, branch: str, *args: str, message: str = "Merge by hand") -> str:
        """Merge a branch into the tracked branch with plain git, and push; give the new head."""
        git(self.clone, "fetch", "-q", "origin")
        git(self.clone, "checkout", "-q", "-B", self.branch, f"origin/{self.branch}")
        git(self.clone, "merge", "-q", *(args or ("--no-ff",)), "-m", message, f"origin/{branch}")
        git(self.clone, "push", "-q", "origin", self.branch)
        return git(self.clone, "rev-parse", "HEAD")

    def head(self, branch: str | None = None) -> str:
        """Give the commit a branch of the bare repository points at."""
        return git(self.path, "rev-parse", f"refs/heads/{branch or self.branch}")

    def heads(self) -> dict[str, str]:
        """Give all branches of the bare repository and their commits."""
        lines = git(self.path, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads").splitlines()
        return dict(line.split(" ") for line in lines)
