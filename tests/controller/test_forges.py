"""From settings to a forge: what is found from the repository's address, and what must be written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.forge_local import LocalForge
from controller import forges
from controller.forges import Place
from controller.settings import Settings
from specs.errors import Stalled
from tests.support.forge_stage import REMOTE, remote_stage
from tests.support.gitrepo import Hub

GITHUB = "https://api.github.com"


def settings(folder: Path, repository: str, **table: Any) -> Settings:
    """Give settings with a table ``[forge]`` where something is in it."""
    found = {"repository": repository, "store": str(folder / "store"), "state": folder / "state"}
    return Settings.model_validate(found | ({"forge": table} if table else {}))


def token(folder: Path) -> Path:
    """Write a token."""
    (folder / "token").write_text("forge-token\n")
    return folder / "token"


@pytest.mark.parametrize(("repository", "kind", "table", "found"), [
    ("https://github.com/acme/models.git", "github", {}, (GITHUB, "acme/models")),
    ("https://github.com/acme/models/", "github", {}, (GITHUB, "acme/models")),
    ("git@github.com:acme/models.git", "github", {}, (GITHUB, "acme/models")),
    ("ssh://git@ssh.github.com:443/acme/models.git", "github", {}, (GITHUB, "acme/models")),
    ("https://git.example.com:8443/acme/models", "github", {}, ("https://git.example.com:8443/api/v3", "acme/models")),
    ("ssh://git@git.example.com:2222/a/b.git", "github", {}, ("https://git.example.com/api/v3", "a/b")),
    ("https://gitlab.com/acme/ml/models.git", "gitlab", {}, ("https://gitlab.com/api/v4", "acme/ml/models")),
    ("git@codeberg.org:acme/models.git", "gitea", {}, ("https://codeberg.org/api/v1", "acme/models")),
    ("git@intern:acme/models.git", "gitea", {"url": "https://git.example.com/api/v1/"},
     ("https://git.example.com/api/v1", "acme/models")),
    ("https://mirror.example.com/m.git", "github", {"url": GITHUB, "project": "acme/models"}, (GITHUB, "acme/models")),
    ("file:///srv/m.git", "github", {"url": GITHUB, "project": "acme/models"}, (GITHUB, "acme/models")),
])  # fmt: skip
def test_url_and_project_are_found(
    tmp_path: Path, repository: str, kind: str, table: dict[str, str], found: tuple[str, str]
) -> None:
    """Every form of address; what is written down wins."""
    assert forges.place(settings(tmp_path, repository, kind=kind, **table)) == Place(kind, *found)


@pytest.mark.parametrize(("repository", "table", "reason", "words"), [
    ("https://github.com/acme/models", {}, "NoForge", 'kind = "github" and a token_file'),
    ("https://git.example.com/acme/models", {}, "NoForge", '"github", "gitlab" or "gitea"'),
    ("/nowhere", {}, "NoForge", "is not a folder here"),
    ("/nowhere", {"kind": "local"}, "NoForge", "is not a folder here"),
    ("/nowhere", {"kind": "github", "token_file": "t"}, "InvalidSettings", "write `url`"),
    ("/nowhere", {"kind": "github", "url": GITHUB, "token_file": "t"}, "InvalidSettings", "write `project`"),
    ("https://github.com/acme", {"kind": "github", "token_file": "t"}, "InvalidSettings", "like owner/name"),
    ("https://github.com/a/b/c", {"kind": "github", "token_file": "t"}, "InvalidSettings", "like owner/name"),
    ("https://github.com/a/b", {"kind": "github"}, "InvalidSettings", "token_file, or all of app_id"),
    ("https://gitlab.com/a/b", {"kind": "gitlab"}, "InvalidSettings", "needs token_file, and"),
    ("https://github.com/a/b", {"kind": "github", "app_id": 1}, "InvalidSettings", "token_file, or all of app_id"),
    ("https://github.com/a/b", {"kind": "github", "app_id": 1, "token_file": "t"}, "InvalidSettings", "nothing else"),
    ("https://github.com/a/b", {"kind": "github", "url": "http://github.com", "token_file": "t"}, "InvalidSettings",
     "begin with https://"),
    ("https://github.com/a/b", {"kind": "github", "url": "https://u:hush@x/", "token_file": "t"}, "InvalidSettings",
     "no credentials"),
])  # fmt: skip
def test_what_is_missing_or_wrong_is_said(
    tmp_path: Path, repository: str, table: dict[str, Any], reason: str, words: str
) -> None:
    """Each mistake names the field and what to write, and shows no secret."""
    with pytest.raises(Stalled) as caught:
        forges.forge(settings(tmp_path, repository, **table))
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert "hush" not in caught.value.message


def test_a_folder_keeps_its_own_pull_requests(tmp_path: Path) -> None:
    """A bare repository on this machine needs no table; it can be said all the same."""
    path = str(Hub(tmp_path).path)
    for found in (settings(tmp_path, path), settings(tmp_path, path, kind="local")):
        assert isinstance(forges.forge(found), LocalForge)
        assert forges.local(found, ("Ann", "ann@example.com")).path == Path(path)
        assert forges.credentials(found) is None


def test_the_commands_of_the_local_forge_say_where_the_others_are(tmp_path: Path) -> None:
    """``trunkline pr`` is for pull requests in the repository; elsewhere the forge has its pages."""
    with pytest.raises(Stalled, match=r"live on https://api\.github\.com"):
        forges.local(settings(tmp_path, "https://github.com/a/b", kind="github", token_file=token(tmp_path)))


@pytest.mark.parametrize("kind", REMOTE)
def test_settings_lead_to_a_forge_that_answers(tmp_path: Path, kind: str) -> None:
    """From the table to a pull request, every request counted."""
    counted: list[tuple[str, str]] = []
    with remote_stage(kind, tmp_path) as here:
        found = settings(
            tmp_path, str(here.hub.path), kind=kind, url=here.server.url, project="acme/models",
            token_file=token(tmp_path), labels=["ours"],
        )  # fmt: skip
        forge = forges.forge(found, lambda verb, status: counted.append((verb, status)))
        (branch,) = here.branches(1)
        assert forge.open(branch=branch, title="T", body="B").branch == branch
        assert [pull.branch for pull in forge.list()] == [branch]
        assert len(counted) == len(here.server.calls)
        assert forges.credentials(found) is None


def test_git_over_https_uses_the_forges_token(tmp_path: Path) -> None:
    """Unless a file is named: then that one. Over SSH git has its own keys."""
    table = {"kind": "github", "token_file": token(tmp_path)}
    made = forges.credentials(settings(tmp_path, "https://github.com/acme/models.git", **table))
    assert callable(made)
    assert made().read_text() == "https://x-access-token:forge-token@github.com\n"
    assert made().is_relative_to(tmp_path / "state")
    assert forges.credentials(settings(tmp_path, "git@github.com:acme/models.git", **table)) is None
    named = settings(tmp_path, "https://github.com/acme/models.git", **table)
    assert forges.credentials(named.model_copy(update={"credentials": tmp_path / "mine"})) == tmp_path / "mine"
