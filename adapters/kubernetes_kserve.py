"""A release as KServe's InferenceService, and what must be remembered beside it, written down. Touches no API.

KServe copies labels and annotations of an InferenceService into the pods' template, so whatever is written there makes
a new revision. What changes without one (shares, verdicts, digests) lives in a ConfigMap of the same name therefore;
it is written first, and the InferenceService carries it out. KServe's own defaults are never compared with: whether
the template is ours says a digest inside the template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from adapters.kubernetes_api import Object
from adapters.kubernetes_pods import USER, Owner, PodStyle, child_metadata
from adapters.kubernetes_serving import BACKEND, DEFAULT_OPTIONS, FILE, SERVE, VERSION, cut_name, pod_labels
from adapters.kubernetes_serving import server_template as our_pods
from specs.digests import digest_of
from specs.placement import Shape
from specs.serving_facts import Rejected, ServingTarget

KSERVE = "KServe"
"""``serving.backend``, and the value of the label that tells these pods from those of other backends."""
TEMPLATE = "trunkline.dev/template"
"""Digest of all that a new revision would be made for."""
KNATIVE, STANDARD = "Knative", "Standard"
"""How KServe runs what it is given: by Knative, which splits traffic between revisions, or as a Deployment."""

_CONTAINER = "kserve-container"
"""KServe's name for the one container of a predictor."""
_MODE = "serving.kserve.io/deploymentMode"
_LONGEST = 42
"""KServe and Knative append up to 21 characters, and the whole must be a label."""


@dataclass(frozen=True)
class Memory:
    """What is asked for, and what became of what was asked for before. Plain texts, as the ConfigMap has them."""

    version: str = ""
    """Of the release whose template the InferenceService has."""
    file: str = ""
    shape: str = ""
    style: str = ""
    options: str = DEFAULT_OPTIONS
    template: str = ""
    before: str = ""
    """Name of the newest revision when this template was written: what KServe says of that one is about another."""
    beside_version: str = ""
    """What serves while the release above is a canary, or while it takes over from one; empty otherwise."""
    beside_file: str = ""
    step: str = ""
    """Of the share of the canary; empty where there is none."""
    weight: str = ""
    since: str = ""
    """Unix time of asking for the share."""
    failed_file: str = ""
    failure: str = ""
    rejected_file: str = ""
    rejection: str = ""

    @property
    def release(self) -> tuple[int | None, str | None]:
        """Version and file of the template."""
        return _release(self.version, self.file)

    @property
    def beside(self) -> tuple[int | None, str | None]:
        """Version and file of what serves beside it; (None, None) where nothing does."""
        return _release(self.beside_version, self.beside_file)

    @property
    def has_canary(self) -> bool:
        """Whether the template is that of a canary."""
        return bool(self.step)

    @property
    def rejected(self) -> Rejected | None:
        """What was given up for what live traffic said."""
        return Rejected(self.rejected_file, self.rejection) if self.rejected_file else None

    def data(self) -> dict[str, str]:
        """Give what the ConfigMap holds; what is not known is not written."""
        return {name.replace("_", "-"): text for name, text in asdict(self).items() if text}

    @classmethod
    def of(cls, found: Object | None) -> Memory | None:
        """Read a ConfigMap; what is not understood is ignored."""
        if found is None:
            return None
        data: Mapping[str, str] = found.get("data") or {}
        names = {field.name: field.name.replace("_", "-") for field in fields(cls)}
        return cls(**{field: str(data[name]) for field, name in names.items() if name in data})


def kserve_name(model: str) -> str:
    """Name the InferenceService and its ConfigMap: ``kserve-<model>``, at most 42 characters."""
    return cut_name("kserve", model, _LONGEST)


def kserve_labels(model: str) -> dict[str, str]:
    """Give the labels that tell a model's pods behind KServe from all other pods."""
    return pod_labels(model) | {BACKEND: KSERVE}


def memory_map(owner: Owner, memory: Memory) -> Object:
    """Give the ConfigMap."""
    metadata = child_metadata(owner, kserve_name(owner.key.name), SERVE, {BACKEND: KSERVE})
    return {"metadata": metadata, "data": memory.data()}


def predictor(owner: Owner, style: PodStyle, target: ServingTarget, mode: str) -> Object:
    """Give the predictor of a target, without any share; the digest of all of it is among its annotations."""
    identity = {VERSION: str(target.version), FILE: target.file}
    pod = our_pods(owner, style, target, identity)["spec"]
    (container,) = pod["containers"]
    labels = child_metadata(owner, "", SERVE, {BACKEND: KSERVE})["labels"]
    found = _scale(target.shape) | {
        "labels": labels, "annotations": identity | _scaler(target.shape, mode),
        "containers": [_container(container, mode)], **_pod(pod, mode),
    }  # fmt: skip
    found["annotations"] |= {TEMPLATE: digest_of(found)}
    return found


def inference_service(owner: Owner, wanted: Object, mode: str, percent: int | None) -> Object:
    """Give the InferenceService with that predictor; ``percent`` of the traffic go to its newest revision."""
    annotations = {_MODE: mode}
    metadata = child_metadata(owner, kserve_name(owner.key.name), SERVE, {BACKEND: KSERVE}, annotations)
    share = {} if percent is None else {"canaryTrafficPercent": percent}
    return {"metadata": metadata, "spec": {"predictor": {**wanted, **share}}}


def _scale(shape: Shape) -> Object:
    if shape.autoscaling is None:
        return {"minReplicas": shape.replicas, "maxReplicas": max(1, shape.replicas)}
    asked = shape.autoscaling
    return {
        "minReplicas": asked.min_replicas, "maxReplicas": asked.max_replicas, "scaleMetric": "cpu",
        "scaleTarget": asked.target_cpu_utilization_percentage,
    }  # fmt: skip


def _scaler(shape: Shape, mode: str) -> dict[str, str]:
    """Say who scales: Knative's own autoscaler does not know about CPU."""
    by_cpu = shape.autoscaling is not None and mode == KNATIVE
    return {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"} if by_cpu else {}


def _container(ours: Object, mode: str) -> Object:
    """Give our server's container as KServe takes it."""
    found = {**ours, "name": _CONTAINER}
    if mode == STANDARD:
        return found
    # Knative takes one port without a name of ours, and starts asking whether it is ready at once.
    found["ports"] = [{"containerPort": port["containerPort"], "protocol": "TCP"} for port in ours["ports"]]
    del found["startupProbe"]
    found["livenessProbe"] = {**ours["livenessProbe"], "initialDelaySeconds": 30}
    # What a pod's securityContext would say, it takes from containers only.
    rules = {name: rule for name, rule in ours["securityContext"].items() if name != "privileged"}
    own = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"}}
    found["securityContext"] = rules | own
    return found


def _pod(ours: Object, mode: str) -> Object:
    """Give the rest of our server's pod, as far as the mode takes it."""
    kept = ["serviceAccountName", "enableServiceLinks", "volumes", "nodeSelector"]
    if mode == STANDARD:
        kept += ["automountServiceAccountToken", "securityContext", "terminationGracePeriodSeconds"]
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    strategy = {"deploymentStrategy": rolling} if mode == STANDARD else {}
    return {name: ours[name] for name in kept if name in ours} | strategy


def _release(version: str, file: str) -> tuple[int | None, str | None]:
    return (int(version) if version.isdecimal() else None), file or None
