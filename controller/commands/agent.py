"""``trunkline agent`` and ``trunkline down``: the loop on this machine, and its end."""

from __future__ import annotations

import logging
import signal
import time
from threading import Event, Thread

import click

from controller import alerts, wiring
from controller.agent import Agent, OnlyOne
from controller.console import console, settings
from controller.metrics import Metrics
from controller.model_metrics import ModelMetrics
from controller.passes import Passes
from controller.probes import Probes
from controller.readings import Readings
from controller.statuses import Statuses
from specs.errors import Stalled
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus, Reason

_PATIENCE = 3600.0
_LAST_MESSAGES = 20.0
"""Seconds that the last messages have to get out."""


def make_agent(app: wiring.App) -> Agent:
    """Put the agent together."""
    statuses = Statuses(app.settings.state / "status")
    readings = Readings(app.settings.state / "readings")
    models = ModelMetrics(statuses.items)
    passes = Passes(app.reconciler(), statuses, _say, models.saw)
    metrics = Metrics()
    metrics.watch(models.gauges)
    return Agent(passes, app.source, app.servers, statuses, readings, metrics)


@click.command()
@click.option("--once", is_flag=True, help="Look until nothing is left to do, then exit.")
@click.option("--interval", type=float, help="Seconds between two looks. Default: from the settings.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Answer /metrics for Prometheus on this port.")
def agent(once: bool, interval: float | None, metrics_port: int | None) -> None:
    """Reconcile every ModelSpec on the tracked branch, until stopped.

    Trains, exports and serves as local processes. They outlive the agent: stopped or killed, it finds them again when
    it starts. `trunkline down` stops them.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    found = settings()
    lock = OnlyOne(found.state)
    app = wiring.build(found)
    made = make_agent(app)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pace = interval or found.interval
    if metrics_port is not None:
        expose(made.metrics, found.host, metrics_port)
    telling = alerts.make(found.alerts, found.state, made.statuses.items)
    teller = Thread(target=telling.forever, args=(stop,), name="alerts", daemon=True) if telling else None
    if once:
        deadline = time.monotonic() + _PATIENCE
        while made.once() and not stop.wait(min(pace, 1.0)) and time.monotonic() < deadline:
            pass
        if telling is not None:
            telling.once(hurry=True)
    else:
        if teller is not None:
            teller.start()
        place = f"{found.repository} ({found.branch})"
        console().print(f"watching {place}; jobs and server outlive this process", soft_wrap=True)
        made.forever(pace, stop)
        if teller is not None:
            teller.join(_LAST_MESSAGES)
    del lock


def expose(metrics: Metrics, host: str, port: int) -> Probes:
    """Answer /metrics from here on; Stalled ``PortTaken`` where that cannot be."""
    try:
        probes = Probes(port, host=host, healthy=tuple, ready=tuple, metrics=metrics.text)
    except OSError as error:
        text = f"metrics cannot be told on port {port} of {host}: {error.strerror}; give another --metrics-port"
        raise Stalled("PortTaken", text) from error
    probes.start()
    return probes


def _say(key: ModelKey, before: ModelStatus, status: ModelStatus) -> None:
    if before.model_copy(update={"progress": status.progress}) == status:
        return  # epochs go by; `trunkline status` shows them
    log = logging.getLogger("trunkline.agent")
    log.info("%s: %s", key, status.summary or "as desired")
    was, mirror = (each.condition(ConditionType.TRACKED) for each in (before, status))
    if mirror is not None and mirror.reason == Reason.ALIAS_MOVED and (was is None or was.reason != mirror.reason):
        log.warning("%s: %s", key, mirror.message)


@click.command()
def down() -> None:
    """Stop the jobs and the server that the agent started on this machine."""
    app = wiring.build(settings())
    stopped = app.jobs.stop_all()
    app.servers.stop()
    click.echo(f"stopped the server and {len(stopped)} job{'s' if len(stopped) != 1 else ''}")
