"""Fetches a data set from where git says it is, checks it, and puts it into the store."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.workorders import ImportOrder
from workloads.errors import Hopeless


def run(order: ImportOrder, store: Store, scratch: Path) -> None:
    """Do it."""
    raise NotImplementedError(order.job, store.url, scratch)


def record_failure(order: ImportOrder, store: Store, failure: Hopeless) -> None:
    """Write why it can never work."""
    raise NotImplementedError(order.job, store.url, failure.message)
