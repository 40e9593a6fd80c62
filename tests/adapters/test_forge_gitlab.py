"""What only GitLab does: quick actions, auto-merge that may merge at once, approvals that stay, four ways to merge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.forge_gitlab import GitLabForge
from adapters.forge_http import ForgeClient
from specs.errors import Stalled, Transient
from specs.facts import Check, CheckState, PullState
from tests.support.forge_project import BOT, Comment
from tests.support.forge_stage import RemoteStage, stage
from tests.support.gitlab_server import GitLabServer

BRANCH = "trunkline/promote/default.digits/0123456789ab"
MARK = "<!-- trunkline:closed reason=Superseded -->"
OTHER = "trunkline/rollback/default.digits/ba9876543210"
COMMANDS = "Why\n/merge\n  /close\n\t/merge\r\n/close\r/merge\ra /word"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RemoteStage]:
    """Give a GitLab with one open merge request of ours, number 1."""
    with stage("gitlab", tmp_path) as made:
        assert isinstance(made, RemoteStage)
        made.push(BRANCH)
        made.forge.open(branch=BRANCH, title="Promote", body="Why")
        yield made


def server(here: RemoteStage) -> GitLabServer:
    """Give the stand-in, as GitLab."""
    assert isinstance(here.server, GitLabServer)
    return here.server


def state(here: RemoteStage) -> PullState:
    """Give the state of the merge request as a controller sees it that was just started."""
    return here.another().list()[0].state


def test_no_text_of_ours_is_a_command(here: RemoteStage) -> None:
    """Lines that begin with a slash arrive as text, in a description, a comment and a changed comment."""
    here.forge.update(1, title="Promote", body=COMMANDS)
    here.forge.say(1, "plan", marker="<!-- plan -->")
    here.forge.say(1, COMMANDS, marker="<!-- plan -->")
    assert state(here) is PullState.OPEN
    shown = ["Why", r"\/merge", r"  \/close", "\t\\/merge", r"\/close", r"\/merge", "a /word"]
    assert here.server.pull(1).body.splitlines() == shown
    assert here.comments(1)[0].splitlines()[:-2] == shown
    here.push(OTHER, path="n.yaml")
    here.forge.open(branch=OTHER, title="Other", body=COMMANDS)
    assert [pull.state for pull in here.another().list()] == [PullState.OPEN, PullState.OPEN]


def test_auto_merge_is_asked_for_while_a_rule_is_not_met(here: RemoteStage) -> None:
    """An approval is missing: GitLab waits, the list says so, and asking again writes nothing."""
    server(here).rule = "not_approved"
    here.forge.merge_when_allowed(1)
    before = here.written()
    here.another().merge_when_allowed(1)
    assert here.written() == before
    assert [(pull.state, pull.auto_merge) for pull in here.another().list()] == [(PullState.OPEN, True)]
    here.server.requirements_met(1)
    assert state(here) is PullState.MERGED


def test_auto_merge_is_asked_for_while_a_pipeline_runs(here: RemoteStage) -> None:
    """All rules are met, but a pipeline runs: GitLab waits for it."""
    server(here).rule, server(here).pipeline = "mergeable", "running"
    here.forge.merge_when_allowed(1)
    assert here.another().list()[0].auto_merge is True


@pytest.mark.parametrize("pipeline", ["", "success", "failed"])
def test_nothing_is_merged_at_once(here: RemoteStage, pipeline: str) -> None:
    """With nothing to wait for, GitLab would merge now: it is not asked, and a person is told what to require."""
    server(here).rule, server(here).pipeline = "mergeable", pipeline
    with pytest.raises(Stalled, match="require a pipeline or an approval") as caught:
        here.forge.merge_when_allowed(1)
    assert caught.value.reason == "AutoMergeUnavailable"
    assert state(here) is PullState.OPEN


def test_who_may_not_merge_is_told_so(here: RemoteStage) -> None:
    """GitLab lets nobody schedule what they may not do; that is a matter of rights, not of our token."""
    server(here).may_merge = False
    with pytest.raises(Stalled, match="may not merge into main") as caught:
        here.forge.merge_when_allowed(1)
    assert caught.value.reason == "AutoMergeUnavailable"


def test_auto_merge_waits_until_gitlab_knows(here: RemoteStage) -> None:
    """While GitLab still looks whether it can be merged, we look again later."""
    server(here).rule = "checking"
    with pytest.raises(Transient, match="checking"):
        here.forge.merge_when_allowed(1)
    assert here.another().list()[0].auto_merge is False


def test_auto_merge_is_for_the_commit_that_was_looked_at(here: RemoteStage) -> None:
    """Somebody pushed in between: GitLab refuses, and we look again."""
    here.server.fault("PUT", "/merge$", 409, words="SHA does not match HEAD of source branch")
    with pytest.raises(Transient) as caught:
        here.forge.merge_when_allowed(1)
    assert caught.value.reason == "BranchMoved"


def test_approvals_that_stay_do_not_count_for_another_commit(here: RemoteStage) -> None:
    """GitLab keeps approvals when something is pushed; only those after the last push are named."""
    here.review(1, "ann")
    here.push(BRANCH, "a: 3\n")
    here.review(1, "bob")
    assert here.forge.approvals(1) == ("bob",)


def test_without_times_approvals_count_until_something_is_pushed(here: RemoteStage) -> None:
    """An older GitLab does not say when: after a push nobody can be believed any more."""
    server(here).old = True
    here.review(1, "ann")
    assert here.forge.approvals(1) == ("ann",)
    here.push(BRANCH, "a: 3\n")
    here.review(1, "bob")
    assert here.forge.approvals(1) == ()


def test_nobody_approves_their_own(here: RemoteStage) -> None:
    """GitLab can let authors approve what they opened; that is no second pair of eyes."""
    here.review(1, BOT)
    here.review(1, "ann")
    here.review(1, "reader")
    assert here.forge.approvals(1) == ("ann",)


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_the_commit_of_a_fast_forward_is_known(here: RemoteStage, method: str) -> None:
    """Without a merge commit it is the squashed one, or the head itself; and it leads back."""
    server(here).fast_forward = True
    commit = here.merge(1, method) if method != "rebase" else here.hub.merge(BRANCH, "--ff-only")
    (pull,) = here.another().list()
    assert pull.merge_commit == commit
    found = here.forge.pull_of(commit)
    assert found is not None
    assert found.number == 1


def test_a_stale_answer_to_a_second_opening_is_tried_again(here: RemoteStage) -> None:
    """GitLab says that one is open and does not show it yet: nothing is opened twice, and we look again."""
    here.server.freeze()
    here.push(OTHER, path="n.yaml")
    here.forge.open(branch=OTHER, title="Other", body="b")
    with pytest.raises(Transient) as caught:
        here.another().open(branch=OTHER, title="Other", body="b")
    assert caught.value.reason == "ForgeBehind"
    here.server.thaw()
    assert here.another().open(branch=OTHER, title="Other", body="b").number == 2


def test_a_fork_with_a_branch_of_our_name_is_not_ours(here: RemoteStage) -> None:
    """Anybody can name a branch of a fork like ours; it is neither listed nor adopted."""
    here.push(OTHER, path="n.yaml")
    here.server.create(title="Mine", body="b", branch=OTHER, base="main", author="eve", fork="eve/models")
    assert [pull.number for pull in here.another().list()] == [1]
    assert here.forge.open(branch=OTHER, title="Ours", body="b").number == 3


def test_a_pending_check_stays_pending(here: RemoteStage) -> None:
    """GitLab refuses to make pending what is pending; other words for it can wait."""
    head = here.hub.head(BRANCH)
    here.forge.report(head, Check("trunkline/plan", CheckState.PENDING, "first"))
    here.forge.report(head, Check("trunkline/plan", CheckState.PENDING, "second"))
    assert here.checks(head) == {"trunkline/plan": ("pending", "first")}


def test_somebody_elses_comment_with_our_marker_is_left_alone(here: RemoteStage) -> None:
    """Who quotes us whole does not get our comment into theirs, and does not keep us from speaking."""
    quoted = Comment(here.server.next_number(), "eve", "all fine\n\n<!-- plan -->")
    here.server.pull(1).comments.append(quoted)
    for text in ("first", "second"):
        here.forge.say(1, text, marker="<!-- plan -->")
    assert [text.partition("\n")[0] for text in here.comments(1)] == ["all fine", "second"]


def test_a_project_that_cannot_be_seen_is_not_an_empty_one(here: RemoteStage) -> None:
    """No access would look like no merge requests, and rejections would be forgotten: it is an error."""
    forge = GitLabForge(here.client(), "acme/other", branch="main")
    with pytest.raises(Stalled) as caught:
        forge.list()
    assert caught.value.reason == "ProjectUnknown"


def test_gitlabs_own_header_works_too(here: RemoteStage) -> None:
    """A token may come as a bearer or in GitLab's own header; labels are put on by their names."""
    forge = GitLabForge(
        ForgeClient(here.server.url, lambda: {"PRIVATE-TOKEN": here.server.token}), here.server.project, branch="main"
    )
    assert [pull.number for pull in forge.list()] == [1]
    assert here.server.pull(1).labels == ["trunkline"]


def test_closing_what_was_merged_meanwhile_changes_nothing(here: RemoteStage) -> None:
    """A person was faster: it stays merged, without comment and mark."""
    here.merge(1)
    here.forge.close(1, comment="Superseded", mark=MARK)
    assert state(here) is PullState.MERGED
    assert here.comments(1) == []
