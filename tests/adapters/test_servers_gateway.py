"""A canary behind a Gateway: two Deployments and an HTTPRoute that the published CRD accepts, on a real API server.

Nothing implements the Gateway API here, so the tests write the route's status, as its documentation has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.kubernetes_api import DEPLOYMENT, NETWORK_POLICY, POD, SERVICE, Kind, KubernetesApi, Object
from adapters.kubernetes_gateway import HTTP_ROUTE, MISSING
from adapters.kubernetes_pods import Owner
from adapters.kubernetes_serving import beside_name
from adapters.servers_kubernetes import KubernetesServers
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.placement import Shape
from specs.serving import Gateway
from specs.serving_facts import CanaryState, Rejected, ServingState, ServingTarget, Share
from tests.adapters.test_servers_kubernetes import AUTO, STYLE, Killed, died, digest, dying, told
from tests.adapters.test_servers_kubernetes_canary import Beside
from tests.support.apiserver import ROOT, ApiServer

GATEWAY = Gateway.model_validate(
    {"parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
     "hostnames": ["models.example.com"]}, by_alias=True,
)  # fmt: skip
SPLIT = Shape(2, gateway=GATEWAY)
CRD = Path(os.environ.get("PUBLISHED_CRDS", ROOT.parent / "shared" / "crds")) / "gateway-httproutes.yaml"
LIVE = Rejected(digest("two"), "error rate: 30 % against 1 %, too high")


class Room(Beside):
    """A namespace whose v1 serves behind a Gateway that has taken its route."""

    def target(self, word: str = "one", version: int = 1, shape: Shape | None = None) -> ServingTarget:
        """Give a target behind the Gateway."""
        return super().target(word, version, shape or SPLIT)

    def found(self, kind: Kind, name: str) -> Any:
        """Give an object by its name, or None."""
        return self.server.find(self.path(kind, name))

    def backends(self) -> list[tuple[str, int]]:
        """Give where the route leads, with weights."""
        (rule,) = self.found(HTTP_ROUTE, "serve-shelf")["spec"]["rules"]
        return [(each["name"], each["weight"]) for each in rule["backendRefs"]]

    def taken(self, accepted: str = "True", resolved: str = "True", reason: str = "Accepted") -> None:
        """Play the Gateway: say of the newest route how it is."""
        generation = self.found(HTTP_ROUTE, "serve-shelf")["metadata"]["generation"]
        conditions = [
            {"type": type_, "status": status, "reason": reason, "message": "as it was said", "observedGeneration":
             generation, "lastTransitionTime": "2026-11-26T10:00:00Z"}
            for type_, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
        ]  # fmt: skip
        ref = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "gateways",
               "sectionName": "https"}  # fmt: skip
        parents = [{"parentRef": ref, "controllerName": "example.com/gateway", "conditions": conditions}]
        self.server.merge(self.path(HTTP_ROUTE, part="status"), {"status": {"parents": parents}})

    def made(self) -> None:
        """Play the Deployment controller for the version beside what serves."""
        path = self.path(DEPLOYMENT, "canary-shelf")
        now = self.server.find(path)
        wanted = now["spec"]["replicas"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
        self.server.merge(f"{path}/status", {
            "status": counts | {"observedGeneration": now["metadata"]["generation"]},
        })  # fmt: skip

    def put(self, share: Share, *what: Any, ready: bool = True) -> KubernetesServers:
        """Give servers on which something was put beside v1."""
        servers = self.servers()
        servers.roll_out(self.beside(share, *what))
        self.report()
        self.taken()
        if ready:
            self.made()
        return servers

    def objects(self) -> dict[str, str]:
        """Give the versions of all objects that are there."""
        kinds = ((DEPLOYMENT, "serve-shelf"), (DEPLOYMENT, "canary-shelf"), (SERVICE, "serve-shelf"),
                 (SERVICE, "canary-shelf"), (NETWORK_POLICY, "canary-shelf"), (HTTP_ROUTE, "serve-shelf"))  # fmt: skip
        found = {f"{kind.plural}/{name}": self.found(kind, name) for kind, name in kinds}
        return {name: obj["metadata"]["resourceVersion"] for name, obj in found.items() if obj}


def published() -> str:
    """Give the published CRD."""
    if not CRD.is_file():
        words = f"no {CRD}: set PUBLISHED_CRDS to a folder with the published CRDs"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return CRD.read_text()


@pytest.fixture(scope="module")
def gateways(api_server: ApiServer) -> ApiServer:
    """Give the shared server, which knows the Gateway API from now on, and answers for all kinds."""
    api_server.install(published(), f"{HTTP_ROUTE.plural}.gateway.networking.k8s.io", HTTP_ROUTE.path(""))
    for kind in (DEPLOYMENT, SERVICE, NETWORK_POLICY, POD, HTTP_ROUTE):
        api_server.items(kind.path("default"))
    return api_server


@pytest.fixture
def room(gateways: ApiServer) -> Room:
    """A namespace of its own, in which v1 serves behind a Gateway."""
    made = Room(gateways)
    made.rolled_out()
    made.taken()
    return made


def elsewhere(kind: Kind) -> Kind:
    """Give a kind in a group that no cluster has, instead of that of the Gateway API."""
    return Kind("gateway.example.com/v1", kind.name, kind.plural) if kind is HTTP_ROUTE else kind


class Bare(KubernetesApi):
    """Talks to a cluster that has no Gateway API."""

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return super().get(elsewhere(kind), namespace, name)

    def apply(self, kind: Kind, manifest: Object, *, force: bool = False, status: bool = False) -> Object:
        return super().apply(elsewhere(kind), manifest, force=force, status=status)


def test_without_the_gateway_api_it_says_what_to_install(gateways: ApiServer) -> None:
    """On a cluster without it the sentence says what is missing; what serves goes on, and can be withdrawn."""
    room = Room(gateways)
    room.api = room.connect(Bare)
    plain = replace(SPLIT, gateway=None)
    room.rolled_out(shape=plain)
    with pytest.raises(Stalled) as told_so:
        room.servers().roll_out(room.target("two", 2))
    assert (told_so.value.reason, told_so.value.message) == ("KubernetesRefused", MISSING)
    assert told(room.state()) == (True, 1, digest("one"), None)
    room.servers().withdraw(room.name)
    assert room.find() is None


def test_a_route_leads_to_what_serves(room: Room) -> None:
    """The Gateway, the listener and the host are those of the spec; only this model's paths are its."""
    spec = room.found(HTTP_ROUTE, "serve-shelf")["spec"]
    (parent,) = spec["parentRefs"]
    assert (parent["name"], parent["namespace"], parent["sectionName"]) == ("public", "gateways", "https")
    assert spec["hostnames"] == ["models.example.com"]
    (rule,) = spec["rules"]
    assert [match["path"] for match in rule["matches"]] == [
        {"type": "PathPrefix", "value": f"/{place}/{room.name}"} for place in ("v2/models", "models")
    ]
    assert room.backends() == [("serve-shelf", 100)]
    before = room.objects()
    room.servers().roll_out(room.target())
    assert room.objects() == before


