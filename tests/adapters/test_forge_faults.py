"""Forges behind HTTP when things go wrong: errors, lost and slow answers, limits, pages, lists that are behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specs.errors import Stalled, Transient
from specs.facts import Check, CheckState, PullState
from tests.support.forge_stage import LABEL, REMOTE, Adapter, RemoteStage, remote_stage
from tests.support.gitrepo import git

BRANCH = "trunkline/promote/default.digits/0123456789ab"
MARK = "<!-- trunkline:closed reason=Superseded -->"


@pytest.fixture(params=REMOTE)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RemoteStage]:
    """Give each forge behind HTTP in turn."""
    with remote_stage(request.param, tmp_path) as found:
        yield found


def opened(here: RemoteStage, branch: str = BRANCH) -> int:
    """Push a branch and open its pull request."""
    here.push(branch)
    return here.forge.open(branch=branch, title="T", body="B").number


# ------------------------------------------------------------------------------------------------- every request


def _open(forge: Adapter, branch: str) -> None:
    forge.open(branch=branch, title="T", body="B")


def _number(forge: Adapter, branch: str) -> int:
    return next(pull.number for pull in forge.list() if pull.branch == branch)


ACTS: dict[str, Callable[[Adapter, int, str], Any]] = {
    "open": lambda forge, number, branch: _open(forge, branch),
    "update": lambda forge, number, branch: forge.update(number, title="T2", body="B2"),
    "close": lambda forge, number, branch: forge.close(number, comment="Bye", mark=MARK),
    "reopen": lambda forge, number, branch: forge.reopen(number),
    "say": lambda forge, number, branch: forge.say(number, "Hello", marker="<!-- plan -->"),
    "say anew": lambda forge, number, branch: forge.say(number, "Hello again", marker="<!-- plan -->"),
    "report": lambda forge, number, branch: forge.report(branch, Check("trunkline/plan", CheckState.SUCCESS, "fine")),
    "auto-merge": lambda forge, number, branch: forge.merge_when_allowed(number),
}
BEFORE = {"reopen": "close", "say anew": "say"}
TROUBLES: dict[str, dict[str, Any]] = {
    "cut": {"status": 0},
    "answer lost": {"status": 0, "after": True},
    "500": {"status": 500},
    "502 after the effect": {"status": 502, "after": True},
    "429": {"status": 429, "headers": {"Retry-After": "5"}},
}


def play(here: RemoteStage, act: str, branch: str, fault: dict[str, Any] | None = None, *, anew: bool = False) -> str:
    """Do one act on a pull request of its own, with a fault; again until done. Give the verbs of its requests."""
    forge = here.another()
    if act != "open":
        _open(forge, branch)
    number = _number(forge, branch) if act != "open" else 0
    target = here.hub.head("many") if act == "report" else branch
    if act in BEFORE:
        ACTS[BEFORE[act]](forge, number, target)
    before = len(here.server.calls)
    if fault is not None:
        here.server.fault("", "", **fault)
    try:
        ACTS[act](forge, number, target)
    except Transient:
        assert fault is not None
        here.now += 10
        forge = here.another() if anew else forge
        forge.list()
        ACTS[act](forge, number, target)
    verbs = " ".join(call.verb for call in here.server.calls[before:])
    here.now += 10
    forge.list()
    assert here.server.faultless
    return verbs


def outcome(here: RemoteStage, branch: str) -> object:
    """Give everything that must be the same, whatever went wrong on the way."""
    (pull,) = [pull for pull in here.server.pulls.values() if pull.branch == branch]
    (seen,) = [pull for pull in here.another().list() if pull.branch == branch]
    told = replace(seen, number=0, branch="", url="", opened=0, closed=bool(seen.closed), body=seen.body.rstrip())
    return told, pull.labels, [comment.body.rstrip() for comment in pull.comments]


@pytest.mark.parametrize("act", ACTS)
def test_whatever_fails_is_done_once_in_the_end(here: RemoteStage, act: str) -> None:
    """Each request of each act fails in each way: done again, also by another controller, the end is the same."""
    names = iter(here.branches(40))
    first = next(names)
    verbs = play(here, act, first).split()
    wanted, played = outcome(here, first), 1
    for nth, verb in enumerate(verbs):
        for trouble, fault in TROUBLES.items():
            if verb == "GET" and "after" in fault:
                continue  # it has no effect
            # Labels that could not be set wait in memory; they are worth no look at every pull request.
            anew = act != "open" and played % 2 == 0
            here.server.statuses.clear()
            branch = next(names)
            play(here, act, branch, {**fault, "skip": nth}, anew=anew)
            assert outcome(here, branch) == wanted, (trouble, nth, anew)
            assert act != "report" or list(here.checks(here.hub.head("many"))) == ["trunkline/plan"]
            played += 1
    assert here.count() == played


# ------------------------------------------------------------------------------------------------- being told no


@pytest.mark.parametrize(("status", "headers", "words"), [
    (429, {"Retry-After": "30"}, "slow down"),
    (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000030"}, "quota spent"),
    (403, {"Retry-After": "30"}, "You have exceeded a secondary rate limit"),
    (503, {"Retry-After": "30"}, "maintenance"),
])  # fmt: skip
def test_a_limit_is_kept_without_a_request(
    here: RemoteStage, status: int, headers: dict[str, str], words: str
) -> None:
    """Told to wait, nobody is asked anything until then; afterwards all is as ever."""
    here.now = 1_800_000_000.0
    here.server.fault("GET", "", status, headers=headers, words=words)
    with pytest.raises(Transient) as caught:
        here.forge.list()
    assert caught.value.reason == "ForgeRateLimited"
    assert "30 s" in caught.value.message
    asked = len(here.server.calls)
    here.now += 29
    for act in (here.forge.list, lambda: here.forge.update(1, title="t", body="b")):
        with pytest.raises(Transient, match="1 s are left"):
            act()
    assert len(here.server.calls) == asked
    here.now += 1
    assert here.forge.list() == ()


def test_a_secondary_limit_without_a_header_is_a_limit(here: RemoteStage) -> None:
    """Words alone must do: a minute's pause."""
    here.server.fault("GET", "", 403, words="You have exceeded a secondary rate limit")
    with pytest.raises(Transient, match="60 s"):
        here.forge.list()


