"""Where the servers of a model listen in a cluster, each replica by itself: a Service would hide all but one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.kubernetes_api import POD, KubernetesApi, Object
from adapters.kubernetes_pods import COMPONENT, selector
from adapters.kubernetes_serving import BESIDE, PORT, SERVE
from specs.modelspec import ModelKey
from specs.names import model_of_serving_name


def roots(api: KubernetesApi) -> Callable[[str], Sequence[str]]:
    """Give what finds the addresses of all pods that serve a model and live, by the name that it has there.

    A pod lives from its startup probe's success to its end, ready or not. Raises what the API raises.
    """

    def find(name: str) -> Sequence[str]:
        key = ModelKey(*model_of_serving_name(name))
        pods = api.list(POD, key.namespace, labels=selector(key))
        serving = (pod for pod in pods if pod["metadata"]["labels"].get(COMPONENT) in (SERVE, BESIDE))
        return sorted(f"http://{_address(pod)}:{PORT}" for pod in serving if _lives(pod))

    return find


def _lives(pod: Object) -> bool:
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or ()
    return bool(status.get("podIP")) and status.get("phase") == "Running" and any(c.get("started") for c in containers)


def _address(pod: Object) -> str:
    address = str(pod["status"]["podIP"])
    return f"[{address}]" if ":" in address else address
