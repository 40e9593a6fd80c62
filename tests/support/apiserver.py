"""A real Kubernetes API for tests: the server that KUBE_TESTSERVER names, spoken to over plain HTTPS.

Where there is none the tests that ask for it are skipped, and say so; in CI (variable ``CI``) they fail instead.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT.parent / "shared" / "bin" / "kube-testserver"
START_SECONDS = 60
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class ApiServer:
    """One running server, as one of the users in its kubeconfig."""

    kubeconfig: Path
    client: httpx.Client

    def apply(self, path: str, manifest: str | dict[str, Any], manager: str = "tests") -> httpx.Response:
        """Apply a manifest on the server side, with strict field validation."""
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": "true"}
        return self.client.patch(path, content=text.encode(), params=query, headers={"Content-Type": APPLY})

    def get(self, path: str, accept: str = "application/json") -> Any:
        """Give an object, or what else the server answers for it."""
        answer = self.client.get(path, headers={"Accept": accept})
        answer.raise_for_status()
        return answer.json()

    def install(self, crd: str, name: str, resources: str) -> None:
        """Apply a CustomResourceDefinition and wait until its resources are served."""
        answer = self.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd)
        assert answer.status_code in (200, 201), answer.text
        give_up = time.monotonic() + START_SECONDS
        while self.client.get(resources).status_code != 200:
            assert time.monotonic() < give_up, f"{resources} is not served"
            time.sleep(0.05)


def binary() -> Path | None:
    """Give the test server's program, or None where there is none."""
    path = Path(os.environ.get("KUBE_TESTSERVER", DEFAULT))
    return path if path.is_file() and os.access(path, os.X_OK) else None


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Start a server of this test run's own, and end it."""
    program = binary()
    if program is None:
        words = "no kube-testserver: set KUBE_TESTSERVER to the program; the API server did not judge the CRD"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    folder = tmp_path_factory.mktemp("apiserver")
    kubeconfig = folder / "kubeconfig"
    command = [str(program), "--data-dir", str(folder / "data"), "--kubeconfig", str(kubeconfig)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield _connect(kubeconfig, process, folder / "log")
        finally:
            process.terminate()


def _connect(kubeconfig: Path, process: subprocess.Popen[bytes], log: Path) -> ApiServer:
    give_up = time.monotonic() + START_SECONDS
    while not kubeconfig.exists() or not kubeconfig.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.05)
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    token = next(user["user"]["token"] for user in config["users"] if user["name"] == "admin")
    headers = {"Authorization": f"Bearer {token}"}
    # The server makes its own certificate for 127.0.0.1 at every start; there is nothing to verify it by.
    client = httpx.Client(base_url=cluster["server"], headers=headers, verify=False, timeout=30, trust_env=False)
    return ApiServer(kubeconfig, client)
