"""Serving in a cluster, put together: the backends that the settings allow, behind one port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from adapters.kubernetes_api import DEPLOYMENT, INFERENCE_SERVICE, Kind, KubernetesApi, Object
from adapters.kubernetes_kserve import KSERVE
from adapters.kubernetes_pods import Owners, PodStyle
from adapters.kubernetes_triton import TRITON, TritonStyle
from adapters.servers_cluster import ClusterServers
from adapters.servers_kserve import KServeServers
from adapters.servers_kubernetes import KubernetesServers
from adapters.servers_triton import SHARED, TritonServers
from controller.audit import Audit
from controller.informer import OPTIONAL, Informer
from controller.setting_tables import ClusterSettings

_DEPLOYMENT = "Deployment"


def servers(
    kubernetes: ClusterSettings, api: KubernetesApi, informer: Informer, audit: Audit, owners: Owners, style: PodStyle
) -> ClusterServers:  # fmt: skip
    """Give all backends. What the watches told is looked up; before they told all, the API is asked."""
    policies = kubernetes.network_policies
    deployments = _known(api, informer, DEPLOYMENT)
    took = _took(informer, DEPLOYMENT)
    writer = replace(style, command=tuple(kubernetes.triton_repository_command))
    triton = TritonStyle(kubernetes.triton_image, tuple(kubernetes.triton_command), writer)
    return ClusterServers(
        {
            _DEPLOYMENT: KubernetesServers(
                api, owners, style, network_policies=policies, deployments=deployments, took=took,
                reachable=audit.reachable,
            ),
            KSERVE: KServeServers(
                api, owners, style, mode=kubernetes.kserve_mode, inferences=_known(api, informer, INFERENCE_SERVICE),
                deployments=deployments, took=_took(informer, INFERENCE_SERVICE),
            ),
            TRITON: TritonServers(
                api, owners, triton, network_policies=policies,
                # Where no image is set there was hardly ever one; the watch tells all the same.
                deployments=deployments if triton.image else _told(informer, DEPLOYMENT), took=took,
                reachable=audit.reachable,
            ),
        },
        {_DEPLOYMENT: SHARED, TRITON: SHARED},
    )  # fmt: skip


def _known(api: KubernetesApi, informer: Informer, kind: Kind) -> Callable[[str, str], Object | None]:
    """Look objects up where they are known; before all of them are, ask, if the cluster knows the kind at all."""

    def find(namespace: str, name: str) -> Object | None:
        known = informer.child(kind, namespace, name)
        if known is not None or informer.is_synced(kind):
            return known
        return api.get(kind, namespace, name) if kind not in OPTIONAL or api.serves(kind) else None

    return find


def _told(informer: Informer, kind: Kind) -> Callable[[str, str], Object | None]:
    return lambda namespace, name: informer.child(kind, namespace, name)


def _took(informer: Informer, kind: Kind) -> Callable[[Object], None]:
    """Take in what we wrote, so that it is known at once, and no news when the watch tells of it.

    What came with it is not lost: a model that was acted on is looked at again soon.
    """

    def take(body: Object) -> None:
        informer.saw(kind, "MODIFIED", body)

    return take
