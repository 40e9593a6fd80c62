"""The composition root: the one place that knows which adapter stands behind which port."""

from __future__ import annotations

import time
from dataclasses import dataclass

from adapters.jobs_local import LocalJobs
from adapters.repository import Repository
from adapters.servers_local import LocalServers
from adapters.source_git import GitSource
from adapters.store import Store
from controller import forges, vouching
from controller.settings import Settings
from reconcilers.loop import Ports, Reconciler


@dataclass(frozen=True)
class App:
    """Everything, put together."""

    settings: Settings
    store: Store
    repository: Repository
    forge: forges.AnyForge
    jobs: LocalJobs
    servers: LocalServers
    source: GitSource

    @property
    def ports(self) -> Ports:
        """The adapters as ports; mypy checks here that they fit."""
        vetting = vouching.vetting(self.settings, self.repository, self.forge)
        return Ports(self.store, self.repository, self.forge, self.jobs, self.servers, vetting)

    def reconciler(self) -> Reconciler:
        """Build the loop."""
        return Reconciler(self.ports, time.time)


def store(settings: Settings) -> Store:
    """Open the store alone."""
    return Store(settings.store)


def repository(settings: Settings) -> Repository:
    """Open the mirror of the repository alone."""
    author = (settings.author_name, settings.author_email)
    return Repository(
        settings.repository, settings.state / "git", branch=settings.branch, author=author,
        credentials=forges.credentials(settings),
    )  # fmt: skip


def build(settings: Settings) -> App:
    """Put everything together; touches nothing yet but the mirror's folder."""
    git = repository(settings)
    return App(
        settings=settings,
        store=store(settings),
        repository=git,
        forge=forges.forge(settings),
        jobs=LocalJobs(
            settings.state, settings.store, command=settings.workload_command,
            max_parallel=settings.parallel_jobs,
        ),
        servers=LocalServers(
            settings.state, settings.store, command=settings.server_command, host=settings.host,
            port=settings.port,
        ),
        source=GitSource(git, prefix=settings.prefix),
    )  # fmt: skip
