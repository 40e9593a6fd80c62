"""What a CI system says about the pull request it runs for: GitHub, GitLab, Gitea and Forgejo. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from specs.errors import Stalled

Kind = Literal["github", "gitlab", "gitea"]


@dataclass(frozen=True)
class CiJob:
    """One job for one pull request."""

    kind: Kind
    api: str
    """Root of the forge's API."""
    project: str
    """Where the pull request is: ``owner/name``, for GitLab with all groups."""
    number: int
    """0 where a merge queue merges several at once."""
    base: str
    """Commit of the target branch, or of where the pull request left it."""
    head: str
    target: str
    """Name of the target branch."""
    branch: str
    """Name of the pull request's branch."""
    token: str = ""
    fork: bool = False
    """Whether it comes from another project, whose jobs mostly may not write."""
    url: str = ""
    """Of this job's page, for the details of checks."""
    summary: Path | None = None
    """File whose markdown the forge shows on the job's page."""


def job(environment: Mapping[str, str]) -> CiJob | None:
    """Give the job this runs in, None outside of CI; Stalled ``NoPullRequest`` in a job for something else."""
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    if "GITHUB_ACTIONS" in environment or _is_gitea(environment):
        return _actions(environment)
    return None


def _is_gitea(environment: Mapping[str, str]) -> bool:
    """Gitea and Forgejo imitate GitHub's variables, and say so in one of their own."""
    return any(environment.get(name) == "true" for name in ("GITEA_ACTIONS", "FORGEJO_ACTIONS"))


def _token(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in ("TRUNKLINE_TOKEN", *names) if environment.get(name)), "")


def _actions(environment: Mapping[str, str]) -> CiJob:
    gitea = _is_gitea(environment)
    event = _event(environment)
    names = ("GITEA_TOKEN", "FORGEJO_TOKEN", "GITHUB_TOKEN") if gitea else ("GITHUB_TOKEN",)
    server, project = (_variable(environment, f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY"))
    api = environment.get("GITHUB_API_URL") or (f"{server}/api/v1" if gitea else "https://api.github.com")
    run, summary = environment.get("GITHUB_RUN_ID", ""), environment.get("GITHUB_STEP_SUMMARY", "")
    try:
        told = _pull_of(event, project) or _group_of(event)
        if told is None:
            raise _no_pull_request("on: pull_request")
        return CiJob(
            kind="gitea" if gitea else "github", api=api, project=project, token=_token(environment, *names),
            url=f"{server}/{project}/actions/runs/{run}" if run else "", summary=Path(summary) if summary else None,
            **told,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"the event file says nothing usable about its pull request: {error!r}"
        raise Stalled("EventUnreadable", text) from error


def _pull_of(event: Mapping[str, Any], project: str) -> dict[str, Any] | None:
    pull = event.get("pull_request")
    if not isinstance(pull, dict):
        return None
    head, base = pull["head"], pull["base"]
    home = (head.get("repo") or {}).get("full_name", "")
    return {
        "number": int(pull["number"]), "base": str(base["sha"]), "head": str(head["sha"]), "target": str(base["ref"]),
        "branch": str(head["ref"]), "fork": home.lower() != project.lower(),
    }  # fmt: skip


def _group_of(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read what a merge queue is about to merge: several pull requests at once, with nobody to comment to."""
    group = event.get("merge_group")
    if not isinstance(group, dict):
        return None
    target = str(group["base_ref"]).removeprefix("refs/heads/")
    return {"number": 0, "base": str(group["base_sha"]), "head": str(group["head_sha"]), "target": target, "branch": ""}


def _event(environment: Mapping[str, str]) -> dict[str, Any]:
    path = _variable(environment, "GITHUB_EVENT_PATH")
    try:
        event = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        text = f"the event file {path} (GITHUB_EVENT_PATH) cannot be read: {error}"
        raise Stalled("EventUnreadable", text) from error
    return event if isinstance(event, dict) else {}


def _gitlab(environment: Mapping[str, str]) -> CiJob:
    if not environment.get("CI_MERGE_REQUEST_IID", "").isdecimal():
        raise _no_pull_request('rules: [if: $CI_PIPELINE_SOURCE == "merge_request_event"]')
    project = _variable(environment, "CI_MERGE_REQUEST_PROJECT_PATH")
    return CiJob(
        kind="gitlab", api=_variable(environment, "CI_API_V4_URL"), project=project,
        number=int(environment["CI_MERGE_REQUEST_IID"]),
        base=_variable(environment, "CI_MERGE_REQUEST_DIFF_BASE_SHA"),
        # In a pipeline for merged results CI_COMMIT_SHA is a merge that nobody pushed.
        head=environment.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or _variable(environment, "CI_COMMIT_SHA"),
        target=_variable(environment, "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"),
        branch=_variable(environment, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"),
        token=_token(environment, "GITLAB_TOKEN"),
        fork=environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH", project) != project,
        url=environment.get("CI_JOB_URL", ""),
    )  # fmt: skip


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise Stalled("CiUnknown", f"the CI system did not set {name}; is this one of its jobs for a pull request?")
    return value


def _no_pull_request(rule: str) -> Stalled:
    text = f"this job does not run for a pull request, so there is nothing to say; run it with `{rule}`"
    return Stalled("NoPullRequest", text)
