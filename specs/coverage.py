"""What a spec asks for that this version understands but does not act on. Rows leave this table as features come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specs.data import UriSource
from specs.modelspec import Spec
from specs.training import BaseModelFile

_SENTENCE = "{field}: understood, but not acted on yet"
_URIS = "only data sets in the store (store://NAME) are read yet"

_FIELDS = (
    "data.train.dvc", "data.train.platform", "data.golden.dvc", "data.golden.platform",
    "training.backend", "training.queueName", "training.resources", "training.nodeSelector",
    "tuning", "tracking",
    "exports[].buildOn", "exports[].nodeSelector", "exports[].resources",
    "serving.replicas", "serving.backend", "serving.strategy", "serving.resources", "serving.nodeSelector",
    "monitoring", "triggers", "labelling", "policy.autoMerge",
)  # fmt: skip
"""Fields in YAML names; ``[]`` is every item of a list."""

_HARMLESS: dict[str, Any] = {
    "training.backend": "Job", "serving.backend": "Deployment", "serving.replicas": 1, "policy.autoMerge": "Never",
}  # fmt: skip
"""What asks for no more than what is done anyway."""


def _uris(spec: Spec) -> list[str]:
    sources: list[tuple[str, UriSource | None]] = [
        ("spec.data.train.uri.url", spec.data.train.uri),
        ("spec.data.golden.uri.url", spec.data.golden.uri if spec.data.golden else None),
    ]
    if isinstance(spec.training.model, BaseModelFile):
        sources.append(("spec.training.model.uri.url", spec.training.model.uri))
    return [f"{field}: {_URIS}" for field, source in sources if source and not source.url.startswith("store://")]


_RULES: tuple[Callable[[Spec], list[str]], ...] = (_uris,)
"""What the table of fields cannot say."""


def not_acted_on(spec: Spec) -> list[str]:
    """Give one sentence for each thing in the spec that this version parses but ignores, in the order of the table."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    found = [
        _SENTENCE.format(field=f"spec.{field}{where}")
        for pattern in _FIELDS
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
