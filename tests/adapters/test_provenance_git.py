"""Whether a live spec is what the tracked branch says: for all of history's shapes, with a real repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adapters.provenance_git import GitProvenance
from adapters.repository import Repository
from specs.digests import desired_digest
from specs.errors import Stalled
from specs.facts import Origin, Standing
from specs.modelspec import ModelKey
from tests.support.gitrepo import Hub, git
from tests.support.place import SPEC

KEY = ModelKey("default", "digits")
TEXT = SPEC.replace("TRAIN", "sha256:" + "a" * 64).replace("GOLDEN", "sha256:" + "b" * 64)
OTHER = ModelKey("default", "letters")
LETTERS = TEXT.replace("name: digits", "name: letters")
RELEASE = """\
  release:
    version: {version}
    run: sha256:{c}
    weights: sha256:{c}
    exports: {{onnx: "sha256:{c}"}}
"""


def spec(text: str) -> str:
    """Give the digest of what a manifest asks for, as a cluster has it."""
    return desired_digest(yaml.safe_load(text)["spec"])


def released(version: int) -> str:
    """Give the file with a release."""
    return TEXT + RELEASE.format(version=version, c="c" * 64)


class Bench:
    """A hub, and the provenance of a cluster that follows it."""

    def __init__(self, folder: Path) -> None:
        self.hub = Hub(folder)
        self.repository = Repository(str(self.hub.path), folder / "state")
        self.provenance = GitProvenance(self.repository)

    def commit(self, files: dict[str, str | bytes | None]) -> frozenset[str]:
        """Push files, and look; gives the names that the look touches."""
        self.hub.commit(files)
        return self.look()

    def look(self) -> frozenset[str]:
        """Go on to the branch's head."""
        return self.provenance.read(self.repository.fetch())

    def origin(self, text: str, key: ModelKey = KEY) -> Origin:
        """Ask about a live spec."""
        return self.provenance.origin(key, spec(text))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh one."""
    return Bench(tmp_path)


def test_the_branchs_own_version_is_current(bench: Bench) -> None:
    """What is on trunk is what may run: with path, commit and the text that a proposal would edit."""
    assert bench.commit({"models/digits.yaml": TEXT, "README.md": "name: nobody"}) >= {"digits"}
    found = bench.origin(TEXT)
    assert (found.standing, found.path) == (Standing.CURRENT, "models/digits.yaml")
    assert found.sourced is not None
    assert found.sourced.text == TEXT
    assert found.sourced.head == found.sourced.changed.sha == bench.hub.head()
    content = git(bench.hub.path, "rev-parse", "main:models/digits.yaml")
    assert found.blob == bench.provenance.blob(found.path) == f"{content}.{bench.hub.head()[:12]}"


def test_meaning_counts_not_writing(bench: Bench) -> None:
    """Comments, order and a null field make no difference; a number does."""
    bench.commit({"digits.yaml": TEXT})
    data = yaml.safe_load(TEXT)["spec"]
    assert bench.provenance.origin(KEY, desired_digest(dict(reversed(data.items())))).standing is Standing.CURRENT
    assert bench.provenance.origin(KEY, desired_digest(data | {"release": None})).standing is Standing.CURRENT
    assert bench.origin(TEXT.replace("epochs: 8", "epochs: 9")).standing is Standing.FOREIGN


def test_the_version_before_is_older_and_says_which_commit(bench: Bench) -> None:
    """A cluster that is not synced yet has a version of a known commit."""
    bench.commit({"digits.yaml": TEXT})
    first = bench.hub.head()
    bench.commit({"digits.yaml": TEXT.replace("epochs: 8", "epochs: 9")})
    found = bench.origin(TEXT)
    assert found.standing is Standing.OLDER
    assert found.commit is not None
    assert found.commit.sha == first


def test_a_removed_file_leaves_an_older_version(bench: Bench) -> None:
    """A model that left the branch, and is not pruned yet, was asked for before."""
    bench.commit({"digits.yaml": TEXT, "other.yaml": "a: 1"})
    assert "digits" in bench.commit({"digits.yaml": None})
    assert bench.origin(TEXT).standing is Standing.OLDER


def test_back_and_forth(bench: Bench) -> None:
    """A → B → A: the first version is current again."""
    other = TEXT.replace("epochs: 8", "epochs: 9")
    for text in (TEXT, other, TEXT):
        bench.commit({"digits.yaml": text})
    assert bench.origin(TEXT).standing is Standing.CURRENT
    assert bench.origin(other).standing is Standing.OLDER


def test_what_git_never_said_is_foreign(bench: Bench) -> None:
    """A model of another name, of another namespace, or never heard of."""
    bench.commit({"digits.yaml": TEXT})
    for key in (ModelKey("default", "letters"), ModelKey("shop", "digits"), ModelKey("default", "store")):
        assert bench.origin(TEXT, key).standing is Standing.FOREIGN


def test_a_broken_file_says_what_is_wrong(bench: Bench) -> None:
    """The file of a live model that can no longer be read is broken, with its problems."""
    bench.commit({"digits.yaml": TEXT})
    bench.commit({"digits.yaml": TEXT.replace("task: classify", "task: clasify")})
    found = bench.origin(TEXT)
    assert found.standing is Standing.BROKEN
    assert "spec.task" in str(found.problems[0])


def test_two_files_with_one_name_are_nobodys(bench: Bench) -> None:
    """A name that stands twice is acted on by neither file."""
    bench.commit({"a.yaml": TEXT, "b.yaml": TEXT})
    found = bench.origin(TEXT)
    assert found.standing is Standing.BROKEN
    assert {problem.path for problem in found.problems} == {"a.yaml", "b.yaml"}


def test_many_documents_in_a_file_are_told_apart(bench: Bench) -> None:
    """Each model of a file has its own answer, and a fault in one is not the other's."""
    letters = TEXT.replace("name: digits", "name: letters")
    bench.commit({"all.yaml": f"{TEXT}---\n{letters.replace('epochs: 8', 'epochs: eight-hundred: 1')}"})
    assert bench.origin(TEXT).standing is Standing.BROKEN  # a file that is no YAML is nobody's
    bench.commit({"all.yaml": f"{TEXT}---\n{letters.replace('task: classify', 'task: nothing')}"})
    assert bench.origin(TEXT).standing is Standing.CURRENT
    assert bench.origin(letters, ModelKey("default", "letters")).standing is Standing.BROKEN


