"""Releases in steps under fire: every effect of their story is cut off, repeated, unanswered and raced, one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from specs.serving_facts import Share
from specs.status import ConditionType, ModelStatus
from tests.support.builders import NAME
from tests.support.story import Act, Phase
from tests.support.trials import live
from tests.support.wire import KilledError, Moment, at, killed, unanswered
from tests.support.world import STEPPED, World

SHARES = [Share(0), Share(1, mirror=50), Share(2, weight=10), Share(3, weight=50)]


def _merged(version: int, errors: float) -> Act:
    """Merge a release, which will have this share of errors in live traffic; what serves meanwhile has few."""

    def act(world: World) -> None:
        world.traffic.trials |= dict.fromkeys(range(1, version), live()) | {version: live(errors)}
        assert world.merge()

    return act


def _midway(world: World) -> None:
    """Merge a release, look until it is in its second step; then train and merge the next one, in no time."""
    _merged(5, 0.01)(world)
    while (canary := world.servers.states[NAME].canary) is None or canary.share.step < 2:
        world.one_pass()
        world.now += 1
    world.change(r"epochs: \d+", "epochs: 10")
    while not world.forge.opened():
        world.one_pass()
        for name in world.jobs.running():
            world.jobs.finish(name)
    assert world.servers.states[NAME].canary == canary
    _merged(6, 0.01)(world)


STORY: dict[str, Act] = {
    "spec merged": lambda world: None,
    "v1 merged": World.merge,
    "epochs raised": lambda world: world.change(r"epochs: \d+", "epochs: 8"),
    "v2 merged, and goes through": _merged(2, 0.01),
    "epochs raised again": lambda world: world.change(r"epochs: \d+", "epochs: 9"),
    "v3 merged, and live traffic disagrees": _merged(3, 0.4),
    "rollback merged": World.merge,
    "hold lifted": lambda world: world.change(r"\n    hold:(.|\n)*", "\n"),
    "epochs raised once more": lambda world: world.change(r"epochs: \d+", "epochs: 7"),
    "v6 merged while v5 is in its steps": _midway,
}


@cache
def chapters() -> dict[str, Phase]:
    """Tell the story once without trouble."""
    world, found = World(STEPPED), {}
    for name, act in STORY.items():
        world.now += 60
        act(world)
        before, begun = world.fork(), len(world.wire.log)
        world.converge()
        found[name] = Phase(name, before, world.fork(), tuple(world.wire.log[begun:]))
    return found


FIRST, THROUGH, FAILED, MERGED, MIDWAY = (chapters()[name] for name in (
    "v1 merged", "v2 merged, and goes through", "v3 merged, and live traffic disagrees", "rollback merged",
    "v6 merged while v5 is in its steps",
))  # fmt: skip
TOLD = [THROUGH, FAILED, MERGED, MIDWAY]
EVERY_EFFECT = [
    pytest.param(phase, number, id=f"{phase.name}: {number} {effect.split('/')[0]}")
    for phase in TOLD
    for number, effect in enumerate(phase.effects, 1)
]


def settled(world: World) -> World:
    """Go on with a new controller until nothing is left, and check that nothing then is."""
    world.wire.script = None
    world.converge()
    assert world.quiet(), world.wire.log[-5:]
    return world


def watched(world: World) -> World:
    """Check what must hold at any time: one serves, at most one is beside it, and only what git named."""
    state = world.servers.states[NAME]
    assert state.ready
    assert state.canary is None or state.canary.version != state.version
    assert all(old < new for old, new, _ in world.servers.shares)
    return world


def test_the_story_ends_as_told() -> None:
    """The first release serves at once; later ones in steps; what is worse is let go, and what undoes it is there."""
    assert FIRST.effects == ("roll out v1",)
    assert THROUGH.effects == (
        "roll out v2 step 0", "roll out v2 step 1", "roll out v2 step 2", "roll out v2 step 3", "roll out v2",
    )  # fmt: skip
    assert [effect.split("/")[0] for effect in FAILED.effects] == [
        "roll out v3 step 0", "roll out v3 step 1", "roll out v2", "commit", "push trunkline", "open trunkline",
    ]  # fmt: skip
    assert FAILED.after.serving[0] == 2
    assert FAILED.after.status.condition(ConditionType.GIT_BEHIND) is not None
    assert MERGED.effects == ("roll out v4",)
    assert MERGED.after.serving == (4, FAILED.after.serving[1])
    assert MERGED.after.servers.states[NAME].rejected is None
    assert MIDWAY.effects[:2] == ("roll out v6 step 0", "roll out v6 step 1")
    assert MIDWAY.after.serving[0] == 6
    assert [share for old, *new, share in MIDWAY.after.servers.shares if (old, *new) == (4, 6)] == SHARES


def disturbed(chapter: Phase, effect: int, moment: Moment, do: Callable[[World], object]) -> World:
    """Give the chapter's beginning, with trouble in wait."""
    world = chapter.before.fork()
    world.wire.script = at(len(world.wire.log) + effect, moment, lambda: do(world))
    return world


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_an_effect_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """Killed before or after any step, the next controller, which knows nothing, comes to the same end."""
    world = disturbed(chapter, effect, moment, lambda _: killed())
    with pytest.raises(KilledError):
        world.converge()
    watched(world).status = ModelStatus()
    assert watched(settled(world)).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
