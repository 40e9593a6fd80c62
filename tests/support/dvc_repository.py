"""Real data repositories: git and DVC as people use them, with a remote that has the bytes."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from specs.data import DvcSource
from specs.modelspec import Task
from tests.support import pictures
from tests.support.gitrepo import Hub, git


class DvcProject(Hub):
    """A bare data repository, a person's clone of it with DVC set up, and a remote: a folder, or ``s3://…``."""

    def __init__(self, folder: Path, *, remote: str = "") -> None:
        super().__init__(folder)
        self.remote = remote or str(folder / "remote")
        self.options: dict[str, str] = {}
        with self._at_home():
            Repo.init(str(self.clone)).close()
        self.configure()
        self.commit({}, "Begin")

    @classmethod
    def ready(cls, folder: Path) -> DvcProject:
        """Give one with a data set ``shelf`` of six pictures: a copy, for DVC takes a second to make one."""
        template = _template()
        shutil.copytree(template.path.parent, folder)
        project = cls.__new__(cls)
        project.path, project.clone, project.branch = folder / "hub.git", folder / "clone", template.branch
        project.remote, project.options = str(folder / "remote"), {}
        git(project.clone, "remote", "set-url", "origin", str(project.path))
        project.configure()
        project.commit({}, "Move")
        return project

    def configure(self, text: str | None = None) -> None:
        """Write ``.dvc/config``: the usual one, or anything."""
        usual = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {self.remote}\n"
        usual += "".join(f"    {name} = {value}\n" for name, value in self.options.items())
        (self.clone / ".dvc" / "config").write_text(usual if text is None else text)

    def pictures(self, name: str = "shelf", *, task: Task = "detect", count: int = 6, seed: str = "train") -> Path:
        """Write a small data set into the clone, instead of what was there."""
        folder = self.clone / name
        shutil.rmtree(folder, ignore_errors=True)
        return pictures.folder(folder, task, count, seed)

    def add(self, name: str = "shelf", *, message: str = "Add data", push: bool = True, **commit: Any) -> str:
        """Add an output as it is in the clone, push its bytes, commit and push the pointer; give the commit."""
        with self._repo() as repo:
            repo.add(str(self.clone / name))
            if push:
                repo.push(targets=[str(self.clone / f"{name}.dvc")])
        return self.commit({}, message, **commit)

    def move(self, remote: str) -> str:
        """Let another remote have the bytes, and push them there; give the commit."""
        self.remote = remote
        self.configure()
        with self._repo() as repo:
            repo.push()
        return self.commit({}, "Move")

    def tag(self, name: str) -> None:
        """Tag the clone's head, and push the tag."""
        git(self.clone, "tag", "--force", name)
        git(self.clone, "push", "-q", "--force", "origin", f"refs/tags/{name}")

    def digest(self, name: str = "shelf") -> str:
        """Give what the clone's pointer file says."""
        return "md5:" + self.pointer(name)["md5"]

    def pointer(self, name: str = "shelf") -> dict[str, Any]:
        """Give the output that the clone's pointer file names."""
        said: dict[str, Any] = yaml.safe_load((self.clone / f"{name}.dvc").read_text())["outs"][0]
        return said

    def source(self, revision: str = "", *, name: str = "shelf", pinned: bool = True, **more: Any) -> DvcSource:
        """Give the source as a ModelSpec would have it; the head unless another revision is named."""
        return DvcSource(
            repoURL=str(self.path), targetRevision=revision or self.head(), path=f"{name}.dvc",
            digest=self.digest(name) if pinned else None, **more,
        )  # fmt: skip

    def listing(self, name: str = "shelf") -> list[dict[str, str]]:
        """Give DVC's listing of a folder, from the clone's own cache."""
        md5 = self.pointer(name)["md5"]
        path = self.clone / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
        said: list[dict[str, str]] = json.loads(path.read_text())
        return said

    def object(self, md5: str) -> Path:
        """Give where the remote, a folder, has an object."""
        return Path(self.remote) / "files" / "md5" / md5[:2] / md5[2:]

    def md5_of(self, path: str, name: str = "shelf") -> str:
        """Give the MD5 of one file of a folder."""
        return next(entry["md5"] for entry in self.listing(name) if entry["relpath"] == path)

    def forge(self, entries: object, name: str = "shelf", **commit: Any) -> str:
        """Commit a pointer to a listing that no DVC would make, and put that into the remote; give the commit."""
        data = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        md5 = md5_of_bytes(data)
        target = self.object(f"{md5}.dir")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        outs = [{"md5": f"{md5}.dir", "hash": "md5", "path": name, "size": 1, "nfiles": 1}]
        return self.commit({f"{name}.dvc": yaml.safe_dump({"outs": outs})}, "Forge", **commit)

    @contextmanager
    def _repo(self) -> Iterator[Repo]:
        with self._at_home():
            repo = Repo(str(self.clone))
            try:
                yield repo
            finally:
                repo.close()

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        """Keep DVC's own files, and the settings of whoever runs the tests, out of the way."""
        home = self.path.parent / "home"
        own: Mapping[str, str] = {
            "DVC_GLOBAL_CONFIG_DIR": str(home / "global"), "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
            "DVC_SITE_CACHE_DIR": str(home / "site"), "DVC_NO_ANALYTICS": "1",
        }  # fmt: skip
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@functools.cache
def _template() -> DvcProject:
    folder = tempfile.TemporaryDirectory(prefix="trunkline-dvc-")
    project = DvcProject(Path(folder.name) / "far")
    atexit.register(folder.cleanup)
    project.pictures()
    project.add()
    return project


def md5_of_bytes(data: bytes) -> str:
    """Give the MD5 of bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
