"""The stand-in for Argo CD, and the API server under it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.apiserver import OwnServer
from tests.support.gitops_sync import MANAGER, TRACKING, Sync
from tests.support.gitrepo import Hub
from tests.support.living import until

pytestmark = pytest.mark.xdist_group("kubelet")
MODELS = "/apis/trunkline.dev/v1alpha1/namespaces/default/modelspecs"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
ROLES = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: some}
rules:
- {apiGroups: [batch], resources: [jobs], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, list]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server with our CRD, where the operator may only read Jobs and Deployments, and watch Jobs alone."""
    folder = tmp_path_factory.mktemp("sync-api")
    (folder / "rbac.yaml").write_text(ROLES)
    with OwnServer(folder, rbac=folder / "rbac.yaml") as server:
        server.install_modelspecs()
        yield server


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A bare repository and a person's clone."""
    return Hub(tmp_path)


@pytest.fixture
def sync(server: OwnServer, hub: Hub) -> Iterator[Sync]:
    """A sync of the folder ``models``; the cluster is empty again afterwards."""
    sync = Sync(server, hub.path, prefix="models")
    yield sync
    sync.stop()
    for model in server.items(MODELS):
        server.delete(f"{MODELS}/{model['metadata']['name']}")


def manifest(name: str, **changes: Any) -> str:
    """Give a file with the smallest of specs."""
    spec = {
        "task": "detect", "data": {"train": {"uri": {"url": "store://train", "digest": "sha256:" + "a" * 64}}},
        "training": {"model": "yolo26n.pt"}, "exports": [{"name": "onnx", "format": "onnx"}], **changes,
    }  # fmt: skip
    model = {"apiVersion": "trunkline.dev/v1alpha1", "kind": "ModelSpec", "metadata": {"name": name}, "spec": spec}
    return yaml.safe_dump(model)


def names(server: OwnServer) -> set[str]:
    """Give the names of all models."""
    return {model["metadata"]["name"] for model in server.items(MODELS)}


def test_what_is_on_trunk_is_applied(server: OwnServer, hub: Hub, sync: Sync) -> None:
    """ModelSpecs of the tracked branch and folder are applied as Argo CD's, marked; nothing else is."""
    head = hub.commit({
        "models/a.yaml": manifest("a"), "models/deep/b.yml": manifest("b") + "---\nkind: ConfigMap\n",
        "elsewhere/c.yaml": manifest("c"), "models/notes.txt": "no yaml: [",
    })  # fmt: skip
    hub.commit({"models/d.yaml": manifest("d")}, branch="other", start=head)
    sync.once()
    assert (sync.refused, sync.synced) == ({}, head)
    assert names(server) == {"a", "b"}
    metadata = server.get(f"{MODELS}/a")["metadata"]
    assert metadata["annotations"] == {TRACKING: "models:trunkline.dev/ModelSpec:default/a"}
    assert [(entry["manager"], entry["operation"]) for entry in metadata["managedFields"]] == [(MANAGER, "Apply")]


def test_applying_again_changes_nothing(server: OwnServer, hub: Hub, sync: Sync) -> None:
    """A sync of what was synced leaves every object as it is; one of a changed file makes a new generation."""
    hub.commit({"models/a.yaml": manifest("a")})
    sync.once()
    sync.once()  # at the second time the server writes its defaults down
    before = server.get(f"{MODELS}/a")
    sync.once()
    assert server.get(f"{MODELS}/a") == before
    hub.commit({"models/a.yaml": manifest("a", suspend=True)})
    sync.once()
    after = server.get(f"{MODELS}/a")
    assert after["metadata"]["generation"] == 2
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_only_what_is_ours_is_pruned(server: OwnServer, hub: Hub, sync: Sync) -> None:
    """What left git is deleted; what a person made without git stays."""
    hub.commit({"models/a.yaml": manifest("a"), "models/b.yaml": manifest("b")})
    sync.once()
    server.apply(f"{MODELS}/mine", manifest("mine"))
    hub.commit({"models/a.yaml": None})
    sync.once()
    pruned = server.find(f"{MODELS}/a")
    assert pruned is None or pruned["metadata"]["finalizers"] == ["foregroundDeletion"]  # no garbage collector here
    assert names(server) >= {"b", "mine"}
    if pruned is not None:
        server.merge(f"{MODELS}/a", {"metadata": {"finalizers": None}})


