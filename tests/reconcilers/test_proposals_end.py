"""How proposals end on real forges: merged in every way, applied by hand, pushed away, pointed elsewhere, deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from specs.facts import PullState
from specs.status import ConditionType, Reason
from tests.support.fake_git import PERSON, TRUNK, FakeCommit
from tests.support.story import phases
from tests.support.world import World


@pytest.fixture
def world() -> World:
    """Give a model whose first proposal, #1, is open."""
    return next(phase.after for phase in phases() if phase.name == "epochs raised").fork()


def reason(world: World) -> str:
    """Give what is said about the proposal."""
    found = world.status.condition(ConditionType.PROPOSED)
    assert found is not None
    return found.reason


def merged(world: World, sha: str, *, told: bool = True) -> None:
    """Move trunk; the forge notices, and deletes the branch, or does neither."""
    pull = world.forge.pulls[0]
    world.git.heads[TRUNK] = sha
    if told:
        done = replace(pull, state=PullState.MERGED, closed=int(world.now), merge_commit=sha)
        world.forge.pulls[0] = done
        world.git.heads.pop(pull.branch)


def by_squash(world: World) -> None:
    """Press the button that makes one commit."""
    world.merge()


def by_merge_commit(world: World) -> None:
    """Press the button that makes a merge commit."""
    trunk, head = world.git.heads[TRUNK], world.forge.pulls[0].head
    made = FakeCommit((trunk, head), world.git.commits[head].tree, PERSON, "Merge pull request #1", int(world.now))
    merged(world, world.git.put(made))


def by_rebase(world: World) -> None:
    """Press the button that puts our commit on top of trunk: here that is the commit itself."""
    merged(world, world.forge.pulls[0].head)


def by_hand(world: World) -> None:
    """Write the same on trunk, in a commit of one's own that the forge does not connect with the pull request."""
    tree = world.git.commits[world.forge.pulls[0].head].tree
    made = FakeCommit((world.git.heads[TRUNK],), tree, PERSON, "Release by hand", int(world.now))
    merged(world, world.git.put(made), told=False)


WAYS = [by_squash, by_merge_commit, by_rebase, by_hand]


@pytest.mark.parametrize("way", WAYS)
def test_however_it_came_to_trunk_it_is_released(world: World, way: Callable[[World], None]) -> None:
    """What trunk says serves; the pull request is over, its branch gone, and nothing else is asked."""
    world.now += 60
    way(world)
    world.converge()
    assert (world.serving[0], reason(world)) == (1, Reason.RELEASED)
    assert (world.forge.opened(), world.branches(), len(world.forge.pulls)) == ([], [], 1)
    assert world.quiet()


@pytest.mark.parametrize("way", WAYS)
def test_however_it_came_to_trunk_undoing_it_is_respected(world: World, way: Callable[[World], None]) -> None:
    """``git revert`` is the rollback, also where no pull request says that it was merged: nobody is asked again."""
    world.now += 60
    way(world)
    world.converge()
    world.now += 600
    before = FakeCommit(
        (world.git.heads[TRUNK],), phases()[1].before.git.commits[phases()[1].before.git.heads[TRUNK]].tree, PERSON,
        "Revert", int(world.now),
    )  # fmt: skip
    world.git.heads[TRUNK] = world.git.put(before)
    world.converge()
    assert (world.serving[0], reason(world)) == (None, Reason.REVERTED)
    assert len(world.forge.pulls) == 1
    assert world.quiet()


def test_only_what_arrived_is_called_applied(world: World) -> None:
    """A proposal of another candidate that is over is obsolete, not applied: it may be wanted again."""
    world.merge()
    world.converge()
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    world.change(r"epochs: \d+", "epochs: 5")
    world.converge()
    assert "(Obsolete)" in world.forge.pulls[1].comments[-1]
    world.now += 600
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    assert world.forge.pulls[1].state is PullState.OPEN


def test_merged_and_pushed_away_is_undone(world: World) -> None:
    """A history that was rewritten to be without a release is what people decided, like a revert."""
    trunk = world.git.heads[TRUNK]
    world.merge()
    world.converge()
    assert world.serving[0] == 1
    world.git.heads[TRUNK] = trunk
    world.converge()
    assert (world.serving[0], reason(world)) == (None, Reason.REVERTED)
    assert world.quiet()


