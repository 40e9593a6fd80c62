"""One story for all forges: what happens to a proposal, whoever keeps it. Real git, real HTTP; a forge is a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.errors import Stalled
from specs.facts import Check, CheckState, PullState
from tests.support.forge_stage import ALL, Stage, stage
from tests.support.gitrepo import git

BRANCH = "trunkline/promote/default.digits/0123456789ab"
OTHER = "trunkline/rollback/default.digits/ba9876543210"
MARK = "<!-- trunkline:closed reason=Superseded -->"


@pytest.fixture(params=ALL)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """Give each forge in turn."""
    with stage(request.param, tmp_path) as found:
        yield found


def opened(here: Stage, branch: str = BRANCH, path: str = "m.yaml") -> int:
    """Push a proposal's branch, open its pull request, and give its number."""
    here.push(branch, path=path)
    return here.forge.open(branch=branch, title=f"Change {path}", body="Why\n\n<!-- key -->\n").number


def state(here: Stage, number: int = 1) -> PullState:
    """Give the state as a controller sees it that was just started."""
    return {pull.number: pull.state for pull in here.another().list()}[number]


# ------------------------------------------------------------------------------------------------- our own acts


def test_a_new_pull_request_is_known_to_everybody(here: Stage) -> None:
    """Opened once, with its texts, its head and its base, for us and for a controller that was just started."""
    head = here.push(BRANCH)
    pull = here.forge.open(branch=BRANCH, title="Promote v1", body="Why\n\n<!-- key -->\n")
    assert (pull.branch, pull.head, pull.base, pull.title) == (BRANCH, head, "main", "Promote v1")
    assert (pull.state, pull.closed, pull.merge_commit) == (PullState.OPEN, 0, None)
    assert pull.body.rstrip() == "Why\n\n<!-- key -->"
    assert pull.opened > 0
    assert here.forge.list() == here.another().list() == (pull,)


def test_opening_again_adopts_what_is_there(here: Stage) -> None:
    """The open one of the branch is given back as it is, also by a controller that knows nothing of it."""
    number = opened(here)
    again = here.another().open(branch=BRANCH, title="Other", body="Other")
    assert (again.number, again.title) == (number, "Change m.yaml")
    assert here.count() == 1


def test_a_branch_without_news_is_not_opened(here: Stage) -> None:
    """A branch that is where the base is has nothing to merge, and the error says so."""
    if here.opens_empty:
        pytest.skip("GitLab and Gitea open it; it is closed as already applied")
    here.hub.commit({}, branch=BRANCH, start="origin/main", push=False)
    git(here.hub.path, "update-ref", f"refs/heads/{BRANCH}", here.hub.head())
    with pytest.raises(Stalled) as caught:
        here.forge.open(branch=BRANCH, title="t", body="b")
    assert caught.value.reason == "NothingToMerge"
    assert here.count() == 0


def test_an_update_changes_texts_in_place_and_sees_the_new_head(here: Stage) -> None:
    """The same number, new words, the commit that was pushed."""
    number = opened(here)
    head = here.push(BRANCH, "a: 3\n")
    here.forge.update(number, title="New", body="Text\n")
    (pull,) = here.forge.list()
    assert (pull.number, pull.title, pull.body.rstrip(), pull.head) == (number, "New", "Text", head)
    assert here.another().list() == (pull,)


def test_a_push_alone_is_seen_too(here: Stage) -> None:
    """Nobody tells of it; the next look at the list knows the head."""
    opened(here)
    here.forge.list()
    head = here.push(BRANCH, "a: 3\n")
    assert [pull.head for pull in here.forge.list()] == [head]


