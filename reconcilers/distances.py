"""How far live traffic is from golden, bin by bin: psi, js, ks, wasserstein, each with an interval. Pure.

Both sides are finite samples, so their distance is never 0, also where nothing has changed; and the fewer they are,
the larger it is. Therefore, with D the square root of psi, or the distance itself for the others:

* the *value* is free of that: the square of D that chance alone gives on average is taken off its square;
* the interval's *low* end is above 0 only where D is larger than chance alone makes it in all but 0.5 % of all samples
  (at ``LEVEL``); further away it is the value less so many standard errors (delta method). The smaller of both counts;
* its *high* end is D plus so many standard errors: chance makes distances larger on average, never smaller.

Near zero all four are lengths of a vector of differences, which is why one recipe serves them all. psi and js behave
like chi-square there (Lin 1991, Yurdakul 2018), ks and wasserstein like a maximum and a mean of a Brownian bridge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

from reconcilers.distributions import chi_square_quantile, normal_quantile
from reconcilers.statistics import LEVEL, Estimate, centres, tail
from specs.monitoring import Method
from specs.traffic import Measure

Counts = Sequence[float]

FEWEST = 5.0
"""Neighbouring bins are put together until so many values of the smaller sample are expected in each."""
_SMOOTHING = 0.5
"""Added to each bin for psi, which is infinite where one side has none."""
_BRIDGE_SQUARED = math.pi**2 / 12
"""Mean square of the maximum of a Brownian bridge's absolute value."""


def distance(
    method: Method, live: Counts, golden: Counts, measure: Measure | None, level: float = LEVEL
) -> Estimate:
    """Give how far two samples in the same bins are apart; both need at least one value, else ValueError.

    Without a ``measure`` bins have no order, and only psi and js mean something. psi is in nats, js is the
    Jensen-Shannon distance to the base 2 (0 to 1), ks the largest difference of shares below an edge (0 to 1),
    wasserstein in the measure's own unit; for sizes in doublings of the pixels.
    """
    n, m = sum(live), sum(golden)
    if n <= 0 or m <= 0:
        raise ValueError("a distance needs values on both sides")
    if measure is None or method in _DIVERGENCES:
        return _divergence(_DIVERGENCES[method], *_together(live, golden, ordered=measure is not None), level)
    return (_ks if method == "ks" else _wasserstein)(live, golden, measure, level)


def _interval(raw: float, square: float, limit: float, error: float, level: float, n: float) -> Estimate:
    """Give value and interval of a length, as this module's docstring says.

    Args:
        raw: The length as measured.
        square: Mean of its square where chance alone is at work.
        limit: Its quantile there, at the interval's upper end.
        error: Its standard error.
        level: Of the interval.
        n: Of the live sample.

    """
    reach = normal_quantile(1 - tail(level)) * error
    value = math.sqrt(max(0.0, raw**2 - square))
    low = min(value - reach, math.sqrt(max(0.0, raw**2 - limit**2)))
    return Estimate(value, max(0.0, low), raw + reach, n)


# ---------------------------------------------------------------------------------------------------- psi and js
Divergence = Callable[[Counts, Counts], tuple[float, float, float]]
"""Gives the divergence D, its scale (D / scale is chi-square where chance alone is at work), and its variance."""


def _divergence(divergence: Divergence, live: Counts, golden: Counts, level: float) -> Estimate:
    n = sum(live)
    if len(live) < 2:
        return Estimate(0.0, 0.0, 0.0, n)  # all values of both sides are in one bin
    found, scale, variance = divergence(live, golden)
    freedom = len(live) - 1
    raw = math.sqrt(max(0.0, found))
    error = math.sqrt(max(scale, variance / (4 * found) if found > scale else 0.0))
    limit = math.sqrt(scale * chi_square_quantile(1 - tail(level), freedom))
    length = _interval(raw, scale * freedom, limit, error, level, n)
    if divergence is _js:
        return Estimate(length.value, length.low, min(1.0, length.high), n)
    return Estimate(length.value**2, length.low**2, length.high**2, n)


def _psi(live: Counts, golden: Counts) -> tuple[float, float, float]:
    n, m = sum(live), sum(golden)
    found = new = old = new_mean = old_mean = 0.0
    for some, others in zip(live, golden, strict=True):
        q = (some + _SMOOTHING) / (n + _SMOOTHING * len(live))
        p = (others + _SMOOTHING) / (m + _SMOOTHING * len(live))
        ratio = math.log(q / p)
        found += (q - p) * ratio
        by_new, by_old = ratio + 1 - p / q, 1 - ratio - q / p  # derivatives by q and by p
        new, new_mean = new + q * by_new**2, new_mean + q * by_new
        old, old_mean = old + p * by_old**2, old_mean + p * by_old
    return found, 1 / n + 1 / m, (new - new_mean**2) / n + (old - old_mean**2) / m


def _js(live: Counts, golden: Counts) -> tuple[float, float, float]:
    n, m = (sum(counts) + _SMOOTHING * len(counts) for counts in (live, golden))
    found = new = old = new_mean = old_mean = 0.0
    for some, others in zip(live, golden, strict=True):
        q, p = (some + _SMOOTHING) / n, (others + _SMOOTHING) / m
        by_new, by_old = math.log2(2 * q / (p + q)) / 2, math.log2(2 * p / (p + q)) / 2
        found += q * by_new + p * by_old
        new, new_mean = new + q * by_new**2, new_mean + q * by_new
        old, old_mean = old + p * by_old**2, old_mean + p * by_old
    return found, (1 / n + 1 / m) / (8 * math.log(2)), (new - new_mean**2) / n + (old - old_mean**2) / m


