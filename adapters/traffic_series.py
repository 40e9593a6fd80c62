"""Series, as a server tells them and as Prometheus carries them, become counts in bins.

The one place where names and labels of the wire meet ``specs.traffic``. Names of series are the same everywhere; other
labels than ours (``instance``, ``pod`` …) tell replicas apart and are the caller's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from specs.traffic import BY_CLASS, BY_STAGE, LOADED, OF_PICTURES, REQUESTS, TRUTH, Counts, Measure, Traffic

STARTED = "process_start_time_seconds"
"""Tells one life of a server from the next."""
OURS = frozenset({"model", "version", "stage", "class", "outcome", "verdict", "le"})
"""Labels that say what is counted; all others say who counted."""

Sample = tuple[str, Mapping[str, str], float]
"""Name, labels, value."""

_BUCKET = "_bucket"
_PICTURES = {measure.metric + _BUCKET: (name, measure) for name, measure in OF_PICTURES.items()}
_CLASSES, _STAGES = BY_CLASS.metric + _BUCKET, BY_STAGE.metric + _BUCKET
COUNTED = (*_PICTURES, _CLASSES, _STAGES, REQUESTS, TRUTH)
"""Names of all series that are counts of traffic."""

Buckets = dict[str, float]
"""Upper edge, as text, to how many values lie at or below it."""


@dataclass
class _Counted:
    """Of one version, as it comes."""

    pictures: defaultdict[str, Buckets] = field(default_factory=lambda: defaultdict(dict))
    classes: defaultdict[str, Buckets] = field(default_factory=lambda: defaultdict(dict))
    stages: defaultdict[str, Buckets] = field(default_factory=lambda: defaultdict(dict))
    outcomes: dict[str, float] = field(default_factory=dict)
    truth: dict[str, float] = field(default_factory=dict)

    def take(self, name: str, labels: Mapping[str, str], value: float) -> None:
        edge = labels.get("le", "")
        if name == _CLASSES:
            self.classes[labels.get("class", "")][edge] = value
        elif name == _STAGES:
            self.stages[labels.get("stage", "")][edge] = value
        elif name == REQUESTS:
            self.outcomes[labels.get("outcome", "")] = value
        elif name == TRUTH:
            self.truth[labels.get("verdict", "")] = value
        else:
            self.pictures[_PICTURES[name][0]][edge] = value

    def traffic(self, start: float, end: float) -> Traffic:
        pictures = {name: _binned(OF_PICTURES[name], buckets) for name, buckets in self.pictures.items()}
        classes = {name: _binned(BY_CLASS, buckets) for name, buckets in self.classes.items()}
        stages = {name: _binned(BY_STAGE, buckets) for name, buckets in self.stages.items()}
        return Traffic(
            start, end, _known(pictures), _known(classes), _known(stages), dict(self.outcomes), dict(self.truth)
        )


def counted(samples: Iterable[Sample], start: float, end: float) -> dict[int, Traffic]:
    """Give the counts of each version, of samples that are all about one model at one server.

    A histogram with other bins than ours is left out: a server of another age counts what nobody here can compare.
    """
    found: defaultdict[int, _Counted] = defaultdict(_Counted)
    for name, labels, value in samples:
        version = labels.get("version", "")
        if name in _NAMES and version.isdecimal():
            found[int(version)].take(name, labels, value)
    return {version: each.traffic(start, end) for version, each in found.items()}


_NAMES = frozenset(COUNTED)


def loaded(samples: Iterable[Sample]) -> dict[int, float]:
    """Give when a server began to serve each version, of samples that are all about one model at one server."""
    return {
        int(labels["version"]): value
        for name, labels, value in samples
        if name == LOADED and labels.get("version", "").isdecimal()
    }


def _binned(measure: Measure, buckets: Buckets) -> Counts | None:
    """Give how many values lie in each bin; None where the bins are not ours."""
    ordered = sorted((float(edge), value) for edge, value in buckets.items() if edge)
    if [edge for edge, _ in ordered] != [*measure.edges, float("inf")]:
        return None
    cumulative = [0.0, *(value for _, value in ordered)]
    return tuple(upper - lower for lower, upper in pairwise(cumulative))


def _known(found: Mapping[str, Counts | None]) -> dict[str, Counts]:
    return {name: counts for name, counts in found.items() if counts is not None}
