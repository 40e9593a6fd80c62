"""The numbers of one version of a model, and how Prometheus gets to see those of all versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
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
    """Shows the series of some versions.

    Counters and gauges as prometheus_client wants them; histograms as text, since there are thousands of lines of them,
    and the server answers nobody while it writes them.
    """

    def __init__(self, versions: Mapping[tuple[str, str], Series], unknown: Series) -> None:
        """``versions`` by model and version; ``unknown`` has the outcomes of requests for no model."""
        self._versions = versions
        self._unknown = unknown

    def collect(self) -> Iterator[Metric]:
        """Give counters and gauges as they are now."""
        requests = CounterMetricFamily(
            REQUESTS, "Inference requests by how they ended.", labels=["model", "version", "outcome"]
        )
        truth = CounterMetricFamily(
            TRUTH, "Predictions whose truth was told later.", labels=["model", "version", "verdict"]
        )
        loaded = GaugeMetricFamily(LOADED, "Unix time since which a version serves here.", labels=["model", "version"])
        for outcome, number in self._unknown.outcomes.items():
            if number:
                requests.add_metric(["", "", outcome], number)
        for labels, series in self._versions.items():
            loaded.add_metric(labels, series.loaded)
            for outcome, number in series.outcomes.items():
                requests.add_metric([*labels, outcome], number)
            for verdict, number in series.truth.items():
                truth.add_metric([*labels, verdict], number)
        return iter([requests, truth, loaded])

    def histograms(self) -> bytes:
        """Give all histograms as they are now, in Prometheus' text format."""
        families: dict[str, list[str]] = {
            measure.metric: [f"# HELP {measure.metric} {measure.help}\n# TYPE {measure.metric} histogram\n"]
            for measure in (BY_STAGE, *OF_PICTURES.values(), BY_CLASS)
        }
        for (model, version), series in self._versions.items():
            labels = f'model="{_escaped(model)}",version="{_escaped(version)}"'
            for stage, bins in series.stages.items():
                _write(families, BY_STAGE, f'{labels},stage="{stage}"', bins.counts, bins.sum)
            if series.seen is None:
                continue
            for bins in series.seen.pictures.values():
                _write(families, bins.measure, labels, bins.counts, bins.sum)
            for name, (counts, total) in series.seen.classes.items():
                _write(families, BY_CLASS, f'{labels},class="{_escaped(name)}"', counts, total)
        return "".join(line for lines in families.values() if len(lines) > 1 for line in lines).encode()


def _write(families: dict[str, list[str]], measure: Measure, labels: str, counts: Counts, total: float) -> None:
    lines, name, numbers = families[measure.metric], measure.metric, cumulated(counts)
    start = f'{name}_bucket{{{labels},le="'
    lines += [f'{start}{edge}"}} {number}\n' for edge, number in zip(_EDGES[name], numbers, strict=True)]
    lines.append(f"{name}_sum{{{labels}}} {total}\n{name}_count{{{labels}}} {numbers[-1]}\n")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


_EDGES = {
    measure.metric: [*map(floatToGoString, measure.edges), "+Inf"]
    for measure in (*OF_PICTURES.values(), BY_STAGE, BY_CLASS)
}
