"""A release beside the one before it, in live traffic: a few numbers, and whether one is worse beyond doubt. Pure.

Traffic is looked at again and again while it comes in, and whoever looks often enough at an interval of 99 % sees it
miss. So these are wider, by just so much that each holds the truth at every look there will ever be: the boundary of
Robbins' normal mixture, which begins at 4.2 standard errors and grows with the logarithm of what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from reconcilers.calibration import calibrate, estimated_accuracy
from reconcilers.signals import cluster, top_confidences
from reconcilers.statistics import Estimate, difference, mean, proportion, quantile
from specs.modelspec import Task
from specs.profile_records import ProfileRecord
from specs.traffic import BY_STAGE, CONFIDENCE, OURS, Traffic

MISS = 0.001
"""How likely a check speaks against a release that is as good as the one before it, however often it is looked at."""
FEWEST = 30
"""Requests or predictions without which nobody says that something got worse."""
ERRORS = 0.01
"""A release may have this much more of its requests fail, as a share of all."""
LATENCY = 1.5
"""95 % of its requests may take this many times as long …"""
SLACK = 0.02
"""… and as much longer, seconds, whatever that is in times."""
CONFIDENCE_DROP = 0.05
"""Its mean top confidence may be this much lower."""
ACCURACY_DROP = 0.03
"""Likewise its estimated accuracy."""
TOO_HIGH, TOO_LOW, FINE = "too high", "too low", "not worse"
_QUANTILE = 0.95
Formatter = Callable[[float], str]


@dataclass(frozen=True)
class Check:
    """One number of both releases."""

    name: str
    new: str
    old: str
    """Value, interval and n, as people read them."""
    verdict: str
    """``TOO_HIGH``, ``TOO_LOW`` or ``FINE``."""

    @property
    def fails(self) -> bool:
        """Whether it is worse beyond doubt, and by more than may be."""
        return self.verdict != FINE

    def __str__(self) -> str:
        """Give one phrase, from which ``read`` makes the check again."""
        return f"{self.name}: {self.new} against {self.old}, {self.verdict}"


def read(text: str) -> tuple[Check, ...]:
    """Give the checks that ``said`` put in words; those that it cannot read are left out."""
    found = []
    for phrase in text.rstrip(".").split("; "):
        name, _, rest = phrase.partition(": ")
        new, _, rest = rest.partition(" against ")
        old, _, verdict = rest.rpartition(", ")
        if old and verdict in (TOO_HIGH, TOO_LOW, FINE):
            found.append(Check(name, new, old, verdict))
    return tuple(found)


def said(checks: Iterable[Check]) -> str:
    """Put checks in words, those that fail first."""
    return "; ".join(str(check) for check in sorted(checks, key=lambda check: not check.fails))


def compare(
    new: Traffic, old: Traffic, task: Task, *, profile: ProfileRecord | None = None,
    before: ProfileRecord | None = None,
) -> tuple[Check, ...]:  # fmt: skip
    """Compare the traffic of two releases, be it one after the other or side by side.

    Where golden profiles of both are known, their estimated accuracy says more than their confidence, whose scales
    need not be the same; so it takes its place. What too few requests tell about is left out.
    """
    found = [_errors(new, old), _latency(new, old)]
    accuracy = _accuracy(new, old, profile, before) if profile and before else None
    found.append(accuracy or _confidence(new, old, task))
    return tuple(check for check in found if check is not None)


def level(n: float) -> float:
    """Give the level of an interval at ``n`` values, so that all that are ever looked at hold with 1 - ``MISS``."""
    log = 2 * math.log(1 / MISS)
    start = FEWEST / (log + math.log(1 + log))
    reach = math.sqrt((1 + start / n) * (math.log(1 + n / start) + log))
    return math.erf(reach / math.sqrt(2))


def _errors(new: Traffic, old: Traffic) -> Check | None:
    both = [(sum(each.outcomes.get(name, 0.0) for name in OURS), each.requests) for each in (new, old)]
    if min(n for _, n in both) < FEWEST:
        return None
    mine, theirs = (_share(hits, n) for hits, n in both)
    verdict = TOO_HIGH if difference(mine, theirs).low > ERRORS else FINE
    return Check("error rate", _told(mine, _percent), _told(theirs, _percent), verdict)


@lru_cache(maxsize=1024)
def _share(hits: float, n: float) -> Estimate:
    """Exact intervals take a while, and counts change only as fast as they are looked at."""
    return proportion(hits, n, level(n))


def _latency(new: Traffic, old: Traffic) -> Check | None:
    both = [each.stages.get("total", ()) for each in (new, old)]
    if min(map(sum, both)) < FEWEST:
        return None
    mine, theirs = (quantile(counts, BY_STAGE, _QUANTILE, level(sum(counts))) for counts in both)
    slow = mine.low > max(theirs.high * LATENCY, theirs.high + SLACK)
    return Check("p95 latency", _told(mine, _time), _told(theirs, _time), TOO_HIGH if slow else FINE)


def _confidence(new: Traffic, old: Traffic, task: Task) -> Check | None:
    both = [top_confidences(each, task) for each in (new, old)]
    if min(map(sum, both)) < FEWEST:
        return None
    mine, theirs = (mean(counts, CONFIDENCE, level(sum(counts))) for counts in both)
    verdict = TOO_LOW if difference(mine, theirs).high < -CONFIDENCE_DROP else FINE
    return Check("mean top confidence", _told(mine, _number), _told(theirs, _number), verdict)


def _accuracy(new: Traffic, old: Traffic, profile: ProfileRecord, before: ProfileRecord) -> Check | None:
    estimates = []
    for traffic, record in ((new, profile), (old, before)):
        alike = cluster(traffic, record.task)
        n = sum(map(sum, traffic.classes.values())) / alike
        if record.status != "Succeeded" or not record.classes or n < FEWEST:
            return None
        right = {name: tuple(map(float, counts)) for name, counts in record.right.items()}
        found = calibrate(record.traffic.classes, right)
        golden = cluster(record.traffic, record.task)
        estimates.append(
            estimated_accuracy(found, traffic.classes, cluster=alike, golden_cluster=golden, level=level(n))
        )
    mine, theirs = estimates
    verdict = TOO_LOW if difference(mine, theirs).high < -ACCURACY_DROP else FINE
    return Check("estimated accuracy", _told(mine, _percent), _told(theirs, _percent), verdict)


def _told(found: Estimate, form: Formatter) -> str:
    return f"{form(found.value)} ({form(found.low)} to {form(found.high)}, n={found.n:.0f})"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _time(value: float) -> str:
    return "any" if math.isinf(value) else f"{1000 * value:.3g} ms"


def _number(value: float) -> str:
    return f"{value:.3f}"
