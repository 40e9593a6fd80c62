"""A retraining that a signal asks for, from the windows to the proof of the past, with real git, forge and store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specs.names import parse_branch
from specs.status import ConditionType, Reason
from tests.support.fakes import FakeTraffic
from tests.support.gitrepo import git
from tests.support.released import Released, Repo, begun
from tests.support.typed import said, trunkline

HOUR = 3600
WATCHED = """\
  monitoring:
    window: 1h
    signals: [{name: errors, type: ErrorRate, max: 0.05}]
  triggers: {onSignal: [errors]}
  gates:
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """Give a place with a model that serves, and whose signal fires: the question is open."""
    place = begun(tmp_path_factory.mktemp("asked") / "place")
    place.merge()
    place.traffic = FakeTraffic()
    place.change(("  gates:\n", WATCHED))
    for _ in range(3):
        place.traffic.had(1, place.now - place.now % HOUR, HOUR, errors=0.2)
        place.now += HOUR
    place.converge()
    return place


@pytest.fixture(scope="module")
def answered(asked: Released) -> Released:
    """Give the place after people merged the question, and the release that came of it."""
    asked.merge()
    asked.merge()
    return asked


def test_the_question_changes_one_value_and_brings_evidence(asked: Released) -> None:
    """The nonce is named after the episode; the branch is proved as a proposal of its intent."""
    pull = asked.opened()
    parsed = parse_branch(pull.branch)
    assert parsed is not None
    assert parsed[0] == "retrain"
    (signal,) = asked.status.signals
    assert (signal.state, signal.n) == ("Firing", 1000)
    shown = git(asked.path, "diff", "--name-only", "main", pull.branch).split()
    folder = f"evidence/default.digits/signals/{signal.episode}"
    assert sorted(shown) == ["digits.yaml", f"{folder}/report.md", f"{folder}/signals.json"]
    assert f"nonce: {signal.episode}" in git(asked.path, "show", f"{pull.branch}:digits.yaml")
    told = json.loads(git(asked.path, "show", f"{pull.branch}:{folder}/signals.json"))
    assert [window["value"] for window in told["signals"][0]["windows"]] == [0.2] * 3


def test_what_merging_it_would_do_is_said(asked: Released) -> None:
    """By the same function that does it."""
    text = said(asked.folder, "plan", "--pr", str(asked.opened().number))
    assert "retrains" in text
    assert "watches" not in text


def test_merged_it_trains_anew_and_the_past_is_proved(answered: Released) -> None:
    """Another run, another release, and nothing wrong in a history with a retraining in it."""
    place = answered
    assert place.status.version == 2
    proposed = place.status.condition(ConditionType.PROPOSED)
    assert proposed is not None
    assert proposed.reason == Reason.RELEASED
    runs = [key for key in place.store.list("runs/") if key.endswith("run.json")]
    assert len(runs) == 2
    assert "nothing is wrong" in said(place.folder, "verify-history", "--deep", "--strict", "--require-pull-request")


def test_a_retraining_that_changes_more_shows(answered: Repo, tmp_path: Path) -> None:
    """Whatever else comes with it, files or values, is found."""
    place = answered.copied(tmp_path / "place")
    message = "Retrain\n\nTrunkline-Intent: retrain\nTrunkline-Model: default/digits"
    text = place.read()
    nonce = next(line for line in text.splitlines() if "nonce:" in line)
    again = text.replace(nonce, nonce + "-2")
    place.commit({"digits.yaml": again, "evidence/default.digits/signals/x/signals.json": "{}"}, message)
    done = trunkline(place.folder, "verify-history", "--json")
    assert [each["code"] for each in json.loads(done.stdout)["findings"]] == ["EditOutsidePath"]
    place = answered.copied(tmp_path / "other")
    place.commit({"digits.yaml": again.replace("epochs: 8", "epochs: 80")}, message)
    done = trunkline(place.folder, "verify-history", "--json")
    assert {each["code"] for each in json.loads(done.stdout)["findings"]} == {"EditOutsidePath"}
