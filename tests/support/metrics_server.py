"""Servers that count like ours and answer no picture: real HTTP, real Prometheus text, counts as a test wants them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from specs.traffic import BOX_CONFIDENCE, LOADED, OF_PICTURES, REQUESTS, SECONDS, TRUTH, Measure


class Counting:
    """The series of one server in one life; ``started`` is when it began."""

    def __init__(self, started: float = 0.0) -> None:
        self.registry = CollectorRegistry()
        Gauge("process_start_time_seconds", "When it began.", registry=self.registry).set(started)
        self._pictures = {name: self._histogram(measure) for name, measure in OF_PICTURES.items()}
        self._classes = self._histogram(BOX_CONFIDENCE, "class")
        self._stages = self._histogram(SECONDS, "stage")
        labels = ["model", "version"]
        self._requests = self._counter(REQUESTS, "outcome")
        self._truth = self._counter(TRUTH, "verdict")
        self._loaded = Gauge(LOADED, "When it was loaded.", labels, registry=self.registry)

    def _histogram(self, measure: Measure, *more: str) -> Histogram:
        return Histogram(
            measure.metric, measure.help, ["model", "version", *more], buckets=measure.edges, registry=self.registry
        )

    def _counter(self, name: str, label: str) -> Counter:
        return Counter(name.removesuffix("_total"), "A count.", ["model", "version", label], registry=self.registry)

    def load(self, model: str, version: int, at: float) -> None:
        """Begin to serve a version."""
        self._loaded.labels(model, str(version)).set(at)

    def answer(
        self, model: str, version: int, count: int = 1, *, confidence: float = 0.9, name: str = "seven",
        brightness: float = 0.5, seconds: float = 0.004, outcome: str = "ok",
    ) -> None:  # fmt: skip
        """Answer some requests, all alike."""
        who = (model, str(version))
        for _ in range(count):
            self._requests.labels(*who, outcome).inc()
            self._stages.labels(*who, "total").observe(seconds)
            if outcome == "ok":
                self._pictures["confidence"].labels(*who).observe(confidence)
                self._pictures["brightness"].labels(*who).observe(brightness)
                self._classes.labels(*who, name).observe(confidence)

    def told(self, model: str, version: int, verdict: str, count: int = 1) -> None:
        """Be told the truth."""
        self._truth.labels(model, str(version), verdict).inc(count)

    def forget(self, model: str, version: int) -> None:
        """Drop a version's series, as a server does with those long gone."""
        for each in (self._pictures["confidence"], self._pictures["brightness"], self._loaded):
            each.remove(model, str(version))

    def text(self) -> bytes:
        """Give it as Prometheus reads it."""
        return generate_latest(self.registry)


class MetricsServer(ThreadingHTTPServer):
    """Answers ``/metrics`` with what ``counting`` says; with ``down`` it hangs up, with ``body`` it says that."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.counting = Counting()
        self.down = False
        self.body: bytes | None = None
        self.asked = 0

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def metrics_server() -> Iterator[MetricsServer]:
    """Run a server."""
    with MetricsServer() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked += 1
        if self.server.down or self.path != "/metrics":
            self.send_error(503)
            return
        body = self.server.body if self.server.body is not None else self.server.counting.text()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
