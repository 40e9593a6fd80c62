"""What a spec asks for that is understood and not acted on, here or at all: nothing is ignored in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specs.modelspec import Spec
from specs.training import BaseModelFile

_BASE = "only base models in the store (store://NAME) are read yet"
_NOT_TRAINER = "only where spec.training.backend is TrainJob"
_UNSHARED = "{batch} cannot be shared by {size} processes, so the training would end at once; give a multiple of {size}"
_DEFAULT_BATCH = 16
_NO_VERSIONS = "an address has no versions to follow; store://NAME, dvc and platform have"
_NO_LABELS = "nothing newer can come of this data, so no question is ever asked"
_NO_TRAFFIC = "without spec.serving nothing answers, so there is no traffic to watch"
_NO_PROFILE = "it is held against golden, and spec.data.golden is not given"
_COMPARED = ("Confidence", "EstimatedAccuracy", "Input", "Classes")
_GATELESS = "WhenGatesPass needs at least one gate in spec.gates; until then only a rollback is merged by the forge"
_NO_INT8 = "no export asks for INT8, so nothing looks at it"
_NO_PICTURES = "without spec.serving no picture ever comes"
_UNASKED = "people are asked for classes and boxes only; pictures of a model of this task are kept, and go no further"
_NO_MIRROR = "KServe cannot send copies of requests; use weight, or backend Deployment"
_NO_SHARES = "Triton cannot split live traffic, so no release begins; leave it out, or use backend Deployment or KServe"
_NO_COUNTS = "Triton does not count what signals are computed from, so nothing is ever known about live traffic"
_KEEPS_NONE = "Triton keeps no pictures"
_NO_GATEWAY = "acted on with backend Deployment only"

_CLUSTER_SENTENCE = "{field}: acted on in a cluster only; `trunkline agent` ignores it"
_CLUSTER = (
    "training.backend", "training.queueName", "training.resources", "training.nodeSelector",
    "exports[].nodeSelector", "exports[].resources",
    "serving.backend", "serving.replicas", "serving.autoscaling", "serving.resources", "serving.nodeSelector",
    "serving.gateway",
)  # fmt: skip
"""Fields in YAML names, ``[]`` is every item of a list; an agent has one machine and no choice."""

_HARMLESS: dict[str, Any] = {"training.backend": "Job", "serving.backend": "Deployment", "serving.replicas": 1}
"""What asks for no more than what is done anyway."""


def _base(spec: Spec) -> list[str]:
    model = spec.training.model
    elsewhere = isinstance(model, BaseModelFile) and not model.uri.url.startswith("store://")
    return [f"spec.training.model.uri.url: {_BASE}"] if elsewhere else []


def _not_trainer(spec: Spec) -> list[str]:
    idle = spec.training.train_job is not None and spec.training.backend != "TrainJob"
    return [f"spec.training.trainJob: {_NOT_TRAINER}"] if idle else []


def _unshared(spec: Spec) -> list[str]:
    batch, size = spec.training.args.get("batch", _DEFAULT_BATCH), spec.training.processes
    fits = size == 1 or (isinstance(batch, int) and batch >= 1 and batch % size == 0)
    return [] if fits else [f"spec.training.args.batch: {_UNSHARED.format(batch=batch, size=size)}"]


def _no_versions(spec: Spec) -> list[str]:
    wanted = spec.triggers is not None and spec.triggers.on_data
    return [f"spec.triggers.onData: {_NO_VERSIONS}"] if wanted and not spec.data.train.has_versions else []


def _no_labels(spec: Spec) -> list[str]:
    triggers = spec.triggers
    wanted = triggers is not None and triggers.require is not None and triggers.require.new_labels is not None
    never = spec.data.train.digest is not None and spec.newer_from is None
    return [f"spec.triggers.require.newLabels: {_NO_LABELS}"] if wanted and never else []


def _no_traffic(spec: Spec) -> list[str]:
    if spec.monitoring is None:
        return []
    if spec.serving is None:
        return [f"spec.monitoring: {_NO_TRAFFIC}"]
    bare = spec.monitoring.signals if spec.data.golden is None else []
    return [
        f"spec.monitoring.signals[{index}]: {_NO_PROFILE}" for index, signal in enumerate(bare)
        if signal.type in _COMPARED
    ]  # fmt: skip


def _gateless(spec: Spec) -> list[str]:
    wanted = spec.policy is not None and spec.policy.auto_merge == "WhenGatesPass"
    return [] if spec.gates or not wanted else [f"spec.policy.autoMerge: {_GATELESS}"]


def _no_pictures(spec: Spec) -> list[str]:
    if spec.labelling is None:
        return []
    if spec.serving is None:
        return [f"spec.labelling: {_NO_PICTURES}"]
    asked = spec.labelling.queue is None or spec.task in ("classify", "detect")
    return [] if asked else [f"spec.labelling.queue: {_UNASKED}"]


def _uncalibrated(spec: Spec) -> list[str]:
    unused = spec.data.calibration is not None and not any(export.is_calibrated for export in spec.exports)
    return [f"spec.data.calibration: {_NO_INT8}"] if unused else []


def _behind(spec: Spec) -> list[str]:
    """Say what the chosen backend cannot do."""
    serving = spec.serving
    backend = (serving.backend if serving is not None else None) or "Deployment"
    if serving is None or backend == "Deployment":
        return []
    canary = serving.strategy.canary if serving.strategy is not None else None
    found = [f"spec.serving.gateway: {_NO_GATEWAY}"] if serving.gateway is not None else []
    if backend == "KServe":
        place = "spec.serving.strategy.canary.steps[{}].mirror"
        steps = canary.steps if canary is not None else []
        return found + [f"{place.format(at)}: {_NO_MIRROR}" for at, step in enumerate(steps) if step.mirror]
    found += [f"spec.serving.strategy.canary: {_NO_SHARES}"] if canary is not None else []
    found += [f"spec.monitoring: {_NO_COUNTS}"] if spec.monitoring is not None else []
    return found + ([f"spec.labelling: {_KEEPS_NONE}"] if spec.labelling is not None else [])


_RULES: tuple[Callable[[Spec], list[str]], ...] = (
    _base, _not_trainer, _unshared, _no_versions, _no_labels, _no_traffic, _gateless, _no_pictures, _uncalibrated,
    _behind,
)  # fmt: skip
"""What the table of fields cannot say."""


def not_acted_on(spec: Spec) -> list[str]:
    """Give one sentence for each thing in the spec that this version parses but ignores, in the order of the table."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    found = [
        _CLUSTER_SENTENCE.format(field=f"spec.{field}{where}")
        for pattern in _CLUSTER
        for field, where, value in _values(data, pattern)
        if value != _HARMLESS.get(pattern)
    ]
    return found + [sentence for rule in _RULES for sentence in rule(spec)]


def _values(data: dict[str, Any], pattern: str) -> list[tuple[str, str, Any]]:
    """Give (field up to the list, rest, value) of what is there."""
    section, star, rest = pattern.partition("[].")
    value: Any = data
    for part in section.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not star:
        return [] if value is None else [(section, "", value)]
    return [(section, f"[{index}].{rest}", item[rest]) for index, item in enumerate(value or []) if rest in item]
