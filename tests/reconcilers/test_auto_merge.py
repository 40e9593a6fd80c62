"""Merging by the forge's own means: asked for once, where git says so, and taken back when git says no."""

from __future__ import annotations

from typing import Literal

import pytest

from reconcilers.drafts import answered
from specs.facts import PullState
from specs.status import Condition, ConditionType, Reason
from tests.support.story import phases
from tests.support.world import World

Kind = Literal["told", "untold", "never"]


def begin(policy: str = "WhenGatesPass", kind: Kind = "told") -> World:
    """Give a model that was just changed so that its candidate passes, on a forge of a kind."""
    world = next(phase.before for phase in phases() if phase.name == "epochs raised").fork()
    world.forge.auto_merge = kind
    world.change(r"\n  serving:", f"\n  policy: {{autoMerge: {policy}}}\n\n  serving:")
    return world


def condition(world: World, type_: ConditionType = ConditionType.PROPOSED) -> Condition:
    """Give a condition."""
    found = world.status.condition(type_)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["told", "untold"])
def test_forge_is_asked_once(kind: Kind) -> None:
    """After the proposal is open the forge is asked, and then no more, whether or not its list tells that it was."""
    world = begin(kind=kind).converge()
    assert world.forge.asked == [1]
    assert "merged by the forge as soon as its rules allow" in condition(world).message
    assert condition(world).reason == Reason.PULL_REQUEST_OPEN
    assert world.quiet()
    assert world.forge.merge(1)
    world.converge()
    assert world.serving[0] == 1


def test_forge_that_says_no_is_heard_and_disturbs_nothing() -> None:
    """A person merges then: status and pull request say why, nobody is asked again, and the model is not stalled."""
    world = begin(kind="never").converge()
    assert "the forge said no to auto-merge" in condition(world).message
    assert world.status.condition(ConditionType.STALLED) is None
    assert "and said: \\*nothing\\* is merged here by itself" in world.forge.pulls[0].body
    assert sum(effect.startswith("auto-merge") for effect in world.wire.log) == 1
    assert world.quiet()
    world.merge()
    world.converge()
    assert world.serving[0] == 1


def test_forge_is_asked_again_about_other_words() -> None:
    """Forges forget when the branch moves; and what was refused for one text may go for another."""
    world = begin(kind="untold").converge()
    world.change("more is better", "more is mostly better")
    world.converge()
    assert world.forge.asked == [1, 1]
    assert world.quiet()


def test_person_who_turns_it_off_is_not_overruled() -> None:
    """What a person told the forge stands, also when the proposal is brought up to date."""
    world = begin().converge()
    world.forge.turn_off(1)
    world.converge()
    world.change("more is better", "more is mostly better")
    world.converge()
    assert world.forge.asked == [1]
    assert "its auto-merge was turned off" in condition(world).message
    assert world.quiet()


@pytest.mark.parametrize("policy", ["Never", "RollbackOnly"])
def test_promotions_wait_for_a_person_unless_git_says_otherwise(policy: str) -> None:
    """Neither the default nor RollbackOnly lets the forge merge a promotion."""
    world = begin(policy).converge()
    assert world.forge.asked == []
    assert "waits for a person" in condition(world).message


@pytest.mark.parametrize(("policy", "asked"), [("Never", []), ("RollbackOnly", [3]), ("WhenGatesPass", [1, 2, 3])])
def test_rollbacks_may_be_merged_by_the_forge(policy: str, asked: list[int]) -> None:
    """Making git say what serves already is the least that people may want to happen by itself."""
    world = begin(policy).converge()
    world.merge()
    world.converge()
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    world.servers.bad = {file for file in world.artifacts() if file != world.serving[1]}
    world.merge()
    world.converge()
    assert "/rollback/" in world.forge.pulls[-1].branch
    assert world.forge.asked == asked
    assert condition(world, ConditionType.SERVING).reason == Reason.FALLBACK


def test_without_gates_a_person_merges() -> None:
    """Where nothing could have said no, the forge is not asked, whatever the policy."""
    world = begin()
    world.change(r"\n  gates:\n.*\n", "\n")
    world.converge()
    assert world.forge.asked == []
    assert len(world.forge.opened()) == 1


def test_auto_merge_of_a_person_is_theirs() -> None:
    """Who may merge may also have the forge do it: what we did not ask for, we do not take back."""
    world = begin("Never").converge()
    world.forge.merge_when_allowed(1)
    world.converge()
    assert world.forge.pulls[0].auto_merge is True
    assert "merged by the forge" in condition(world).message
    assert world.quiet()


@pytest.mark.parametrize("kind", ["told", "untold"])
def test_policy_taken_back_is_taken_back_from_the_forge(kind: Kind) -> None:
    """Closing ends what the forge was asked to do; then it is opened again, for a person to merge."""
    world = begin(kind=kind).converge()
    world.change("autoMerge: WhenGatesPass", "autoMerge: Never")
    world.one_pass()
    assert world.forge.pulls[0].state is PullState.CLOSED
    world.converge()
    (pull,) = world.forge.opened()
    assert (pull.number, pull.auto_merge, world.forge.asked) == (1, False if kind == "told" else None, [1])
    assert "(Withdrawn)" in pull.comments[-1]
    assert world.quiet()


def test_words_of_the_forge_are_no_markup() -> None:
    """A refusal comes from outside, and ends up in our text."""
    text = answered("body", "no\n\n<!-- trunkline:auto-merge asked -->\n@all fixes #1")
    assert text.count("<!--") == 1
    assert "@all" not in text
