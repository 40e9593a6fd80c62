"""The loop under fire: every effect of the whole story is cut off, repeated, unanswered and raced, one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.story import (
    DATA,
    STORY,
    WATCHING,
    Act,
    Phase,
    beginning,
    data_phases,
    phases,
    watching_phases,
)
from tests.support.wire import KilledError, Moment, at, killed, unanswered
from tests.support.world import World

CHAPTERS = [*phases(), *data_phases(), *watching_phases()]
TOLD_BEFORE = ("errors without labels", "merged", "a schedule that is due the day after")
"""Chapters of the last story whose effects are those of others; as a whole they are disturbed likewise."""
EVERY_EFFECT = [
    pytest.param(phase, number, id=f"{phase.name}: {number} {effect.split('/')[0]}")
    for phase in CHAPTERS
    if phase.name not in TOLD_BEFORE
    for number, effect in enumerate(phase.effects, 1)
]


def settled(world: World) -> World:
    """Go on with a new controller until nothing is left, and check that nothing then is."""
    world.wire.script = None
    world.converge()
    assert world.quiet(), world.wire.log[-5:]
    return world


def disturbed(chapter: Phase, effect: int, moment: Moment, do: Callable[[World], object]) -> World:
    """Give the chapter's beginning, with trouble in wait."""
    world = chapter.before.fork()
    world.wire.script = at(len(world.wire.log) + effect, moment, lambda: do(world))
    return world


def test_story_reaches_every_kind_of_effect_and_ends_as_told() -> None:
    """The story that is disturbed below is the one meant: every port effect is in it, and it ends in order."""
    told = {effect.split()[0] for phase in phases() for effect in phase.effects}
    assert told == {
        "start", "commit", "push", "open", "update", "close", "delete", "reopen", "auto-merge", "roll", "withdraw",
    }  # fmt: skip
    end = phases()[-1].after
    assert end.serving == (None, None)
    assert [(p.branch.split("/")[1], p.state.value) for p in end.forge.pulls] == [
        ("promote", "merged"), ("promote", "merged"), ("promote", "closed"), ("promote", "merged"),
        ("promote", "merged"), ("rollback", "merged"), ("promote", "merged"), ("promote", "closed"),
    ]  # fmt: skip
    assert end.jobs.needless == []


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_an_effect_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """A controller killed just before or just after any effect leaves what another one brings to the same end."""
    world = disturbed(chapter, effect, moment, lambda _: killed())
    with pytest.raises(KilledError):
        world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
def test_lost_answer_ends_the_same(chapter: Phase, effect: int) -> None:
    """An effect that was carried out, but whose answer was lost, is found done."""
    world = disturbed(chapter, effect, "after", lambda _: unanswered())
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_another_controller_in_between_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """A second controller that makes a whole pass around any effect of the first does no harm."""
    world = disturbed(chapter, effect, moment, lambda world: world.one_pass())
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[*STORY, *DATA, *WATCHING])
def test_effects_done_twice_end_the_same(chapter: Phase) -> None:
    """Every effect may be carried out two times in a row."""
    world = chapter.before.fork()
    world.wire.twice = True
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("story", "end"),
    [(STORY, phases()[-1]), (DATA, data_phases()[-1]), (WATCHING, watching_phases()[-1])],
    ids=["model", "data", "traffic"],
)
def test_killed_around_every_effect_of_the_story_ends_the_same(
    story: dict[str, Act], end: Phase, moment: Moment
) -> None:
    """A controller that dies at every single effect of a whole story still tells the same story."""
    world = beginning(story)
    for act in story.values():
        world.now += 60
        act(world)
        survived: set[str] = set()

        def die_once(_number: int, when: Moment, name: str, seen: set[str] = survived) -> None:
            if when == moment and name not in seen:
                seen.add(name)
                raise KilledError

        world.wire.script = die_once
        for _ in range(40):
            try:
                world.converge()
            except KilledError:
                continue
            break
    assert settled(world).facts() == end.after.facts()


def test_settled_world_is_left_alone_by_the_same_and_by_a_new_controller() -> None:
    """After convergence neither a running nor a restarted controller has any effect, and the status stays."""
    for phase in CHAPTERS:
        world = phase.after.fork()
        loop = world.reconciler()
        before = world.status
        for _ in range(3):
            world.one_pass(loop)
        assert world.quiet()
        assert world.status == before
        assert world.wire.log == phase.after.wire.log
