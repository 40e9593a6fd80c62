"""What the forge says about commits: asked once, kept, asked again only where that may help."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.arrivals import ForgeArrivals
from specs.errors import Stalled, Transient
from specs.facts import Arrival
from tests.support.fake_reviews import FakeReviews, merged

COMMIT, OTHER = "a" * 40, "b" * 40
DOWN = Transient("ForgeUnavailable", "no answer")


def approved(arrival: Arrival) -> bool:
    """What a host that wants one approval asks."""
    return arrival.pull is not None and bool(arrival.approved_by)


class Bench:
    """A forge, a folder, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.forge = folder, 1e9, FakeReviews()
        self.arrivals = self.fresh()

    def fresh(self) -> ForgeArrivals:
        """Give one that was just started."""
        self.arrivals = ForgeArrivals(self.forge, self.folder, lambda: self.now)
        return self.arrivals


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh one, whose forge knows one commit."""
    made = Bench(tmp_path)
    made.forge.pulls[COMMIT] = merged(7, COMMIT)
    made.forge.approved[7] = ["bob"]
    return made


def test_many_models_of_a_commit_cost_one_question(bench: Bench) -> None:
    """Whoever asks, and however many at once."""
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: bench.arrivals.of(COMMIT), range(50)))
    assert found == {Arrival(True, 7, merged(7, COMMIT).url, "ada")}
    assert bench.forge.asked == ["pull of aaaa"]


def test_what_was_said_outlives_the_process(bench: Bench) -> None:
    """A new one reads it from its folder; a file that was cut off is asked for again."""
    before = bench.arrivals.of(COMMIT, enough=approved)
    assert before.approved_by == ("bob",)
    assert bench.fresh().of(COMMIT, enough=approved) == before
    assert len(bench.forge.asked) == 2
    (file,) = bench.folder.rglob("*.json")
    file.write_text(file.read_text()[:20])
    assert bench.fresh().of(COMMIT, enough=approved) == before
    assert len(bench.forge.asked) == 4


def test_a_folder_that_cannot_be_written_costs_questions_only(bench: Bench) -> None:
    """Memory is enough while the process lives."""
    bench.folder.joinpath("arrivals").write_text("in the way")
    assert bench.arrivals.of(COMMIT).pull == 7
    assert bench.arrivals.of(COMMIT).pull == 7
    assert bench.forge.asked == ["pull of aaaa"]


def test_approvals_are_asked_for_only_where_they_matter(bench: Bench) -> None:
    """Once they are wanted, what was learned without them is not enough."""
    assert bench.arrivals.of(COMMIT).approved_by is None
    assert bench.arrivals.of(COMMIT, enough=lambda arrival: arrival.pull is not None).approved_by is None
    assert bench.arrivals.of(COMMIT, enough=approved).approved_by == ("bob",)
    assert [each for each in bench.forge.asked if "approvals" in each] == ["approvals of 7"]


def test_yes_is_final(bench: Bench) -> None:
    """An approval that is dismissed after the merge changes nothing, at once or ever."""
    assert approved(bench.arrivals.of(COMMIT, enough=approved))
    bench.forge.approved.clear()
    bench.now += 1e6
    assert approved(bench.arrivals.of(COMMIT, enough=approved))
    assert approved(bench.fresh().of(COMMIT, enough=approved))


def test_no_is_asked_again_ever_more_rarely(bench: Bench) -> None:
    """A forge lags, an approval comes late: both are seen, and looking all the time asks seldom."""
    bench.forge.pulls.clear()
    for _ in range(4 * 3600):
        assert bench.arrivals.of(COMMIT, enough=approved) == Arrival(asked=True)
        bench.now += 1
    assert len(bench.forge.asked) < 12
    bench.forge.pulls[COMMIT] = merged(7, COMMIT)
    bench.now += 3600
    assert approved(bench.arrivals.of(COMMIT, enough=approved))


def test_a_pull_request_that_is_not_merged_brought_nothing(bench: Bench) -> None:
    """Whatever a forge may call the pull request of a commit."""
    open_ = FakeReviews({COMMIT: merged(7, COMMIT)})
    open_.pulls[COMMIT] = type(open_.pulls[COMMIT])(**{**vars(open_.pulls[COMMIT]), "state": "open"})
    assert ForgeArrivals(open_, bench.folder / "x").of(COMMIT) == Arrival(asked=True)


def test_a_forge_that_cannot_be_asked_blocks_nobody_who_need_not_know(bench: Bench) -> None:
    """It is left alone for a while, so that a slow one is not waited for by every model."""
    bench.forge.trouble = DOWN
    assert bench.arrivals.of(COMMIT) == Arrival()
    assert bench.arrivals.of(OTHER) == Arrival()
    assert len(bench.forge.asked) == 1
    bench.forge.trouble = None
    bench.now += 61
    assert bench.arrivals.of(COMMIT).pull == 7


def test_who_must_know_hears_of_the_trouble(bench: Bench) -> None:
    """Unless something was said before: that holds until something else is."""
    bench.forge.trouble = DOWN
    for _ in range(2):
        with pytest.raises(Transient, match="no answer"):
            bench.arrivals.of(COMMIT, enough=approved)
    assert len(bench.forge.asked) == 1
    bench.now, bench.forge.trouble, bench.forge.approved = bench.now + 31, None, {}
    assert bench.arrivals.of(COMMIT, enough=approved).approved_by == ()
    bench.now, bench.forge.trouble = bench.now + 3600, DOWN
    for arrivals in (bench.arrivals, bench.fresh()):
        assert arrivals.of(COMMIT, enough=approved).approved_by == ()


def test_no_to_one_commit_is_no_trouble_for_others(bench: Bench) -> None:
    """A forge that refuses one question is asked the next one."""
    bench.forge.trouble = Stalled("ForgeRefused", "no such commit")
    assert bench.arrivals.of(OTHER) == Arrival()
    bench.forge.trouble = None
    assert bench.arrivals.of(COMMIT).pull == 7


def test_curiosity_leaves_the_quota_to_others(bench: Bench) -> None:
    """Ten thousand commits that nobody needs to know about ask no more than some hundred questions an hour."""
    commits = [f"{number:040x}" for number in range(2_000)]
    for commit in commits:
        bench.arrivals.of(commit)
    curious = len(bench.forge.asked)
    assert curious <= 600
    assert approved(bench.arrivals.of(COMMIT, enough=approved))
    bench.now += 3600
    for commit in commits:
        bench.arrivals.of(commit)
    assert curious < len(bench.forge.asked) <= 2 * curious + 2
