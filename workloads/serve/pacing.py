"""How long inferences of one model take, learned from those that were made, and what follows from that. Pure.

Many models gain nothing from batches on a processor: sixteen pictures take sixteen times as long as one. Others, and
most on an accelerator, gain much. Nobody is asked which: sizes are tried where enough requests wait anyway, and the
smallest that is nearly the best is kept. So answers come as soon as they can, and no memory goes into useless batches.
"""

from __future__ import annotations

HANDING = 50e-6
"""Seconds that a batch costs beside its inference: it is handed to a thread, and its answers back."""
_GAIN = 0.1
"""A larger batch must take so much less time for a row, or it is not worth its memory and the wait for it."""
_TRIALS = 8
"""Inferences of one size after which its time is known."""
_WEIGHT = 0.1
"""Of the latest inference in the time that is expected of the next one."""
_RISE = 0.02
"""Of a slower inference in the least time, by which sizes are compared: other programs only make inferences slower."""
_LOOK_AGAIN = 200
"""Batches after which a neighbouring size is tried again, for machines change."""
_PAUSES = 64
"""Chances to wait that are let go at most, after waiting was in vain time and again."""


class Pace:
    """The times of one model. Written by the thread that infers and read by any, under the interpreter's lock."""

    def __init__(self, most: int) -> None:
        """``most`` rows go through together, at most."""
        self._seconds = [0.0] * (most + 1)
        self._least = [0.0] * (most + 1)
        self._seen = [0] * (most + 1)
        self._each = 0.0
        self._since_look = 0
        self._upwards = True
        self.most = most
        self.best = 1
        """The smallest size that is nearly as good as any that is known."""

    def learn(self, rows: int, seconds: float) -> None:
        """Take down one inference."""
        if rows > self.most:
            rows, seconds = self.most, seconds * self.most / rows
        self._seen[rows] += 1
        off = seconds - self._seconds[rows]
        self._seconds[rows] += off * max(_WEIGHT, 1 / self._seen[rows])
        least = self._least[rows]
        self._least[rows] = min(seconds, least + _RISE * (seconds - least)) if self._seen[rows] > 1 else seconds
        self.best = self._find_best()
        usual = self.best if self._seen[self.best] else rows
        self._each = (self._seconds[usual] + HANDING) / usual

    def expected(self, rows: int) -> float:
        """Give the seconds that an inference will take, of any number of rows; 0 while nothing is known."""
        return self._guess(rows, self._seconds)

    def _guess(self, rows: int, times: list[float]) -> float:
        if rows <= self.most and self._seen[rows]:
            return times[rows]
        below = next((size for size in range(min(rows, self.most), 0, -1) if self._seen[size]), 0)
        above = next((size for size in range(rows + 1, self.most + 1) if self._seen[size]), 0)
        guesses = [times[below] * rows / below] if below else []
        guesses += [times[above]] if above else []
        return min(guesses, default=0.0)

    def of_row(self, rows: int) -> float:
        """Give the seconds for each row, all told, in batches of ``rows``, while nothing else disturbs."""
        return (self._guess(rows, self._least) + HANDING) / rows

    def _find_best(self) -> int:
        known = [size for size in _sizes(self.most) if self._seen[size] >= _TRIALS]
        if not known:
            return 1
        least = min(map(self.of_row, known))
        return next(size for size in known if self.of_row(size) <= least * (1 + _GAIN))

    def drained(self, rows: int) -> float:
        """Give the seconds until so many rows are through, in the best batches; 0 while nothing is known."""
        return rows * self._each

    def size(self, waiting: int, left: float | None = None) -> int:
        """Give how many rows the next batch may have where so many wait and the first has ``left`` seconds.

        At least 1: a request that cannot be in time is run by itself at once.
        """
        size = self._next_size(waiting)
        while left is not None and size > 1 and self.expected(size) > left:
            size = size // 2
        return size

    def _next_size(self, waiting: int) -> int:
        best, unknown = self.best, self._unknown()
        if unknown and (unknown <= waiting or unknown <= best * 2):
            return unknown
        if waiting <= best:
            return best
        self._since_look += 1
        if self._since_look >= _LOOK_AGAIN:
            self._since_look, self._upwards = 0, not self._upwards
            return min(best * 2, self.most) if self._upwards and waiting >= best * 2 else max(best // 2, 1)
        return best

    def _unknown(self) -> int:
        """Give a size to try, or 0: not beyond one step that gained nothing, for memory stays taken."""
        beyond = max(4, self.best * 2)
        return next((size for size in _sizes(self.most) if self._seen[size] < _TRIALS and size <= beyond), 0)


class Patience:
    """Whether to wait on purpose for more rows, where a budget allows it. Belongs to the thread that infers."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._pauses = 0
        self._skip = 0

    def worth(self, rows: int, left: float, gap: float | None) -> float:
        """Give the seconds that are worth waiting for one more row, 0 where it goes without.

        ``left`` seconds are there until the first of ``rows`` must be answered; rows come ``gap`` seconds apart.
        """
        best = self._pace.best
        if gap is None or rows >= best or self._pace.of_row(best) * (1 + _GAIN) > self._pace.of_row(rows):
            return 0.0
        wait = 2 * gap
        if left - self._pace.expected(rows + 1) < wait:
            return 0.0
        if self._skip:
            self._skip -= 1
            return 0.0
        return wait

    def paid(self, *, came: bool) -> None:
        """Say whether anything came: who sends only after an answer must not be waited for time and again."""
        self._pauses = 0 if came else min(self._pauses * 2 or 1, _PAUSES)
        self._skip = self._pauses


class Gaps:
    """How far apart rows arrive. Written by the event loop's thread."""

    def __init__(self) -> None:
        self._last: float | None = None
        self.mean: float | None = None
        """Seconds; None until a second one came."""

    def arrived(self, now: float, rows: int) -> None:
        """Take down an arrival."""
        if self._last is not None:
            gap = (now - self._last) / rows
            self.mean = gap if self.mean is None else self.mean + _WEIGHT * (gap - self.mean)
        self._last = now


def _sizes(most: int) -> list[int]:
    """Give the sizes that are tried: 1, 2, 4 … and ``most``."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]
