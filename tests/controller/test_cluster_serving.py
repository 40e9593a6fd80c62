"""Backends as the operator has them: what a look costs, and kinds that the cluster does not know, or not yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any, cast

import pytest

from adapters.kubernetes_api import CONFIG_MAP, DEPLOYMENT, INFERENCE_SERVICE, SERVICE, Kind, KubernetesApi, Object
from adapters.kubernetes_kserve import Memory, inference_service, memory_map, predictor
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.kubernetes_serving import deployment, style_digest
from adapters.kubernetes_triton import TritonStyle, triton_deployment
from adapters.servers_cluster import ClusterServers
from controller.audit import Audit
from controller.cluster_serving import servers
from controller.informer import OPTIONAL, Change, Informer
from controller.setting_tables import ClusterSettings
from specs.modelspec import ModelKey
from specs.placement import Shape
from specs.serving_facts import ServingTarget

KEY = ModelKey("shop", "shelf")
OWNER = Owner(KEY, "u1")
STYLE = PodStyle("image", ("serve",), "trunkline-serve", "s3://models")
SETTINGS = ClusterSettings(image="jobs", serve_image="image", server_command=["serve"], triton_image="triton")
TRITON = TritonStyle("triton", ("tritonserver",), PodStyle(
    "image", ("python", "-m", "workloads.triton_repository"), "trunkline-serve", "s3://models",
))  # fmt: skip


class Listed:
    """An API server that has what a test puts into it, counts what it is asked, and takes no writes."""

    def __init__(self, *, kserve: bool) -> None:
        self.kserve = kserve
        self.objects: dict[tuple[str, str], Object] = {}
        self.asked: list[str] = []

    def serves(self, kind: Kind) -> bool:
        """Whether the kind is there."""
        self.asked.append(f"serves {kind.plural}")
        return kind is not INFERENCE_SERVICE or self.kserve

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Give an object."""
        self.asked.append(f"get {kind.plural}")
        assert kind is not INFERENCE_SERVICE or self.kserve, "asked for a kind that is not there"
        return self.objects.get((kind.plural, name))

    def names(self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] | None = None) -> Sequence[Object]:
        """List metadata."""
        self.asked.append(f"list {kind.plural}")
        assert kind is not INFERENCE_SERVICE or self.kserve, "asked for a kind that is not there"
        return [found["metadata"] for (plural, _), found in self.objects.items() if plural == kind.plural]


class Room:
    """An operator's inside around such a server."""

    def __init__(self, *, kserve: bool = True) -> None:
        self.listed = Listed(kserve=kserve)
        self.api = cast("KubernetesApi", self.listed)
        self.informer = Informer(lambda: 0.0)
        self.audit = Audit(self.api, self.informer, [])

    def servers(self) -> ClusterServers:
        """Give the port as the operator has it."""
        return servers(SETTINGS, self.api, self.informer, self.audit, lambda key: OWNER, STYLE)

    def has(self, kind: Kind, body: Object, *, watched: bool = True) -> None:
        """Let there be an object, and let the watch tell of it."""
        body["metadata"] |= {"resourceVersion": "1", "uid": "x", "generation": 1}
        self.listed.objects[kind.plural, body["metadata"]["name"]] = body
        if watched:
            self.informer.saw(kind, "ADDED", body)

    def syncs(self) -> None:
        """Let everything be known."""
        for kind in (*OPTIONAL, DEPLOYMENT):
            assert self.audit.wait_for(kind, Event())
        self.listed.asked.clear()


def target(backend: str) -> ServingTarget:
    """Give what serves."""
    return ServingTarget("shop.shelf", 3, "sha256:r", "sha256:w", "sha256:f", Shape(backend=backend))


def counts(replicas: int = 1) -> Object:
    """Give the status of a Deployment that is rolled out."""
    fields = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    told: dict[str, Any] = dict.fromkeys(fields, replicas)
    return {"status": told | {"observedGeneration": 1}}


