"""Serving in a cluster: one Deployment for each model, and what goes with it; the cluster keeps it running.

The Deployment is written last and deleted last: that it asks for a target says that the rest is there, and as long as
it is there, a withdrawal is not done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.kubernetes_api import DEPLOYMENT, POD, Kind, KubernetesApi, Object
from adapters.kubernetes_pods import MODEL, Owner, Owners, PodStyle, belongs, reference, selector
from adapters.kubernetes_serving import (
    COMPANIONS,
    DEFAULT_OPTIONS,
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
    style_digest,
)  # fmt: skip
from adapters.kubernetes_verdicts import Rollout, answering, failure, hindrance
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.names import model_of_serving_name, serving_name
from specs.serving_facts import Rejected, ServingState, ServingTarget

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
    ) -> None:  # fmt: skip
        """Without ``deployments``, ``state`` asks the API each time; ``took`` gets each Deployment that was written.

        ``reachable`` says whether the Service of that namespace and name is there; where not, all is asked for again.
        """
        self._api = api
        self._owners = owners
        self._style = style
        self._style_digest = style_digest(style)
        self._network_policies = network_policies
        self._deployments = deployments or self._read
        self._took = took
        self._reachable = reachable

    def state(self, name: str) -> ServingState | None:
        """Give what answers, what is asked for, and why that failed; None where nothing of ours is there.

        While a rollout is under way the model's pods are listed; else the Deployment alone tells all.
        """
        key = ModelKey(*model_of_serving_name(name))
        found = self._deployments(key.namespace, service_name(key.name))
        if found is None or not _is_ours(found, key, self._owners(key)):
            return None
        return self._state(name, key, found)

    def roll_out(self, target: ServingTarget, rejected: Rejected | None = None) -> ServingState:
        """Ask the cluster for a target; old pods go only as new ones get ready. No-op where it is asked for already.

        Asking for an older version than the one that failed is falling back: the failure is remembered, until a newer
        version is asked for. What is ``rejected`` is remembered until another target is. Transient ``ModelGone`` where
        there is no such ModelSpec.
        """
        key = ModelKey(*model_of_serving_name(target.name))
        owner = self._owner(key)
        live = self._live(DEPLOYMENT, owner)
        for kind in COMPANIONS:
            self._settle(kind, owner, companion(kind, owner, target.shape, network_policies=self._network_policies))
        remembered = self._remembered(target, key, live) if live else None
        given_up = (_given_up(target, live) if live else None) or rejected  # the first verdict stays
        manifest = deployment(owner, self._style, target, failure=remembered, live=live, rejected=given_up)
        if live is not None and target.shape.autoscaling is not None and "replicas" in manifest["spec"]:
            # The autoscaler may be about to take the number over; whoever comes second looks again.
            manifest["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        written = self._apply(DEPLOYMENT, manifest, live)
        self._took(written)
        return self._state(target.name, key, written)

    def withdraw(self, name: str) -> None:
        """Delete all that serves a model, unless it is somebody else's; no-op where it is gone."""
        key = ModelKey(*model_of_serving_name(name))
        for kind in (*reversed(COMPANIONS), DEPLOYMENT):
            found = self._api.get(kind, key.namespace, service_name(key.name))
            if found is not None and _is_ours(found, key):
                self._delete(kind, found)

    def names(self) -> Sequence[str]:
        """Give the models that have a Deployment of ours, in all namespaces, sorted."""
        found = self._api.names(DEPLOYMENT, labels=selector(component=SERVE))
        keys = [(str(m["namespace"]), str(m["labels"].get(MODEL, ""))) for m in found]
        return sorted({serving_name(*key) for key in keys if key[1]})

    def _state(self, name: str, key: ModelKey, found: Object) -> ServingState:
        rollout = Rollout.of(found)
        verdict, words = rollout.latched, ""
        if rollout.settled and not rollout.asleep:
            release, count = rollout.asked, rollout.available
        else:
            pods = self._api.list(POD, key.namespace, labels=pod_labels(key.name))
            answer, count = answering(rollout, pods)
            release = answer or (None, None)
            verdict = failure(rollout, pods) or verdict
            words = "" if verdict else hindrance(rollout, pods)
        return ServingState(
            name, ready=release != (None, None), version=release[0], file=release[1], url=self._url(name, key),
            failed_file=verdict.file if verdict else None, failure=verdict.words if verdict else words,
            asked=rollout.asked[1], asked_version=rollout.asked[0], shape=self._shape(found, rollout),
            options=(found["metadata"].get("annotations") or {}).get(OPTIONS, DEFAULT_OPTIONS),
            replicas=(min(count, rollout.wanted), rollout.wanted), rejected=rollout.rejected,
        )  # fmt: skip

    def _shape(self, found: Object, rollout: Rollout) -> str:
        """Give the digest of its shape; none where it was bent, so that it is rolled out again."""
        metadata = found["metadata"]
        notes = metadata.get("annotations") or {}
        alone = not self._reachable(metadata["namespace"], metadata["name"])
        bent = alone or rollout.asleep or notes.get(STYLE) != self._style_digest
        return "" if bent else str(notes.get(SHAPE, ""))

    def _remembered(self, target: ServingTarget, key: ModelKey, live: Object) -> Failure | None:
        """Say what failure the Deployment must remember once it asks for ``target``."""
        rollout = Rollout.of(live)
        version, file = rollout.asked
        if (target.version, target.file) == (version, file):
            return rollout.latched
        if version is None or target.version > version:
            return None
        return failure(rollout, self._api.list(POD, key.namespace, labels=pod_labels(key.name)))

    def _settle(self, kind: Kind, owner: Owner, wanted: Object | None) -> None:
        """Make an object what it must be, or see to it that there is none of ours."""
        if wanted is not None:
            self._apply(kind, wanted, self._live(kind, owner))
            return
        found = self._api.get(kind, owner.key.namespace, service_name(owner.key.name))
        if found is not None and _is_ours(found, owner.key):
            self._delete(kind, found)

    def _live(self, kind: Kind, owner: Owner) -> Object | None:
        """Give an object as it is now; Taken where it is somebody else's."""
        found = self._api.get(kind, owner.key.namespace, service_name(owner.key.name))
        return found if found is not None and belongs(found, owner) else None

    def _apply(self, kind: Kind, manifest: Object, live: Object | None) -> Object:
        """Apply; over what others set only where the object is known to be ours, and is still that very object."""
        if live is None:
            return self._api.apply(kind, manifest)
        metadata = {**manifest["metadata"], "uid": live["metadata"]["uid"]}
        return self._api.apply(kind, {**manifest, "metadata": metadata}, force=True)

    def _delete(self, kind: Kind, found: Object) -> None:
        metadata = found["metadata"]
        if not metadata.get("deletionTimestamp"):
            self._api.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])

    def _owner(self, key: ModelKey) -> Owner:
        owner = self._owners(key)
        if owner is None:
            raise Transient("ModelGone", f"there is no ModelSpec {key} in the cluster any more; nothing is rolled out")
        return owner

    def _read(self, namespace: str, name: str) -> Object | None:
        return self._api.get(DEPLOYMENT, namespace, name)

    def _url(self, name: str, key: ModelKey) -> str:
        return f"http://{service_name(key.name)}.{key.namespace}.svc:{PORT}/v2/models/{name}"


def _given_up(target: ServingTarget, live: Object) -> Rejected | None:
    """Say what a Deployment gave up for what it asks for, where that is the very target."""
    rollout = Rollout.of(live)
    return rollout.rejected if rollout.asked == (target.version, target.file) else None


def _is_ours(found: Object, key: ModelKey, owner: Owner | None = None) -> bool:
    """Whether an object was made for this model, by its labels and its owner, if it has one."""
    metadata: Mapping[str, Any] = found["metadata"]
    labels = metadata.get("labels") or {}
    if selector(key, SERVE).items() - labels.items():
        return False
    owners = [o for o in metadata.get("ownerReferences") or () if o.get("controller")]
    wanted = reference(owner or Owner(key, ""))
    fields = ("kind", "name", "uid") if owner else ("kind", "name")
    return all(o.get(field) == wanted[field] for o in owners for field in fields)
