"""``trunkline init``: a place to work in, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.settings import load
from specs.errors import Stalled
from tests.support.gitrepo import git
from tests.support.typed import said, trunkline


def test_a_new_place_works_at_once(tmp_path: Path) -> None:
    """Settings can be read, the repository cloned, and all other commands find their way."""
    text = said(tmp_path, "init", "place")
    place = tmp_path / "place"
    assert "git clone place/models.git work" in text
    found = load(place, {})
    assert found.local_repository == place / "models.git"
    assert (found.branch, found.store, found.state) == ("main", str(place / "store"), place / ".trunkline")
    git(place, "clone", "-q", "models.git", "work")
    assert (place / "work/README.md").exists()
    assert said(place, "pr", "list") == "no pull requests\n"
    assert "no models yet" in said(place, "status")


def test_settings_that_exist_stay(tmp_path: Path) -> None:
    """A second init is refused, and not a byte is changed."""
    said(tmp_path, "init")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = trunkline(tmp_path, "init")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "AlreadyThere"
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("kind", ["repository", "file"])
def test_what_lies_in_the_repositorys_place_stays(tmp_path: Path, kind: str) -> None:
    """Something called models.git is never written over; no settings are left behind that point to it."""
    target = tmp_path / "models.git"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "HEAD").write_text("mine")
    result = trunkline(tmp_path, "init")
    assert isinstance(result.exception, Stalled), result.output
    assert (target if kind == "file" else target / "HEAD").read_text() == "mine"
    assert not (tmp_path / "trunkline.toml").exists()


def test_a_repository_and_a_store_of_ones_own(tmp_path: Path) -> None:
    """Given addresses are written down as they are, and no repository is made."""
    said(tmp_path, "init", "--repository", "git@git.example.com:m.git", "--store", "s3://bucket/x")
    found = load(tmp_path, {})
    assert (found.repository, found.store) == ("git@git.example.com:m.git", "s3://bucket/x")
    assert [p.name for p in tmp_path.iterdir()] == ["trunkline.toml"]


def test_odd_characters_do_not_break_the_settings(tmp_path: Path) -> None:
    """Quotes and backslashes in an address come back as they were."""
    said(tmp_path, "init", "--repository", "https://h/a", "--store", 'file:///odd "store"\\x')
    assert load(tmp_path, {}).store == 'file:///odd "store"\\x'
