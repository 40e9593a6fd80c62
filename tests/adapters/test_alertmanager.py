"""Alerts in a real Alertmanager: there while they last, gone when they are over."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from adapters.alertmanager import Alertmanager
from controller.alerts import Alerts, Memory
from controller.setting_tables import AlertSettings
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.status import ModelStatus, SignalStatus
from tests.support.apiserver import DIES_WITH_US
from tests.support.needed import needed

LIGHT = SignalStatus(name="light", state="Firing", value=0.4, n=500, episode="light-v7-20261126T100000Z")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Run a real Alertmanager that sends nothing to anybody."""
    binary = needed("prometheus-alertmanager", "alertmanager")
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *DIES_WITH_US, binary, f"--config.file={config}", f"--storage.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/-/ready").is_success:
                    break
            except httpx.HTTPError:
                assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def active(url: str) -> list[tuple[str, str, str]]:
    """Give what is active there: alertname, model, subject."""
    found = httpx.get(f"{url}/api/v2/alerts", params={"active": "true"}).json()
    return sorted((a["labels"]["alertname"], a["labels"]["model"], a["labels"]["subject"]) for a in found)


def test_an_alertmanager_is_told_what_is_so_and_what_is_over(url: str, tmp_path: Path) -> None:
    """Labels are the identity, so telling again changes nothing; what is over ends there at once."""
    models = {ModelKey("retail", "shelf"): ModelStatus(signals=[LIGHT])}
    now = time.time()
    teller = Alerts(
        models.items, Memory(tmp_path / "alerts.json"), AlertSettings(alertmanager_url=url),
        alertmanager=Alertmanager(url), clock=lambda: now,
    )  # fmt: skip
    teller.once()
    teller.once(hurry=True)
    assert active(url) == [("TrunklineSignalFiring", "shelf", "light")]
    models.clear()
    teller.once()
    assert active(url) == []


def test_one_that_is_down_does_not_silence_the_chats(tmp_path: Path) -> None:
    """People are told all the same, and once."""
    now, taken = 1_000.0, Taken()
    teller = Alerts(
        lambda: [(ModelKey("retail", "shelf"), ModelStatus(signals=[LIGHT]))], Memory(tmp_path / "alerts.json"),
        AlertSettings(group_wait=0.0), notifier=taken, alertmanager=Alertmanager("http://127.0.0.1:1"),
        clock=lambda: now,
    )  # fmt: skip
    teller.once()
    teller.once()
    assert taken.titles == ["Trunkline: retail/shelf: signal light fires"]


class Taken:
    """A messenger that takes everything."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def send(self, title: str, body: str, severity: str) -> tuple[str, ...]:
        self.titles.append(title)
        return ()


def test_one_that_is_down_is_trouble_that_may_pass() -> None:
    """Said without a traceback, and without its address."""
    with pytest.raises(Transient, match="does not answer"):
        Alertmanager("http://127.0.0.1:1").post([])
