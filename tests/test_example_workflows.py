"""The ready-made jobs under ``examples/``: what the forges accept, with least rights, and commands that work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.ci_job import actions, clone, gitlab
from tests.support.forge_server import ForgeServer, running
from tests.support.forge_stage import REMOTE
from tests.support.proposals_in_git import FILE, FULL, Studio

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples/02-pull-requests"
JOBS = {"github": "github/trunkline.yml", "gitlab": "gitlab/.gitlab-ci.yml", "gitea": "gitea/trunkline.yml"}
SCHEMAS = {"github": "github-workflows", "gitlab": "gitlab-ci", "gitea": "github-workflows"}
CHECKS = {"trunkline/check", "trunkline/plan", "trunkline/edit"}


def _job(forge: str) -> Any:
    """Read a file as YAML 1.2 does, where ``on`` is a word."""
    text = (FOLDER / JOBS[forge]).read_text()
    return yaml.load(text, Loader=_Core)


class _Core(yaml.SafeLoader):
    """Knows no ``on`` and ``off``."""


_Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _commands(forge: str) -> list[tuple[str, dict[str, str]]]:
    """Give every shell command of a job, with the variables it is given, in order."""
    told = _job(forge)
    if forge == "gitlab":
        job = told["trunkline"]
        return [(line, dict(job["variables"])) for line in (*job["before_script"], *job["script"])]
    (job,) = told["jobs"].values()
    return [(step["run"], dict(step.get("env") or {})) for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("forge", JOBS)
def test_the_forges_own_schema_accepts_it(forge: str) -> None:
    """The published schema of each language holds; Gitea's and Forgejo's is GitHub's."""
    vendored = files("check_jsonschema") / f"builtin_schemas/vendor/{SCHEMAS[forge]}.json"
    schema = json.loads(vendored.read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(_job(forge))


def test_github_gives_least_rights() -> None:
    """Nothing at large, three rights for the job, no event that runs strangers' changes with ours."""
    told = _job("github")
    assert told["permissions"] == {}
    (job,) = told["jobs"].values()
    assert job["permissions"] == {"contents": "read", "pull-requests": "write", "statuses": "write"}
    assert list(told["on"]) == ["pull_request", "merge_group"]


@pytest.mark.parametrize("forge", JOBS)
def test_nothing_floats_and_nothing_leaks(forge: str) -> None:
    """Actions are pinned by commit, the history is whole, and nothing that a stranger writes is pasted into a shell."""
    text = (FOLDER / JOBS[forge]).read_text()
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in re.findall(r"\buses: (\S+)", text))
    assert re.search(r'fetch-depth: 0|GIT_DEPTH: "0"|git [^\n]*fetch', text)
    assert not any("${{" in command for command, _ in _commands(forge))
    assert "latest" not in text


def _environment(forge: str, server: ForgeServer, studio: Studio, folder: Path) -> dict[str, str]:
    (pull,) = server.pulls.values()
    if forge == "gitlab":
        return gitlab(server, pull, studio.base)
    told = actions(server, pull, folder, gitea=forge == "gitea")
    return told if forge == "github" else {**told, "TRUNKLINE_TOKEN": server.token, "GITHUB_TOKEN": ""}


@pytest.mark.parametrize("forge", JOBS)
def test_its_last_command_does_what_it_says(forge: str, tmp_path: Path) -> None:
    """The command as it is written, in a shell, in a clone, before each forge: one comment and three checks."""
    studio = Studio(tmp_path)
    change = studio.push({FILE: FULL.replace("epochs: 100", "epochs: 120")}, "Change\n", branch="change")
    make, _ = REMOTE[forge]
    with running(make(studio.hub.path)) as server:
        pull = server.create(title="x", body="", branch="change", base="main", author="ann")
        server.follow()
        place = clone(studio.hub, tmp_path / "job")
        command, _ = _commands(forge)[-1]
        assert command == "trunkline ci"
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "trunkline").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m controller.cli "$@"\n')
        (programs / "trunkline").chmod(0o755)
        surroundings = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=place, capture_output=True, text=True, check=False,
            env={**surroundings, **_environment(forge, server, studio, tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        (comment,) = [each.body for each in pull.comments]
        assert "retrains" in comment
        assert {status.context for status in server.statuses[change.head]} == CHECKS


def test_plain_git_fetches_what_is_needed(tmp_path: Path) -> None:
    """The Gitea job's own fetch, as it is written: both commits and the history between them are there afterwards."""
    studio = Studio(tmp_path)
    change = studio.push({"README.md": "x\n"}, "Change\n", branch="change")
    subprocess.run(["git", "update-ref", "refs/pull/7/head", change.head], cwd=studio.hub.path, check=True)
    command, _ = _commands("gitea")[0]
    place = tmp_path / "fresh"
    place.mkdir()
    surroundings = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "TOKEN": "t", "PULL": "7",
        "GITHUB_SERVER_URL": f"file://{tmp_path}", "GITHUB_REPOSITORY": studio.hub.path.name,
    }  # fmt: skip
    subprocess.run(["bash", "-e", "-c", command], cwd=place, env=surroundings, check=True)
    found = subprocess.run(["git", "merge-base", "origin/main", change.head], cwd=place, capture_output=True, text=True,
                           check=True)  # fmt: skip
    assert found.stdout.strip() == studio.base
