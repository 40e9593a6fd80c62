"""Profiles: what an export does on the golden set, counted exactly as the server counts live traffic."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.profile_records import ProfileRecord, profile_key
from specs.workorders import ProfileOrder
from workloads.errors import Hopeless


def run(order: ProfileOrder, store: Store, scratch: Path) -> None:
    """Write the ProfileRecord."""
    raise NotImplementedError


def record_failure(order: ProfileOrder, store: Store, failure: Hopeless) -> None:
    """Write down that this can never be had, and why."""
    record = ProfileRecord(
        file=order.file, golden=order.golden, task=order.task, status="Failed", reason=failure.reason,
        message=failure.message,
    )  # fmt: skip
    store.create(profile_key(order.file, order.golden), record.encode())