def test_put_beside_in_pods_of_its_own(room: Room) -> None:
    """It has a Deployment, a Service and pods that no other Service finds, and gets nothing yet; v1 is not touched."""
    main = room.find()["spec"]
    room.put(Share(0), ready=False)
    assert room.find()["spec"] == main
    made, service = room.found(DEPLOYMENT, "canary-shelf"), room.found(SERVICE, "canary-shelf")
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert not room.found(SERVICE, "serve-shelf")["spec"]["selector"].items() <= labels.items()
    assert room.found(NETWORK_POLICY, "canary-shelf")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert ("canary" in str(container["env"]), made["spec"]["replicas"]) == (False, 2)
    assert room.backends() == [("serve-shelf", 100)]
    state = room.state()
    assert told(state) == (True, 1, digest("one"), None)
    assert state.canary == CanaryState(2, digest("two"), Share(0), ready=False, since=room.now)
    room.made()
    assert room.canary().ready


def test_shares_change_the_route_alone(room: Room) -> None:
    """Each step is another weight, or another part that is mirrored; neither Deployment makes pods for that."""
    servers = room.put(Share(0))
    def generations() -> list[int]:
        return [room.found(DEPLOYMENT, name)["metadata"]["generation"] for name in ("serve-shelf", "canary-shelf")]

    before = generations()
    room.now += 60
    servers.roll_out(room.beside(Share(1, mirror=30)))
    (rule,) = room.found(HTTP_ROUTE, "serve-shelf")["spec"]["rules"]
    (mirror,) = rule["filters"]
    assert (mirror["type"], mirror["requestMirror"]["percent"]) == ("RequestMirror", 30)
    assert mirror["requestMirror"]["backendRef"]["name"] == "canary-shelf"
    assert room.backends() == [("serve-shelf", 100)]
    room.now += 60
    state = servers.roll_out(room.beside(Share(2, weight=10)))
    assert room.backends() == [("serve-shelf", 90), ("canary-shelf", 10)]
    assert "filters" not in room.found(HTTP_ROUTE, "serve-shelf")["spec"]["rules"][0]
    assert state.canary is not None
    assert (state.canary.share, state.canary.since) == (Share(2, weight=10), room.now)
    assert generations() == before
    room.taken()
    quiet = room.objects()
    room.now += 600
    room.servers().roll_out(room.beside(Share(2, weight=10)))
    assert (room.objects(), room.canary().since) == (quiet, room.now - 600)


