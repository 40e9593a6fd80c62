"""A store that its process does not survive: each write kills whoever makes it, once before it and once after it."""

from __future__ import annotations

import re

from adapters.store import Store


class Killed(BaseException):
    """Stands for a kill: nothing that ends well catches it."""


class DyingStore(Store):
    """Remembers, over all attempts, where it died already."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.deaths: list[tuple[str, str]] = []

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once, and live through it the third time."""
        self._die("before", key)
        made = super().create(key, data)
        self._die("after", key)
        return made

    def _die(self, when: str, key: str) -> None:
        effect = re.sub(r"(begun/\d+)-\d+", r"\1", key)  # beginning once more is no other effect
        if (when, effect) not in self.deaths:
            self.deaths.append((when, effect))
            raise Killed(when, key)
