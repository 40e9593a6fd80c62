"""Write ``github.json`` beside this file: facts about the part of GitHub's API that we use, no prose.

    npm pack @octokit/openapi@23.0.2 && tar xzf octokit-openapi-*.tgz
    python tests/adapters/contracts/extract_github.py package/generated/api.github.com.json 'npm @octokit/openapi …'

The notation is explained in the file. Run it again with a newer description to learn what changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPERATIONS = (
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/pulls",
    "POST /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}",
    "PATCH /repos/{owner}/{repo}/pulls/{pull_number}",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}/reviews",
    "GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "POST /repos/{owner}/{repo}/issues/{issue_number}/labels",
    "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "GET /repos/{owner}/{repo}/collaborators/{username}/permission",
    "GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls",
    "GET /repos/{owner}/{repo}/commits/{ref}/statuses",
    "POST /repos/{owner}/{repo}/statuses/{sha}",
    "POST /app/installations/{installation_id}/access_tokens",
)
DEPTH = 2
"""How far below an answer fields are kept: ``head.repo.full_name``. Of what is deeper it is enough that it is there."""


class Extract:
    """Reads an OpenAPI document (version 3) and gathers the schemas that answers are made of."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self.schemas: dict[str, dict[str, Any]] = {}
        self._depths: dict[str, int] = {}

    def operation(self, verb: str, path: str) -> dict[str, Any]:
        """Give the facts of one operation."""
        found = self._document["paths"][path][verb.lower()]
        facts: dict[str, Any] = {}
        asked = [self._resolved(parameter) for parameter in found.get("parameters", ())]
        facts["query"] = {p["name"]: self._kind(p["schema"]) for p in asked if p["in"] == "query"}
        body = self._content(found.get("requestBody", {}))
        if body is not None:
            sent = self._flat(body)
            facts["body"] = {name: self._kind(kind) for name, kind in sent["properties"].items()}
            facts["required"] = sent.get("required", [])
        answers = (self._resolved(found["responses"][code]) for code in ("200", "201") if code in found["responses"])
        for answer in answers:
            facts["answer"] = self._kind(self._content(answer), path, 0)
        return {name: value for name, value in facts.items() if value}

    def _resolved(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            node = target
        return node

    def _content(self, node: Any) -> Any:
        return self._resolved(node).get("content", {}).get("application/json", {}).get("schema")

    def _flat(self, schema: Any) -> dict[str, Any]:
        """Give the fields of an object, those of all its alternatives together; its own ``required`` stays."""
        schema = self._resolved(schema)
        parts = [self._flat(part) for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
        fields = {name: kind for part in reversed(parts) for name, kind in part["properties"].items()}
        return {**schema, "properties": {**fields, **schema.get("properties", {})}}

    def _kind(self, schema: Any, name: str = "", depth: int = DEPTH + 1) -> Any:
        """Give the notation of a type; ``name`` is what an object without a name of its own would be called."""
        if isinstance(schema, dict) and "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
        schema = self._resolved(schema)
        if schema.get("enum") and schema.get("type", "string") == "string":
            return [value for value in schema["enum"] if value is not None]
        if schema.get("type") == "array":
            return {"array": self._kind(schema["items"], f"{name}[]", depth)}
        fields = self._flat(schema)["properties"]
        choices = [part.get("type") for key in ("anyOf", "oneOf") for part in map(self._resolved, schema.get(key, ()))]
        if fields and choices[:1] != ["string"]:  # where either will do, we send the text
            return self._remembered(name, fields, depth) if depth <= DEPTH else "object"
        if schema.get("format") == "date-time":
            return "datetime"
        kind = schema.get("type") or next((choice for choice in choices if choice), "object")
        return next(each for each in kind if each != "null") if isinstance(kind, list) else kind

    def _remembered(self, name: str, fields: Mapping[str, Any], depth: int) -> str:
        if name not in self.schemas or depth < self._depths[name]:
            self._depths[name] = depth
            kinds = {field: self._kind(kind, f"{name}.{field}", depth + 1) for field, kind in sorted(fields.items())}
            self.schemas[name] = kinds
        return name


def main(source: Path, origin: str) -> None:
    """Read the description and write the facts."""
    extract = Extract(json.loads(source.read_text()))
    operations = {name: extract.operation(*name.split()) for name in OPERATIONS}
    facts = {
        "source": f"Facts about GitHub's REST API, from its own OpenAPI document ({origin}). Names and types only.",
        "notation": "A type is the name of a JSON type, datetime, a list of the allowed strings, {array: type}, or the "
                    "name of a schema below. Every field of an answer may be null or absent.",
        "operations": operations, "schemas": extract.schemas,
    }  # fmt: skip
    lines = [f' "{key}": {json.dumps(facts[key])}' for key in ("source", "notation")]
    for key in ("operations", "schemas"):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in facts[key].items())
        lines.append(f' "{key}": {{\n{rows}\n }}')
    (Path(__file__).parent / "github.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
