"""Plays KServe and Knative for ``serving_hands``: revisions, routes, and what KServe tells about them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.apiserver import ApiServer
from tests.support.serving_pods import condition, end, is_ready, reference

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.serving_hands import Hands

Object = dict[str, Any]
REVISION = "serving.knative.dev/revision"
ISVC = "/apis/serving.kserve.io/v1beta1/namespaces/{}/inferenceservices"
DEPLOYMENTS, PODS = "/apis/apps/v1/namespaces/{}/deployments", "/api/v1/namespaces/{}/pods"
_CRDS = Path(os.environ.get("PUBLISHED_CRDS", Path(__file__).parents[3] / "shared" / "crds"))


def install(server: ApiServer) -> None:
    """Let a server know InferenceServices, by the definition that KServe publishes; skip, in CI fail, without it."""
    path = _CRDS / "kserve-inferenceservices.yaml"
    if not path.is_file():
        words = f"no {path}: set PUBLISHED_CRDS to a folder with the published CRDs"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    group = "/apis/serving.kserve.io/v1beta1"
    server.install(path.read_text(), "inferenceservices.serving.kserve.io", f"{group}/inferenceservices")
    waits = Event()
    while not server.client.get(group).is_success:  # it is served a moment before it is told of
        waits.wait(0.05)


@contextmanager
def playing_kserve(cluster: Cluster) -> Iterator[None]:
    """Play KServe in a cluster's namespace, with the pods left to its kubelet."""
    from tests.support.serving_hands import Hands  # which plays this among others

    install(cluster.api)
    hands, over = Hands(cluster.api, cluster.namespace, kubelet=True), Event()

    def play() -> None:
        while not over.wait(0.2):
            try:
                hands.step()
            except (AssertionError, httpx.HTTPError):  # somebody was quicker, or the server is away; look again
                continue

    thread = Thread(target=play, name="kserve")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class Revisions:
    """What Knative and KServe remember of one InferenceService."""

    uid: str
    templates: list[tuple[str, Object]] = field(default_factory=list)
    """Name and template of each revision, oldest first."""
    ready: str = ""
    """Name of the newest one that ever got ready."""
    rolled_out: str = ""
    before: str = ""
    traffic: list[Object] = field(default_factory=list)
    failure: Object = field(default_factory=dict)


