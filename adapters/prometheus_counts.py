"""What was counted between two moments, exactly, from raw counters in Prometheus.

``increase()`` will not do: it stretches what it saw to the ends of the window, so that counts are no whole numbers, and
misses the first value of a series that begins inside the window, which for counts by class or outcome is most of a
quiet day. So the counters themselves are asked for at both moments and subtracted, replica by replica. Only where a
replica started again or went away in between are all its samples fetched.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from adapters.prometheus_api import PrometheusApi, Replica, Series, by_replica, replica_of
from adapters.traffic_series import COUNTED, STARTED, Sample, counted, loaded
from specs.traffic import LOADED, REQUESTS, Traffic

NOTHING_SCRAPED = "had no sample of anything (no `up`) when the last window began or ended"
SCRAPED_RARELY = "looks at the servers too rarely: a window must be at least four scrapes long"

_STRETCHES = 64

Versions = dict[int, Traffic]
Counters = dict[Replica, Versions]
"""What each replica's counters say, by version."""


@dataclass(frozen=True)
class Between:
    """What was counted between two moments."""

    counts: Mapping[int, Traffic]
    """By version, all replicas together."""
    whole: bool = True
    """Whether nothing is missing, and nothing in it is older."""
    complaint: str = ""
    """What a person should change so that windows can be told; empty where it is nothing of that kind."""


class PrometheusCounts:
    """Asks one Prometheus about models. A sample stands for a moment until it is ``slack`` seconds old."""

    def __init__(self, api: PrometheusApi) -> None:
        self._api = api
        self._restarts: dict[tuple[float, float], set[Replica]] = {}

    def counters(self, model: str, at: float, slack: float) -> Counters:
        """Give what all counters of a model say at a moment."""
        found = self._api.vector(f"last_over_time({_counters(model)}[{_span(slack)}])", at)
        return {replica: counted(samples, at, at) for replica, samples in by_replica(found).items()}

    def loaded(self, model: str, at: float, span: float) -> dict[int, float]:
        """Give when each version was first loaded, by all that was seen in the last ``span`` seconds."""
        question = f"min by (version) (min_over_time({LOADED}{_of(model)}[{_span(span)}]))"
        return loaded((LOADED, labels, value) for _, labels, value in self._api.vector(question, at))

    def between(
        self, model: str, start: float, end: float, slack: float, at_start: Counters, at_end: Counters
    ) -> Between:
        """Give what was counted between two moments, from what the counters say at both."""
        span = f"[{_span(end - start)}]"
        lives = by_replica(self._api.vector(f"min_over_time({LOADED}{_of(model)}{span})", end))
        fell = self._api.vector(f"resets({REQUESTS}{_of(model)}{span}) > 0", end)
        anew = self._started_again(start, end) | {replica_of(labels) for _, labels, _ in fell}
        complaint = self._missed(start, slack) or self._missed(end, slack)
        whole, parts = not complaint, []
        for replica in sorted({*at_start, *at_end, *lives}):
            ended = replica not in at_end
            grown = None if ended or replica in anew else _grown(at_start.get(replica, {}), at_end[replica])
            if grown is None:
                grown = self._retraced(model, replica, start, end, slack)
            parts.append(grown)
            whole = whole and (replica in at_start or self._is_new(replica, lives.get(replica, ()), grown, start, end))
            there = self._api.vector(f"up{_matchers(replica)}", end) if ended else ()
            whole = whole and not there
            if any(value for _, _, value in there):
                complaint = SCRAPED_RARELY
        return Between(_together(start, end, parts), whole, complaint)

    def _started_again(self, start: float, end: float) -> set[Replica]:
        """Give all processes that started again in between, of whatever model; windows of many are the same stretch."""
        if (start, end) not in self._restarts:
            found = self._api.vector(f"changes({STARTED}[{_span(end - start)}]) > 0", end)
            while len(self._restarts) >= _STRETCHES:
                del self._restarts[next(iter(self._restarts))]
            self._restarts[start, end] = {replica_of(labels) for _, labels, _ in found}
        return self._restarts[start, end]

    def _is_new(self, replica: Replica, lives: Iterable[Sample], grown: Versions, start: float, end: float) -> bool:
        """Whether a replica that was not seen at the beginning was not there: then all that it counted is of this time.

        Or had not been loaded what it counted.
        """
        born = loaded((LOADED, labels, value) for _, labels, value in lives)
        if all(counts.empty or born.get(version, 0.0) >= start for version, counts in grown.items()):
            return True
        question = f"min_over_time({STARTED}{_matchers(replica)}[{_span(end - start)}])"
        began = [value for _, _, value in self._api.vector(question, end)]
        return bool(began) and min(began) >= start

    def _missed(self, at: float, slack: float) -> str:
        """Say why Prometheus cannot know what was so at a moment; empty where it was at work."""
        moments = [value for _, _, value in self._api.vector("max(timestamp(up))", at)]
        if not moments:
            return NOTHING_SCRAPED
        return "" if max(moments) >= at - slack else SCRAPED_RARELY

    def _retraced(self, model: str, replica: Replica, start: float, end: float, slack: float) -> Versions:
        """Follow all samples of a replica's counters through the time between: sums of what they grew by."""
        span = f"[{_span(end - start + slack)}]"
        lives = self._api.matrix(f"{STARTED}{_matchers(replica)}{span}", end)
        begun = {moment for *_, samples in lives for (_, old), (moment, new) in pairwise(samples) if new != old}
        return counted(_followed(self._api.matrix(_counters(model, replica) + span, end), start, begun), start, end)


def _followed(series: list[Series], start: float, begun: set[float]) -> Iterator[Sample]:
    """Add up what counters grew by since ``start``.

    All began anew at the moments ``begun``; and those of a version where any of them fell, for they fall together.
    """
    falls: defaultdict[str, set[float]] = defaultdict(lambda: set(begun))
    for name, labels, samples in series:
        for (_, before), (moment, value) in pairwise(samples if name != LOADED else ()):
            if value < before:
                falls[labels.get("version", "")].add(moment)
    for name, labels, samples in series:
        before = total = 0.0
        anew = falls[labels.get("version", "")]
        for moment, value in samples:
            if moment > start:
                total += value if moment in anew else value - before
            before = value
        yield name, labels, total


def _grown(before: Versions, now: Versions) -> Versions | None:
    """Give what each version's counters grew by; None where any fell."""
    found = {}
    for version, counts in now.items():
        grown = counts.since(before[version]) if version in before else counts
        if grown is None:
            return None
        found[version] = grown
    return found


def _together(start: float, end: float, parts: Iterable[Versions]) -> Versions:
    found: Versions = {}
    for part in parts:
        for version, counts in part.items():
            found[version] = found.get(version, Traffic(start, end)).plus(counts)
    return {version: replace(each, start=start, end=end) for version, each in found.items()}


def _counters(model: str, replica: Replica = ()) -> str:
    names = "|".join((*COUNTED, LOADED))  # a replica that has counted nothing yet is there all the same
    return "{" + f'__name__=~"{names}",model={_quoted(model)}' + "".join(f",{n}={_quoted(v)}" for n, v in replica) + "}"


def _of(model: str) -> str:
    return _matchers((("model", model),))


def _matchers(labels: Replica) -> str:
    return "{" + ",".join(f"{name}={_quoted(value)}" for name, value in labels) + "}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _span(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