def test_the_highest_version_ever_named_is_known(bench: Bench) -> None:
    """After a revert the next release does not take an old number again."""
    for text in (TEXT, released(1), released(2), released(1)):
        bench.commit({"digits.yaml": text})
    found = bench.origin(released(1)).sourced
    assert found is not None
    assert found.last_version == 2


def test_a_rewritten_branch_is_read_anew(bench: Bench) -> None:
    """History that is no longer the branch's says nothing."""
    bench.commit({"digits.yaml": TEXT})
    other = TEXT.replace("epochs: 8", "epochs: 9")
    git(bench.hub.clone, "checkout", "-q", "--orphan", "fresh")
    bench.hub.commit({"digits.yaml": other}, branch="fresh", push=False)
    git(bench.hub.clone, "push", "-q", "--force", "origin", "fresh:main")
    bench.look()
    assert bench.origin(other).standing is Standing.CURRENT
    assert bench.origin(TEXT).standing is Standing.FOREIGN


def test_a_look_touches_whom_it_changes_and_nobody_else(bench: Bench) -> None:
    """Only models whose files changed are woken; a look that finds nothing new wakes nobody."""
    letters = TEXT.replace("name: digits", "name: letters")
    bench.commit({"digits.yaml": TEXT, "letters.yaml": letters})
    touched = bench.commit({"letters.yaml": letters.replace("epochs: 8", "epochs: 9")})
    assert "letters" in touched
    assert "digits" not in touched
    assert bench.look() == frozenset()


def test_answers_are_those_of_one_that_starts_anew(bench: Bench, tmp_path: Path) -> None:
    """What was learned step by step is what a new process learns at once."""
    for text in (TEXT, released(1), TEXT.replace("epochs: 8", "epochs: 9")):
        bench.commit({"digits.yaml": text, "x/other.yml": text.replace("name: digits", "name: other")})
    fresh = GitProvenance(bench.repository)
    fresh.read(bench.repository.fetch())
    for text in (TEXT, released(1), TEXT.replace("epochs: 8", "epochs: 9"), TEXT.replace("epochs: 8", "epochs: 1")):
        for key in (KEY, ModelKey("default", "other")):
            assert fresh.origin(key, spec(text)) == bench.provenance.origin(key, spec(text))


