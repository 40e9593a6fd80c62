"""A whole cluster for one test: API server, process kubelet, Argo CD's stand-in, git, forge, store, and the operator.

The operator is a process of its own, as in a pod; only the learning is pretended (tests/support/story_workload.py).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from adapters.store import Store
from specs.modelspec import ModelKey
from specs.status import ModelStatus
from tests.support.apiserver import DIES_WITH_US, ROOT, OwnServer, free_port
from tests.support.gitops_sync import Sync
from tests.support.kubelet import Kubelet
from tests.support.person import Person
from tests.support.place import KEY

RBAC = ROOT / "deploy/base/rbac.yaml"
IMAGE = "registry.example.com/trunkline/workloads@sha256:" + "a" * 64
SERVE_IMAGE = "registry.example.com/trunkline/serve@sha256:" + "b" * 64
KOPF = ("-m", "kopf", "run", "--all-namespaces", "--standalone", "-m", "controller.operator")
LEASES = "/leases"


class Cluster:
    """Everything but the operator runs from ``with Cluster(...)`` on; ``start`` starts the operator.

    ``rbac`` is the file with the operator's rights (None: it may do all). ``settings`` are lines for the table
    ``[kubernetes]`` of trunkline.toml. ``resync`` and ``poll`` are the operator's, in seconds.
    """

    def __init__(
        self, folder: Path, *, rbac: Path | None = RBAC, settings: str = "", resync: float = 2.0,
        namespace: str = "default", poll: float = 0.2,
    ) -> None:  # fmt: skip
        self.folder, self.namespace, self.resync, self.poll = folder, namespace, resync, poll
        self.log_folder = folder / "log"
        self.log_folder.mkdir(parents=True)
        self.settings = settings
        self.bindings = ""
        """Tables ``[[bindings]]`` of trunkline.toml, instead of the person's repository."""
        self._operators: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[int] = set()
        self._ports: dict[str, int] = {}
        self.store = Store(str(folder / "store"))
        self.person = Person(folder, self.store)
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1",
            "STORY_LOG": str(self.log_folder), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.api = OwnServer(folder / "api", rbac=rbac)
        try:
            self.api.install_modelspecs()
            self.kubelet = Kubelet(self.api, folder / "pods", environment=environment)
            self.sync = Sync(self.api, self.person.hub.path, namespace=namespace)
        except BaseException:
            self.api.stop()
            raise

    def __enter__(self) -> Self:
        self.kubelet.start()
        self.sync.start()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._operators):
            self.kill(name)
        try:
            self.sync.stop()
            self.kubelet.stop()
        finally:
            self.api.stop()

    # The operator.

    def start(self, name: str = "operator", *, command: tuple[str, ...] = KOPF, **environment: str) -> None:
        """Start an operator, with what it keeps in a folder of its own; no-op while it runs.

        ``command`` are the arguments of the Python interpreter, ``environment`` goes on top of the usual.
        """
        found = self._operators.get(name)
        if found is not None and found.poll() is None:
            return
        everything = {
            **os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(self.api.kubeconfig_of("operator")),
            "TRUNKLINE_CONFIG": str(self.settings_of(name)), "POD_NAMESPACE": "trunkline-system", "POD_NAME": name,
            "HOME": str(self.folder), "STORY_LOG": str(self.log_folder), **environment,
        }  # fmt: skip
        with (self.log_folder / f"{name}.log").open("ab") as words:
            self._operators[name] = subprocess.Popen(
                [*DIES_WITH_US, sys.executable, *command], cwd=ROOT, env=everything, stdout=words,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self, name: str = "operator") -> None:
        """End an operator by SIGKILL."""
        process = self._operators[name]
        self._killed.add(process.pid)
        process.kill()
        process.wait()

    def stop(self, name: str = "operator") -> int:
        """Ask an operator to end; give its exit code."""
        process = self._operators[name]
        self._killed.add(process.pid)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def restart(self, name: str = "operator") -> None:
        """Kill an operator, and start it anew."""
        self.kill(name)
        self.start(name)

    def forget(self, name: str) -> None:
        """Take an operator that ended for one that the test ended."""
        self._killed.add(self._operators[name].pid)

    def started(self, name: str = "operator") -> bool:
        """Whether an operator was ever started."""
        return name in self._operators

    def exit_code(self, name: str = "operator") -> int | None:
        """Give how an operator ended, None while it runs."""
        return self._operators[name].poll()

    def running(self, name: str = "operator") -> bool:
        """Whether an operator lives."""
        return self._operators[name].poll() is None

    def url(self, name: str = "operator") -> str:
        """Give the address of an operator's probes and metrics."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def log(self, name: str = "operator") -> str:
        """Give all that an operator said."""
        return (self.log_folder / f"{name}.log").read_text(errors="replace")

    # What can be seen.

    def model(self, key: ModelKey = KEY) -> dict[str, Any] | None:
        """Give the ModelSpec as the API server has it, or None."""
        path = f"/apis/trunkline.dev/v1alpha1/namespaces/{key.namespace}/modelspecs/{key.name}"
        found: dict[str, Any] | None = self.api.find(path)
        return found

    def status(self, key: ModelKey = KEY) -> ModelStatus:
        """Give a model's status; an empty one where it has none."""
        return ModelStatus.model_validate((self.model(key) or {}).get("status") or {})

    def reason(self, type_: str, key: ModelKey = KEY) -> str:
        """Give the reason of a condition, empty where there is none."""
        return next((c.reason for c in self.status(key).conditions if c.type == type_), "")

    def serves(self, version: int, key: ModelKey = KEY) -> bool:
        """Whether a release serves, and the status says that it is the one asked for."""
        serving = self.status(key).serving
        right = serving is not None and serving.version == version
        return right and self.reason("Serving", key) == "ReleaseServing"

    def objects(self, plural: str, **labels: str) -> list[dict[str, Any]]:
        """Give all objects of a kind, by its plural name, with these labels."""
        roots = {"jobs": "/apis/batch/v1", "deployments": "/apis/apps/v1", "poddisruptionbudgets": "/apis/policy/v1",
                 "horizontalpodautoscalers": "/apis/autoscaling/v2", "leases": "/apis/coordination.k8s.io/v1",
                 "networkpolicies": "/apis/networking.k8s.io/v1"}  # fmt: skip
        return self.api.items(f"{roots.get(plural, '/api/v1')}/{plural}", labels)

    def events(self) -> list[dict[str, Any]]:
        """Give all Events."""
        return self.objects("events")

    def jobs_run(self) -> Counter[str]:
        """Count how often each work order was really begun, by its job's name."""
        log = self.log_folder / "jobs"
        return Counter(log.read_text().splitlines() if log.exists() else [])

    def service_url(self, name: str = "serve-digits") -> str:
        """Give the address of a Service: requests go to pods that are ready."""
        return self.kubelet.url(self.namespace, name)

    def hold(self, kind: str) -> Path:
        """Let jobs of a kind (train, evaluate …) wait until the file that this gives is gone."""
        file = self.log_folder / f"hold-{kind}"
        file.touch()
        return file

    # Waiting.

    def until(self, what: str, true: Callable[[], object], seconds: float = 90) -> None:
        """Wait until something is so. The operators must live meanwhile, unless the test ended them."""
        give_up = time.monotonic() + seconds
        while True:
            try:
                if true():
                    return
            except httpx.HTTPError:
                pass  # the API server is away, or its answer got lost
            for name, process in self._operators.items():
                by_itself = process.poll() is not None and process.pid not in self._killed
                assert not by_itself, f"{name} ended by itself ({process.returncode}): {self.log(name)[-3000:]}"
            assert not self.kubelet.crashes, self.kubelet.crashes
            assert time.monotonic() < give_up, f"never: {what}; {self._situation()}"
            time.sleep(0.05)

    def settle(self, seconds: float = 60) -> None:
        """Wait until the operators write nothing to the API for a resync and a half."""
        give_up = time.monotonic() + seconds
        while True:
            before = self.writes()
            time.sleep(self.resync * 1.5)
            if self.writes() == before:
                return
            assert time.monotonic() < give_up, f"never settled: {self.writes()}; {self._situation()}"

    def writes(self) -> dict[str, int]:
        """Count the operators' writes since the last reset, but those to their lease."""
        return {asked: count for asked, count in self.api.writes("operator").items() if LEASES not in asked}

    def assert_quiet(self, resyncs: int = 3) -> None:
        """Show that for some resyncs nothing is written to API, git, forge and store, and no job begins."""
        self.api.reset_requests()
        before = self._outside()
        time.sleep(self.resync * resyncs + 0.5)
        assert not self.writes()
        assert self._outside() == before

    def end_state(self) -> dict[str, Any]:
        """Give everything that must not depend on what went wrong on the way."""
        found = self._outside()
        pulls = [(p.number, p.state, p.branch, p.title, p.head, len(p.comments)) for p in self.person.history()]
        names = {plural: sorted(o["metadata"]["name"] for o in self.objects(plural))
                 for plural in ("deployments", "services", "poddisruptionbudgets")}  # fmt: skip
        conditions = [(c.type, c.status, c.reason) for c in self.status().conditions]
        return {**found, "pulls": pulls, "objects": names, "status": conditions}

    def _outside(self) -> dict[str, Any]:
        records = [key for key in self.store.list() if not key.startswith("progress/")]
        pulls = len(self.person.history())
        return {"heads": self.person.hub.heads(), "records": sorted(records), "jobs": self.jobs_run(), "pulls": pulls}

    def _situation(self) -> str:
        said = "; ".join(f"{name}: {self.log(name)[-2000:]}" for name in self._operators)
        jobs = [(job["metadata"]["name"], job.get("status", {}).get("conditions")) for job in self.objects("jobs")]
        return f"status: {self.status().summary}; refused: {self.sync.refused}; jobs: {jobs}; {said}"

    def settings_of(self, name: str) -> Path:
        """Write an operator's settings; everything it keeps is its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        port = self._ports.setdefault(name, free_port())
        commands = {"workload_command": "tests.support.story_workload", "server_command": "workloads.serve"}
        lines = [f"{key} = {json.dumps([sys.executable, '-m', module])}" for key, module in commands.items()]
        (folder / "trunkline.toml").write_text("\n".join([
            "" if self.bindings else f'repository = "{self.person.hub.path}"',
            f'store = "{self.folder / "store"}"', 'state = "state"',
            "[kubernetes]", f"poll = {self.poll}", f'image = "{IMAGE}"', f'serve_image = "{SERVE_IMAGE}"', *lines,
            f"port = {port}", f"resync = {self.resync}", self.settings, self.bindings, "",
        ]))  # fmt: skip
        return folder / "trunkline.toml"
