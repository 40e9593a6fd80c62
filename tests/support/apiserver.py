"""A real Kubernetes API for tests: the server that KUBE_TESTSERVER names, or any cluster that KUBECONFIG_E2E names.

Where there is neither, the tests that ask for one are skipped, and say so; in CI (variable ``CI``) they fail instead.
The server answers as three users: ``admin`` and ``viewer`` may do all, ``operator`` what the RBAC file grants.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.support.kubeconfig import connect

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT.parent / "shared" / "bin" / "kube-testserver"
START_SECONDS = 60
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/modelspecs.trunkline.dev"
MODELS = "/apis/trunkline.dev/v1alpha1/modelspecs"
BUILT_IN = ("/api/v1/pods", "/api/v1/services", "/apis/apps/v1/deployments", "/apis/batch/v1/jobs",
            "/apis/coordination.k8s.io/v1/leases")  # fmt: skip
"""What the server begins to serve one after the other, a moment after it answers."""
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Begins the command of what must not outlive a killed test run."""


class ApiServer:
    """A connection to an API server as ``admin``; with a kubeconfig for each user."""

    def __init__(self, kubeconfig: Path, client: httpx.Client, *, faulty: bool = True) -> None:
        self.kubeconfig, self.client = kubeconfig, client
        self._faulty = faulty

    def kubeconfig_of(self, user: str) -> Path:
        """Give a kubeconfig whose current context is a user's: admin, viewer or operator."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        if user not in {context["name"] for context in config["contexts"]}:
            pytest.skip(f"the cluster's kubeconfig has no context {user!r}")
        path = self.kubeconfig.with_name(f"{self.kubeconfig.name}.{user}")
        path.write_text(yaml.safe_dump(config | {"current-context": user}))
        return path

    def as_user(self, user: str) -> ApiServer:
        """Connect as another user."""
        kubeconfig = self.kubeconfig_of(user)
        return ApiServer(kubeconfig, connect(kubeconfig), faulty=self._faulty)

    def apply(self, path: str, manifest: str | dict[str, Any], manager: str = "tests") -> httpx.Response:
        """Apply a manifest on the server side, with strict field validation."""
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": "true"}
        return self._ask("PATCH", path, content=text.encode(), params=query, headers={"Content-Type": APPLY})

    def create(self, path: str, manifest: dict[str, Any]) -> Any:
        """Create an object, with strict field validation; give it."""
        return _good(self._ask("POST", path, json=manifest, params={"fieldValidation": "Strict"})).json()

    def merge(self, path: str, change: dict[str, Any]) -> Any:
        """Change an object by a JSON merge patch; give it."""
        return _good(self._ask("PATCH", path, json=change, headers={"Content-Type": MERGE})).json()

    def get(self, path: str, accept: str = "application/json") -> Any:
        """Give an object, or what else the server answers for it."""
        return _good(self._ask("GET", path, headers={"Accept": accept})).json()

    def find(self, path: str) -> Any:
        """Give an object, or None where there is none."""
        answer = self._ask("GET", path)
        return None if answer.status_code == 404 else _good(answer).json()

    def items(self, path: str, labels: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Give all objects below a path with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        return list(_good(self._ask("GET", path, params={"labelSelector": selector})).json()["items"])

    def delete(self, path: str, propagation: str = "Background") -> None:
        """Delete an object; no-op where there is none."""
        answer = self._ask("DELETE", path, params={"propagationPolicy": propagation})
        assert answer.status_code in (200, 202, 404), answer.text

    def install(self, crd: str, name: str, resources: str) -> None:
        """Apply a CustomResourceDefinition and wait until its resources are served."""
        answer = self.apply(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd)
        assert answer.status_code in (200, 201), answer.text
        give_up = time.monotonic() + START_SECONDS
        while self.client.get(resources).status_code != 200:
            assert time.monotonic() < give_up, f"{resources} is not served"
            time.sleep(0.05)

    def install_modelspecs(self) -> None:
        """Install our own CRD."""
        self.install((ROOT / "crds/modelspec.yaml").read_text(), CRD.rpartition("/")[2], MODELS)

    def faults(self, faults: list[dict[str, Any]]) -> None:
        """Set the faults that the server has from now on: see the README of kube-testserver. They meet every user."""
        _good(self._control().put("/testserver/faults", json=faults))

    def clear_faults(self) -> None:
        """Let the server be well again."""
        self.faults([])

    def requests(self, user: str = "") -> dict[str, int]:
        """Count requests since the last reset, by ``user METHOD path``; of one user only if asked."""
        counts: dict[str, int] = _good(self._control().get("/testserver/requests")).json() or {}
        return {asked: count for asked, count in counts.items() if asked.startswith(f"{user} " if user else "")}

    def writes(self, user: str) -> dict[str, int]:
        """Count the requests of a user that change something."""
        changing = ("POST", "PUT", "PATCH", "DELETE")
        return {asked: n for asked, n in self.requests(user).items() if asked.split()[1] in changing}

    def reset_requests(self) -> None:
        """Count from nought."""
        _good(self._control().delete("/testserver/requests"))

    def _ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Send a request; again while the server says that it has only just started."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            answer = self.client.request(method, path, **how)
            if answer.status_code != 429 or "initializing" not in answer.text or time.monotonic() > give_up:
                return answer
            time.sleep(0.05)

    def _control(self) -> httpx.Client:
        if not self._faulty:
            pytest.skip("faults and request counts need kube-testserver; this is another cluster")
        return self.client


class OwnServer(ApiServer):
    """A server of one test's own in ``folder``: it can be killed and started again, same data, same address.

    ``rbac`` is the file with the operator's Roles; without it the operator may do all. What cannot be watched there is
    mended by a gateway before it: see tests/support/watch_gateway.py.
    """

    def __init__(self, folder: Path, *, rbac: Path | None = None) -> None:
        self._program = needed()
        self._folder, self._rbac = folder, rbac
        self._process: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._open = folder / "open"
        self._has_models = False
        self._port = free_port()
        self.start()
        super().__init__(folder / "kubeconfig", connect(folder / "kubeconfig"))

    def start(self) -> None:
        """Start it, and wait until it answers; no-op while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        own = self._folder / "kubeconfig.server"
        own.unlink(missing_ok=True)
        command = [str(self._program), "--data-dir", str(self._folder / "data"), "--kubeconfig", str(own),
                   "--port", str(self._port), *(["--rbac", str(self._rbac)] if self._rbac else [])]  # fmt: skip
        self._process = self._begin_somehow(command, own)
        with connect(own) as direct:
            wanted = [*BUILT_IN, *([MODELS] if self._has_models else ())]
            serves = lambda: all(direct.get(path, params={"limit": 1}).is_success for path in wanted)  # noqa: E731
            self._await(serves, "apiserver.log", self._process)
        self._open.touch()
        if self._gateway is None:
            self._begin_gateway(own)

    def _begin_somehow(self, command: list[str], own: Path) -> subprocess.Popen[bytes]:
        """Start the server; again where a port that it chose by itself was taken meanwhile."""
        for _ in range(3):
            with suppress(pytest.fail.Exception):
                return self._begin(command, "apiserver.log", lambda: own.exists() and bool(own.read_text()))
        return self._begin(command, "apiserver.log", lambda: own.exists() and bool(own.read_text()))

    def _begin_gateway(self, own: Path) -> None:
        """Start what mends watches, and tell everybody its address."""
        port, certificates = free_port(), self._folder / "data/certs"
        command = [sys.executable, "-m", "tests.support.watch_gateway", "--port", str(port), "--upstream", str(own),
                   "--certificate", f"{certificates}/apiserver.crt", "--key", f"{certificates}/apiserver.key",
                   "--open", str(self._open)]  # fmt: skip
        self._gateway = self._begin(command, "gateway.log", lambda: _listens(port))
        config = own.read_text().replace(f"127.0.0.1:{self._port}", f"127.0.0.1:{port}")
        (self._folder / "kubeconfig").write_text(config)

    def _begin(self, command: list[str], log: str, ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
        with (self._folder / log).open("ab") as words:
            process = subprocess.Popen([*DIES_WITH_US, *command], stdout=words, stderr=words, cwd=ROOT)
        self._await(ready, log, process)
        return process

    def _await(self, ready: Callable[[], bool], log: str, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > give_up:
                process.kill()
                pytest.fail(f"{log}: {(self._folder / log).read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def install_modelspecs(self) -> None:
        """Install our own CRD; from then on an outage ends when it is served again."""
        super().install_modelspecs()
        self._has_models = True

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it."""
        self._end(signal.SIGTERM)
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait()
        self.client.close()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Be away meanwhile, and then back with all that was there."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._open.unlink(missing_ok=True)
        self._process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def binary() -> Path | None:
    """Give the test server's program, or None where there is none."""
    path = Path(os.environ.get("KUBE_TESTSERVER", DEFAULT))
    return path if path.is_file() and os.access(path, os.X_OK) else None


def needed() -> Path:
    """Give the test server's program; skip the test, or in CI fail it, where there is none."""
    program = binary()
    if program is None:
        words = "no kube-testserver: set KUBE_TESTSERVER to the program; no API server took part in this test"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return program


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Give a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Start a server for this test run, and end it; or connect to the cluster that KUBECONFIG_E2E names."""
    other = os.environ.get("KUBECONFIG_E2E")
    if other:
        copy = tmp_path_factory.mktemp("cluster") / "kubeconfig"
        copy.write_text(Path(other).read_text())
        yield ApiServer(copy, connect(copy), faulty=False)
    else:
        with OwnServer(tmp_path_factory.mktemp("apiserver")) as server:
            yield server


def _good(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, f"{answer.request.method} {answer.request.url.path}: {answer.text}"
    return answer
