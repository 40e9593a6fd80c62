"""The people who own the data: a git repository with DVC pointers, and a remote that holds the pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pictures
import screen

PERSON = ("Grace", "grace@example.com")
FIRST_EVERY = 3
"""The first version has every third picture."""
MISTAKEN = "9", "3"
"""Of the first version's nines every second one lies among the threes."""


class DataTeam:
    """A bare repository ``data.git``, a clone of it to work in, and a folder that is DVC's remote."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "data.git"
        self.remote = folder / "dvc-remote"
        self.clone = folder / "data"
        self._all = folder / "pictures"
        private = folder / "dvc-settings"
        self._environment = {
            **os.environ, "GIT_AUTHOR_NAME": PERSON[0], "GIT_AUTHOR_EMAIL": PERSON[1], "GIT_COMMITTER_NAME": PERSON[0],
            "GIT_COMMITTER_EMAIL": PERSON[1], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1",
            "DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": str(private), "DVC_SYSTEM_CONFIG_DIR": str(private),
            "DVC_SITE_CACHE_DIR": str(private),
        }  # fmt: skip

    def begin(self) -> tuple[int, int]:
        """Make the repository, with the first version of the data; give how many pictures, and how many golden."""
        self.remote.mkdir()
        self._run(self.remote.parent, "git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.repository))
        self._run(self.remote.parent, "git", "clone", "--quiet", str(self.repository), str(self.clone))
        self.git("symbolic-ref", "HEAD", "refs/heads/main")
        self.dvc("init", "--quiet", show=True)
        self.dvc("remote", "add", "--quiet", "--default", "storage", str(self.remote), show=True)
        train, golden = pictures.write(self._all)
        shutil.copytree(golden, self.clone / "golden")
        for number, picture in enumerate(sorted(train.rglob("*.png"), key=lambda path: path.name)):
            if number % FIRST_EVERY == 0:
                self._take(picture, self._first_label(picture.parent.name, number))
        self.commit("The first digits", "digits", "golden")
        return self._count("digits"), self._count("golden")

    def _first_label(self, name: str, number: int) -> str:
        right, wrong = MISTAKEN
        return wrong if name == right and number % 2 == 0 else name

    def more(self, share: int) -> tuple[int, int]:
        """Correct the labels, and add every ``share``-th of the pictures that are missing.

        Gives how many were corrected, and how many are new.
        """
        right, wrong = MISTAKEN
        corrected, added = 0, 0
        for number, picture in enumerate(sorted((self._all / "train").rglob("*.png"), key=lambda path: path.name)):
            name = picture.name
            if picture.parent.name == right and (self.clone / "digits" / wrong / name).exists():
                (self.clone / "digits" / wrong / name).rename(self.clone / "digits" / right / name)
                corrected += 1
            elif number % FIRST_EVERY and number % share == 0:
                self._take(picture, picture.parent.name)
                added += 1
        self.commit(f"{added} more digits, and {corrected} nines that were called threes", "digits")
        return corrected, added

    def commit(self, message: str, *folders: str) -> None:
        """Hand the pictures to DVC and the pointers to git, and push both."""
        self.dvc("add", "--quiet", *folders, show=True)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message, show=True)
        self.dvc("push", "--quiet", show=True)
        self.git("push", "--quiet", "origin", "main", show=True)

    def git(self, *words: str, show: bool = False) -> str:
        """Run git in the clone."""
        return self._run(self.clone, "git", *words, show=show)

    def dvc(self, *words: str, show: bool = False) -> str:
        """Run DVC in the clone."""
        return self._run(self.clone, "dvc", *words, show=show)

    def _run(self, where: Path, *words: str, show: bool = False) -> str:
        program = [sys.executable, "-m", "dvc"] if words[0] == "dvc" else [words[0]]
        done = subprocess.run(
            [*program, *words[1:]], cwd=where, env=self._environment, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)} failed: {done.stderr}")
        if show:
            screen.command([f"{where.name}/", *words], "")
        return done.stdout.strip()

    def _take(self, picture: Path, label: str) -> None:
        target = self.clone / "digits" / label / picture.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)

    def _count(self, folder: str) -> int:
        return len(list((self.clone / folder).rglob("*.png")))
