"""The composition root: the one place that knows which adapter stands behind which port."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from adapters.calendar import CronCalendar
from adapters.data_platform import DataPlatform, Platform
from adapters.data_sources import DataSources
from adapters.dataset_names import DatasetNames
from adapters.fleet_store import StoreFleet
from adapters.jobs_local import LocalJobs
from adapters.lookouts import PATIENCE
from adapters.prometheus_api import PrometheusApi
from adapters.registry_mlflow import MlflowRegistry
from adapters.repository import Repository
from adapters.servers_local import LocalServers
from adapters.source_git import GitSource
from adapters.store import Store
from adapters.traffic_prometheus import PrometheusTraffic
from adapters.traffic_scrape import Roots, ScrapedTraffic
from adapters.trunk_git import GitTrunk, TrackedBranch
from controller import forges, vouching
from controller.device import DeviceAgent
from controller.settings import Settings
from reconcilers.devices import DeviceLoop, DevicePorts
from reconcilers.limits import Limits
from reconcilers.loop import Reconciler
from reconcilers.ports import TrafficSource
from reconcilers.world import Ports
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
    data: DataSources
    registry: MlflowRegistry
    traffic: TrafficSource

    @property
    def ports(self) -> Ports:
        """The adapters as ports; mypy checks here that they fit."""
        vetting = vouching.vetting(self.settings, self.repository, self.forge)
        return Ports(
            self.store, self.repository, self.forge, self.jobs, self.servers, vetting, self.data, self.registry,
            self.traffic,
            calendar=CronCalendar(), fleet=StoreFleet(self.store, time.monotonic, poll=self.settings.interval),
        )  # fmt: skip

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


def data(settings: Settings, *, patience: float = PATIENCE) -> DataSources:
    """Open the door to data sets that may have newer versions; nobody is asked yet.

    A first answer may take ``patience`` seconds: little for a loop, more where a person waits.
    """
    given = settings.data
    return DataSources(
        settings.state / "data", credentials=given.credentials, allow_hosts=given.allow_hosts,
        allow_folders=given.allow_folders, poll=given.poll, patience=patience, platform=_platform(settings),
        names=DatasetNames(store(settings)),
    )  # fmt: skip


def _platform(settings: Settings) -> DataPlatform | None:
    key_file = settings.data.platform_key_file
    return DataPlatform(Platform(settings.data.platform_url, key_file)) if key_file is not None else None


def limits(settings: Settings) -> Limits:
    """Give how many proposals the repository takes."""
    forge = settings.forge
    return Limits(forge.max_open, forge.max_per_hour) if forge is not None else Limits()


def jobs(settings: Settings) -> LocalJobs:
    """Give the jobs of this machine alone."""
    return LocalJobs(
        settings.state, settings.store, command=settings.workload_command,
        max_parallel=settings.parallel_jobs, environment=settings.job_environment(os.environ),
    )  # fmt: skip


def servers(settings: Settings) -> LocalServers:
    """Give the server of this machine alone."""
    return LocalServers(
        settings.state, settings.store, command=settings.server_command, host=settings.host,
        port=settings.port, grpc_port=settings.grpc_port, environment=settings.signing.for_servers,
    )  # fmt: skip


def traffic(settings: Settings, roots: Roots, folder: Path | None = None) -> TrafficSource:
    """Give who counts live traffic; nobody is asked before somebody wants to know. ``folder`` is for what it keeps."""
    given = settings.monitoring
    if given.prometheus_url:
        return PrometheusTraffic(PrometheusApi(given.prometheus_url, given.token_file), poll=given.poll)
    return ScrapedTraffic(roots, poll=given.poll, folder=folder)


def device(settings: Settings) -> DeviceAgent:
    """Put a device together; touches nothing yet but the mirror's folder. Stalled ``NoSettings`` as ``repository``."""
    if not settings.repository:
        raise Stalled("NoSettings", "a device follows one repository; name it in its trunkline.toml")
    branch = TrackedBranch(
        settings.repository, settings.state / "git", branch=settings.branch, credentials=settings.credentials
    )
    kept, local = store(settings), servers(settings)
    fleet = StoreFleet(kept, time.monotonic)
    ports = DevicePorts(
        kept, local, fleet, traffic(settings, _local_roots(local), settings.state / "traffic"), CronCalendar(),
        vouching.vetting(settings, branch, None),
    )  # fmt: skip
    named = settings.device.device
    return DeviceAgent(
        named, DeviceLoop(ports, named, time.time), GitTrunk(branch, prefix=settings.prefix), local, fleet.tell,
        settings.state / "device", time.time, settings.device.tell_again,
    )  # fmt: skip


def _local_roots(server: LocalServers) -> Roots:
    """Give the one server of this machine, whatever the model is; none where it does not live."""

    def find(_name: str) -> list[str]:
        url = server.url()
        return [url] if url else []

    return find


def build(settings: Settings) -> App:
    """Put everything together; touches nothing yet but the mirror's folder."""
    git = repository(settings)
    local = servers(settings)
    return App(
        settings=settings,
        store=store(settings),
        repository=git,
        forge=forges.forge(settings),
        jobs=jobs(settings),
        servers=local,
        source=GitSource(git, prefix=settings.prefix),
        data=data(settings),
        registry=MlflowRegistry(settings.tracking.access, time.monotonic, look=settings.tracking.poll),
        traffic=traffic(settings, _local_roots(local), settings.state / "traffic"),
    )  # fmt: skip
