"""The whole story through Jobs and Deployments: the shipped operator with the shipped rights, on a real API server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from adapters.kubernetes_api import KubernetesApi
from adapters.kubernetes_roots import roots
from adapters.traffic_scrape import ScrapedTraffic
from specs.traffic import Watch
from tests.support.cluster import Cluster
from tests.support.gitops_sync import Sync
from tests.support.onnx_models import picture
from tests.support.place import KEY

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose operator may do what deploy/base/rbac.yaml grants, and nothing else."""
    with Cluster(tmp_path) as made:
        yield made


class Asking(threading.Thread):
    """A client that keeps asking, and counts which versions answered."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._client, self._ended = httpx.Client(base_url=url, timeout=20, trust_env=False), threading.Event()
        self.failed: list[str] = []
        self.answers = 0

    def run(self) -> None:
        while not self._ended.wait(0.01):
            self.ask(picture(1))

    def ask(self, content: bytes) -> None:
        """Ask once."""
        try:
            answer = self._client.post("/models/digits/predict", content=content, headers={"Content-Type": "image/png"})
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if answer.is_success:
            self.answers += 1
        else:
            self.failed.append(f"{answer.status_code} {answer.text[:200]}")

    def finish(self) -> None:
        """Stop asking."""
        self._ended.set()
        self.join(30)
        self._client.close()


def _counted(cluster: Cluster, version: int) -> float:
    """Ask all pods that serve, as the operator does with its rights, how many requests a version has answered."""
    api = KubernetesApi.connect(kubeconfig=str(cluster.api.kubeconfig_of("operator")))
    traffic = ScrapedTraffic(roots(api), background=False)
    asked = Watch("digits", version, None, 3600.0, 1, bake=3600.0)
    traffic.look(asked)
    traffic.turn()
    found = traffic.look(asked)
    assert found is not None
    assert found.bake is not None, found
    return found.bake.requests


def test_train_gate_promote_serve_reexport_revert(cluster: Cluster) -> None:
    """What `make demo` tells on one machine, told in a cluster, without losing a request on the way."""
    person = cluster.person
    cluster.start()

    person.write(person.spec(("epochs: 8", "epochs: 1")))
    cluster.until("the gate stops it", lambda: cluster.reason("GatesPassed") == "GateFailed")
    assert not person.history()

    person.change(("epochs: 1", "epochs: 8"))
    cluster.until("v1 is proposed", person.pulls)
    person.merge()
    cluster.until("v1 serves", lambda: cluster.serves(1))
    asking = Asking(cluster.service_url())
    for seed in range(3):
        asking.ask(picture(seed))
    assert _counted(cluster, 1) == 3
    asking.start()

    person.change(("dynamic: true", "dynamic: true, opset: 17"))
    cluster.until("v2 is proposed", person.pulls)
    person.merge()
    cluster.until("v2 serves", lambda: cluster.serves(2))
    assert sum(name.startswith("train-") for name in cluster.jobs_run()) == 2  # a re-export trains nothing

    person.change(("epochs: 8", "epochs: 9"))
    cluster.until("v3 is proposed", person.pulls)
    merge = person.merge()
    cluster.until("v3 serves", lambda: cluster.serves(3))

    person.revert(merge)
    cluster.until("v2 serves again", lambda: cluster.serves(2))
    cluster.until("that is a decision", lambda: cluster.reason("Proposed") == "ReleaseReverted")
    asking.finish()
    assert asking.answers > 20
    assert not asking.failed, asking.failed[:5]

    person.change(("  serving: {export: onnx}\n", ""))
    cluster.until("nothing serves", lambda: cluster.reason("Serving") == "NothingToServe")
    kinds = ("deployments", "services")
    cluster.until("the cluster is empty of it", lambda: not [o for kind in kinds for o in cluster.objects(kind)])
    cluster.settle()
    cluster.assert_quiet()
    assert set(cluster.jobs_run().values()) == {1}
    reasons = {event["reason"] for event in cluster.events()}
    assert {"GateFailed", "PullRequestOpen", "ReleaseServing", "NothingToServe"} <= reasons


def test_deleting_the_model_takes_everything_along_and_needs_no_operator(cluster: Cluster) -> None:
    """No finalizer: with the operator gone, a pruned ModelSpec is gone at once, and the cluster takes its children."""
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("v1 is proposed", cluster.person.pulls)
    cluster.person.merge()
    cluster.until("v1 serves", lambda: cluster.serves(1))
    cluster.kill()
    cluster.person.write({"digits.yaml": None})
    cluster.until("it is pruned", lambda: cluster.model() is None)
    kinds = ("jobs", "deployments", "services", "pods")
    cluster.until("its children are gone", lambda: not [o for kind in kinds for o in cluster.objects(kind)])


def test_what_was_changed_in_the_cluster_is_refused(cluster: Cluster) -> None:
    """`kubectl edit` starts no job and moves no server; the condition and an event say so; git mends it."""
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("v1 is proposed", cluster.person.pulls)
    cluster.person.merge()
    cluster.until("v1 serves", lambda: cluster.serves(1))
    cluster.settle()
    cluster.sync.stop()
    jobs = cluster.jobs_run()
    path = f"/apis/trunkline.dev/v1alpha1/namespaces/{KEY.namespace}/modelspecs/{KEY.name}"
    cluster.api.merge(path, {"spec": {"training": {"args": {"epochs": 99}}}})
    cluster.until("it is refused", lambda: cluster.reason("SourceVerified") == "NotInGit")
    assert cluster.reason("Stalled") == "NotInGit"
    cluster.settle()
    assert cluster.jobs_run() == jobs
    assert cluster.serves(1)
    cluster.until("an event says so", lambda: any(e["reason"] == "NotInGit" for e in cluster.events()))
    cluster.api.merge(path, {"spec": {"training": {"args": {"epochs": 8}}}})
    cluster.until("all is well", lambda: cluster.reason("Ready") == "AsDesired")
    cluster.assert_quiet()


def test_an_older_version_waits_for_its_sync(cluster: Cluster) -> None:
    """While Argo CD is behind, nothing new begins, and the status says what is waited for."""
    cluster.start()
    cluster.person.write(cluster.person.spec(("epochs: 8", "epochs: 1")))
    cluster.until("the gate stops it", lambda: cluster.reason("GatesPassed") == "GateFailed")
    cluster.sync.stop()
    cluster.person.change(("epochs: 1", "epochs: 8"))
    cluster.until("it waits", lambda: cluster.reason("SourceVerified") == "AwaitingSync")
    assert sum(name.startswith("train-") for name in cluster.jobs_run()) == 1
    Sync(cluster.api, cluster.person.hub.path).once()
    cluster.until("v1 is proposed", cluster.person.pulls)


def test_status_can_be_thrown_away(cluster: Cluster) -> None:
    """Status is a cache: delete it, and one pass writes the same again, but for its times."""
    cluster.start()
    cluster.person.write(cluster.person.spec())
    cluster.until("v1 is proposed", cluster.person.pulls)
    cluster.person.merge()
    cluster.until("v1 serves", lambda: cluster.serves(1) and cluster.reason("Ready") == "AsDesired")
    cluster.settle()
    before = cluster.status()
    path = f"/apis/trunkline.dev/v1alpha1/namespaces/{KEY.namespace}/modelspecs/{KEY.name}/status"
    cluster.api.merge(path, {"status": None})
    cluster.until("it is back", lambda: cluster.reason("Ready") == "AsDesired")
    cluster.settle()
    after = cluster.status()

    def timeless(status: object) -> object:
        return [(c.type, c.status, c.reason, c.message, c.observed_generation) for c in status.conditions]  # type: ignore[attr-defined]

    assert timeless(after) == timeless(before)
    assert after.model_copy(update={"conditions": []}) == before.model_copy(update={"conditions": []})
