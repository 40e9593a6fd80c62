"""A person who works with models the way people do: in files, commits and pull requests."""

from __future__ import annotations

from pathlib import Path

from adapters.forge_local import LocalForge
from adapters.store import Store
from specs.facts import PullRequest, PullState
from specs.records import DatasetManifest, FileEntry, dataset_key
from tests.support.gitrepo import PERSON, Hub, git
from tests.support.place import FILE, SPEC


class Person:
    """Ada, her clone of the hub, and the forge as she sees it. Her clock stands still between her acts.

    So the same acts give the same commits, and two stories can be compared by them.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.hub, self._store = Hub(folder), store
        self._moment = 1_700_000_000

    def spec(self, *changes: tuple[str, str], train: str = "a", golden: str = "b") -> str:
        """Give the file of the model ``default/digits`` with its data pinned, after changes."""
        text = SPEC.replace("TRAIN", self.dataset(train)).replace("GOLDEN", self.dataset(golden))
        return _changed(text, *changes)

    def dataset(self, letters: str, names: tuple[str, ...] = ("x", "y")) -> str:
        """Put a data set of one picture a letter into the store; give its digest."""
        blobs = [(letter, self._store.put_blob(letter.encode())) for letter in letters]
        files = [FileEntry(path=f"x/{letter}.png", size=1, digest=digest) for letter, digest in blobs]
        manifest = DatasetManifest(
            task="classify", names=list(names), images=len(files), class_counts={names[0]: len(files)}, files=files
        )
        self._store.create(dataset_key(manifest.digest()), manifest.encode())
        return manifest.digest()

    def write(self, files: dict[str, str | bytes | None] | str) -> str:
        """Put files (None: remove), or the model's own, on the tracked branch; give the commit."""
        self._catch_up()
        content: dict[str, str | bytes | None] = {FILE: files} if isinstance(files, str) else files
        return self.hub.commit(content, "A person's change", when=self._tick())

    def read(self, path: str = FILE) -> str:
        """Give a file of the tracked branch."""
        return git(self.hub.path, "show", f"{self.hub.branch}:{path}") + "\n"

    def change(self, *changes: tuple[str, str], path: str = FILE) -> str:
        """Replace things in a file on the tracked branch, each of which is there once; give the commit."""
        return self.write({path: _changed(self.read(path), *changes)})

    def pulls(self) -> list[PullRequest]:
        """Give the open pull requests."""
        return [pull for pull in self._forge().list("") if pull.state is PullState.OPEN]

    def pull(self, number: int) -> PullRequest:
        """Give one pull request."""
        return self._forge().get(number)

    def history(self) -> list[PullRequest]:
        """Give all pull requests there ever were."""
        return list(self._forge().list(""))

    def merge(self, number: int | None = None) -> str:
        """Merge a pull request, the only open one unless told; give the merge commit."""
        if number is None:
            (pull,) = self.pulls()
            number = pull.number
        self._tick()
        return self._forge().merge(number)

    def close(self, number: int) -> None:
        """Close a pull request without merging it."""
        self._tick()
        self._forge().close(number, comment="no, thank you")

    def revert(self, merge: str) -> str:
        """Revert a merge commit with plain git, on the tracked branch; give the new head."""
        self._catch_up()
        git(self.hub.clone, "revert", "-m", "1", "--no-edit", merge, when=self._tick())
        git(self.hub.clone, "push", "-q", "origin", self.hub.branch)
        return self.hub.head()

    def _catch_up(self) -> None:
        if self.hub.branch in self.hub.heads():
            git(self.hub.clone, "fetch", "-q", "origin")
            git(self.hub.clone, "checkout", "-q", "-B", self.hub.branch, f"origin/{self.hub.branch}")

    def _forge(self) -> LocalForge:
        return LocalForge(self.hub.path, branch=self.hub.branch, actor=PERSON, clock=lambda: self._moment)

    def _tick(self) -> int:
        self._moment += 60
        return self._moment


def _changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    return text
