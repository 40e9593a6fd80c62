"""A version beside what serves in pods of its own, whose requests a Gateway splits: the half of serving that is so.

The route changes before the Deployment that says so, and the Deployment goes last: as long as it is there, somebody
looks after the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from adapters.kubernetes_api import DEPLOYMENT, NETWORK_POLICY, POD, SERVICE, KubernetesApi, NoSuchKind, Object
from adapters.kubernetes_canary import standing_of
from adapters.kubernetes_gateway import HTTP_ROUTE, MISSING, beside_companion, http_route, trouble_of
from adapters.kubernetes_owned import OwnedObjects, is_ours
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.kubernetes_serving import (
    BESIDE,
    FILE,
    SERVE,
    VERSION,
    Failure,
    beside_deployment,
    beside_name,
    pod_labels,
    service_name,
)
from adapters.kubernetes_verdicts import Rollout, failure, hindrance
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.serving_facts import CanaryState, ServingTarget, Share


@dataclass(frozen=True)
class Beside:
    """What stands beside what serves."""

    canary: CanaryState
    failure: Failure | None = None
    """Why its file can never serve."""
    words: str = ""
    """What is in its way that may pass."""

    @property
    def named(self) -> tuple[int, str]:
        """Its version and file."""
        return self.canary.version, self.canary.file


class GatewayCanaries:
    """Puts versions beside what serves, and lets them go."""

    def __init__(
        self, api: KubernetesApi, style: PodStyle, deployments: Callable[[str, str], Object | None], *,
        network_policies: bool, took: Callable[[Object], None], clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._api = api
        self._owned = OwnedObjects(api)
        self._style = style
        self._deployments = deployments
        self._network_policies = network_policies
        self._took = took
        self._clock = clock

    def look(self, key: ModelKey) -> Beside | None:
        """Give what stands beside what serves, ready once its pods are and every Gateway has taken the route."""
        found = self._deployments(key.namespace, beside_name(key.name))
        if found is None or not is_ours(found, key, BESIDE) or found["metadata"].get("deletionTimestamp"):
            return None
        canary = standing_of(found, VERSION, FILE)
        if canary is None:
            return None
        rollout = Rollout.of(found)
        verdict, words = None, ""
        if not rollout.settled:
            pods = self._api.list(POD, key.namespace, labels=pod_labels(key.name, BESIDE))
            verdict = failure(rollout, pods)
            words = "" if verdict else hindrance(rollout, pods)
        words = words or trouble_of(self._route(key))
        return Beside(replace(canary, ready=rollout.settled and not words), verdict, words)

    def route(self, owner: Owner, target: ServingTarget, share: Share | None) -> None:
        """Lead a model's requests: the share to what is beside what serves, the rest, or all, to that.

        Stalled where there is no Gateway API.
        """
        gateway = target.shape.gateway
        assert gateway is not None  # noqa: S101 - for type checkers; nobody asks without
        try:
            live = self._owned.live(HTTP_ROUTE, owner, service_name(owner.key.name))
            self._owned.apply(HTTP_ROUTE, http_route(owner, gateway, share), live)
        except NoSuchKind as error:
            raise Stalled(error.reason, MISSING) from error

    def put(self, owner: Owner, target: ServingTarget) -> None:
        """Put a target beside what serves, and give it its share."""
        name = beside_name(owner.key.name)
        live = self._owned.live(DEPLOYMENT, owner, name)
        for kind in (NETWORK_POLICY, SERVICE):
            wanted = beside_companion(
                kind, owner, target.shape, network_policies=self._network_policies, grpc_port=self._style.grpc_port
            )
            self._owned.settle(kind, owner, name, BESIDE, wanted)
        self.route(owner, target, target.share)
        manifest = beside_deployment(owner, self._style, target, live, self._clock())
        self._took(self._owned.apply(DEPLOYMENT, manifest, live))

    def drop(self, key: ModelKey) -> None:
        """Delete what stands beside what serves; no-op where nothing does. No route may lead there any more."""
        for kind in (NETWORK_POLICY, SERVICE, DEPLOYMENT):
            self._owned.remove(kind, key, beside_name(key.name), BESIDE)

    def withdraw(self, key: ModelKey) -> None:
        """Delete the route, and what it led to."""
        with suppress(NoSuchKind):
            self._owned.remove(HTTP_ROUTE, key, service_name(key.name), SERVE)
        self.drop(key)

    def _route(self, key: ModelKey) -> Object | None:
        try:
            return self._api.get(HTTP_ROUTE, key.namespace, service_name(key.name))
        except NoSuchKind:
            return None
