"""Proof and lineage with a forge behind HTTP as their witness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.forge_http import ForgeClient
from tests.support.forge_server import running
from tests.support.forge_stage import REMOTE
from tests.support.gitrepo import git
from tests.support.released import Repo
from tests.support.typed import said, trunkline


@pytest.mark.parametrize("kind", REMOTE)
def test_a_forge_decides_how_a_release_came(first: Repo, tmp_path: Path, kind: str) -> None:
    """It says which pull request a squash came by and who approved it; what it never merged came by none."""
    repo = first.copied(tmp_path / "place")
    branch = repo.opened().branch
    make, adapter = REMOTE[kind]
    with running(make(repo.path)) as server:
        (repo.folder / "token").write_text(server.token)
        (repo.folder / "trunkline.toml").write_text(
            'repository = "hub.git"\nstore = "store"\nstate = "state"\n[forge]\n'
            f'kind = "{kind}"\nurl = "{server.url}"\nproject = "{server.project}"\n'
            f'token_file = "{repo.folder / "token"}"\n'
        )
        headers = {"Authorization": f"Bearer {server.token}"}
        forge = adapter(ForgeClient(server.url, lambda: headers), server.project, branch="main", labels=["x"])
        number = forge.open(branch=branch, title="v1", body="").number
        server.review(number, "bo", "approve")
        server.merge(number, "squash", "ann")

        assert trunkline(repo.folder, "verify-history", "--strict", "--require-pull-request").exit_code == 0
        link: dict[str, Any] = json.loads(said(repo.folder, "why", "digits", "--json"))["chain"]
        while link["sources"]:
            link = link["sources"][-1]
        assert (link["what"], link["name"], link["trust"]) == ("pull request", f"#{number}", "proved")
        assert "bo" in link["detail"].partition("approved by ")[2]

        text = repo.read().replace("  release:", "  # by hand\n  release:").replace("version: 1", "version: 2")
        repo.commit({"digits.yaml": text}, f"v2 (#{number})")
        done = trunkline(repo.folder, "verify-history", "--json", "--require-pull-request")
        codes = {each["code"] for each in json.loads(done.stdout)["findings"]}
        assert (done.exit_code, codes >= {"NoPullRequest", "TrailerForged"}) == (1, True)


def test_a_forge_that_cannot_be_reached_is_told(story: Repo, tmp_path: Path) -> None:
    """Then git's own hints are all there is; that is said, and is no fault of the history."""
    repo = story.copied(tmp_path / "place")
    (repo.folder / "token").write_text("x")
    with running(REMOTE["github"][0](repo.path)) as server:
        url = server.url
    with (repo.folder / "trunkline.toml").open("a") as settings:
        settings.write(f'[forge]\nkind = "github"\nurl = "{url}"\nproject = "a/b"\n')
        settings.write(f'token_file = "{repo.folder / "token"}"\n')
    done = trunkline(repo.folder, "verify-history", "--json", "--require-pull-request")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["findings"]) == (0, [])
    assert told["forge"].startswith("cannot be reached")
    assert "no forge can be asked" in said(repo.folder, "why", "digits")
    assert git(repo.path, "rev-parse", "main") == told["head"]
