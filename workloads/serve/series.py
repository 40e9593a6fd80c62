"""The numbers of one version of a model, and how Prometheus gets to see those of all versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from specs.traffic import (
    BY_CLASS,
    BY_STAGE,
    LOADED,
    OF_PICTURES,
    OUTCOMES,
    REQUESTS,
    TRUTH,
    VERDICTS,
    Counts,
    Measure,
    cumulated,
)
from workloads.serve.counting import Bins, Seen

STAGES = ("decode", "queue", "inference", "total")


class Series:
    """What one version of a model did. All of it begins at 0, so that nothing is missing from an increase."""

    def __init__(self, names: Iterable[str] = (), *, watch: bool = False, file: str = "") -> None:
        """``names`` are the model's classes. Without ``watch`` pictures and predictions are not counted."""
        self.file = file
        self.stages = {stage: Bins(BY_STAGE) for stage in STAGES}
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.truth = dict.fromkeys(VERDICTS, 0)
        self.seen = Seen(tuple(names)) if watch else None
        self.loaded = 0.0
        """Unix time since which it serves."""


class AllSeries(Collector):
    """Shows the series of some versions."""

    def __init__(self, versions: Mapping[tuple[str, str], Series], unknown: Series) -> None:
        """``versions`` by model and version; ``unknown`` has the outcomes of requests for no model."""
        self._versions = versions
        self._unknown = unknown

    def collect(self) -> Iterator[Metric]:
        """Give all samples as they are now."""
        yield from self._counters()
        loaded = GaugeMetricFamily(LOADED, "Unix time since which a version serves here.", labels=["model", "version"])
        stages = _histogram(BY_STAGE, "stage")
        for labels, series in self._versions.items():
            loaded.add_metric(labels, series.loaded)
            for stage, bins in series.stages.items():
                _add(stages, BY_STAGE, (*labels, stage), bins.counts, bins.sum)
        yield loaded
        yield stages
        yield from self._pictures()

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            REQUESTS, "Inference requests by how they ended.", labels=["model", "version", "outcome"]
        )
        truth = CounterMetricFamily(
            TRUTH, "Predictions whose truth was told later.", labels=["model", "version", "verdict"]
        )
        for labels, series in [(("", ""), self._unknown), *self._versions.items()]:
            for outcome, number in series.outcomes.items():
                if number or series is not self._unknown:
                    requests.add_metric([*labels, outcome], number)
        for labels, series in self._versions.items():
            for verdict, number in series.truth.items():
                truth.add_metric([*labels, verdict], number)
        yield requests
        yield truth

    def _pictures(self) -> Iterator[Metric]:
        families = {name: _histogram(measure) for name, measure in OF_PICTURES.items()}
        classes = _histogram(BY_CLASS, "class")
        for labels, series in self._versions.items():
            if series.seen is None:
                continue
            for name, bins in series.seen.pictures.items():
                _add(families[name], bins.measure, labels, bins.counts, bins.sum)
            for name, (counts, total) in series.seen.classes.items():
                _add(classes, BY_CLASS, (*labels, name), counts, total)
        yield from families.values()
        yield classes


def _histogram(measure: Measure, *labels: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(measure.metric, measure.help, labels=["model", "version", *labels])


def _add(family: HistogramMetricFamily, measure: Measure, labels: Iterable[str], counts: Counts, total: float) -> None:
    buckets = zip(_EDGES[measure.metric], cumulated(counts), strict=True)
    family.add_metric([*labels], list(buckets), total)


_EDGES = {
    measure.metric: [*map(floatToGoString, measure.edges), "+Inf"]
    for measure in (*OF_PICTURES.values(), BY_STAGE, BY_CLASS)
}
