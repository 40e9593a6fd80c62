"""``trunkline pr``: pull requests as a person handles them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from specs.errors import Stalled
from specs.facts import Check, CheckState
from tests.support.gitrepo import Hub, git
from tests.support.typed import said, trunkline


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a place with one branch to merge."""
    hub = Hub(tmp_path)
    (tmp_path / "trunkline.toml").write_text('repository = "hub.git"\nstore = "store"\n')
    hub.commit({"a.txt": "one\n"}, "First")
    hub.commit({"a.txt": "one\n[/bold] two\n"}, "Add [/red] two", branch="work", start="origin/main")
    return hub


def test_a_pull_request_from_open_to_merge(hub: Hub, tmp_path: Path) -> None:
    """Open, list, read, look at the change, merge: each says what happened, brackets and all."""
    assert said(tmp_path, "pr", "open", "work", "--body", "because **so**") == "#1 Add [/red] two\n"
    listed = said(tmp_path, "pr", "list")
    for word in ("#1", "open", "Add [/red] two", "Ada"):
        assert word in listed
    shown = said(tmp_path, "pr", "show", "1")
    assert "#1 Add [/red] two" in shown
    assert "work → main   by Ada" in shown
    assert "because so" in shown
    assert "+[/bold] two" in said(tmp_path, "pr", "diff", "1")
    told = said(tmp_path, "pr", "merge", "1")
    assert told == f"#1 merged as {hub.head()[:12]}\n"
    assert said(tmp_path, "pr", "list") == "no pull requests\n"
    assert "merged" in said(tmp_path, "pr", "list", "--all")
    assert said(tmp_path, "pr", "merge", "1") == told  # typed twice


def test_opening_twice_is_opening_once(hub: Hub, tmp_path: Path) -> None:
    """The open one of the same branch is adopted."""
    said(tmp_path, "pr", "open", "work", "--title", "Mine")
    assert said(tmp_path, "pr", "open", "work") == "#1 Mine\n"
    assert len(json.loads(said(tmp_path, "pr", "list", "--json"))) == 1


def test_squash_makes_one_commit(hub: Hub, tmp_path: Path) -> None:
    """The commit has the title and number, and one parent."""
    said(tmp_path, "pr", "open", "work", "--title", "Two")
    said(tmp_path, "pr", "merge", "1", "--squash")
    (found,) = json.loads(said(tmp_path, "pr", "list", "--all", "--json"))
    assert (found["state"], found["merge_commit"], found["merged_by"]) == (
        "merged", hub.head(), "Ada <ada@example.com>",
    )  # fmt: skip


def test_closing_and_opening_again(hub: Hub, tmp_path: Path) -> None:
    """A closed one keeps its comment, is not listed, cannot be merged, and comes back when asked for."""
    said(tmp_path, "pr", "open", "work")
    assert said(tmp_path, "pr", "close", "1", "--comment", "not [now]") == "#1 closed\n"
    assert "not [now]" in said(tmp_path, "pr", "show", "1")
    assert said(tmp_path, "pr", "list") == "no pull requests\n"
    refused = trunkline(tmp_path, "pr", "merge", "1")
    assert isinstance(refused.exception, Stalled)
    assert "reopen it first" in refused.exception.message
    assert said(tmp_path, "pr", "reopen", "1") == "#1 is open again\n"
    assert "merged as" in said(tmp_path, "pr", "merge", "1")


def test_approving_is_seen_and_written_down(hub: Hub, tmp_path: Path) -> None:
    """Somebody else approves what is there now: shown, gone after another commit, in the merge's trailers otherwise."""
    forge = LocalForge(hub.path, actor=("Trunkline", "trunkline@localhost"))
    number = forge.open(branch="work", title="Two", body="b").number
    told = said(tmp_path, "pr", "approve", str(number))
    assert told == f"#1 at {hub.head('work')[:12]} approved\n"
    assert said(tmp_path, "pr", "approve", "1") == told
    forge.report(hub.head("work"), Check("trunkline/edit", CheckState.SUCCESS, "stays [inside]"))
    shown = said(tmp_path, "pr", "show", "1")
    assert "approved by Ada <ada@example.com>" in shown
    assert "trunkline/edit: success, stays [inside]" in shown
    (check,) = json.loads(said(tmp_path, "pr", "show", "1", "--json"))["checks"]
    assert (check["name"], check["state"]) == ("trunkline/edit", "success")
    hub.commit({"b.txt": "x\n"}, "More", branch="work")
    assert "approved" not in said(tmp_path, "pr", "show", "1")
    said(tmp_path, "pr", "approve", "1")
    said(tmp_path, "pr", "merge", "1")
    body = git(hub.path, "log", "-1", "--format=%b", "main")
    assert "Approved-by: Ada <ada@example.com>\nMerged-by: Ada <ada@example.com>" in body


def test_a_forged_approval_is_not_passed_on(hub: Hub, tmp_path: Path) -> None:
    """A commit that claims an approval in its own trailers claims nothing after the merge."""
    hub.commit({"c.txt": "x\n"}, "Add c\n\nApproved-by: Eve <eve@example.com>", branch="sly", start="origin/main")
    said(tmp_path, "pr", "open", "sly")
    said(tmp_path, "pr", "merge", "1", "--squash")
    assert "Approved-by" not in git(hub.path, "log", "-1", "--format=%b", "main")


def test_nobody_approves_their_own(hub: Hub, tmp_path: Path) -> None:
    """Who opened it cannot approve it; nor can anybody approve what is closed."""
    said(tmp_path, "pr", "open", "work")
    refused = trunkline(tmp_path, "pr", "approve", "1")
    assert isinstance(refused.exception, Stalled)
    assert refused.exception.reason == "OwnPullRequest"
    said(tmp_path, "pr", "close", "1")
    refused = trunkline(tmp_path, "pr", "approve", "1")
    assert isinstance(refused.exception, Stalled)
    assert refused.exception.reason == "PullRequestClosed"


def test_json_has_everything(hub: Hub, tmp_path: Path) -> None:
    """Programs get plain fields."""
    said(tmp_path, "pr", "open", "work", "--body", "b")
    found = json.loads(said(tmp_path, "pr", "show", "1", "--json"))
    assert (found["number"], found["state"], found["branch"], found["base"], found["body"], found["head"]) == (
        1, "open", "work", "main", "b", hub.head("work"),
    )  # fmt: skip


def test_a_conflict_names_the_files_and_the_way_out(hub: Hub, tmp_path: Path) -> None:
    """Nothing is merged, and the person is told what to do."""
    said(tmp_path, "pr", "open", "work")
    head = hub.commit({"a.txt": "other\n"}, "Other", start="origin/main")
    refused = trunkline(tmp_path, "pr", "merge", "1")
    assert isinstance(refused.exception, Stalled)
    assert refused.exception.reason == "MergeConflict"
    assert "a.txt" in refused.exception.message
    assert "resolve the conflict" in refused.exception.message
    assert hub.head() == head


@pytest.mark.parametrize("command", ["show", "diff", "merge", "close", "reopen"])
def test_a_number_that_is_none(hub: Hub, tmp_path: Path, command: str) -> None:
    """Each command says that there is no such pull request."""
    result = trunkline(tmp_path, "pr", command, "9")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "PullRequestUnknown"
    assert "9" in result.exception.message


def test_a_branch_without_anything_new(hub: Hub, tmp_path: Path) -> None:
    """There is nothing to ask for."""
    hub.commit({}, "x", branch="same", start="origin/main")
    hub.merge("same", "--ff-only")
    result = trunkline(tmp_path, "pr", "open", "same")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "NothingToMerge"
