"""Facts about an API (paths, names, types) as a file, and whether a request and its answer agree with them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.forge_server import Call

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
}  # fmt: skip


class Contract:
    """What a file says; its notation is explained in the file."""

    def __init__(self, path: Path) -> None:
        facts = json.loads(path.read_text())
        self.operations: dict[str, Any] = facts["operations"]
        self._schemas: dict[str, dict[str, Any]] = facts["schemas"]

    def name(self, call: Call) -> str:
        """Give the operation that a request is; AssertionError where there is none."""
        for operation in self.operations:
            verb, path = operation.split()
            if verb == call.verb and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path):
                return operation
        raise AssertionError(f"{call.verb} {call.path} is not in the description")

    def faults(self, call: Call) -> list[str]:
        """Give what is wrong with a request and its answer."""
        operation = self.operations[self.name(call)]
        asked, sent = operation.get("query", {}), operation.get("body", {})
        found = [f"query {name}" for name, text in call.query.items() if not _fits_query(asked.get(name), text)]
        body = call.body or {}
        found += [f"body lacks {name}" for name in operation.get("required", ()) if name not in body]
        found += [fault for name, value in body.items() for fault in self._wrong(f"body {name}", sent.get(name), value)]
        if call.answer.body is not None:
            found += self._wrong("answer", operation["answer"], call.answer.body)
        return found

    def _wrong(self, where: str, kind: Any, value: Any) -> list[str]:
        if kind is None:
            return [f"{where} is unknown"]
        if value is None:
            return [] if where.startswith("answer") else [f"{where} is null"]
        if isinstance(kind, list):
            return [] if value in kind else [f"{where} is {value!r}"]
        if isinstance(kind, dict):
            each = enumerate(value) if isinstance(value, list) else ()
            wrong = [fault for number, item in each for fault in self._wrong(f"{where}[{number}]", kind["array"], item)]
            return wrong if isinstance(value, list) else [f"{where} is no list"]
        if kind in self._schemas:
            fields = self._fields(kind)
            inner = ((f"{where}.{name}", fields.get(name), item) for name, item in value.items())
            return [fault for each in inner for fault in self._wrong(*each)]
        if kind == "datetime":
            return [] if isinstance(value, str) and datetime.fromisoformat(value).tzinfo else [f"{where} is no time"]
        fits = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        return [] if fits else [f"{where} is {value!r}, not {kind}"]

    def _fields(self, schema: str) -> dict[str, Any]:
        fields = dict(self._schemas[schema])
        parent = fields.pop("extends", None)
        return {**self._fields(parent), **fields} if parent else fields


def _fits_query(kind: Any, text: str) -> bool:
    if kind is None:
        return False
    return text in kind if isinstance(kind, list) else kind != "integer" or text.isdecimal()
