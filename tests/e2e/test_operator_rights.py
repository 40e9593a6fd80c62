"""The operator has the rights it uses, and uses the rights it has."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import RBAC, Cluster
from tests.support.kserve_hands import playing_kserve

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]

KSERVES = "/apis/serving.kserve.io/v1beta1/inferenceservices"
METHODS = {
    "get": ("GET",), "list": ("GET",), "watch": ("WATCH",), "create": ("POST", "PATCH"), "update": ("PUT",),
    "patch": ("PATCH",), "delete": ("DELETE",),
}  # fmt: skip
"""Verbs of Roles as requests; applying what is not there needs ``create``."""
NOT_IN_THE_STORY = {("jobs", "patch")}
"""Orphans are adopted with it, and what can never work is kept from being collected: tests/adapters tells of both."""

ABSENT = {"trainjobs", "workloads", "httproutes"}
"""What this cluster does not have: tests/adapters tells of these too."""


def granted() -> set[tuple[str, str]]:
    """Give every right as resource and verb."""
    roles = [role for role in yaml.safe_load_all(RBAC.read_text()) if role]
    return {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(cluster: Cluster) -> set[tuple[str, str]]:
    """Give every resource and method that the operator asked for."""
    found = set()
    for asked in cluster.api.requests("operator"):
        _, method, path = asked.split()
        parts = path.partition("?")[0].strip("/").split("/")
        status = parts[-1] == "status"
        resource = next((part for part in reversed(parts[:-1] if status else parts) if part in RESOURCES), "")
        found.add((f"{resource}/status" if status else resource, method))
    return found


def behind_kserve(cluster: Cluster) -> None:
    """Let git ask for KServe and back again: each takes over once its real servers answer, and then the other goes."""
    person = cluster.person
    person.change(("replicas: 2", "replicas: 1, backend: KServe"))
    cluster.until("KServe serves alone", lambda: cluster.serves(1) and not cluster.objects("deployments"))
    url = cluster.status().serving
    assert url is not None
    assert url.url.startswith("http://kserve-digits.")
    person.change(("replicas: 1, backend: KServe", "replicas: 2"))
    cluster.until("a Deployment serves alone", lambda: cluster.serves(1) and not cluster.api.items(KSERVES))


RESOURCES = {resource.partition("/")[0] for resource, _ in granted()}


def test_every_right_is_used(tmp_path: Path) -> None:
    """A story with replicas, an autoscaler and network policies needs each right; one that is not needed must go.

    A right that is missing would have stopped the story, as it would any other here.
    """
    with Cluster(tmp_path, settings="network_policies = true") as cluster, playing_kserve(cluster):
        cluster.start()
        person = cluster.person
        person.write(person.spec(("serving: {export: onnx}", "serving: {export: onnx, replicas: 2}")))
        cluster.until("v1 is proposed", person.pulls)
        person.merge()
        cluster.until("v1 serves", lambda: cluster.serves(1))
        behind_kserve(cluster)
        scaling = "autoscaling: {minReplicas: 1, maxReplicas: 2}, resources: {requests: {cpu: 10m}}"
        person.change(("replicas: 2", scaling))
        cluster.until("it scales by itself", lambda: cluster.objects("horizontalpodautoscalers"))
        person.change((scaling, "replicas: 1"))
        cluster.until("it does not", lambda: not cluster.objects("horizontalpodautoscalers"))
        cluster.until("one needs no budget", lambda: not cluster.objects("poddisruptionbudgets"))
        person.change(("  serving: {export: onnx, replicas: 1}\n", ""))
        cluster.until("nothing serves", lambda: not cluster.objects("deployments"))
        time.sleep(cluster.resync)
        asked = used(cluster)
    unused = {
        (resource, verb)
        for resource, verb in granted() - NOT_IN_THE_STORY
        if resource not in ABSENT
        and not any((resource, method) in asked for method in METHODS[verb])
    }
    assert not unused
