"""What pydantic says about a ModelSpec, in plain words and with the place in the file."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from specs.base import DURATION_PATTERN, Section
from specs.digests import DIGEST_PATTERN
from specs.errors import Problem
from specs.modelspec import ModelSpec
from specs.yaml_text import Node

Where = tuple[str | int, ...]

_WANTED = {
    "string_type": "a text", "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "bool_type": "true or false", "list_type": "a list", "dict_type": "a mapping", "model_type": "a mapping",
    "model_attributes_type": "a mapping", "none_required": "nothing",
}  # fmt: skip
"""Errors about the kind of a value, by what would be right."""

_PATTERNS = {
    DIGEST_PATTERN: "sha256: and 64 lower-case hexadecimal digits",
    DURATION_PATTERN: "a duration such as 80ms, 30s, 15m, 1h or 3d",
    r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$": "a name of lower-case letters, digits and hyphens, at most 63 characters",
    r"^md5:[0-9a-f]{32}(\.dir)?$": "md5: and 32 lower-case hexadecimal digits, for folders with .dir",
    r"^[a-z][a-z0-9+.-]*://[^\s]+$": "a URL such as store://NAME or s3://bucket/path",
    r"^ul://[^/\s]+/datasets/[^/\s]+$": "an address such as ul://OWNER/datasets/NAME",
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\.(yaml|pt)$": "an Ultralytics model such as yolo26n.pt or yolo26n.yaml",
    r"^\S+ \S+ \S+ \S+ \S+$": "a cron line of five fields, such as 0 3 1 * *",
}


def problems(error: ValidationError, root: Node, path: str, known: Collection[Where] = ()) -> list[Problem]:
    """Place every pydantic error in the file, but those that only follow from values at the ``known`` places.

    Alternatives (``a text, or a mapping``) become one problem, not one for each alternative.
    """
    groups: dict[Where, list[tuple[ErrorDetails, Where, Node]]] = {}
    for details in error.errors(include_url=False):
        where, node, fork = _place(details, root)
        groups.setdefault(fork or where, []).append((details, where, node))
    found: list[Problem] = []
    for group in groups.values():
        deepest = max(len(where) for _, where, _ in group)
        wrong_kind = [entry for entry in group if entry[0]["type"] in _WANTED and len(entry[1]) == deepest]
        telling = [entry for entry in group if entry[0]["type"] not in _WANTED] or wrong_kind[:1]
        wanted = list(dict.fromkeys(_WANTED[details["type"]] for details, _, _ in wrong_kind))
        for details, where, node in telling:
            if not any(_follows(details, where, flawed) for flawed in known):
                message = _sentence(details, wanted)
                found.append(Problem(path, node.start.line, node.start.column, dotted(where), message))
    return list(dict.fromkeys(found))


def _follows(details: ErrorDetails, where: Where, flawed: Where) -> bool:
    """Whether an error says nothing new once the value at ``flawed``, which read as None, is mended."""
    return where == flawed or (details["type"] == "value_error" and flawed[: len(where)] == where)


def dotted(where: Where) -> str:
    """Write a place as people do: ``spec.exports[0].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.removeprefix(".")


def _place(details: ErrorDetails, root: Node) -> tuple[Where, Node, Where]:
    """Follow a pydantic location: (path in the file, node to point at, path where alternatives fork or empty)."""
    node, point, where, fork = root, root, (), ()  # type: tuple[Node, Node, Where, Where]
    for part in details["loc"]:
        pair = _child(node, part)
        if pair is None:
            if part == "[key]":
                continue
            if details["type"] == "missing" and part == details["loc"][-1]:
                return (*where, part), point, fork
            fork = fork or where  # the name of an alternative, which the file does not know
            continue
        point, node = pair
        where = (*where, part)
    at_key = details["type"] == "extra_forbidden" or "[key]" in details["loc"] or node.start.offset == node.end
    return where, point if at_key or (node.kind, node.style) == ("mapping", "block") else node, fork


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """Give (node to point at, value) of one step down."""
    if isinstance(part, int):
        return (node.items[part], node.items[part]) if part < len(node.items) else None
    return node.pair(part)


def _sentence(details: ErrorDetails, wanted: list[str]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in _WANTED:
        return f"must be {_either(wanted)}, but is {_shown(details['input'])}{_hint(wanted, details['input'])}"
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return _unknown(details["loc"])
        case "string_pattern_mismatch":
            pattern = str(context["pattern"])
            return f"must be {_PATTERNS.get(pattern, f'a text like {pattern}')}, but is {_shown(details['input'])}"
        case "literal_error" | "enum":
            return f"must be {context['expected']}, but is {_shown(details['input'])}{_nearest(details, context)}"
        case "value_error":
            return str(context["error"])
        case _:
            return _bound(kind, context) or details["msg"]


def _either(words: list[str]) -> str:
    """Join alternatives; a whole number is a number."""
    words = [word for word in words if word != "a whole number" or "a number" not in words]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _bound(kind: str, context: Mapping[str, Any]) -> str:
    words = {
        "greater_than_equal": "must be at least {ge}", "less_than_equal": "must be at most {le}",
        "greater_than": "must be more than {gt}", "less_than": "must be less than {lt}",
        "too_short": "must have at least {min_length} entries", "too_long": "must have at most {max_length} entries",
        "string_too_short": "must have at least {min_length} characters",
        "string_too_long": "must have at most {max_length} characters", "finite_number": "must be a finite number",
    }  # fmt: skip
    if kind in ("too_short", "string_too_short") and context["min_length"] == 1:
        return "must not be empty"
    return words[kind].format_map(context) if kind in words else ""


def _shown(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case str():
            return f'the text "{value if len(value) <= 40 else value[:37] + "..."}"'
        case _:
            return f"the number {value}"


def _hint(wanted: list[str], value: object) -> str:
    if isinstance(value, str) and any("number" in word for word in wanted):
        return "; write it without quotes if it is a number"
    if isinstance(value, (int, float)) and "a text" in wanted:
        return f'; put it in quotes: "{str(value).lower()}"'
    return ""


def _nearest(details: ErrorDetails, context: Mapping[str, Any]) -> str:
    options = [option.strip("' ") for option in str(context["expected"]).replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(details["input"]), options, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown(loc: Where) -> str:
    fields = sorted(known_fields(loc[:-1]))
    close = difflib.get_close_matches(str(loc[-1]), fields, n=1)
    guess = f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}" if fields else "remove it"
    return f"unknown field; {guess}"


def known_fields(loc: Where) -> set[str]:
    """Give the YAML names of the fields that may stand at a pydantic location."""
    sections: list[type[Section]] = [ModelSpec]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = [field for section in sections for field in section.model_fields.values()]
        inner = [field.annotation for field in fields if field.alias == part]
        if inner:
            sections = [found for annotation in inner for found in _sections(annotation)]
        elif any(section.__name__ == part for section in sections):
            sections = [section for section in sections if section.__name__ == part]
    return {str(field.alias) for section in sections for field in section.model_fields.values()}


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [found for inner in typing.get_args(annotation) for found in _sections(inner)]
