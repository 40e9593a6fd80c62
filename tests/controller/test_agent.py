"""The agent: one bad model never stops others, status is a cache, one agent at a time, and an end when told."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from adapters.servers_local import LocalServers
from controller.agent import Agent, OnlyOne
from controller.statuses import Statuses
from reconcilers.loop import Reconciler
from specs.errors import Stalled, Transient
from specs.facts import JobState
from specs.modelspec import ModelKey
from specs.placement import Placement
from specs.status import ModelStatus
from specs.workorders import AnyOrder
from tests.support.living import alive_with, until
from tests.support.place import FILE, KEY, Place
from tests.support.typed import process, said, start

pytestmark = pytest.mark.xdist_group("agent")
OTHER = ModelKey("default", "other")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


class _Buggy:
    """A port for jobs with a bug that one model meets."""

    def __init__(self, victim: str) -> None:
        self.victim, self.asked = victim, 0

    def state(self, order: AnyOrder) -> JobState | None:
        """Fail for the victim's jobs only, with an error that is nobody's."""
        if f"-{self.victim}-" in order.job:
            self.asked += 1
            raise ValueError("secret words that belong into the log")

    def start(self, order: AnyOrder, placement: Placement) -> JobState:
        """Never run anything."""
        raise Transient("NoRoom", "there is no room")


class _Deaf:
    """A port for servers, or a forge, that cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> Any:
            raise Transient("ServerUnavailable", "nobody answers")

        return refuse


def _two(place: Place) -> None:
    text = place.spec()
    place.write({FILE: text, "other.yaml": text.replace("name: digits", "name: other")})


def test_a_bug_in_one_models_pass_does_not_stop_the_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """InternalError for the one, work for the other; the traceback is in the log, its words are not in the status."""
    _two(place)
    jobs = _Buggy("digits")
    place.agent.passes.reconciler = Reconciler(replace(place.app.ports, jobs=jobs), time.time)
    caplog.set_level(logging.ERROR, "trunkline.agent")
    assert place.agent.once()
    stalled = place.condition("Stalled")
    assert (stalled.reason, place.reason("Ready")) == ("InternalError", "InternalError")
    assert "log has the traceback" in stalled.message
    assert "secret words" not in stalled.message
    assert "secret words" in caplog.text
    assert place.condition("DataReady", OTHER).reason == "ValidatingData"
    assert "NoRoom" in place.status(OTHER).summary + place.condition("Reconciling", OTHER).message


def test_after_trouble_a_model_is_left_alone_for_a_while(place: Place) -> None:
    """A pass within the pause does not ask at all, a later one does; each pause is longer than the one before."""
    place.write(place.spec())
    jobs = _Buggy("digits")
    place.agent.passes.reconciler = Reconciler(replace(place.app.ports, jobs=jobs), time.time)
    moments = []
    give_up = time.monotonic() + 60
    while len(moments) < 4:
        place.agent.once()
        if jobs.asked > len(moments):
            moments.append(time.monotonic())
            place.agent.once()  # within the pause
        assert jobs.asked == len(moments)
        assert time.monotonic() < give_up
        time.sleep(0.02)
    first, _, third = (after - before for before, after in pairwise(moments))
    assert first >= 0.5  # a second, give or take
    assert third >= 2  # four seconds, give or take
    jobs.victim = "nobody"
    place.until("it went well", lambda: place.reason("Reconciling") == "ProgressingWithRetry")


def test_a_status_is_written_only_when_it_says_something_new(place: Place) -> None:
    """``said`` is called, and the file written, for changes alone."""
    heard: list[tuple[ModelKey, ModelStatus]] = []
    place.agent.passes.said = lambda key, _, status: heard.append((key, status))
    place.write(place.spec(("  serving: {export: onnx}\n", "  suspend: true\n")))
    place.passes(4)
    assert [(key, status.summary.rpartition("; ")[2]) for key, status in heard] == [(KEY, "suspended")]


def test_a_status_that_was_deleted_is_written_again(place: Place) -> None:
    """Status is a cache: gone or garbled, one pass writes the same, but for the times of its conditions."""
    place.write(place.spec(("  serving: {export: onnx}\n", "")))
    place.proposed()
    before = _timeless(place.status())
    file = place.folder / "state/status/default.digits.json"
    for harm in (file.unlink, lambda: file.write_text("{garbled"), lambda: file.write_text("[]")):
        harm()
        assert place.status() == ModelStatus()
        place.restart().once()
        assert _timeless(place.status()) == before
    place.assert_quiet()


def _timeless(status: ModelStatus) -> ModelStatus:
    return status.model_copy(
        update={"conditions": [c.model_copy(update={"last_transition_time": ""}) for c in status.conditions]}
    )


def test_a_model_that_left_the_trunk_is_withdrawn(place: Place) -> None:
    """Its status goes and its serving ends; but not while any file is broken, for that may be the one it is in."""
    place.write(place.spec())
    place.released()
    assert list(place.app.servers.names()) == ["digits"]
    place.write({FILE: None, "new.yaml": "kind: ModelSpec\nmetadata: {name: [\n"})
    place.passes(3)
    assert list(place.app.servers.names()) == ["digits"]
    assert place.statuses.read(KEY) != ModelStatus()
    place.write({"new.yaml": None})
    place.passes(2)
    assert list(place.app.servers.names()) == []
    assert list(place.statuses.items()) == []
    place.assert_quiet()


