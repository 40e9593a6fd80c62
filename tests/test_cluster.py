"""The whole cluster that stories are told in, put together, and without an operator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.settings import load
from specs.digests import digest_of
from specs.modelspec import ModelKey
from specs.records import run_key
from specs.workorders import TrainOrder
from tests.support.cluster import Cluster
from tests.support.place import KEY

pytestmark = pytest.mark.xdist_group("kubelet")
OTHER = "from time import sleep; sleep(99)"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with nothing in it."""
    with Cluster(tmp_path_factory.mktemp("cluster") / "place", rbac=None, resync=0.1) as cluster:
        yield cluster


def test_what_a_person_writes_arrives(cluster: Cluster) -> None:
    """A spec on trunk becomes a ModelSpec, and follows its changes; what is removed goes, without an operator too."""
    cluster.person.write(cluster.person.spec())
    cluster.until("it is there", cluster.model)
    cluster.person.change(("epochs: 8,", "epochs: 9,"))
    cluster.until("it has changed", lambda: (cluster.model() or {})["spec"]["training"]["args"]["epochs"] == 9)
    assert cluster.status().observed_generation == -1
    assert not cluster.serves(1)
    cluster.person.write({"digits.yaml": None})
    cluster.until("it is gone", lambda: cluster.model() is None)


def test_work_orders_run_in_jobs(cluster: Cluster) -> None:
    """A Job with the settings' command and an order in its environment leaves its record in the store, and its name."""
    kubernetes = load(cluster.settings_of("operator").parent, {}).kubernetes
    assert kubernetes is not None
    inputs = {"data": digest_of("some data"), "args": {"epochs": 8}}
    order = TrainOrder(model=str(KEY), commit="0" * 40, inputs_digest=digest_of(inputs), inputs=inputs)
    main = {
        "name": "main", "image": kubernetes.image,
        "command": [*kubernetes.workload_command, "--store", str(cluster.folder / "store")],
        "env": [{"name": "TRUNKLINE_WORK_ORDER", "value": order.encode().decode()}],
    }  # fmt: skip
    template = {"spec": {"restartPolicy": "Never", "containers": [main]}}
    hold = cluster.hold("train")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": {"template": template}}
    cluster.api.create("/apis/batch/v1/namespaces/default/jobs", job)
    cluster.until("it runs", lambda: cluster.jobs_run() == {order.job: 1})
    assert cluster.store.read(run_key(order.inputs_digest)) is None
    hold.unlink()
    cluster.until("it is done", lambda: cluster.store.read(run_key(order.inputs_digest)))


def test_an_operator_that_ends_by_itself_is_noticed(cluster: Cluster) -> None:
    """Waiting for anything fails at once where an operator died, but not where the test ended it."""
    cluster.start("second", command=("-c", OTHER))
    assert cluster.running("second")
    cluster.kill("second")
    cluster.until("nothing much", lambda: not cluster.running("second"))
    cluster.start("third", command=("-c", "raise SystemExit('no such luck')"))
    with pytest.raises(AssertionError, match=r"third ended by itself \(1\): no such luck"):
        cluster.until("never", lambda: False)
    cluster.forget("third")


def test_writes_break_the_quiet(cluster: Cluster) -> None:
    """Quiet means no write of the operator's, its lease excepted, and nothing new in git, forge, store and jobs."""
    cluster.assert_quiet()
    operator = cluster.api.as_user("operator")
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": {}}
    leases = "/apis/coordination.k8s.io/v1/namespaces/trunkline-system/leases"
    cluster.api.reset_requests()
    operator.create(leases, lease)
    assert not cluster.writes()
    operator.delete("/apis/batch/v1/namespaces/default/jobs/none")
    assert cluster.writes() == {"operator DELETE /apis/batch/v1/namespaces/*/jobs": 1}
    assert cluster.reason("Ready", ModelKey("default", "nobody")) == ""