class KServeHands:
    """Looks at InferenceServices."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._revisions: dict[str, Revisions] = {}

    def step(self) -> None:
        """Look at each one once."""
        services = self._hands.items(ISVC)
        for service in services:
            self._look(service)
        for name in self._revisions.keys() - {service["metadata"]["name"] for service in services}:
            self._revisions.pop(name)

    def routed(self) -> set[str]:
        """Give the revisions that get requests."""
        found = [entry for known in self._revisions.values() for entry in known.traffic]
        return {entry["revisionName"] for entry in found if entry["percent"]}

    def _look(self, service: Object) -> None:
        service = self._defaulted(service)
        mode = service["metadata"]["annotations"].get("serving.kserve.io/deploymentMode", "Standard")
        if mode == "Standard":
            self._look_at_standard(service)
            return
        name = service["metadata"]["name"]
        known = self._revisions.setdefault(name, Revisions(service["metadata"]["uid"]))
        template = _template(service)
        if not known.templates or known.templates[-1][1] != template:
            known.templates.append((f"{name}-predictor-{len(known.templates) + 1:05}", template))
        created = known.templates[-1][0]
        self._scale(service, known, created)
        newest = [pod for pod in self._hands.items(PODS) if pod["metadata"]["labels"].get(REVISION) == created]
        if newest and all(is_ready(pod) for pod in newest):
            known.ready = created
        self._route(known, service["spec"]["predictor"].get("canaryTrafficPercent"))
        self._tell(service, known, created, newest)

    def _scale(self, service: Object, known: Revisions, created: str) -> None:
        """Let revisions have pods: the newest one, and those that get requests."""
        wanted = {created, *(entry["revisionName"] for entry in known.traffic if entry["percent"])}
        for revision, template in known.templates:
            pods = [pod for pod in self._hands.items(PODS) if pod["metadata"]["labels"].get(REVISION) == revision]
            if revision not in wanted:
                for pod in pods:
                    self._hands.delete(pod)
            elif not pods:
                for number in range(template["replicas"]):
                    self._hands.pod(f"{revision}-{number}", service, template, {REVISION: revision})

    def _route(self, known: Revisions, percent: int | None) -> None:
        """Split traffic as KServe's Knative reconciler asks, and follow it as KServe does."""
        if not known.ready:
            return
        share = 100 if percent is None or not known.rolled_out else percent
        known.traffic = [{"latestRevision": True, "percent": share, "revisionName": known.ready}]
        if share < 100:
            prev = {"latestRevision": False, "percent": 100 - share, "revisionName": known.rolled_out, "tag": "prev"}
            known.traffic.append(prev)
        if share == 100 and known.rolled_out != known.ready:
            known.before, known.rolled_out = known.rolled_out, known.ready

    def _tell(self, service: Object, known: Revisions, created: str, newest: list[Object]) -> None:
        ready, dead = known.ready == created, [pod for pod in newest if end(pod)]
        if dead:
            known.failure = {"reason": "ModelLoadFailed", "exitCode": 10, "message": end(dead[0])["message"]}
        transition = "UpToDate" if ready else "BlockedByFailedLoad" if dead else "InProgress"
        model = {"transitionStatus": transition, "copies": {"failedCopies": 0, "totalCopies": len(newest)}}
        model |= {"lastFailureInfo": known.failure} if known.failure else {}
        part = {
            "latestCreatedRevision": created, "latestReadyRevision": known.ready, "traffic": known.traffic,
            "latestRolledoutRevision": known.rolled_out, "previousRolledoutRevision": known.before,
        }  # fmt: skip
        words = "" if ready else f'Revision "{created}" failed with message: Container failed.'
        address = f"http://{service['metadata']['name']}.{self._hands.namespace}.example.com"
        status = {
            "deploymentMode": "Knative", "modelStatus": model, "observedGeneration": len(known.templates),
            "components": {"predictor": {key: value for key, value in part.items() if value}},
            "conditions": [
                condition("PredictorReady", ready, "", words), condition("IngressReady", bool(known.ready), ""),
                condition("Ready", ready, ""),
            ],
        }  # fmt: skip
        status |= {"url": address} if known.ready else {}
        self._hands.write(f"{ISVC.format(self._hands.namespace)}/{service['metadata']['name']}", service, status)

    def _look_at_standard(self, service: Object) -> None:
        """Make a Deployment of it, as KServe's raw reconciler does, and tell what that tells."""
        metadata, predictor = service["metadata"], service["spec"]["predictor"]
        name, template = f"{metadata['name']}-predictor", _template(service)
        path = f"{DEPLOYMENTS.format(self._hands.namespace)}/{name}"
        found = self._hands.server.find(path)
        manifest = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": name, "namespace": self._hands.namespace, "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"], "ownerReferences": [reference(service)],
            },
            "spec": {
                "replicas": predictor.get("minReplicas", 1), "selector": {"matchLabels": {"app": f"isvc.{name}"}},
                "template": {
                    "metadata": {
                        "labels": {**template["metadata"]["labels"], "app": f"isvc.{name}"},
                        "annotations": template["metadata"]["annotations"],
                    },
                    "spec": template["spec"],
                },
            },
        }  # fmt: skip
        if found is None or found["spec"]["template"]["metadata"]["annotations"] != template["metadata"]["annotations"]:
            answer = self._hands.server.apply(path, manifest, "kserve-controller")
            assert answer.is_success, answer.text
            self._hands.wrote()
        told = ((found or {}).get("status") or {}).get("conditions") or ()
        available = any(c["type"] == "Available" and c["status"] == "True" for c in told)
        status: Object = {
            "deploymentMode": "Standard",
            "modelStatus": {"transitionStatus": "UpToDate" if available else "InProgress"},
            "conditions": [condition("PredictorReady", available, ""), condition("Ready", available, "")],
        }
        status |= {"url": f"http://{metadata['name']}-{self._hands.namespace}.example.com"} if available else {}
        self._hands.write(f"{ISVC.format(self._hands.namespace)}/{metadata['name']}", service, status)

    def _defaulted(self, service: Object) -> Object:
        """Write what the webhook would have written before anybody saw it."""
        path = f"{ISVC.format(self._hands.namespace)}/{service['metadata']['name']}"
        containers = service["spec"]["predictor"]["containers"]
        if "imagePullPolicy" in containers[0]:
            return service
        changed = [{**containers[0], "imagePullPolicy": "IfNotPresent"}, *containers[1:]]
        found: Object = self._hands.server.merge(path, {"spec": {"predictor": {"containers": changed}}})
        self._hands.wrote()
        return found


def _template(service: Object) -> Object:
    """Give what a revision is made of: all but the share, with labels and annotations of the whole object."""
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    notes = {name: text for name, text in metadata["annotations"].items() if not name.startswith("kubectl.")}
    labels = {**metadata.get("labels", {}), **predictor.get("labels", {}),
              "serving.kserve.io/inferenceservice": metadata["name"], "component": "predictor"}  # fmt: skip
    scale = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "labels", "annotations")
    skipped = (*scale, "canaryTrafficPercent", "deploymentStrategy")
    pod = {name: value for name, value in predictor.items() if name not in skipped}
    return {
        "metadata": {"labels": labels, "annotations": {**notes, **predictor.get("annotations", {})}}, "spec": pod,
        "replicas": predictor.get("minReplicas", 1), "most": predictor.get("maxReplicas", 0),
    }  # fmt: skip
