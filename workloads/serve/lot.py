"""So many of a hundred, evenly spread and without dice: shares of traffic are exact, and tests are too."""

from __future__ import annotations


class Lot:
    """Draws. Of n draws in a row at one share, less than one more or fewer succeed than the share says."""

    def __init__(self) -> None:
        self._carried = 0

    def drawn(self, percent: int) -> bool:
        """Whether this one is drawn. What a draw leaves over counts for the next."""
        self._carried += percent
        if self._carried < 100:
            return False
        self._carried -= 100
        return True
