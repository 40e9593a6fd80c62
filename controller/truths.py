"""What people said about the random share, told to the server that had answered: that is what Accuracy is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.label_book import LabelBook
from adapters.server_truth import TruthApi
from specs.errors import Transient
from specs.label_records import OwedRecord, ToldRecord


@dataclass(frozen=True)
class Told:
    """What came of telling."""

    counted: int = 0
    refused: int = 0
    """The server knows nothing of the request any more, or cannot use the answer."""
    waiting: int = 0
    why: str = ""
    """Why any wait."""


def owed(book: LabelBook) -> Mapping[str, OwedRecord]:
    """Give what servers were not told yet."""
    marks = book.marks()
    return book.owed(marks.owed - marks.told)


def tell(
    book: LabelBook, records: Mapping[str, OwedRecord], server: TruthApi | None, tick: Callable[[], None]
) -> Told:
    """Tell the server all that it is owed, each once, and write down what was told; calls ``tick`` after each.

    A kill between the two tells one of them again, which the server counts once. One that cannot be told now is
    told at the next import.
    """
    if server is None:
        why = "no server is running here; name one with --server URL" if records else ""
        return Told(waiting=len(records), why=why)
    counted = refused = 0
    for id_, record in sorted(records.items()):
        try:
            said = server.tell(book.model, record.truth)
        except Transient as error:
            return Told(counted, refused, len(records) - counted - refused, error.message)
        book.note(ToldRecord(id=id_, outcome="Refused" if said else "Counted", message=said))
        counted, refused = counted + (not said), refused + bool(said)
        tick()
    return Told(counted, refused)
