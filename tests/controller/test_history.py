"""``trunkline history``: what git alone can tell about releases, and what it cannot."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from specs.digests import digest_bytes
from specs.errors import Stalled
from tests.support.gitrepo import git
from tests.support.place import FILE
from tests.support.released import EVIDENCE, Repo
from tests.support.typed import said, trunkline


@pytest.fixture
def place(first: Repo, tmp_path: Path) -> Repo:
    """Give a copy of that to do anything with."""
    return first.copied(tmp_path / "place")


def rows(repo: Repo, *words: str) -> list[dict[str, Any]]:
    """Give what the command says to programs."""
    found: list[dict[str, Any]] = json.loads(said(repo.folder, "history", *words, "--json"))
    return found


def land(repo: Repo, message: str, *, squash: bool = True, author: str = "") -> None:
    """Put the open proposal on the branch as some forge would, with its own words."""
    branch = repo.opened().branch
    repo.checkout()
    git(repo.clone, "merge", "-q", "--no-commit", "--squash" if squash else "--no-ff", f"origin/{branch}")
    git(repo.clone, "commit", "-q", *([f"--author={author}"] if author else []), "-m", message, when=repo.now)
    repo.push()


def test_a_model_without_releases_has_no_history(first: Repo) -> None:
    """That is said, and is no error."""
    assert rows(first, "digits") == []
    assert "default/digits: 0 releases" in said(first.folder, "history")


def test_every_release_from_first_to_last(story: Repo) -> None:
    """How each came, what it replaced, and why it ended, oldest first."""
    assert [(row["version"], row["how"], row["replaced"], row["ended"]) for row in rows(story)] == [
        (1, "promoted", None, "superseded by v2"),
        (2, "promoted", 1, "superseded by v3"),
        (3, "promoted", 2, "reverted to v2"),
        (2, "went back", 3, "superseded by v4"),
        (4, "promoted", 2, "rolled back by v5"),
        (5, "rolled back", 4, "superseded by v6"),
        (6, "promoted", 5, None),
    ]


def test_a_release_tells_everything(story: Repo) -> None:
    """Who, when, from what, how good, as which digests; and what ended it."""
    one, two, *_ = rows(story, "default/digits")
    evidence = json.loads(story.read(EVIDENCE.format(1), one["commit"]["sha"]))
    assert one["proposed_by"] == "Trunkline <trunkline@localhost>"
    assert one["merged_by"] == "Ada <ada@example.com>"
    assert (one["pull_request"], one["pull_request_from"], one["approved_by"]) == (1, "trailer", None)
    assert one["args"] == {"epochs": 8, "imgsz": 32}
    assert (one["base"], one["data"]) == ("yolo26n-cls.yaml", evidence["data"]["train"]["digest"])
    assert (one["source"], one["golden"]) == (evidence["source"]["commit"], evidence["data"]["golden"]["digest"])
    assert one["metrics"] == {"metrics/accuracy_top1": {"value": 0.908, "low": 0.898, "high": 0.918}}
    assert (one["metric"], one["value"], one["n"], one["evidence"]) == ("metrics/accuracy_top1", 0.908, 10, "verified")
    assert {name: one[name] for name in ("run", "weights", "exports")} == evidence["release"]
    assert (one["ended_by"], one["ended_at"]) == (two["commit"]["sha"], two["when"])
    text = said(story.folder, "history", "digits")
    for word in ("v1", "promoted", "Ada", "#1", one["commit"]["sha"][:12], "0.908 (0.898 to 0.918), n = 10",
                 "epochs=8, imgsz=32", "superseded by v2", "evidence verified"):  # fmt: skip
        assert word in text, text


def test_a_rollback_shows_the_evidence_of_the_same_bytes(story: Repo) -> None:
    """Rolled-back bytes were measured when they were released first."""
    five = rows(story)[5]
    assert (five["evidence"], five["evidence_of"], five["evidence_digest"]) == ("verified", 2, None)
    assert five["value"] == 0.908
    assert "evidence verified (of v2, the same bytes)" in said(story.folder, "history")


def test_what_git_cannot_tell_is_unknown(story: Repo) -> None:
    """The squash of v2 kept nobody's name as its author but the merger's: who proposed it is not guessed."""
    two = rows(story)[1]
    assert (two["proposed_by"], two["merged_by"]) == (None, "Ada <ada@example.com>")
    assert "proposed by unknown, merged by Ada, approved by unknown" in said(story.folder, "history")


@pytest.mark.parametrize(
    ("message", "squash", "author", "number", "where", "proposed", "merged"),
    [
        ("digits: promote v1 (#12)", True, "Bot <bot@x>", 12, "subject", "Bot <bot@x>", None),
        ("Merge pull request #12 from x/y", False, "", 12, "subject", "Trunkline <trunkline@localhost>", "Ada"),
        ("Merge pull request 'v1 (now)' (#12) from x into main", False, "", 12, "subject", "Trunkline", "Ada"),
        ("Merge branch 'x' into 'main'\n\nv1\n\nSee merge request team/models!12", False, "", 12, "body", "Tr", "Ada"),
        ("Merge it by hand", False, "", None, "merge", "Trunkline <trunkline@localhost>", "Ada <ada@example.com>"),
        ("Ship it", True, "", None, "", "Ada <ada@example.com>", "Ada <ada@example.com>"),
        ("See #12 for more", True, "", None, "", "Ada <ada@example.com>", "Ada <ada@example.com>"),
    ],
    ids=["squash", "github", "gitea", "gitlab", "by-hand", "pushed", "mentioned"],
)
def test_what_forges_leave_in_commits(
    place: Repo, message: str, *, squash: bool, author: str, number: int | None, where: str,
    proposed: str, merged: str | None,
) -> None:  # fmt: skip
    """Each forge words its merges in its own way; a commit that only mentions a number came by no pull request."""
    land(place, message, squash=squash, author=author)
    (row,) = rows(place)
    assert (row["pull_request"], row["pull_request_from"]) == (number, where)
    assert row["proposed_by"].startswith(proposed)
    assert row["merged_by"] is None if merged is None else row["merged_by"].startswith(merged)


def test_approvers_stand_in_trailers(place: Repo) -> None:
    """Who approved is told where the commit says so."""
    land(place, "v1 (#3)\n\nApproved-by: Bo <bo@x>\nApproved-by: Cy <cy@x>\nMerged-by: Di <di@x>")
    (row,) = rows(place)
    assert (row["approved_by"], row["merged_by"]) == (["Bo <bo@x>", "Cy <cy@x>"], "Di <di@x>")
    assert "merged by Di, approved by Bo, Cy" in said(place.folder, "history")


def test_a_release_that_is_taken_away(place: Repo) -> None:
    """The end of all releases is told too, and who ended it."""
    land(place, "v1 (#3)")
    text = place.read()
    place.commit({FILE: text[: text.index("  release:")]}, "Serve nothing")
    one, none = rows(place)
    assert (one["ended"], one["ended_by"]) == ("removed", none["commit"]["sha"])
    assert (none["version"], none["how"], none["replaced"]) == (None, "removed", 1)
    assert "none removed" in said(place.folder, "history")


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda text: text + " ", "altered"),
        (lambda text: None, "missing"),
        (lambda text: "[1, 2]", "unreadable"),
        (lambda text: "not json", "unreadable"),
        (lambda text: text.replace('"version": 1', '"version": "one"'), "unreadable"),
    ],
    ids=["altered", "missing", "a-list", "no-json", "other-form"],
)
def test_numbers_of_bad_evidence_are_not_told(place: Repo, spoil: Any, state: str) -> None:
    """Evidence that was altered, or is none, is called what it is; its numbers are not told; there is no traceback."""
    land(place, "v1 (#3)")
    path, manifest = EVIDENCE.format(1), place.read()
    content = spoil(place.read(path))
    place.checkout("main", "origin/main~1")
    if state == "unreadable":
        manifest = re.sub(r"evidence: .*", f"evidence: {digest_bytes(content.encode())}", manifest)
    files = {FILE: manifest} | ({path: content} if content is not None else {})
    for name, text in files.items():
        (place.clone / name).parent.mkdir(parents=True, exist_ok=True)
        (place.clone / name).write_text(text)
    git(place.clone, "add", "--all")
    git(place.clone, "commit", "-q", "-m", "v1")
    place.push()
    (row,) = rows(place)
    assert (row["evidence"], row["value"], row["metrics"]) == (state, None, {})
    assert f"evidence {state}" in said(place.folder, "history")


def test_evidence_altered_later_does_not_change_the_past(place: Repo) -> None:
    """What counts is the evidence in the commit that released, which nobody can change any more."""
    land(place, "v1 (#3)")
    place.commit({EVIDENCE.format(1): "{}"}, "Tamper")
    assert [row["evidence"] for row in rows(place)] == ["verified"]


def test_unreadable_versions_of_the_file_are_skipped(place: Repo) -> None:
    """A commit that broke the file, and was mended, is no release and no removal."""
    land(place, "v1 (#3)")
    text = place.read()
    place.commit({FILE: "kind: ModelSpec\n  broken: ["}, "Break it")
    place.commit({FILE: text}, "Mend it")
    assert [row["how"] for row in rows(place)] == ["promoted"]


def test_several_models_in_one_file(place: Repo) -> None:
    """Each model has its own history, also where a file holds several, and all are told at once."""
    land(place, "v1 (#3)")
    other = place.read().replace("{name: digits}", "{name: letters}").partition("  release:")[0]
    place.commit({FILE: f"{place.read()}---\n{other}"}, "Letters too")
    assert [row["model"] for row in rows(place)] == ["default/digits"]
    text = said(place.folder, "history")
    assert "default/digits: 1 release\n" in text
    assert "default/letters: 0 releases" in text
    assert "letters" not in said(place.folder, "history", "digits")


def test_tables_for_pages_and_spreadsheets(story: Repo) -> None:
    """The same as markdown and as CSV, every number in it."""
    page = said(story.folder, "history", "--format", "md")
    assert "| v5 | rolled back | " in page
    assert "| metrics/accuracy\\_top1 | 0.911 (0.901 to 0.921), n = 10 |" in page
    table = list(csv.DictReader(io.StringIO(said(story.folder, "history", "--format", "csv"))))
    assert [row["version"] for row in table] == ["1", "2", "3", "2", "4", "5", "6"]
    assert table[1]["proposed_by"] == "unknown"
    assert json.loads(table[0]["metrics"]) == {"metrics/accuracy_top1": [0.908, 0.898, 0.918]}


def test_names_of_people_are_only_names(place: Repo) -> None:
    """A name is no formula, no markup, and moves no cursor."""
    land(place, "v1 (#3)", author="=cmd() <b>[@all](x)\x1b[2J <x@x>")
    (row,) = csv.DictReader(io.StringIO(said(place.folder, "history", "--format", "csv")))
    assert row["proposed_by"].startswith("'=cmd()")
    page = said(place.folder, "history", "--format", "md")
    assert "<b>" not in page.replace("\\<b", "")
    assert "[@all](" not in page
    assert "\x1b" not in said(place.folder, "history")


def test_lines_fit_a_narrow_terminal(story: Repo) -> None:
    """No line is longer than 80 characters."""
    assert max(map(len, said(story.folder, "history").splitlines())) <= 80


def test_an_unknown_model_names_those_that_there_are(first: Repo) -> None:
    """The error lists the models."""
    result = trunkline(first.folder, "history", "shelf")
    assert isinstance(result.exception, Stalled)
    assert "'shelf' is not known; there are: default/digits" in result.exception.message
