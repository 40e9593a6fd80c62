"""A release behind NVIDIA Triton, written down: a Deployment whose pods first make themselves a model repository.

An init container of our own server image fetches, verifies and tries the file, and writes what Triton then loads; so
nothing that no merged commit asked for ever gets into a repository. What goes with the pods (Service, policy, budget)
is what goes with our own server: the address of a model stays, whichever of the two answers there. Touches no API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from adapters.kubernetes_api import Object
from adapters.kubernetes_pods import STATE_FOLDER, Owner, PodStyle, child_metadata, pod_template
from adapters.kubernetes_serving import (
    BACKEND,
    DEFAULT_OPTIONS,
    FAILED_FILE,
    FAILURE,
    FILE,
    OPTIONS,
    PORT,
    REJECTED_FILE,
    REJECTION,
    REPLICAS,
    SERVE,
    SHAPE,
    STYLE,
    VERSION,
    Failure,
    autoscaler,
    beside_name,
    cut_name,
    pod_labels,
    replicas_of,
    service_name,
    threads,
)  # fmt: skip
from specs.digests import canonical, digest_of
from specs.placement import Placement, Shape
from specs.serving_facts import Rejected, ServingTarget

TRITON = "Triton"
"""``serving.backend``, and the value of the label that tells these pods from those of other backends."""
GRPC_PORT, METRICS_PORT = 8001, 8002
_MODELS = "/models"
_NOT_FOR_WRITING = ("cpu", "memory", "ephemeral-storage")
"""What the init container may use; a GPU it needs for nothing."""
_GRACE = 60
"""Seconds that Triton gets to finish what is in flight, and some room."""


@dataclass(frozen=True)
class TritonStyle:
    """What the settings say about all pods with Triton."""

    image: str
    """Of Triton; empty where nobody said which."""
    command: tuple[str, ...]
    """Starts Triton; its options follow."""
    repository: PodStyle
    """The init container, which writes the model repository."""

    @property
    def digest(self) -> str:
        """Name what the settings say; what is not set does not count."""
        repository = {name: value for name, value in asdict(self.repository).items() if value}
        return digest_of({"image": self.image, "command": list(self.command), "repository": repository})


def triton_name(model: str) -> str:
    """Name the Deployment, and its autoscaler: ``triton-<model>``, at most 63 characters."""
    return cut_name("triton", model)


def service_behind(deployment: str, model: str) -> str:
    """Name the Service that leads to a Deployment of a model; none leads to those that KServe makes by itself."""
    if deployment == triton_name(model):
        return service_name(model)
    return deployment if deployment in (service_name(model), beside_name(model)) else ""


def triton_labels(model: str) -> dict[str, str]:
    """Give the labels that tell a model's pods with Triton from all other pods; they never change."""
    return pod_labels(model) | {BACKEND: TRITON}


def triton_deployment(
    owner: Owner, style: TritonStyle, target: ServingTarget, *, failure: Failure | None, live: Object | None,
    rejected: Rejected | None = None,
) -> Object:  # fmt: skip
    """Give the Deployment that serves a target; arguments as those of ``kubernetes_serving.deployment``."""
    shape = target.shape
    identity = {VERSION: str(target.version), FILE: target.file}
    noted = {SHAPE: shape.digest, STYLE: style.digest}
    noted |= {} if shape.autoscaling else {REPLICAS: str(shape.replicas)}
    noted |= {FAILED_FILE: failure.file, FAILURE: failure.words} if failure else {}
    noted |= {REJECTED_FILE: rejected.file, REJECTION: rejected.failure} if rejected else {}
    noted |= {OPTIONS: target.options.digest} if target.options.digest != DEFAULT_OPTIONS else {}
    spec: Object = {
        "selector": {"matchLabels": triton_labels(owner.key.name)},
        "template": _template(owner, style, target, identity),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "minReadySeconds": 2, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
    }  # fmt: skip
    replicas = replicas_of(shape, live)
    spec |= {} if replicas is None else {"replicas": replicas}
    name = triton_name(owner.key.name)
    labels = {BACKEND: TRITON}
    return {"metadata": child_metadata(owner, name, SERVE, labels, identity | noted), "spec": spec}


