"""The Kubernetes API on a real server: what is asked, what comes back, and what each kind of trouble is called."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.kubernetes_api import JOB, LEASE, POD, SERVICE, Kind, KubernetesApi, Object, Taken
from specs.errors import Stalled, Transient
from tests.support.apiserver import ApiServer, free_port

_NUMBERS = itertools.count()
Faults = Callable[[list[dict[str, Any]]], None]


class Bench:
    """A namespace of its own, and a connection as the operator that remembers what it asked."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.namespace = f"api-{next(_NUMBERS)}"
        self.asked: list[tuple[str, str, int]] = []
        path = str(server.kubeconfig_of("operator"))
        self.api = KubernetesApi.connect(kubeconfig=path, counted=lambda *asked: self.asked.append(asked))

    def service(self, name: str = "one", port: int = 80, labels: dict[str, str] | None = None) -> Object:
        """Give a small manifest."""
        metadata: Object = {"name": name, "namespace": self.namespace} | ({"labels": labels} if labels else {})
        return {"metadata": metadata, "spec": {"ports": [{"port": port, "protocol": "TCP"}]}}

    def live(self, name: str = "one", kind: Kind = SERVICE) -> Any:
        """Give an object as somebody else sees it."""
        return self.server.find(kind.path(self.namespace, name))

    def others(self, name: str = "one", **spec: Any) -> Any:
        """Apply a service as somebody else."""
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
        answer = self.server.apply(SERVICE.path(self.namespace, name), body, "somebody")
        assert answer.is_success, answer.text
        return answer.json()


@pytest.fixture
def bench(api_server: ApiServer) -> Bench:
    """A namespace of its own on the shared server, which answers for all kinds by now."""
    made = Bench(api_server)
    for kind in (SERVICE, POD, JOB, LEASE):
        api_server.items(kind.path(made.namespace))
    return made


@pytest.fixture
def faults(api_server: ApiServer) -> Iterator[Faults]:
    """Set faults of the shared server, which is well again afterwards."""
    api_server.clear_faults()
    yield api_server.faults
    api_server.clear_faults()


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "part", "path"),
    [
        pytest.param(JOB, "a", "b", "", "/apis/batch/v1/namespaces/a/jobs/b", id="object"),
        pytest.param(POD, "a", "", "", "/api/v1/namespaces/a/pods", id="core-list"),
        pytest.param(JOB, "", "", "", "/apis/batch/v1/jobs", id="all-namespaces"),
        pytest.param(JOB, "a", "b", "status", "/apis/batch/v1/namespaces/a/jobs/b/status", id="subresource"),
    ],
)
def test_paths(kind: Kind, namespace: str, name: str, part: str, path: str) -> None:
    """Paths are those of the API: the core group has no name."""
    assert kind.path(namespace, name, part) == path


def test_a_missing_object_is_none(bench: Bench) -> None:
    """What is not there is None, and no trouble; the counter hears of it."""
    assert bench.api.get(SERVICE, bench.namespace, "one") is None
    assert bench.asked == [("get", "services", 404)]


def test_applying_twice_changes_nothing(bench: Bench) -> None:
    """The second apply of the same manifest leaves even the version as it was."""
    first = bench.api.apply(SERVICE, bench.service())
    second = bench.api.apply(SERVICE, bench.service())
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert bench.live()["spec"]["ports"][0]["port"] == 80
    assert [entry["manager"] for entry in bench.live()["metadata"]["managedFields"]] == ["trunkline"]


def test_foreign_fields_are_taken_unless_forced(bench: Bench) -> None:
    """A field that somebody else set to another value is theirs; by force it becomes ours."""
    before = bench.others(type="NodePort")
    manifest = bench.service()
    manifest["spec"]["type"] = "ClusterIP"
    with pytest.raises(Taken, match="somebody") as caught:
        bench.api.apply(SERVICE, manifest)
    assert caught.value.reason == "Conflict"
    assert bench.live()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    bench.api.apply(SERVICE, manifest, force=True)
    assert bench.live()["spec"]["type"] == "ClusterIP"


def test_unknown_fields_are_refused(bench: Bench) -> None:
    """A manifest with a field that the kind does not have is refused by name, and nothing is made."""
    manifest = bench.service()
    manifest["spec"]["prots"] = []
    for ask in (bench.api.apply, bench.api.create):
        with pytest.raises(Stalled, match="prots") as caught:
            ask(SERVICE, manifest)
        assert caught.value.reason == "KubernetesRefused"
    assert bench.live() is None


