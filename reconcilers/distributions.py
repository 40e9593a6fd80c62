"""Quantiles of the distributions that intervals need, in plain Python: the control plane has no scipy. Pure."""

from __future__ import annotations

import math
from statistics import NormalDist

_STEPS = 200
"""At most, in a loop that converges in a handful."""


def normal_quantile(share: float) -> float:
    """Give the standard normal value that ``share`` of all values lie below; 0 < share < 1."""
    return NormalDist().inv_cdf(share)


def t_quantile(share: float, freedom: float) -> float:
    """Give the quantile of Student's t: the Cornish-Fisher series, right to a percent from 5 degrees of freedom."""
    z = normal_quantile(share)
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    return z + first + second + third


def chi_square_quantile(share: float, freedom: float) -> float:
    """Give the quantile of chi-square, whose ``freedom`` may be a fraction: Wilson and Hilferty's cube."""
    spread = 2 / (9 * freedom)
    return float(freedom * max(0.0, 1 - spread + normal_quantile(share) * math.sqrt(spread)) ** 3)


def beta_quantile(share: float, a: float, b: float) -> float:
    """Give the x in 0..1 with ``beta_share(x, a, b) == share``; a, b > 0. Newton's steps, kept in by bisection."""
    low, high = 0.0, 1.0
    spread = math.sqrt(a * b / (a + b + 1)) / (a + b)
    x = min(max(a / (a + b) + normal_quantile(share) * spread, low + 1e-3 * a / (a + b)), 1 - 1e-3 * b / (a + b))
    for _ in range(_STEPS):
        off = beta_share(x, a, b) - share
        low, high = (low, x) if off > 0 else (x, high)
        steep = _density(x, a, b)
        step = x - off / steep if steep > 0 else low
        after = step if low < step < high else (low + high) / 2
        if abs(after - x) <= 1e-12 + 1e-9 * x:
            return after
        x = after
    return x


def beta_share(x: float, a: float, b: float) -> float:
    """Give the regularised incomplete beta function: which share of a beta distribution lies below x."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - beta_share(1 - x, b, a)
    return _density(x, a, b) * x * (1 - x) / a * _fraction(x, a, b)


def binomial_share(hits: float, n: float, chance: float) -> float:
    """Give how likely ``hits`` or fewer are in n draws; 0 < chance < 1. Fractions lie between their neighbours."""
    return 1.0 if hits >= n else beta_share(1 - chance, n - hits, hits + 1)


def _density(x: float, a: float, b: float) -> float:
    if not 0 < x < 1:
        return 0.0
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(logarithm + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22)."""
    tiny = 1e-300
    upper, lower = 1.0, 1 / _apart(1 - (a + b) * x / (a + 1), tiny)
    result = lower
    for m in range(1, 10 * _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            lower = 1 / _apart(1 + term * lower, tiny)
            upper = _apart(1 + term / upper, tiny)
            change = lower * upper
            result *= change
        if abs(change - 1) < 1e-14:
            break
    return result


def _apart(value: float, tiny: float) -> float:
    """Keep a divisor away from 0."""
    return value if abs(value) > tiny else tiny