def test_open_one_follows_a_rewritten_trunk(world: World) -> None:
    """All of trunk is another history now: the proposal is rebuilt on it, and brings nothing of the old one back."""
    tree = world.git.commits[world.git.heads[TRUNK]].tree
    world.git.heads[TRUNK] = world.git.put(FakeCommit((), tree, PERSON, "Begin anew", int(world.now)))
    world.converge()
    (pull,) = world.forge.opened()
    assert pull.number == 1
    assert world.git.commits[world.git.heads[pull.branch]].parents == (world.git.heads[TRUNK],)
    assert world.quiet()
    assert world.merge()
    world.converge()
    assert world.serving[0] == 1


def test_open_one_follows_a_trunk_that_lost_its_last_commits() -> None:
    """What was taken away from under a proposal does not come back with it, though it would merge well."""
    world = next(phase.before for phase in phases() if phase.name == "epochs raised").fork()
    above = {**world.git.commits[world.git.heads[TRUNK]].tree, "secret": b"never should have been pushed"}
    clean = world.git.heads[TRUNK]
    world.git.person_commits(TRUNK, above, "Oops", int(world.now))
    world.converge()
    (branch,) = world.branches()
    assert "secret" in world.git.commits[world.git.heads[branch]].tree
    world.git.heads[TRUNK] = clean
    world.converge()
    assert "secret" not in world.git.commits[world.git.heads[branch]].tree
    assert world.quiet()


def test_retargeted_is_a_persons(world: World) -> None:
    """Somebody pointed it at another branch: it is neither rebuilt, closed nor joined by a second one."""
    world.forge.retarget(1, "dev")
    world.converge()
    assert reason(world) == Reason.RETARGETED
    assert "goes to dev now" in world.status.summary
    assert world.status.condition(ConditionType.STALLED) is None
    text = world.forge.pulls[0].body
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    assert reason(world) == Reason.TOO_MANY_PROPOSALS
    assert (world.forge.pulls[0].state, world.forge.pulls[0].body) == (PullState.OPEN, text)
    world.forge.retarget(1, TRUNK)
    world.converge()
    assert [p.state.value for p in world.forge.pulls] == ["closed", "open"]


def test_merged_elsewhere_waits_to_arrive(world: World) -> None:
    """Merged into another branch it is neither released nor undone, and it is not asked again over people's heads."""
    world.forge.retarget(1, "dev")
    assert world.forge.merge(1)
    world.converge()
    assert (world.serving[0], reason(world)) == (None, Reason.RETARGETED)
    assert "was merged into dev" in world.status.summary
    assert world.quiet()
    world.git.person_commits(TRUNK, world.git.commits[world.git.heads["dev"]].tree, "Merge dev", int(world.now))
    world.converge()
    assert (world.serving[0], reason(world)) == (1, Reason.RELEASED)


def test_branch_deleted_on_the_forge_is_a_rejection(world: World) -> None:
    """Forges close what loses its branch; a person did that. Restoring and reopening it undoes that."""
    pull = world.forge.pulls[0]
    world.forge.delete_branch(pull.branch)
    world.converge()
    assert reason(world) == Reason.REJECTED
    assert (world.branches(), world.quiet()) == ([], True)
    world.git.heads[pull.branch] = pull.head
    assert world.forge.opened_again(1)
    world.converge()
    assert reason(world) == Reason.PULL_REQUEST_OPEN
    assert world.quiet()


def test_closed_in_the_moment_we_close_it_is_a_rejection(world: World) -> None:
    """Of two who close at once the first one counts; where that was a person, it was a decision."""
    world.change(r"min: [0-9.]+", "min: 0.999")

    def quicker(_number: int, moment: str, name: str) -> None:
        if moment == "before" and name.startswith("close"):
            world.forge.shut(1)

    world.wire.script = quicker
    world.converge()
    world.wire.script = None
    world.now += 600
    world.change(r"min: [0-9.]+", "min: 0.95")
    world.converge()
    assert reason(world) == Reason.REJECTED
    assert world.forge.pulls[0].comments == ()
