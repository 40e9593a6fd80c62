"""Devices that pull: waves, soaking, halting, networks that go away, and what that costs. Git and store are real."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from threading import Event

from specs.facts import PullState
from specs.fleet import DEVICES
from specs.status import ConditionType, Reason
from tests.support.devices import Devices
from tests.support.gitrepo import git
from tests.support.place import FILE
from tests.support.released import BEGIN, Released

HOUR = 3600
EDGE = "serving: {{export: onnx, edge: {{waves: [{waves}]{more}}}}}"
THREE = "{percent: 1, soak: 1h}, {percent: 25, soak: 1h}, {percent: 100}"


def begun(folder: Path, count: int, waves: str = THREE, more: str = "", *, site: int = 50) -> Devices:
    """Give devices of a model whose first release was just merged."""
    story = Released(folder)
    text = story.person.spec().replace("serving: {export: onnx}", EDGE.format(waves=waves, more=more))
    story.person.hub.commit({FILE: text}, "Want digits", when=BEGIN)
    devices = Devices(story, count, site=site)
    story.converge()
    story.merge()
    return devices


def everywhere(devices: Devices) -> Devices:
    """Let the release reach every device."""
    for _ in range(4):
        devices.turn(wait=HOUR)
    return devices


def release(devices: Devices, epochs: tuple[int, int]) -> None:
    """Have another model trained, and its proposal merged."""
    devices.story.change((f"epochs: {epochs[0]}", f"epochs: {epochs[1]}"))
    devices.story.merge()


def condition(devices: Devices, type_: ConditionType = ConditionType.FLEET) -> tuple[str, str]:
    """Give reason and message of the model's condition."""
    found = devices.story.status.condition(type_)
    return (found.reason, found.message) if found is not None else ("", "")


def test_a_thousand_devices_get_a_release_in_waves_and_idle_ones_cost_the_store_nothing(tmp_path: Path) -> None:
    """1 %, then 25 %, then all; each wave soaks; a device polls git alone, and writes on news alone."""
    thousand = everywhere(begun(tmp_path, 1000, site=250))
    assert thousand.versions() == {1: 1000}
    thousand.asked()
    thousand.round()
    assert thousand.asked() == {"git": 1000}, "an idle device asks git whether there is news, and nobody else"
    before = set(thousand.story.store.list("fleet/"))

    release(thousand, (8, 9))
    seen: list[Counter[int | None]] = []
    for _ in range(4):
        thousand.turn()
        seen.append(thousand.versions())
        thousand.turn(rounds=1, wait=HOUR / 2)
        assert thousand.versions() == seen[-1], "half of the soak is not all of it"
        thousand.story.now += HOUR
    assert seen == [{1: 990, 2: 10}, {1: 750, 2: 250}, {2: 1000}, {2: 1000}]
    assert condition(thousand) == (Reason.FLEET_SERVING, "v2 serves on 1000 of 1000 devices")
    asked = thousand.asked()
    assert asked["replace"] <= 2 * 1000, "a device tells that it waits, and that it serves"
    news = set(thousand.story.store.list("fleet/")) - before
    assert len(news) == 3, "one record opens a wave, however many devices it reaches"
    thousand.round()
    assert thousand.asked() == {"git": 1000}


def test_devices_that_are_away_serve_on_and_catch_up_past_what_they_missed(tmp_path: Path) -> None:
    """A tenth of the devices has no network for two releases; they hold up nobody, and then go to the newest."""
    devices = everywhere(begun(tmp_path, 50, "{percent: 40, soak: 1h}, {percent: 100}"))
    away = devices.all[::10]
    for device in away:
        device.link.up = False
    release(devices, (8, 9))
    everywhere(devices)
    release(devices, (9, 10))
    everywhere(devices)
    assert devices.versions() == {1: 5, 3: 45}
    assert condition(devices) == (Reason.FLEET_SERVING, "v3 serves on 45 of 50 devices; 5 more have not told yet")
    for device in away:
        device.restart()  # without a network they know from their own disk what to serve, and serve it
        device.agent.once()
        assert device.version() == 1
        device.link.up = True
    devices.turn()
    assert devices.versions() == {3: 50}
    assert not any("roll out v2" in line for device in away for line in device.servers.wire.log)


def test_too_many_failures_halt_the_rollout_and_ask_for_the_release_before(tmp_path: Path) -> None:
    """What failed is told with its reason; the others keep what they have; merging the rollback reaches all at once."""
    devices = everywhere(begun(tmp_path, 40, "{percent: 20, soak: 1h}, {percent: 100}", ", maxFailures: 1"))
    story = devices.story
    release(devices, (8, 9))
    files = {key.partition("/")[2].removesuffix(".json") for key in story.store.list("artifacts/")}
    good = {state.file for device in devices.all for state in device.servers.states.values()}
    for device in devices.all:
        device.servers.bad = {f"sha256:{name}" for name in files} - good
    devices.turn(rounds=3)
    reason, message = condition(devices)
    assert reason == Reason.FLEET_HALTED
    assert message.startswith("v2 was halted in wave 1: 8 devices failed; cam-00"), message
    assert "does not load" in message
    assert devices.versions() == {1: 40}, "what a device has serves on"
    devices.turn(wait=3 * HOUR)
    assert devices.versions() == {1: 40}
    (pull,) = [pull for pull in story.forge().list("") if pull.state is PullState.OPEN]
    assert "roll back v2" in pull.title
    assert "halted in wave 1" in pull.body
    story.merge()
    devices.turn(rounds=1)
    assert devices.versions() == {3: 40}, "taking a bad release back needs no waves"
    assert condition(devices)[0] == Reason.FLEET_SERVING


