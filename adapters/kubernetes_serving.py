"""What a release needs in a cluster, written down: manifests from a target, and nothing else. Touches no API.

The Deployment's pod template holds only what a new copy of the server must differ in: other replicas or another
autoscaler never restart a pod. The same target always gives the same manifests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from adapters import kubernetes_canary
from adapters.kubernetes_api import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    FIELD_MANAGER,
    NETWORK_POLICY,
    SERVICE,
    Kind,
    Object,
)  # fmt: skip
from adapters.kubernetes_pods import COMPONENT, MODEL, Owner, PodStyle, child_metadata, pod_template
from specs.digests import canonical, digest_bytes, digest_of, hex_of
from specs.placement import Placement, Shape
from specs.serving import ServerOptions
from specs.serving_facts import Rejected, ServingTarget, Share

SERVE = "serve"
"""The component that all of this is."""
BESIDE = "serve-canary"
"""The component of a version beside what serves that has pods of its own."""
GATEWAY = "trunkline.dev/gateway"
"""On the Deployment of a model whose requests a Gateway splits."""
PORT = 8000
GRPC_PORT = 8001
"""Where the settings ask for it."""
BACKEND = "trunkline.dev/backend"
"""Label of what other backends than a plain Deployment of our server need; that one has none."""
VERSION = "trunkline.dev/version"
FILE = "trunkline.dev/file"
SHAPE = "trunkline.dev/shape"
REPLICAS = "trunkline.dev/replicas"
"""How many copies the shape asks for; absent where an autoscaler decides."""
STYLE = "trunkline.dev/style"
"""Digest of the settings that all servers share: another image, and all are rolled out anew."""
FAILED_FILE = "trunkline.dev/failed-file"
FAILURE = "trunkline.dev/failure"
REJECTED_FILE = "trunkline.dev/rejected-file"
REJECTION = "trunkline.dev/rejection"
"""Likewise, of a file that was given up for what live traffic said about it."""
OPTIONS = "trunkline.dev/options"
"""Digest of the server's options; absent where they are the default ones."""

BUILD = "trunkline.dev/build"
"""What servers make of the file for themselves; absent where they serve the file."""

DEFAULT_OPTIONS = ServerOptions().digest

COMPANIONS = (NETWORK_POLICY, SERVICE, DISRUPTION_BUDGET, AUTOSCALER)
"""All but the Deployment, which comes last: that it asks for a target says that the rest is there."""

_DRAIN_DELAY = 5
"""Seconds in which a stopping pod still answers, while the cluster learns to send requests elsewhere."""
_GRACE = _DRAIN_DELAY + 15
"""The drain delay, at most ten seconds for what is in flight, and some room."""
_CORES = re.compile(r"(\d+(?:\.\d+)?)(m?)")


@dataclass(frozen=True)
class Failure:
    """A file that was given up, and why; remembered on the Deployment that fell back from it."""

    file: str
    words: str


def service_name(model: str) -> str:
    """Name the Deployment and all that goes with it: ``serve-<model>``, at most 63 characters."""
    return cut_name("serve", model)


def beside_name(model: str) -> str:
    """Name what a version beside what serves has of its own: ``canary-<model>``, cut likewise.

    ``serve-<model>-canary`` would be that of a model named so.
    """
    return cut_name("canary", model)


def cut_name(what: str, model: str, longest: int = 63) -> str:
    """Name something of a model: ``<what>-<model>``; one that is too long ends with a digest of the model's name."""
    name = f"{what}-{model}"
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9].rstrip('-')}-{hex_of(digest_bytes(model.encode()))[:8]}"


def style_digest(style: PodStyle) -> str:
    """Name what the settings say about all servers. What is not set does not count: new settings restart nobody."""
    return digest_of({name: value for name, value in asdict(style).items() if value})


def pod_labels(model: str, component: str = SERVE) -> dict[str, str]:
    """Give the labels that tell a model's servers from all other pods; they never change."""
    return {MODEL: model, COMPONENT: component}


