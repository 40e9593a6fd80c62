"""Who watches traffic, or waits for a schedule, is looked at again when that means something new, and not before."""

from __future__ import annotations

from functools import cache

from controller.bindings import Bindings
from controller.desk import Desk
from controller.informer import Informer
from controller.metrics import Metrics
from controller.queue import WorkQueue
from controller.settled import is_same, mark
from controller.windows import Windows
from reconcilers.loop import Reconciler, Result
from specs.modelspec import ModelKey
from specs.status import ModelStatus
from tests.support.builders import KEY
from tests.support.world import TEXT, WATCHED, World

SCHEDULED = TEXT.replace("epochs: 2", "epochs: 5") + '\n  triggers: {schedule: "0 0 * * *"}\n'


@cache
def _released(text: str) -> World:
    world = World(text)
    world.converge()
    world.merge()
    return world.converge()


class Host:
    """What a host has: a loop that goes on, and who watches what."""

    def __init__(self, text: str = WATCHED) -> None:
        self.world = _released(text).fork()
        self.loop: Reconciler = self.world.reconciler()
        self.windows = Windows(self.world.clock)

    def look(self) -> str:
        """Look at the model in full, and give the name of what was seen."""
        result: Result = self.world.one_pass(self.loop)
        return self.windows.saw(result, self.loop.observer.traffic)

    @property
    def moved(self) -> bool:
        """Whether the model is to be looked at again."""
        return list(self.windows.moved()) == [KEY]


def test_steady_traffic_wakes_nobody() -> None:
    """Windows come and go, and windows flap; while no signal begins or ceases to fire nothing is looked at in full."""
    host = Host()
    host.world.hours(0.0)
    host.look()
    for errors in (0.0, 0.01, 0.1, 0.0, 0.1, 0.0):
        host.world.hours(errors)
        assert not host.moved
    host.world.hours(*([0.0] * 30))
    assert not host.moved


def test_a_signal_that_begins_or_ceases_to_fire_wakes_once() -> None:
    """Until the model was looked at in full; the same is true of a Prometheus that goes or comes back."""
    host = Host()
    host.world.hours(0.0)
    host.look()
    host.world.hours(0.1, 0.1)
    assert host.moved
    assert host.moved
    host.look()
    assert not host.moved
    host.world.hours(0.1, 0.1)
    assert not host.moved
    host.world.hours(0.0, 0.0)
    assert host.moved
    host.look()
    host.world.traffic.trouble = "Prometheus does not answer"
    assert host.moved
    host.look()
    assert not host.moved


def test_what_a_look_finds_is_what_is_found_without_one() -> None:
    """The name that a full look gives is the one that is compared later, in every state."""
    host = Host()
    for errors in (0.0, 0.1, 0.1, 0.1, 0.0, 0.0, 0.1):
        host.world.hours(errors)
        assert host.look() == host.windows.now(KEY)
    for _ in range(8):
        host.world.hours(*([0.1] * 5))  # its beginning goes out of sight
        assert host.look() == host.windows.now(KEY)


def test_asking_keeps_traffic_counted_while_a_model_is_at_rest() -> None:
    """Whoever counts forgets what nobody asks for; no full look is needed for that."""
    host = Host()
    host.look()
    host.world.traffic.asked.clear()
    list(host.windows.moved())
    assert [asked.version for asked in host.world.traffic.asked] == [1]


def test_a_schedule_wakes_when_it_is_due() -> None:
    """Once, and the next time again."""
    host = Host(SCHEDULED)
    host.look()
    assert not host.moved
    host.world.now += 86_400
    assert host.moved
    host.look()
    assert not host.moved


def test_mark_of_a_world_at_rest_names_what_traffic_means() -> None:
    """The same world in which another signal fires is another one; after a restart each is looked at once."""
    host = Host()
    host.world.hours(0.0)
    rests = mark("asked", "found", host.look())
    assert is_same(rests, "asked", "found", host.windows.now(KEY))
    assert not is_same(rests, "asked", "found", Windows().now(KEY))
    host.world.hours(0.1, 0.1)
    assert not is_same(rests, "asked", "found", host.windows.now(KEY))


def test_who_watches_nothing_is_not_remembered() -> None:
    """Nobody is asked for them, nor for a model that is gone."""
    host = Host(TEXT.replace("epochs: 2", "epochs: 5"))
    assert host.look() == ""
    assert list(host.windows.moved()) == []
    watching = Host()
    watching.look()
    watching.windows.forget(KEY)
    watching.world.hours(0.1, 0.1)
    assert list(watching.windows.moved()) == []
    assert watching.windows.saw(Result(ModelStatus()), watching.loop.observer.traffic) == ""


def test_the_desk_puts_them_in_line() -> None:
    """As models that may have something new to say, behind what people changed."""
    host, queue = Host(), WorkQueue[ModelKey](lambda: 0.0)
    host.look()
    desk = Desk(Informer(lambda: 0.0), queue, Bindings({}), Metrics(), lambda: 0.0, windows=host.windows)
    desk.wake_watched()
    assert queue.depth == 0
    host.world.hours(0.1, 0.1)
    desk.wake_watched()
    assert queue.get(0.0) == KEY
