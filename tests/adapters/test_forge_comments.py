"""Sticky comments when two controllers speak in one moment: one comment is left, whoever looks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.forge_comments import Comment, StickyComments
from tests.support.forge_project import BOT
from tests.support.forge_project import Comment as Said
from tests.support.forge_stage import RemoteStage, remote_stage

BRANCH = "trunkline/promote/default.digits/0123456789ab"
MARKER = "<!-- plan -->"
ISSUE = "/repos/acme/models/issues"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RemoteStage]:
    """Give a forge with one open pull request, number 1."""
    with remote_stage("gitea", tmp_path) as made:
        made.push(BRANCH)
        made.forge.open(branch=BRANCH, title="T", body="B")
        yield made


def comments(here: RemoteStage, meanwhile: list[Said]) -> StickyComments:
    """Give the comments of number 1; the others speak just after the first look, and before us."""

    def read() -> list[Comment]:
        found = [Comment(f"{ISSUE}/comments/{c.number}", c.author, c.body) for c in here.server.pull(1).comments]
        here.server.pull(1).comments += meanwhile
        meanwhile.clear()
        return found

    return StickyComments(here.client(), f"{ISSUE}/1/comments", "PATCH", read)


@pytest.mark.parametrize("other", ["the same", "something else"])
def test_the_first_of_two_stays_with_the_last_words(here: RemoteStage, other: str) -> None:
    """Another controller, under the same name, was a moment faster: its comment stays, and says what we say."""
    first = Said(here.server.next_number(), BOT, f"{other}\n\n{MARKER}")
    comments(here, [first]).say("the same", marker=MARKER)
    (left,) = here.server.pull(1).comments
    assert (left.number, left.body.rstrip()) == (first.number, f"the same\n\n{MARKER}")


def test_somebody_else_who_is_faster_changes_nothing(here: RemoteStage) -> None:
    """A person who copies our marker in that moment keeps their comment, and we keep ours."""
    comments(here, [Said(here.server.next_number(), "eve", f"fine\n\n{MARKER}")]).say("plan", marker=MARKER)
    assert [comment.author for comment in here.server.pull(1).comments] == ["eve", BOT]


def test_a_look_that_is_behind_does_not_make_us_repeat(here: RemoteStage) -> None:
    """What we said is not listed yet: it is not said again."""
    sticky = comments(here, [])
    StickyComments(sticky.client, sticky.path, sticky.verb, list).say("plan", marker=MARKER)
    assert len(here.server.pull(1).comments) == 1