def test_the_same_content_by_another_commit_is_noticed(bench: Bench) -> None:
    """A branch that is rewritten to the same files, and A → B → A between two looks: the commit is another one."""
    bench.commit({"digits.yaml": TEXT, "letters.yaml": LETTERS})
    before, letters = bench.provenance.blob("digits.yaml"), bench.provenance.blob("letters.yaml")
    for text in (TEXT.replace("epochs: 8", "epochs: 9"), TEXT):
        bench.hub.commit({"digits.yaml": text})
    assert "letters" not in bench.look()
    assert bench.provenance.blob("digits.yaml") != before
    assert bench.provenance.blob("letters.yaml") == letters
    git(bench.hub.clone, "checkout", "-q", "--orphan", "fresh")
    bench.hub.commit({}, "Begin anew", branch="fresh", push=False)
    git(bench.hub.clone, "push", "-q", "--force", "origin", "fresh:main")
    assert bench.look() >= {"digits", "letters"}
    found = bench.origin(TEXT)
    assert found.sourced is not None
    assert (found.standing, found.sourced.changed.sha) == (Standing.CURRENT, bench.hub.head())


def test_a_branch_set_back_forgets_what_came_after(bench: Bench) -> None:
    """A force-push to an older commit: that version is current, and the one that was taken back is foreign."""
    bench.commit({"digits.yaml": released(1)})
    first = bench.hub.head()
    bench.commit({"digits.yaml": released(2)})
    git(bench.hub.clone, "push", "-q", "--force", "origin", f"{first}:main")
    bench.look()
    found = bench.origin(released(1))
    assert found.sourced is not None
    assert (found.standing, found.sourced.last_version) == (Standing.CURRENT, 1)
    assert bench.origin(released(2)).standing is Standing.FOREIGN


def test_a_hub_that_is_shallow_is_refused(tmp_path: Path) -> None:
    """Half a history would make an older version foreign, and an old number new; what to do is said."""
    deep = Bench(tmp_path / "deep")
    for text in (TEXT, released(1), released(2)):
        deep.commit({"digits.yaml": text})
    shallow = tmp_path / "shallow.git"
    git(tmp_path, "clone", "-q", "--bare", "--depth", "2", f"file://{deep.hub.path}", str(shallow))
    repository = Repository(str(shallow), tmp_path / "state")
    with pytest.raises(Stalled, match="git fetch --unshallow") as caught:
        repository.fetch()
    assert caught.value.reason == "RepositoryShallow"
    git(shallow, "fetch", "-q", "--unshallow")
    provenance = GitProvenance(repository)
    provenance.read(repository.fetch())
    assert provenance.origin(KEY, spec(TEXT)).standing is Standing.OLDER


def test_a_renamed_file_is_current_under_its_new_name(bench: Bench) -> None:
    """With the commit that renamed it; what it said under the old name is older."""
    other = TEXT.replace("epochs: 8", "epochs: 9")
    bench.commit({"digits.yaml": TEXT})
    bench.commit({"digits.yaml": other})
    assert "digits" in bench.commit({"digits.yaml": None, "models/digits.yaml": other})
    found = bench.origin(other)
    assert found.sourced is not None
    assert (found.standing, found.path) == (Standing.CURRENT, "models/digits.yaml")
    assert found.sourced.changed.sha == bench.hub.head()
    bench.commit({"models/digits.yaml": TEXT.replace("epochs: 8", "epochs: 10")})
    assert bench.origin(other).standing is Standing.OLDER


def test_a_model_that_moved_into_another_file_is_current_there(bench: Bench) -> None:
    """From a file of its own into one of many, and back: never in two files, never lost."""
    bench.commit({"digits.yaml": TEXT, "all.yaml": LETTERS})
    bench.commit({"digits.yaml": None, "all.yaml": f"{LETTERS}---\n{TEXT}"})
    assert (bench.origin(TEXT).standing, bench.origin(TEXT).path) == (Standing.CURRENT, "all.yaml")
    assert bench.origin(LETTERS, OTHER).standing is Standing.CURRENT
    bench.commit({"digits.yaml": TEXT, "all.yaml": LETTERS})
    assert (bench.origin(TEXT).standing, bench.origin(TEXT).path) == (Standing.CURRENT, "digits.yaml")
    assert bench.origin(LETTERS, OTHER).path == "all.yaml"


def test_a_name_in_two_files_is_right_again_once_one_of_them_goes(bench: Bench) -> None:
    """Whichever of the two goes."""
    other = TEXT.replace("epochs: 8", "epochs: 9")
    bench.commit({"a.yaml": TEXT, "b.yaml": other})
    assert bench.origin(TEXT).standing is Standing.BROKEN
    bench.commit({"a.yaml": None})
    assert bench.origin(other).standing is Standing.CURRENT
    assert bench.origin(TEXT).standing is Standing.OLDER