def test_promoted(room: Room) -> None:
    """Asked for alone, the main pods are exchanged while the others keep their share; once that is done, they go."""
    servers = room.put(Share(3, weight=50))
    state = servers.roll_out(room.target("two", 2))
    assert (state.asked_version, state.canary and state.canary.version) == (2, 2)
    assert room.backends() == [("serve-shelf", 50), ("canary-shelf", 50)]
    room.report(replicas=3, updatedReplicas=1, availableReplicas=2)
    room.pod("one", 1, ready=True)
    servers.roll_out(room.target("two", 2))
    assert room.found(DEPLOYMENT, "canary-shelf") is not None
    room.report()
    assert told(room.state()) == (True, 2, digest("two"), None)
    assert room.state().canary is not None, "so that the plan asks once more"
    state = servers.roll_out(room.target("two", 2))
    assert (state.version, state.canary, room.backends()) == (2, None, [("serve-shelf", 100)])
    assert room.objects().keys() == ALONE


def test_given_up(room: Room) -> None:
    """Let go, the route leads to v1 alone before anything is deleted, and why is remembered; v1's pods stay."""
    servers = room.put(Share(2, weight=10))
    generation = room.find()["metadata"]["generation"]
    state = servers.roll_out(room.target(), LIVE)
    assert (state.canary, state.rejected, room.backends()) == (None, LIVE, [("serve-shelf", 100)])
    assert room.find()["metadata"]["generation"] == generation
    assert room.objects().keys() == ALONE


def test_another_release_takes_its_place(room: Room) -> None:
    """A newer release is put beside v1 in place of v2, and begins with nothing."""
    room.put(Share(2, weight=10))
    room.put(Share(0), "three", 3)
    assert room.canary() == CanaryState(3, digest("three"), Share(0), ready=True, since=room.now)
    assert room.backends() == [("serve-shelf", 100)]


def test_what_dies_in_its_own_pods(room: Room) -> None:
    """Its file is blamed, v1 serves; and once it is let go, the Deployment of v1 remembers why."""
    servers = room.put(Share(0), ready=False)
    labels = {"trunkline.dev/model": "shelf", "app.kubernetes.io/component": "serve-canary"}
    notes = {"trunkline.dev/version": "2", "trunkline.dev/file": digest("two")}
    spec = {"containers": [{"name": "serve", "image": "x"}]}
    room.server.create(POD.path(room.key.namespace), {
        "apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": "dies", "labels": labels, "annotations": notes},
    })  # fmt: skip
    room.server.merge(POD.path(room.key.namespace, "dies", "status"), {"status": died(10, "trunkline: Broken: x")})
    state = room.state()
    assert told(state) == (True, 1, digest("one"), digest("two"))
    assert state.failure == "Broken: x"
    servers.roll_out(room.target())
    assert (room.state().canary, room.state().failed_file, room.state().failure) == (None, digest("two"), "Broken: x")


