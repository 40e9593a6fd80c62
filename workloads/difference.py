"""Says and shows how two versions of a data set differ."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.workorders import DiffOrder


def run(order: DiffOrder, store: Store, scratch: Path) -> None:
    """Do it."""
    raise NotImplementedError(order.job, store.url, scratch)
