"""A real MLflow server on this machine, and what a person sees in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

START = 120.0
"""Seconds until the server must answer: it has much to load."""


def seldom(ask: Callable[[], bool]) -> Callable[[], bool]:
    """Ask once a second, however often it is called: a server that answers questions takes time from the training."""
    due = [0.0]

    def asked() -> bool:
        if time.monotonic() < due[0]:
            return False
        answer = ask()
        due[0] = time.monotonic() + 1.0
        return answer

    return asked


class Tracker:
    """``mlflow server`` with its database and its files in one folder. Stopped and started, it is the same one.

    With ``url`` it is one that somebody else runs.
    """

    def __init__(self, folder: Path, url: str = "") -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._port = int(found.getsockname()[1])
        self._ours = not url
        self.url = url or f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        if not self._ours:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port),
            "--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db",
            "--artifacts-destination", str(self._folder / "files"),
        ]  # fmt: skip
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"mlflow server does not answer; its log is in {self._folder}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    # What a person would look up in the browser, by MLflow's own client.
    def client(self) -> Any:
        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def runs(self) -> list[Any]:
        """Give the runs of the experiment, oldest first."""
        client = self.client()
        found = client.get_experiment_by_name("digits")
        runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]) if found else []
        return list(runs)

    def champion(self) -> Any | None:
        """Give the version that the alias points at; None where there is none."""
        try:
            return self.client().get_model_version_by_alias("digits", "champion")
        except MlflowException:
            return None

    def page(self, run: Any) -> str:
        """Give the address of a run's page."""
        return f"{self.url}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
