"""Proposals that we closed and want again: the same one is opened again, seldom, and whatever is in the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconcilers.proposals import PAUSE
from specs.facts import PullState
from specs.status import ConditionType, Reason
from tests.support.fake_git import TRUNK
from tests.support.story import phases
from tests.support.wire import KilledError, at, killed
from tests.support.world import World

TIGHT, LOOSE = "min: 0.999", "min: 0.95"


def gate(world: World, bound: str) -> None:
    """Merge another bound of the gate."""
    world.now += 60
    world.change(r"min: [0-9.]+", bound)


@pytest.fixture
def world() -> World:
    """Give a model whose only proposal, #1, we closed because a gate was tightened."""
    made = next(phase.after for phase in phases() if phase.name == "epochs raised").fork()
    gate(made, TIGHT)
    made.converge()
    assert [pull.state for pull in made.forge.pulls] == [PullState.CLOSED]
    assert made.branches() == []
    return made


def reason(world: World) -> str:
    """Give what is said about the proposal."""
    found = world.status.condition(ConditionType.PROPOSED)
    assert found is not None
    return found.reason


def states(world: World) -> list[str]:
    """Give how each pull request ended up."""
    return [pull.state.value for pull in world.forge.pulls]


def test_the_same_one_is_opened_again(world: World) -> None:
    """Its number, its discussion and its links stay; text and commit are those of now, and nothing else is said."""
    gate(world, LOOSE)
    world.converge()
    (pull,) = world.forge.pulls
    assert pull.state is PullState.OPEN
    assert "trunkline:closed" not in pull.body
    assert len(pull.comments) == 1
    commit = world.git.commits[world.git.heads[pull.branch]]
    assert commit.parents == (world.git.heads[TRUNK],)
    assert world.quiet()


def test_branch_is_restored_before_the_forge_is_asked(world: World) -> None:
    """Forges reopen only where the branch is as it was when it was closed."""
    gate(world, LOOSE)
    begun = len(world.wire.log)
    world.converge()
    assert [effect.split()[0] for effect in world.wire.log[begun:]] == ["push", "reopen", "commit", "push", "update"]


def test_what_flaps_is_opened_and_closed_a_few_times_an_hour(world: World) -> None:
    """However often something is wanted and not wanted, people hear of it once in a few minutes at most."""
    begun, log = world.now, len(world.wire.log)
    for turn in range(24):
        gate(world, (LOOSE, TIGHT)[turn % 2])
        for _ in range(4):
            world.one_pass()
    heard = [effect for effect in world.wire.log[log:] if effect.startswith(("open", "reopen", "close"))]
    assert 2 <= len(heard) <= 2 * (1 + (world.now - begun) / PAUSE)
    assert states(world) == ["closed"]


def test_meanwhile_the_status_says_why(world: World) -> None:
    """The pause is no silence."""
    gate(world, LOOSE)
    result = world.one_pass()
    assert (reason(world), result.acted) == (Reason.PROPOSAL_PAUSED, False)
    assert "pull request #1 was closed by Trunkline" in world.status.summary
    assert 0 < result.after <= PAUSE


def without_the_commit(world: World) -> None:
    """Forget the commit, as git does in time."""
    del world.git.commits[world.forge.pulls[0].head]


def without_reopening(world: World) -> None:
    """Have a forge that says no."""
    world.forge.reopens = False


@pytest.mark.parametrize("cause", [without_the_commit, without_reopening])
def test_where_that_cannot_be_a_new_one_is_opened(world: World, cause: Callable[[World], None]) -> None:
    """The old one stays closed, the new one asks the same, and it is the one that is opened again the next time."""
    cause(world)
    gate(world, LOOSE)
    world.converge()
    assert states(world) == ["closed", "open"]
    assert world.quiet()
    world.forge.reopens = True
    for bound in (TIGHT, LOOSE):
        gate(world, bound)
        world.converge()
    assert states(world) == ["closed", "open"]


@pytest.mark.parametrize("cause", [without_the_commit, without_reopening])
@pytest.mark.parametrize("effect", range(1, 6))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_on_the_way_to_a_new_one_ends_the_same(
    world: World, cause: Callable[[World], None], effect: int, moment: str
) -> None:
    """Also where opening again is refused, no second new one appears, whenever the controller dies."""
    cause(world)
    gate(world, LOOSE)
    calm = world.fork().converge()
    world.wire.script = at(len(world.wire.log) + effect, "before" if moment == "before" else "after", killed)
    try:
        world.converge()
    except KilledError:
        world.wire.script = None
        world.converge()
    assert world.facts() == calm.facts()
    assert world.quiet()


def test_a_commit_of_others_is_not_brought_back(world: World) -> None:
    """Somebody was quicker than our closing: their commit on the branch is theirs, and so is the branch."""
    theirs = world.fork()
    gate(theirs, LOOSE)
    theirs.converge()
    branch = theirs.forge.pulls[0].branch
    gate(theirs, TIGHT)

    def push(_number: int, moment: str, name: str) -> None:
        if moment == "before" and name.startswith("close"):
            theirs.push_foreign(branch)

    theirs.wire.script = push
    theirs.converge()
    theirs.wire.script = None
    gate(theirs, LOOSE)
    theirs.converge()
    assert (states(theirs), reason(theirs)) == (["closed"], Reason.DETACHED)
    del theirs.git.heads[branch]
    theirs.converge()
    assert states(theirs) == ["closed", "open"]
    assert "NOTES" not in theirs.git.commits[theirs.git.heads[branch]].tree
    assert theirs.quiet()


def test_closed_by_a_person_after_that_is_a_rejection(world: World) -> None:
    """That we once closed it is forgotten as soon as it is open again: whoever closes it then, decides."""
    gate(world, LOOSE)
    world.converge()
    world.forge.shut(1)
    world.converge()
    assert (states(world), reason(world)) == (["closed"], Reason.REJECTED)
    assert world.quiet()
