"""The whole story with real processes, and the agent killed at every effect of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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

pytestmark = pytest.mark.xdist_group("crash")
KEY = places.KEY
KINDS = {
    "repository.commit_files", "repository.push", "repository.delete_branch", "forge.open", "forge.update",
    "forge.close", "jobs.start", "servers.roll_out", "servers.withdraw", "statuses.write",
}  # fmt: skip
"""Every way in which the agent changes the world; the story has them all."""
PERSON = ("Ada", "ada@example.com")
REGRESSION = "    - {name: no-regression, metric: metrics/accuracy_top1, maxRegression: 0.1, confidence: 0.95}\n"
SPEC = places.SPEC.replace("epochs: 8", "epochs: 1").replace("  serving:", f"{REGRESSION}  serving:")


class Story:
    """A place, a person, and an agent that is started again whenever it was killed."""

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
        )
        self._agent: subprocess.Popen[bytes] | None = None

    def tell(self) -> None:
        """Everything that can happen to a model, with the person's part in it."""
        text = SPEC.replace("TRAIN", _dataset(self.store, "a")).replace("GOLDEN", _dataset(self.store, "b"))
        self.write(text)
        self.until("the gate stops it", lambda s: _reason(s, "GatesPassed") == "GateFailed")
        text = self.change("epochs: 1,", "epochs: 8,")
        self.promote(1)
        self.change("dynamic: true", "dynamic: true, opset: 17")
        self.promote(2)
        self.change("epochs: 8,", "epochs: 9,")
        self.until("v3 is proposed", lambda s: self.open_proposal() is not None)
        self.change("epochs: 9,", "epochs: 10,")  # supersedes the open proposal
        self.until("another run is proposed", lambda s: self.open_proposal(epochs=10) is not None)
        old = self.open_proposal(epochs=10)
        assert old is not None
        release = self.read().index("  release:")
        self.write(self.read()[:release] + "  policy: {maxOpenProposals: 2}\n" + self.read()[release:].replace(
            "    version: 2\n", "    version: 2   # a person's note\n"))  # fmt: skip
        self.until("it is brought up to date", lambda s: self.pull(old.number).head != old.head)
        merge = self.promote(3)
        git(self.hub.clone, "fetch", "-q", "origin")
        git(self.hub.clone, "reset", "-q", "--hard", "origin/main")
        git(self.hub.clone, "revert", "-m", "1", "--no-edit", merge, when=self.tick())
        git(self.hub.clone, "push", "-q", "origin", "main")
        self.until_serving(2)
        self.until("that is a decision", lambda s: _reason(s, "Proposed") == "ReleaseReverted")
        self.write(self.read().replace("  serving: {export: onnx}\n", ""))
        self.until("nothing serves", lambda s: _reason(s, "Serving") == "NothingToServe" and s.serving is None)

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
                   and _reason(s, "Serving") == "ReleaseServing")  # fmt: skip

    def until(self, what: str, true: Callable[[ModelStatus], bool]) -> None:
        """Keep an agent running until the model's status says so."""

        def looked() -> bool:
            if self._agent is None or self._agent.poll() is not None:
                died = self._agent.returncode if self._agent else -signal.SIGKILL
                assert died == -signal.SIGKILL, f"the agent ended by itself ({died}); see {self.log}"
                self.start()
            return true(Statuses(self.folder / "state/status").read(KEY))

        try:
            until(looked, 90)
        except AssertionError as error:
            words = (self.log / "agent").read_text()[-1500:]
            status = Statuses(self.folder / "state/status").read(KEY).summary
            raise AssertionError(f"never: {what}; status: {status}; agent: {words}") from error

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(places.ROOT)}
        with (self.log / "agent").open("ab") as words:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "tests.support.crashing_agent", str(self.folder), self.when], cwd=places.ROOT,
                env=environment, stdout=words, stderr=subprocess.STDOUT,
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
        end = len((self.log / "passes").read_text()) + count
        self.until(f"{count} more passes", lambda s: len((self.log / "passes").read_text()) >= end)

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


def _dataset(store: Store, letter: str) -> str:
    digest = store.put_blob(letter.encode())
    manifest = DatasetManifest(
        task="classify", names=["x", "y"], images=1, class_counts={"x": 1},
        files=[FileEntry(path=f"x/{letter}.png", size=1, digest=digest)],
    )  # fmt: skip
    store.create(dataset_key(manifest.digest()), manifest.encode())
    return manifest.digest()


def _reason(status: ModelStatus, type_: str) -> str:
    return next((c.reason for c in status.conditions if c.type == type_), "")


@dataclass(frozen=True)
class Told:
    """What a story left behind."""

    end: dict[str, Any]
    quiet: Counter[str]
    effects: frozenset[str]
    killed: frozenset[str]
    jobs: Counter[str]


def _tell(place: Path, when: str) -> Told:
    """Tell the story at a place, look at how it ended, and clear the place.

    Every story happens at the same place: the repository's address is part of what a proposal is about, and so of its
    key, its commits and its evidence.
    """
    story = Story(place, when)
    try:
        story.tell()
        quiet = story.settle()
        return Told(story.end_state(), quiet, frozenset(story.lines("effects")), frozenset(story.lines("killed")),
                    Counter(story.lines("jobs")))  # fmt: skip
    finally:
        story.stop()
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stories happen."""
    return tmp_path_factory.mktemp("story") / "place"


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Told:
    """The story without any crash."""
    return _tell(place, "never")


@pytest.mark.timeout(300)
def test_undisturbed_story_is_quiet_when_done(undisturbed: Told) -> None:
    """After the story no pass has an effect any more, and every job ran once."""
    assert not undisturbed.quiet
    assert set(undisturbed.jobs.values()) == {1}
    assert {effect.partition(" ")[0] for effect in undisturbed.effects} == KINDS


@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["after", "before"])
def test_killed_at_every_effect(undisturbed: Told, place: Path, when: str) -> None:
    """Killed just after (or just before) every single effect, the agent ends where the undisturbed one does."""
    told = _tell(place, when)

    # Which states are seen on the way, and whether a merge is seen before its proposal is closed, is a matter of time.
    timely = ("statuses.", "forge.close", "repository.delete_branch")
    assert not {effect for effect in undisturbed.effects - told.killed if not effect.startswith(timely)}
    assert {effect.partition(" ")[0] for effect in told.killed} == KINDS
    assert not told.quiet
    assert told.end == undisturbed.end
