"""Rights: exactly these, here and nowhere else; a real API server enforces them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.manifests import DEPLOY, built, named, of_kind, one, written
from tests.support.apiserver import OwnServer, connect

RBAC = DEPLOY / "base" / "rbac.yaml"
WATCHED, KEPT = ("get", "list", "watch"), ("get", "create", "patch", "delete")
OPERATOR = {
    ("trunkline.dev", "modelspecs"): {"list", "watch"},
    ("trunkline.dev", "modelspecs/status"): {"patch"},
    ("batch", "jobs"): {*WATCHED, "create", "patch"},
    ("apps", "deployments"): {*WATCHED, *KEPT},
    ("", "services"): {"list", *KEPT},
    ("policy", "poddisruptionbudgets"): set(KEPT),
    ("autoscaling", "horizontalpodautoscalers"): set(KEPT),
    ("networking.k8s.io", "networkpolicies"): set(KEPT),
    ("", "configmaps"): set(KEPT),
    ("gateway.networking.k8s.io", "httproutes"): set(KEPT),
    ("serving.kserve.io", "inferenceservices"): {*WATCHED, *KEPT},
    ("", "pods"): {"list"},
    ("", "events"): {"create"},
    ("trainer.kubeflow.org", "trainjobs"): {*WATCHED, "create", "patch", "delete"},
    ("kueue.x-k8s.io", "workloads"): {"list"},
}
LEASE = {("coordination.k8s.io", "leases"): {"get", "update", "create"}}
PEOPLE = {
    "trunkline-view": {("trunkline.dev", "modelspecs"): set(WATCHED)},
    "trunkline-break-glass": {
        ("trunkline.dev", "modelspecs"): {*WATCHED, "create", "update", "patch", "delete"},
        ("trunkline.dev", "modelspecs/status"): {"get", "update", "patch"},
    },
}  # fmt: skip


def granted(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """Give the verbs of each resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def test_operator_has_exactly_these_rights() -> None:
    """One more, or one less, fails here first."""
    items = written("base")
    assert granted(one(items, "ClusterRole", "trunkline-operator")) == OPERATOR
    assert granted(one(items, "Role", "trunkline-operator")) == LEASE


def test_people_have_exactly_these_rights() -> None:
    """Whoever may view a namespace sees its models; nobody edits them by role, and the glass is bound to nobody."""
    items = written("base")
    for name, rights in PEOPLE.items():
        assert granted(one(items, "ClusterRole", name)) == rights
    labels = {r["metadata"]["name"]: r["metadata"]["labels"] for r in of_kind(items, "ClusterRole")}
    aggregated = {name for name, given in labels.items() if any("aggregate-to" in key for key in given)}
    assert aggregated == {"trunkline-view"}
    bound = {b["roleRef"]["name"] for b in of_kind(items, "RoleBinding", "ClusterRoleBinding")}
    assert bound == {"trunkline-operator"}


def test_leases_are_ours_alone() -> None:
    """Every Lease right but creating is bound to the one name."""
    rules = one(written("base"), "Role")["rules"]
    for rule in rules:
        assert rule.get("resourceNames") == ["trunkline-operator"] or rule["verbs"] == ["create"]


@pytest.mark.parametrize("folder", ["base", "namespaced", "model-namespace"])
def test_nothing_dangerous_is_granted(folder: str) -> None:
    """No wildcard, no secret, no way into a pod, and no way to more rights, in any role of any folder."""
    for role in of_kind(built(folder), "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not any("*" in word for word in words)
            forbidden = {"secrets", "escalate", "bind", "impersonate", "pods/exec", "pods/attach",
                         "rbac.authorization.k8s.io", "serviceaccounts/token", "nodes", "deletecollection"}  # fmt: skip
            assert not forbidden & words


def test_namespaced_rights_are_the_same() -> None:
    """A Role in a namespace grants what the ClusterRole grants everywhere, and the ClusterRole is gone."""
    items = built("namespaced")
    assert (
        one(built("namespaced/namespace"), "Role")["rules"]
        == one(written("base"), "ClusterRole", "trunkline-operator")["rules"]
    )
    names = {named(item) for item in of_kind(items, "Role", "ClusterRole")}
    assert ("Role", "retail", "trunkline-operator") in names
    assert ("ClusterRole", "", "trunkline-operator") not in names


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Connect as the operator, whose rights are the shipped file's."""
    with OwnServer(tmp_path_factory.mktemp("rights"), rbac=RBAC) as server:
        server.install_modelspecs()
        for _, path in ALLOWED:
            server.find(path)  # a server that has only just started asks to come again
        yield connect(server.kubeconfig_of("operator"))


ALLOWED = [
    ("GET", "/apis/trunkline.dev/v1alpha1/modelspecs"),
    ("GET", "/apis/batch/v1/jobs"),
    ("GET", "/apis/apps/v1/deployments"),
    ("GET", "/api/v1/namespaces/retail/services/x"),
    ("GET", "/api/v1/services"),
    ("DELETE", "/apis/policy/v1/namespaces/retail/poddisruptionbudgets/x"),
    ("DELETE", "/apis/autoscaling/v2/namespaces/retail/horizontalpodautoscalers/x"),
    ("DELETE", "/apis/networking.k8s.io/v1/namespaces/retail/networkpolicies/x"),
    ("GET", "/api/v1/namespaces/retail/pods"),
    ("GET", "/apis/trainer.kubeflow.org/v1alpha1"),  # whether there are TrainJobs at all
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/trunkline-system/leases/trunkline-operator"),
]
DENIED = [
    ("GET", "/api/v1/namespaces/retail/secrets"),
    ("GET", "/api/v1/namespaces/retail/secrets/trunkline-git"),
    ("GET", "/api/v1/configmaps"),
    ("GET", "/api/v1/namespaces/retail/pods/x"),
    ("DELETE", "/api/v1/namespaces/retail/pods/x"),
    ("DELETE", "/apis/batch/v1/namespaces/retail/jobs/x"),
    ("GET", "/api/v1/namespaces"),
    ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
    ("DELETE", "/apis/trunkline.dev/v1alpha1/namespaces/retail/modelspecs/x"),
    ("DELETE", "/apis/apps/v1/namespaces/retail/deployments"),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/trunkline-system/leases/other"),
]


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_api_server_lets_the_operator_work(operator: httpx.Client, method: str, path: str) -> None:
    """The shipped file, read by an API server, grants what is needed."""
    assert operator.request(method, path).status_code in (200, 404)


@pytest.mark.parametrize(("method", "path"), DENIED)
def test_api_server_refuses_the_rest(operator: httpx.Client, method: str, path: str) -> None:
    """The shipped file, read by an API server, grants nothing else."""
    answer = operator.request(method, path)
    assert answer.status_code == 403, answer.text


def test_operator_cannot_write_a_modelspec(operator: httpx.Client) -> None:
    """Neither a new one, nor a change of one: git decides."""
    path = "/apis/trunkline.dev/v1alpha1/namespaces/retail/modelspecs"
    merge = {"Content-Type": "application/merge-patch+json"}
    assert operator.post(path, json={"metadata": {"name": "x"}}).status_code == 403
    assert operator.patch(f"{path}/x", json={"metadata": {"labels": {"a": "b"}}}, headers=merge).status_code == 403


def test_file_is_what_the_operator_gets() -> None:
    """rbac.yaml holds the operator's rights and nobody else's: tests hand it to an API server as it is."""
    names = {(r["kind"], r["metadata"]["name"]) for r in yaml.safe_load_all(RBAC.read_text())}
    assert names == {("ClusterRole", "trunkline-operator"), ("Role", "trunkline-operator")}
