"""The table ``[provenance]`` put together: what is required of commits, and who is asked about them."""

from __future__ import annotations

from adapters.arrivals import ForgeArrivals
from adapters.repository import Repository
from adapters.signatures import CommitSignatures, KeyFiles
from controller.settings import Settings
from reconcilers.ports import Reviews
from reconcilers.vetting import Policy, Vetting


def vetting(settings: Settings, repository: Repository, reviews: Reviews | None) -> Vetting:
    """Build it for one repository and the forge where its pull requests live."""
    asked = settings.provenance
    policy = Policy(
        signed=asked.require_signed, pull_request=asked.require_pull_request, approvals=asked.approvals,
        not_counted=frozenset({settings.author_name, *asked.not_counted}),
    )  # fmt: skip
    arrivals = ForgeArrivals(reviews, settings.state / "provenance") if reviews is not None else None
    return Vetting(policy, arrivals, signatures(settings, repository) if asked.require_signed else None)


def signatures(settings: Settings, repository: Repository) -> CommitSignatures:
    """Build what checks the signatures of commits against the keys that are accepted."""
    asked = settings.provenance
    keys = KeyFiles(asked.ssh_signers, asked.ssh_revoked, tuple(asked.gpg_keys))
    return CommitSignatures(repository, keys, settings.state / "provenance")
