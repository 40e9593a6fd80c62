"""A bad release, for real: its gates passed, live traffic disagrees, and the agent is killed while it falls back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from specs.facts import PullRequest
from specs.modelspec import ModelKey
from tests.support.customers import Customers
from tests.support.living import until
from tests.support.place import ROOT, Place

pytestmark = [pytest.mark.ml, pytest.mark.xdist_group("live gate")]
KEY = ModelKey("default", "digits")
SETTINGS = "[monitoring]\npoll = 0.1\n"
TRIED = ("  serving: {export: onnx}\n", "  serving: {export: onnx, strategy: {bakeTime: BAKE}}\n")
SPARED = ("repository", "forge", "jobs", "statuses")
"""Ports at whose effects nobody is killed: those stories are told elsewhere."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose agent asks the server for its traffic often; its agent and server are ended."""
    place = Place(tmp_path / "place", tables=SETTINGS, at_once=True)
    yield place
    place.stop()


@contextmanager
def agents(place: Place) -> Iterator[None]:
    """Let agents live one after the other, each killed before or after an effect on what serves."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (place.log / "agent").open("ab") as words:
        command = [sys.executable, "-m", "tests.support.crashing_agent", str(place.folder), "around", *SPARED]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=words, stderr=words)
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def released(place: Place, bake: str) -> str:
    """Have v1 serve, and give the server's address."""
    place.write(place.spec((TRIED[0], TRIED[1].replace("BAKE", bake))))
    assert place.released() == 1
    url = place.app.servers.url()
    assert url is not None
    return url


def seen(place: Place, true: Callable[[], bool]) -> None:
    """Wait until something shows, while others work."""
    try:
        until(true, 90)
    except AssertionError as error:
        words = (place.log / "agent").read_text()[-1500:] if (place.log / "agent").exists() else ""
        raise AssertionError(f"never; {place.status()}; {words}") from error


def opened(forge: LocalForge, intent: str) -> list[PullRequest]:
    """Give the open proposals of an intent."""
    return [pull for pull in forge.list("") if f"/{intent}/" in pull.branch and pull.state.value == "open"]


def test_a_bad_release_is_rolled_back_without_a_lost_request(place: Place) -> None:
    """v2 is trained, passes its gates and is merged; live pictures leave it unsure, which v1 was not.

    So v1 serves again by itself, no request is lost, though the agent is killed before and after both rollouts; git is
    asked to follow, in words and numbers, and once that is merged nothing is left to do.
    """
    url = released(place, "1h")
    old = place.status().serving
    assert old is not None
    place.change("epochs: 8,", "epochs: 8, dropout: 0.5,")
    proposed = place.proposed()
    with Customers(url).come() as customers:
        seen(place, lambda: customers.answers[1] >= 60)
        with agents(place):
            place.forge().merge(proposed.number)
            seen(place, lambda: place.reason("GitBehind") != "" and opened(place.forge(), "rollback") != [])
            answered = customers.answers.copy()
            seen(place, lambda: customers.answers[1] >= answered[1] + 60)
        assert customers.answers[2] == answered[2], "v2 was given up for good"
    assert customers.failures == []
    killed = [line.rpartition(" ")[0] for line in (place.log / "killed").read_text().splitlines()]
    assert killed == [
        "servers.roll_out v2", "after servers.roll_out v2", "servers.roll_out v1", "after servers.roll_out v1",
    ]  # fmt: skip
    conditions = {c.type: c for c in place.status().conditions}
    assert (conditions["LiveGate"].status, conditions["LiveGate"].reason) == ("False", "LiveGateFailed")
    assert conditions["LiveGate"].message.startswith("v2 failed: mean top confidence: 0.")
    assert conditions["GitBehind"].status == "True"
    (rollback,) = opened(place.forge(), "rollback")
    assert "passed its gates, and live traffic disagrees: v1 serves again." in rollback.body
    assert "**too low** |" in rollback.body
    place.restart()
    place.settle()
    place.forge().merge(rollback.number)
    place.until("git says so", lambda: place.reason("Serving") == "ReleaseServing")
    place.settle()
    state = place.app.servers.state("digits")
    assert state is not None
    assert (state.version, state.file, state.rejected) == (3, old.file, None)
    assert "reason: failed live gate" in place.read()
    assert place.reason("GitBehind") == place.reason("LiveGate") == ""
    place.assert_quiet()


def test_a_good_release_passes_its_trial(place: Place) -> None:
    """v2 does as well in live traffic as v1 did, so that it passes when its trial is over, and then all is quiet."""
    url = released(place, "1h")
    place.change("epochs: 8,", "epochs: 9,")
    proposed = place.proposed()
    with Customers(url).come() as customers:
        seen(place, lambda: customers.answers[1] >= 120)
        place.forge().merge(proposed.number)
        place.until("it is on trial", lambda: place.reason("LiveGate") == "Baking" and customers.answers[2] >= 120)
        place.skew = 7200
        place.until("it is judged", lambda: place.reason("LiveGate") not in ("Baking", "BakeInconclusive"))
    passed = next(c for c in place.status().conditions if c.type == "LiveGate")
    assert (passed.status, passed.message.partition(":")[0]) == ("True", "v2 passed beside v1"), passed.message
    assert customers.failures == []
    place.settle()
    place.assert_quiet()
