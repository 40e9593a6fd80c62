"""Markdown for pull requests and reports. Text from users cannot become markup, mentions or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$^])")
_LINKING = re.compile(r"([@#])|([!~&$%^])(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=\bgh)(?=-\d)", re.IGNORECASE)
_LEADING = re.compile(r"^(?=[-=:](?:[-=: ]|$))|^\d+(?=\.(?: |$))")
_GAP = "\u200b"
"""A space without width. Forges look for mentions, issues and addresses in rendered text, where no escape is left."""


def _flat(text: str) -> str:
    """Give one line that hides nothing: what cannot be printed is shown as a replacement."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def plain(text: str) -> str:
    """Make any text fit for where nothing is markup: titles and commit messages. One line, nothing linked."""
    return _LINKING.sub(lambda hit: hit.group() + _GAP, _flat(text))


def escape(text: str) -> str:
    """Make any text plain: markup escaped, mentions, issue numbers and addresses broken, one line, nothing hidden."""
    marked = _LEADING.sub(lambda hit: hit.group() + "\\", _SPECIAL.sub(r"\\\1", _flat(text)))
    return _LINKING.sub(lambda hit: hit.group() + _GAP, marked)


def code(text: str) -> str:
    """Show text in code style. No escape exists there, so what could end it, or pass for a hidden mark, is replaced."""
    flat = _flat(text.replace("`", "'").replace("|", "¦").replace("<!--", "<!–"))
    return f"`{flat}`" if flat else "–"


def block(text: str, language: str) -> str:
    """Show lines as they are; the fence is longer than any that is in them."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}\n"


def picture(name: str) -> str:
    """Show a picture that lies beside the page."""
    return f"![{escape(name)}]({quote(name, errors='replace')})"


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
