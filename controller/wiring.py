"""The composition root: the one place that knows which adapter stands behind which port."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from adapters.jobs_local import LocalJobs
from adapters.repository import Repository
from adapters.servers_local import LocalServers
from adapters.source_git import GitSource
from adapters.store import Store
from controller import forges, vouching
from controller.settings import Settings
from reconcilers.limits import Limits
from reconcilers.loop import Ports, Reconciler
from specs.errors import Stalled


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
        return Reconciler(self.ports, time.time, limits=limits(self.settings))


def store(settings: Settings) -> Store:
    """Open the store alone."""
    return Store(settings.store)


def repository(settings: Settings) -> Repository:
    """Open the mirror of the repository alone. Stalled ``NoSettings`` where settings bind several."""
    if not settings.repository:
        text = "these settings have [[bindings]], for the operator alone; name one repository in a trunkline.toml"
        raise Stalled("NoSettings", text)
    author = (settings.author_name, settings.author_email)
    return Repository(
        settings.repository, settings.state / "git", branch=settings.branch, author=author,
        credentials=forges.credentials(settings),
    )  # fmt: skip


def limits(settings: Settings) -> Limits:
    """Give how many proposals the repository takes."""
    forge = settings.forge
    return Limits(forge.max_open, forge.max_per_hour) if forge is not None else Limits()


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
            max_parallel=settings.parallel_jobs, environment=settings.job_environment(os.environ),
        ),
        servers=LocalServers(
            settings.state, settings.store, command=settings.server_command, host=settings.host,
            port=settings.port, environment=settings.signing.for_servers,
        ),
        source=GitSource(git, prefix=settings.prefix),
    )  # fmt: skip
