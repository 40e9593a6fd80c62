"""How a job ends other than well. Whatever is not listed here is a bug and ends with a traceback, to be retried."""

from __future__ import annotations

import signal
from types import FrameType

from specs.errors import Stalled

DONE = 0
RETRY = 75
"""The world was in the way: store unreachable, disk full, no such device here."""
BAD_MATERIAL = 65
"""The store holds other bytes than the order names; once they are repaired, trying again works."""
HOPELESS = 10
OUT_OF_MEMORY = 137


class Hopeless(Stalled):
    """These inputs can never work. The reason goes into the record, where the kind of job has one for failures."""


def end_on_sigterm() -> None:
    """Leave at once when asked to, but clean up: SystemExit runs the ``finally`` blocks."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    """Raise what passes every ``except Exception``."""
    raise SystemExit(128 + number)
