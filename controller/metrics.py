"""The operator's own numbers, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Reading = Callable[[], Iterable[tuple[str, str, dict[str, str], float]]]
"""Gives (name, help, labels, value) of every gauge, now."""


class Metrics:
    """Counts what happened; what is so at the moment is read when it is asked for."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._passes = Counter(
            "trunkline_reconciles", "Passes over a model, by how they ended.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "trunkline_reconcile_seconds", "Duration of a pass over a model.", registry=self._registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )  # fmt: skip
        self._requests = Counter(
            "trunkline_api_requests", "Requests to the Kubernetes API; code 0 is no answer.",
            ["verb", "resource", "code"], registry=self._registry,
        )  # fmt: skip
        self._forge = Counter(
            "trunkline_forge_requests", "Looks at a repository and its pull requests, by outcome.",
            ["repository", "outcome"], registry=self._registry,
        )  # fmt: skip
        self._webhooks = Counter(
            "trunkline_webhooks", "Webhooks that came in, by what became of them.", ["outcome"],
            registry=self._registry,
        )  # fmt: skip

    def pass_done(self, outcome: str, seconds: float) -> None:
        """Count a pass."""
        self._passes.labels(outcome).inc()
        self._seconds.observe(seconds)

    def requested(self, verb: str, resource: str, code: int) -> None:
        """Count a request to the Kubernetes API."""
        self._requests.labels(verb, resource, str(code)).inc()

    def looked(self, repository: str, outcome: str) -> None:
        """Count a look at a repository and its pull requests."""
        self._forge.labels(repository, outcome).inc()

    def webhook(self, outcome: str) -> None:
        """Count a webhook."""
        self._webhooks.labels(outcome).inc()

    def watch(self, reading: Reading) -> None:
        """Add gauges that are read at every scrape."""
        self._registry.register(_Gauges(reading))

    def text(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        found: dict[str, GaugeMetricFamily] = {}
        for name, text, labels, value in self._reading():
            family = found.setdefault(name, GaugeMetricFamily(name, text, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return found.values()
