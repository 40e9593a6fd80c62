"""What CI systems say about their jobs: which pull request, which commits, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.ci_environment import job
from specs.errors import Stalled

PULL = {
    "number": 7, "base": {"sha": "b" * 40, "ref": "main"},
    "head": {"sha": "a" * 40, "ref": "change", "repo": {"full_name": "Acme/Models"}},
}  # fmt: skip
ACTIONS = {
    "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://git.example.com", "GITHUB_REPOSITORY": "acme/models",
    "GITHUB_API_URL": "https://git.example.com/api/v1", "GITHUB_TOKEN": "of-the-job",
}  # fmt: skip
GITLAB = {
    "GITLAB_CI": "true", "CI_API_V4_URL": "https://git.example.com/api/v4", "CI_MERGE_REQUEST_IID": "7",
    "CI_MERGE_REQUEST_PROJECT_PATH": "acme/deep/models", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "b" * 40,
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "change",
    "CI_COMMIT_SHA": "c" * 40, "CI_JOB_TOKEN": "never-used",
}  # fmt: skip


def _event(folder: Path, event: object) -> dict[str, str]:
    path = folder / "event.json"
    path.write_text(json.dumps(event))
    return {**ACTIONS, "GITHUB_EVENT_PATH": str(path)}


def test_outside_of_ci_there_is_no_job() -> None:
    """A person's shell, even one that has CI set for other reasons."""
    assert job({}) is None
    assert job({"CI": "true"}) is None


def test_a_job_of_actions(tmp_path: Path) -> None:
    """The event file says it all; the token is the job's own unless another is given."""
    found = job(_event(tmp_path, {"pull_request": PULL}))
    assert found is not None
    assert (found.kind, found.number, found.base, found.head) == ("github", 7, "b" * 40, "a" * 40)
    assert (found.project, found.target, found.branch, found.fork) == ("acme/models", "main", "change", False)
    assert found.token == "of-the-job"
    other = job({**_event(tmp_path, {"pull_request": PULL}), "TRUNKLINE_TOKEN": "ours"})
    assert other is not None
    assert other.token == "ours"


@pytest.mark.parametrize("name", ["GITEA_ACTIONS", "FORGEJO_ACTIONS"])
def test_those_that_imitate_actions(tmp_path: Path, name: str) -> None:
    """Gitea and Forgejo are told from GitHub by a variable of their own; without an API's address it is found."""
    variables = {**_event(tmp_path, {"pull_request": PULL}), name: "true"}
    del variables["GITHUB_API_URL"]
    found = job(variables)
    assert found is not None
    assert (found.kind, found.api) == ("gitea", "https://git.example.com/api/v1")


@pytest.mark.parametrize("repo", [None, {"full_name": "eve/models"}], ids=["gone", "another"])
def test_a_fork_is_recognised(tmp_path: Path, repo: object) -> None:
    """Also one whose repository was deleted meanwhile."""
    found = job(_event(tmp_path, {"pull_request": {**PULL, "head": {**PULL["head"], "repo": repo}}}))  # type: ignore[dict-item]
    assert found is not None
    assert found.fork


def test_a_job_of_gitlab() -> None:
    """The merge request's own project counts, and the commit that somebody pushed; a job's token is never used."""
    found = job(GITLAB)
    assert found is not None
    assert (found.kind, found.project, found.number) == ("gitlab", "acme/deep/models", 7)
    assert (found.base, found.head, found.token, found.fork) == ("b" * 40, "c" * 40, "", False)
    fork = job({**GITLAB, "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "eve/models",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": "a" * 40, "GITLAB_TOKEN": "given"})  # fmt: skip
    assert fork is not None
    assert (fork.head, fork.token, fork.fork) == ("a" * 40, "given", True)


def test_a_merge_queue_has_commits_and_nobody_to_comment_to(tmp_path: Path) -> None:
    """Checks that are required there must be reported on its commit."""
    group = {"base_sha": "b" * 40, "head_sha": "a" * 40, "base_ref": "refs/heads/main"}
    found = job(_event(tmp_path, {"merge_group": group}))
    assert found is not None
    assert (found.number, found.base, found.head, found.target, found.branch) == (0, "b" * 40, "a" * 40, "main", "")


BAD = {
    "a push": ({"ref": "refs/heads/main"}, "NoPullRequest", "on: pull_request"),
    "no object": ([1], "NoPullRequest", "on: pull_request"),
    "half an event": ({"pull_request": {"number": 7}}, "EventUnreadable", "event file"),
    "half a queue": ({"merge_group": {"base_sha": "b"}}, "EventUnreadable", "event file"),
    "a number that is none": ({"pull_request": {**PULL, "number": "x"}}, "EventUnreadable", "event file"),
}


@pytest.mark.parametrize(("event", "reason", "told"), BAD.values(), ids=BAD.keys())
def test_an_event_that_is_none(tmp_path: Path, event: object, reason: str, told: str) -> None:
    """What is missing is told, with what to write into the job's file."""
    with pytest.raises(Stalled, match=told) as error:
        job(_event(tmp_path, event))
    assert error.value.reason == reason


def test_variables_that_are_missing(tmp_path: Path) -> None:
    """A job for a branch of GitLab, an event file that is not there, and a variable that the system did not set."""
    with pytest.raises(Stalled, match="merge_request_event"):
        job({"GITLAB_CI": "true"})
    with pytest.raises(Stalled, match="cannot be read"):
        job({**ACTIONS, "GITHUB_EVENT_PATH": str(tmp_path / "nowhere")})
    with pytest.raises(Stalled, match="CI_API_V4_URL"):
        job({name: value for name, value in GITLAB.items() if name != "CI_API_V4_URL"})
