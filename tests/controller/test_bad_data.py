"""Data that is not right, end to end: a real data repository, real DVC, real agent, real imports and validations.

Only the learning is pretended. Whatever comes from the data repository, nothing is trained on it before it was found to
be good, the reason is said in one sentence, and the last good version serves on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.dvc_repository import DvcProject
from tests.support.gitrepo import git
from tests.support.place import SPEC, Place
from tests.support.typed import said

pytestmark = pytest.mark.xdist_group("bad_input")
TABLES = '[data]\nallow_folders = ["."]\npoll = 0.05\n'


class Scene:
    """A place where v1 serves, trained on the first version in a data repository that is followed."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, tables=TABLES, real=("import", "validate", "diff"))
        self.data = DvcProject(folder / "elsewhere")
        self.data.pictures(task="classify", count=8)
        self.good, self.pinned = self.data.add(), self.data.digest()
        pictures.folder(folder / "golden", "classify", 4, seed="golden")
        added = json.loads(said(folder, "data", "add", "golden", "--task", "classify", "--json"))
        source = self.data.source()
        train = f'{{dvc: {{repoURL: "{source.repo_url}", targetRevision: "{self.good}", path: {source.path}, '
        text = SPEC.replace('{uri: {url: "store://train", digest: "TRAIN"}}', f'{train}digest: "{self.pinned}"}}}}')
        self.place.write(text.replace("GOLDEN", added["digest"]) + "  triggers: {onData: {branch: main}}\n")

    def push(self, change: Callable[[Path], object]) -> str:
        """Change the pictures as somebody of the data team does, and push that; give the commit."""
        git(self.data.clone, "reset", "-q", "--hard", self.good)
        self.data.pictures(task="classify", count=8)
        change(self.data.clone / "shelf")
        return self.data.add()

    def mend(self) -> None:
        """Let the branch say again what it said at first."""
        git(self.data.clone, "reset", "-q", "--hard", self.good)
        git(self.data.clone, "push", "-q", "--force", "origin", "main")
        self.place.until("the pinned version is the newest", lambda: self.place.reason("DataCurrent") == "DataIsNewest")

    def trained(self) -> list[str]:
        """Give the runs in the store."""
        return self.place.store.list("runs/")

    def serves(self) -> bool:
        """Whether v1 answers."""
        state = self.place.app.servers.state("digits")
        return state is not None and (state.ready, state.version) == (True, 1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a scene; every test that borrows it leaves it as it was."""
    made = Scene(tmp_path_factory.mktemp("data") / "place")
    try:
        assert made.place.released() == 1
        yield made
    finally:
        made.place.stop()


def _one_more(folder: Path) -> None:
    (folder / "green/new.png").write_bytes(pictures.scene("new", pictures.COLOURS["green"])[0])


def _break_picture(folder: Path) -> None:
    file = sorted((folder / "green").iterdir())[1]
    file.write_bytes(file.read_bytes()[:60])


def _lose_class(folder: Path) -> None:
    shutil.rmtree(folder / "green")


def _show_golden(folder: Path) -> None:
    golden = folder.parents[2] / "golden"
    shutil.copyfile(next(golden.rglob("*.png")), folder / "green" / "new.png")


def _no_picture(folder: Path) -> None:
    (folder / "green/notes.png").write_text("to do")


FAULTS = {
    "unreadable": (_break_picture, "DataInvalid", "cannot be used"),
    "no-picture": (_no_picture, "ImportFailed", "notes.png"),
    "other-classes": (_lose_class, "DataUnexpected", "golden has classes"),
    "leakage": (_show_golden, "GoldenLeakage", "golden images"),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("change", "reason", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_newer_version_that_is_not_right(
    scene: Scene, change: Callable[[Path], None], reason: str, words: str
) -> None:
    """It is fetched and looked at, and not proposed; the model is as desired, for git still names good data."""
    before = scene.trained()
    scene.push(change)
    place = scene.place
    place.until(f"{reason} is told", lambda: place.reason("DataCurrent") == reason)
    place.until("what was to be found out is", lambda: not place.app.jobs.running())
    place.settle()
    assert words in place.condition("DataCurrent").message
    assert place.open_pulls() == []
    assert place.reason("Ready") == "AsDesired"
    place.assert_quiet()
    assert (scene.trained(), scene.serves()) == (before, True)
    scene.mend()


@pytest.mark.timeout(300)
def test_bytes_that_were_changed_in_the_remote_are_not_trained_on(scene: Scene) -> None:
    """A person merges a version of which the remote has other bytes: the import names the file, and v1 serves on.

    Once the remote has the right bytes again, one command lets it be tried anew.
    """
    place, before, text = scene.place, scene.trained(), scene.place.read()
    commit = scene.push(_one_more)
    changed = scene.data.object(scene.data.md5_of("green/new.png"))
    right = changed.read_bytes()
    changed.chmod(0o644)
    changed.write_bytes(right[:-1] + b"!")
    place.write(text.replace(scene.good, commit).replace(scene.pinned, scene.data.digest()))
    place.skew += 1000  # the pauses between attempts are over at once
    place.settle()
    found = place.condition("DataReady")
    assert (found.status, found.reason) == ("False", "JobFailed")
    assert "CorruptArtifact" in found.message
    assert "shelf/green/new.png" in found.message
    place.assert_quiet()
    assert (scene.trained(), scene.serves()) == (before, True)
    changed.write_bytes(right)
    job = next(job for job in place.jobs()[::-1] if job.startswith("import-"))
    place.app.jobs.forget(job)
    place.until("it is trained on now", lambda: len(scene.trained()) == len(before) + 1)
    place.write(text)
    scene.mend()
