"""Data from a real data repository on its way to a release, with real processes; the agent killed at every effect."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path

import pytest

from specs.facts import PullRequest
from tests.support import place as places
from tests.support.crash_story import TIMELY, Story, Told, tell
from tests.support.gitrepo import Hub

pytestmark = pytest.mark.xdist_group("crash")
POINTER = "outs:\n- {{md5: {}.dir, size: 1, nfiles: 1, hash: md5, path: shelf}}\n"
CONFIG = "[core]\n    remote = far\n['remote \"far\"']\n    url = s3://far/away\n"
SOURCE = "{{dvc: {{repoURL: {}, targetRevision: main, path: {}.dvc}}}}"


class Travels(Story):
    """Bare references are pinned, a model is released, newer data comes twice, and the newest is trained on."""

    settings = '[data]\nallow_folders = ["."]\npoll = 0.2\n'
    spared = ("statuses",)  # that a status may be lost is shown by the other story

    def __init__(self, folder: Path, when: str) -> None:
        super().__init__(folder, when)
        self.data = Hub(folder / "data")

    def tell(self) -> None:
        """Tell how two commits of the data repository became one release."""
        self.push("first")
        train, golden = (SOURCE.format(self.data.path, name) for name in ("shelf", "golden"))
        text = places.SPEC.replace('{uri: {url: "store://train", digest: "TRAIN"}}', train)
        text = text.replace('{uri: {url: "store://golden", digest: "GOLDEN"}}', golden)
        self.write(text + "  triggers: {onData: true}\n")
        self.merge("pin")
        self.merge("promote v1")
        self.until_serving(1)
        second = self.push("second")
        self.proposed(second)
        third = self.push("third")  # before anybody merged what was asked about the second
        self.proposed(third)
        self.merge(third[:12])
        self.merge("promote v2")
        self.until_serving(2)

    def push(self, version: str) -> str:
        """Commit a version of the data as a person; give the commit."""
        files = {
            ".dvc/config": CONFIG, "shelf.dvc": POINTER.format(md5(version.encode()).hexdigest()),
            "golden.dvc": POINTER.format("0" * 32),
        }  # fmt: skip
        return self.data.commit(files, f"The {version} data", when=self.tick())

    def proposed(self, words: str) -> PullRequest:
        """Wait for an open proposal whose title has these words."""
        self.until(f"{words[:12]} is proposed", lambda s: self._open(words[:12]) is not None)
        found = self._open(words[:12])
        assert found is not None
        return found

    def merge(self, words: str) -> None:
        """Merge it as a person."""
        number = self.proposed(words).number
        self.tick()
        self.forge().merge(number)

    def _open(self, words: str) -> PullRequest | None:
        found = self.open_proposal()
        return found if found is not None and words in found.title else None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stories happen."""
    return tmp_path_factory.mktemp("travels") / "place"


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Told:
    """The story without any crash."""
    return tell(Travels, place, "never")


@pytest.mark.timeout(300)
def test_newer_data_travels_by_pull_requests_alone(undisturbed: Told) -> None:
    """One proposal for the pins, one for each newer version, one for each release; each job once; then quiet."""
    titles = [(title, str(state)) for _, state, _, title, *_ in undisturbed.end["pulls"]]
    assert len(titles) == 5, titles
    assert [state for _, state in titles] == ["merged", "merged", "closed", "merged", "merged"], titles
    kinds = sorted(job.partition("-")[0] for job in undisturbed.jobs)
    assert kinds.count("import") == 4, undisturbed.jobs  # golden, and three versions
    assert kinds.count("validate") == 3, undisturbed.jobs
    assert kinds.count("diff") == 2, undisturbed.jobs
    assert kinds.count("train") == 2, undisturbed.jobs
    assert set(undisturbed.jobs.values()) == {1}
    assert not undisturbed.quiet


@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", ["after", "before"])
def test_killed_at_every_effect_it_ends_the_same(undisturbed: Told, place: Path, when: str) -> None:
    """The same commits, proposals, records and jobs, each of them once, wherever the agent died."""
    told = tell(Travels, place, when)
    assert not {effect for effect in undisturbed.effects - told.killed if not effect.startswith(TIMELY)}
    assert not told.quiet
    assert told.end == undisturbed.end