ROUTES: list[tuple[str, Callable[[Room], object], str]] = [
    ("nobody took it", lambda room: room.server.merge(
        room.path(HTTP_ROUTE, part="status"), {"status": {"parents": []}}),
     "no Gateway public has taken its HTTPRoute yet"),
    ("not accepted", lambda room: room.taken(accepted="False", reason="NoMatchingListenerHostname"),
     "Gateway public says of its HTTPRoute that Accepted is not True (NoMatchingListenerHostname: as it was said)"),
    ("leads nowhere", lambda room: room.taken(resolved="False", reason="BackendNotFound"),
     "Gateway public says of its HTTPRoute that ResolvedRefs is not True (BackendNotFound: as it was said)"),
    ("gone", lambda room: room.server.delete(room.path(HTTP_ROUTE)), "its HTTPRoute is not there"),
]  # fmt: skip


@pytest.mark.parametrize(("bend", "words"), [pytest.param(*row[1:], id=row[0]) for row in ROUTES])
def test_a_route_that_leads_nowhere_holds_the_steps(room: Room, bend: Callable[[Room], object], words: str) -> None:
    """What the Gateway says about the route is told in its words, and no step counts as in force until it is well."""
    room.put(Share(1, weight=10))
    assert room.canary().ready
    bend(room)
    state: ServingState = room.state()
    assert (state.failure, state.failed_file, state.canary and state.canary.ready) == (words, None, False)
    room.servers().roll_out(room.beside(Share(1, weight=10)))
    room.taken()
    assert room.canary().ready


def test_autoscaled_models_have_the_least_of_it_beside(room: Room) -> None:
    """An autoscaler scales what serves; what is beside it has the smallest number of pods that it may have."""
    shape = replace(AUTO, gateway=GATEWAY)
    servers = room.servers()
    servers.roll_out(room.target(shape=shape))
    servers.roll_out(replace(room.beside(Share(0)), shape=shape))
    assert room.found(DEPLOYMENT, "canary-shelf")["spec"]["replicas"] == 2


def test_from_pods_to_a_gateway_and_back(room: Room) -> None:
    """Where git changes how a canary is served while one is there, it begins anew, and nothing of the other stays."""
    bare = replace(SPLIT, gateway=None)
    servers = room.put(Share(1, weight=10))
    servers.roll_out(replace(room.beside(Share(0)), shape=bare))
    room.report()
    assert room.objects().keys() == {"deployments/serve-shelf", "services/serve-shelf"}
    assert room.canary() == CanaryState(2, digest("two"), Share(0), ready=True, since=room.now)
    assert room.told()["canary"]["version"] == 2
    room.put(Share(0))
    assert "canary" not in room.told()
    assert room.backends() == [("serve-shelf", 100)]
    assert room.canary().version == 2


def test_withdrawn_is_gone(room: Room) -> None:
    """Both versions go, and the route with them."""
    room.put(Share(1, weight=10)).withdraw(room.name)
    assert room.objects() == {}


@pytest.mark.parametrize("model", ["shelf", "a" * 63, "shelf-canary"])
def test_names_are_no_others(model: str) -> None:
    """What is beside a model has a name of its own, that of no other model's objects, and one that fits."""
    assert beside_name(model).startswith("canary-")
    assert len(beside_name(model)) <= 63


ALONE = {"deployments/serve-shelf", "services/serve-shelf", "httproutes/serve-shelf"}
ACTS: dict[str, Callable[[KubernetesServers, Room], object]] = {
    "step": lambda servers, room: servers.roll_out(room.beside(Share(2, weight=50))),
    "given up": lambda servers, room: servers.roll_out(room.target(), LIVE),
}


@pytest.mark.parametrize("name", ACTS)
def test_killed_after_any_effect(room: Room, name: str) -> None:
    """Cut off anywhere, it is either to be seen that more is to be done, or all is; done again, it is done."""
    owners: Callable[[ModelKey], Owner | None] = lambda key: room.owner  # noqa: E731
    for number in range(4, 12):  # the first ones are about what serves, and there already
        room.put(Share(1, weight=10))
        api: KubernetesApi = dying(room, number, "after")
        try:
            ACTS[name](KubernetesServers(api, owners, STYLE, network_policies=True, clock=lambda: room.now), room)
        except Killed:
            told_so = room.state()
            ACTS[name](room.servers(), room)
        else:
            break
        if name == "step":
            assert room.backends() == [("serve-shelf", 50), ("canary-shelf", 50)]
            assert room.canary().share == Share(2, weight=50)
        else:
            assert told_so.canary is not None or room.state().rejected == LIVE, "what is unfinished is to be seen"
            assert room.objects().keys() == ALONE
    assert number > 4
