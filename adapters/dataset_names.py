"""What the names of data sets in the store mean: a line of write-once records for each name, the newest counts."""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from specs.data_records import NameRecord, name_key, name_number, name_prefix
from specs.errors import Stalled


class Keys(Protocol):
    """The part of the store that is needed here."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None where there is none."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once; False if one is there already."""

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``, sorted."""


class DatasetNames:
    """Names as ``specs.data_records.name_of`` gives them. Any number of processes may move one at once."""

    def __init__(self, store: Keys) -> None:
        self._store = store

    def newest(self, name: str) -> NameRecord | None:
        """Give what a name means now, None where nobody ever said; Stalled ``CorruptRecord``."""
        number = max(map(name_number, self._store.list(name_prefix(name))), default=0)
        return self._record(name, number) if number else None

    def move(self, name: str, seen: NameRecord | None, manifest: str, how: str) -> NameRecord | None:
        """Let a name mean another data set from now on, if it still means what was ``seen``; None where it does not.

        No-op where it means that data set already. A kill leaves the name moved or not, nothing between.
        """
        if seen is not None and seen.manifest == manifest:
            return seen
        record = NameRecord(
            name=name, number=seen.number + 1 if seen else 1, manifest=manifest, how=how,
            before=seen.manifest if seen else None,
        )  # fmt: skip
        return record if self._store.create(name_key(name, record.number), record.encode()) else None

    def point(self, name: str, manifest: str, how: str) -> NameRecord:
        """Let a name mean a data set, whatever it means now."""
        while True:  # ends: whoever is quicker has moved it on
            moved = self.move(name, self.newest(name), manifest, how)
            if moved is not None:
                return moved

    def _record(self, name: str, number: int) -> NameRecord:
        key = name_key(name, number)
        try:
            record = NameRecord.decode(self._store.read(key) or b"")
        except ValidationError as error:
            raise Stalled("CorruptRecord", f"{key} in the store does not say what {name} means; remove it") from error
        if (record.name, record.number) != (name, number):
            raise Stalled("CorruptRecord", f"{key} in the store is about {record.name}; remove it")
        return record
