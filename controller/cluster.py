"""The operator, put together: which adapter stands behind which port in a cluster."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.jobs_kubernetes import KubernetesJobs
from adapters.kubernetes_api import DEPLOYMENT, MODEL_SPEC, Kind, KubernetesApi, Object
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.provenance_git import GitProvenance
from adapters.servers_kubernetes import KubernetesServers
from controller import forges, vouching, wiring
from controller.audit import Audit
from controller.desk import Desk
from controller.events import Events
from controller.host import Host
from controller.informer import Informer
from controller.lease import Lease
from controller.metrics import Metrics
from controller.passes import Passes, StatusSink
from controller.queue import WorkQueue
from controller.settings import ClusterSettings, Settings, load
from controller.statuses_kubernetes import ClusterStatuses
from controller.trunk import Trunk
from reconcilers.loop import Ports, Reconciler
from specs.errors import Stalled
from specs.modelspec import ModelKey

REMEMBERED = 2_000
"""Parsed specs and records in memory; most passes need none of them again soon."""


@dataclass(frozen=True)
class Parts:
    """What reaches out of the process. Tests stand between the loop and these, and nowhere else."""

    ports: Ports
    statuses: StatusSink
    events: Events


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
    repository, forge = wiring.repository(settings), forges.forge(settings)
    job_style, serve_style = styles(settings, kubernetes)
    ports = Ports(
        wiring.store(settings),
        repository,
        forge,
        KubernetesJobs(api, _owners(informer), job_style),
        KubernetesServers(
            api, _owners(informer), serve_style, network_policies=kubernetes.network_policies,
            deployments=_deployments(api, informer), took=lambda body: _took(informer, DEPLOYMENT, body),
            reachable=audit.reachable,
        ),
        vouching.vetting(settings, repository, forge),
    )  # fmt: skip
    statuses = ClusterStatuses(api, informer, lambda body: _took(informer, MODEL_SPEC, body))
    parts = between(Parts(ports, statuses, Events(api, informer)))
    reconciler = Reconciler(parts.ports, time.time, remembered=REMEMBERED)
    provenance = GitProvenance(repository, prefix=settings.prefix)
    trunk = Trunk(reconciler, provenance, clock, metrics.looked)
    passes = Passes(reconciler, parts.statuses, parts.events.tell)
    queue: WorkQueue[ModelKey] = WorkQueue(clock)
    desk = Desk(informer, queue, provenance, trunk, passes, metrics, clock)
    lease = Lease(api, _own_namespace(kubernetes), _identity(), clock)
    return Host(
        desk, lease, audit, metrics,
        workers=kubernetes.workers, interval=kubernetes.poll, resync=kubernetes.resync, port=kubernetes.port,
    )  # fmt: skip


def _took(informer: Informer, kind: Kind, body: Object) -> None:
    """Take in what we wrote ourselves, so that it is known at once, and no news when the watch tells of it."""
    informer.saw(kind, "MODIFIED", body)


def _kubernetes(settings: Settings) -> ClusterSettings:
    if settings.kubernetes is None:
        text = "trunkline.toml has no table [kubernetes]: the operator needs at least `image` and `serve_image` in it"
        raise Stalled("NoSettings", text)
    return settings.kubernetes


def styles(settings: Settings, kubernetes: ClusterSettings) -> tuple[PodStyle, PodStyle]:
    """Give what the pods of jobs, and those of servers, have in common."""
    common = {"store_url": settings.store, "secret": kubernetes.secret, "store_claim": kubernetes.store_claim}
    jobs = PodStyle(
        image=kubernetes.image, command=tuple(kubernetes.workload_command),
        service_account=kubernetes.job_service_account, **common,
    )  # fmt: skip
    servers = PodStyle(
        image=kubernetes.serve_image, command=tuple(kubernetes.server_command),
        service_account=kubernetes.serve_service_account, **common,
    )  # fmt: skip
    return jobs, servers


def _owners(informer: Informer) -> Callable[[ModelKey], Owner | None]:
    def find(key: ModelKey) -> Owner | None:
        live = informer.model(key)
        return Owner(key, live.uid) if live is not None else None

    return find


def _deployments(api: KubernetesApi, informer: Informer) -> Callable[[str, str], Object | None]:
    """Look Deployments up where they are known; before all of them are, ask."""

    def find(namespace: str, name: str) -> Object | None:
        known = informer.deployment(namespace, name)
        return known if known is not None or informer.is_synced(DEPLOYMENT) else api.get(DEPLOYMENT, namespace, name)

    return find


def _own_namespace(kubernetes: ClusterSettings) -> str:
    return os.environ.get("POD_NAMESPACE", kubernetes.lease_namespace)


def _identity() -> str:
    """Name this replica. A container that starts again in the same pod takes its lease up again at once.

    A pod has one such process at a time; elsewhere each start is a replica of its own.
    """
    return os.environ.get("POD_NAME") or f"operator-{uuid.uuid4().hex[:8]}"