def test_lost_answer_ends_the_same(chapter: Phase, effect: int) -> None:
    """A step whose answer was lost is found done; its pause begins when it was done."""
    world = disturbed(chapter, effect, "after", lambda _: unanswered())
    world.converge()
    assert watched(settled(world)).facts() == chapter.after.facts()


@pytest.mark.parametrize(("chapter", "effect"), EVERY_EFFECT)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_another_controller_in_between_ends_the_same(chapter: Phase, effect: int, moment: Moment) -> None:
    """Two controllers at once take no step twice, and skip none."""
    world = disturbed(chapter, effect, moment, lambda world: world.one_pass())
    world.converge()
    assert watched(settled(world)).facts() == chapter.after.facts()


@pytest.mark.parametrize("chapter", TOLD, ids=lambda phase: str(phase.name))
def test_effects_done_twice_end_the_same(chapter: Phase) -> None:
    """Every effect may be carried out two times in a row; a pause does not begin anew for that."""
    world = chapter.before.fork()
    world.wire.twice = True
    world.converge()
    assert watched(settled(world)).facts() == chapter.after.facts()


@pytest.mark.parametrize("number", range(1, 6))
def test_the_host_started_again_in_any_step_goes_on(number: int) -> None:
    """Share and moment are the host's to remember, so neither step nor pause begins anew with it."""
    world = disturbed(THROUGH, number, "after", lambda world: world.servers.restart())
    world.converge()
    assert settled(world).facts() == THROUGH.after.facts()
    assert [share for _, version, share in world.servers.shares if version == 2] == SHARES


def test_a_release_that_does_not_load_leaves_what_serves() -> None:
    """What cannot be loaded beside v1 never gets a request, and is asked to be rolled back."""
    world = THROUGH.before.fork()
    world.servers.bad = {artifact for artifact in world.artifacts() if artifact != world.serving[1]}
    before = set(world.servers.ever)
    world.converge()
    assert (world.serving[0], world.servers.ever) == (1, before)
    assert world.quiet()
    assert [pull.branch.split("/")[1] for pull in world.forge.opened()] == ["rollback"]


def test_without_traffic_it_waits_at_the_last_step_until_some_comes() -> None:
    """Nothing is promoted blindly, nothing is rolled back for silence, nothing is written; with traffic it goes on."""
    world = THROUGH.before.fork()
    del world.traffic.trials[2]
    world.converge()
    for _ in range(3):
        world.now += 1000
        world.one_pass()
    assert world.quiet()
    canary = watched(world).servers.states[NAME].canary
    assert canary is not None
    assert (world.serving[0], canary.share) == (1, SHARES[-1])
    gate = world.status.condition(ConditionType.LIVE_GATE)
    assert gate is not None
    assert (gate.status, gate.reason) == ("Unknown", "BakeInconclusive")
    world.traffic.trials[2] = live()
    world.converge()
    assert world.serving[0] == 2


def test_reverted_while_it_is_in_its_steps() -> None:
    """``git revert`` of the release lets go what is beside v1, which was never touched."""
    world = THROUGH.before.fork()
    for _ in range(3):
        world.one_pass()
    assert world.servers.states[NAME].canary is not None
    assert world.revert(world.merged()[-1])
    world.converge()
    assert world.serving[0] == 1
    assert world.servers.states[NAME].canary is None
    assert world.quiet()
