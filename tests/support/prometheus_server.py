"""A real Prometheus for tests: one that scrapes servers, or one that is given a past.

Where its program is missing, tests that ask for it are skipped, and say so; in CI (variable ``CI``) they fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.support.apiserver import DIES_WITH_US
from tests.support.mlflow_server import free_port

START_SECONDS = 60


def program(name: str) -> str:
    """Give the path of ``prometheus``, ``promtool`` or ``amtool``."""
    found = shutil.which(name)
    if found is None:
        words = f"no {name} on PATH (Debian: prometheus, prometheus-alertmanager); it took no part in this test"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return found


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    return subprocess.run(
        [program("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str] = (), *, interval: str = "250ms", rules: Path | None = None,
    more: Sequence[Mapping[str, object]] = (), web: Mapping[str, object] | None = None,
) -> Iterator[str]:  # fmt: skip
    """Run Prometheus in ``folder`` on what is in ``folder/data``, scraping ``targets`` (host:port); give its root."""
    path = program("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [{"job_name": "servers", "static_configs": [{"targets": list(targets)}], "honor_labels": True}, *more]
    pace = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    config = {"global": pace, "scrape_configs": jobs, "rule_files": [str(rules)] if rules else []}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        *DIES_WITH_US, path, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y", "--log.level=warn",
    ]  # fmt: skip
    if web is not None:
        (folder / "web.yml").write_text(yaml.safe_dump(dict(web)))
        command.append(f"--web.config.file={folder}/web.yml")
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _await(f"http://127.0.0.1:{port}/-/ready", process, folder / "log.txt")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code in (200, 401):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    pytest.fail(f"prometheus did not start: {log.read_text()[-2000:]}")


class Past:
    """Scrapes that never were: what Prometheus would have, had it looked at these moments."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, str]] = []

    def scrape(self, at: float, text: bytes | None, **replica: str) -> None:
        """Add a scrape of what a server said, with the labels that say who it was; None where it did not answer."""
        self._add("up", replica, float(text is not None), at)
        for family in text_string_to_metric_families((text or b"").decode()):
            for name, labels, value, *_ in family.samples:
                if not name.endswith("_created"):
                    self._add(name, {**labels, **replica}, value, at)

    def _add(self, name: str, labels: Mapping[str, str], value: float, at: float) -> None:
        told = ",".join(f'{key}="{text}"' for key, text in labels.items())
        self._lines.append((at, f"{name}{{{told}}} {value!r} {at:.3f}"))

    def write(self, folder: Path) -> None:
        """Write it down as Prometheus keeps it, in ``folder/data``."""
        folder.mkdir(parents=True, exist_ok=True)
        ordered = [line for _, line in sorted(self._lines, key=lambda each: each[0])]
        (folder / "past.txt").write_text("\n".join([*ordered, "# EOF\n"]))
        done = promtool("tsdb", "create-blocks-from", "openmetrics", "past.txt", "data", cwd=folder)
        assert done.returncode == 0, done.stderr