def test_creating_tells_first_from_second(bench: Bench) -> None:
    """Who comes second learns it, and changes nothing."""
    assert bench.api.create(SERVICE, bench.service())
    assert not bench.api.create(SERVICE, bench.service(port=81))
    assert bench.live()["spec"]["ports"][0]["port"] == 80
    assert bench.asked == [("create", "services", 201), ("create", "services", 409)]


def test_of_many_creators_one_wins(bench: Bench) -> None:
    """Threads share one connection; of those that create at once exactly one did it."""
    barrier, won = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        won.append(bench.api.create(SERVICE, bench.service()))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]


def test_replacing_needs_the_newest_version(bench: Bench) -> None:
    """A version that moved on is Transient, and what was written since stays."""
    found = bench.api.apply(SERVICE, bench.service())
    moved = bench.api.apply(SERVICE, bench.service(port=81))
    found["spec"]["ports"][0]["port"] = 82
    with pytest.raises(Transient) as caught:
        bench.api.replace(SERVICE, found)
    assert caught.value.reason == "KubernetesConflict"
    assert bench.live()["spec"]["ports"][0]["port"] == 81
    moved["spec"]["ports"][0]["port"] = 83
    assert bench.api.replace(SERVICE, moved)["spec"]["ports"][0]["port"] == 83


def test_a_uid_is_a_condition_of_applying(bench: Bench) -> None:
    """An apply for an object that was made anew meanwhile, or is gone, touches and makes nothing."""
    bench.api.apply(SERVICE, bench.service())
    stale = bench.service(port=81)
    stale["metadata"]["uid"] = "00000000-0000-4000-8000-000000000001"
    for _ in range(2):
        with pytest.raises((Transient, Stalled)):
            bench.api.apply(SERVICE, stale, force=True)
        assert bench.live() is None or bench.live()["spec"]["ports"][0]["port"] == 80
        bench.server.delete(SERVICE.path(bench.namespace, "one"))
    assert bench.live() is None


def test_deleting_is_for_one_object(bench: Bench) -> None:
    """The object with that uid goes; another of its name, or none, is no trouble and stays."""
    uid = bench.api.apply(SERVICE, bench.service())["metadata"]["uid"]
    bench.api.delete(SERVICE, bench.namespace, "one", uid="00000000-0000-4000-8000-000000000001")
    assert bench.live()["metadata"]["uid"] == uid
    bench.api.delete(SERVICE, bench.namespace, "one", uid=uid)
    assert bench.live() is None
    bench.api.delete(SERVICE, bench.namespace, "one", uid=uid)
    bench.api.delete(SERVICE, bench.namespace, "one")


def test_lists_are_chosen_by_labels_and_namespace(bench: Bench) -> None:
    """All labels must fit; without a namespace those of all namespaces are given."""
    for name, labels in (("a", {"x": bench.namespace, "y": "1"}), ("b", {"x": bench.namespace}), ("c", {})):
        bench.api.apply(SERVICE, bench.service(name, labels=labels))
    both = {"x": bench.namespace, "y": "1"}
    assert [o["metadata"]["name"] for o in bench.api.list(SERVICE, bench.namespace, labels=both)] == ["a"]
    some = bench.api.list(SERVICE, labels={"x": bench.namespace})
    assert [o["metadata"]["name"] for o in some] == ["a", "b"]
    found = bench.api.names(SERVICE, bench.namespace)
    assert [metadata["name"] for metadata in found] == ["a", "b", "c"]
    assert found[0]["labels"] == both


def test_long_lists_come_in_pages(bench: Bench) -> None:
    """More objects than fit a page are all given, each once; an unanswered page is an error, not a short list."""
    names = [f"s-{number:03}" for number in range(503)]
    for name in names:
        made = {"apiVersion": "v1", "kind": "Service"} | bench.service(name)
        bench.server.create(SERVICE.path(bench.namespace), made)
    assert [o["metadata"]["name"] for o in bench.api.list(SERVICE, bench.namespace)] == names
    assert bench.asked == [("list", "services", 200)] * 2