def test_what_is_so_already_is_not_written_again(here: Stage) -> None:
    """Looking, adopting, the same words, the same comment, the same check: nothing is written."""
    number = opened(here)
    (pull,) = here.forge.list()
    check = Check("trunkline/plan", CheckState.SUCCESS, "fine")
    here.forge.say(number, "hello", marker="<!-- plan -->")
    here.forge.report(pull.head, check)
    before = here.written()
    for forge in (here.forge, here.another()):
        forge.list()
        forge.open(branch=BRANCH, title="x", body="x")
        forge.update(number, title=pull.title, body=pull.body)
        forge.say(number, "hello", marker="<!-- plan -->")
        forge.report(pull.head, check)
    assert here.written() == before


def test_closing_leaves_a_comment_and_the_mark(here: Stage) -> None:
    """Who closed can be told from the list alone; closing twice is closing once."""
    number = opened(here)
    for forge in (here.forge, here.another()):
        forge.close(number, comment="Replaced by a newer proposal", mark=MARK)
    (pull,) = here.another().list()
    assert pull.state is PullState.CLOSED
    assert pull.closed > 0
    assert pull.body.count(MARK) == 1
    assert pull.body.startswith("Why")
    assert [text.partition("\n")[0] for text in here.comments(number)] == ["Replaced by a newer proposal"]


def test_what_a_person_closed_carries_no_mark(here: Stage) -> None:
    """A rejection: closed, and not by us. Our closing it afterwards changes nothing."""
    number = opened(here)
    here.close(number)
    here.forge.close(number, comment="Late", mark=MARK)
    (pull,) = here.another().list()
    assert (pull.state, MARK in pull.body) == (PullState.CLOSED, False)
    assert here.comments(number) == [] or here.comments(number) == ()


def test_reopening_brings_back_the_same_one(here: Stage) -> None:
    """Closed by us and wanted again: the same number is open, asked twice or not."""
    number = opened(here)
    here.forge.close(number, comment="", mark=MARK)
    assert here.forge.reopen(number).state is PullState.OPEN
    assert here.another().reopen(number).number == number
    (pull,) = here.another().list()
    assert (pull.state, pull.closed) == (PullState.OPEN, 0)


def test_reopening_is_refused_where_it_cannot_be(here: Stage) -> None:
    """Merged, without its branch, or replaced by another one: Stalled, with the reason."""
    first = opened(here)
    here.forge.close(first, comment="", mark=MARK)
    second = here.forge.open(branch=BRANCH, title="Second", body="b").number
    with pytest.raises(Stalled) as caught:
        here.forge.reopen(first)
    assert caught.value.reason == "PullRequestOpen"
    here.merge(second)
    with pytest.raises(Stalled) as caught:
        here.forge.reopen(second)
    assert caught.value.reason == "PullRequestMerged"
    here.delete_branch(BRANCH) if BRANCH in here.hub.heads() else None
    with pytest.raises(Stalled):
        here.forge.reopen(first)


# ------------------------------------------------------------------------------------------------- what people do


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_merged_by_any_method_is_merged(here: Stage, method: str) -> None:
    """State, commit on the base, and the way back from that commit to the pull request."""
    if method == "rebase" and here.local:
        pytest.skip("the local forge merges and squashes")
    number = opened(here)
    here.forge.list()
    here.hub.commit({"other": "x\n"}, "Meanwhile")
    commit = here.merge(number, method, by="bob")
    for forge in (here.forge, here.another()):
        (pull,) = forge.list()
        assert (pull.state, pull.merge_commit, pull.closed > 0) == (PullState.MERGED, commit, True)
        found = forge.pull_of(commit)
        assert found is not None
        assert (found.number, found.state, found.merged_by.partition(" ")[0]) == (number, PullState.MERGED, "bob")
    assert commit == here.hub.head()


def test_merged_by_hand_outside_is_merged(here: Stage) -> None:
    """A person merges with plain git and pushes: nobody pressed a button, and it is merged all the same."""
    opened(here)
    here.forge.list()
    merge = here.hub.merge(BRANCH)
    (pull,) = here.forge.list()
    assert (pull.state, pull.merge_commit) == (PullState.MERGED, merge)