def companion(kind: Kind, owner: Owner, shape: Shape, *, network_policies: bool, grpc_port: int = 0) -> Object | None:
    """Give what a target needs of one of ``COMPANIONS``, or None where it must not be there."""
    selector = pod_labels(owner.key.name)
    if kind is SERVICE:
        ports: list[Object] = [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
        if grpc_port:  # gateways learn by appProtocol that this port speaks HTTP/2
            ports.append(
                {"name": "grpc", "port": grpc_port, "targetPort": grpc_port, "protocol": "TCP",
                 "appProtocol": "kubernetes.io/h2c"}
            )  # fmt: skip
        return _child(owner, {"selector": selector, "ports": ports})
    if kind is NETWORK_POLICY and network_policies:
        ingress = [{"ports": [{"port": port, "protocol": "TCP"} for port in (PORT, grpc_port) if port]}]
        pods = {"matchLabels": selector}
        return _child(owner, {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": ingress})
    if kind is DISRUPTION_BUDGET and (shape.autoscaling is not None or shape.replicas > 1):
        return _child(owner, {"maxUnavailable": 1, "selector": {"matchLabels": selector}})
    if kind is AUTOSCALER and shape.autoscaling is not None:
        return _child(owner, autoscaler(service_name(owner.key.name), shape))
    return None


def autoscaler(name: str, shape: Shape) -> Object:
    """Give what an autoscaler of the Deployment of that name is to do, by a shape that asks for one."""
    assert shape.autoscaling is not None  # noqa: S101 - for type checkers
    asked = shape.autoscaling
    goal = {"type": "Utilization", "averageUtilization": asked.target_cpu_utilization_percentage}
    deployment = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "name": name}
    return {
        "scaleTargetRef": deployment, "minReplicas": asked.min_replicas, "maxReplicas": asked.max_replicas,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": goal}}],
    }  # fmt: skip


def deployment(
    owner: Owner, style: PodStyle, target: ServingTarget, *, failure: Failure | None, live: Object | None,
    rejected: Rejected | None = None, canary: ServingTarget | None = None, now: float = 0.0,
) -> Object:  # fmt: skip
    """Give the Deployment that serves a target.

    ``failure`` and ``rejected`` are what it must remember; ``live`` is the Deployment that is there now, for its
    replicas and for how long ``canary``, which is put beside the target, has had its share; ``now`` is Unix time.
    """
    shape = target.shape
    identity = {VERSION: str(target.version), FILE: target.file}
    noted = {SHAPE: shape.digest, STYLE: style_digest(style)}
    noted |= {} if shape.autoscaling else {REPLICAS: str(shape.replicas)}
    noted |= {FAILED_FILE: failure.file, FAILURE: failure.words} if failure else {}
    noted |= {REJECTED_FILE: rejected.file, REJECTION: rejected.failure} if rejected else {}
    noted |= {BUILD: target.build} if target.build else {}
    noted |= {OPTIONS: target.options.digest} if target.options.digest != DEFAULT_OPTIONS else {}
    noted |= {GATEWAY: "true"} if shape.gateway is not None else {}
    if canary is not None:
        noted |= kubernetes_canary.standing(canary, kubernetes_canary.read(live) if live is not None else None, now)
    selector = pod_labels(owner.key.name)
    spec: Object = {
        "selector": {"matchLabels": selector},
        "template": server_template(owner, style, target, identity | kubernetes_canary.identity(canary), canary),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "minReadySeconds": 2, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
    }  # fmt: skip
    replicas = replicas_of(shape, live)
    spec |= {} if replicas is None else {"replicas": replicas}
    return _child(owner, spec, identity | noted)


def beside_deployment(owner: Owner, style: PodStyle, target: ServingTarget, live: Object | None, now: float) -> Object:
    """Give the Deployment of a version beside what serves that has pods of its own: as many as that has at least."""
    shape = target.shape
    least = shape.autoscaling.min_replicas if shape.autoscaling is not None else shape.replicas
    alone = replace(target, shape=replace(shape, replicas=least, autoscaling=None))
    made = deployment(owner, style, alone, failure=None, live=None)
    labels = child_metadata(owner, "", BESIDE)["labels"]
    made["spec"]["selector"] = {"matchLabels": pod_labels(owner.key.name, BESIDE)}
    made["spec"]["template"]["metadata"]["labels"] = labels
    (spread,) = made["spec"]["template"]["spec"]["topologySpreadConstraints"]
    spread["labelSelector"] = made["spec"]["selector"]
    known = kubernetes_canary.standing_of(live, VERSION, FILE) if live is not None else None
    notes = made["metadata"]["annotations"] | kubernetes_canary.standing(target, known, now)
    return {**made, "metadata": child_metadata(owner, beside_name(owner.key.name), BESIDE, annotations=notes)}


def replicas_of(shape: Shape, live: Object | None) -> int | None:
    """Say how many replicas to apply, None where that is the autoscaler's to say.

    To stop applying a number that is ours alone would remove it, which means 1: so it stays until somebody else has
    set another. With 0 replicas an autoscaler sleeps; it must be woken.
    """
    if shape.autoscaling is None:
        return shape.replicas
    if live is None:
        return None
    now = live["spec"].get("replicas")
    if now == 0:
        return shape.autoscaling.min_replicas
    if now is None or not owns_replicas(live):
        return None
    return min(max(int(now), shape.autoscaling.min_replicas), shape.autoscaling.max_replicas)


def owns_replicas(live: Object) -> bool:
    """Whether the number of replicas was last set by us, and by nobody else since."""
    owners = [
        entry["manager"]
        for entry in live["metadata"].get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return owners == [FIELD_MANAGER]


def share_map(owner: Owner, version: int, share: Share) -> Object:
    """Give the ConfigMap that tells servers the share of the version beside what they serve."""
    name = service_name(owner.key.name)
    return {"metadata": child_metadata(owner, name, SERVE), **kubernetes_canary.share_data(version, share)}


def server_template(
    owner: Owner, style: PodStyle, target: ServingTarget, identity: Mapping[str, str],
    canary: ServingTarget | None = None,
) -> Object:  # fmt: skip
    """Give the template of pods in which our server serves a target; ``identity`` are its annotations."""
    told: Object = {"name": target.name, **kubernetes_canary.told(target)}
    told |= {"canary": kubernetes_canary.told(canary)} if canary is not None else {}
    # No version stands by in a pod, so how long one would restarts none; nor does what is not asked for.
    options = target.options.model_copy(update={"standby": 0.0})
    told |= {"options": options.plain()} if options.digest != DEFAULT_OPTIONS else {}
    arguments = ["--state", "/var/lib/trunkline", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - its pod's
    arguments += ["--drain-delay", str(_DRAIN_DELAY), *threads(target.shape.placement)]
    arguments += ["--grpc-port", str(style.grpc_port)] if style.grpc_port else []
    template = pod_template(
        style, target.shape.placement, component=SERVE,
        labels=child_metadata(owner, "", SERVE)["labels"], annotations=identity, arguments=arguments,
        environment={kubernetes_canary.TARGET: canonical(told).decode()}, container=_container(style),
        restart="Always", grace_seconds=_GRACE,
    )  # fmt: skip
    template["spec"]["topologySpreadConstraints"] = [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pod_labels(owner.key.name)},
    }]  # fmt: skip
    if canary is not None:
        kubernetes_canary.put_into(template, service_name(owner.key.name))
    if options.labelling is not None:
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        mounts += [_kept(mount) for mount in mounts if mount["name"] == "store"]
    return template


def _kept(store: Object) -> Object:
    """Give the one folder of a store in a volume that a server may write to, where it keeps pictures for people."""
    return {"name": store["name"], "mountPath": f"{store['mountPath']}/kept", "subPath": "kept"}


def threads(placement: Placement) -> list[str]:
    """Let an inference use as many threads as the container gets cores: by itself it would count the node's."""
    match = _CORES.fullmatch(str(placement.limits.get("cpu", "")))
    if match is None:
        return []
    cores = float(match[1]) / (1000 if match[2] else 1)
    return ["--threads", str(max(1, math.ceil(cores)))]


def _container(style: PodStyle) -> Object:
    """Give ports and probes. The server lives before it has loaded its target, and is ready only after."""
    live, ready = ({"httpGet": {"path": f"/v2/health/{what}", "port": PORT}} for what in ("live", "ready"))
    grpc = [{"name": "grpc", "containerPort": style.grpc_port, "protocol": "TCP"}] if style.grpc_port else []
    return {
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}, *grpc],
        "startupProbe": {**live, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
    }  # fmt: skip


def _child(owner: Owner, spec: Object, annotations: Mapping[str, str] | None = None) -> Object:
    name = service_name(owner.key.name)
    return {"metadata": child_metadata(owner, name, SERVE, annotations=annotations or {}), "spec": spec}
