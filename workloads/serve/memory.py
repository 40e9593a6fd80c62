"""Gives memory back to the system that nobody uses any more.

Bodies and tensors come and go by the hundred kilobytes, and glibc keeps what is free between what is not: after a busy
minute that is as much again as the model takes. Walking its lists takes a millisecond.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from functools import lru_cache

PAUSE = 5.0
"""Seconds."""


def trim() -> bool:
    """Give back what is free; False where the C library knows no such thing, and nothing was done."""
    call = _found()
    if call is None:
        return False
    call(0)
    return True


async def keep_small(pause: float = PAUSE) -> None:
    """Give back what is free now and then, until cancelled; returns at once where that cannot be done."""
    while await asyncio.to_thread(trim):  # noqa: ASYNC110 - nothing tells when memory gets free
        await asyncio.sleep(pause)


@lru_cache(maxsize=1)
def _found() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
