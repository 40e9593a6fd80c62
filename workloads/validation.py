"""Looks at every picture and label before anything is spent on them."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.workorders import ValidateOrder


def run(order: ValidateOrder, store: Store, scratch: Path) -> None:
    """Do it."""
    raise NotImplementedError(order.job, store.url, scratch)
