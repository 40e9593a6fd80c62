"""Serving in a cluster: one Deployment for each model, and what goes with it; the cluster keeps it running.

The Deployment is written last and deleted last: that it asks for a target says that the rest is there, and as long as
it is there, a withdrawal is not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from adapters.kubernetes_api import CONFIG_MAP, DEPLOYMENT, POD, Kind, KubernetesApi, Object
from adapters.kubernetes_canary import stable_of
from adapters.kubernetes_owned import OwnedObjects, is_ours
from adapters.kubernetes_pods import MODEL, Owner, Owners, PodStyle, selector
from adapters.kubernetes_serving import (
    BACKEND,
    BUILD,
    COMPANIONS,
    DEFAULT_OPTIONS,
    GATEWAY,
    OPTIONS,
    PORT,
    SERVE,
    SHAPE,
    STYLE,
    Failure,
    companion,
    deployment,
    pod_labels,
    service_name,
    share_map,
    style_digest,
)  # fmt: skip
from adapters.kubernetes_verdicts import Rollout, answering, failure, hindrance
from adapters.servers_gateway import Beside, GatewayCanaries
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.names import model_of_serving_name, serving_name
from specs.serving_facts import Rejected, ServingState, ServingTarget, Share

Deployments = Callable[[str, str], Object | None]
"""Looks up a Deployment by namespace and name, in a cache that may be a little behind."""


class KubernetesServers:
    """Serves releases by Deployments named ``serve-<model>`` in the namespace of the model.

    Objects of these names that are not ours are never touched: Stalled ``Conflict`` says so. A file that can never
    work is remembered on the Deployment that fell back from it, until a newer version is asked for.
    """

    def __init__(
        self, api: KubernetesApi, owners: Owners, style: PodStyle, *, network_policies: bool,
        deployments: Deployments | None = None, took: Callable[[Object], None] = lambda found: None,
        reachable: Callable[[str, str], bool] = lambda namespace, name: True,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Without ``deployments``, ``state`` asks the API each time; ``took`` gets each Deployment that was written.

        ``reachable`` says whether the Service of that namespace and name is there; where not, all is asked for again.
        ``clock`` gives Unix time in seconds.
        """
        self._api = api
        self._owners = owners
        self._style = style
        self._style_digest = style_digest(style)
        self._network_policies = network_policies
        self._deployments = deployments or self._read
        self._took = took
        self._reachable = reachable
        self._clock = clock
        self._owned = OwnedObjects(api)
        self._gateways = GatewayCanaries(
            api, style, self._deployments, network_policies=network_policies, took=took, clock=clock
        )

    def state(self, name: str) -> ServingState | None:
        """Give what answers, what is asked for, and why that failed; None where nothing of ours is there.

        While a rollout is under way the model's pods are listed; else the Deployment alone tells all.
        """
        key = ModelKey(*model_of_serving_name(name))
        found = self._deployments(key.namespace, service_name(key.name))
        if found is None or not is_ours(found, key, SERVE, self._owners(key)):
            return None
        return self._state(name, key, found)

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask the cluster for a target; old pods go only as new ones get ready. No-op where it is asked for already.

        Asking for an older version than the one that failed is falling back: the failure is remembered, until a newer
        version is asked for. What is ``rejected`` is remembered until another target is. A target with a share is put
        beside what is asked for now, in the same pods. Transient ``ModelGone`` where there is no such ModelSpec.
        """
        key = ModelKey(*model_of_serving_name(target.name))
        owner, name = self._owner(key), service_name(key.name)
        live = self._owned.live(DEPLOYMENT, owner, name)
        for kind in COMPANIONS:
            wanted = companion(
                kind, owner, target.shape, network_policies=self._network_policies, grpc_port=self._style.grpc_port
            )
            self._owned.settle(kind, owner, name, SERVE, wanted)
        stable = stable_of(live, target.shape, target.options) if live and target.share else None
        if stable is not None and (stable.version, stable.file) == (target.version, target.file):
            stable = None  # it serves alone by now, whoever saw to that
        splits, beside = target.shape.gateway is not None, self._beside(key, live)
        goes = (splits or _is_split(live)) and not (splits and (stable or _is_promoted(target, live, beside)))
        if live is not None:
            self._share(owner, live, target, beside=stable is not None and not splits)
        if goes and splits:
            self._gateways.route(owner, target, None)
        remembered = self._remembered(target, key, live, beside) if live else None
        given_up = _given_up(target, live, beside, rejected) if live else rejected
        manifest = deployment(
            owner, self._style, stable or target, failure=remembered, live=live, rejected=given_up,
            canary=target if stable and not splits else None, now=self._clock(),
        )  # fmt: skip
        if live is not None and target.shape.autoscaling is not None and "replicas" in manifest["spec"]:
            # The autoscaler may be about to take the number over; whoever comes second looks again.
            manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        written = self._owned.apply(DEPLOYMENT, manifest, live)
        self._took(written)
        if stable is not None and splits:
            self._gateways.put(owner, target)
        elif goes:
            self._gateways.drop(key) if splits else self._gateways.withdraw(key)
        return self._state(target.name, key, written)

    def withdraw(self, name: str, *, but: Collection[Kind] = ()) -> None:
        """Delete all that serves a model, unless it is somebody else's; no-op where it is gone.

        What is of a kind in ``but`` stays, since another backend goes on using it.
        """
        key = ModelKey(*model_of_serving_name(name))
        if _is_split(self._api.get(DEPLOYMENT, key.namespace, service_name(key.name))):
            self._gateways.withdraw(key)
        for kind in (CONFIG_MAP, *(kind for kind in reversed(COMPANIONS) if kind not in but), DEPLOYMENT):
            self._owned.remove(kind, key, service_name(key.name), SERVE)

    def names(self) -> Sequence[str]:
        """Give the models that have a Deployment of ours, in all namespaces, sorted."""
        found = self._api.names(DEPLOYMENT, labels=selector(component=SERVE))
        keys = [(str(m["namespace"]), str(m["labels"].get(MODEL, ""))) for m in found]
        return sorted({serving_name(*key) for key in keys if key[1]})

    def _state(self, name: str, key: ModelKey, found: Object) -> ServingState:
        rollout, beside = Rollout.of(found), self._beside(key, found)
        verdict, words = rollout.latched, ""
        if rollout.settled and not rollout.asleep:
            release, count = rollout.asked, rollout.available
        else:
            pods = self._pods(key)
            answer, count = answering(rollout, pods)
            release = answer or (None, None)
            verdict = failure(rollout, pods) or verdict
            words = "" if verdict else hindrance(rollout, pods)
        if beside is not None:
            verdict = beside.failure or verdict
            words = "" if verdict else words or beside.words
        return ServingState(
            name, ready=release != (None, None), version=release[0], file=release[1], url=self._url(name, key),
            failed_file=verdict.file if verdict else None, failure=verdict.words if verdict else words,
            asked=rollout.asked[1], asked_version=rollout.asked[0], shape=self._shape(found, rollout),
            options=(found["metadata"].get("annotations") or {}).get(OPTIONS, DEFAULT_OPTIONS),
            build=(found["metadata"].get("annotations") or {}).get(BUILD, ""),
            replicas=(min(count, rollout.wanted), rollout.wanted), rejected=rollout.rejected,
            canary=beside.canary if beside is not None else None,
        )  # fmt: skip

    def _beside(self, key: ModelKey, found: Object | None) -> Beside | None:
        """Give what is beside what serves; in the same pods what is in its way is in the way of both."""
        if found is None:
            return None
        if _is_split(found):
            return self._gateways.look(key)
        rollout = Rollout.of(found)
        return Beside(replace(rollout.canary, ready=rollout.settled)) if rollout.canary is not None else None

    def _share(self, owner: Owner, live: Object, target: ServingTarget, *, beside: bool) -> None:
        """Tell the servers the share of what is beside what they serve; nothing for what is to go, before it goes.

        What is to serve alone keeps the share that it had in pods that go as new ones come.
        """
        known = Rollout.of(live).canary
        manifest = share_map(owner, target.version, target.share) if beside and target.share else None
        if manifest is None and known is not None and (known.version, known.file) != (target.version, target.file):
            manifest = share_map(owner, known.version, Share(0))
        if manifest is not None:
            name = service_name(owner.key.name)
            self._owned.apply(CONFIG_MAP, manifest, self._owned.live(CONFIG_MAP, owner, name))

    def _shape(self, found: Object, rollout: Rollout) -> str:
        """Give the digest of its shape; none where it was bent, so that it is rolled out again."""
        metadata = found["metadata"]
        notes = metadata.get("annotations") or {}
        alone = not self._reachable(metadata["namespace"], metadata["name"])
        bent = alone or rollout.asleep or notes.get(STYLE) != self._style_digest
        return "" if bent else str(notes.get(SHAPE, ""))

    def _remembered(self, target: ServingTarget, key: ModelKey, live: Object, beside: Beside | None) -> Failure | None:
        """Say what failure the Deployment must remember once it asks for ``target``."""
        rollout = Rollout.of(live)
        version, file = beside.named if beside is not None else rollout.asked
        if (target.version, target.file) == (version, file):
            return rollout.latched
        if rollout.asked[0] is None or target.version > rollout.asked[0]:
            return None
        if beside is not None and beside.failure is not None:
            return beside.failure
        return failure(rollout, self._pods(key))

    def _pods(self, key: ModelKey) -> Sequence[Object]:
        """Give the model's pods, but those of other backends."""
        found = self._api.list(POD, key.namespace, labels=pod_labels(key.name))
        return [pod for pod in found if BACKEND not in (pod["metadata"].get("labels") or {})]

    def _owner(self, key: ModelKey) -> Owner:
        owner = self._owners(key)
        if owner is None:
            raise Transient("ModelGone", f"there is no ModelSpec {key} in the cluster any more; nothing is rolled out")
        return owner

    def _read(self, namespace: str, name: str) -> Object | None:
        return self._api.get(DEPLOYMENT, namespace, name)

    def _url(self, name: str, key: ModelKey) -> str:
        return f"http://{service_name(key.name)}.{key.namespace}.svc:{PORT}/v2/models/{name}"


def _given_up(
    target: ServingTarget, live: Object, beside: Beside | None, rejected: Rejected | None
) -> Rejected | None:
    """Say what a Deployment must remember as given up: a file's first verdict stays, until another one is asked for."""
    rollout = Rollout.of(live)
    before = rollout.asked if target.share is None else beside and beside.named
    known = rollout.rejected if before == (target.version, target.file) else None
    return known if known is not None and (rejected is None or known.file == rejected.file) else rejected


def _is_split(live: Object | None) -> bool:
    """Whether a Gateway splits the requests of what a Deployment serves."""
    return live is not None and GATEWAY in (live["metadata"].get("annotations") or {})


def _is_promoted(target: ServingTarget, live: Object | None, beside: Beside | None) -> bool:
    """Whether what is beside it is to serve alone, and pods that are still old ones need it until they are gone."""
    if live is None or beside is None or beside.named != (target.version, target.file):
        return False
    rollout = Rollout.of(live)
    return not (rollout.asked == beside.named and rollout.settled)
