"""A canary behind a Gateway, written down: an HTTPRoute whose weights split the requests between two Services.

Touches no API. The words are those of the Gateway API, and of its status: ``Accepted``, ``ResolvedRefs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.kubernetes_api import SERVICE, Kind, Object
from adapters.kubernetes_pods import Owner, child_metadata
from adapters.kubernetes_serving import BESIDE, PORT, SERVE, beside_name, companion, pod_labels, service_name
from adapters.logs import plain
from specs.names import serving_name
from specs.placement import Shape
from specs.serving import Gateway
from specs.serving_facts import Share

HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
MISSING = (
    "spec.serving.gateway needs the Gateway API, which this cluster does not have: install its CRDs (HTTPRoute in "
    "gateway.networking.k8s.io/v1), and something that implements it; or take spec.serving.gateway away"
)
_NEEDED = ("Accepted", "ResolvedRefs")
_WORDS = 300


def http_route(owner: Owner, gateway: Gateway, share: Share | None) -> Object:
    """Give the route of a model's requests; without a share all of them go to what serves."""
    name = service_name(owner.key.name)
    model = serving_name(*owner.key)
    paths = (f"/v2/models/{model}", f"/models/{model}")
    rule: Object = {"matches": [{"path": {"type": "PathPrefix", "value": path}} for path in paths]}
    main, beside = (_backend(each) for each in (name, beside_name(owner.key.name)))
    weight = share.weight if share is not None else 0
    rule["backendRefs"] = [{**main, "weight": 100 - weight}, *([{**beside, "weight": weight}] if weight else [])]
    if share is not None and share.mirror:
        copied = {"backendRef": beside, "percent": share.mirror}
        rule["filters"] = [{"type": "RequestMirror", "requestMirror": copied}]
    parents = [each.model_dump(by_alias=True, exclude_none=True) for each in gateway.parent_refs]
    spec: Object = {"parentRefs": parents, "rules": [rule]}
    spec |= {"hostnames": list(gateway.hostnames)} if gateway.hostnames else {}
    return {"metadata": child_metadata(owner, name, SERVE), "spec": spec}


def beside_companion(
    kind: Kind, owner: Owner, shape: Shape, *, network_policies: bool, grpc_port: int
) -> Object | None:
    """Give what the version beside what serves needs of a kind: as what serves, but about its own pods."""
    made = companion(kind, owner, shape, network_policies=network_policies, grpc_port=grpc_port)
    if made is None:
        return None
    labels = pod_labels(owner.key.name, BESIDE)
    own = {"selector": labels} if kind is SERVICE else {"podSelector": {"matchLabels": labels}}
    metadata = child_metadata(owner, beside_name(owner.key.name), BESIDE)
    return {"metadata": metadata, "spec": made["spec"] | own}


def trouble_of(route: Object | None) -> str:
    """Say why a route leads nowhere, in the words of who implements it; empty where every Gateway has taken it."""
    if route is None:
        return "its HTTPRoute is not there"
    told = (route.get("status") or {}).get("parents") or ()
    generation = int(route["metadata"].get("generation") or 0)
    for wanted in route["spec"].get("parentRefs") or ():
        name = str(wanted["name"])
        mine = [parent for parent in told if _is_about(parent.get("parentRef") or {}, wanted)]
        if not mine:
            return f"no Gateway {name} has taken its HTTPRoute yet"
        for parent in mine:
            conditions = {each["type"]: each for each in parent.get("conditions") or ()}
            for needed in _NEEDED:
                found: Mapping[str, Any] = conditions.get(needed, {})
                fresh = int(found.get("observedGeneration") or generation) >= generation
                if found.get("status") != "True" or not fresh:
                    why = f"{found.get('reason') or 'unknown'}: {found.get('message') or 'it does not say why'}"
                    words = plain(why, limit=_WORDS)
                    return f"Gateway {name} says of its HTTPRoute that {needed} is not True ({words})"
    return ""


def _is_about(ref: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(ref.get(field) == wanted.get(field) for field in ("name", "sectionName")) and (
        "namespace" not in wanted or ref.get("namespace") == wanted["namespace"]
    )


def _backend(name: str) -> Object:
    return {"kind": SERVICE.name, "name": name, "port": PORT}

