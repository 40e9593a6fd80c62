"""Edits of manifests: one value changes, every other byte of the file stays. The proof is in ``specs.proof``.

Where the value stands in the text comes from YAML nodes; the text itself is cut and joined, never written anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from specs.digests import canonical
from specs.errors import InvalidManifest, UnsafeEdit
from specs.modelspec import ModelKey
from specs.reading import Candidate, find
from specs.yaml_text import Mark, Node
from specs.yaml_write import Style, block, entry, inline, is_block

INTENT_FIELDS = {
    "promote": "spec.release",
    "rollback": "spec.release",
    "retrain": "spec.training.nonce",
    "bump-data": "spec.data",
    "tune": "spec.training.args",
}
"""What each intent may edit: this field, or one below it."""

_OPEN_MAPS = ("spec.training.args",)
_LINE_LENGTH = 120


@dataclass(frozen=True)
class Place:
    """Where a field is in a document, or (``key`` and ``value`` None) where it would be."""

    candidate: Candidate
    parent: Node
    name: str
    key: Node | None = None
    value: Node | None = None


def edit(text: str, key: ModelKey, field: str, value: object) -> str:
    """Give ``text`` with the field of one ModelSpec set to ``value`` (plain data), or removed where that is None.

    ``field`` is a dotted path such as ``spec.release``; its parent must be there. Empty and absent parts of the
    value are left out. UnsafeEdit where that cannot be done without touching anything else.
    """
    place = locate(text, key, field)
    wanted = checked(field, value)
    if place.key is None and wanted is None:
        return text
    style = _style(text, place)
    start, end, new = _splice(text, place, wanted, style)
    return text[:start] + new + text[end:]


def checked(field: str, value: Any) -> Any:
    """Give the value as it will be written: without what says nothing (None, empty maps and lists below the top).

    Open maps keep all that they hold. UnsafeEdit for what YAML cannot carry: NaN, lone surrogates, other objects.
    """
    try:
        canonical(value)
    except (TypeError, ValueError) as error:
        msg = f"the value of {field} cannot be written as YAML: {error}"
        raise UnsafeEdit(msg) from error
    return value if field.startswith(_OPEN_MAPS) else _pruned(value)


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item not in (None, {}, [])}
    return [_pruned(item) for item in value] if isinstance(value, (list, tuple)) else value


def locate(text: str, key: ModelKey, field: str) -> Place:
    """Find a field that may be edited; UnsafeEdit with the reason where it must not or cannot be."""
    if not any(field == root or field.startswith(f"{root}.") for root in INTENT_FIELDS.values()):
        msg = f"{field} is not a field that Trunkline edits; those are {', '.join(sorted(set(INTENT_FIELDS.values())))}"
        raise UnsafeEdit(msg)
    candidate = _document(text, key)
    node, walked = candidate.document.root, ""
    *parents, name = field.split(".")
    for part in parents:
        walked = f"{walked}.{part}" if walked else part
        child = node.get(part)
        if child is None or child.kind != "mapping":
            msg = f"{field} of {key} cannot be set: {walked} is not there or no mapping; write it first"
            raise UnsafeEdit(msg)
        node = child
    pair = node.pair(name)
    if pair is None:
        return Place(candidate, node, name)
    if not re.match(r"[ \t]*:", text[pair[0].end :]):
        msg = f"{field} of {key} in line {pair[0].start.line} is not written as 'key: value'; write it so"
        raise UnsafeEdit(msg)
    return Place(candidate, node, name, *pair)


def _document(text: str, key: ModelKey) -> Candidate:
    try:
        candidates = [candidate for candidate in find(text, "") if candidate.key == key]
    except InvalidManifest as error:
        msg = f"the file of {key} cannot be read: {error.problems[0].message}"
        raise UnsafeEdit(msg) from error
    if len(candidates) != 1:
        raise UnsafeEdit(f"the file holds {len(candidates)} ModelSpecs {key}; it must hold exactly one")
    document = candidates[0].document
    if candidates[0].reading.flaws:
        flaw = candidates[0].reading.flaws[0]
        msg = f"the document of {key} cannot be edited safely, line {flaw.node.start.line}: {flaw.message}"
        raise UnsafeEdit(msg)
    if re.search(r"^ *\t", text[document.start : document.end], re.MULTILINE):
        msg = f"the document of {key} has lines that begin with a tab; use spaces"
        raise UnsafeEdit(msg)
    return candidates[0]


def _splice(text: str, place: Place, value: Any, style: Style) -> tuple[int, int, str]:
    """Give (start, end, new text): the one cut that makes the edit."""
    if place.key is None or place.value is None:
        return _insertion(text, place, value, style)
    if value is None:
        return _removal(text, place)
    old = place.value
    if place.parent.style == "flow":
        return _swap(old, text, place.key, inline(value, style, flow=True))
    if not is_block(value) or _stays_flow(old, value, style):
        if old.style == "block":
            return _collapse(text, place.key, old, inline(value, style))
        return _swap(old, text, place.key, inline(value, style))
    below = style.indent if isinstance(value, dict) else style.list_indent
    column = place.key.start.column - 1 + below
    if old.style != "block":
        return _expand(text, place.key, old, block(value, column, style), style)
    if isinstance(value, dict) == (old.kind == "mapping"):
        column = old.start.column - 1
    return line_start(text, old.start), value_end(text, old), block(value, column, style)


def _stays_flow(old: Node, value: Any, style: Style) -> bool:
    """Whether what was written in brackets on one line should and can stay so."""
    if old.style != "flow" or not (old.pairs or old.items):
        return False
    return old.start.column + len(inline(value, style)) <= _LINE_LENGTH


def _swap(old: Node, text: str, key: Node, new: str) -> tuple[int, int, str]:
    """Put one inline value in the place of another."""
    if old.start.offset == old.end:  # nothing written: right behind the colon
        return _colon(text, key), _colon(text, key), f" {new}"
    return old.start.offset, old.end, new


def _collapse(text: str, key: Node, old: Node, new: str) -> tuple[int, int, str]:
    """Put an inline value in the place of lines; comments between the key and the first line stay."""
    colon = _colon(text, key)
    kept = text[colon : line_start(text, old.start)].rstrip(" \r\n")
    return colon, value_end(text, old), f" {new}{kept}"


def _expand(text: str, key: Node, old: Node, lines: str, style: Style) -> tuple[int, int, str]:
    """Put lines in the place of an inline value; the comment behind it stays on the key's line."""
    colon, eol = _colon(text, key), line_end(text, old.end)
    head, tail = text[colon : max(colon, old.start.offset)].rstrip(" \r\n"), text[old.end : eol].rstrip()
    if head and tail:
        tail = f"{style.newline}{' ' * (key.start.column - 1 + style.indent)}{tail.lstrip()}"
    return colon, eol, f"{head}{tail}{style.newline}{lines}"


