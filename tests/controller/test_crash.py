"""The whole story with real processes, and the agent killed at every effect of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import place as places
from tests.support.crash_story import TIMELY, Story, Told, dataset, reason, tell
from tests.support.gitrepo import git

pytestmark = pytest.mark.xdist_group("crash")
KINDS = {
    "repository.commit_files", "repository.push", "repository.delete_branch", "forge.open", "forge.update",
    "forge.close", "jobs.start", "servers.roll_out", "servers.withdraw", "statuses.write",
}  # fmt: skip
"""Every way in which the agent changes the world; the story has them all."""
REGRESSION = "    - {name: no-regression, metric: metrics/accuracy_top1, maxRegression: 0.1, confidence: 0.95}\n"
SPEC = places.SPEC.replace("epochs: 8", "epochs: 1").replace("  serving:", f"{REGRESSION}  serving:")


class Releases(Story):
    """Everything that can happen to a model whose data is in the store."""

    def tell(self) -> None:
        """Everything that can happen to a model, with the person's part in it."""
        text = SPEC.replace("TRAIN", dataset(self.store, "a")).replace("GOLDEN", dataset(self.store, "b"))
        self.write(text)
        self.until("the gate stops it", lambda s: reason(s, "GatesPassed") == "GateFailed")
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
        self.until("that is a decision", lambda s: reason(s, "Proposed") == "ReleaseReverted")
        self.write(self.read().replace("  serving: {export: onnx}\n", ""))
        self.until("nothing serves", lambda s: reason(s, "Serving") == "NothingToServe" and s.serving is None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stories happen."""
    return tmp_path_factory.mktemp("story") / "place"


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Told:
    """The story without any crash."""
    return tell(Releases, place, "never")


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
    told = tell(Releases, place, when)
    assert not {effect for effect in undisturbed.effects - told.killed if not effect.startswith(TIMELY)}
    assert {effect.partition(" ")[0] for effect in told.killed} == KINDS
    assert not told.quiet
    assert told.end == undisturbed.end
