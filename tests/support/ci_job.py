"""A job of a CI system: its clone, its variables, and the forge that it may write to."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from controller.cli import cli
from tests.support.forge_project import Pull
from tests.support.forge_server import ForgeServer
from tests.support.gitrepo import Hub, git

_OTHERS = ("GITHUB_", "GITEA_", "FORGEJO_", "GITLAB_", "CI_", "TRUNKLINE_")


def clone(hub: Hub, folder: Path, *, depth: int = 0) -> Path:
    """Clone as a job's checkout does: shallow unless told otherwise is what most systems do."""
    cut = ("--depth", str(depth)) if depth else ()
    git(hub.path.parent, "clone", "-q", *cut, "--no-single-branch", f"file://{hub.path}", str(folder))
    return folder


def actions(server: ForgeServer, pull: Pull, folder: Path, *, gitea: bool = False) -> dict[str, str]:
    """Give the variables of a job of GitHub's Actions, or of those that imitate them."""
    home = pull.fork or server.project
    event = {
        "pull_request": {
            "number": pull.number, "base": {"sha": pull.start, "ref": pull.base},
            "head": {"sha": pull.head, "ref": pull.branch, "repo": {"full_name": home}},
        }
    }  # fmt: skip
    path = folder / "event.json"
    path.write_text(json.dumps(event))
    return {
        "GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(path), "GITHUB_API_URL": server.url,
        "GITHUB_SERVER_URL": "https://git.example.com", "GITHUB_REPOSITORY": server.project, "GITHUB_RUN_ID": "41",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"), "GITHUB_TOKEN": server.token,
        **({"GITEA_ACTIONS": "true"} if gitea else {}),
    }  # fmt: skip


def gitlab(server: ForgeServer, pull: Pull, base: str) -> dict[str, str]:
    """Give the variables of a job of GitLab for a merge request."""
    return {
        "GITLAB_CI": "true", "CI_API_V4_URL": server.url, "CI_MERGE_REQUEST_IID": str(pull.number),
        "CI_MERGE_REQUEST_PROJECT_PATH": server.project, "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
        "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": pull.fork or server.project,
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": pull.base, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": pull.branch,
        "CI_COMMIT_SHA": pull.head, "CI_JOB_URL": "https://git.example.com/jobs/41", "TRUNKLINE_TOKEN": server.token,
    }  # fmt: skip


def ci(folder: Path, environment: Mapping[str, str], *words: str) -> Result:
    """Type ``trunkline ci`` in a job; nothing of the CI system that these tests run in is seen."""
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith(_OTHERS)}
    with contextlib.chdir(folder):
        return CliRunner().invoke(cli, ("ci", *words), env={**cleared, **environment})