def test_status_is_a_part_of_its_own(bench: Bench) -> None:
    """Applying to the status changes nothing else."""
    bench.api.apply(SERVICE, bench.service())
    given = {"conditions": [{"type": "A", "status": "True", "reason": "B", "message": "",
                             "lastTransitionTime": "2026-01-01T00:00:00Z"}]}  # fmt: skip
    metadata = {"name": "one", "namespace": bench.namespace}
    bench.api.apply(SERVICE, {"metadata": metadata, "spec": {"ports": [{"port": 99}]}, "status": given}, status=True)
    assert bench.live()["status"]["conditions"][0]["type"] == "A"
    assert bench.live()["spec"]["ports"][0]["port"] == 80


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        pytest.param({"status": 409}, Transient, "KubernetesConflict", id="409"),
        pytest.param({"status": 410}, Transient, "KubernetesUnavailable", id="410"),
        pytest.param({"status": 429}, Transient, "KubernetesUnavailable", id="429"),
        pytest.param({"status": 500}, Transient, "KubernetesUnavailable", id="500"),
        pytest.param({"status": 503}, Transient, "KubernetesUnavailable", id="503"),
        pytest.param({"drop": True}, Transient, "KubernetesUnavailable", id="no-answer"),
        pytest.param({"status": 401}, Stalled, "KubernetesForbidden", id="401"),
        pytest.param({"status": 403}, Stalled, "KubernetesForbidden", id="403"),
        pytest.param({"status": 400}, Stalled, "KubernetesRefused", id="400"),
        pytest.param({"status": 422}, Stalled, "KubernetesRefused", id="422"),
    ],
)
def test_trouble_has_its_name(
    bench: Bench, faults: Faults, fault: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    """Each failure says whether waiting helps, and what was asked, for reading and writing alike; then all is well."""
    asks = (
        lambda: bench.api.get(SERVICE, bench.namespace, "one"),
        lambda: bench.api.list(SERVICE, bench.namespace),
        lambda: bench.api.apply(SERVICE, bench.service()),
        lambda: bench.api.create(SERVICE, bench.service("two")),
    )
    faults([{"method": "", "path": f"/namespaces/{bench.namespace}/services", "count": -1, **fault}])
    for ask in asks:
        with pytest.raises(kind) as caught:
            ask()
        assert caught.value.reason == reason  # type: ignore[attr-defined]
        assert f"/namespaces/{bench.namespace}/services" in str(caught.value)
    assert [code for _, _, code in bench.asked] == [fault.get("status", 0)] * 4
    faults([])
    for ask in asks:
        ask()


def test_a_lost_answer_is_found_on_looking_again(bench: Bench, faults: Faults) -> None:
    """An effect whose answer was lost happened; asking again is harmless."""
    faults([{"method": "POST", "path": f"/namespaces/{bench.namespace}/", "drop": True, "after": True, "count": 1}])
    with pytest.raises(Transient):
        bench.api.create(SERVICE, bench.service())
    assert not bench.api.create(SERVICE, bench.service())
    assert bench.api.get(SERVICE, bench.namespace, "one") is not None


def test_an_unknown_kind_is_refused(bench: Bench) -> None:
    """A kind that the server does not have is an administrator's to mend; only a missing object is None."""
    with pytest.raises(Stalled) as caught:
        bench.api.list(Kind("trunkline.dev/v9", "Nothing", "nothings"), bench.namespace)
    assert caught.value.reason == "KubernetesRefused"


def test_kinds_that_a_cluster_may_lack_are_asked_for_once(bench: Bench, faults: Faults) -> None:
    """Yes is remembered, and no for a while; trouble is no answer, and nothing is remembered of it."""
    here, absent = Kind("batch/v1", "Job", "jobs"), Kind("trunkline.dev/v9", "Nothing", "nothings")
    faults([{"method": "GET", "path": "^/apis/batch/v1$", "status": 500, "count": 1}])
    with pytest.raises(Transient):
        bench.api.offers(here)
    for _ in range(2):
        assert bench.api.offers(here)
        assert not bench.api.offers(absent)
        assert not bench.api.offers(Kind("batch/v1", "Nothing", "nothings"))
    assert [asked[:2] for asked in bench.asked] == [("get", "apis")] * 4


def test_a_server_that_is_not_there_is_waited_for(bench: Bench, tmp_path: Path) -> None:
    """A refused connection is Transient and is counted as no answer."""
    config = yaml.safe_load(bench.server.kubeconfig_of("operator").read_text())
    for cluster in config["clusters"]:
        cluster["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    api = KubernetesApi.connect(kubeconfig=str(path), counted=lambda *asked: bench.asked.append(asked))
    with pytest.raises(Transient, match="does not answer") as caught:
        api.get(SERVICE, "a", "b")
    assert caught.value.reason == "KubernetesUnavailable"
    assert bench.asked == [("get", "services", 0)]


def test_nowhere_to_connect_to_says_what_to_do(tmp_path: Path) -> None:
    """Without a cluster the way to name one is told."""
    with pytest.raises(Stalled, match="KUBECONFIG") as caught:
        KubernetesApi.connect(kubeconfig=str(tmp_path / "missing"))
    assert caught.value.reason == "NoCluster"