def test_a_forge_that_fails_stops_nothing_for_good(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Trouble that concerns all models is logged once, not each pass, and the agent goes on when it is over."""
    place.write(place.spec(("  serving: {export: onnx}\n", "  suspend: true\n")))
    caplog.set_level(logging.WARNING, "trunkline.agent")
    place.agent.passes.reconciler = Reconciler(replace(place.app.ports, forge=_Deaf()), time.time)
    assert [place.agent.once() for _ in range(3)] == [True, True, True]
    assert caplog.text.count("nobody answers") == 1
    place.agent.passes.reconciler = place.app.reconciler()
    assert not place.agent.once() or not place.agent.once()
    assert place.reason("Ready") == "Suspended"


def test_a_sweep_that_fails_is_tried_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Servers that cannot be asked for their names end no pass."""
    place.write(place.spec(("  serving: {export: onnx}\n", "  suspend: true\n")))
    caplog.set_level(logging.WARNING, "trunkline.agent")
    place.agent.servers = _Deaf()
    place.passes(2)
    assert "nobody answers" in caplog.text
    assert place.reason("Ready") == "Suspended"


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    """A second agent on the same state is refused with what to do; the lock goes with its holder."""
    first = OnlyOne(tmp_path / "state")
    with pytest.raises(Stalled, match="stop it first") as caught:
        OnlyOne(tmp_path / "state")
    assert caught.value.reason == "AgentRuns"
    OnlyOne(tmp_path / "other")
    del first
    OnlyOne(tmp_path / "state")


def test_forever_ends_when_told(place: Place) -> None:
    """It looks at once, then at its pace, and does not sleep through the word to stop."""
    place.write(place.spec(("  serving: {export: onnx}\n", "  suspend: true\n")))
    stop = Event()
    thread = Thread(target=place.agent.forever, args=(600, stop))
    thread.start()
    until(lambda: place.reason("Ready") == "Suspended")
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_once_ends_when_only_people_can_go_on(place: Place) -> None:
    """``agent --once`` trains and proposes, and exits although the proposal waits; so when gates fail or people say no.

    A second ``--once`` finds nothing to do, and ends as well.
    """
    place.write(place.spec(("  serving: {export: onnx}\n", "")))
    first = process(place.folder, "agent", "--once")
    assert first.returncode == 0, first.stderr
    assert "waits for a person to merge it" in first.stderr
    (pull,) = place.open_pulls()
    before = place.world()
    assert process(place.folder, "agent", "--once").returncode == 0
    assert place.world() == before
    place.forge().close(pull.number, comment="no")
    place.settle()
    assert place.reason("Proposed") == "ProposalRejected"
    place.change("min: 0.9", "min: 0.99")
    place.settle()
    assert place.reason("GatesPassed") == "GateFailed"
    place.assert_quiet()


def test_once_ends_when_the_repository_is_full(place: Place) -> None:
    """Ten open proposals of other models are enough: this one says so, pushes nothing, and nobody waits for it."""
    place.write(place.spec(("  serving: {export: onnx}\n", "")))
    for number in range(10):
        branch = f"trunkline/promote/default.other-{number}/{'a' * 12}"
        place.hub.commit({f"notes/{number}": "x"}, branch=branch, start="main")
        place.forge().open(branch=branch, title="t", body="b")
    place.settle()
    assert place.reason("Proposed") == "ProposalLimit"
    assert len(place.open_pulls()) == 10
    place.assert_quiet()
    place.forge().close(1, comment="no")
    place.settle()
    assert place.reason("Proposed") == "PullRequestOpen"


def test_sigterm_ends_the_agent_and_down_ends_the_rest(place: Place) -> None:
    """A stopped agent leaves jobs and server alone; `trunkline down` leaves no process behind."""
    place.write(place.spec())
    place.released()
    (place.log / "hold-train").touch()
    place.change("epochs: 8", "epochs: 9")
    agent = start(place.folder, "agent", "--interval", "600")
    try:
        until(lambda: place.app.jobs.running() and place.reason("Trained") == "Training")
        refused = process(place.folder, "agent", "--once")
        assert refused.returncode == 1
        assert "AgentRuns" in refused.stderr
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    finally:
        agent.kill()
        agent.communicate()
    (job,) = place.app.jobs.running()
    assert isinstance(place.app.servers, LocalServers)
    assert place.app.servers.url()
    assert len(alive_with("STORY_LOG", str(place.log))) >= 2
    assert said(place.folder, "down") == "stopped the server and 1 job\n"
    until(lambda: not alive_with("STORY_LOG", str(place.log)))
    assert place.app.servers.url() is None
    assert said(place.folder, "down") == "stopped the server and 0 jobs\n"
    (place.log / "hold-train").unlink()
    place.restart()
    place.until("all goes on where it was", place.open_pulls)
    assert place.jobs().count(job) == 2
    assert Statuses(place.folder / "state/status").read(KEY).serving is not None


def test_an_agent_is_made_of_its_ports(place: Place) -> None:
    """The composition root's own agent does what the tests' does."""
    from controller.commands.agent import make_agent

    assert isinstance(make_agent(place.app), Agent)
    assert not make_agent(place.app).once() or place.hub.heads() == {}
