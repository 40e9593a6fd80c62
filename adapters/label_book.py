"""What the store knows about kept pictures of one model: which there are, who was asked, and what was said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from pydantic import ValidationError

from specs.digests import digest_bytes
from specs.errors import Stalled
from specs.kept_records import KeptName, KeptRecord, kept_name, kept_root
from specs.label_records import (
    AnsweredRecord,
    AskedRecord,
    OwedRecord,
    ToldRecord,
    What,
    label_key,
    label_part,
    labels_root,
)
from specs.records import Record

_KINDS: Mapping[type[Record], What] = {
    AskedRecord: "asked", AnsweredRecord: "answered", OwedRecord: "owed", ToldRecord: "told",
}  # fmt: skip
_WHATS = tuple(_KINDS.values())
_AT_ONCE = 8
"""Records that are read at once, since each waits for the disk or the network."""
R = TypeVar("R", bound=Record)


class Shelf(Protocol):
    """The part of the store that is needed here."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None where there is none."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once; False if one is there already."""

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``, sorted."""

    def put_blob(self, source: bytes) -> str:
        """Store a file and give its digest."""


@dataclass(frozen=True)
class Marks:
    """Ids of the pictures that something is known about."""

    asked: frozenset[str]
    answered: frozenset[str]
    owed: frozenset[str]
    told: frozenset[str]

    def state(self, id_: str) -> Literal["new", "asked", "answered"]:
        """Give how far a picture is."""
        return "answered" if id_ in self.answered else "asked" if id_ in self.asked else "new"


class LabelBook:
    """Kept pictures and the records about labelling them, of one model by its name at the server."""

    def __init__(self, store: Shelf, model: str) -> None:
        self._store, self.model = store, model

    def kept(self) -> list[KeptName]:
        """Give what is kept now, oldest first, by keys alone."""
        names = (kept_name(key) for key in self._store.list(kept_root(self.model)))
        return sorted(name for name in names if name is not None and name.suffix == ".json")

    def read(self, names: Iterable[KeptName]) -> list[KeptRecord]:
        """Give the records; what is removed meanwhile, or is no record, is left out."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [record for record in pool.map(self._kept, names) if record is not None]

    def marks(self) -> Marks:
        """Give what is known about which pictures."""
        found: dict[str, set[str]] = {what: set() for what in _WHATS}
        for key in self._store.list(labels_root(self.model)):
            part = label_part(key)
            if part is not None:
                found[part[1]].add(part[0])
        return Marks(*(frozenset(found[what]) for what in _WHATS))

    def keep_picture(self, record: KeptRecord) -> bool:
        """Make the picture a file of the store, which stays; False where it is gone, or damaged."""
        data = self._store.read(record.picture)
        if data is None or digest_bytes(data) != record.digest:
            return False
        self._store.put_blob(data)
        return True

    def asked(self, ids: Iterable[str]) -> Mapping[str, AskedRecord]:
        """Give what people were asked."""
        return self._records(ids, "asked", AskedRecord)

    def owed(self, ids: Iterable[str]) -> Mapping[str, OwedRecord]:
        """Give what servers are to be told."""
        return self._records(ids, "owed", OwedRecord)

    def note(self, *records: AskedRecord | AnsweredRecord | OwedRecord | ToldRecord) -> None:
        """Write records, several at once; the first one of a kind about a picture stays."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._note, records))

    def _note(self, record: AskedRecord | AnsweredRecord | OwedRecord | ToldRecord) -> None:
        self._store.create(label_key(self.model, record.id, _KINDS[type(record)]), record.encode())

    def _kept(self, name: KeptName) -> KeptRecord | None:
        try:
            record = KeptRecord.decode(self._store.read(name.key) or b"")
        except ValidationError:
            return None
        return record if record.key == name.key else None

    def _records(self, ids: Iterable[str], what: What, kind: type[R]) -> dict[str, R]:
        wanted = sorted(ids)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            texts = pool.map(self._store.read, (label_key(self.model, id_, what) for id_ in wanted))
            return {id_: self._decoded(id_, what, kind, text) for id_, text in zip(wanted, texts, strict=True) if text}

    def _decoded(self, id_: str, what: What, kind: type[R], text: bytes) -> R:
        try:
            return kind.decode(text)
        except ValidationError as error:
            key = label_key(self.model, id_, what)
            raise Stalled("CorruptRecord", f"{key} in the store is no record; remove it") from error
