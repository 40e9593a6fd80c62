"""What git tells about a branch of ours: whether it can be brought back, and what merging it would bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from adapters.repository import Repository
from specs.errors import Stalled
from specs.facts import PullState
from tests.support.gitrepo import Hub, git

BRANCH = "trunkline/promote/retail.digits/0123456789ab"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a remote with a model on its trunk."""
    hub = Hub(tmp_path / "far")
    hub.commit({"models/digits.yaml": "a: 1\n"})
    return hub


@pytest.fixture
def ours(hub: Hub, tmp_path: Path) -> Repository:
    """Give our view of it."""
    return Repository(str(hub.path), tmp_path / "work")


def test_a_deleted_branch_can_be_brought_back_as_it_was(ours: Repository, hub: Hub) -> None:
    """The commit of a branch that we deleted is still here, and a branch can point at it again."""
    made = ours.commit_files(ours.fetch(), {"x": b"1"}, "m")
    ours.push(BRANCH, made, None)
    ours.delete_branch(BRANCH, made)
    ours.fetch()
    assert ours.has(made)
    ours.push(BRANCH, made, None)
    assert hub.head(BRANCH) == made


def test_what_git_has_forgotten_is_not_here(ours: Repository) -> None:
    """A commit that never was, one that was collected, and one of which a part is gone."""
    head = ours.fetch()
    assert ours.has(head)
    assert not ours.has("0" * 39 + "1")
    made = ours.commit_files(head, {"x": b"only here"}, "m")
    mirror = ours.git.run("rev-parse", "--absolute-git-dir").text
    (blob,) = [line.split()[2] for line in ours.git.run("ls-tree", made, "x").text.splitlines()]
    Path(mirror, "objects", blob[:2], blob[2:]).unlink()
    assert not ours.has(made)
    ours.git.run("prune", "--expire=now")
    assert not ours.has(made)


@pytest.mark.parametrize("rev", ["", "main", "-x", "F" * 40])
def test_only_full_commit_names_are_commits(ours: Repository, rev: str) -> None:
    """Nothing here takes what git would have to interpret."""
    head = ours.fetch()
    for act in (lambda: ours.has(rev), lambda: ours.is_adrift(rev, head), lambda: ours.is_adrift(head, rev)):
        with pytest.raises(Stalled) as caught:
            act()
        assert caught.value.reason == "UnsafeRef"


def test_a_proposal_on_a_trunk_that_was_rewritten_is_adrift_and_still_ours(ours: Repository, hub: Hub) -> None:
    """Below our commit are commits that trunk has no more: merging would bring them back, and nobody took it over."""
    clean = hub.head()
    hub.commit({"secret": "x"})
    base = ours.fetch()
    made = ours.commit_files(base, {"y": b"1"}, "m")
    ours.push(BRANCH, made, None)
    assert (ours.is_adrift(base, made), ours.is_foreign(base, made)) == (False, False)
    git(hub.clone, "push", "-q", "--force", "origin", f"{clean}:refs/heads/main")
    trunk = ours.fetch()
    assert trunk == clean
    assert (ours.is_adrift(trunk, made), ours.is_foreign(trunk, made)) == (True, False)
    assert not ours.is_adrift(made, made)


def test_a_closed_proposal_is_opened_again_on_real_git_and_the_local_forge(ours: Repository, hub: Hub) -> None:
    """The very steps of a pass, done twice: restore the branch, reopen, rebuild on the trunk of now."""
    forge = LocalForge(hub.path)
    made = ours.commit_files(ours.fetch(), {"x": b"1"}, "m")
    ours.push(BRANCH, made, None)
    number = forge.open(branch=BRANCH, title="t", body="b").number
    forge.close(number, comment="not now", mark="<!-- closed -->")
    ours.delete_branch(BRANCH, made)
    hub.commit({"README": "newer"})
    base = ours.fetch()
    (closed,) = forge.list()
    assert (closed.head, closed.state) == (made, PullState.CLOSED)
    for expected in (None, made):
        assert ours.has(closed.head)
        assert not ours.is_foreign(base, closed.head)
        ours.push(BRANCH, closed.head, expected)
        assert forge.reopen(number).state is PullState.OPEN
    newer = ours.commit_files(base, {"x": b"1"}, "m")
    ours.push(BRANCH, newer, closed.head)
    forge.update(number, title="t", body="b")
    (again,) = forge.list()
    assert (again.state, again.head, again.body) == (PullState.OPEN, newer, "b")
    assert not ours.is_adrift(base, newer)