def test_refusals_are_told(server: OwnServer, hub: Hub, sync: Sync) -> None:
    """What the server refuses is told in its words, and the others are applied; broken YAML stops the whole sync."""
    hub.commit({"models/a.yaml": manifest("a", task="paint"), "models/b.yaml": manifest("b")})
    sync.once()
    assert "spec.task" in sync.refused["default/a"]
    assert names(server) == {"b"}
    hub.commit({"models/a.yaml": "a: [", "models/b.yaml": None})
    sync.once()
    assert sync.refused.keys() == {"models/a.yaml"}
    assert names(server) == {"b"}


def test_a_push_is_followed_also_after_an_outage(server: OwnServer, hub: Hub, sync: Sync) -> None:
    """In the background a push is synced by itself; one during an outage, when the server is back."""
    hub.commit({"models/a.yaml": manifest("a")})
    sync.start()
    until(lambda: names(server) == {"a"})
    with server.outage():
        head = hub.commit({"models/b.yaml": manifest("b")})
        until(lambda: "sync" in sync.refused)
    until(lambda: sync.synced == head)
    assert names(server) == {"a", "b"}


def test_faults_and_counts(server: OwnServer) -> None:
    """Faults meet requests until they are used up or cleared; requests are counted by user."""
    viewer = server.as_user("viewer")
    server.faults([{"method": "GET", "path": "jobs/x$", "status": 500, "count": 1},
                   {"method": "GET", "path": "jobs/y$", "status": 503, "count": -1}])  # fmt: skip
    server.reset_requests()
    assert [viewer.client.get(f"{JOBS}/x").status_code for _ in range(2)] == [500, 404]
    assert viewer.client.get(f"{JOBS}/y").status_code == 503
    server.clear_faults()
    assert viewer.client.get(f"{JOBS}/y").status_code == 404
    assert server.requests("viewer") == {"viewer GET /apis/batch/v1/namespaces/*/jobs": 4}
    assert not server.writes("viewer")


def test_the_operator_has_the_rights_of_the_file(server: OwnServer) -> None:
    """The operator may do what the RBAC file grants and nothing else, watches included."""
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    assert server.items(deployments) == server.items(JOBS) == []  # the server is warm now
    operator = server.as_user("operator").client
    watch = {"watch": "true", "timeoutSeconds": "1"}
    assert operator.get(JOBS).status_code == 200
    assert operator.get(JOBS, params=watch).status_code == 200
    assert operator.get("/api/v1/namespaces/default/secrets").status_code == 403
    assert operator.get(deployments).status_code == 200
    assert operator.get(deployments, params=watch).status_code == 403


def test_built_in_kinds_can_be_watched(server: OwnServer) -> None:
    """A watch of Jobs tells what happens to them, by their own name: kube-testserver alone answers 500."""
    lines: list[str] = []

    def follow() -> None:
        query = {"watch": "true", "timeoutSeconds": "3", "labelSelector": "team in (a,b)"}
        with server.client.stream("GET", JOBS, params=query) as answer:
            lines.extend(answer.iter_lines())

    watching = threading.Thread(target=follow)
    watching.start()
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x"}]}}
    for name, team in (("one", "a"), ("two", "c")):
        labelled = {"name": name, "labels": {"team": team}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": labelled, "spec": {"template": template}}
        server.create(JOBS, job)
        server.delete(f"{JOBS}/{name}")
    watching.join()
    events = [yaml.safe_load(line) for line in lines]
    told = [(event["type"], event["object"]["apiVersion"], event["object"]["metadata"]["name"]) for event in events]
    assert told == [("ADDED", "batch/v1", "one"), ("DELETED", "batch/v1", "one")]