_DIVERGENCES: Mapping[str, Divergence] = {"psi": _psi, "js": _js}


def _together(live: Counts, golden: Counts, *, ordered: bool) -> tuple[list[float], list[float]]:
    """Put bins together until none is too sparse for chi-square; unordered ones, all rare ones into one.

    Which ones depends on both sides' counts together only: where chance alone is at work, that tells nothing of how
    they are spread over the sides.
    """
    pairs = [pair for pair in zip(live, golden, strict=True) if sum(pair) > 0]
    n, m = sum(live), sum(golden)
    enough = FEWEST * (n + m) / min(n, m)
    if not ordered:
        pairs.sort(key=sum)
    groups: list[tuple[float, float]] = []
    some = others = 0.0
    for new, old in pairs:
        some, others = some + new, others + old
        if some + others >= enough:
            groups.append((some, others))
            some = others = 0.0
    if some + others > 0:
        last = groups.pop() if groups else (0.0, 0.0)
        groups.append((last[0] + some, last[1] + others))
    return [new for new, _ in groups], [old for _, old in groups]


# ------------------------------------------------------------------------------------------- ks and wasserstein
class _Steps:
    """Both cumulative shares at each inner edge, and how much chance alone moves their difference there."""

    def __init__(self, live: Counts, golden: Counts) -> None:
        n, m = sum(live), sum(golden)
        self.scale = 1 / n + 1 / m
        new, old = list(accumulate(live))[:-1], list(accumulate(golden))[:-1]
        self.differences = [some / n - others / m for some, others in zip(new, old, strict=True)]
        self.pooled = [min(1.0, (some + others) / (n + m)) for some, others in zip(new, old, strict=True)]
        self.variances = [share * (1 - share) * self.scale for share in self.pooled]


def _ks(live: Counts, golden: Counts, measure: Measure, level: float) -> Estimate:
    del measure  # ks is the same on every axis
    n, m, steps = sum(live), sum(golden), _Steps(live, golden)
    raw = max(map(abs, steps.differences))
    at = [abs(each) for each in steps.differences].index(raw)
    distinct = set(steps.pooled) - {0.0, 1.0}
    if not distinct:
        return Estimate(0.0, 0.0, 0.0, n)
    some = (sum(live[: at + 1]) + _SMOOTHING) / (n + 2 * _SMOOTHING)
    others = (sum(golden[: at + 1]) + _SMOOTHING) / (m + 2 * _SMOOTHING)
    error = math.sqrt(some * (1 - some) / n + others * (1 - others) / m)
    # A bridge in full, or its few edges one by one: both limits are safe, and where most values share a bin the
    # second is much smaller.
    miss = tail(level)
    bridge = math.sqrt(-math.log(miss / 2) / 2 * steps.scale)
    each = normal_quantile(1 - miss / (2 * len(distinct))) * math.sqrt(max(steps.variances))
    square = min(_BRIDGE_SQUARED, sum(share * (1 - share) for share in distinct)) * steps.scale
    found = _interval(raw, square, min(bridge, each), error, level, n)
    return Estimate(found.value, found.low, min(1.0, found.high), n)


def _wasserstein(live: Counts, golden: Counts, measure: Measure, level: float) -> Estimate:
    """Measure the area between the cumulative shares, with all values in the middles of their bins."""
    n, m, steps = sum(live), sum(golden), _Steps(live, golden)
    middles = centres(measure)
    widths = [high - low for low, high in pairwise(middles)]
    raw = sum(width * abs(each) for width, each in zip(widths, steps.differences, strict=True))
    average, variance = _area(widths, steps)
    if average <= 0:
        return Estimate(0.0, 0.0, 0.0, n)
    # The area is a sum of many leaning parts: a scaled chi-square with its mean and variance.
    freedom = 2 * average**2 / variance
    limit = average / freedom * chi_square_quantile(1 - tail(level), freedom)
    # Seen from here the distance is the difference of the means of one function of the bins.
    signs = [math.copysign(width, each) for width, each in zip(widths, steps.differences, strict=True)]
    heights = [0.0, *accumulate(signs)]
    error = math.sqrt(_variance(heights, live) / n + _variance(heights, golden) / m)
    return _interval(raw, average**2 + variance, limit, error, level, n)


def _area(widths: Sequence[float], steps: _Steps) -> tuple[float, float]:
    """Give mean and variance of the area where chance alone is at work: absolute values of a Gaussian bridge."""
    parts = [
        (width * math.sqrt(variance), share)
        for width, variance, share in zip(widths, steps.variances, steps.pooled, strict=True)
        if variance > 0
    ]
    average = math.sqrt(2 / math.pi) * sum(part for part, _ in parts)
    variance = sum(part**2 * (1 - 2 / math.pi) for part, _ in parts)
    for index, (part, share) in enumerate(parts):
        for other, above in parts[index + 1 :]:
            together = math.sqrt(share * (1 - above) / (above * (1 - share)))  # correlation on a bridge
            shared = math.sqrt(max(0.0, 1 - together**2)) + together * math.asin(min(1.0, together)) - 1
            variance += 2 * part * other * 2 / math.pi * shared
    return average, variance


def _variance(heights: Sequence[float], counts: Counts) -> float:
    n = sum(counts)
    average = sum(height * count for height, count in zip(heights, counts, strict=True)) / n
    return sum(count * (height - average) ** 2 for height, count in zip(heights, counts, strict=True)) / n
