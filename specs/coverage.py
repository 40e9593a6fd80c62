"""What a spec asks for that this version understands but does not act on. Rows leave the tables as features come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specs.modelspec import Spec
from specs.training import BaseModelFile

_SENTENCE = "{field}: understood, but not acted on yet"
_BASE = "only base models in the store (store://NAME) are read yet"
_NO_VERSIONS = "an address has no versions to follow; store://NAME, dvc and platform have"
_NO_LABELS = "nothing newer can come of this data, so no question is ever asked"
_NO_TRAFFIC = "without spec.serving nothing answers, so there is no traffic to watch"
_NO_PROFILE = "it is held against golden, and spec.data.golden is not given"
_COMPARED = ("Confidence", "EstimatedAccuracy", "Input", "Classes")
_GATELESS = "WhenGatesPass needs at least one gate in spec.gates; until then only a rollback is merged by the forge"
_NO_INT8 = "no export asks for INT8, so nothing looks at it"
_NO_PICTURES = "without spec.serving no picture ever comes"
_UNREADABLE = "what a model of this task finds cannot be read by the server yet, so it keeps no pictures"

_FIELDS = (
    "training.backend",
    "serving.backend",
)  # fmt: skip
"""Fields in YAML names; ``[]`` is every item of a list."""

_CLUSTER_SENTENCE = "{field}: acted on in a cluster only; `trunkline agent` ignores it"
_CLUSTER = (
    "training.queueName", "training.resources", "training.nodeSelector",
    "exports[].nodeSelector", "exports[].resources",
    "serving.replicas", "serving.autoscaling", "serving.resources", "serving.nodeSelector", "serving.gateway",
)  # fmt: skip
"""Likewise; an agent has one machine and no choice."""

_HARMLESS: dict[str, Any] = {"training.backend": "Job", "serving.backend": "Deployment", "serving.replicas": 1}
"""What asks for no more than what is done anyway."""


def _base(spec: Spec) -> list[str]:
    model = spec.training.model
    elsewhere = isinstance(model, BaseModelFile) and not model.uri.url.startswith("store://")
    return [f"spec.training.model.uri.url: {_BASE}"] if elsewhere else []


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
    return [] if spec.task in ("classify", "detect") else [f"spec.labelling: {_UNREADABLE}"]


def _uncalibrated(spec: Spec) -> list[str]:
    unused = spec.data.calibration is not None and not any(export.is_calibrated for export in spec.exports)
    return [f"spec.data.calibration: {_NO_INT8}"] if unused else []


_RULES: tuple[Callable[[Spec], list[str]], ...] = (
    _base, _no_versions, _no_labels, _no_traffic, _gateless, _no_pictures, _uncalibrated,
)  # fmt: skip
"""What the table of fields cannot say."""


def not_acted_on(spec: Spec) -> list[str]:
    """Give one sentence for each thing in the spec that this version parses but ignores, in the order of the table."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    sentences = dict.fromkeys(_FIELDS, _SENTENCE) | dict.fromkeys(_CLUSTER, _CLUSTER_SENTENCE)
    found = [
        sentence.format(field=f"spec.{field}{where}")
        for pattern, sentence in sentences.items()
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
