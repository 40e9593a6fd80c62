"""Chooses the pictures of a contact sheet: of every class some, the same ones each time, though the data set grows."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from specs.datasets import Picture

Entry = tuple[str, str]


class Choice:
    """Remembers, for each class, the pictures with the smallest digests of all that it was offered."""

    def __init__(self, names: Sequence[str], size: int) -> None:
        self._size = size
        self._kept: dict[str, list[Entry]] = {name: [] for name in [*names, ""]}
        self._pictures: dict[Entry, Picture] = {}

    def offer(self, picture: Picture, classes: Sequence[str]) -> None:
        """Consider a picture that shows objects of these classes; none means background."""
        entry = (picture.file.digest, picture.file.path)
        for name in classes or [""]:
            kept = self._kept[name]
            if len(kept) == self._size and entry > kept[-1]:
                continue
            bisect.insort(kept, entry)
            self._pictures[entry] = picture
            del kept[self._size :]

    def chosen(self) -> list[Picture]:
        """Give the pictures, classes taking turns in their order, background last; no picture and no copy twice."""
        queues = [list(kept) for kept in self._kept.values()]
        found: dict[str, Picture] = {}
        while len(found) < self._size and any(queues):
            for queue in queues:
                while queue and queue[0][0] in found:
                    queue.pop(0)
                if queue and len(found) < self._size:
                    entry = queue.pop(0)
                    found[entry[0]] = self._pictures[entry]
        return list(found.values())
