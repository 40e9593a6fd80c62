"""Judges admission requests by the shipped policies, with the API server's own CEL.

kube-testserver has no admission policies, but it has Kubernetes' CEL: in the rules of CRDs. So every policy becomes a
CRD whose objects are admission requests and whose rules are the policy's, ``variables`` written out; an object that is
refused is a request that is refused. Matching (rules, operations, labels) is done here, in Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.deploy.manifests import Manifest
from tests.support.apiserver import ApiServer

GROUP = "admission.tests.trunkline.dev"
_STRING = {"type": "string", "maxLength": 300}
_STRINGS = {"type": "array", "items": _STRING, "maxItems": 10}
_MAP = {"type": "object", "additionalProperties": _STRING, "maxProperties": 10}
_MAPS = {"type": "array", "items": _MAP, "maxItems": 5}


def _object(**properties: Any) -> Manifest:
    return {"type": "object", "properties": properties}


_METADATA = _object(labels=_MAP, annotations=_MAP, finalizers=_STRINGS, ownerReferences=_MAPS, name=_STRING)
_CONTAINERS = {"type": "array", "maxItems": 5, "items": _object(name=_STRING, image=_STRING)}
_POD = _object(containers=_CONTAINERS, initContainers=_CONTAINERS, ephemeralContainers=_CONTAINERS)
_CONDITIONS = {"type": "array", "maxItems": 5, "items": _object(type=_STRING, status=_STRING)}
OBJECTS: dict[str, Manifest] = {
    "modelspecs": _object(metadata=_METADATA, spec=_MAP, status=_MAP),
    "workloads": _object(
        metadata=_METADATA,
        spec=_object(template=_object(metadata=_METADATA, spec=_POD), ttlSecondsAfterFinished={"type": "integer"}),
        status=_object(conditions=_CONDITIONS),
    ),
    "pods": _object(metadata=_METADATA, spec=_POD),
    "trainjobs": _object(
        metadata=_METADATA, spec=_object(trainer=_object(image=_STRING, command=_STRINGS), suspend={"type": "boolean"})
    ),
    "inferenceservices": _object(metadata=_METADATA, spec=_object(predictor=_POD)),
}
"""As much of each kind's schema as the policies look at."""
_REQUEST = _object(
    operation=_STRING, userInfo=_object(username=_STRING, groups=_STRINGS), resource=_object(resource=_STRING)
)


@dataclass(frozen=True)
class Request:
    """Somebody wants to write something."""

    user: str
    operation: str
    resource: str
    """With its subresource, as in ``modelspecs/status``."""
    new: Manifest = field(default_factory=dict)
    old: Manifest = field(default_factory=dict)
    groups: tuple[str, ...] = ("system:authenticated",)

    @property
    def body(self) -> Manifest:
        """The request, and the object as it should be and as it is."""
        info: Manifest = {"username": self.user} | ({"groups": list(self.groups)} if self.groups else {})
        about = {"operation": self.operation, "userInfo": info, "resource": {"resource": self.resource.split("/")[0]}}
        return {"request": about, "objects": [self.new, self.old]}


class Policy:
    """One policy, as a CRD on the API server."""

    def __init__(self, server: ApiServer, manifest: Manifest, kind: str) -> None:
        self._server = server
        self._spec = manifest["spec"]
        self._variables: dict[str, str] = {}
        for variable in self._spec["variables"]:
            self._variables[variable["name"]] = f"({self._written_out(variable['expression'])})"
        self._plural = manifest["metadata"]["name"].replace("-", "")
        self._path = f"/apis/{GROUP}/v1/namespaces/tests/{self._plural}"
        self._asked = 0
        crd = yaml.safe_dump(self._crd(kind))  # an expression that does not compile is refused, with the reason
        server.install(crd, f"{self._plural}.{GROUP}", f"/apis/{GROUP}/v1/{self._plural}")

    def matches(self, request: Request) -> bool:
        """Whether the API server would ask the policy about the request at all."""
        rules = self._spec["matchConstraints"]["resourceRules"]
        asked = any(request.operation in r["operations"] and request.resource in r["resources"] for r in rules)
        wanted = self._spec["matchConstraints"].get("objectSelector", {}).get("matchLabels", {}).items()
        labels = [item.get("metadata", {}).get("labels", {}).items() for item in (request.new, request.old)]
        return asked and any(wanted <= each for each in labels)

    def verdict(self, request: Request) -> list[str]:
        """Give the policy's objections; none where it lets the request pass, or is not asked."""
        if not self.matches(request):
            return []
        self._asked += 1
        name = f"request-{self._asked}"
        answer = self._server.apply(
            f"{self._path}/{name}",
            {"apiVersion": f"{GROUP}/v1", "kind": self._kind, "metadata": {"name": name}, **request.body},
        )
        if answer.is_success:
            return []
        assert answer.status_code == 422, answer.text
        return [cause["message"] for cause in answer.json()["details"]["causes"]]

    @property
    def _kind(self) -> str:
        return self._plural.capitalize()

    def _written_out(self, expression: str) -> str:
        """Put variables into their places, and the request where the CRD has it. Texts are left alone."""
        parts = re.split(r'("[^"]*")', expression)
        return "".join(part if part.startswith('"') else self._replaced(part) for part in parts)

    def _replaced(self, text: str) -> str:
        text = re.sub(r"\bvariables\.(\w+)", lambda found: self._variables[found[1]], text)
        text = re.sub(r"(?<![\w.])request\b", "self.request", text)
        text = re.sub(r"(?<![\w.])object\b", "self.objects[0]", text)
        return re.sub(r"(?<![\w.])oldObject\b", "self.objects[1]", text)

    def _crd(self, kind: str) -> Manifest:
        rules = [self._rule(validation) for validation in self._spec["validations"]]
        objects = {"type": "array", "maxItems": 2, "items": OBJECTS[kind]}
        schema = _object(request=_REQUEST, objects=objects) | {"x-kubernetes-validations": rules}
        return {
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self._plural}.{GROUP}"},
            "spec": {
                "group": GROUP, "scope": "Namespaced",
                "names": {"plural": self._plural, "singular": self._plural, "kind": self._kind},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }  # fmt: skip

    def _rule(self, validation: Manifest) -> Manifest:
        rule = {"rule": self._written_out(validation["expression"]), "message": validation["message"]}
        if "messageExpression" in validation:
            rule["messageExpression"] = self._written_out(validation["messageExpression"])
        return rule
