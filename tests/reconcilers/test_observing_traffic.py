"""Looking at live traffic and at the calendar: what is asked for, what is remembered, what a status is good for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from reconcilers.observe import Observer
from reconcilers.observed import SCHEDULE, Judgement, Observed
from reconcilers.observing_traffic import TrafficObserver, mark
from reconcilers.records import Records
from reconcilers.world import Ports
from specs.manifest import parse
from specs.serving_facts import ServingState
from specs.status import Condition, ConditionType, ModelStatus, Reason
from tests.support.builders import KEY, NAME, PATH, context
from tests.support.watched import HOUR
from tests.support.world import TEXT, World

WATCHED = TEXT.replace("epochs: 2", "epochs: 5") + """
  monitoring:
    window: 1h
    minSamples: 100
    signals: [{name: errors, type: ErrorRate, max: 0.05}]
"""


@cache
def _released(text: str) -> World:
    world = World(text)
    world.converge()
    world.merge()
    return world.converge()


def released(text: str = WATCHED) -> World:
    """Give a world with a model that serves as v1, with its profile counted."""
    return _released(text).fork()


class Eyes:
    """An observer that goes on, and what it saw last."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.observer = Observer(Ports(
            world.store, world.git, world.forge, world.jobs, world.servers, traffic=world.traffic,
            calendar=world.calendar,
        ))  # fmt: skip

    def look(self, previous: ModelStatus | None = None) -> Observed:
        """Look once."""
        source, shared = self.world.source(), self.observer.share()
        spec = parse(source.text, PATH, KEY).model.spec
        return self.observer.observe(source, spec, shared, previous or ModelStatus(), self.world.now)


def hours(world: World, *errors: float, version: int = 1, requests: int = 1000) -> None:
    """Let hours go by, each with a share of errors."""
    for share in errors:
        world.traffic.had(version, world.now - world.now % HOUR, HOUR, errors=share, requests=requests)
        world.now += HOUR


def test_the_version_that_answers_is_watched_with_the_one_before() -> None:
    """While the old release still answers its traffic counts; once the new one does, the old is what it is held to."""
    world = released()
    eyes = Eyes(world)
    eyes.look()
    asked = world.traffic.asked[-1]
    assert (asked.name, asked.version, asked.before, asked.window, asked.windows) == (NAME, 1, None, HOUR, 24)
    assert asked.bake == 3 * HOUR  # as long as a signal needs
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    world.merge()
    eyes.look()
    assert (world.traffic.asked[-1].version, world.traffic.asked[-1].before) == (1, None)
    world.converge()
    eyes.look()
    assert (world.traffic.asked[-1].version, world.traffic.asked[-1].before) == (2, 1)


def test_nobody_is_asked_about_a_model_that_is_not_watched() -> None:
    """Neither traffic nor calendar, and no profile is looked for."""
    world = released(TEXT.replace("epochs: 2", "epochs: 5"))
    observed = Eyes(world).look()
    assert world.traffic.asked == []
    assert (observed.watched, observed.profile, observed.signals, observed.schedule_due) == (None, None, (), None)


def test_a_bake_time_alone_is_reason_enough_to_look() -> None:
    """A release may be on trial without any signal; then no windows are asked for."""
    serving = "serving:\n    export: onnx"
    world = released(
        TEXT.replace("epochs: 2", "epochs: 5").replace(serving, f"{serving}\n    strategy: {{bakeTime: 10m}}")
    )
    Eyes(world).look()
    asked = world.traffic.asked[-1]
    assert (asked.bake, asked.windows) == (600.0, 0)


def test_readings_are_worked_out_once_for_each_window() -> None:
    """The same windows give the very same readings; a new one adds its own, and those out of sight are forgotten."""
    world = released()
    eyes = Eyes(world)
    hours(world, 0.0, 0.1)
    first = eyes.look().readings
    assert [reading.judgement for reading in first["errors"]] == [Judgement.PASSING, Judgement.FAILING]
    assert eyes.look().readings is first
    hours(world, 0.1)
    second = eyes.look().readings["errors"]
    assert [before is now for before, now in zip(first["errors"], second, strict=False)] == [True, True]
    hours(world, *([0.0] * 24))
    assert len(eyes.look().readings["errors"]) == 24