def triton_autoscaler(owner: Owner, shape: Shape) -> Object | None:
    """Give the autoscaler of a shape, or None where it asks for none."""
    if shape.autoscaling is None:
        return None
    name = triton_name(owner.key.name)
    return {"metadata": child_metadata(owner, name, SERVE, {BACKEND: TRITON}), "spec": autoscaler(name, shape)}


def _template(owner: Owner, style: TritonStyle, target: ServingTarget, identity: Mapping[str, str]) -> Object:
    told: Object = {field: getattr(target, field) for field in ("name", "version", "run", "weights", "file")}
    placement = target.shape.placement
    writing = replace(placement, requests=_without_gpu(placement.requests), limits=_without_gpu(placement.limits))
    labels = child_metadata(owner, "", SERVE, {BACKEND: TRITON})["labels"]
    kind = "gpu" if _has_gpu(placement) else "cpu"
    template = pod_template(
        style.repository, writing, component=SERVE, labels=labels, annotations=identity,
        arguments=[
            "--repository", _MODELS, "--cache", f"{STATE_FOLDER}/cache", "--device", kind,
            *(["--build", target.build] if target.build else []), *threads(placement),
        ],
        environment={"TRUNKLINE_SERVING_TARGET": canonical(told).decode()}, container={}, restart="Always",
        grace_seconds=_GRACE,
    )  # fmt: skip
    pod = template["spec"]
    (writer,) = pod["containers"]
    writer["name"] = "repository"
    mount = {"name": "models", "mountPath": _MODELS}
    pod["volumes"].append({"name": "models", "emptyDir": {}})
    pod["initContainers"] = [{**writer, "volumeMounts": [*writer["volumeMounts"], mount]}]
    pod["containers"] = [_triton(style, placement, writer, mount)]
    pod["topologySpreadConstraints"] = [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": triton_labels(owner.key.name)},
    }]  # fmt: skip
    return template


def _triton(style: TritonStyle, placement: Placement, writer: Object, models: Object) -> Object:
    """Give the container that serves: it sees the repository and a folder for itself, and no store and no secret."""
    live, ready = ({"httpGet": {"path": f"/v2/health/{what}", "port": PORT}} for what in ("live", "ready"))
    # Not "http": that is what monitoring looks for, and it would find no counts of ours.
    ports = {"v2": PORT, "grpc": GRPC_PORT, "triton-metrics": METRICS_PORT}
    found: Object = {
        "name": SERVE, "image": style.image,
        "command": [
            *style.command, "--model-repository", _MODELS, "--strict-readiness", "true", "--exit-on-error", "true",
            "--model-control-mode", "none", "--http-address", "0.0.0.0",  # noqa: S104 - its pod's
            "--http-port", str(PORT), "--grpc-port", str(GRPC_PORT), "--metrics-port", str(METRICS_PORT),
            "--exit-timeout-secs", str(_GRACE - 10),
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  the pod's own
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        # It answers nobody before it has loaded its model, and large engines take minutes.
        "startupProbe": {**live, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 300},
        "livenessProbe": {**live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        # The cluster learns meanwhile to send requests elsewhere.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "volumeMounts": [{**models, "readOnly": True}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  likewise
        "securityContext": writer["securityContext"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    resources = {"requests": dict(placement.requests), "limits": dict(placement.limits)}
    if any(resources.values()):
        found["resources"] = {name: amounts for name, amounts in resources.items() if amounts}
    return found


def _has_gpu(placement: Placement) -> bool:
    return any(name.endswith("/gpu") or "/mig-" in name for name in (*placement.limits, *placement.requests))


def _without_gpu(amounts: Mapping[str, str]) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if name in _NOT_FOR_WRITING}
