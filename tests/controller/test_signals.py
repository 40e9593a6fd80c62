"""``trunkline signals``: windows as people see them, and the cache behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from controller.cli import cli
from controller.commands.signals import view
from controller.readings import ModelReadings, Readings
from controller.statuses import Statuses
from reconcilers.observed import Judgement, Observed, Reading
from specs.modelspec import ModelKey
from specs.monitoring import Monitoring, Signal
from specs.serving_facts import ServingState
from specs.status import ModelStatus, SignalStatus
from tests.support import builders

KEY = ModelKey("default", "digits")
WATCHED = Monitoring(window="1h", signals=[
    Signal(name="accuracy", type="EstimatedAccuracy", min=0.85), Signal(name="latency", type="Latency", max="80ms"),
])  # fmt: skip
HOURS = [
    Reading(3600.0, Judgement.PASSING, 500, 0.93, 0.91, 0.95), Reading(7200.0, Judgement.INCONCLUSIVE, 3),
    Reading(10800.0, Judgement.FAILING, 510, 0.7, 0.66, 0.74),
]  # fmt: skip
FIRES = SignalStatus(name="accuracy", state="Firing", since="1970-01-01T03:00:00Z", episode="accuracy-v7-x")


def observed(*accuracy: Reading) -> Observed:
    """Give a world in which one signal said something, and the other one nothing yet."""
    world = builders.observed()
    source = replace(world.source, key=KEY)
    serving = ServingState("digits", ready=True, version=7)
    return replace(world, source=source, serving=serving, readings={"accuracy": accuracy})


def kept(folder: Path) -> ModelReadings:
    """Keep three windows, and give them as they are read."""
    readings = Readings(folder / "readings")
    spec = builders.spec().model_copy(update={"monitoring": WATCHED})
    readings.keep(spec, observed(*HOURS))
    return readings.read(KEY)


def test_windows_are_drawn_with_value_interval_and_bound(tmp_path: Path) -> None:
    """The newest window that says anything is the one in numbers; one without enough traffic is a dot."""
    status = ModelStatus(signals=[FIRES])
    out = Console(width=120)
    with out.capture() as drawn:
        out.print(view(KEY, kept(tmp_path), status))
    lines = drawn.get().splitlines()
    assert "v7, windows of 1h" in lines[0]
    for word in ("accuracy", "Firing", "0.7", "0.66 to 0.74", "510", "≥ 0.85", "█·▁", "01-01 01:00"):
        assert word in lines[2], word
    assert "no window is over yet" in lines[3]
    assert "≤ 80ms" in lines[3]
    assert lines[4].startswith("accuracy fires since 1970-01-01T03:00:00Z")


def test_nothing_new_is_not_written_again(tmp_path: Path) -> None:
    """Passes come by every other second, windows end once an hour."""
    kept(tmp_path)
    file = tmp_path / "readings/default.digits.json"
    before = file.stat().st_mtime_ns
    kept(tmp_path)
    assert file.stat().st_mtime_ns == before
    Readings(tmp_path / "readings").keep(builders.spec(), observed())
    assert not file.exists(), "nobody watches any more"


def test_programs_get_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All windows with their numbers, and how the signal stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trunkline.toml").write_text('repository = "r"\nstore = "s"\nstate = "."\n')
    kept(tmp_path)
    Statuses(tmp_path / "status").write(KEY, ModelStatus(signals=[FIRES]))
    answer = CliRunner().invoke(cli, ["signals", "digits", "--json"])
    found = json.loads(answer.output)["default/digits"]
    assert [each["judgement"] for each in found["signals"][0]["windows"]] == ["Passing", "Inconclusive", "Failing"]
    assert found["signals"][0]["status"]["state"] == "Firing"
    (tmp_path / "readings/default.digits.json").write_text("nonsense")
    shown = CliRunner().invoke(cli, ["signals"])
    assert "nothing is watched" in shown.output
