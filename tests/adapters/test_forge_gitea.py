"""What only Gitea and Forgejo do: deleted branches named by label, labels by number, merges that wait or do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.forge_gitea import GiteaForge
from specs.errors import Stalled, Transient
from specs.facts import Check, CheckState, PullState
from tests.support.forge_project import Comment, Status
from tests.support.forge_stage import RemoteStage, stage
from tests.support.gitea_server import GiteaServer
from tests.support.gitrepo import git

BRANCH = "trunkline/promote/default.digits/0123456789ab"
OTHER = "trunkline/rollback/default.digits/ba9876543210"
MARK = "<!-- trunkline:closed reason=Superseded -->"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RemoteStage]:
    """Give a Gitea with one open pull request of ours, number 1."""
    with stage("gitea", tmp_path) as made:
        assert isinstance(made, RemoteStage)
        made.push(BRANCH)
        made.forge.open(branch=BRANCH, title="Promote", body="Why")
        yield made


def server(here: RemoteStage) -> GiteaServer:
    """Give the stand-in, as Gitea."""
    assert isinstance(here.server, GiteaServer)
    return here.server


def state(here: RemoteStage) -> PullState:
    """Give the state of the pull request as a controller sees it that was just started."""
    return here.another().list()[0].state


def test_a_deleted_branch_keeps_its_name(here: RemoteStage) -> None:
    """Its pull request is still known as ours, and cannot be opened again until the branch is back."""
    head = here.hub.head(BRANCH)
    here.delete_branch(BRANCH)
    (pull,) = here.another().list()
    assert (pull.branch, pull.head, pull.state) == (BRANCH, head, PullState.CLOSED)
    with pytest.raises(Stalled) as caught:
        here.forge.reopen(1)
    assert caught.value.reason == "BranchMissing"
    git(here.hub.path, "update-ref", f"refs/heads/{BRANCH}", head)
    assert here.forge.reopen(1).state is PullState.OPEN


def test_a_merge_is_scheduled_while_an_approval_is_missing(here: RemoteStage) -> None:
    """Gitea waits; asking again is no error; when the approval is there, it merges by itself."""
    here.review(1, "reader")
    here.forge.merge_when_allowed(1)
    here.another().merge_when_allowed(1)
    assert state(here) is PullState.OPEN
    here.server.requirements_met(1)
    assert state(here) is PullState.MERGED


@pytest.mark.parametrize("status", ["", "pending", "failure"])
def test_a_merge_is_scheduled_while_a_check_is_missing(here: RemoteStage, status: str) -> None:
    """A required check that is not there, runs, or failed is something to wait for."""
    server(here).required_approvals, server(here).required_checks = 0, ("ci/test",)
    states = [Status("ci/other", "success", "", ""), *([Status("ci/test", status, "", "")] if status else [])]
    here.server.statuses[here.hub.head(BRANCH)] = states
    here.forge.merge_when_allowed(1)
    assert here.server.pull(1).auto_merge == "merge"
    assert state(here) is PullState.OPEN


@pytest.mark.parametrize("case", ["no protection", "approved", "checked", "no checks known", "pattern"])
def test_nothing_is_merged_at_once(here: RemoteStage, case: str) -> None:
    """With nothing that surely holds it back, Gitea would merge now: it is not asked."""
    forge = server(here)
    forge.auto_merge_allowed = case != "no protection"
    if case == "approved":
        here.review(1, "ann")
    else:
        forge.required_approvals = 0
    if case in ("checked", "pattern"):
        forge.required_checks = ("ci/test",) if case == "checked" else ("ci/*",)
        here.forge.report(here.hub.head(BRANCH), Check("ci/test", CheckState.SUCCESS, "fine"))
    if case == "no checks known":
        forge.required_checks = ()
    with pytest.raises(Stalled, match="require a check or an approval") as caught:
        here.forge.merge_when_allowed(1)
    assert caught.value.reason == "AutoMergeUnavailable"
    assert state(here) is PullState.OPEN


def test_a_scheduled_merge_is_for_the_commit_that_was_looked_at(here: RemoteStage) -> None:
    """Somebody pushed in between: Gitea refuses, and we look again."""
    here.server.fault("POST", "/merge$", 409, words="head out of date")
    with pytest.raises(Transient) as caught:
        here.forge.merge_when_allowed(1)
    assert caught.value.reason == "BranchMoved"


def test_closing_takes_a_scheduled_merge_back(here: RemoteStage) -> None:
    """Closed and opened again, it waits for a person: Gitea would have remembered the schedule and merged."""
    here.forge.merge_when_allowed(1)
    here.forge.close(1, comment="", mark=MARK)
    here.forge.reopen(1)
    here.server.requirements_met(1)
    assert state(here) is PullState.OPEN


def test_the_repositorys_own_way_of_merging_is_asked_for(here: RemoteStage) -> None:
    """A repository that squashes is not asked for a merge commit."""
    here.server.methods = ("squash",)
    here.forge.merge_when_allowed(1)
    assert here.server.pull(1).auto_merge == "squash"


def test_approvals_are_official_and_the_last_word(here: RemoteStage) -> None:
    """Who may not approve, whose approval was dismissed, and who thought again, are not named."""
    for person in ("ann", "bob", "cem", "reader"):
        here.review(1, person)
    here.server.dismiss(1, "bob")
    here.review(1, "cem", "reject")
    here.review(1, "ann", "comment")
    assert here.forge.approvals(1) == ("ann",)


def test_labels_are_put_on_by_number_as_far_as_they_exist(here: RemoteStage) -> None:
    """A label that the repository does not have is left out, and opens the pull request all the same."""
    here.push(OTHER, path="n.yaml")
    forge = GiteaForge(here.client(), here.server.project, branch="main", labels=["trunkline", "unknown", "bug"])
    forge.open(branch=OTHER, title="t", body="b")
    assert [sorted(here.server.pull(number).labels) for number in (1, 2)] == [["trunkline"], ["bug", "trunkline"]]


def test_a_fork_with_a_branch_of_our_name_is_not_ours(here: RemoteStage) -> None:
    """Anybody can name a branch of a fork like ours; it is neither listed nor adopted."""
    here.push(OTHER, path="n.yaml")
    here.server.create(title="Mine", body="b", branch=OTHER, base="main", author="eve", fork="eve/models")
    assert [pull.number for pull in here.another().list()] == [1]
    assert here.forge.open(branch=OTHER, title="Ours", body="b").number == 3


def test_somebody_elses_comment_with_our_marker_is_left_alone(here: RemoteStage) -> None:
    """Who quotes us whole does not get our comment into theirs, and does not keep us from speaking."""
    quoted = Comment(here.server.next_number(), "eve", "all fine\n\n<!-- plan -->")
    here.server.pull(1).comments.append(quoted)
    for text in ("first", "second"):
        here.forge.say(1, text, marker="<!-- plan -->")
    assert [text.partition("\n")[0] for text in here.comments(1)] == ["all fine", "second"]


def test_a_stale_list_opens_nothing_twice(here: RemoteStage) -> None:
    """Gitea says that one is open and does not show it yet: we look again later."""
    here.server.freeze()
    here.push(OTHER, path="n.yaml")
    here.forge.open(branch=OTHER, title="Other", body="b")
    with pytest.raises(Transient) as caught:
        here.another().open(branch=OTHER, title="Other", body="b")
    assert caught.value.reason == "ForgeBehind"
    here.server.thaw()
    assert here.another().open(branch=OTHER, title="Other", body="b").number == 2


def test_what_was_merged_while_we_closed_it_stays_merged(here: RemoteStage) -> None:
    """Gitea refuses to close what a person merged in that moment; that is no error."""
    here.server.fault("PATCH", "/pulls/1$", 412, words="cannot change state of this pull request, it was merged")
    here.forge.close(1, comment="", mark=MARK)
    here.server.fault("PATCH", "/pulls/1$", 403, words="no rights")
    with pytest.raises(Stalled, match="no rights"):
        here.forge.close(1, comment="", mark=MARK)


def test_a_repository_that_cannot_be_seen_is_not_an_empty_one(here: RemoteStage) -> None:
    """No access would look like no pull requests, and rejections would be forgotten: it is an error."""
    forge = GiteaForge(here.client(), "acme/other", branch="main")
    with pytest.raises(Stalled) as caught:
        forge.list()
    assert caught.value.reason == "ProjectUnknown"
