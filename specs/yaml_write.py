"""Plain data as YAML text that people like to read: block style, quotes only where some reader would stumble."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+=~^()%-]*(?: [A-Za-z0-9_./@+=~^()%-]+|:[A-Za-z0-9_./@+=~^()%-]+)*")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ESCAPED = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True)
class Style:
    """How the file that is written into looks."""

    newline: str = "\n"
    indent: int = 2
    """Columns from a key to the keys below it."""
    list_indent: int = 2
    """Columns from a key to the hyphens below it."""
    json: bool = False
    """Keys and texts always in double quotes, so that a JSON file stays one."""


def block(value: Any, column: int, style: Style) -> str:
    """Write a mapping or list that is not empty over several lines, without a final line break."""
    return style.newline.join(_lines(value, column, style))


def is_block(value: object) -> bool:
    """Whether a value is written over several lines where there is room."""
    return isinstance(value, (dict, list)) and len(value) > 0


def inline(value: Any, style: Style, *, flow: bool = False) -> str:
    """Write a value on one line. ``flow``: within brackets, where fewer texts can do without quotes.

    Takes what has a canonical JSON text (see ``specs.digests``): no NaN, no infinity; TypeError for anything else.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return _text(value, style, flow=flow)
        case list() | tuple():
            return "[" + ", ".join(inline(item, style, flow=True) for item in value) + "]"
        case dict():
            pairs = (f"{_text(str(k), style, flow=True)}: {inline(v, style, flow=True)}" for k, v in value.items())
            return "{" + ", ".join(pairs) + "}"
        case _:
            msg = f"cannot be written as YAML: {type(value).__name__}"
            raise TypeError(msg)


def entry(key: str, value: Any, column: int, style: Style) -> str:
    """Write ``key: value`` as an entry of a block mapping at ``column`` (from 0), without a final line break."""
    return style.newline.join(_entry(key, value, column, style))


def _entry(key: str, value: Any, column: int, style: Style) -> list[str]:
    head = " " * column + _text(key, style, flow=False) + ":"
    if not is_block(value):
        return [f"{head} {inline(value, style)}"]
    return [head, *_lines(value, column + (style.indent if isinstance(value, dict) else style.list_indent), style)]


def _lines(value: Any, column: int, style: Style) -> list[str]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _entry(str(key), item, column, style)]
    lines: list[str] = []
    for item in value:
        if isinstance(item, dict) and item:
            first, *rest = _lines(item, column + 2, style)
            lines += [f"{' ' * column}- {first[column + 2 :]}", *rest]
        else:
            lines.append(f"{' ' * column}- {inline(item, style)}")
    return lines


def _float(value: float) -> str:
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    # Readers of YAML 1.1 take 1e-05 for a text; with a point it is a number to everybody.
    return f"{mantissa}.0e{power}" if exponent and "." not in mantissa else text


def _text(value: str, style: Style, *, flow: bool) -> str:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and not (flow and ":" in value)
    if plain and not style.json:
        return value
    return _ESCAPED.sub(lambda hit: f"\\u{ord(hit.group()):04x}", json.dumps(value, ensure_ascii=False))
