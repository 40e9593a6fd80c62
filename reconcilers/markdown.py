"""Markdown for pull requests and reports. Text from users cannot become markup, mentions or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$])")
_LINKING = re.compile(r"([@#])|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)
_GAP = "\u200b"
"""A space without width. Forges look for mentions, issues and addresses in rendered text, where no escape is left."""


def escape(text: str) -> str:
    """Make any text plain: markup escaped, mentions, issue numbers and addresses broken, one line, nothing hidden."""
    flat = "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))
    return _LINKING.sub(lambda hit: hit.group() + _GAP, _SPECIAL.sub(r"\\\1", flat))


def code(text: str) -> str:
    """Show text in code style; backticks and bars are replaced, since no escape exists there."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "¦").split()) + "`"


def picture(name: str) -> str:
    """Show a picture that lies beside the page."""
    return f"![{escape(name)}]({quote(name)})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table; the cells are markdown already. Empty where there are no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *lines]) + "\n"


def number(value: float | None) -> str:
    """Show a measured number with four digits, or a dash."""
    return "–" if value is None else f"{value:.4g}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Show an interval, or nothing."""
    return "" if bounds is None else f" ({bounds[0]:.4g} to {bounds[1]:.4g})"
