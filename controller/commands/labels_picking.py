"""Which kept pictures a person means, and how long it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

from adapters.label_book import LabelBook
from specs.kept_records import KeptName, KeptRecord

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Filter:
    """What to leave out. None leaves nothing out."""

    why: str | None = None
    day: str | None = None
    """YYYYMMDD."""
    release: int | None = None

    def read(self, book: LabelBook, wanted: Callable[[KeptName], bool] = lambda _: True) -> list[KeptRecord]:
        """Give the records that fit, oldest first; ``wanted`` is asked before a record is read."""
        names = [name for name in book.kept() if self.day in (None, name.day) and wanted(name)]
        return [
            record for record in book.read(names)
            if (self.why is None or self.why in record.why) and self.release in (None, record.version)
        ]  # fmt: skip


def filtered(command: F) -> F:
    """Give a command the options that make a Filter, and hand that over as ``only``."""

    @click.option("--why", type=click.Choice(["uncertain", "nothing", "random"]), help="Only those kept for this.")
    @click.option("--day", metavar="YYYYMMDD", callback=_day, help="Only those of this day, UTC.")
    @click.option("--release", type=int, metavar="VERSION", help="Only those that this release answered.")
    @wraps(command)
    def with_filter(*args: Any, why: str | None, day: str | None, release: int | None, **more: Any) -> Any:
        return command(*args, only=Filter(why, day, release), **more)

    return with_filter  # type: ignore[return-value]


def _day(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    day = text.replace("-", "")
    if not (len(day) == 8 and day.isdecimal()):
        raise click.BadParameter("a day is YYYYMMDD, as 20261126")
    return day


@contextmanager
def ticking(total: int, what: str, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """Show on a terminal how many of ``total`` are done; give what is to be called after each."""
    with click.progressbar(length=total, label=what, file=sys.stderr, hidden=quiet or not sys.stderr.isatty()) as bar:
        yield lambda: bar.update(1)
