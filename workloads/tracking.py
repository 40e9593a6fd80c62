"""Mirrors a finished run to a tracking server."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.workorders import TrackOrder


def run(order: TrackOrder, store: Store, scratch: Path) -> None:
    """Do it."""
    raise NotImplementedError(order.job, store.url, scratch)
