"""A forge, the repository behind it and the people who work there: what the scenarios play on. One table names all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from adapters.forge_gitea import GiteaForge
from adapters.forge_github import GitHubForge
from adapters.forge_gitlab import GitLabForge
from adapters.forge_http import ForgeClient
from adapters.forge_local import LocalForge
from reconcilers.ports import Forge, Reviews
from tests.support.forge_server import ForgeServer, running
from tests.support.gitea_server import GiteaServer
from tests.support.github_server import GitHubServer
from tests.support.gitlab_server import GitLabServer
from tests.support.gitrepo import Hub, git

LABEL = "trunkline"


class Adapter(Forge, Reviews, Protocol):
    """What every forge must be able to do."""


REMOTE: dict[str, tuple[type[ForgeServer], Callable[..., Adapter]]] = {
    "github": (GitHubServer, GitHubForge),
    "gitlab": (GitLabServer, GitLabForge),
    "gitea": (GiteaServer, GiteaForge),
}
"""Forges behind HTTP: the stand-in, and the adapter (client, project, branch, labels)."""
ALL = ("local", *REMOTE)


class Stage:
    """One forge with one project. ``forge`` is a controller; ``another`` starts one that remembers nothing."""

    local = False
    closes_when_branch_goes = False
    opens_empty = False

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.forge = self.another()

    def another(self) -> Adapter:
        """Give an adapter that was just started."""
        raise NotImplementedError

    def push(self, branch: str, text: str = "a: 2\n", *, start: str = "origin/main", path: str = "m.yaml") -> str:
        """Push a proposal's branch, one commit ahead of ``start``, and give its head."""
        git(self.hub.clone, "fetch", "-q", "origin")
        return self.hub.commit({path: text}, f"Change {path}", branch=branch, start=start)

    def branches(self, count: int) -> list[str]:
        """Make many proposals' branches at one commit, quickly; give their names."""
        head = self.push("many")
        names = [f"trunkline/promote/default.many/{number:012x}" for number in range(count)]
        script = "".join(f"create refs/heads/{name} {head}\n" for name in names)
        git(self.hub.path, "update-ref", "--stdin", stdin=script.encode())
        return names

    def delete_branch(self, branch: str) -> None:
        """Delete a branch with plain git."""
        git(self.hub.path, "update-ref", "-d", f"refs/heads/{branch}")

    # What people do and see; every stage has its own way.
    def merge(self, number: int, method: str = "merge", by: str = "ann") -> str:
        raise NotImplementedError

    def close(self, number: int) -> None:
        raise NotImplementedError

    def retarget(self, number: int, base: str) -> None:
        raise NotImplementedError

    def review(self, number: int, person: str, verdict: str = "approve") -> None:
        raise NotImplementedError

    def comments(self, number: int) -> Sequence[str]:
        raise NotImplementedError

    def checks(self, commit: str) -> dict[str, tuple[str, str]]:
        """Give the newest state and summary of each check."""
        raise NotImplementedError

    def count(self) -> int:
        """Give the number of pull requests there are."""
        raise NotImplementedError

    def written(self) -> object:
        """Give something that differs whenever anything was written."""
        raise NotImplementedError


class RemoteStage(Stage):
    """A forge behind HTTP. ``server`` can be made to fail."""

    def __init__(self, name: str, hub: Hub, server: ForgeServer, adapter: Callable[..., Adapter]) -> None:
        self.name = name
        self.server, self._adapter = server, adapter
        self.closes_when_branch_goes, self.opens_empty = server.closes_when_branch_goes, server.opens_empty
        self.now = float(server.now)
        """What clients take for the time, in Unix seconds; it stands still."""
        super().__init__(hub)

    def another(self) -> Adapter:
        return self._adapter(self.client(), self.server.project, branch=self.server.branch, labels=[LABEL])

    def client(self, **options: Any) -> ForgeClient:
        """Give a client of the stand-in."""
        headers = {"Authorization": f"Bearer {self.server.token}"}
        return ForgeClient(self.server.url, lambda: headers, clock=lambda: self.now, **options)

    def merge(self, number: int, method: str = "merge", by: str = "ann") -> str:
        return self.server.merge(number, method, by)

    def close(self, number: int) -> None:
        self.server.close(number)

    def retarget(self, number: int, base: str) -> None:
        self.server.retarget(number, base)

    def review(self, number: int, person: str, verdict: str = "approve") -> None:
        self.server.review(number, person, verdict)

    def comments(self, number: int) -> Sequence[str]:
        return [comment.body for comment in self.server.pull(number).comments]

    def checks(self, commit: str) -> dict[str, tuple[str, str]]:
        return {each.context: (each.state, each.summary) for each in self.server.statuses.get(commit, [])}

    def count(self) -> int:
        return len(self.server.pulls)

    def written(self) -> object:
        return sum(call.wrote for call in self.server.calls)


class LocalStage(Stage):
    """The embedded forge: people use the same code, under their own names."""

    local = True

    def another(self) -> Adapter:
        return LocalForge(self.hub.path)

    def _person(self, name: str) -> LocalForge:
        return LocalForge(self.hub.path, actor=(name, f"{name}@example.com"))

    def merge(self, number: int, method: str = "merge", by: str = "ann") -> str:
        return self._person(by).merge(number, method="squash" if method == "squash" else "merge")

    def close(self, number: int) -> None:
        self._person("ann").close(number, comment="")

    def review(self, number: int, person: str, verdict: str = "approve") -> None:
        assert verdict == "approve"
        self._person(person).approve(number)

    def comments(self, number: int) -> Sequence[str]:
        return LocalForge(self.hub.path).get(number).comments

    def checks(self, commit: str) -> dict[str, tuple[str, str]]:
        found = LocalForge(self.hub.path).checks(commit)
        return {check.name: (str(check.state), check.summary) for check in found}

    def count(self) -> int:
        return len(LocalForge(self.hub.path).list(""))

    def written(self) -> object:
        return git(self.hub.path, "for-each-ref")


@contextmanager
def remote_stage(name: str, folder: Path) -> Iterator[RemoteStage]:
    """Set up a forge behind HTTP."""
    with stage(name, folder) as found:
        assert isinstance(found, RemoteStage)
        yield found


@contextmanager
def stage(name: str, folder: Path) -> Iterator[Stage]:
    """Set up a forge by its name, with one commit on ``main``."""
    hub = Hub(folder / "far")
    hub.commit({"m.yaml": "a: 1\n"}, "First")
    if name == "local":
        yield LocalStage(hub)
        return
    make, adapter = REMOTE[name]
    with running(make(hub.path)) as server:
        yield RemoteStage(name, hub, server, adapter)
