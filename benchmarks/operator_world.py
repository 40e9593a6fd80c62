"""A cluster with thousands of released, serving models, for the operator's benchmark: API server, repository, store.

Deployments and Services are rendered by the product and written in bulk, as if an operator had rolled them out long
ago; the operator itself then looks at every model and writes every status. What was made is kept in a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from adapters.kubernetes_api import DEPLOYMENT, SERVICE, KubernetesApi
from adapters.kubernetes_pods import Owner
from adapters.kubernetes_serving import companion, deployment
from adapters.store import Store
from controller.cluster import styles
from controller.settings import load
from reconcilers.targets import target_of
from specs.modelspec import ModelKey, Spec
from specs.names import serving_name
from specs.records import (
    ArtifactRecord,
    DatasetManifest,
    EvaluationRecord,
    ExportRecord,
    FileEntry,
    RunRecord,
    artifact_key,
    dataset_key,
    evaluation_key,
    export_key,
    run_key,
)
from specs.ways import export_digest
from tests.support.apiserver import OwnServer, free_port
from tests.support.gitrepo import Hub, git

ROOT = Path(__file__).parents[1]
MODELS = "/apis/trunkline.dev/v1alpha1"
TEAMS = 20
RUNS = 50
"""Different trainings; models share them, as models that differ in their name only do."""
TOP1 = "metrics/accuracy_top1"


class World:
    """Everything that the operator needs, and those who play people, Argo CD and the Deployment controller."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.store = Store(str(folder / "store"))
        self.server = OwnServer(folder / "api")
        self.hub: Hub
        self.port = free_port()
        self.client = self.server.client

    @classmethod
    def ready(cls, folder: Path, count: int, say: Callable[[str], None]) -> World:
        """Give a world in which all models serve; makes it where it is not there yet."""
        synced, stamp = folder / f"synced-{count}", folder / f"ready-{count}"
        if not synced.exists():
            shutil.rmtree(folder, ignore_errors=True)
        world = cls(folder, count)
        world.hub = _hub(folder, fresh=not synced.exists())
        if not synced.exists():
            world._fill(say)
            synced.touch()
        if not stamp.exists():
            world._settle(say)
            stamp.touch()
        return world

    def team(self, number: int) -> str:
        """Give the namespace of a model."""
        return f"team-{number % TEAMS:02}"

    def name(self, number: int) -> str:
        """Give the name of a model."""
        return f"model-{number:05}"

    def path(self, number: int) -> str:
        """Give the API's path of a model."""
        return f"{MODELS}/namespaces/{self.team(number)}/modelspecs/{self.name(number)}"

    def text(self, number: int, *, epochs: int | None = None) -> str:
        """Give the file of a model; with ``epochs`` it asks for another training."""
        spec = self._spec(number % RUNS)
        if epochs is not None:
            spec["training"]["args"]["epochs"] = epochs
        metadata = {"name": self.name(number), "namespace": self.team(number)}
        kind = {"apiVersion": "trunkline.dev/v1alpha1", "kind": "ModelSpec", "metadata": metadata}
        return yaml.dump({**kind, "spec": spec}, sort_keys=False, Dumper=yaml.CSafeDumper)

    def merge(self, numbers: Iterable[int], *, epochs: int) -> None:
        """Change models on the tracked branch in one commit."""
        self.hub.commit({f"models/{self.team(n)}/{self.name(n)}.yaml": self.text(n, epochs=epochs) for n in numbers})

    def sync(self, numbers: Iterable[int], *, epochs: int | None = None, threads: int = 4) -> None:
        """Apply models as Argo CD would."""

        def apply(number: int) -> None:
            answer = self.server.apply(self.path(number), self.text(number, epochs=epochs), "argocd-controller")
            answer.raise_for_status()

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(apply, numbers))

    def writes(self) -> dict[str, int]:
        """Give the operator's writes since the last reset; its lease is how it lives, not what it does."""
        return {asked: n for asked, n in self.server.writes("operator").items() if "/leases" not in asked}

    def jobs(self) -> int:
        """Count Jobs."""
        answer = self.client.get("/apis/batch/v1/jobs", params={"limit": 1})
        page = answer.json()
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    def stop(self) -> None:
        """End the API server."""
        self.server.stop()

    def _spec(self, run: int) -> dict[str, Any]:
        train, golden = self._dataset("train"), self._dataset("golden")
        spec: dict[str, Any] = {
            "task": "classify",
            "data": {"train": {"uri": {"url": "store://train", "digest": train}},
                     "golden": {"uri": {"url": "store://golden", "digest": golden}}},
            "training": {"model": "yolo26n-cls.yaml", "args": {"epochs": 10, "imgsz": 32, "seed": run}},
            "exports": [{"name": "onnx", "format": "onnx", "args": {"dynamic": True}}],
            "gates": [{"name": "floor", "metric": TOP1, "min": 0.9}],
            "serving": {"export": "onnx", "replicas": 2},
        }  # fmt: skip
        inputs = Spec.model_validate(spec, by_alias=True, by_name=False).inputs_digest
        weights, file = (_digest(f"{part}-{run}") for part in ("weights", "file"))
        release = {"version": 1, "run": inputs, "weights": weights, "exports": {"onnx": file}}
        return {**spec, "release": release}

    def _dataset(self, name: str) -> str:
        entry = FileEntry(path=f"x/{name}.png", size=1, digest=_digest(name))
        made = DatasetManifest(task="classify", names=["x", "y"], images=1, class_counts={"x": 1}, files=[entry])
        return made.digest()

    def _fill(self, say: Callable[[str], None]) -> None:
        say(f"making a world of {self.count} models; this is done once")
        self._fill_store()
        self.server.install_modelspecs()
        files = {f"models/{self.team(n)}/{self.name(n)}.yaml": self.text(n) for n in range(self.count)}
        self.hub.commit(files, "All models")
        say(f"  {self.count} files are on the tracked branch")
        self.sync(range(self.count))
        say(f"  {self.count} ModelSpecs are in the API server")
        self._roll_out()
        say(f"  {self.count} Deployments and Services are there, all pods ready")

    def _settle(self, say: Callable[[str], None]) -> None:
        say("  the operator looks at each and writes its status …")
        with Operator(self, workers=8) as operator:
            operator.until(lambda: self._ready() >= self.count, say, "ready", self._ready)
            time.sleep(3)

    def _fill_store(self) -> None:
        for name in ("train", "golden"):
            entry = FileEntry(path=f"x/{name}.png", size=1, digest=_digest(name))
            made = DatasetManifest(task="classify", names=["x", "y"], images=1, class_counts={"x": 1}, files=[entry])
            self.store.create(dataset_key(made.digest()), made.encode())
        golden = self._dataset("golden")
        for run in range(RUNS):
            spec = Spec.model_validate(self._spec(run), by_alias=True, by_name=False)
            release = spec.release
            assert release is not None
            file, way = release.exports["onnx"], export_digest("onnx", {"dynamic": True}, 32)
            made_run = RunRecord(inputs_digest=spec.inputs_digest, inputs=spec.inputs(), status="Succeeded",
                                 model="team/model", commit="0" * 40, seed=0, weights=release.weights)  # fmt: skip
            self.store.create(run_key(spec.inputs_digest), made_run.encode())
            for subject in (release.weights, file):
                interval = {TOP1: {"0.95": (0.94, 0.96)}}
                measured = EvaluationRecord(subject=subject, golden=golden, n=10, values={TOP1: 0.95},
                                            intervals=interval, per_image=_digest(subject))  # fmt: skip
                self.store.create(evaluation_key(subject, golden), measured.encode())
            export = ExportRecord(weights=release.weights, export_digest=way, format="onnx", args={"dynamic": True},
                                  status="Succeeded", file=file, size=1, metrics={"latency/p95_ms": 1.0})  # fmt: skip
            self.store.create(export_key(release.weights, way), export.encode())
            artifact = ArtifactRecord(file=file, weights=release.weights, format="onnx", task="classify",
                                      names=["x", "y"], image_size=(32, 32), self_tests=[])  # fmt: skip
            self.store.create(artifact_key(file), artifact.encode())

    def _roll_out(self) -> None:
        """Write what the operator would have written for every release, and say that all pods are ready."""
        config = Operator(self).settings
        assert config.kubernetes is not None
        _, style = styles(config, config.kubernetes)
        api = KubernetesApi.connect(kubeconfig=str(_direct(self.folder / "api")))

        def make(number: int) -> None:
            key = ModelKey(self.team(number), self.name(number))
            owner = Owner(key, uids[key])
            spec = Spec.model_validate(self._spec(number % RUNS), by_alias=True, by_name=False)
            assert spec.release is not None
            assert spec.serving is not None
            target = target_of(serving_name(*key), spec.release, spec)
            service = companion(SERVICE, owner, target.shape, network_policies=False)
            assert service is not None
            api.apply(SERVICE, service)
            made = api.apply(DEPLOYMENT, deployment(owner, style, target, failure=None, live=None))
            wanted = target.shape.replicas
            status = {"observedGeneration": made["metadata"]["generation"], "replicas": wanted,
                      "updatedReplicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted}  # fmt: skip
            place = f"/apis/apps/v1/namespaces/{key.namespace}/deployments/{made['metadata']['name']}"
            self.server.merge(f"{place}/status", {"status": status})

        found = (each["metadata"] for each in self._pages(f"{MODELS}/modelspecs"))
        uids = {ModelKey(m["namespace"], m["name"]): m["uid"] for m in found}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, range(self.count)))

    def _pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Give all objects, in portions: all at once takes the test server longer than anybody waits."""
        token = ""
        while True:
            page = self.client.get(path, params={"limit": 200, "continue": token}, timeout=120).json()
            yield from page["items"]
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    def _ready(self) -> int:
        return Operator.reading(self.port, 'trunkline_conditions{status="True",type="Ready"}')


class Operator:
    """The operator as a process, until the end of the ``with`` block."""

    def __init__(self, world: World, *, workers: int = 8, resync: float = 600.0) -> None:
        self.world = world
        config = world.folder / "trunkline.toml"
        config.write_text(
            f"repository = {json.dumps(str(world.hub.path))}\nstore = {json.dumps(str(world.folder / 'store'))}\n"
            f"state = {json.dumps(str(world.folder / 'state'))}\n\n[kubernetes]\n"
            "image = 'trunkline/workloads@sha256:0'\n"
            f"serve_image = 'trunkline/serve@sha256:0'\nworkers = {workers}\nresync = {resync}\nport = {world.port}\n"
        )
        self.settings = load(world.folder, {"TRUNKLINE_CONFIG": str(config)})
        self._environment = {
            **os.environ, "DIRECT": str(_direct(world.folder / "api")),
            "KUBECONFIG": str(world.server.kubeconfig_of("operator")), "TRUNKLINE_CONFIG": str(config),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.operator_process"]
        self._log = (self.world.folder / "operator.log").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._log.close()

    def passes(self) -> int:
        """Give how many passes there were."""
        return self.reading(self.world.port, "trunkline_reconciles_total")

    @staticmethod
    def reading(port: int, name: str) -> int:
        """Sum up a metric; 0 while nobody answers."""
        try:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except httpx.HTTPError:
            return 0
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    def until(
        self, true: Callable[[], bool], say: Callable[[str], None], what: str = "", count: Callable[[], int] = lambda: 0
    ) -> None:
        """Wait until something is so."""
        told = time.monotonic()
        while not true():
            assert self.process.poll() is None, "the operator ended; see operator.log"
            if what and time.monotonic() - told > 15:
                told = time.monotonic()
                say(f"    {count()} {what}")
            time.sleep(0.5)

    def peak(self) -> float:
        """Give the most memory that the process ever had, MB."""
        return _status(self.process.pid, "VmHWM") / 1024

    def cpu(self) -> float:
        """Give the processor time that the process took so far, seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _direct(folder: Path) -> Path:
    """Give a kubeconfig of the API server itself, as the user ``operator``."""
    path = folder / "kubeconfig.direct"
    config = yaml.safe_load((folder / "kubeconfig.server").read_text())
    path.write_text(yaml.safe_dump(config | {"current-context": "operator"}))
    return path


def _status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _digest(name: str) -> str:
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def _hub(folder: Path, *, fresh: bool) -> Hub:
    if fresh:
        return Hub(folder)
    hub = Hub.__new__(Hub)
    hub.path, hub.clone, hub.branch = folder / "hub.git", folder / "clone", "main"
    git(hub.clone, "fetch", "-q", "origin")
    return hub