def test_what_came_by_no_pull_request_is_none_of_ours(here: Stage) -> None:
    """A direct push has no pull request, whatever else is merged."""
    here.merge(opened(here))
    direct = here.hub.commit({"other": "x\n"}, "Straight to main", start="origin/main")
    assert here.forge.pull_of(direct) is None


def test_an_open_one_is_not_where_a_commit_came_from(here: Stage) -> None:
    """Only what is merged brought anything to the base."""
    opened(here)
    assert here.forge.pull_of(here.hub.head(BRANCH)) is None


def test_a_branch_that_was_deleted_can_be_seen(here: Stage) -> None:
    """Its pull request is open or closed, as the forge has it, and never merged."""
    opened(here)
    here.delete_branch(BRANCH)
    (pull,) = here.forge.list()
    assert pull.state is (PullState.CLOSED if here.closes_when_branch_goes else PullState.OPEN)
    assert pull.merge_commit is None


def test_a_retargeted_one_tells_its_new_base(here: Stage) -> None:
    """A person lets it go elsewhere: it stays in the list, with the other base, and is not opened twice."""
    if here.local:
        pytest.skip("the local forge has one base")
    number = opened(here)
    here.forge.list()
    here.hub.commit({"other": "x\n"}, branch="next", start="origin/main")
    here.retarget(number, "next")
    assert [pull.base for pull in here.forge.list()] == ["next"]
    assert here.forge.open(branch=BRANCH, title="t", body="b").number == number


def test_other_peoples_pull_requests_are_not_listed(here: Stage) -> None:
    """Ours are those whose branch begins with trunkline/."""
    here.push("feature")
    here.forge.open(branch="feature", title="t", body="b")
    assert here.forge.list() == ()
    assert here.count() == 1


# ------------------------------------------------------------------------------------------------- said and checked


def test_a_sticky_comment_is_there_once_and_up_to_date(here: Stage) -> None:
    """Said twice with other words, by two controllers: one comment, the last words, other comments untouched."""
    number = opened(here)
    here.forge.say(number, "first", marker="<!-- plan -->")
    here.forge.say(number, "else", marker="<!-- other -->")
    here.another().say(number, "second", marker="<!-- plan -->")
    texts = [text.partition("\n")[0] for text in here.comments(number)]
    assert texts == ["second", "else"]


def test_checks_have_one_state_for_each_name(here: Stage) -> None:
    """The last one of a name holds; other names and other commits are not touched."""
    opened(here)
    head = here.hub.head(BRANCH)
    here.forge.report(head, Check("trunkline/plan", CheckState.PENDING, "looking"))
    here.forge.report(head, Check("trunkline/edit", CheckState.SUCCESS, "stays inside", "https://ci.example.com/1"))
    here.another().report(head, Check("trunkline/plan", CheckState.FAILURE, "would loosen a gate"))
    assert here.checks(head) == {
        "trunkline/plan": ("failure", "would loosen a gate"), "trunkline/edit": ("success", "stays inside"),
    }  # fmt: skip
    assert here.checks(here.hub.head()) == {}


def test_approvals_hold_for_the_last_commit_only(here: Stage) -> None:
    """Who approved is named until another commit comes; a merge keeps who approved it."""
    number = opened(here)
    assert here.forge.approvals(number) == ()
    here.review(number, "bob")
    here.review(number, "ann")
    names = tuple(name.partition(" ")[0] for name in here.forge.approvals(number))
    assert names == ("ann", "bob")
    here.push(BRANCH, "a: 3\n")
    assert here.forge.approvals(number) == ()
    here.review(number, "bob")
    here.merge(number)
    assert [name.partition(" ")[0] for name in here.another().approvals(number)] == ["bob"]


def test_a_number_that_is_not_there_is_named(here: Stage) -> None:
    """Every act on a pull request that does not exist says which one."""
    with pytest.raises(Stalled, match=r"[#!]7"):
        here.forge.close(7, comment="x", mark=MARK)
    with pytest.raises(Stalled, match=r"[#!]7"):
        here.forge.update(7, title="t", body="b")
