"""What agent and operator tell Prometheus of each model."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.kubernetes_api import MODEL_SPEC
from controller.commands.agent import expose
from controller.informer import Informer
from controller.metrics import Metrics
from controller.model_metrics import ModelMetrics
from controller.statuses_kubernetes import told
from reconcilers.observed import Judgement, Observed, Reading
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus, Reason, SignalStatus
from tests.support import builders
from tests.support.builders import condition
from tests.support.mlflow_server import free_port
from tests.support.place import Place
from tests.support.typed import start

SHELF, CALM = ModelKey("retail", "shelf"), ModelKey("default", "calm")
Told = dict[tuple[str, ...], float]


STATUS = ModelStatus(
    signals=[
        SignalStatus(name="light", state="Firing", value=0.5, episode="light-v7-20261126T100000Z"),
        SignalStatus(name="mix", state="Quiet"),
        SignalStatus(name="told", state="Unknown"),
    ],
    conditions=[
        condition(ConditionType.READY, "False", Reason.LIVE_GATE_FAILED),
        condition(ConditionType.GIT_BEHIND, "True", Reason.LIVE_GATE_FAILED),
        condition(ConditionType.LIVE_GATE, "False", Reason.LIVE_GATE_FAILED),
    ],
)


def _told(models: ModelMetrics) -> Told:
    metrics = Metrics()
    metrics.watch(models.gauges)
    return {
        (name, labels["model"], labels.get("signal") or f"{labels['type']}/{labels['reason']}"): value
        for family in text_string_to_metric_families(metrics.text().decode())
        for name, labels, value, *_ in family.samples
        if "model" in labels
    }


def test_signals_and_what_somebody_should_know_are_told() -> None:
    """A signal that is quiet is told as such; of conditions only those that are bad news."""
    models = ModelMetrics(lambda: [(SHELF, STATUS), (CALM, ModelStatus())])
    assert _told(models) == {
        ("trunkline_signal_firing", "retail.shelf", "light"): 1,
        ("trunkline_signal_firing", "retail.shelf", "mix"): 0,
        ("trunkline_signal_firing", "retail.shelf", "told"): 0,
        ("trunkline_model_condition", "retail.shelf", "GitBehind/LiveGateFailed"): 1,
        ("trunkline_model_condition", "retail.shelf", "LiveGate/LiveGateFailed"): 1,
    }


def _observed(*readings: Reading) -> Observed:
    return builders.observed(readings={"light": readings})


def test_the_last_window_that_said_something_is_told_and_forgotten_with_the_model() -> None:
    """Value, interval and n of it; an empty window says nothing; a model that is gone has no series any more."""
    statuses = {SHELF: STATUS}
    models = ModelMetrics(statuses.items)
    models.saw(SHELF, _observed(
        Reading(0.0, Judgement.PASSING, 9), Reading(60.0, Judgement.FAILING, 500, 0.5, 0.4, None),
        Reading(120.0, Judgement.INCONCLUSIVE, 0, message="nothing was counted"),
    ))  # fmt: skip
    found = {name: value for (name, _, subject), value in _told(models).items() if subject == "light"}
    assert found == {
        "trunkline_signal_firing": 1, "trunkline_signal_value": 0.5, "trunkline_signal_low": 0.4,
        "trunkline_signal_samples": 500,
    }  # fmt: skip
    del statuses[SHELF]
    assert _told(models) == {}
    statuses[SHELF] = ModelStatus()
    assert _told(models) == {}


def test_the_operator_reads_the_statuses_that_have_something_to_tell() -> None:
    """Of thousands of models only those with signals or bad news are parsed at a scrape."""
    informer = Informer(lambda: 0.0)
    for key, status in ((SHELF, STATUS), (CALM, ModelStatus(summary="v1 answers"))):
        informer.saw(MODEL_SPEC, "ADDED", {
            "metadata": {"namespace": key.namespace, "name": key.name, "uid": key.name, "resourceVersion": "1"},
            "spec": {}, "status": status.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        })  # fmt: skip
    assert dict(told(informer)) == {SHELF: STATUS}


def test_an_agent_tells_metrics_where_it_is_asked_to(tmp_path: Path) -> None:
    """``--metrics-port``: signals and passes, at the address of its server alone."""
    place, port, ticks = Place(tmp_path), free_port(), Event()
    place.statuses.write(ModelKey("default", "digits"), STATUS)
    agent = start(tmp_path, "agent", "--metrics-port", str(port))
    try:
        text = ""
        while not text and agent.poll() is None and not ticks.wait(0.02):
            with suppress(httpx.HTTPError):
                text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'trunkline_signal_firing{model="digits",name="digits",namespace="default",signal="light"} 1.0' in text
        assert "trunkline_reconcile_seconds_count" in text
    finally:
        agent.kill()
        agent.wait()


def test_a_port_that_is_taken_is_said() -> None:
    """The agent does not start without the metrics that it was told to give."""
    probes = expose(Metrics(), "127.0.0.1", 0)
    with pytest.raises(Stalled, match=f"on port {probes.port} of 127.0.0.1: Address already in use; give another"):
        expose(Metrics(), "127.0.0.1", probes.port)
    probes.stop()