def test_what_is_forbidden_needs_a_person(here: RemoteStage) -> None:
    """A token without the right is no trouble that passes; nor is one that is not accepted at all."""
    here.push(BRANCH)
    here.server.fault("POST", "", 403, words="Resource not accessible by integration")
    with pytest.raises(Stalled, match="Resource not accessible"):
        here.forge.open(branch=BRANCH, title="T", body="B")
    here.server.token = "renewed"
    with pytest.raises(Stalled) as caught:
        here.forge.list()
    assert caught.value.reason == "ForgeUnauthorized"
    assert "forge-token" not in caught.value.message


def test_a_forge_that_moved_is_not_followed(here: RemoteStage) -> None:
    """A redirect could lead anywhere, and our token with it: a person corrects the address."""
    here.server.fault("GET", "", 301, headers={"Location": "https://elsewhere.example.com/?token=x"})
    with pytest.raises(Stalled, match=r"moved to https://elsewhere\.example\.com") as caught:
        here.forge.list()
    assert caught.value.reason == "ForgeMoved"


def test_a_date_to_wait_for_is_understood(here: RemoteStage) -> None:
    """Retry-After may be a date; one that is past means a moment, one far away an hour at most."""
    here.now = 1_800_000_000.0
    for date, seconds in (("Fri, 15 Jan 2027 08:00:20 GMT", "20 s"), ("Fri, 01 Jan 2010 00:00:00 GMT", "1 s"),
                          ("Fri, 01 Jan 2038 00:00:00 GMT", "3600 s"), ("soon", "60 s")):  # fmt: skip
        here.server.fault("GET", "", 429, headers={"Retry-After": date})
        with pytest.raises(Transient, match=f"wait {seconds}"):
            here.another().list()