def test_what_readings_depend_on_has_them_worked_out_again() -> None:
    """Other bounds judge the windows that are known as well, and so does a profile that was not there before."""
    world = released()
    hours(world, 0.1)
    (key,) = (key for key in world.store.records if key.startswith("profiles/"))
    profile = world.store.records.pop(key)
    eyes = Eyes(world)
    before = eyes.look().readings
    world.store.records[key] = profile
    after = eyes.look().readings
    assert after is not before
    world.change("max: 0.05", "max: 0.5")
    assert [reading.judgement for reading in eyes.look().readings["errors"]] == [Judgement.PASSING]
    assert [reading.judgement for reading in after["errors"]] == [Judgement.FAILING]


def test_what_is_forgotten_is_worked_out_again() -> None:
    """Memory is bounded; whoever falls out of it has the same readings the next time."""
    world = released()
    hours(world, 0.0, 0.1)
    eyes = Eyes(world)
    eyes.observer.traffic = TrafficObserver(
        Records(world.store), world.traffic, world.calendar, remembered=1
    )
    before = eyes.look().readings
    source = world.source()
    spec = parse(source.text, PATH, KEY).model.spec
    ctx = context(spec, eyes.look())
    eyes.observer.traffic.look(replace(ctx, key=KEY._replace(name="other")), ModelStatus(), world.now)
    after = eyes.look().readings
    assert after == before
    assert after is not before


def test_the_last_status_keeps_the_name_of_a_long_episode() -> None:
    """What it says of another release is not heard, nor that a signal of the release before was quiet."""
    world = released()
    hours(world, *([0.1] * 3))
    eyes = Eyes(world)
    began = eyes.look().signals
    told = ModelStatus(version=1, signals=list(began))
    hours(world, *([0.1] * 30))
    assert eyes.look(told).signals == began
    assert eyes.look(told).signals_before == began
    assert eyes.look().signals != began
    other = told.model_copy(update={"version": 9, "signals": [began[0].model_copy(update={"state": "Quiet"})]})
    assert eyes.look(other).signals_before == ()


def test_without_a_first_answer_everything_is_as_it_was_told() -> None:
    """A restart of the control plane is no news about any signal."""
    world = released()
    hours(world, *([0.1] * 3))
    eyes = Eyes(world)
    told = ModelStatus(version=1, signals=list(eyes.look().signals))
    world.traffic.silent = True
    assert eyes.look(told).signals == tuple(told.signals)
    world.traffic.silent, world.traffic.windows, world.traffic.trouble = False, {}, "Prometheus does not answer"
    assert eyes.look(told).signals == tuple(told.signals)


def test_a_release_that_passed_its_gate_is_remembered() -> None:
    """By the condition, and the version that the status is about."""
    eyes = Eyes(released())
    told = "v1 passed beside v0: error rate: 0 % against 0 %, not worse"
    passed = Condition(type=ConditionType.LIVE_GATE, status="True", reason=Reason.LIVE_GATE_PASSED, message=told)
    assert eyes.look(ModelStatus(version=1, conditions=[passed])).live_gate_before == passed
    assert eyes.look(ModelStatus(version=1)).live_gate_before is None


def test_a_schedule_is_looked_up_and_a_bad_one_is_told() -> None:
    """What is no cron line keeps nothing else from being seen."""
    world = released(WATCHED + '  triggers: {schedule: "0 0 * * *"}\n')
    assert Eyes(world).look().schedule_due == world.now - world.now % 86_400
    world.change('"0 0 [^"]*"', '"bad * * * *"')
    observed = Eyes(world).look()
    assert observed.schedule_due is None
    assert observed.troubles[SCHEDULE].reason is Reason.SCHEDULE_INVALID
    assert observed.serving is not None


def test_mark_tells_meanings_apart_and_nothing_else() -> None:
    """Steady traffic has one mark, however many windows go by; a signal that fires, trouble, a schedule have others."""
    world = released()
    eyes = Eyes(world)
    hours(world, 0.0)
    steady = eyes.look()

    def named(observed: Observed, due: float | None = None) -> str:
        return mark(observed.signals, observed.watched, due)

    hours(world, 0.0, 0.01, 0.0)
    assert named(eyes.look()) == named(steady)
    hours(world, 0.1, 0.1, 0.1)
    assert named(eyes.look()) != named(steady)
    assert steady.watched is not None
    assert named(replace(steady, watched=replace(steady.watched, trouble="x"))) != named(steady)
    assert named(replace(steady, watched=None)) != named(steady)
    assert named(steady, 5.0) != named(steady)


def test_a_server_that_starts_again_changes_no_question() -> None:
    """While nothing answers the release is what is watched."""
    world = released()
    world.servers.states[NAME] = ServingState(NAME, ready=False)
    Eyes(world).look()
    assert world.traffic.asked[-1].version == 1
