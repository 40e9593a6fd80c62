"""What deploy/ builds is accepted by a real API server with strict field validation, or fits the published models."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client as models

from tests.deploy.manifests import FOLDERS, ROOT, Manifest, built, examples, named, one, read
from tests.support.apiserver import ApiServer
from tests.support.typed import said

PUBLISHED = Path(os.environ.get("PUBLISHED_CRDS", ROOT.parent / "shared" / "crds"))
CRDS = {
    "monitoring.coreos.com/v1/podmonitors": "prometheus-podmonitors.yaml",
    "monitoring.coreos.com/v1/prometheusrules": "prometheus-prometheusrules.yaml",
    "argoproj.io/v1alpha1/applications": "argocd-applications.yaml",
}
PLURALS = {"NetworkPolicy": "networkpolicies"}
SERVED = {"Namespace", "ServiceAccount", "ConfigMap", "Deployment", "Service", "NetworkPolicy",
          "CustomResourceDefinition", "PodMonitor", "PrometheusRule", "Application"}  # fmt: skip
"""Kinds that kube-testserver has, or gets from published CRDs."""
MODELS = {
    "ClusterRole": models.V1ClusterRole, "Role": models.V1Role, "RoleBinding": models.V1RoleBinding,
    "ClusterRoleBinding": models.V1ClusterRoleBinding,
    "ValidatingAdmissionPolicy": models.V1ValidatingAdmissionPolicy,
    "ValidatingAdmissionPolicyBinding": models.V1ValidatingAdmissionPolicyBinding,
}  # fmt: skip
"""Kinds that it has not: compared with the models that are generated from Kubernetes' OpenAPI."""
UNPUBLISHED = {"ApplicationSet"}
ALL = {(folder, *named(item)): item for folder in FOLDERS if folder != "namespaced/namespace" for item in built(folder)}
ALL |= {("argocd", *named(item)): item for item in examples()}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    """Give a server that knows the kinds of Prometheus' operator and of Argo CD."""
    for resource, file in CRDS.items():
        path = PUBLISHED / file
        if not path.is_file():
            words = f"no {path}: set PUBLISHED_CRDS to a folder with the published CRDs"
            if os.environ.get("CI"):
                pytest.fail(words)
            pytest.skip(words)
        crd = yaml.safe_load(path.read_text())
        api_server.install(path.read_text(), crd["metadata"]["name"], f"/apis/{resource}")
    return api_server


def path_of(item: Manifest) -> str:
    """Give the path that the API server has for an object."""
    version, plural = item["apiVersion"], PLURALS.get(item["kind"], item["kind"].lower() + "s")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = item["metadata"].get("namespace")
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{place}/{plural}/{item['metadata']['name']}"


def of(kinds: set[str] | dict[str, Any]) -> list[Any]:
    """Give the objects of these kinds as cases."""
    return [pytest.param(item, id="/".join(filter(None, key))) for key, item in ALL.items() if item["kind"] in kinds]


@pytest.mark.parametrize("item", of(SERVED))
def test_api_server_accepts(server: ApiServer, item: Manifest) -> None:
    """No unknown field, no wrong type, no broken rule."""
    if item["kind"] == "Namespace":  # every one is there already, so this one gets a name of its own
        metadata = {"generateName": item["metadata"]["name"], "labels": item["metadata"]["labels"]}
        server.create("/api/v1/namespaces", item | {"metadata": metadata})
        return
    answer = server.apply(path_of(item), item, "deploy-tests")
    assert answer.status_code in (200, 201), answer.text


def test_api_server_accepts_rules_out_of_modelspecs(server: ApiServer, tmp_path: Path) -> None:
    """``trunkline alerts rules`` makes a PrometheusRule that is one, with the label that its Prometheus selects by."""
    asked = ("--kind", "PrometheusRule", "--label", "release=prometheus", "--namespace", "default")
    (item,) = read(said(tmp_path, "alerts", "rules", str(ROOT / "tests/specs/full.yaml"), *asked))
    assert item["metadata"]["labels"]["release"] == "prometheus"
    answer = server.apply(path_of(item), item, "deploy-tests")
    assert answer.status_code in (200, 201), answer.text


def test_api_server_would_refuse_what_is_wrong(server: ApiServer) -> None:
    """The check above can fail: an unknown field of each kind is refused."""
    for kind in ("PodMonitor", "PrometheusRule", "Application", "Deployment"):
        item = next(item for item in ALL.values() if item["kind"] == kind)
        answer = server.apply(path_of(item), item | {"spec": item["spec"] | {"unheardOf": 1}}, "deploy-tests")
        assert answer.status_code in (400, 422, 500), (kind, answer.text)
        assert "unheardOf" in answer.text


@pytest.mark.parametrize("item", of(MODELS))
def test_published_model_knows_every_field(item: Manifest) -> None:
    """What the API's own models read of an object is all of it."""
    assert stray(item, MODELS[item["kind"]]) == []


def test_published_model_would_miss_what_is_wrong() -> None:
    """The check above can fail: a misspelt field is found, however deep."""
    policy = next(item for item in ALL.values() if item["kind"] == "ValidatingAdmissionPolicy")
    wrong = policy | {"spec": policy["spec"] | {"validations": [{"expresion": "true"}]}}
    assert stray(wrong, models.V1ValidatingAdmissionPolicy) == ["spec.validations.expresion"]


def stray(value: Any, model: Any, path: str = "") -> list[str]:
    """Name the fields of an object that a model does not have."""
    if isinstance(value, list):
        return [
            found for each in value for found in stray(each, re.sub(r"^[Ll]ist\[(\w+)\]$", r"\1", str(model)), path)
        ]
    kind = getattr(models, model, None) if isinstance(model, str) else model
    if not isinstance(value, dict) or not hasattr(kind, "attribute_map"):
        return []
    types = {json: kind.openapi_types[name] for name, json in kind.attribute_map.items()}
    found = []
    for field, inner in value.items():
        here = f"{path}.{field}".lstrip(".")
        found += stray(inner, types[field], here) if field in types else [here]
    return found


def test_every_object_is_judged_by_something() -> None:
    """No kind slips through: all are known to a server, to a model, or to the list of those that nobody published."""
    kinds = {item["kind"] for item in ALL.values()}
    assert kinds == SERVED | set(MODELS) | UNPUBLISHED


def test_template_of_the_application_set_is_an_application(server: ApiServer) -> None:
    """Its CRD is not at hand; what it makes, with its placeholders filled in, is an Application that is accepted."""
    found = one(examples(), "ApplicationSet")
    text = (
        yaml.safe_dump(found["spec"]["template"])
        .replace("{{ .path.basename }}", "retail")
        .replace("{{ .path.path }}", "teams/retail")
    )
    assert "{{" not in text
    made = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **yaml.safe_load(text)}
    made["metadata"]["namespace"] = found["metadata"]["namespace"]
    answer = server.apply(path_of(made), made, "deploy-tests")
    assert answer.status_code in (200, 201), answer.text
