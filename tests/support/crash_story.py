"""A story that people and the real agent tell together, with the agent killed at its effects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.forge_local import LocalForge
from adapters.store import Store
from controller import wiring
from controller.settings import load
from controller.statuses import Statuses
from specs.facts import PullRequest, PullState
from specs.records import DatasetManifest, FileEntry, dataset_key
from specs.status import ModelStatus
from tests.support import place as places
from tests.support.gitrepo import Hub, git
from tests.support.living import until

KEY = places.KEY
PERSON = ("Ada", "ada@example.com")
TIMELY = ("statuses.", "forge.close", "repository.delete_branch")
"""Which states are seen on the way, and whether a merge is seen before its proposal is closed, is a matter of time."""


class Story(ABC):
    """A place, a person, and an agent that is started again whenever it was killed."""

    settings = ""
    """More of them, as TOML."""
    spared: tuple[str, ...] = ()
    """Ports at whose effects nobody is killed."""

    def __init__(self, folder: Path, when: str) -> None:
        self.folder, self.when, self.moment = folder, when, 1_700_000_000
        self.log = folder / "log"
        self.log.mkdir(parents=True)
        self.hub = Hub(folder)
        self.store = Store(str(folder / "store"))
        surroundings = ("env", f"STORY_LOG={self.log}", f"PYTHONPATH={places.ROOT}")
        command = json.dumps((*surroundings, sys.executable, "-m", "tests.support.story_workload"))
        (folder / "trunkline.toml").write_text(
            f'repository = "hub.git"\nstore = "store"\nstate = "state"\nworkload_command = {command}\n'
            + self.settings
        )
        self._agent: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def tell(self) -> None:
        """Do what people do, and wait for what follows from it."""

    def promote(self, version: int) -> str:
        """Merge the open proposal as a person, and wait until it serves; give the merge commit."""
        self.until(f"v{version} is proposed", lambda s: self.open_proposal() is not None)
        pull = self.open_proposal()
        assert pull is not None
        self.tick()
        commit = self.forge().merge(pull.number)
        self.until_serving(version)
        return commit

    def until_serving(self, version: int) -> None:
        self.until(f"v{version} serves", lambda s: s.serving is not None and s.serving.version == version
                   and reason(s, "Serving") == "ReleaseServing")  # fmt: skip

    def until(self, what: str, true: Callable[[ModelStatus], bool]) -> None:
        """Keep an agent running until the model's status says so."""

        def looked() -> bool:
            if self._agent is None:
                self.start()
            died = self._agent.poll() if self._agent is not None else None
            assert died is None, f"the agent ended by itself ({died}); see {self.log}"
            return true(Statuses(self.folder / "state/status").read(KEY))

        try:
            until(looked, 300)  # long: every kill costs a start, and the machine may be busy
        except AssertionError as error:
            words = (self.log / "agent").read_text()[-1500:]
            status = Statuses(self.folder / "state/status").read(KEY).summary
            raise AssertionError(f"never: {what}; status: {status}; agent: {words}") from error

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
        with (self.log / "agent").open("ab") as words:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "tests.support.crashing_agent", str(self.folder), self.when, *self.spared],
                cwd=places.ROOT, env=environment, stdout=words, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def forge(self) -> LocalForge:
        """The forge as the person sees it; its clock stands with the story."""
        return LocalForge(self.hub.path, actor=PERSON, clock=lambda: self.moment)

    def tick(self) -> int:
        self.moment += 60
        return self.moment

    def pull(self, number: int) -> PullRequest:
        return self.forge().get(number)

    def open_proposal(self, epochs: int | None = None) -> PullRequest | None:
        found = [p for p in self.forge().list() if p.state is PullState.OPEN]
        if epochs is not None:
            value = 0.9 + epochs / 1000
            found = [p for p in found if f"{value:.4g}" in p.title]
        return found[-1] if found else None

    def read(self) -> str:
        git(self.hub.clone, "fetch", "-q", "origin")
        return git(self.hub.clone, "show", "origin/main:digits.yaml") + "\n"

    def write(self, text: str) -> None:
        """Put the file on the tracked branch, at the story's own time."""
        if self.hub.heads():
            git(self.hub.clone, "fetch", "-q", "origin")
            git(self.hub.clone, "reset", "-q", "--hard", "origin/main")
        self.hub.commit({"digits.yaml": text}, "A person's change", when=self.tick())

    def change(self, old: str, new: str) -> str:
        text = self.read()
        assert text.count(old) == 1, (old, text)
        self.write(text.replace(old, new))
        return text.replace(old, new)

    def settle(self) -> Counter[str]:
        """Wait three more passes; give the effects that happened in them."""
        self._passes(2)  # the pass that was seen to be the last may still be writing down what it did
        before = len(self.lines("effects"))
        self._passes(3)
        return Counter(self.lines("effects")[before:])

    def _passes(self, count: int) -> None:
        end = self._passed() + count
        self.until(f"{count} more passes", lambda s: self._passed() >= end)

    def _passed(self) -> int:
        file = self.log / "passes"  # an agent that was killed in each of its passes has not written it yet
        return len(file.read_text()) if file.exists() else 0

    def lines(self, name: str) -> list[str]:
        file = self.log / name
        return file.read_text().splitlines() if file.exists() else []

    def end_state(self) -> dict[str, Any]:
        """Everything that must not depend on crashes."""
        pulls = self.forge().list("")
        status = Statuses(self.folder / "state/status").read(KEY)
        return {
            "trunk": self.hub.head(),
            "branches": sorted(self.hub.heads()),
            "pulls": [(p.number, p.state, p.branch, p.title, p.head, len(p.comments)) for p in pulls],
            "records": [key for key in self.store.list() if not key.startswith("progress/")],
            "jobs": sorted(self.lines("jobs")),
            "status": [(c.type, c.status, c.reason) for c in status.conditions],
        }

    def stop(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            self._agent.wait()
        app = wiring.build(load(self.folder))
        app.jobs.stop_all()
        app.servers.stop()


def dataset(store: Store, letter: str) -> str:
    """Put a data set of one picture into the store; give its digest."""
    digest = store.put_blob(letter.encode())
    manifest = DatasetManifest(
        task="classify", names=["x", "y"], images=1, class_counts={"x": 1},
        files=[FileEntry(path=f"x/{letter}.png", size=1, digest=digest)],
    )  # fmt: skip
    store.create(dataset_key(manifest.digest()), manifest.encode())
    return manifest.digest()


def reason(status: ModelStatus, type_: str) -> str:
    """Give the reason of a condition, empty where there is none."""
    return next((c.reason for c in status.conditions if c.type == type_), "")


@dataclass(frozen=True)
class Told:
    """What a story left behind."""

    end: dict[str, Any]
    quiet: Counter[str]
    effects: frozenset[str]
    killed: frozenset[str]
    jobs: Counter[str]


def tell(kind: type[Story], place: Path, when: str) -> Told:
    """Tell a story at a place, look at how it ended, and clear the place.

    Every story happens at the same place: the repository's address is part of what a proposal is about, and so of its
    key, its commits and its evidence.
    """
    story = kind(place, when)
    try:
        story.tell()
        quiet = story.settle()
        return Told(story.end_state(), quiet, frozenset(story.lines("effects")), frozenset(story.lines("killed")),
                    Counter(story.lines("jobs")))  # fmt: skip
    finally:
        story.stop()
        shutil.rmtree(place)


