"""The CustomResourceDefinition, made from the models so that the two cannot drift apart.

Structural, without defaults in ``spec``: a default that the API server writes back is a difference that Argo CD
shows for ever. What the schema language cannot say is said in CEL; what neither can, ``specs.reading`` still says.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from specs.exports import UNLABELLED
from specs.modelspec import API_VERSION, KIND, Spec
from specs.monitoring import FLOORS, MEANT
from specs.status import ModelStatus

Schema = dict[str, Any]

_OPEN = "x-kubernetes-preserve-unknown-fields"
_GROUP, _, _VERSION = API_VERSION.partition("/")

_KEPT = (
    "type", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties", "maxProperties", "required",
)  # fmt: skip
"""What means the same in pydantic's JSON schema and in a structural one.

The API server estimates the cost of CEL rules by the bounds: lists and texts that rules read need one in the models.
"""

_GIVEN = "(has({0}) && dyn({0}) != null)"
"""To ``has``, null is there; ``dyn``, because typed numbers and texts do not compare with null."""


def _exactly_one(*fields: str) -> list[dict[str, str]]:
    given = ", ".join(_GIVEN.format(f"self.{name}") for name in fields)
    rule = f"[{given}].filter(given, given).size() == 1"
    return [{"rule": rule, "message": f"give exactly one of {', '.join(fields)}"}]


def _meant(field: str, types: tuple[str, ...]) -> dict[str, str]:
    rule = f"!{_GIVEN.format(f'self.{field}')} || self.type in {list(types)}"
    return {"rule": rule, "message": f"{field} means something for {', '.join(types)} only"}


_EXPORT_NAMED = "self.exports.exists(export, export.name == {})"
_RULES: dict[str, list[dict[str, str]]] = {
    "Source": _exactly_one("uri", "dvc", "platform"),
    "Queue": _exactly_one("directory", "labelStudio", "cvat"),
    "Gate": _exactly_one("min", "max", "maxRegression"),
    "Signal": [
        *(_meant(field, types) for field, types in MEANT.items() if field != "max"),  # has two types, so none in CEL
        {
            "rule": f"self.type != 'Input' || {_GIVEN.format('self.feature')}",
            "message": "Input needs a feature: brightness, contrast, sharpness or size",
        },
        {
            "rule": f"!(self.type in {list(FLOORS)}) || {_GIVEN.format('self.min')}",
            "message": f"{' and '.join(FLOORS)} need min",
        },
    ],
    "Spec": [
        {
            "rule": f"!{_GIVEN.format('self.serving')} || {_EXPORT_NAMED.format('self.serving.export')}",
            "message": "serving.export must be the name of one of exports",
        },
        {
            "rule": "!has(self.gates) || self.gates.all(gate, "
            f"!{_GIVEN.format('gate.export')} || {_EXPORT_NAMED.format('gate.export')})",
            "message": "the export of a gate must be the name of one of exports",
        },
        {
            "rule": f"!has(self.gates) || {_GIVEN.format('self.data.golden')} || "
            "self.gates.all(gate, " + " || ".join(f"gate.metric.startsWith('{each}')" for each in UNLABELLED) + ")",
            "message": "gates that measure quality need data.golden",
        },
    ],
}
"""CEL rules by the section they are about."""

_MAP_LISTS = {("Spec", "exports"): "name", ("Spec", "gates"): "name", ("Monitoring", "signals"): "name",
              ("ModelStatus", "conditions"): "type"}  # fmt: skip
"""Lists whose items are told apart by a field: no two may share it, and server-side apply merges by it."""

_COLUMNS = (
    ("Ready", "string", ".status.conditions[?(@.type=='Ready')].status", 0),
    ("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason", 0),
    ("Release", "integer", ".spec.release.version", 0),
    ("Serving", "integer", ".status.serving.version", 0),
    ("Replicas", "string", ".status.serving.replicas", 0),
    ("Progress", "string", ".status.progress[0].text", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Status", "string", ".status.summary", 0),  # last, because it is as long as it must be
    ("File", "string", ".status.path", 1),
    ("Pull-Request", "integer", ".status.source.pullRequest", 1),
    ("Candidate", "string", ".status.candidate", 1),
    ("Inputs", "string", ".status.inputsDigest", 1),
)


def crd() -> dict[str, Any]:
    """Give the CustomResourceDefinition as plain data."""
    columns = [{"name": n, "type": t, "jsonPath": p, **({"priority": w} if w else {})} for n, t, p, w in _COLUMNS]
    version = {
        "name": _VERSION, "served": True, "storage": True, "subresources": {"status": {}},
        "additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": _resource()},
    }  # fmt: skip
    names = {"kind": KIND, "listKind": f"{KIND}List", "plural": "modelspecs", "singular": "modelspec",
             "shortNames": ["mspec"], "categories": ["trunkline"]}  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"modelspecs.{_GROUP}"},
        "spec": {"group": _GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


def crd_yaml() -> str:
    """Give the text of ``crds/modelspec.yaml``."""
    # One document without anchors: they would say that equal lists are the same list, which is chance.
    plain = json.loads(json.dumps(crd()))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    return "# Generated from specs/ by `trunkline crds`; do not edit.\n" + text


def _resource() -> Schema:
    spec = _Converter(Spec.model_json_schema(by_alias=True)).top()
    status = _Converter(ModelStatus.model_json_schema(by_alias=True)).top()
    status.pop("required", None)
    status["properties"]["observedGeneration"]["default"] = -1
    status["default"] = {"observedGeneration": -1}
    # A name becomes part of branches, job names and folders, so it is a DNS label, not a subdomain.
    name = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}
    return {
        "type": "object",
        "description": "One model, from data to monitoring.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}}, "spec": spec, "status": status,
        },
    }  # fmt: skip


class _Converter:
    """Turns one JSON schema of pydantic into a structural one: nothing referred to, no unions, no defaults."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._definitions: dict[str, Schema] = schema.get("$defs", {})

    def top(self) -> Schema:
        return self._convert(self._root, str(self._root["title"]))

    def _convert(self, schema: Schema, name: str = "") -> Schema:
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            found = self._convert(self._definitions[name], name)
            return found | _description(schema)
        if "anyOf" in schema:
            return self._union(schema)
        if "const" in schema:
            schema = schema | {"enum": [schema["const"]]}
        result: Schema = {key: schema[key] for key in _KEPT if key in schema}
        result |= _description(schema)
        match schema.get("type"):
            case "object":
                result |= self._object(schema, name)
            case "array":
                result |= {"items": self._convert(schema["items"])}
            case "integer":
                result["format"] = "int64"
            case _:
                pass
        return result

    def _union(self, schema: Schema) -> Schema:
        """One variant or null is nullable; several variants have no structural form and stay open."""
        variants = [variant for variant in schema["anyOf"] if variant.get("type") != "null"]
        nullable = {"nullable": True} if len(variants) < len(schema["anyOf"]) else {}
        if len(variants) == 1:
            found = self._convert(variants[0]) | _description(schema) | nullable
            return _open_enum(found) if nullable and "enum" in found else found
        return {_OPEN: True} | _description(schema) | nullable

    def _object(self, schema: Schema, name: str) -> Schema:
        extra, keys = schema.get("additionalProperties"), schema.get("propertyNames", {})
        for pattern, values in schema.get("patternProperties", {}).items():
            extra, keys = values, {"pattern": pattern}
        if "properties" in schema:
            properties = {key: self._convert(value) for key, value in schema["properties"].items()}
            for (section, field), item_key in _MAP_LISTS.items():
                if section == name:
                    properties[field] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [item_key]}
            rules = {"x-kubernetes-validations": _RULES[name]} if name in _RULES else {}
            return {"properties": properties} | rules
        if "enum" in keys and isinstance(extra, dict):
            return {"properties": {key: self._convert(extra) for key in keys["enum"]}}
        values = self._convert(extra) if isinstance(extra, dict) else {_OPEN: True}
        if values.get(_OPEN) and "type" not in values:
            return {_OPEN: True}
        return {"additionalProperties": values} | _key_rules(keys)


def _open_enum(schema: Schema) -> Schema:
    """Say an enum that allows null as a rule: the API server refuses null in any enum, even in one that lists it."""
    options = ", ".join(str(option) for option in schema["enum"])
    rule = {"rule": f"self in {json.dumps(schema['enum'])}", "message": f"must be one of {options}"}
    description = f"{schema.get('description', '')} One of {options}.".strip()
    kept = {key: value for key, value in schema.items() if key != "enum"}
    if schema["type"] == "string":
        kept["maxLength"] = 63  # bounds the rule's cost; longer than any option
    return kept | {"description": description, "x-kubernetes-validations": [rule]}


def _description(schema: Schema) -> Schema:
    text = " ".join(str(schema.get("description", "")).split()).replace("``", "`")
    return {"description": text} if text else {}


def _key_rules(keys: Schema) -> Schema:
    if "pattern" not in keys:
        return {}
    rule = f"self.all(key, key.matches('{keys['pattern']}'))"
    message = "names must be lower-case letters, digits and hyphens"
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}
