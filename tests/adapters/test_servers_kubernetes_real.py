"""A canary in a cluster with real servers: the process kubelet runs pods, each with both versions, told by files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from adapters.kubernetes_api import KubernetesApi
from adapters.kubernetes_pods import Owner, PodStyle
from adapters.servers_kubernetes import KubernetesServers
from adapters.store import Store
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.serving_facts import Rejected, ServingState, ServingTarget, Share
from tests.support.apiserver import ROOT, OwnServer
from tests.support.kubelet import Kubelet
from tests.support.living import until

pytestmark = [pytest.mark.ml, pytest.mark.xdist_group("kubelet")]
onnx_models = pytest.importorskip("tests.support.onnx_models")
KEY = ModelKey("default", "digits")


class Room:
    """A cluster in which v1 serves."""

    def __init__(self, server: OwnServer, kubelet: Kubelet, folder: Path) -> None:
        self.kubelet = kubelet
        self.store = Store(f"file://{folder / 'store'}")
        style = PodStyle("serve:1", (sys.executable, "-m", "workloads.serve"), "serve", self.store.url)
        model = yaml.safe_load((ROOT / "tests/specs/smallest.yaml").read_text())
        model["metadata"] = {"name": KEY.name, "namespace": KEY.namespace}
        made = server.create(f"/apis/trunkline.dev/v1alpha1/namespaces/{KEY.namespace}/modelspecs", model)
        owner = Owner(KEY, made["metadata"]["uid"])
        api = KubernetesApi.connect(kubeconfig=str(server.kubeconfig_of("operator")))
        self.servers = KubernetesServers(api, lambda key: owner, style, network_policies=False)
        self.http = httpx.Client(trust_env=False, timeout=20)

    def target(self, version: int) -> ServingTarget:
        """Publish a version, other weights each, and give it as a target."""
        made = onnx_models.publish(self.store, onnx_models.classifier(version))
        return ServingTarget(serving_name(*KEY), version, made.run, made.weights, made.file)

    def state(self) -> ServingState:
        """Give what the operator sees."""
        found = self.servers.state(serving_name(*KEY))
        assert found is not None
        return found

    def until(self, true: Callable[[ServingState], bool]) -> ServingState:
        """Wait until what the operator sees is so."""
        until(lambda: true(self.state()), 60)
        return self.state()

    def answers(self, count: int = 1) -> Counter[str]:
        """Ask through the Service; count which versions answered. None may fail."""
        url = f"{self.kubelet.url(KEY.namespace, 'serve-digits')}/models/{serving_name(*KEY)}/predict"
        heard: Counter[str] = Counter()
        for _ in range(count):
            answer = self.http.post(url, content=onnx_models.picture(), headers={"Content-Type": "image/png"})
            assert answer.status_code == 200, answer.text
            heard[str(answer.json()["version"])] += 1
        return heard


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Give a cluster of this test's own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    with OwnServer(tmp_path / "api") as server:
        server.install_modelspecs()
        with Kubelet(server, tmp_path / "pods", environment=environment) as kubelet:
            yield Room(server, kubelet, tmp_path)


def test_a_canary_walks_through_a_cluster(room: Room) -> None:
    """Put beside, given shares without a restart, promoted; one that cannot be loaded is blamed, and v2 serves on."""
    one, two = room.target(1), room.target(2)
    room.servers.roll_out(one)
    room.until(lambda state: state.ready)
    assert room.answers(3) == {"1": 3}

    room.servers.roll_out(replace(two, share=Share(0)))
    room.until(lambda state: state.canary is not None and state.canary.ready)
    assert room.answers(10) == {"1": 10}
    pods = room.kubelet.pods(KEY.namespace)
    room.servers.roll_out(replace(two, share=Share(1, weight=50)))
    until(lambda: set(room.answers(10)) == {"1", "2"}, 30)
    room.servers.roll_out(replace(two, share=Share(2, weight=100)))
    until(lambda: room.answers(5) == {"2": 5}, 30)
    assert room.kubelet.pods(KEY.namespace) == pods, "another share restarts no pod"

    room.servers.roll_out(two)
    room.until(lambda state: state.ready and state.version == 2 and state.canary is None)
    assert room.answers(3) == {"2": 3}

    three = replace(two, version=3, file="sha256:" + "0" * 64)
    room.servers.roll_out(replace(three, share=Share(0)))
    failed = room.until(lambda state: state.failed_file is not None)
    assert (failed.version, failed.failed_file, failed.ready) == (2, three.file, True)
    assert failed.failure.startswith(f"CanaryFailed: {three.file}: ")
    why = Rejected(three.file, "it was never there")
    room.servers.roll_out(two, why)
    back = room.until(lambda state: state.canary is None and state.replicas == (1, 1))
    assert (back.version, back.rejected, room.answers(3)) == (2, why, {"2": 3})
