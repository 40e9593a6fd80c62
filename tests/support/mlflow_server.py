"""A real MLflow server, one in a run of tests; a gateway to it that loses what a test says; and bad servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from tests.support.apiserver import DIES_WITH_US

START_SECONDS = 120
Fate = Literal["refuse", "lose", "hold"] | None
"""What becomes of a request: never forwarded; forwarded, but its answer dropped; likewise, and the caller waits."""


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[str]:
    """Give the address of a real server with a database and a folder of its own. Tests use experiments of their own."""
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder, serving(Path(folder)) as url:
        yield url


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run ``mlflow server`` in a folder; give its address."""
    port = free_port()
    command = [
        *DIES_WITH_US, sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "files"),
    ]  # fmt: skip
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        _await(url, process, folder / "log.txt")
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"mlflow server did not start: {log.read_text()[-2000:]}")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def an_experiment() -> str:
    """Give a name that no other test uses."""
    return f"experiment-{uuid.uuid4().hex[:12]}"


class Gateway(ThreadingHTTPServer):
    """Stands between a job and the server. ``fate`` is asked about each request by (verb, path below the API)."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = target
        self.fate: Callable[[str, str], Fate] = lambda verb, path: None
        self.seen: list[tuple[str, str]] = []
        self.held = threading.Event()
        """Set once a caller is left waiting."""
        self.release = threading.Event()
        self.client = httpx.Client(timeout=60)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def effects(self) -> list[tuple[str, str]]:
        """What changed something, or tried to."""
        return [(verb, path) for verb, path in self.seen if is_effect(verb, path)]


def is_effect(verb: str, path: str) -> bool:
    """Whether a request changes anything."""
    return verb != "GET" and not path.endswith("/search")


@contextmanager
def gateway(target: str) -> Iterator[Gateway]:
    """Run a gateway to a server."""
    with Gateway(target) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield made
        finally:
            made.release.set()
            made.shutdown()


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Gateway

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.seen.append((self.command, path))
        fate = self.server.fate(self.command, path)
        if fate == "refuse":
            self._hang_up()
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "authorization")}
        answer = self.server.client.request(
            self.command, self.server.target + self.path, content=body, headers=headers
        )
        if fate == "hold":
            self.server.held.set()
            self.server.release.wait()
        if fate in ("lose", "hold"):
            self._hang_up()
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _forward  # noqa: N815

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class BadServer(ThreadingHTTPServer):
    """Answers everything with ``status``; with 0 it never answers, and holds who asks until ``release`` is set."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes = b"no") -> None:
        super().__init__(("127.0.0.1", 0), _Bad)
        self.status, self.body = status, body
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.holding = 0
        """Callers that are left waiting now."""
        self.release = threading.Event()
        self.changed = threading.Condition()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def bad_server(status: int, body: bytes = b"no") -> Iterator[BadServer]:
    """Run a bad server."""
    with BadServer(status, body) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield made
        finally:
            made.release.set()
            made.shutdown()


class _Bad(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BadServer

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.changed:
            self.server.asked.append(f"{self.command} {self.path}")
            self.server.headers.append({key.lower(): value for key, value in self.headers.items()})
            self.server.holding += self.server.status == 0
            self.server.changed.notify_all()
        if self.server.status == 0:
            self.server.release.wait()
            self.close_connection = True
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        if 300 <= self.server.status < 400:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815


CONTEXT = "mlflow.data.context"


class Looking:
    """What MLflow's own client finds on a server."""

    def __init__(self, url: str) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        self.url = url
        self.client = MlflowClient(tracking_uri=url, registry_uri=url)

    def runs(self, experiment: str) -> list[Any]:
        """Give the runs of an experiment that were not deleted."""
        found = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([found.experiment_id])) if found else []

    def run(self, experiment: str) -> Any:
        """Give the only run of an experiment."""
        (only,) = self.runs(experiment)
        return only

    def curve(self, run: Any, key: str) -> list[tuple[int, float]]:
        """Give (step, value) of a metric, in order."""
        return sorted((each.step, each.value) for each in self.client.get_metric_history(run.info.run_id, key))

    def files(self, run: Any, folder: str = "") -> list[str]:
        """Give the paths of a run's artifacts."""
        found: list[str] = []
        for each in self.client.list_artifacts(run.info.run_id, folder or None):
            found += self.files(run, each.path) if each.is_dir else [each.path]
        return sorted(found)

    def read(self, run: Any, path: str, folder: Path) -> bytes:
        """Give an artifact's bytes."""
        return Path(self.client.download_artifacts(run.info.run_id, path, str(folder))).read_bytes()

    def everything(self, experiment: str) -> dict[str, Any]:
        """Give all that a run says but what differs between two servers, for comparing."""
        run = self.run(experiment)
        return {
            "params": dict(run.data.params), "status": run.info.status, "end": run.info.end_time,
            "tags": dict(run.data.tags),
            "curves": {key: self.curve(run, key) for key in sorted(run.data.metrics)},
            "inputs": sorted(
                (each.dataset.name, each.dataset.digest, {tag.key: tag.value for tag in each.tags}.get(CONTEXT))
                for each in run.inputs.dataset_inputs
            ),
            "files": self.files(run),
        }  # fmt: skip
