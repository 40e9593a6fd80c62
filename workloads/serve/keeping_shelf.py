"""The shelf of kept pictures in the store: what may still go there, what must leave it, and finding it again.

All that must be known is on the shelf itself: a server that starts anew counts what is there. One thread uses it;
only ``find`` and ``hopeless`` may be called by any other.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol

from pydantic import ValidationError

from specs.base import seconds
from specs.errors import TrunklineError
from specs.kept_records import KeptName, KeptRecord, Why, day_of, hashed, kept_name, kept_root, moment
from specs.monitoring import Labelling
from workloads.serve.keeping_rules import MOST_MEGABYTES, RETENTION, Shares, seen_before

AT_ONCE = 200
"""Pictures removed in one sweep at most, so that new ones need not wait for long."""
_HALF_WRITTEN = 3600.0
"""Seconds after which a picture without a record was left by a killed server, this one or another."""
_REFRESH = 10.0
"""Seconds between two looks at the store for requests that are not known here."""


class KeptStore(Protocol):
    """The part of ``adapters.store.Store`` that the shelf needs. Everything may raise Stalled and Transient."""

    def read(self, key: str) -> bytes | None:
        """Give what is there, or None."""

    def keep(self, key: str, data: bytes) -> bool:
        """Write below ``kept/`` once; False where something is there."""

    def forget(self, key: str) -> None:
        """Remove below ``kept/``, if it is there."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Give keys and bytes."""

    def sweep(self, *, kept: bool) -> int:
        """Remove what killed writers left of half-written files."""


@dataclass
class _Day:
    """What this replica has kept of a model on one UTC day."""

    name: str
    requests: set[str] = field(default_factory=set)
    """As ``hashed`` gives them."""
    looks: list[int] = field(default_factory=list)
    sample: list[tuple[float, KeptRecord]] = field(default_factory=list)
    """The random ones, by their draws."""
    others: int = 0

    def add(self, record: KeptRecord) -> None:
        self.requests.add(hashed(record.request))
        self.looks.append(int(record.hash, 16))
        if "random" in record.why:
            insort(self.sample, (record.draw, record), key=lambda drawn: drawn[0])
        else:
            self.others += 1

    def allowed(self, why: Sequence[Why], draw: float, shares: Shares) -> list[Why]:
        """Give the reasons for which there is a place: one too many for the sample may still be among the others."""
        full = len(self.sample) >= shares.random
        if "random" in why and shares.random and (not full or draw < self.sample[-1][0]):
            return list(why)
        return [reason for reason in why if reason != "random"] if self.others < shares.others else []


