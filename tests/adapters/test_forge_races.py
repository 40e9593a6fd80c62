"""Two controllers at once, many proposals at once: no duplicate, no lost update, on every forge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from specs.facts import Check, CheckState, PullState
from tests.support.forge_stage import ALL, Adapter, Stage, stage

BRANCH = "trunkline/promote/default.digits/0123456789ab"
MARK = "<!-- trunkline:closed reason=Superseded -->"


@pytest.fixture(params=ALL)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Give each forge in turn."""
    with stage(request.param, tmp_path) as found:
        yield found


def together(forges: Sequence[Adapter], act: Callable[[Adapter, int], object]) -> list[object]:
    """Let each controller do the same in its own thread, all beginning at one moment."""
    begin = Barrier(len(forges))

    def run(place: int) -> object:
        begin.wait()
        return act(forges[place], place)

    with ThreadPoolExecutor(len(forges)) as pool:
        return list(pool.map(run, range(len(forges))))


def test_two_who_open_the_same_get_the_same(here: Stage) -> None:
    """Invariant 5: one pull request, both are told of it."""
    here.push(BRANCH)
    numbers = together(
        [here.another(), here.another(), here.forge, here.forge],
        lambda forge, _: forge.open(branch=BRANCH, title="T", body="B").number,
    )
    assert numbers == [1] * 4
    assert here.count() == 1


def test_two_who_say_the_same_leave_one_comment(here: Stage) -> None:
    """A sticky comment stays one, whoever began it."""
    here.push(BRANCH)
    here.forge.open(branch=BRANCH, title="T", body="B")
    together([here.another(), here.another()], lambda forge, _: forge.say(1, "Hello", marker="<!-- plan -->"))
    here.forge.say(1, "Hello", marker="<!-- plan -->")
    assert [text.rstrip() for text in here.comments(1)] == ["Hello\n\n<!-- plan -->"]


def test_two_who_close_the_same_close_it_once(here: Stage) -> None:
    """One comment, one mark; both come to an end."""
    here.push(BRANCH)
    here.forge.open(branch=BRANCH, title="T", body="B")
    together([here.another(), here.another()], lambda forge, _: forge.close(1, comment="Bye", mark=MARK))
    (pull,) = here.another().list()
    assert (pull.state, pull.body.count(MARK)) == (PullState.CLOSED, 1)
    assert len(here.comments(1)) == 1


def test_checks_set_at_once_are_all_there(here: Stage) -> None:
    """Different checks on one commit do not push each other out."""
    head = here.push(BRANCH)
    forges = [here.another() for _ in range(4)]
    together(forges, lambda forge, n: forge.report(head, Check(f"check-{n}", CheckState.SUCCESS, "fine")))
    assert set(here.checks(head)) == {f"check-{number}" for number in range(4)}


def test_a_hundred_proposals_race(here: Stage) -> None:
    """Two controllers open and reword the same hundred from both ends: each is there once, with the last words."""
    branches = here.branches(100)
    forges = [here.another(), here.another()]

    def propose(forge: Adapter, place: int) -> None:
        # Neighbours meet in the middle, and at the ends each finds what the other one did.
        for branch in branches if place == 0 else reversed(branches):
            pull = forge.open(branch=branch, title="T", body="B")
            if branch in branches[40:60]:
                forge.update(pull.number, title=f"About {branch[-12:]}", body="B2")

    together(forges, propose)
    found = here.another().list()
    assert sorted(pull.branch for pull in found) == branches
    assert {pull.branch[-12:] for pull in found if pull.title.startswith("About")} == {b[-12:] for b in branches[40:60]}
    assert all(pull.title == f"About {pull.branch[-12:]}" for pull in found if pull.body.rstrip() == "B2")
    assert here.count() == 100
    before = here.written()
    for forge in forges:
        assert len(forge.list()) == 100
    assert here.written() == before