def test_a_project_that_is_not_there_is_not_an_empty_one(here: RemoteStage) -> None:
    """404 for the list itself: a wrong name, or a token that may not see it; never `no pull requests`."""
    here.server.fault("GET", "", 404, words="Not Found")
    with pytest.raises(Stalled) as caught:
        here.forge.list()
    assert caught.value.reason == "ProjectUnknown"


def test_a_slow_answer_is_not_waited_for(here: RemoteStage) -> None:
    """The effect happened, the answer did not come in time: Transient, and the same pull request afterwards."""
    here.push(BRANCH)
    release = threading.Event()
    here.server.fault("POST", "", 201, after=True, until=release)
    impatient = REMOTE[here.name][1](here.client(timeout=0.3), here.server.project, branch="main", labels=[LABEL])
    try:
        with pytest.raises(Transient):
            impatient.open(branch=BRANCH, title="T", body="B")
    finally:
        release.set()
    assert here.forge.open(branch=BRANCH, title="T", body="B").number == 1
    assert here.count() == 1


# ------------------------------------------------------------------------------------------------- lists


def test_the_second_look_is_one_request_without_an_answer(here: RemoteStage) -> None:
    """Quiet when done: a poll of a forge where nothing happened costs one request, answered 304."""
    for branch in here.branches(5):
        here.forge.open(branch=branch, title="T", body="B")
    here.forge.list()
    here.server.calls.clear()
    assert len(here.forge.list()) == 5
    assert [(call.verb, call.answer.status) for call in here.server.calls] == [("GET", 304)]


def test_lists_are_read_to_their_end(here: RemoteStage) -> None:
    """Small pages: all pull requests, the sticky comment on a late page, the reviews of all."""
    here.server.page_size = 2
    branches = here.branches(7)
    for branch in branches:
        here.another().open(branch=branch, title="T", body="B")
    assert [pull.branch for pull in here.another().list()] == branches
    here.forge.say(7, "first", marker="<!-- plan -->")
    for number in range(5):
        here.forge.say(7, f"other {number}", marker=f"<!-- {number} -->")
        here.forge.report(here.hub.head("many"), Check(f"check-{number}", CheckState.SUCCESS, "fine"))
        here.review(7, f"person-{number}")
    here.another().say(7, "second", marker="<!-- 4 -->")
    assert len(here.comments(7)) == 6
    assert here.forge.approvals(7) == tuple(f"person-{number}" for number in range(5))
    written = here.written()
    here.another().report(here.hub.head("many"), Check("check-0", CheckState.SUCCESS, "fine"))
    assert here.written() == written


def test_later_looks_read_only_what_changed(here: RemoteStage) -> None:
    """Many old pull requests are read once; after that one page does, however many there are."""
    here.server.page_size, here.server.tick = 5, 100
    for branch in here.branches(20):
        here.forge.open(branch=branch, title="T", body="B")
    forge = here.another()
    assert len(forge.list()) == 20
    here.close(3)
    here.server.calls.clear()
    assert [pull.number for pull in forge.list() if pull.state is PullState.CLOSED] == [3]
    assert len(here.server.calls) == 1


def test_a_list_that_is_behind_loses_nothing(here: RemoteStage) -> None:
    """The forge's list does not know yet what its answers told: we do, and nothing is done twice."""
    here.server.freeze()
    number = opened(here)
    assert [pull.number for pull in here.forge.list()] == [number]
    with pytest.raises(Transient):
        here.another().open(branch=BRANCH, title="T", body="B")
    here.server.thaw()
    assert here.another().open(branch=BRANCH, title="T", body="B").number == number
    assert here.count() == 1
    here.server.freeze()
    here.forge.close(number, comment="Bye", mark=MARK)
    assert [pull.state for pull in here.forge.list()] == [PullState.CLOSED]
    here.another().close(number, comment="Bye", mark=MARK)
    assert len(here.comments(number)) == 1


