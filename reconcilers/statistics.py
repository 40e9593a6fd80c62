"""How sure a number from counts is: shares, means and quantiles with intervals, and how two of them differ. Pure.

Every interval is two-sided at ``LEVEL``: each of its ends misses the truth in at most 0.5 % of all samples. Counts may
be fractions, since Prometheus gives such.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from reconcilers.distributions import beta_quantile, binomial_share, t_quantile
from specs.traffic import PIXELS, Measure

LEVEL = 0.99
"""Of all intervals: what is in bounds is called out of bounds in at most 0.5 % of the windows, for each signal."""


@dataclass(frozen=True)
class Estimate:
    """A number, and the interval that holds the truth at the stated level."""

    value: float
    low: float
    high: float
    """May be infinite: the last bin has no end."""
    n: float
    """How many pictures, predictions or requests it comes from."""


def tail(level: float = LEVEL) -> float:
    """Give the share of cases in which one end of an interval may miss."""
    return (1 - level) / 2


def proportion(hits: float, n: float, level: float = LEVEL) -> Estimate:
    """Give the share of hits, with the exact interval (Clopper and Pearson); n = 0 says anything is possible.

    Wilson's is shorter, and misses too often where hits are rare, as errors are: one error in 100 requests would be
    called more than 0.1 %, which happens in a tenth of all windows in which it is exactly that.
    """
    if n <= 0:
        return Estimate(0.0, 0.0, 1.0, 0.0)
    hits = min(max(hits, 0.0), n)
    low = beta_quantile(tail(level), hits, n - hits + 1) if hits > 0 else 0.0
    high = beta_quantile(1 - tail(level), hits + 1, n - hits) if hits < n else 1.0
    return Estimate(hits / n, min(low, hits / n), max(high, hits / n), n)


def mean(counts: Sequence[float], measure: Measure, level: float = LEVEL) -> Estimate:
    """Give the mean of binned values, each taken for the middle of its bin; ValueError where there are fewer than 2."""
    n = sum(counts)
    if n < 2:
        msg = f"a mean needs 2 values, not {n:g}"
        raise ValueError(msg)
    middles, widths = centres(measure), _widths(measure)
    average = sum(count * at for count, at in zip(counts, middles, strict=True)) / n
    off = [at - average for at in middles]
    # Where in its bin a value lies is not known: evenly spread values vary by a twelfth of the square of its width.
    within = sum(count * width**2 / 12 for count, width in zip(counts, widths, strict=True)) / n
    variance = sum(count * each**2 for count, each in zip(counts, off, strict=True)) / n + within
    error = math.sqrt(variance / (n - 1))
    reach = t_quantile(1 - tail(level), max(n - 1, 4))
    # Confidences lean: most are high, a few far below. Edgeworth's first term moves the interval to where they lean.
    lean = sum(count * each**3 for count, each in zip(counts, off, strict=True)) / n / variance**1.5
    shift = lean * (2 * reach**2 + 1) / (6 * math.sqrt(n))
    low, high = average - error * (reach - shift), average + error * (reach + shift)
    return Estimate(average, min(low, average), max(high, average), n)


def quantile(counts: Sequence[float], measure: Measure, share: float, level: float = LEVEL) -> Estimate:
    """Give a quantile: its value as Prometheus interpolates it, its interval by order statistics.

    The ends of the interval are edges of bins, for where in a bin a value lies is not known; so a bound between two
    edges is judged by the upper one. ValueError without counts.
    """
    n = sum(counts)
    if n <= 0:
        raise ValueError("a quantile needs at least one value")
    ends = (0.0, *measure.edges, math.inf)
    below = (0.0, *accumulate(counts))
    value, low, high = _interpolated(counts, below, ends, share * n), 0.0, math.inf
    miss = tail(level)
    middle = bisect_left(ends, value)
    for edge in range(middle, 0, -1):
        if binomial_share(below[edge], n, share) <= miss:  # so few below, were it below this edge
            # A bin does not hold its lower edge: what lies in it is above that, however little.
            low = math.nextafter(ends[edge], math.inf)
            break
    for edge in range(middle, len(ends) - 1):
        if binomial_share(n - below[edge], n, 1 - share) <= miss:  # so many, were it above
            high = ends[edge]
            break
    return Estimate(value, min(low, value), max(high, value), n)


def difference(new: Estimate, old: Estimate) -> Estimate:
    """Give ``new - old`` of two independent samples: distances to the ends are squared and added.

    For means that is Welch's interval; for proportions Newcombe's, with exact ends instead of Wilson's; for quantiles
    what is known of their bins. ``n`` is of the smaller sample.
    """
    value = new.value - old.value
    down = math.hypot(new.value - new.low, old.high - old.value)
    up = math.hypot(new.high - new.value, old.value - old.low)
    return Estimate(value, value - down, value + up, min(new.n, old.n))


def scale(measure: Measure) -> tuple[float, ...]:
    """Give where bins begin and end on the axis that distances are measured on: one more than bins.

    Pictures' sizes are told apart by doublings of their pixels, everything else in its own unit.
    """
    if measure is PIXELS:
        logarithms = tuple(math.log2(edge) for edge in measure.edges)
        return (logarithms[0] - 2, *logarithms, logarithms[-1] + 2)
    edges = measure.edges
    return (0.0, *edges, edges[-1] + (edges[-1] - edges[-2]))


def centres(measure: Measure) -> tuple[float, ...]:
    """Give the middle of each bin."""
    ends = scale(measure)
    return tuple((low + high) / 2 for low, high in pairwise(ends))


def _widths(measure: Measure) -> tuple[float, ...]:
    ends = scale(measure)
    return tuple(high - low for low, high in pairwise(ends))


def _interpolated(counts: Sequence[float], below: Sequence[float], ends: Sequence[float], rank: float) -> float:
    """Give the value with a rank, as if values were spread evenly in their bins; of the last bin, its lower end."""
    index = next((index for index, up_to in enumerate(below[1:]) if up_to >= rank), len(counts) - 1)
    if math.isinf(ends[index + 1]):
        return ends[index]
    into = (rank - below[index]) / counts[index] if counts[index] else 0.0
    return ends[index] + (ends[index + 1] - ends[index]) * min(max(into, 0.0), 1.0)
