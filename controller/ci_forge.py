"""The forge of a CI job: reached with the job's own token, told nothing but what this job found out."""

from __future__ import annotations

from adapters.forge_http import ForgeClient
from controller.ci_environment import CiJob
from reconcilers.ports import Reviews


def reviews_of(job: CiJob) -> Reviews:
    """Give the port to what is said about the job's pull request."""
    client = ForgeClient(job.api, lambda: {"Authorization": f"Bearer {job.token}"})
    match job.kind:
        case "github":
            from adapters.forge_github import GitHubForge

            return GitHubForge(client, job.project, branch=job.target)
        case "gitlab":
            from adapters.forge_gitlab import GitLabForge

            return GitLabForge(client, job.project, branch=job.target)
        case "gitea":
            from adapters.forge_gitea import GiteaForge

            return GiteaForge(client, job.project, branch=job.target)
