"""The real inference server as a process, for tests that talk to it as its clients do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from adapters.store import Store
from tests.support import onnx_models
from tests.support.onnx_models import Published

TIMEOUT = 60
SLOW_LOAD = 200
"""Rounds of a model that is slow to load."""
INFER = "/v2/models/digits/infer"


class ServerProcess:
    """``python -m workloads.serve`` with its store and state below one folder."""

    def __init__(self, root: Path, *options: str) -> None:
        self.state = root / "state"
        self.store_path = root / "store"
        self.store = Store(f"file://{self.store_path}")
        self.options = options
        self._log = root / "log.txt"
        self.process: subprocess.Popen[str] | None = None
        self.http = httpx.Client(trust_env=False, timeout=TIMEOUT)

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.spawn()
        assert self.process is not None
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        if not self.line:
            raise AssertionError(f"the server did not start: {self._log.read_text()}")
        self.address: dict[str, Any] = json.loads((self.state / "address.json").read_text())
        self.url: str = self.address["url"]
        self.http.close()
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=TIMEOUT)

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        command = [sys.executable, "-m", "workloads.serve", "--store", self.store.url, "--state", str(self.state)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", *self.options], stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    @property
    def host(self) -> str:
        """Host and port, as some clients want it."""
        return self.url.removeprefix("http://")

    @property
    def socket_address(self) -> tuple[str, int]:
        """Host and port, as sockets want it."""
        host, _, port = self.host.rpartition(":")
        return host, int(port)

    def load(self, name: str, target: dict[str, Any]) -> httpx.Response:
        """Ask for a model."""
        return self.http.post(f"/v2/repository/models/{name}/load", json={"parameters": target})

    def models(self) -> dict[str, dict[str, Any]]:
        """Give what the controller sees."""
        models: dict[str, dict[str, Any]] = self.http.get("/trunkline/models").json()["models"]
        return models

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and give the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=TIMEOUT)

    def close(self) -> None:
        """Leave nothing behind."""
        self.http.close()
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


@contextmanager
def running(root: Path, *options: str) -> Iterator[ServerProcess]:
    """Give a server that is ready; it is killed afterwards."""
    server = ServerProcess(root, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


def samples(server: ServerProcess) -> dict[tuple[str, ...], float]:
    """Give every sample by its name and label values."""
    text = server.http.get("/metrics").text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()) if not _.startswith("le"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def publish(server: ServerProcess, seed: int) -> Published:
    """Put a small classifier into the server's store."""
    return onnx_models.publish(server.store, onnx_models.classifier(seed))


def publish_slow(server: ServerProcess, rounds: int) -> Published:
    """Put a slow classifier into the server's store."""
    return onnx_models.publish(server.store, onnx_models.slow_classifier(rounds), answers=onnx_models.SLOW_ANSWERS)


def serving(server: ServerProcess) -> str:
    """Give the first digits of the file that answers requests to ``digits`` now."""
    answer = server.http.post(INFER, json=REQUEST)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["Trunkline-File"])


def wait_until(condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
    """Wait for a condition to hold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextmanager
def slow_load(server: ServerProcess) -> Iterator[Published]:
    """Ask for a model, as ``digits``, that takes a second or two to prove itself; entered as soon as it is loading."""
    slow = publish_slow(server, SLOW_LOAD)
    body = json.dumps({"parameters": slow.target(2)}).encode()
    head = f"POST /v2/repository/models/digits/load HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(server.socket_address) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: server.models()["digits"]["loading"])
        yield slow


def infer_request(values: list[float] | Any, shape: list[int], **changes: Any) -> dict[str, Any]:
    """Give a JSON inference request for the models of ``onnx_models``."""
    tensor = {"name": "images", "shape": shape, "datatype": "FP32", "data": values}
    return {"inputs": [tensor | changes]}


REQUEST = infer_request([0.5] * 3072, [1, 3, 32, 32])
"""A request that the classifiers of ``onnx_models`` take."""