def settled(room: Room, backend: str) -> None:
    """Let a release be served by a backend, all done."""
    if backend == "KServe":
        made = predictor(OWNER, STYLE, target(backend), "Knative")
        template = made["annotations"]["trunkline.dev/template"]
        shape = target(backend).shape.digest
        memory = Memory("3", "sha256:f", shape, style_digest(STYLE), template=template)
        room.has(CONFIG_MAP, memory_map(OWNER, memory), watched=False)
        traffic = [{"revisionName": "r1", "percent": 100, "latestRevision": True}]
        part = {"latestCreatedRevision": "r1", "latestReadyRevision": "r1", "traffic": traffic}
        status = {"url": "http://shelf.example.com", "deploymentMode": "Knative", "components": {"predictor": part}}
        room.has(INFERENCE_SERVICE, inference_service(OWNER, made, "Knative", None) | {"status": status})
        return
    build = {"Deployment": lambda: deployment(OWNER, STYLE, target(backend), failure=None, live=None),
             "Triton": lambda: triton_deployment(OWNER, TRITON, target(backend), failure=None, live=None)}  # fmt: skip
    room.has(DEPLOYMENT, build[backend]() | counts())


COSTS = [("Deployment", []), ("Triton", []), ("KServe", ["get configmaps"])]


@pytest.mark.parametrize(("backend", "cost"), COSTS)
def test_a_look_at_what_is_settled_costs_no_more_than_it_must(backend: str, cost: list[str]) -> None:
    """Ten thousand models on Deployments ask the API nothing; one behind KServe reads its ConfigMap."""
    room = Room()
    settled(room, backend)
    room.syncs()
    state = room.servers().state("shop.shelf")
    assert state is not None
    assert (state.ready, state.version, state.shape) == (True, 3, target(backend).shape.digest)
    assert room.listed.asked == cost


def test_without_kserve_nobody_asks_for_it() -> None:
    """A cluster that does not know InferenceServices is asked for none, before and after all is known."""
    room = Room(kserve=False)
    settled(room, "Deployment")
    assert room.servers().state("shop.shelf") is not None
    room.syncs()
    assert room.servers().state("shop.shelf") is not None
    assert room.listed.asked == []
    assert room.servers().names() == ["shop.shelf"]
    room.audit.once(Event(), lambda change: None)
    assert "list inferenceservices" not in room.listed.asked


def test_kserve_that_comes_later_is_noticed() -> None:
    """What was not there when watching began is watched from the next start on, so somebody must say that it came."""
    room = Room(kserve=False)
    room.syncs()
    assert room.audit.came_up() is None
    room.listed.kserve = True
    assert room.audit.came_up() is INFERENCE_SERVICE
    there = Room()
    there.syncs()
    assert there.audit.came_up() is None


def test_kserve_that_goes_takes_what_was_known_along() -> None:
    """Where the kind is deleted while the operator runs, its objects are gone, and their models are looked at."""
    room = Room()
    settled(room, "KServe")
    room.syncs()
    room.listed.kserve = False
    told: list[Change] = []
    room.audit.once(Event(), told.append)
    assert told == [Change(KEY, desired=False)]
    assert room.servers().state("shop.shelf") is None


@pytest.mark.parametrize(("backend", "needs"), [("Deployment", True), ("Triton", True), ("KServe", False)])
def test_a_lost_service_is_noticed(backend: str, needs: bool) -> None:  # noqa: FBT001  a case
    """Deployments of our server and of Triton need the Service of their model; what KServe makes does not."""
    room = Room()
    settled(room, backend)
    if backend == "KServe":
        made = deployment(OWNER, STYLE, target("Deployment"), failure=None, live=None)
        made["metadata"]["name"] = "kserve-shelf-predictor-00001-deployment"
        room.has(DEPLOYMENT, made | counts())
    room.syncs()
    told: list[Change] = []
    room.audit.once(Event(), told.append)
    assert told == ([Change(KEY, desired=False)] if needs else [])
    state = room.servers().state("shop.shelf")
    assert state is not None
    assert (state.shape == "") is needs
    room.has(SERVICE, {"metadata": {"name": "serve-shelf", "namespace": "shop"}}, watched=False)
    told.clear()
    room.audit.once(Event(), told.append)
    assert told == ([Change(KEY, desired=False)] if needs else [])
    assert room.servers().state("shop.shelf").shape == target(backend).shape.digest  # type: ignore[union-attr]
