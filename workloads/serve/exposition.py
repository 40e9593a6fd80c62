"""What Prometheus sees. Labels are bounded: models that were loaded, their last two versions, a few outcomes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from specs.digests import short
from workloads.serve.answers import Refusal
from workloads.serve.state import Target

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
_OUTCOMES = ("ok", "rejected", "too_large", "timeout", "overloaded", "unsupported", "unavailable", "error", "gone")
_VERSIONS = 2
"""Versions of a model that keep their own series: what serves, and what served before."""


class Tally:
    """One request: who it turned out to be for."""

    model = ""
    version = ""


class Metrics:
    """All series of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "trunkline_requests", "Inference requests by how they ended.", ["model", "version", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "trunkline_request_seconds", "Time of a request in each stage.", ["model", "stage"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._rows = Histogram(
            "trunkline_batch_rows", "Rows in one inference.", ["model"], buckets=_ROWS, registry=registry
        )
        self._depth = Gauge(
            "trunkline_queue_depth", "Requests that wait for an inference.", ["model"], registry=registry
        )
        self._info = Gauge(
            "trunkline_model_info", "What serves; always 1.", ["model", "version", "file", "run"], registry=registry
        )
        self._loads = Counter("trunkline_loads", "Loads by how they ended.", ["model", "result"], registry=registry)
        self._shown: dict[str, tuple[str, ...]] = {}
        self._versions: defaultdict[str, deque[str]] = defaultdict(deque)

    def text(self) -> bytes:
        """Give all series in Prometheus' text format."""
        return generate_latest(self.registry)

    @contextmanager
    def request(self) -> Iterator[Tally]:
        """Count and time a request, however it ends; the caller fills in the Tally as soon as it knows."""
        tally = Tally()
        started = time.perf_counter()
        outcome = "error"
        try:
            yield tally
            outcome = "ok"
        except asyncio.CancelledError:
            outcome = "gone"
            raise
        except Refusal as refusal:
            outcome = refusal.outcome
            raise
        finally:
            self._requests.labels(tally.model, tally.version, outcome).inc()
            if tally.version:
                self._seconds.labels(tally.model, "total").observe(time.perf_counter() - started)

    def observer(self, model: str) -> ModelObserver:
        """Give what the batcher of ``model`` reports to."""
        return ModelObserver(self._seconds, self._rows, model)

    def decoded(self, model: str, seconds: float) -> None:
        """Count the time that decoding and preparing one picture took."""
        self._seconds.labels(model, "decode").observe(seconds)

    def load(self, model: str, result: str) -> None:
        """Count a load; ``result`` is ``ok`` or the failure's reason."""
        self._loads.labels(model, result).inc()

    def serve(self, model: str, target: Target, depth: Callable[[], int]) -> None:
        """Show what serves now, and stop showing versions long gone."""
        self._hide_info(model)
        labels = (model, str(target.version), short(target.file), short(target.run))
        self._info.labels(*labels).set(1)
        self._shown[model] = labels
        self._depth.labels(model).set_function(depth)
        versions = self._versions[model]
        if labels[1] not in versions:
            versions.append(labels[1])
        while len(versions) > _VERSIONS:
            self._drop_version(model, versions.popleft())

    def withdraw(self, model: str) -> None:
        """Drop all series of a model."""
        self._hide_info(model)
        for version in self._versions.pop(model, ()):
            self._drop_version(model, version)
        with suppress(KeyError):
            self._depth.remove(model)
        with suppress(KeyError):
            self._rows.remove(model)
        for stage in ("queue", "inference", "decode", "total"):
            with suppress(KeyError):
                self._seconds.remove(model, stage)

    def _hide_info(self, model: str) -> None:
        labels = self._shown.pop(model, None)
        if labels is not None:
            self._info.remove(*labels)

    def _drop_version(self, model: str, version: str) -> None:
        for outcome in _OUTCOMES:
            with suppress(KeyError):
                self._requests.remove(model, version, outcome)


class ModelObserver:
    """Takes down what one model's batcher reports; its series are looked up once, for this is the hot path."""

    def __init__(self, seconds: Histogram, rows: Histogram, model: str) -> None:
        self._queue = seconds.labels(model, "queue")
        self._inference = seconds.labels(model, "inference")
        self._rows = rows.labels(model)

    def inference(self, rows: int, seconds: float, queued: list[float]) -> None:
        """Count one inference. Times in seconds."""
        self._rows.observe(rows)
        for waited in queued:
            self._queue.observe(waited)
            self._inference.observe(seconds)
