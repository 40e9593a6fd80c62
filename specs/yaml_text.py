"""YAML text as nodes that know where they stand; nothing in a file is ever turned into a Python object of its choice.

Values are read by the YAML 1.2 core schema. What YAML 1.1 readers (Kubernetes tools among them) would read
differently is refused instead of guessed: one file must mean the same to everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import yaml

from specs.errors import InvalidManifest, Problem

SIZE_LIMIT = 1024 * 1024
"""Bytes of one file."""
DEPTH_LIMIT = 64
"""Mappings and lists within each other."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: the same events and places, 16 times as fast."""

_FORBIDDEN = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)",
)
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
          "": None, "~": None, "null": None, "Null": None, "NULL": None}  # fmt: skip
_SURPRISING_WORD = re.compile(r"y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_SURPRISING_NUMBER = re.compile(
    r"[-+]?(0[0-9]+|0o[0-7]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?)",
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Mark(NamedTuple):
    """A place: ``offset`` in characters from 0, ``line`` and ``column`` from 1."""

    offset: int
    line: int
    column: int


@dataclass(frozen=True, eq=False)
class Node:
    """One value in the text. Block mappings and lists end where their last value ends, not at the next token."""

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    start: Mark
    end: int
    style: str
    """``flow`` or ``block``; of scalars ``'``, ``"``, ``|``, ``>`` or empty for plain ones."""
    anchor: str | None = None
    tag: str | None = None
    value: str = ""
    items: tuple[Node, ...] = ()
    pairs: tuple[tuple[Node, Node], ...] = ()

    def pair(self, key: str) -> tuple[Node, Node] | None:
        """Give the first entry of that key."""
        return next(((k, v) for k, v in self.pairs if k.kind == "scalar" and k.value == key), None)

    def get(self, key: str) -> Node | None:
        """Give the first value of that key."""
        found = self.pair(key)
        return found[1] if found else None


@dataclass(frozen=True)
class Document:
    """One document of a file: ``text[start:end]``, from its ``---`` (or first token) to the next document."""

    number: int
    start: int
    end: int
    root: Node


@dataclass(frozen=True)
class Flaw:
    """Something that a ModelSpec must not contain."""

    node: Node
    where: tuple[str | int, ...]
    message: str


@dataclass
class Reading:
    """A document as plain data, and what is wrong with it. Flawed values read as None."""

    data: Any = None
    flaws: list[Flaw] = field(default_factory=list)


def documents(text: str, path: str) -> list[Document]:
    """Compose all documents of a file; InvalidManifest where it is not YAML, too long or too deep."""
    _check_characters(text, path)
    events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
    found: list[Document] = []
    try:
        for event in events:
            start: int = event.start_mark.index
            if isinstance(event, yaml.DocumentStartEvent):
                if found:
                    found[-1] = replace(found[-1], end=start)
                root = _compose(events, next(events), text, path, 0)
                found.append(Document(len(found), start, len(text), root))
    except yaml.MarkedYAMLError as error:
        raise InvalidManifest((_syntax_problem(error, text, path),)) from error
    except yaml.YAMLError as error:
        raise InvalidManifest((Problem(path, 0, 0, "", f"not YAML: {error}"),)) from error
    return found


def _check_characters(text: str, path: str) -> None:
    if len(text) > SIZE_LIMIT or len(text.encode("utf-8", "surrogatepass")) > SIZE_LIMIT:
        raise InvalidManifest((Problem(path, 0, 0, "", f"is longer than {SIZE_LIMIT} bytes; split the file"),))
    if text.startswith("\ufeff"):
        message = "begins with a byte order mark; save the file as UTF-8 without one"
        raise InvalidManifest((Problem(path, 1, 1, "", message),))
    bad = _FORBIDDEN.search(text)
    if bad is None:
        return
    before = text[: bad.start()]
    line, column = before.count("\n") + 1, bad.start() - before.rfind("\n")
    code = ord(bad.group()[0])
    message = (
        "is not valid UTF-8; save the file as UTF-8" if 0xD800 <= code < 0xE000
        else f"the character U+{code:04X} may not stand here; remove it, or write it as an escape in double quotes"
    )  # fmt: skip
    raise InvalidManifest((Problem(path, line, column, "", message),))


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, path: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = error.problem or error.context or "cannot be read"
    if mark is None:
        return Problem(path, 0, 0, "", f"not YAML: {what}")
    if text[mark.index : mark.index + 1] == "\t" or re.search(r"\t[ \t]*$", text[: mark.index].rpartition("\n")[2]):
        what = "a tab is used as indentation; use spaces"
    elif "mapping values are not allowed" in what:
        what = "a second colon on the line, or wrong indentation; put a text that holds ': ' in quotes"
    elif error.context:
        what = f"{what} ({error.context})"
    return Problem(path, mark.line + 1, mark.column + 1, "", f"not YAML: {what}")


def _compose(events: Iterator[Any], event: Any, text: str, path: str, depth: int) -> Node:
    """Build one node from events. Aliases stay aliases, so nothing is ever expanded."""
    start = Mark(event.start_mark.index, event.start_mark.line + 1, event.start_mark.column + 1)
    end: int = event.end_mark.index
    if depth > DEPTH_LIMIT:
        message = f"more than {DEPTH_LIMIT} mappings and lists within each other"
        raise InvalidManifest((Problem(path, start.line, start.column, "", message),))
    if isinstance(event, yaml.AliasEvent):
        return Node("alias", start, end, "", anchor=event.anchor)
    if isinstance(event, yaml.ScalarEvent):
        style = event.style or ""
        if style in ("|", ">"):  # libyaml lets these end where the next token begins
            end = start.offset + len(text[start.offset : end].rstrip())
        return Node("scalar", start, end, style, event.anchor, event.tag, event.value)
    style = "flow" if event.flow_style else "block"
    is_mapping = isinstance(event, yaml.MappingStartEvent)
    last = yaml.MappingEndEvent if is_mapping else yaml.SequenceEndEvent
    children: list[Node] = []
    for inner in events:
        finish: int = inner.end_mark.index
        if isinstance(inner, last):
            end = finish
            break
        children.append(_compose(events, inner, text, path, depth + 1))
    if style == "block":
        end = max([start.offset, *(child.end for child in children)])
    if is_mapping:
        pairs = tuple(zip(children[::2], children[1::2], strict=True))
        return Node("mapping", start, end, style, event.anchor, event.tag, pairs=pairs)
    return Node("sequence", start, end, style, event.anchor, event.tag, items=tuple(children))


def read(root: Node) -> Reading:
    """Give the plain data of a document (dict, list, str, int, float, bool, None) and every flaw in it."""
    reading = Reading()
    reading.data = _value(root, (), reading)
    return reading


def _value(node: Node, where: tuple[str | int, ...], reading: Reading) -> Any:
    if node.kind == "alias":
        reading.flaws.append(Flaw(node, where, f"refers to an anchor (*{node.anchor}); write the value out"))
        return None
    if node.anchor is not None:
        reading.flaws.append(Flaw(node, where, f"has an anchor (&{node.anchor}); write the value out where it is used"))
    if node.tag is not None:
        message = f"has the tag {node.tag}; remove it (quotes make a text, their absence a number)"
        reading.flaws.append(Flaw(node, where, message))
    if node.kind == "sequence":
        return [_value(item, (*where, index), reading) for index, item in enumerate(node.items)]
    if node.kind == "mapping":
        return _mapping(node, where, reading)
    try:
        return scalar(node.value, plain=node.style == "")
    except ValueError as error:
        reading.flaws.append(Flaw(node, where, str(error)))
        return None


def _mapping(node: Node, where: tuple[str | int, ...], reading: Reading) -> dict[str, Any]:
    seen: dict[str, Node] = {}
    data: dict[str, Any] = {}
    for key, value in node.pairs:
        name = _key(key, where, reading)
        if name is None:
            continue
        if name in seen:
            message = f"is given twice, first in line {seen[name].start.line}; keep one"
            reading.flaws.append(Flaw(key, (*where, name), message))
            continue
        seen[name] = key
        data[name] = _value(value, (*where, name), reading)
    return data


def _key(key: Node, where: tuple[str | int, ...], reading: Reading) -> str | None:
    """Give a key's text, or None where it is no text; then its value is not read either."""
    if key.kind == "scalar" and key.style == "" and key.value == "<<":
        reading.flaws.append(Flaw(key, (*where, "<<"), "merge keys are not read; write the values out"))
        return None
    name = _value(key, where, reading)
    if isinstance(name, str):
        return name
    if not any(flaw.node is key for flaw in reading.flaws):
        shown = f'"{key.value}"' if key.kind == "scalar" else "a text"
        reading.flaws.append(Flaw(key, where, f"a field's name must be a text; write {shown}"))
    return None


def scalar(text: str, *, plain: bool) -> str | int | float | bool | None:
    """Read a scalar by the YAML 1.2 core schema; ValueError where YAML 1.1 would read something else."""
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _SURPRISING_WORD.fullmatch(text):
        msg = f'{text} is yes-or-no to some YAML readers and a text to others; write true, false or "{text}"'
        raise ValueError(msg)
    if _SURPRISING_NUMBER.fullmatch(text):
        msg = f'{text} is a different number to different YAML readers; write it in decimal, or as text: "{text}"'
        raise ValueError(msg)
    if _NOT_FINITE.fullmatch(text):
        msg = f"{text} is not a finite number"
        raise ValueError(msg)
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            msg = "is a larger number than 64 bits hold"
            raise ValueError(msg)
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            msg = f"{text[:20]} is a larger number than can be held"
            raise ValueError(msg)
        return number
    return text


def comments(text: str) -> list[tuple[int, str]]:
    """Give (offset, comment) of all comments of a readable file, found in the gaps between its tokens."""
    found: list[tuple[int, str]] = []
    end = 0
    tokens: Iterator[Any] = iter(yaml.scan(text, Loader=_LOADER))
    for token in tokens:
        gap = text[end : max(end, token.start_mark.index)]
        found += [(end + hit.start(), hit.group().rstrip()) for hit in re.finditer("#[^\r\n]*", gap)]
        end = max(end, token.end_mark.index)
    return found