# ------------------------------------------------------------------------------------------------- traps


def test_a_branch_of_the_same_name_in_a_fork_is_not_ours(here: RemoteStage) -> None:
    """Anybody can fork and name a branch like ours: neither listed nor adopted nor in the way."""
    here.push(BRANCH)
    here.server.create(title="Trojan", body="", branch=BRANCH, base="main", author="eve", fork="eve/models")
    assert here.forge.list() == ()
    pull = here.forge.open(branch=BRANCH, title="T", body="B")
    assert (pull.number, here.forge.list()) == (2, (pull,))


def test_a_branch_that_is_set_back_to_the_base_is_no_merge(here: RemoteStage) -> None:
    """Some forges close such a pull request by themselves; none has merged it."""
    opened(here)
    git(here.hub.path, "update-ref", f"refs/heads/{BRANCH}", here.hub.head())
    (pull,) = here.forge.list()
    assert pull.state is (PullState.CLOSED if here.server.closes_when_empty else PullState.OPEN)
    assert (pull.merge_commit, MARK in pull.body) == (None, False)


def test_texts_are_as_long_as_the_forge_takes_them(here: RemoteStage) -> None:
    """A title and a body beyond all measure are cut, the hidden mark at the end stays, and nothing is written twice."""
    here.push(BRANCH)
    texts = {"title": "x" * 400, "body": "line of a report\n" * 5_000 + "\n<!-- key -->\n"}
    number = here.forge.open(branch=BRANCH, **texts).number
    written = here.written()
    here.forge.update(number, **texts)
    assert here.written() == written
    here.forge.close(number, comment="", mark=MARK)
    (pull,) = here.another().list()
    assert pull.body.rstrip().endswith(f"<!-- key -->\n\n{MARK}")


def test_labels_are_put_on_once(here: RemoteStage) -> None:
    """A person takes our label off: it stays off."""
    number = opened(here)
    assert here.server.pull(number).labels == [LABEL]
    here.server.pull(number).labels.clear()
    for forge in (here.forge, here.another()):
        forge.open(branch=BRANCH, title="T", body="B")
        forge.update(number, title="T2", body="B2")
    assert here.server.pull(number).labels == []


def test_approvals_are_those_that_count(here: RemoteStage) -> None:
    """The latest word of each person who may push, about the last commit; comments take nothing back."""
    number = opened(here)
    for person, verdicts in {
        "ann": ["reject", "approve", "comment"], "bob": ["approve", "reject"], "cy": ["approve"], "reader": ["approve"],
    }.items():  # fmt: skip
        for verdict in verdicts:
            here.review(number, person, verdict)
    assert here.forge.approvals(number) == ("ann", "cy")
    here.server.dismiss(number, "cy")
    assert here.forge.approvals(number) == ("ann",)


def test_the_forge_merges_by_itself_when_it_may(here: RemoteStage) -> None:
    """Asked once; the list says so; when what protects the branch is satisfied, it is merged."""
    number = opened(here)
    for forge in (here.forge, here.another()):
        forge.merge_when_allowed(number)
    (pull,) = here.another().list()
    assert pull.state is PullState.OPEN
    assert pull.auto_merge in (True, None)  # not all say so
    here.server.requirements_met(number)
    assert [pull.state for pull in here.forge.list()] == [PullState.MERGED]
    here.forge.merge_when_allowed(number)


def test_a_forge_that_does_not_merge_by_itself_says_what_to_do(here: RemoteStage) -> None:
    """Auto-merge is switched off in the project: a person can change that, waiting cannot."""
    number = opened(here)
    here.server.auto_merge_allowed = False
    with pytest.raises(Stalled) as caught:
        here.forge.merge_when_allowed(number)
    assert caught.value.reason == "AutoMergeUnavailable"
    assert [pull.state for pull in here.forge.list()] == [PullState.OPEN]