def test_the_coordinator_may_be_gone_while_a_wave_rolls_and_two_open_a_wave_once(tmp_path: Path) -> None:
    """An open wave stays open; opened twice it is what was written first; a pass later all is as if once."""
    devices = everywhere(begun(tmp_path, 10, "{percent: 50, soak: 1h}, {percent: 100}"))
    release(devices, (8, 9))
    devices.round()
    devices.round()
    assert devices.versions() == {1: 5, 2: 5}, "the wave was opened by the pass that saw the release"
    fleet = devices.story.fleet
    assert fleet is not None
    waves = fleet.waves("digits", 2, next(iter(_files(devices, 2))))
    (first,) = waves.opened
    fleet.open(first.model_copy(update={"below": 0, "devices": 0}))
    everywhere(devices)
    assert devices.versions() == {2: 10}
    assert fleet.waves("digits", 2, first.file).opened[0] == first


def _files(devices: Devices, version: int) -> set[str]:
    states = (state for device in devices.all for state in device.servers.states.values())
    return {state.file for state in states if state.version == version and state.file}


def test_labels_choose_devices_and_what_is_not_theirs_any_more_goes(tmp_path: Path) -> None:
    """Only devices with the labels serve; a change of labels in git withdraws it from some and gives it to others."""
    devices = begun(tmp_path, 10, "{percent: 100}", ", devices: {line: a}")
    everywhere(devices)
    assert devices.versions() == {1: 5, None: 5}
    devices.story.change(("line: a", "line: b"))
    everywhere(devices)
    assert [device.version() for device in devices.all[:2]] == [1, None]
    git(devices.story.clone, "fetch", "-q", "origin")
    devices.story.commit({FILE: None}, "No more digits")
    devices.round()
    assert devices.versions() == {None: 10}, "a model that left the branch is served nowhere"


def test_a_device_tells_later_what_it_could_not_tell_and_once_a_day_that_it_lives(tmp_path: Path) -> None:
    """While the store is away nothing is lost, not even since when it serves; after a day the same is told again."""
    devices = everywhere(begun(tmp_path, 3, "{percent: 100}"))
    story, device = devices.story, devices.all[0]
    key = f"{DEVICES}{device.name}.json"
    story.now += 86_400
    before = story.store.read(key)
    devices.round([device])
    after = story.store.read(key)
    assert before is not None
    assert after is not None
    assert before != after
    assert device.agent.report.models[0].since in before.decode(), "since when it serves did not change"

    release(devices, (8, 9))
    device.link.up = False
    devices.turn(rounds=1)
    assert story.store.read(key) == after
    device.link.up = True
    story.now += 1000
    devices.turn()
    assert device.version() == 2
    assert b'"version":2' in (story.store.read(key) or b"")


def test_a_lost_answer_is_told_again_and_a_device_that_forgot_everything_says_the_same(tmp_path: Path) -> None:
    """The store has what was written although nobody heard of it; with its memory gone a device looks, and agrees."""
    devices = begun(tmp_path, 2, "{percent: 100}")
    device = devices.all[0]
    device.link.loses = 1
    everywhere(devices)
    assert device.version() == 1
    said = devices.story.fleet.devices()[0] if devices.story.fleet else None
    assert said is not None
    shutil.rmtree(tmp_path / "devices" / device.name)
    device.restart()
    device.agent.once()
    now = devices.story.fleet.devices()[0] if devices.story.fleet else None
    assert now is not None
    assert [each.model_copy(update={"since": ""}) for each in now.models] == [
        each.model_copy(update={"since": ""}) for each in said.models
    ]
    device.link.asked.clear()
    device.agent.once()
    assert device.link.asked == {"git": 1}


def test_a_model_whose_file_broke_serves_on_and_is_told_of_as_it_was(tmp_path: Path) -> None:
    """A mistake on the branch withdraws nothing and is no news; mended, all goes on."""
    devices = everywhere(begun(tmp_path, 3, "{percent: 100}"))
    text = devices.story.read()
    devices.story.commit({FILE: text.replace("task: classify", "task: nonsense")}, "Break it")
    devices.asked()
    devices.round()
    assert devices.versions() == {1: 3}
    assert devices.asked() == {"git": 3}, "nothing is told"
    for device in devices.all:  # nor does one withdraw it that forgot what it serves
        shutil.rmtree(tmp_path / "devices" / device.name)
        device.restart()
    devices.round()
    assert devices.versions() == {1: 3}
    devices.story.commit({FILE: text}, "Mend it")
    devices.round()
    assert devices.versions() == {1: 3}


class _Waits(Event):
    """An event that is set after some waits, none of which takes any time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left, self.waits = count, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self.left:
            self.set()
        return self.is_set()


def test_trouble_that_lasts_is_looked_at_at_the_usual_pace(tmp_path: Path) -> None:
    """A device without a network asks again soon, then less and less often, never less than ever."""
    device = begun(tmp_path, 1, "{percent: 100}").all[0]
    device.link.up = False
    stop = _Waits(8)
    device.agent.forever(60.0, stop)
    assert all(4 <= first <= 6 and 8 <= second <= 12 for first, second in [stop.waits[:2]])
    assert all(48 <= wait <= 72 for wait in stop.waits[4:])
    device.link.up = True
    device.agent.once()
    quiet = _Waits(3)
    device.agent.once()
    device.agent.forever(60.0, quiet)
    assert quiet.waits[-1] >= 48
