"""Where data sets come from: one module for each kind of source, each with a function ``fetch``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Told = Callable[[str, int, int], None]
"""Called with (phase, done, in all); bytes or files, 0 in all where nobody knows."""


@dataclass(frozen=True)
class Fetched:
    """A data set as its source has it, on this machine's disk.

    ``folder`` holds the data set's files and nothing else; they may be hard links into a cache, and are never written
    to. ``digest`` is what the source's digest is, verified against the one that git names where it names one.
    ``bytes`` counts what was transferred now: nothing where a cache had everything.
    """

    folder: Path
    digest: str
    bytes: int
