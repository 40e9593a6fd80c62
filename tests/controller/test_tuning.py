"""A search from the file to the merged answer, with agent, git and forge; only the trials are pretended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.names import parse_branch
from tests.support.gitrepo import git
from tests.support.place import Place
from tests.support.typed import said, trunkline

pytestmark = pytest.mark.xdist_group("agent")
TUNING = """\
  tuning:
    objective: {type: maximize, metric: metrics/accuracy_top1}
    maxTrialCount: 2
    parameters: [{name: lr0, type: double, min: 0.001, max: 0.1}]
  exports:
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


def kinds(place: Place) -> list[str]:
    """Give the kinds of all jobs that ran, oldest first."""
    return [job.partition("-")[0] for job in place.jobs()]


def test_what_a_search_finds_is_asked_for_merged_and_trained(place: Place) -> None:
    """One search, one pull request with its evidence; merging it trains, releases, and searches no more.

    Nothing serves or changes without being merged, the proof of the past accepts all of it, and then there is rest.
    """
    place.write(place.spec(("  exports:\n", TUNING)))
    assert place.released() == 1
    pull = place.proposed()
    parsed = parse_branch(pull.branch)
    assert parsed is not None
    assert parsed[0] == "tune"
    assert "accuracy_top1 0.6, 0.5 before, in 2 trials" in pull.title
    shown = git(place.hub.path, "diff", "--name-only", "main", pull.branch).split()
    folder = next(path for path in shown if path.endswith("tuning.json")).rpartition("/")[0]
    evidence = [f"{folder}/{name}" for name in ("history.png", "report.md", "tuning.json")]
    assert sorted(shown) == ["digits.yaml", *evidence]
    place.assert_quiet()

    place.forge().merge(pull.number)
    assert "args: {epochs: 8, imgsz: 32, lr0: 0.1}" in place.read()
    assert place.released() == 2
    place.settle()
    assert (kinds(place).count("tune"), kinds(place).count("train")) == (1, 2)
    assert place.condition("Tuned").message == "accuracy_top1 0.6, 0.5 before, in 2 trials"
    assert place.open_pulls() == []
    assert "nothing is wrong" in said(place.folder, "verify-history", "--strict", "--require-pull-request")
    place.assert_quiet()


def test_the_trials_are_shown(place: Place) -> None:
    """``trunkline tuning`` shows what was tried and which was best, for people and for programs."""
    place.write(place.spec(("  exports:\n", TUNING)))
    assert "not begun" in said(place.folder, "tuning", "digits")
    place.until("the search is over", lambda: place.reason("Tuned") in ("PullRequestOpen", "TooManyProposals"))
    text = said(place.folder, "tuning", "digits")
    assert "done after 2 of 2 trials" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["0", "0.5", "0.001", "1", "s", "as", "it", "was"], ["1", "0.6", "0.1", "1", "s", "best"]
    ]  # fmt: skip
    told = json.loads(said(place.folder, "tuning", "digits", "--json"))
    assert (told["status"], told["best"], len(told["trials"])) == ("Succeeded", 1, 2)


def test_a_model_without_a_search_says_so(place: Place) -> None:
    """The message tells what is missing."""
    place.write(place.spec())
    result = trunkline(place.folder, "tuning", "digits")
    assert result.exit_code == 1
    assert "has no spec.tuning" in str(result.exception)