def test_what_a_merged_branch_said_on_the_way_never_counted(bench: Bench) -> None:
    """Only the first-parent line is the tracked branch's history; the merge is the commit that changed the file."""
    bench.commit({"digits.yaml": TEXT})
    way, end = TEXT.replace("epochs: 8", "epochs: 9"), TEXT.replace("epochs: 8", "epochs: 10")
    bench.hub.commit({"digits.yaml": way}, branch="work", start="main")
    bench.hub.commit({"digits.yaml": end}, branch="work")
    merge = bench.hub.merge("work")
    bench.look()
    found = bench.origin(end)
    assert found.sourced is not None
    assert found.sourced.changed.sha == merge
    assert bench.origin(way).standing is Standing.FOREIGN


@pytest.mark.parametrize(
    "writing", ["version: {}", '"version": {}', "version:\n      {}", '"v\\x65rsion": {}', "version: +{}"]
)
def test_the_highest_version_is_known_however_it_was_written(bench: Bench, writing: str) -> None:
    """Old versions are only looked at, but none of their numbers is overlooked."""
    for text in (TEXT, released(7).replace("version: 7", writing.format(7)), released(2), TEXT):
        bench.commit({"digits.yaml": text})
    found = bench.origin(TEXT).sourced
    assert found is not None
    assert found.last_version == 7


def test_submodules_and_links_in_the_place_of_files_stop_nobody(bench: Bench) -> None:
    """Whoever may push could otherwise stop every model of the repository."""
    bench.commit({"digits.yaml": TEXT, "letters.yaml": LETTERS})
    for _ in range(2):
        git(bench.hub.clone, "rm", "-q", "--cached", "letters.yaml")
        bench.hub.submodule("letters.yaml")
        bench.look()
    (bench.hub.clone / "letters.yaml").unlink()
    (bench.hub.clone / "letters.yaml").symlink_to("digits.yaml")
    bench.commit({})
    fresh = GitProvenance(bench.repository)
    fresh.read(bench.repository.fetch())
    for each in (bench.provenance, fresh):
        assert each.origin(KEY, spec(TEXT)).standing is Standing.CURRENT
        assert each.origin(OTHER, spec(LETTERS)).standing is not Standing.CURRENT


def test_only_files_below_the_prefix_count(bench: Bench) -> None:
    """A team's folder is the team's."""
    bench.commit({"team/digits.yaml": TEXT, "letters.yaml": TEXT.replace("name: digits", "name: letters")})
    mine = GitProvenance(bench.repository, prefix="team/")
    mine.read(bench.repository.fetch())
    assert mine.origin(KEY, spec(TEXT)).standing is Standing.CURRENT
    assert mine.origin(ModelKey("default", "letters"), spec(TEXT)).standing is Standing.FOREIGN


@pytest.mark.parametrize("folder", ["a", "/a/", "a/"])
def test_several_folders_are_read_at_once_and_asked_one_by_one(bench: Bench, folder: str) -> None:
    """Each has a say about what lies below it alone: now, before, and after it is gone."""
    older = TEXT.replace("epochs: 8", "epochs: 7")
    bench.commit({"a/digits.yaml": older, "ab/digits.yaml": released(3), "b/digits.yaml": released(1)})
    bench.commit({"a/digits.yaml": TEXT, "c/digits.yaml": released(2)})
    bench.commit({"b/digits.yaml": None})
    mine = GitProvenance(bench.repository, prefix=[folder, "b"])
    mine.read(bench.repository.fetch())
    told = {within: {text: mine.origin(KEY, spec(text), within).standing for text in (TEXT, older, released(1))}
            for within in (folder, "b")}  # fmt: skip
    now, then, never = Standing.CURRENT, Standing.OLDER, Standing.FOREIGN
    assert told == {
        folder: {TEXT: now, older: then, released(1): never}, "b": {TEXT: never, older: never, released(1): then}
    }  # fmt: skip
    for text in (released(2), released(3)):
        assert mine.origin(KEY, spec(text)).standing is never


def test_no_folder_among_several_is_all_of_it(bench: Bench) -> None:
    """A binding of the whole repository beside one of a folder sees everything; the folder is no prefix of names."""
    bench.commit({"ab/digits.yaml": TEXT})
    mine = GitProvenance(bench.repository, prefix=["a", ""])
    mine.read(bench.repository.fetch())
    told = {within: mine.origin(KEY, spec(TEXT), within).standing for within in ("", "a", "ab", "ab/")}
    assert told == {
        "": Standing.CURRENT, "a": Standing.FOREIGN, "ab": Standing.CURRENT, "ab/": Standing.CURRENT
    }  # fmt: skip
