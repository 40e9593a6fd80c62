"""The hidden words by which a pull request tells what made us ask. Pure.

They are all the memory there is of it, like the other words in ``drafts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARK = re.compile(r"<!-- trunkline:because ([a-z0-9A-Z ,-]+) -->")


def because(names: Iterable[str]) -> str:
    """Give the hidden line that names episodes, or moments of a schedule."""
    return f"<!-- trunkline:because {' '.join(names)} -->"


def causes_in(body: str) -> tuple[str, ...]:
    """Give the names in a pull request's text; none where it does not tell."""
    found = _MARK.findall(body)
    return tuple(found[-1].split()) if found else ()