class Shelf:
    """Pictures kept by one replica, among those of others."""

    def __init__(self, store: KeptStore, replica: str) -> None:
        self._store = store
        self._replica = hashed(replica)[:8]
        self._days: dict[str, _Day] = {}
        self._found: dict[str, dict[str, KeptName]] = {}
        self._looked: dict[str, float] = {}

    def hopeless(self, model: str, when: float, why: Sequence[Why], draw: float, shares: Shares) -> bool:
        """Whether the day's budget leaves no place, as far as that is known without asking the store."""
        day = self._days.get(model)
        return day is not None and day.name == day_of(when) and not day.allowed(why, draw, shares)

    def put(self, record: KeptRecord, picture: bytes, shares: Shares) -> KeptRecord | Literal["budget", "similar"]:
        """Keep a picture; give its record as written, or ``budget`` or ``similar`` where it is not kept.

        The random ones of a day are those with the lowest draws, however many there were: so they are a fair sample
        of the whole day, and not of its first hour. One with a lower draw takes the place of the highest.
        """
        try:
            return self._put(record, picture, shares)
        except TrunklineError:
            self._days.pop(record.model, None)  # nobody knows what was written: count anew
            raise

    def _put(self, record: KeptRecord, picture: bytes, shares: Shares) -> KeptRecord | Literal["budget", "similar"]:
        day = self._day(record.model, record.day)
        self._trim(day, shares)
        why = day.allowed(record.why, record.draw, shares)
        if not why:
            return "budget"
        if hashed(record.request) in day.requests:
            return "similar"
        if "random" not in why and seen_before(int(record.hash, 16), day.looks):
            return "similar"
        record = record.model_copy(update={"why": why})
        if not (self._keep(record.picture, picture) and self._keep(record.key, record.encode())):
            return "similar"
        day.add(record)
        name = kept_name(record.key)
        if name is not None:
            self._found.setdefault(record.model, {})[name.request] = name
        self._trim(day, shares)
        return record

    def _trim(self, day: _Day, shares: Shares) -> None:
        """Take out of the sample what lower draws replaced, now or before this server was killed."""
        while len(day.sample) > shares.random:
            replaced = day.sample[-1][1]
            self._remove(replaced.key, replaced.picture)
            day.sample.pop()

    def _keep(self, key: str, data: bytes) -> bool:
        """Write; True also where an earlier try wrote the same, whose answer was lost."""
        return self._store.keep(key, data) or self._store.read(key) == data

    def _day(self, model: str, name: str) -> _Day:
        day = self._days.get(model)
        if day is None or day.name != name:
            day = _Day(name)
            for kept in _names(self._store.sizes(f"{kept_root(model)}{name}/")):
                record = self._record(kept) if kept.replica == self._replica else None
                if record is not None:
                    day.add(record)
            self._days[model] = day
        return day

    def _record(self, name: KeptName) -> KeptRecord | None:
        """Read a record; None where it is gone, or none of ours."""
        data = self._store.read(name.key) if name.suffix == ".json" else None
        try:
            return None if data is None else KeptRecord.decode(data)
        except ValidationError:
            return None

    def find(self, model: str, request: str) -> KeptRecord | None:
        """Give what was kept of a request, by whichever replica; None where nothing was, or nobody knows yet."""
        name = self._found.get(model, {}).get(hashed(request))
        if name is None and time.monotonic() - self._looked.get(model, -_REFRESH) >= _REFRESH:
            self._look(model)
            name = self._found[model].get(hashed(request))
        record = None if name is None else self._record(name)
        return record if record is not None and record.request == request else None

    def _look(self, model: str) -> dict[str, int]:
        self._looked[model] = time.monotonic()
        sizes = self._store.sizes(kept_root(model))
        self._found[model] = {name.request: name for name in _names(sizes) if name.suffix == ".json"}
        return sizes

    def sweep(self, model: str, labelling: Labelling | None, now: float) -> tuple[int, int]:
        """Remove what is too old, too much, or half-written, oldest first; give how many went, and how many stay.

        Anybody removes what is too old: servers come and go. Each replica minds its own size. Where a spec asks for
        nothing any more, each picture goes when that was promised. At most ``AT_ONCE`` go at once.
        """
        sizes = self._look(model)
        kept = [_Kept(names, sum(sizes[name.key] for name in names)) for names in _together(sizes)]
        due = self._promised(kept, now) if labelling is None else self._due(kept, labelling, now)
        gone = list(islice(due, AT_ONCE))
        for each in gone:
            self._remove(*each.keys)
        self._store.sweep(kept=True)
        return len(gone), len(kept) - len(gone)

    def _due(self, kept: Sequence[_Kept], labelling: Labelling, now: float) -> Iterator[_Kept]:
        retention = seconds(labelling.retention or RETENTION)
        excess = sum(each.size for each in kept if each.replica == self._replica)
        excess -= (labelling.max_size or MOST_MEGABYTES) * 1_000_000
        for each in kept:
            mine = each.replica == self._replica
            if each.age(now) > (retention if each.whole else _HALF_WRITTEN) or (mine and excess > 0 and each.whole):
                excess -= each.size if mine else 0
                yield each

    def _promised(self, kept: Sequence[_Kept], now: float) -> Iterator[_Kept]:
        """Give what is past the time that was promised when it was kept, reading one record too many.

        Nobody knows what a record that cannot be read promised: the usual time.
        """
        for each in kept:
            record = self._record(each.names[0]) if each.whole else None
            if record is not None and record.until > moment(now):
                return
            if record is not None or each.age(now) > (seconds(RETENTION) if each.whole else _HALF_WRITTEN):
                yield each

    def _remove(self, record: str, *pictures: str) -> None:
        """The record first: killed in between, a picture without one is left, which a later sweep removes."""
        for key in (record, *pictures):
            self._store.forget(key)


@dataclass(frozen=True)
class _Kept:
    """A record and its picture, or what there is of them."""

    names: list[KeptName]
    """The record first, where there is one."""
    size: int

    @property
    def whole(self) -> bool:
        return len(self.names) > 1 and self.names[0].suffix == ".json"

    @property
    def keys(self) -> list[str]:
        return [name.key for name in self.names]

    @property
    def replica(self) -> str:
        return self.names[0].replica

    def age(self, now: float) -> float:
        return now - self.names[0].moment


def _names(keys: Iterable[str]) -> list[KeptName]:
    return sorted(name for name in map(kept_name, keys) if name is not None)


def _together(keys: Iterable[str]) -> list[list[KeptName]]:
    """Give what belongs together, the oldest first."""
    stems: dict[tuple[str, str], list[KeptName]] = {}
    for name in _names(keys):
        stems.setdefault((name.day, name.id), []).append(name)
    return [sorted(names, key=lambda name: name.suffix != ".json") for names in stems.values()]
