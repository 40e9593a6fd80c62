"""Searches for better training arguments."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.workorders import TuneOrder
from workloads.errors import Hopeless


def run(order: TuneOrder, store: Store, scratch: Path) -> None:
    """Do it."""
    raise NotImplementedError(order.job, store.url, scratch)


def record_failure(order: TuneOrder, store: Store, failure: Hopeless) -> None:
    """Write why it can never work."""
    raise NotImplementedError(order.job, store.url, failure.message)
