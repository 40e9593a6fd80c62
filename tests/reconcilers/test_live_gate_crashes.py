"""The live gate under fire: a release that live traffic disagrees with is given up once, whatever is killed or lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from specs.status import ConditionType, ModelStatus
from tests.support.builders import NAME
from tests.support.story import Act, Phase
from tests.support.trials import live
from tests.support.wire import KilledError, Moment, at, killed, unanswered
from tests.support.world import TEXT, World

TRIED = TEXT.replace("epochs: 2", "epochs: 5").replace(
    "export: onnx\n", "export: onnx\n    strategy: {bakeTime: 2m}\n"
)  # fmt: skip
"""A model whose releases are on trial for two minutes."""


def _merged(version: int, errors: float) -> Act:
    """Merge a release; the one before it had few errors in live traffic, and it will have this share."""

    def act(world: World) -> None:
        world.traffic.loaded[version] = world.now
        world.traffic.trials |= {version - 1: live(), version: live(errors)}
        assert world.merge()

    return act


STORY: dict[str, Act] = {
    "spec merged": lambda world: None,
    "v1 merged": World.merge,
    "epochs raised": lambda world: world.change(r"epochs: \d+", "epochs: 8"),
    "v2 merged, and live traffic agrees": _merged(2, 0.01),
    "epochs raised again": lambda world: world.change(r"epochs: \d+", "epochs: 9"),
    "v3 merged, and live traffic disagrees": _merged(3, 0.4),
    "rollback merged": World.merge,
}


@cache
def chapters() -> dict[str, Phase]:
    """Tell the story once without trouble."""
    world, found = World(TRIED), {}
    for name, act in STORY.items():
        world.now += 60
        act(world)
        before, begun = world.fork(), len(world.wire.log)
        world.converge()
        found[name] = Phase(name, before, world.fork(), tuple(world.wire.log[begun:]))
    return found


PASSED, FAILED, MERGED = (chapters()[name] for name in list(STORY)[3::2] + list(STORY)[6:])
EVERY_EFFECT = [
    pytest.param(phase, number, id=f"{phase.name}: {number} {effect.split('/')[0]}")
    for phase in (PASSED, FAILED, MERGED)
    for number, effect in enumerate(phase.effects, 1)
]


def condition(world: World, type_: ConditionType) -> tuple[str, str, str]:
    """Give status, reason and message of a condition."""
    found = world.status.condition(type_)
    assert found is not None
    return found.status, found.reason, found.message


def settled(world: World) -> World:
    """Go on with a new controller until nothing is left, and check that nothing then is."""
    world.wire.script = None
    world.converge()
    assert world.quiet(), world.wire.log[-5:]
    return world


def test_the_story_ends_as_told() -> None:
    """v2 passes; v3 is rolled out, given up for v2 and asked to be rolled back; merging that reloads nothing."""
    assert condition(PASSED.after, ConditionType.LIVE_GATE)[:2] == ("True", "LiveGatePassed")
    assert [effect.split("/")[0] for effect in FAILED.effects] == [
        "roll out v3", "roll out v2", "commit", "push trunkline", "open trunkline",
    ]  # fmt: skip
    assert FAILED.after.serving[0] == 2
    assert condition(FAILED.after, ConditionType.LIVE_GATE)[:2] == ("False", "LiveGateFailed")
    assert condition(FAILED.after, ConditionType.GIT_BEHIND)[0] == "True"
    assert MERGED.after.serving == (4, FAILED.after.serving[1])
    assert MERGED.after.release["deny"][0]["reason"] == "failed live gate"
    assert {c.type for c in MERGED.after.status.conditions}.isdisjoint(
        {ConditionType.LIVE_GATE, ConditionType.GIT_BEHIND}
    )
    assert MERGED.after.servers.states[NAME].rejected is None


def disturbed(chapter: Phase, effect: int, moment: Moment, do: Callable[[World], object]) -> World:
    """Give the chapter's beginning, with trouble in wait."""
    world = chapter.before.fork()
    world.wire.script = at(len(world.wire.log) + effect, moment, lambda: do(world))
    return world


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_an_effect_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """Killed before or after giving a release up, or anywhere else, the next controller comes to the same end."""
    world = disturbed(chapter, effect, moment, lambda _: killed())
    with pytest.raises(KilledError):
        world.converge()
    world.status = ModelStatus()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
def test_lost_answer_ends_the_same(chapter: Phase, effect: int) -> None:
    """A fallback whose answer was lost is found done."""
    world = disturbed(chapter, effect, "after", lambda _: unanswered())
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_another_controller_in_between_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """Two controllers that judge at once give up the same release once."""
    world = disturbed(chapter, effect, moment, lambda world: world.one_pass())
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


@pytest.mark.parametrize("chapter", [PASSED, FAILED, MERGED], ids=lambda phase: str(phase.name))
def test_effects_done_twice_end_the_same(chapter: Phase) -> None:
    """Every effect may be carried out two times in a row."""
    world = chapter.before.fork()
    world.wire.twice = True
    world.converge()
    assert settled(world).facts() == chapter.after.facts()


def _status_lost(world: World) -> None:
    world.status = ModelStatus()


def _server_restarted(world: World) -> None:
    world.servers.restart()


def _traffic_forgotten(world: World) -> None:
    world.traffic.trials.clear()


FORGOTTEN = [_status_lost, _server_restarted, _traffic_forgotten]


@pytest.mark.parametrize("forget", FORGOTTEN, ids=lambda forget: str(forget.__name__))
@pytest.mark.parametrize("chapter", [PASSED, FAILED, MERGED], ids=lambda phase: str(phase.name))
def test_a_verdict_outlives_what_is_forgotten(chapter: Phase, forget: Callable[[World], None]) -> None:
    """Without the status, after a restart of the server, or with traffic forgotten, a verdict stands as it was."""
    world = chapter.after.fork()
    forget(world)
    if chapter is FAILED:  # what was given up needs neither the status nor the traffic
        _status_lost(world)
    begun = len(world.wire.log)
    assert settled(world).facts() == chapter.after.facts()
    assert world.wire.log[begun:] == []


def test_nobody_can_say_and_nothing_is_rolled_back() -> None:
    """A release without traffic waits for its trial to end, and then stays, told as undecided; nothing is done."""
    world = PASSED.before.fork()
    del world.traffic.trials[2]
    world.converge()
    assert world.quiet()
    assert world.serving[0] == 2
    assert condition(world, ConditionType.LIVE_GATE)[:2] == ("Unknown", "BakeInconclusive")
    assert condition(world, ConditionType.READY)[0] == "True"
    assert world.wire.log[-1].startswith("roll out v2")


def test_the_release_that_was_given_up_can_be_released_again() -> None:
    """After the rollback was merged, a person who lifts deny and hold gets the same run on another trial."""
    world = MERGED.after.fork()
    world.now += 60
    world.change(r"\n    deny:(.|\n)*", "\n")
    world.converge()
    _merged(5, 0.01)(world)
    world.traffic.trials[4] = live()
    world.converge()
    assert world.serving[0] == 5
    assert condition(world, ConditionType.LIVE_GATE)[:2] == ("True", "LiveGatePassed")
