"""Probes and metrics over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.metrics import Metrics
from controller.probes import Probes


class Health:
    """What is wrong, as a test sets it."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.late: list[str] = []


@pytest.fixture
def health() -> Health:
    """A healthy process."""
    return Health()


@pytest.fixture
def url(health: Health) -> Iterator[str]:
    """Answer on a free port."""
    metrics = Metrics()
    metrics.pass_done("ok", 0.002)
    metrics.requested("patch", "jobs", 409)
    metrics.watch(lambda: [("trunkline_conditions", "Models.", {"type": "Ready", "status": "True"}, 7.0)])
    probes = Probes(0, healthy=lambda: health.wrong, ready=lambda: health.late, metrics=metrics.text)
    probes.start()
    yield f"http://127.0.0.1:{probes.port}"
    probes.stop()


def test_well(url: str) -> None:
    """Nothing wrong is 200."""
    assert (httpx.get(f"{url}/healthz").status_code, httpx.get(f"{url}/readyz").status_code) == (200, 200)


def test_what_is_wrong_is_said(url: str, health: Health) -> None:
    """A failing probe says why, a sentence each; standing by is no reason to be killed."""
    health.late = ["standing by"]
    answer = httpx.get(f"{url}/readyz")
    assert (answer.status_code, answer.text) == (503, "standing by\n")
    assert httpx.get(f"{url}/healthz").status_code == 200
    health.wrong = ["one", "two"]
    assert httpx.get(f"{url}/healthz").text == "one\ntwo\n"


def test_metrics_are_what_prometheus_reads(url: str) -> None:
    """Counters, a histogram and gauges, in Prometheus' own format."""
    families = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)}
    (conditions,) = families["trunkline_conditions"].samples
    assert (conditions.labels, conditions.value) == ({"type": "Ready", "status": "True"}, 7.0)
    (requests,) = (s for s in families["trunkline_api_requests"].samples if s.name.endswith("_total"))
    assert requests.labels == {"verb": "patch", "resource": "jobs", "code": "409"}
    counts = [s.value for s in families["trunkline_reconcile_seconds"].samples if s.name.endswith("_count")]
    assert counts == [1.0]


def test_other_paths_say_what_there_is(url: str) -> None:
    """A wrong path is no riddle."""
    answer = httpx.get(f"{url}/other")
    assert answer.status_code == 404
    assert "/metrics" in answer.text
