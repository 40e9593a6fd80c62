"""People are told once about what is so, and once that it is over; no kill and no dead chat loses a message."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from adapters.notify import Notifier
from controller.alerts import Alerts, Memory
from controller.setting_tables import AlertSettings
from specs.errors import Stalled, Transient
from specs.modelspec import ModelKey
from specs.status import ModelStatus, SignalStatus
from tests.support.postbox import Postbox, postbox

LIGHT = SignalStatus(name="light", state="Firing", value=0.4, n=500, episode="light-v7-20261126T100000Z")
FIRES = ModelStatus(signals=[LIGHT])
QUIET = ModelStatus()


class Room:
    """A world of models, a clock, and whoever tells people, started again at will."""

    def __init__(self, folder: Path, box: Postbox, **settings: float) -> None:
        self.models: dict[ModelKey, ModelStatus] = {}
        self.now = 1_000.0
        self.folder = folder
        self.settings = AlertSettings(**{"group_wait": 0.0, **settings})
        self.urls = folder / "urls"
        self.urls.write_text(f"# who is told\n\njson://127.0.0.1:{box.port}/hook\n")
        self.start()

    def start(self) -> None:
        """Start the teller, as after a kill: only its file is left."""
        self.teller = Alerts(
            lambda: list(self.models.items()), Memory(self.folder / "alerts.json"), self.settings,
            notifier=Notifier(self.urls), clock=lambda: self.now,
        )  # fmt: skip

    def say(self, name: str, status: ModelStatus) -> None:
        """Let a model have a status, and have people told."""
        self.models[ModelKey("retail", name)] = status
        self.teller.once()


def test_told_once_when_it_begins_and_once_when_it_ends(tmp_path: Path) -> None:
    """However often one looks, and across a restart."""
    with postbox() as box:
        room = Room(tmp_path, box)
        room.say("shelf", FIRES)
        room.say("shelf", FIRES)
        room.start()
        room.say("shelf", FIRES)
        assert box.titles == ["Trunkline: retail/shelf: signal light fires"]
        room.say("shelf", QUIET)
        room.start()
        room.say("shelf", QUIET)
        assert box.titles[1:] == ["Trunkline: over: retail/shelf: signal light fires"]
        assert [each["type"] for each in box.messages] == ["warning", "success"]


def test_a_message_that_nobody_took_is_sent_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The chat is down: that is said once in the log, without its address, and tried again after a pause."""
    with postbox() as box:
        room = Room(tmp_path, box)
        box.status = 500
        with caplog.at_level(logging.WARNING):
            room.say("shelf", FIRES)
            room.now += 1
            room.say("shelf", FIRES)
        assert box.messages == []
        assert len(caplog.messages) == 1
        assert "NotificationFailed" in caplog.text
        assert "hook" not in caplog.text
        box.status = 200
        room.say("shelf", FIRES)
        assert box.messages == [], "it waits before it tries again"
        room.now += 60
        room.say("shelf", FIRES)
        assert box.titles == ["Trunkline: retail/shelf: signal light fires"]


def test_many_models_that_fire_together_are_one_message(tmp_path: Path) -> None:
    """What comes within ``group_wait`` seconds is gathered."""
    with postbox() as box:
        room = Room(tmp_path, box, group_wait=10.0)
        room.say("a", FIRES)
        room.now += 5
        room.say("b", FIRES)
        assert box.messages == []
        room.now += 5
        room.say("c", FIRES)
        assert box.titles == ["Trunkline: 3 models: signal light fires"]


def test_what_is_over_before_anybody_was_told_is_no_message(tmp_path: Path) -> None:
    """A signal that fires for less than ``group_wait`` wakes nobody."""
    with postbox() as box:
        room = Room(tmp_path, box, group_wait=10.0)
        room.say("shelf", FIRES)
        room.say("shelf", QUIET)
        room.now += 100
        room.say("shelf", QUIET)
        assert box.messages == []


def test_what_still_fires_is_told_again_after_a_day(tmp_path: Path) -> None:
    """A message scrolls away."""
    with postbox() as box:
        room = Room(tmp_path, box, repeat=100.0)
        room.say("shelf", FIRES)
        room.now += 99
        room.say("shelf", FIRES)
        assert len(box.messages) == 1
        room.now += 1
        room.say("shelf", FIRES)
        assert box.titles[1:] == ["Trunkline: still: retail/shelf: signal light fires"]
        room.say("shelf", FIRES)
        assert len(box.messages) == 2


def test_a_lost_memory_costs_a_message_and_loses_none(tmp_path: Path) -> None:
    """The file is a cache, also where it holds nonsense."""
    with postbox() as box:
        room = Room(tmp_path, box)
        room.say("shelf", FIRES)
        (tmp_path / "alerts.json").write_text('[{"alert": {"id": 3}}]')
        room.start()
        room.say("shelf", FIRES)
        assert len(box.messages) == 2


def test_one_place_of_several_is_enough(tmp_path: Path) -> None:
    """The one that is down is named by its kind; nobody else hears the message twice."""
    with postbox() as box:
        room = Room(tmp_path, box)
        room.urls.write_text(f"json://127.0.0.1:{box.port}/hook\nxml://127.0.0.1:1/secret\n")
        assert room.teller is not None
        assert Notifier(room.urls).send("title", "body", "warning") == ("XML",)
        room.say("shelf", FIRES)
        room.say("shelf", FIRES)
        assert len(box.messages) == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [("", "lists no address"), ("# none\n", "lists no address"), ("json://a\nnonsense://secret\n", "line 2")],
)
def test_a_file_without_usable_addresses_is_said_so(tmp_path: Path, lines: str, said: str) -> None:
    """By the number of its line: addresses are secrets."""
    (tmp_path / "urls").write_text(lines)
    with pytest.raises(Stalled, match=said) as caught:
        Notifier(tmp_path / "urls").send("title", "body", "warning")
    assert "secret" not in str(caught.value)


def test_nobody_there_may_pass(tmp_path: Path) -> None:
    """A connection that is refused is no reason to stall."""
    (tmp_path / "urls").write_text("json://127.0.0.1:1/hook\n")
    with pytest.raises(Transient, match="JSON"):
        Notifier(tmp_path / "urls").send("title", "body", "critical")


class Killed(BaseException):
    """The process ends here."""


class Deadly:
    """A messenger whose process is killed as soon as a message is out."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, title: str, body: str, severity: str) -> tuple[str, ...]:
        self.sent.append(title)
        raise Killed


def test_a_kill_right_after_sending_repeats_one_message_at_most(tmp_path: Path) -> None:
    """Two causes: the first message is out when the process dies. The next process sends it again, and the second."""
    mix = LIGHT.model_copy(update={"name": "mix", "episode": "mix-v7-20261126T100000Z"})
    with postbox() as box:
        room = Room(tmp_path, box)
        room.models[ModelKey("retail", "shelf")] = ModelStatus(signals=[LIGHT, mix])
        deadly = Deadly()
        teller = Alerts(room.models.items, Memory(tmp_path / "alerts.json"), room.settings, notifier=deadly)
        with pytest.raises(Killed):
            teller.once()
        assert len(deadly.sent) == 1
        room.teller.once()
        room.start()
        room.teller.once()
        assert sorted(box.titles) == [f"Trunkline: retail/shelf: signal {name} fires" for name in ("light", "mix")]
