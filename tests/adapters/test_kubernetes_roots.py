"""Where the replicas of a model listen, by what the API says of their pods: a real API server."""

from __future__ import annotations

from typing import Any

from adapters.kubernetes_api import KubernetesApi
from adapters.kubernetes_roots import roots
from tests.support.apiserver import ApiServer


def _pod(api: ApiServer, name: str, model: str, status: dict[str, Any], component: str = "serve") -> None:
    labels = {
        "app.kubernetes.io/managed-by": "trunkline", "app.kubernetes.io/component": component,
        "trunkline.dev/model": model,
    }  # fmt: skip
    spec = {"containers": [{"name": "main", "image": "none"}]}
    made = api.create("/api/v1/namespaces/default/pods", {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec,
    })  # fmt: skip
    api.merge(f"/api/v1/namespaces/default/pods/{made['metadata']['name']}/status", {"status": status})


def test_each_pod_that_lives_is_asked_by_itself(api_server: ApiServer) -> None:
    """Pods of the model whose server has begun to answer, ready or not, also those beside it; no others."""

    def lives(address: str, **more: Any) -> dict[str, Any]:
        container = {"name": "main", "image": "none", "imageID": "", "restartCount": 0, "ready": False}
        return {"phase": "Running", "podIP": address, "containerStatuses": [{**container, "started": True, **more}]}

    _pod(api_server, "first", "watched", lives("10.1.2.3", ready=True))
    _pod(api_server, "second", "watched", lives("fd00::7"))
    _pod(api_server, "starts", "watched", lives("10.1.2.4", started=False))
    _pod(api_server, "waits", "watched", {"phase": "Pending"})
    _pod(api_server, "ended", "watched", {**lives("10.1.2.5"), "phase": "Failed"})
    _pod(api_server, "other", "unwatched", lives("10.1.2.6"))
    _pod(api_server, "job", "watched", lives("10.1.2.7"), component="train")
    _pod(api_server, "beside", "watched", lives("10.1.2.8"), component="serve-canary")
    find = roots(KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig_of("operator"))))
    assert find("watched") == ["http://10.1.2.3:8000", "http://10.1.2.8:8000", "http://[fd00::7]:8000"]
    assert find("nobody") == []
