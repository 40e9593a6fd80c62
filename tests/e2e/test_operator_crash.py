"""The operator killed at every single effect: the end is the same, nothing happened twice, and then all is quiet."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster

pytestmark = pytest.mark.xdist_group("cluster-crash")
COMMAND = ("-m", "tests.support.crashing_operator")


class Story:
    """A cluster whose operator is started again whenever it was killed."""

    def __init__(self, cluster: Cluster, when: str) -> None:
        self.cluster, self.when = cluster, when

    def tell(self) -> None:
        """Two promotions, a re-export, a superseded proposal, a revert, and the end of serving."""
        person = self.cluster.person
        person.write(person.spec())
        self.promote(1)
        person.change(("dynamic: true", "dynamic: true, opset: 17"))
        self.promote(2)
        person.change(("epochs: 8,", "epochs: 9,"))
        self.until("v3 is proposed", person.pulls)
        (old,) = person.pulls()
        person.change(("epochs: 9,", "epochs: 10,"))
        self.until("another run is proposed", lambda: [p for p in person.pulls() if p.branch != old.branch])
        merge = self.promote(3)
        person.revert(merge)
        self.until("v2 serves again", lambda: self.cluster.serves(2))
        self.until("that is a decision", lambda: self.cluster.reason("Proposed") == "ReleaseReverted")
        person.change(("  serving: {export: onnx}\n", ""))
        self.until("nothing serves", lambda: self.cluster.reason("Serving") == "NothingToServe"
                   and not self.cluster.objects("deployments"))  # fmt: skip

    def promote(self, version: int) -> str:
        """Merge the one proposal, and wait until it serves."""
        self.until(f"v{version} is proposed", lambda: len(self.cluster.person.pulls()) == 1)
        merge = self.cluster.person.merge()
        self.until(f"v{version} serves", lambda: self.cluster.serves(version))
        return merge

    def until(self, what: str, true: Callable[[], object]) -> None:
        """Keep an operator running until something is so."""
        give_up = time.monotonic() + 120
        while not true():
            self.live()
            assert time.monotonic() < give_up, f"never: {what}; {self.cluster.log()[-3000:]}"
            time.sleep(0.05)

    def live(self) -> None:
        """Start the operator, which lives on however often it is killed; any other end is a failure."""
        if not self.cluster.started():
            self.cluster.start(command=COMMAND, CRASH=self.when)
        elif not self.cluster.running():
            words = self.cluster.log()[-3000:]
            pytest.fail(f"the operator ended by itself ({self.cluster.exit_code()}): {words}")

    def settle(self) -> None:
        """Wait until nothing is written for a while, whoever dies meanwhile."""
        give_up, quiet = time.monotonic() + 60, 0.0
        before: object = None
        while quiet < self.cluster.resync * 1.5:
            self.live()
            now = (self.cluster.writes(), self.lines("killed"))
            quiet, before = (quiet + 0.1, before) if now == before else (0.0, now)
            assert time.monotonic() < give_up, f"never settled; {self.cluster.log()[-3000:]}"
            time.sleep(0.1)

    def lines(self, name: str) -> list[str]:
        """Give what was noted."""
        file = self.cluster.log_folder / name
        return file.read_text().splitlines() if file.exists() else []


@dataclass(frozen=True)
class Told:
    """What a story left behind."""

    end: dict[str, Any]
    effects: frozenset[str]
    killed: frozenset[str]
    jobs: Counter[str]


def _tell(place: Path, when: str) -> Told:
    """Tell the story at a place, look at how it ended, and clear the place: its path is part of proposals."""
    try:
        with Cluster(place) as cluster:
            story = Story(cluster, when)
            story.tell()
            story.settle()
            cluster.assert_quiet()
            return Told(cluster.end_state(), frozenset(story.lines("effects")), frozenset(story.lines("killed")),
                        cluster.jobs_run())  # fmt: skip
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stories happen."""
    return tmp_path_factory.mktemp("cluster-story") / "place"


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Told:
    """The story without any crash."""
    return _tell(place, "never")


def _kinds(effects: frozenset[str]) -> set[str]:
    return {effect.partition(" ")[0] for effect in effects}


@pytest.mark.timeout(300)
def test_undisturbed_story_has_every_kind_of_effect(undisturbed: Told) -> None:
    """Every way in which the operator changes the world is in the story, and every job ran once."""
    assert _kinds(undisturbed.effects) == {
        "api.status", "api.event", "api.patch", "api.post", "api.delete", "repository.commit_files", "repository.push",
        "repository.delete_branch", "forge.open", "forge.close",
    }  # fmt: skip
    assert set(undisturbed.jobs.values()) == {1}


@pytest.mark.timeout(900)
def test_killed_at_every_effect(undisturbed: Told, place: Path) -> None:
    """Killed just after every single effect, the operator ends where the undisturbed one does.

    Just before an effect is just after the one before it: the world is the same, and the process remembers nothing.
    """
    told = _tell(place, "after")

    # Which states are seen on the way, and so which of them are told, is a matter of time.
    timely = ("api.status", "api.event", "forge.close", "repository.delete_branch")
    missed = {effect for effect in undisturbed.effects - told.killed if not effect.startswith(timely)}
    assert not missed
    assert told.jobs == undisturbed.jobs
    assert told.end == undisturbed.end