def _removal(text: str, place: Place) -> tuple[int, int, str]:
    if len(place.parent.pairs) == 1 and place.parent.style == "block":
        msg = f"{place.name} is the only field where it stands and cannot be removed; edit the field above it"
        raise UnsafeEdit(msg)
    start, end = removal_room(text, place)
    return start, end, ""


def removal_room(text: str, place: Place) -> tuple[int, int]:
    """Give the span that goes when an existing field goes: whole lines, or an entry with one comma."""
    parent, key, value = place.parent, place.key, place.value
    if key is None or value is None:
        msg = "a field that is not there has no room"
        raise ValueError(msg)
    if parent.style == "flow":
        index, end = next(i for i, pair in enumerate(parent.pairs) if pair[0] is key), _entry_end(text, key, value)
        if index > 0:
            return _entry_end(text, *parent.pairs[index - 1]), end
        return key.start.offset, parent.pairs[1][0].start.offset if len(parent.pairs) > 1 else end
    start, end = line_start(text, key.start), line_end(text, max(_entry_end(text, key, value), key.end))
    if text[start : key.start.offset].strip(" "):
        msg = f"{place.name} shares its line {key.start.line} with something before it; give it a line of its own"
        raise UnsafeEdit(msg)
    if end < len(text):
        return start, end + (2 if text.startswith("\r\n", end) else 1)
    return len(text[:start].removesuffix("\n").removesuffix("\r")), end


def _insertion(text: str, place: Place, value: Any, style: Style) -> tuple[int, int, str]:
    parent = place.parent
    at = insertion_point(text, place)
    if parent.style == "flow":
        pair = f"{inline(place.name, style, flow=True)}: {inline(value, style, flow=True)}"
        return at, at, f", {pair}" if parent.pairs else pair
    column = parent.pairs[0][0].start.column - 1
    return at, at, style.newline + entry(place.name, value, column, style)


def insertion_point(text: str, place: Place) -> int:
    """Give where a field that is not there yet would go: behind the last entry of its parent."""
    parent = place.parent
    if not parent.pairs:
        return parent.start.offset + 1
    end = _entry_end(text, *parent.pairs[-1])
    return end if parent.style == "flow" else line_end(text, end)


def _style(text: str, place: Place) -> Style:
    """Look at how the document is written."""
    end = line_end(text, place.parent.start.offset)
    newline = "\r\n" if text.startswith("\r\n", end) or ("\n" not in text[end:] and "\r\n" in text) else "\n"
    root = place.candidate.document.root
    steps = {"mapping": [2], "sequence": [2]}
    _indents(root, steps)
    pairs = place.parent.pairs or root.pairs
    as_json = place.parent.style == "flow" and all(key.style == '"' for key, _ in pairs)
    indent = steps["mapping"][min(1, len(steps["mapping"]) - 1)]
    hyphen = steps["sequence"][1] if len(steps["sequence"]) > 1 else indent
    return Style(newline, indent, hyphen, as_json)


def _indents(node: Node, steps: dict[str, list[int]]) -> None:
    """Collect how far block mappings and lists stand to the right of their keys, in order."""
    for key, value in node.pairs:
        if node.style == "block" and value.style == "block":
            steps[value.kind].append(value.start.column - key.start.column)
        _indents(value, steps)


def _colon(text: str, key: Node) -> int:
    """Give the offset behind a key's colon."""
    match = re.compile(r"[ \t]*:").match(text, key.end)
    return match.end() if match else key.end


def _entry_end(text: str, key: Node, value: Node) -> int:
    return value.end if value.end > value.start.offset else _colon(text, key)


def value_end(text: str, value: Node) -> int:
    """Give where a value ends; lines end with the comment on the last of them, which is about that line alone."""
    return line_end(text, value.end) if value.style == "block" else value.end


def line_start(text: str, mark: Mark) -> int:
    """Give the offset of the first character of a line."""
    return text.rfind("\n", 0, mark.offset) + 1


def line_end(text: str, offset: int) -> int:
    """Give the offset of the line break at or behind an offset, or of the end of the text."""
    end = text.find("\n", offset)
    if end < 0:
        return len(text)
    return end - 1 if end > offset and text[end - 1] == "\r" else end
