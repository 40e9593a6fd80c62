"""Serving by NVIDIA Triton: one Deployment for each model, beside what our own server would need.

Like ``servers_kubernetes``, which it shares its verdicts with; but Triton keeps no pictures, counts nothing for us,
and cannot split live traffic between two versions by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from adapters.kubernetes_api import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    SERVICE,
    Kind,
    KubernetesApi,
    Object,
)  # fmt: skip
from adapters.kubernetes_children import Children
from adapters.kubernetes_pods import MODEL, Owners, selector
from adapters.kubernetes_serving import (
    BACKEND,
    DEFAULT_OPTIONS,
    OPTIONS,
    PORT,
    SERVE,
    SHAPE,
    STYLE,
    Failure,
    companion,
    service_name,
)
from adapters.kubernetes_triton import (
    TRITON,
    TritonStyle,
    triton_autoscaler,
    triton_deployment,
    triton_labels,
    triton_name,
)  # fmt: skip
from adapters.kubernetes_verdicts import Rollout, answering, failure, hindrance
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.names import model_of_serving_name, serving_name
from specs.serving_facts import Rejected, ServingState, ServingTarget

SHARED = (NETWORK_POLICY, SERVICE, DISRUPTION_BUDGET)
"""What goes with the pods of a model, whichever of Triton and our own server runs in them."""


class TritonServers:
    """Serves releases by Deployments named ``triton-<model>``, reached by the Service ``serve-<model>``.

    What our own server would make of a file that failed or was rejected, this makes of it too.
    """

    def __init__(
        self, api: KubernetesApi, owners: Owners, style: TritonStyle, *, network_policies: bool,
        deployments: Callable[[str, str], Object | None] | None = None,
        took: Callable[[Object], None] = lambda found: None,
        reachable: Callable[[str, str], bool] = lambda namespace, name: True,
    ) -> None:  # fmt: skip
        """As those of ``KubernetesServers``."""
        self._api = api
        self._children = Children(api, owners)
        self._style = style
        self._network_policies = network_policies
        self._deployments = deployments or (lambda namespace, name: api.get(DEPLOYMENT, namespace, name))
        self._took = took
        self._reachable = reachable

    def state(self, name: str) -> ServingState | None:
        """Give what answers, what is asked for, and why that failed; None where nothing of ours is there."""
        key = ModelKey(*model_of_serving_name(name))
        found = self._deployments(key.namespace, triton_name(key.name))
        if found is None or not self._children.mine(found, key, SERVE):
            return None
        return self._state(name, key, found)

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask the cluster for a target; old pods go only as new ones get ready. No-op where it is asked for already.

        Stalled ``BackendMissing`` where no image of Triton is set, ``CanaryUnsupported`` for a share of live traffic.
        """
        key = ModelKey(*model_of_serving_name(target.name))
        if not self._style.image:
            text = "no image of Triton is set: give triton_image in the table [kubernetes] of trunkline.toml"
            raise Stalled("BackendMissing", text)
        owner = self._children.owner(key)
        live = self._children.live(DEPLOYMENT, owner, triton_name(key.name))
        if target.share is not None and live is not None:
            text = "Triton does not split live traffic between two versions: leave spec.serving.strategy.canary out"
            raise Stalled("CanaryUnsupported", f"{text}, or let backend Deployment or KServe serve")
        for kind in SHARED:
            wanted = companion(kind, owner, target.shape, network_policies=self._network_policies)
            self._children.settle(kind, owner, service_name(key.name), SERVE, wanted)
        scaler = triton_autoscaler(owner, target.shape)
        self._children.settle(AUTOSCALER, owner, triton_name(key.name), SERVE, scaler)
        remembered = self._remembered(target, key, live) if live else None
        given_up = (_given_up(target, live) if live else None) or rejected  # the first verdict stays
        manifest = triton_deployment(owner, self._style, target, failure=remembered, live=live, rejected=given_up)
        if live is not None and target.shape.autoscaling is not None and "replicas" in manifest["spec"]:
            # The autoscaler may be about to take the number over; whoever comes second looks again.
            manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        written = self._children.apply(DEPLOYMENT, manifest, live)
        self._took(written)
        return self._state(target.name, key, written)

    def withdraw(self, name: str, *, but: Collection[Kind] = ()) -> None:
        """Delete all that serves a model, ``but`` what another backend goes on using; no-op where it is gone."""
        key = ModelKey(*model_of_serving_name(name))
        self._children.remove(AUTOSCALER, key, triton_name(key.name), SERVE)
        for kind in reversed([kind for kind in SHARED if kind not in but]):
            self._children.remove(kind, key, service_name(key.name), SERVE)
        self._children.remove(DEPLOYMENT, key, triton_name(key.name), SERVE)

    def names(self) -> Sequence[str]:
        """Give the models that have a Deployment with Triton, in all namespaces, sorted."""
        found = self._api.names(DEPLOYMENT, labels=selector(component=SERVE) | {BACKEND: TRITON})
        keys = [(str(m["namespace"]), str(m["labels"].get(MODEL, ""))) for m in found]
        return sorted({serving_name(*key) for key in keys if key[1]})

    def _state(self, name: str, key: ModelKey, found: Object) -> ServingState:
        rollout = Rollout.of(found)
        verdict, words = rollout.latched, ""
        if rollout.settled and not rollout.asleep:
            release, count = rollout.asked, rollout.available
        else:
            pods = self._pods(key)
            answer, count = answering(rollout, pods)
            release = answer or (None, None)
            verdict = failure(rollout, pods) or verdict
            words = "" if verdict else hindrance(rollout, pods)
        return ServingState(
            name, ready=release != (None, None), version=release[0], file=release[1], url=self._url(name, key),
            failed_file=verdict.file if verdict else None, failure=verdict.words if verdict else words,
            asked=rollout.asked[1], asked_version=rollout.asked[0], shape=self._shape(found, key, rollout),
            options=(found["metadata"].get("annotations") or {}).get(OPTIONS, DEFAULT_OPTIONS),
            replicas=(min(count, rollout.wanted), rollout.wanted), rejected=rollout.rejected,
        )  # fmt: skip

    def _shape(self, found: Object, key: ModelKey, rollout: Rollout) -> str:
        """Give the digest of its shape; none where it was bent, so that it is rolled out again."""
        notes = found["metadata"].get("annotations") or {}
        alone = not self._reachable(key.namespace, service_name(key.name))
        bent = alone or rollout.asleep or notes.get(STYLE) != self._style.digest
        return "" if bent else str(notes.get(SHAPE, ""))

    def _remembered(self, target: ServingTarget, key: ModelKey, live: Object) -> Failure | None:
        """Say what failure the Deployment must remember once it asks for ``target``."""
        rollout = Rollout.of(live)
        version, file = rollout.asked
        if (target.version, target.file) == (version, file):
            return rollout.latched
        if version is None or target.version > version:
            return None
        return failure(rollout, self._pods(key))

    def _pods(self, key: ModelKey) -> Sequence[Object]:
        return self._api.list(POD, key.namespace, labels=triton_labels(key.name))

    def _url(self, name: str, key: ModelKey) -> str:
        return f"http://{service_name(key.name)}.{key.namespace}.svc:{PORT}/v2/models/{name}"


def _given_up(target: ServingTarget, live: Object) -> Rejected | None:
    """Say what a Deployment gave up for what it asks for, where that is the very target."""
    rollout = Rollout.of(live)
    return rollout.rejected if rollout.asked == (target.version, target.file) else None
