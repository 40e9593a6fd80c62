"""How often a prediction of some confidence is right: learnt on golden, applied to live traffic without labels. Pure.

Accuracy is estimated as the mean, over live predictions, of how often golden predictions of the same class and
confidence were right (the idea of NannyML's CBPE, on bins). For detectors "right" is an overlap of 0.5, so that it is
precision; what was not found leaves no confidence, and is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reconcilers.statistics import LEVEL, Estimate, centres, proportion
from specs.traffic import BY_CLASS

Counts = Sequence[float]
PULL = 20.0
"""Predictions of a class in a bin whose own share of right ones counts as much as that of all classes."""
_BELIEF = 0.01
"""Predictions that a model's own word is worth: enough for a bin where golden has none, and no more."""


class Block(NamedTuple):
    """Neighbouring bins that share one chance of being right, over all classes."""

    chance: float
    n: float
    """Golden predictions in it."""


class Cell(NamedTuple):
    """One class in one bin."""

    n: float
    """Golden predictions in it."""
    chance: float
    """How often such are right: their own share, pulled towards that of the block, and that where there are none."""
    spread: float
    """Variance of how many of them are right; never 0, so that 3 of 3 is not certainty."""


@dataclass(frozen=True)
class Calibration:
    """Chances of being right, by class and bin of confidence."""

    blocks: tuple[Block, ...]
    block_of: tuple[int, ...]
    """Which of them, by bin."""
    cells: Mapping[str, tuple[Cell, ...]]
    """By class and bin."""
    others: tuple[Cell, ...]
    """For classes that golden knows nothing of."""
    n: float
    """Golden predictions."""


def calibrate(seen: Mapping[str, Counts], right: Mapping[str, Counts]) -> Calibration:
    """Learn from golden predictions and the right ones among them, by class and bin of confidence.

    A more confident prediction is never taken for less often right: bins where golden says so by chance are put
    together (isotonic regression). A bin where golden has none lies between its neighbours.
    """
    totals = _sum(seen.values())
    blocks, block_of = _monotone(totals, _sum(right.values()))
    nothing = (0.0,) * BY_CLASS.bins

    def row(counts: Counts, hits: Counts) -> tuple[Cell, ...]:
        cells = []
        for n, hit, index in zip(counts, hits, block_of, strict=True):
            block = blocks[index]
            chance = (hit + PULL * block.chance) / (n + PULL)
            careful = (chance * block.n + 1) / (block.n + 2)
            cells.append(Cell(n, chance, n * careful * (1 - careful)))
        return tuple(cells)

    cells = {name: row(counts, right.get(name, nothing)) for name, counts in seen.items()}
    return Calibration(blocks, block_of, cells, row(nothing, nothing), sum(totals))


def estimated_accuracy(
    calibration: Calibration, live: Mapping[str, Counts], *, cluster: float = 1.0, golden_cluster: float = 1.0,
    level: float = LEVEL,
) -> Estimate:
    """Give the accuracy that live predictions are expected to have; ValueError without any.

    The interval is that of two samples: which predictions came, and what golden knew of such. ``cluster`` is how many
    predictions are as good as one, on either side, since those in one picture are alike.
    """
    n = sum(map(sum, live.values()))
    if n <= 0:
        raise ValueError("accuracy is estimated from predictions, and there are none")
    value = square = 0.0
    pulled = [0.0] * len(calibration.blocks)
    for name, counts in live.items():
        cells = calibration.cells.get(name, calibration.others)
        for count, cell, block in zip(counts, cells, calibration.block_of, strict=True):
            if count:
                value, square = value + count / n * cell.chance, square + count / n * cell.chance**2
                pulled[block] += count / n * PULL / (cell.n + PULL)
    variance = max(0.0, square - value**2) * cluster / n + _doubt(calibration, live, n, pulled) * golden_cluster
    # As sure as a share of so many trials would be: unlike a normal interval, that keeps within 0 and 1.
    careful = (value * calibration.n + 1) / (calibration.n + 2)
    trials = careful * (1 - careful) / variance
    found = proportion(value * trials, trials, level)
    return Estimate(value, found.low, found.high, n)


def _doubt(calibration: Calibration, live: Mapping[str, Counts], n: float, pulled: Sequence[float]) -> float:
    """Give the variance that comes from golden: each of its predictions weighs in its own cell and in its block."""
    doubt = 0.0
    shares = []
    for weight, block in zip(pulled, calibration.blocks, strict=True):
        if block.n < 1:
            doubt += weight**2 * block.chance * (1 - block.chance)  # a guess, worth one prediction
        shares.append(weight / max(block.n, 1.0))
    nothing = (0.0,) * len(calibration.block_of)
    for name, cells in calibration.cells.items():
        for count, cell, index in zip(live.get(name, nothing), cells, calibration.block_of, strict=True):
            if cell.n:
                doubt += (shares[index] + count / n / (cell.n + PULL)) ** 2 * cell.spread
    return doubt


def _monotone(totals: Sequence[float], hits: Sequence[float]) -> tuple[tuple[Block, ...], tuple[int, ...]]:
    """Give the non-decreasing chances that fit best (pool adjacent violators), and the block of each bin."""
    stack: list[list[float]] = []  # weight, hits, bins
    for total, hit, middle in zip(totals, hits, centres(BY_CLASS), strict=True):
        stack.append([total + _BELIEF, hit + _BELIEF * middle, 1])
        while len(stack) > 1 and stack[-2][1] * stack[-1][0] >= stack[-1][1] * stack[-2][0]:
            stack[-2:] = [[sum(both) for both in zip(*stack[-2:], strict=True)]]
    blocks = tuple(Block(hit / weight, weight - size * _BELIEF) for weight, hit, size in stack)
    return blocks, tuple(index for index, (_, _, size) in enumerate(stack) for _ in range(int(size)))


def _sum(rows: Iterable[Counts]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)] or [0.0] * BY_CLASS.bins
