"""The whole first-parent history, read at once from real repositories."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.history_git import GitHistory
from adapters.repository import Repository
from tests.support.gitrepo import Hub, git


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a hub with one commit."""
    made = Hub(tmp_path)
    made.commit({"a.yaml": "1"}, "First\n\nA body.\n\nKey: value\nKey: other\n", when=1_700_000_000)
    return made


@pytest.fixture
def repository(hub: Hub, tmp_path: Path) -> Repository:
    """Give the mirror of that hub."""
    return Repository(str(hub.path), tmp_path / "work")


def history(repository: Repository) -> GitHistory:
    """Fetch, and give what reads it."""
    repository.fetch()
    return GitHistory(repository)


def test_a_commit_says_who_when_and_what(hub: Hub, repository: Repository) -> None:
    """People, time, subject, body, trailers in order, and each file's content before and after, by git's names."""
    second = hub.commit({"a.yaml": "2", "b.txt": "x"}, "Second", when=1_700_000_060)
    third = hub.commit({"b.txt": None}, "Third")
    past = history(repository)
    one, two, three = past.steps(third)
    assert (one.parents, two.parents, three.parents) == ((), (one.sha,), (second,))
    assert (one.commit.author, one.committer, one.commit.when) == (
        "Ada <ada@example.com>", "Ada <ada@example.com>", 1_700_000_000,
    )  # fmt: skip
    assert one.commit.trailers == (("Key", "value"), ("Key", "other"))
    assert (one.said("Key"), one.one("Key"), one.one("None")) == (("value", "other"), "other", "")
    assert "A body." in one.body
    assert sorted(two.files) == ["a.yaml", "b.txt"]
    before, after = two.files["a.yaml"]
    assert past.contents([before, after]) == {before: b"1", after: b"2"}
    assert three.files == {"b.txt": (two.files["b.txt"][1], "")}


def test_a_merge_is_one_step_against_its_first_parent(hub: Hub, repository: Repository) -> None:
    """Its files are all that the branch brought; the branch's last commit is known with its own words."""
    hub.commit({"b.yaml": "1"}, "One of two", branch="side", start="origin/main")
    last = hub.commit({"c.yaml": "1"}, "Two of two\n\nWho: me\n", branch="side")
    merge = hub.merge("side")
    *_, step = history(repository).steps(merge)
    assert sorted(step.files) == ["b.yaml", "c.yaml"]
    assert step.brought is not None
    assert (step.brought.sha, step.brought.subject) == (last, "Two of two")
    assert step.one("Who") == "me"
    assert step.parents[1] == last


def test_an_empty_commit_is_a_step_too(hub: Hub, repository: Repository) -> None:
    """It changed nothing, and may still say something."""
    head = hub.commit({}, "Nothing\n\nTrunkline-Intent: promote\n")
    *_, step = history(repository).steps(head)
    assert (step.files, step.one("Trunkline-Intent")) == ({}, "promote")


def test_links_and_submodules_hold_nothing(hub: Hub, repository: Repository) -> None:
    """What is no plain file counts as not there, so that nothing is ever read through it."""
    (hub.clone / "link.yaml").symlink_to("a.yaml")
    git(hub.clone, "add", "--all")
    git(hub.clone, "commit", "-q", "-m", "Link")
    head = hub.submodule("sub.yaml")
    *_, link, sub = history(repository).steps(head)
    assert (link.files, sub.files) == ({"link.yaml": ("", "")}, {"sub.yaml": ("", "")})


def test_odd_names_and_words(hub: Hub, repository: Repository) -> None:
    """Line breaks in names, marks of our own in words, and bytes that are no text end up where they belong."""
    head = hub.commit({"od\nd.yaml": "1", ":x y.yaml": "2", "\x01z.yaml": "3"}, "S\x01ubject\n\n\x01body :100644 x\n")
    *_, step = history(repository).steps(head)
    assert sorted(step.files) == ["\x01z.yaml", ":x y.yaml", "od\nd.yaml"]
    assert (step.commit.subject, step.body.strip()) == ("S\x01ubject", "\x01body :100644 x")
