"""Which data set of the store a source in a ModelSpec stands for."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from adapters.store import Store
from specs.data import Source
from specs.data_records import ImportRecord, import_key
from specs.errors import Stalled
from specs.modelspec import Task
from specs.workorders import ImportOrder


def manifest_digest(store: Store, source: Source | None, task: Task) -> str | None:
    """Give the digest of the manifest; None where the source is not pinned, or was never fetched for this task."""
    if source is None or source.digest is None:
        return None
    if source.in_store:
        return source.digest
    # A pinned source is the same import, whoever asks.
    order = ImportOrder(model="", commit="", task=task, source=source.plain())
    record = _import(store, import_key(order.import_digest))
    return record.manifest if record is not None else None


def imports(store: Store) -> Iterator[ImportRecord]:
    """Give the records of all imports."""
    for key in store.list("imports/"):
        record = _import(store, key)
        if record is not None:
            yield record


def _import(store: Store, key: str) -> ImportRecord | None:
    text = store.read(key)
    try:
        return ImportRecord.decode(text) if text is not None else None
    except ValidationError as error:
        raise Stalled("CorruptRecord", f"{key} in the store is no record of an import; remove it") from error
