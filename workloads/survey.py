"""Looks at every picture and label of one data set, a few at a time, and keeps what was found small."""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from adapters.labels import LabelFormat
from adapters.store import Store
from specs.data_records import Alike, SetReport
from specs.datasets import Picture, pictures
from specs.records import DatasetManifest, FileEntry
from workloads.alike import Looks, Numbers
from workloads.choosing import Choice
from workloads.looking import Look, Unusable, look

LISTED = 20
"""Findings of one kind that a record names; all are counted."""
ON_A_SHEET = 24

_THREADS = 8
"""They wait for the store, and decoders let go of the interpreter."""
_IN_FLIGHT = 256
_LARGE = 32 * 2**20
"""Bytes of a file; larger ones are read one at a time."""
_MOST_LABEL = 16 * 2**20
_alone = threading.Lock()

T = TypeVar("T")
R = TypeVar("R")
Told = Callable[[], None]


@dataclass(frozen=True)
class _Read:
    """What the labels of one picture say."""

    counts: Counter[str]
    problems: list[str]


class Survey:
    """One data set under examination. Copies of a picture are looked at once and have one place among the looks."""

    def __init__(self, store: Store, manifest: DatasetManifest) -> None:
        self.manifest = manifest
        self.pictures = pictures(manifest)
        self.firsts: list[Picture] = []
        """The first of each picture and its copies, by path; its index is its place."""
        self.places: dict[str, int] = {}
        """Digest to place."""
        for picture in self.pictures:
            if self.places.setdefault(picture.file.digest, len(self.firsts)) == len(self.firsts):
                self.firsts.append(picture)
        self.choice = Choice(manifest.names, ON_A_SHEET)
        self._store = store
        self._form = LabelFormat(manifest.task, manifest.names, manifest.kpt_shape)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._unusable: dict[int, str] = {}
        self._counts: Counter[str] = Counter()
        self._bad_labels: list[str] = []
        self._bad_label_count = 0
        self._background = 0

    @property
    def steps(self) -> int:
        """How often ``told`` is called in all."""
        return len(self.firsts) + len(self.pictures)

    def look(self, looks: Looks, offset: int, told: Told) -> None:
        """Decode every picture, and put how it looks at its place, counted from ``offset``."""
        for place, found in enumerate(_each(self._look, (picture.file for picture in self.firsts))):
            if isinstance(found, Look):
                self._sizes[place] = (found.width, found.height)
                looks.light[offset + place], looks.colour[offset + place] = found.light, found.colour
                looks.shape[offset + place] = found.width / found.height
            else:
                self._unusable[place] = found
            told()

    def read(self, told: Told) -> None:
        """Read every label file, count, and choose pictures for the contact sheet; after ``look``."""
        for picture, found in zip(self.pictures, _each(self._read, self.pictures), strict=True):
            self._counts.update(found.counts)
            self._bad_label_count += len(found.problems)
            self._bad_labels += found.problems[: LISTED - len(self._bad_labels)]
            self._background += not found.counts and not found.problems
            if self.places[picture.file.digest] in self._sizes:
                self.choice.offer(picture, list(found.counts))
            told()

    def report(self, twins: Numbers, offset: int) -> SetReport:
        """Sum up. ``twins`` has the place of each picture's twin, counted as in ``look``; -1 where it has none."""
        unusable = [
            f"{picture.file.path}: {self._unusable[place]}"
            for picture in self.pictures if (place := self.places[picture.file.digest]) in self._unusable
        ]  # fmt: skip
        pairs = self._pairs(twins, offset)
        sizes = [self._sizes[place] for picture in self.pictures
                 if (place := self.places[picture.file.digest]) in self._sizes]  # fmt: skip
        return SetReport(
            images=len(self.pictures), unreadable_count=len(unusable), unreadable=unusable[:LISTED],
            bad_label_count=self._bad_label_count, bad_labels=self._bad_labels, background=self._background,
            objects=self._counts.total(), class_counts={n: self._counts.get(n, 0) for n in self.manifest.names},
            duplicate_count=len(pairs), near_duplicate_count=sum(not pair.exact for pair in pairs),
            duplicates=shortened(pairs), width=_spread(wide for wide, _ in sizes), height=_spread(h for _, h in sizes),
        )  # fmt: skip

    def _pairs(self, twins: Numbers, offset: int) -> list[Alike]:
        found = []
        for picture in self.pictures:
            place = self.places[picture.file.digest]
            first, twin = self.firsts[place].file.path, int(twins[offset + place])
            if first != picture.file.path:
                found.append(Alike(first=first, second=picture.file.path, exact=True))
            elif twin >= 0:
                found.append(Alike(first=self.firsts[twin - offset].file.path, second=first, exact=False))
        return found

    def _look(self, entry: FileEntry) -> Look | str:
        with _alone if entry.size > _LARGE else nullcontext():
            try:
                return look(self._store.read_blob(entry.digest))
            except Unusable as error:
                return str(error)

    def _read(self, picture: Picture) -> _Read:
        if self.manifest.task == "classify":
            known = picture.class_name in self.manifest.names
            problem = f"{picture.file.path}: lies in no class folder; move it to <class>/"
            return _Read(Counter({picture.class_name: 1}) if known else Counter(), [] if known else [problem])
        if picture.label is None:
            return _Read(Counter(), [])
        if picture.label.size > _MOST_LABEL:
            problem = f"{picture.label.path}: {picture.label.size} bytes; at most {_MOST_LABEL} are read"
            return _Read(Counter(), [problem])
        return _Read(*self._form.read(picture.label.path, self._store.read_blob(picture.label.digest)))


def shortened(pairs: list[Alike]) -> list[Alike]:
    """Give the pairs that a record names: exact copies first."""
    return sorted(pairs, key=lambda pair: not pair.exact)[:LISTED]


def leaks(train: Survey, golden: Survey, twins: Numbers) -> list[Alike]:
    """Give the golden pictures that training data shows as well; ``twins`` as from ``alike.find``."""
    found = []
    for picture in golden.pictures:
        twin = int(twins[len(train.firsts) + golden.places[picture.file.digest]])
        if twin >= 0:
            first = train.firsts[twin].file
            exact = first.digest == picture.file.digest
            found.append(Alike(first=first.path, second=picture.file.path, exact=exact))
    return found


def known_leaks(train: Survey, golden: Survey | None) -> Numbers:
    """Give, for each place of both sets, where the very same bytes are in the training data; -1 where they are not."""
    theirs = [train.places.get(picture.file.digest, -1) for picture in golden.firsts] if golden else []
    return np.array([-1] * len(train.firsts) + theirs, np.int64)


def _each(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Do some at once, and give the results in the order of the items; few wait at a time."""
    queue = list(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(queue), _IN_FLIGHT):
            yield from pool.map(work, queue[start : start + _IN_FLIGHT])


def _spread(values: Iterable[int]) -> tuple[int, int, int]:
    found = list(values)
    return (min(found), statistics.median_low(found), max(found)) if found else (0, 0, 0)
