"""Waves over devices: when one opens, what it waits for, when all stops, and which devices one reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcilers.actions import Action, HaltWaves, OpenWave, Propose, RollOut
from reconcilers.context import Step, Verdict
from reconcilers.devices import as_reached, is_reached
from reconcilers.waves import LOOK
from specs.fleet import RANKS, Device, Waves, rank
from specs.release import Denied
from specs.serving import Edge
from specs.serving_facts import ServingState
from specs.status import ConditionType, Reason
from tests.support.builders import NAME, NOW, Stage, decide
from tests.support.waves import EDGE, NAMES, fleet, halted, on_devices, opened

HOUR = 3600.0


def step(stage: Stage) -> Step:
    """Give what the plan says about devices."""
    found = stage.plan.step(ConditionType.FLEET)
    assert found is not None
    return found


def wave(actions: tuple[Action, ...]) -> tuple[int, int] | None:
    """Give number and reach of the wave that is opened; None where none is."""
    return next(((a.record.wave, a.record.devices) for a in actions if isinstance(a, OpenWave)), None)


def at(reach: list[int], **states: Any) -> Stage:
    """Give a rollout that has reached so many devices, of which some serve or failed."""
    stage = on_devices()
    return stage.but(devices=fleet(stage, **states), waves=opened(stage, reach))


TABLE: list[tuple[str, Callable[[], Stage], Verdict, Reason, tuple[int, int] | None, str]] = [
    ("nobody looks after devices", lambda: on_devices().but(devices=None), Verdict.REST, Reason.NO_DEVICES, None,
     "nobody looks after devices here"),
    ("no device has told", on_devices, Verdict.REST, Reason.NO_DEVICES, None, "no device has told of itself yet"),
    ("a release is new", lambda: at([]), Verdict.WAIT, Reason.WAVE_OPEN, (1, 2), "no device may serve it yet"),
    ("a wave rolls", lambda: at([2, 10], serving=5), Verdict.WAIT, Reason.WAVE_OPEN, None,
     "wave 2 of 3 (50 %) is open: 50 % of its devices serve v2"),
    ("one device is missing", lambda: at([2], serving=1), Verdict.WAIT, Reason.WAVE_OPEN, None,
     f"wave 1 of 3 (10 %) is open: 50 % of its devices serve v2; {NAMES[1]} does not yet"),
    ("a wave soaks", lambda: at([2], serving=2, since=NOW - 600), Verdict.WAIT, Reason.WAVE_SOAKING, None,
     "wave 1 of 3 (10 %) serves v2, and soaks for 1h"),
    ("a wave has soaked", lambda: at([2], serving=2), Verdict.WAIT, Reason.WAVE_OPEN, (2, 10),
     "wave 2 of 3 (50 %) is being opened: wave 1 of 3 (10 %) has soaked"),
    ("a tenth is silent: nobody waits", lambda: at([2, 10], serving=9), Verdict.WAIT, Reason.WAVE_OPEN, (3, 20),
     "wave 3 of 3 (100 %) is being opened"),
    ("everywhere", lambda: at([2, 10, 20], serving=20), Verdict.DONE, Reason.FLEET_SERVING, None,
     "v2 serves on 20 of 20 devices"),
    ("nearly everywhere", lambda: at([2, 10, 20], serving=19), Verdict.DONE, Reason.FLEET_SERVING, None,
     "v2 serves on 19 of 20 devices; 1 more have not told yet"),
    ("one failed", lambda: at([2], serving=1, failed=1), Verdict.STOP, Reason.FLEET_HALTED, None,
     f"v2 was halted in wave 1: 1 device failed; {NAMES[1]}: it does not load"),
    ("one failed in the last wave", lambda: at([2, 10, 20], serving=19, failed=1), Verdict.STOP, Reason.FLEET_HALTED,
     None, "v2 was halted in wave 3: 1 device failed"),
    ("halted before", lambda: on_devices().but(devices=fleet(on_devices(), serving=2), waves=halted(on_devices())),
     Verdict.STOP, Reason.FLEET_HALTED, None, "v2 was halted in wave 1: 1 device failed; cam-03: it does not load"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "verdict", "reason", "opens", "words"), [row[1:] for row in TABLE],
                         ids=[row[0] for row in TABLE])  # fmt: skip
def test_each_state_of_a_fleet_has_its_answer(
    make: Callable[[], Stage], verdict: Verdict, reason: Reason, opens: tuple[int, int] | None, words: str
) -> None:
    """Reason, words, and the wave that is opened, if any."""
    found = step(make())
    assert (found.verdict, found.reason) == (verdict, reason)
    assert words in found.message
    assert wave(found.actions) == opens


def test_nothing_serves_here_and_the_model_is_ready_once_devices_serve() -> None:
    """The host that looks after devices serves nothing itself, unless replicas are asked for."""
    stage = at([2, 10, 20], serving=20)
    assert not [action for action in stage.plan.actions if isinstance(action, RollOut)]
    assert stage.plan.step(ConditionType.SERVING).reason is Reason.ON_DEVICES  # type: ignore[union-attr]
    both = on_devices()
    serving = both.spec.serving
    assert serving is not None
    given_ = both.spec.model_copy(update={"serving": serving.model_copy(update={"replicas": 2})})
    assert [action for action in decide(given_, both.world).actions if isinstance(action, RollOut)]


def test_a_wave_waits_for_its_soak_and_no_longer_and_says_when_to_look_again() -> None:
    """Soaking begins when the last device serves, or when the wave was opened, whichever is later."""
    assert step(at([2], serving=2, since=NOW - HOUR + 1)).after == pytest.approx(1)
    assert wave(step(at([2], serving=2, since=NOW - HOUR)).actions) == (2, 10)
    stage = on_devices()
    late = stage.but(devices=fleet(stage, serving=2), waves=opened(stage, [2], when=NOW - 60))
    assert step(late).reason is Reason.WAVE_SOAKING, "a device whose clock is wrong shortens no soak"


def test_a_fleet_at_rest_is_looked_at_again_for_nobody_tells_of_its_news() -> None:
    """The first device to come, or one that fails after the last wave, must not wait for a full look hours later."""
    assert on_devices().plan.after == LOOK
    assert at([2, 10, 20], serving=20).plan.after == LOOK
    assert on_devices().but(devices=None).plan.after == 0, "where nobody looks after devices there is no news"
    assert at([2], serving=1, failed=1).plan.after == 0, "people must act"


def test_failures_beyond_the_limit_halt_once_and_a_rollback_is_proposed() -> None:
    """The halt is written down first; then, and for as long as it stands, the release before is asked for."""
    stage = at([2, 10], serving=8, failed=2)
    (halt,) = [action for action in stage.plan.actions if isinstance(action, HaltWaves)]
    assert (halt.record.wave, halt.record.failed) == (2, 2)
    assert set(halt.record.failures) == set(NAMES[8:10])
    proposals = [action for action in stage.plan.actions if isinstance(action, Propose)]
    assert [action.proposal.intent for action in proposals] == ["rollback"]
    patient = on_devices(EDGE | {"maxFailures": 2})
    more = patient.but(devices=fleet(patient, serving=8, failed=2), waves=opened(patient, [2, 10]))
    assert wave(step(more).actions) == (3, 20)


def test_what_takes_a_release_back_reaches_every_device_at_once() -> None:
    """No waves, no soak: the run it replaces is denied, so it is the way back."""
    stage = on_devices()
    release = stage.spec.release
    assert release is not None
    assert release.previous is not None
    back = release.model_copy(update={"deny": [Denied(run=release.previous.run, reason="bad")]})
    undoing = stage.spec.model_copy(update={"release": back})
    plan = decide(undoing, stage.but(devices=fleet(stage, serving=3)).world)
    found = plan.step(ConditionType.FLEET)
    assert found is not None
    assert (found.reason, wave(found.actions)) == (Reason.FLEET_SERVING, None)
    state = ServingState(NAME, ready=True, version=1, file=release.previous.exports["onnx"])
    assert is_reached(undoing, NAME, Device("cam-99", {}), 0, state)


def test_fewer_waves_in_git_than_are_open_end_the_rollout_and_do_not_begin_it_anew() -> None:
    """A person who takes waves out makes the next one the last."""
    stage = on_devices({"waves": [{"percent": 100}]})
    after = stage.but(devices=fleet(stage, serving=10), waves=opened(stage, [2, 10]))
    assert wave(step(after).actions) == (3, 20)


def test_a_device_keeps_what_it_has_whatever_waves_say_and_waits_with_the_release_before() -> None:
    """Not reached: the release before; reached, or serving it already: the release; nothing before: nothing."""
    stage = on_devices()
    release = stage.spec.release
    assert release is not None
    first, last = Device(NAMES[0], {}), Device(NAMES[-1], {})
    below = opened(stage, [2]).below
    assert is_reached(stage.spec, NAME, first, below, None)
    assert not is_reached(stage.spec, NAME, last, below, None)
    has_it = ServingState(NAME, ready=True, version=2, file=release.exports["onnx"])
    assert is_reached(stage.spec, NAME, last, 0, has_it)
    waiting = as_reached(stage.spec, reached=False)
    assert waiting is not None
    assert waiting.release is not None
    assert waiting.release.version == 1
    assert as_reached(on_devices(first=True).spec, reached=False) is None


@given(st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True), min_size=1, max_size=60),
       st.lists(st.integers(1, 99), max_size=4, unique=True))  # fmt: skip
def test_every_device_is_reached_by_the_last_wave_and_none_is_taken_back(names: set[str], shares: list[int]) -> None:
    """Waves grow, whatever the devices are called and however many there are; a wave is never empty."""
    edge = Edge.model_validate({"waves": [{"percent": share} for share in [*sorted(shares), 100]]})
    stage = on_devices(edge.model_dump(mode="json", by_alias=True, exclude_none=True))
    template = fleet(stage, serving=1, count=1)[0]
    devices = tuple(template.model_copy(update={"device": name}) for name in sorted(names))
    waves, reach = Waves(), [0]
    for _ in range(10):
        found = step(stage.but(devices=devices, waves=waves))
        new = [action.record for action in found.actions if isinstance(action, OpenWave)]
        if not new:
            break
        waves = Waves((*waves.opened, *new))
        reach.append(sum(rank(NAME, name) < waves.below for name in names))
    assert reach == sorted(reach)
    assert reach[1] > 0
    assert (reach[-1], waves.below) == (len(names), RANKS)
