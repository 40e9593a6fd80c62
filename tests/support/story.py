"""Stories with every kind of effect in them, told chapter by chapter: what people do, and how the world settles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from tests.support.builders import NAME
from tests.support.data_stages import pinned
from tests.support.world import ELSEWHERE, WATCHED, World

Act = Callable[[World], object]
_SERVING, _POLICY = "\n  serving:\n    export: onnx", "\n  policy: {autoMerge: WhenGatesPass}"


def _release_that_fails(world: World) -> None:
    """Merge the open proposal, whose export the server cannot load."""
    serving = world.servers.states[NAME].file
    world.servers.bad = {artifact for artifact in world.artifacts() if artifact != serving}
    world.merge()


def _lift_hold(world: World) -> None:
    """Take ``deny`` and ``hold`` out by pull request, after what kept the file from loading was mended."""
    world.servers.bad = set()
    world.change(r"\n    deny:(.|\n)*", "\n")


STORY: dict[str, Act] = {
    "spec merged, trains too little": lambda world: None,
    "epochs raised": lambda world: world.change(r"epochs: \d+", "epochs: 5"),
    "v1 merged": World.merge,
    "export argument changed": lambda world: world.change(r"dynamic: \w+", "dynamic: true"),
    "v2 merged": World.merge,
    "epochs raised again": lambda world: world.change(r"epochs: \d+", "epochs: 6"),
    "epochs raised before the proposal was merged": lambda world: world.change(r"epochs: \d+", "epochs: 8"),
    "gate tightened while the proposal waits": lambda world: world.change(r"min: [0-9.]+", "min: 0.999"),
    "gate loosened again": lambda world: world.change(r"min: [0-9.]+", "min: 0.95"),
    "v3 merged": World.merge,
    "v3 reverted": lambda world: world.revert(),
    "other training after the revert": lambda world: world.change(r"epochs: \d+", "epochs: 10"),
    "comment added while the proposal waits": lambda world: world.change("more is better", "more is mostly better"),
    "v4 merged and cannot be loaded": _release_that_fails,
    "rollback merged": World.merge,
    "deny and hold lifted": _lift_hold,
    "v6 merged": World.merge,
    "gate tightened": lambda world: world.change(r"min: [0-9.]+", "min: 0.999"),
    "gate loosened, epochs lowered": lambda world: (
        world.change(r"min: [0-9.]+", "min: 0.9"), world.change(r"epochs: \d+", "epochs: 7"),
    ),
    "the forge may merge what passes": lambda world: world.change(_SERVING, f"\n{_POLICY}{_SERVING}"),
    "it may not after all": lambda world: world.change(_POLICY, ""),
    "proposal closed by a person": lambda world: world.forge.shut(world.forge.opened()[-1].number),
    "serving removed": lambda world: world.change(_SERVING, ""),
}  # fmt: skip


def _committed(version: int) -> Act:
    """Commit a version of the training data to its own repository."""

    def act(world: World) -> None:
        world.sources.latest = pinned(version)

    return act


DATA: dict[str, Act] = {
    "spec merged, its data not pinned": _committed(1),
    "pin merged": World.merge,
    "v1 merged": World.merge,
    "newer data": _committed(2),
    "newer data still, before anybody answered": _committed(3),
    "newer data merged": World.merge,
    "v2 merged": World.merge,
    "newer data once more": _committed(4),
    "nobody wants it": lambda world: world.forge.shut(_opened(world, "bump-data")),
    "the version after that, and other training": lambda world: (
        _committed(5)(world), world.change(r"epochs: \d+", "epochs: 6"),
    ),
    "merged while a candidate is proposed": lambda world: world.forge.merge(_opened(world, "bump-data")),
    "undone": lambda world: world.revert(world.merged()[-1]),
    "a last version": _committed(6),
    "nobody follows any more": lambda world: world.change("onData: true", "onData: false"),
}  # fmt: skip
"""What becomes of a model whose data lies elsewhere, as that goes on."""


WATCHING: dict[str, Act] = {
    "v1 merged, and its traffic counted": World.merge,
    "errors that come and go": lambda world: world.hours(0.1, 0.0, 0.1, 0.0),
    "errors that stay": lambda world: world.hours(0.1, 0.1),
    "they are gone before anybody answered": lambda world: world.hours(0.0, 0.0),
    "errors again, and more of them": lambda world: world.hours(0.3, 0.3),
    "nobody wants a training": lambda world: world.forge.shut(_opened(world, "retrain")),
    "quiet, then errors, labels came meanwhile": lambda world: (
        world.hours(0.0, 0.0, 0.1, 0.1), _committed(2)(world),
    ),
    "quiet before anybody looked at the labels": lambda world: world.hours(0.0, 0.0),
    "errors without labels": lambda world: (world.hours(0.1, 0.1), _committed(1)(world)),
    "merged": lambda world: world.forge.merge(_opened(world, "retrain")),
    "v2 merged": World.merge,
    "a schedule that is due the day after": lambda world: (
        world.change(r"onSignal: .*", 'schedule: "0 0 * * *"}'), setattr(world, "now", world.now + 86_400),
    ),
    "no schedule after all": lambda world: world.change(r"\n  triggers: .*", ""),
}  # fmt: skip
"""What follows from the live traffic of a model, hour by hour."""


def _opened(world: World, intent: str) -> int:
    """Give the number of the open proposal of an intent."""
    (number,) = (pull.number for pull in world.forge.opened() if f"/{intent}/" in pull.branch)
    return number


@dataclass(frozen=True)
class Phase:
    """One chapter: the world as people left it, as it settled, and how many effects that took."""

    name: str
    before: World
    after: World
    effects: tuple[str, ...]


def beginning(story: Mapping[str, Act]) -> World:
    """Give the world in which a story begins."""
    if story is WATCHING:
        return World(WATCHED).converge()  # how a first release comes about is another story
    return World(ELSEWHERE) if story is DATA else World()


@cache
def phases() -> tuple[Phase, ...]:
    """Tell the story of a model once without trouble."""
    return _told(STORY)


@cache
def data_phases() -> tuple[Phase, ...]:
    """Tell that of its data likewise."""
    return _told(DATA)


@cache
def watching_phases() -> tuple[Phase, ...]:
    """Tell that of its live traffic likewise."""
    return _told(WATCHING)


def _told(story: Mapping[str, Act]) -> tuple[Phase, ...]:
    world, found = beginning(story), []
    for name, act in story.items():
        world.now += 60
        assert act(world) is not False, name
        before, begun = world.fork(), len(world.wire.log)
        world.converge()
        found.append(Phase(name, before, world.fork(), tuple(world.wire.log[begun:])))
    return tuple(found)
