"""A real repository with a real story of releases in it, told by the real loop, in seconds and in one process.

Git, forge and store are real; jobs are done on the spot and the server is pretended.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from adapters.fleet_store import StoreFleet
from adapters.forge_local import LocalForge
from adapters.repository import Repository
from adapters.source_git import GitSource
from adapters.store import Store
from reconcilers.loop import Reconciler
from reconcilers.world import Ports
from specs.facts import JobPhase, JobState, PullRequest, PullState
from specs.modelspec import ModelKey
from specs.placement import Placement
from specs.status import ModelStatus
from specs.workorders import AnyOrder
from tests.support import story_workload
from tests.support.fakes import FakeServers, FakeTraffic
from tests.support.gitrepo import PERSON, git
from tests.support.person import Person
from tests.support.place import FILE
from tests.support.wire import Wire

KEY = ModelKey("default", "digits")
EVIDENCE = "evidence/default.digits/v{}/evidence.json"
BEGIN = 1_767_258_000
"""The first of January 2026, nine in the morning."""


class PromptJobs:
    """The port: every job is done before ``start`` comes back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def state(self, order: AnyOrder) -> JobState | None:
        return None

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        story_workload.do(self._store, order)
        return JobState(order.job, JobPhase.ENDED, exit_code=0)


class Repo:
    """A folder with settings, a bare repository, a store and a person's clone: what an auditor finds."""

    def __init__(self, folder: Path, now: int = BEGIN) -> None:
        self.folder, self.path, self.clone, self.now = folder, folder / "hub.git", folder / "clone", now

    def forge(self) -> LocalForge:
        """Give the forge as the person sees it; its clock goes on a minute."""
        self.now += 60
        return LocalForge(self.path, actor=PERSON, clock=lambda: self.now)

    def opened(self) -> PullRequest:
        """Give the one open pull request."""
        (pull,) = [pull for pull in self.forge().list("") if pull.state is PullState.OPEN]
        return pull

    def read(self, path: str = FILE, ref: str = "main") -> str:
        """Give a file of the tracked branch, or of another revision."""
        return git(self.path, "show", f"{ref}:{path}") + "\n"

    def head(self, ref: str = "main") -> str:
        """Give a commit's name."""
        return git(self.path, "rev-parse", ref)

    def checkout(self, branch: str = "main", start: str = "origin/main") -> None:
        """Put the clone on a branch, begun at what the hub has."""
        git(self.clone, "fetch", "-q", "origin")
        git(self.clone, "checkout", "-q", "-f", "-B", branch, start)

    def commit(self, files: dict[str, str | bytes | None], message: str, *, author: str = "") -> str:
        """Commit to the tracked branch and push, past every rule; give the commit."""
        self.now += 60
        self.checkout()
        for path, content in files.items():
            target = self.clone / path
            if content is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
        git(self.clone, "add", "--all")
        signed = (f"--author={author}",) if author else ()
        git(self.clone, "commit", "-q", "--allow-empty", *signed, "-m", message, when=self.now)
        return self.push()

    def push(self) -> str:
        """Push what the clone has as the tracked branch, whatever is lost by that; give its head."""
        git(self.clone, "push", "-q", "--force", "origin", "HEAD:main")
        return self.head()

    def copied(self, folder: Path) -> Repo:
        """Give a place of its own that is like this one, without what the loop keeps."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("loop", "state"), symlinks=True)
        git(folder / "clone", "remote", "set-url", "origin", str(folder / "hub.git"))
        return Repo(folder, self.now)


class Released(Repo):
    """The same with the loop that looks after one model."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\nstate = "state"\n')
        self.store = Store(str(folder / "store"))
        self.person = Person(folder, self.store)
        self.servers = FakeServers(Wire())
        self.traffic: FakeTraffic | None = None
        self.fleet: StoreFleet | None = None
        self.repository = Repository(str(self.path), folder / "loop")
        self.status = ModelStatus()

    def converge(self) -> None:
        """Let the loop look until nothing is left to do."""
        forge = LocalForge(self.path, clock=lambda: self.now)
        ports = Ports(
            self.store, self.repository, forge, PromptJobs(self.store), self.servers, traffic=self.traffic,
            fleet=self.fleet,
        )  # fmt: skip
        loop, source = Reconciler(ports, lambda: self.now), GitSource(self.repository)
        for _ in range(30):
            self.now += 1
            source.refresh()
            found = source.get(KEY)
            assert found is not None, source.problems
            result = loop.run(found, loop.share(), self.status)
            self.status = result.status
            if not result.acted:
                return
        raise AssertionError(self.status.summary)

    def change(self, *changes: tuple[str, str]) -> str:
        """Replace things in the model's file, as a person; give the commit."""
        text = self.read()
        for old, new in changes:
            assert text.count(old) == 1, (old, text)
            text = text.replace(old, new)
        made = self.commit({FILE: text}, "Change the model")
        self.converge()
        return made

    def merge(self, *, squash: bool = False) -> str:
        """Merge the one open pull request as a person; give the commit."""
        pull = self.opened()
        commit = self.forge().merge(pull.number, method="squash" if squash else "merge")
        self.converge()
        return commit

    def undo(self, commit: str) -> str:
        """Revert a merge by pull request; give the commit."""
        self.checkout("undo")
        git(self.clone, "revert", "--no-edit", "-m", "1", commit, when=self.now)
        git(self.clone, "push", "-q", "--force", "origin", "undo")
        self.forge().open(branch="undo", title="Undo it", body="")
        return self.merge()

    def spoil(self) -> None:
        """Let the server load nothing but what it has."""
        good = {state.file for state in self.servers.states.values()}
        names = [key.partition("/")[2].removesuffix(".json") for key in self.store.list("artifacts/")]
        self.servers.bad = {f"sha256:{name}" for name in names} - good


def begun(folder: Path) -> Released:
    """Give a place whose first proposal waits."""
    story = Released(folder)
    story.person.hub.commit({FILE: story.person.spec()}, "Want digits", when=BEGIN)
    story.converge()
    return story


def told(folder: Path) -> Released:
    """Tell a story with every way in which a release comes and goes.

    v1 merged; v2, another export, squashed; v3, other training, merged and reverted to v2; v4 merged, does not load;
    v5, the bytes of v2 again, rolled back; v6 after the hold was lifted; v7 proposed and not merged.
    """
    story = begun(folder)
    story.merge()
    story.change(("dynamic: true", "dynamic: false"))
    story.merge(squash=True)
    story.change(("epochs: 8", "epochs: 9"))
    story.undo(story.merge())
    story.change(("epochs: 9", "epochs: 10"))
    story.spoil()
    story.merge()
    story.merge()
    story.servers.bad = set()
    text = story.read()
    story.commit({FILE: text[: text.index("    deny:")]}, "Lift the hold")
    story.change(("epochs: 10", "epochs: 11"))
    story.merge()
    story.change(("epochs: 11", "epochs: 12"))
    return story


