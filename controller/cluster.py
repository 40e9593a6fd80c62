"""The operator, put together: which adapter stands behind which port in a cluster."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.calendar import CronCalendar
from adapters.fleet_store import StoreFleet
from adapters.git_environment import sanitise
from adapters.jobs_kubernetes import KubernetesJobs
from adapters.kubernetes_api import KubernetesApi
from adapters.kubernetes_pods import JobSecret, Owner, PodStyle
from adapters.kubernetes_roots import roots
from adapters.kubernetes_serving import GRPC_PORT
from adapters.provenance_git import GitProvenance
from adapters.registry_mlflow import MlflowRegistry
from adapters.repository import Repository
from adapters.tracking_access import TOKEN_FILE
from controller import alerts, cluster_serving, forges, vouching, wiring
from controller.audit import Audit
from controller.bindings import Binding, Bindings, Site
from controller.desk import Desk
from controller.events import Events
from controller.hooks import Hook, Hooks
from controller.host import Host
from controller.informer import Change, Informer
from controller.lease import Lease
from controller.metrics import Metrics
from controller.model_metrics import ModelMetrics
from controller.passes import Passes, Said, Saw, StatusSink
from controller.queue import Priority, WorkQueue
from controller.settings import BindingSettings, ClusterSettings, Settings, load
from controller.statuses_kubernetes import ClusterStatuses, told, troubled
from controller.trunk import Trunk
from controller.webhooks import Webhooks
from reconcilers.loop import Reconciler
from reconcilers.ports import Calendar, DataSources, Fleet, Jobs, ModelRegistry, Servers, Store, TrafficSource
from reconcilers.world import Ports
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.signatures import KEY_FILE_VARIABLE

REMEMBERED = 2_000
"""Parsed specs and records in memory; most passes need none of them again soon. Repositories share the number."""
_LEAST_REMEMBERED = 100


@dataclass(frozen=True)
class Parts:
    """What reaches out of the process. Tests stand between the loop and these, and nowhere else."""

    ports: Ports
    statuses: StatusSink
    said: Said


Between = Callable[[Parts], Parts]


def host(between: Between = lambda parts: parts, api_type: type[KubernetesApi] = KubernetesApi) -> Host:
    """Build the operator from ``trunkline.toml`` and the environment; Stalled where they do not say enough."""
    settings = load(Path.cwd())
    metrics = Metrics()
    kubernetes = _kubernetes(settings)
    api = api_type.connect(connections=kubernetes.workers + 4, counted=metrics.requested)
    return build(settings, kubernetes, api, metrics, between)


def build(
    settings: Settings, kubernetes: ClusterSettings, api: KubernetesApi, metrics: Metrics, between: Between
) -> Host:
    """Put everything together; nothing is started, nobody is asked anything yet."""
    clock = time.monotonic
    informer = Informer(clock)
    audit = Audit(api, informer, kubernetes.namespaces)
    queue: WorkQueue[ModelKey] = WorkQueue(clock)

    def tell(change: Change) -> None:
        queue.add(change.key, Priority.CHANGE)

    models = ModelMetrics(lambda: told(informer))
    metrics.watch(models.gauges)
    common = replace(_common(settings, kubernetes, api, informer, audit, tell), saw=models.saw)
    bindings = bind(settings, common, metrics, between)
    desk = Desk(informer, queue, bindings, metrics, clock)
    lease = Lease(api, _own_namespace(kubernetes), _identity(), clock)
    return Host(
        desk, lease, audit, metrics,
        workers=kubernetes.workers, interval=kubernetes.poll, resync=kubernetes.resync, port=kubernetes.port,
        webhooks=_webhooks(settings, kubernetes, bindings, metrics),
        alerts=alerts.make(settings.alerts, settings.state, lambda: troubled(informer)),
    )  # fmt: skip


@dataclass(frozen=True)
class Common:
    """What the loops of all repositories reach."""

    store: Store
    jobs: Jobs
    servers: Servers
    statuses: StatusSink
    said: Said
    data: DataSources | None = None
    registry: ModelRegistry | None = None
    traffic: TrafficSource | None = None
    calendar: Calendar | None = None
    saw: Saw | None = None
    """Who is told what passes see, if anybody is."""
    fleet: Fleet | None = None


def _common(
    settings: Settings, kubernetes: ClusterSettings, api: KubernetesApi, informer: Informer, audit: Audit,
    tell: Callable[[Change], None],
) -> Common:  # fmt: skip
    job_style, serve_style = styles(settings, kubernetes)
    return Common(
        wiring.store(settings),
        KubernetesJobs(api, _owners(informer), job_style),
        cluster_serving.servers(kubernetes, api, informer, audit, _owners(informer), serve_style),
        ClusterStatuses(api, informer, tell),
        Events(api, informer).tell,
        wiring.data(settings),
        MlflowRegistry(settings.tracking.access, time.monotonic, look=settings.tracking.poll),
        wiring.traffic(settings, roots(api)),
        CronCalendar(),
        fleet=StoreFleet(wiring.store(settings), time.monotonic),
    )  # fmt: skip


def bind(settings: Settings, common: Common, metrics: Metrics, between: Between) -> Bindings:
    """Give every namespace its binding; those in the same repository and branch share one site."""
    places: dict[tuple[str, str], list[BindingSettings]] = {}
    for each in settings.bound:
        places.setdefault(_place(each), []).append(each)
    remembered = max(REMEMBERED // len(places), _LEAST_REMEMBERED)
    found: dict[str, Binding] = {}
    for bound in places.values():
        own = settings.at(bound[0])
        repository, forge = _opened(own, bound[0])
        url, branch = sanitise(repository.url), repository.branch
        vetting = vouching.vetting(own, repository, forge)
        ports = Ports(
            common.store, repository, forge, common.jobs, common.servers, vetting, common.data, common.registry,
            common.traffic, common.calendar, common.fleet,
        )  # fmt: skip
        parts = between(Parts(ports, common.statuses, common.said))
        reconciler = Reconciler(parts.ports, time.time, remembered=remembered, limits=wiring.limits(own))
        provenance = GitProvenance(repository, prefix=sorted(set(map(_folder, bound))))
        trunk = Trunk(f"{url} ({branch})", reconciler, provenance, time.monotonic, metrics.looked)
        site = Site(trunk, provenance, _passes(reconciler, parts, common.saw))
        for each in bound:
            words = f"branch {branch} of {url}{f' below {_folder(each)}/' if _folder(each) else ''}"
            found |= dict.fromkeys(each.namespaces, Binding(site, _folder(each), words))
    return Bindings(found)


def _passes(reconciler: Reconciler, parts: Parts, saw: Saw | None) -> Passes:
    return Passes(reconciler, parts.statuses, parts.said, *([saw] if saw else []))


def _opened(own: Settings, binding: BindingSettings) -> tuple[Repository, forges.AnyForge]:
    try:
        return wiring.repository(own), forges.forge(own)
    except Stalled as error:
        raise Stalled(error.reason, f"namespaces {', '.join(binding.namespaces)}: {error.message}") from error


def _place(binding: BindingSettings) -> tuple[str, str]:
    return binding.repository, binding.branch


def _folder(binding: BindingSettings) -> str:
    return binding.prefix.strip("/")


def _webhooks(
    settings: Settings, kubernetes: ClusterSettings, bindings: Bindings, metrics: Metrics
) -> Webhooks | None:
    """Listen for those repositories whose forge has a secret to sign with; nobody listens where none has."""
    hooks = {}
    for each in settings.bound:
        binding, forge = bindings.of(each.namespaces[0]), each.forge
        if binding is not None and forge is not None and forge.webhook_secret_file is not None:
            project = "" if forge.kind == "local" else forges.place(settings.at(each)).project
            hooks[_place(each)] = Hook(forge.kind, forge.webhook_secret_file, project, binding.site.trunk.want)
    return Webhooks(kubernetes.webhook_port, Hooks(list(hooks.values())), metrics.webhook) if hooks else None


def _kubernetes(settings: Settings) -> ClusterSettings:
    if settings.kubernetes is None:
        text = "trunkline.toml has no table [kubernetes]: the operator needs at least `image` and `serve_image` in it"
        raise Stalled("NoSettings", text)
    return settings.kubernetes


def styles(settings: Settings, kubernetes: ClusterSettings) -> tuple[PodStyle, PodStyle]:
    """Give what the pods of jobs, and those of servers, have in common."""
    common: dict[str, Any] = {
        "store_url": settings.store, "secret": kubernetes.secret, "store_claim": kubernetes.store_claim,
    }  # fmt: skip
    believed = settings.signing.for_servers
    places = {**settings.data.for_jobs, **settings.tracking.for_jobs}
    jobs = PodStyle(
        image=kubernetes.image, command=tuple(kubernetes.workload_command),
        service_account=kubernetes.job_service_account, cache_claim=kubernetes.cache_claim,
        environment=tuple((believed | places).items()), job_secrets=job_secrets(settings), **common,
    )  # fmt: skip
    servers = PodStyle(
        image=kubernetes.serve_image, command=tuple(kubernetes.server_command),
        service_account=kubernetes.serve_service_account, environment=tuple(believed.items()),
        grpc_port=GRPC_PORT if kubernetes.grpc else 0, **common,
    )  # fmt: skip
    return jobs, servers


def job_secrets(settings: Settings) -> tuple[JobSecret, ...]:
    """Give the Secrets that jobs get, each only those who need it: who signs, who fetches data, who tells a tracker."""
    signing = JobSecret("signing", settings.signing.secret, ("train", "export"), ((KEY_FILE_VARIABLE, "key.pem"),))
    data = JobSecret(
        "data", settings.data.secret, ("import",), tuple(settings.data.secret_files.items()),
        tuple(settings.data.environment),
    )  # fmt: skip
    tracking = JobSecret("tracking", settings.tracking.secret, ("train", "tune", "track"), ((TOKEN_FILE, "token"),))
    return tuple(secret for secret in (signing, data, tracking) if secret.name)


def _owners(informer: Informer) -> Callable[[ModelKey], Owner | None]:
    def find(key: ModelKey) -> Owner | None:
        live = informer.model(key)
        return Owner(key, live.uid) if live is not None else None

    return find


def _own_namespace(kubernetes: ClusterSettings) -> str:
    return os.environ.get("POD_NAMESPACE", kubernetes.lease_namespace)


def _identity() -> str:
    """Name this replica. A container that starts again in the same pod takes its lease up again at once.

    A pod has one such process at a time; elsewhere each start is a replica of its own.
    """
    return os.environ.get("POD_NAME") or f"operator-{uuid.uuid4().hex[:8]}"
