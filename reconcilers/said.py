"""What files said about models, commit by commit. Pure.

A version of a file that cannot be read says nothing: what it said before holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from specs.errors import InvalidManifest
from specs.manifest import decode, find, load, parse
from specs.modelspec import ModelKey, Spec
from specs.past import Step

_YAML = re.compile(r"\.ya?ml$")


@dataclass(frozen=True)
class Said:
    """What a file said about one model."""

    path: str
    text: str
    """The whole file."""
    spec: Spec
    data: Any
    """The model's document as plain data."""


@dataclass(frozen=True)
class Moment:
    """A commit that changed what is said about a model."""

    key: ModelKey
    step: Step
    before: Said | None
    after: Said | None


class Reader:
    """Goes from step to step and knows what each file says."""

    def __init__(self, prefix: str, only: bytes) -> None:
        self._prefix = f"{prefix}/" if prefix else ""
        self._only = only
        self._files: dict[str, dict[ModelKey, Said]] = {}
        self._places: dict[ModelKey, set[str]] = {}
        self.said: dict[ModelKey, Said] = {}
        """What holds now; where two files hold the same model, the first of them by name."""

    def wanted(self, step: Step) -> Iterator[str]:
        """Name the contents that the step needs to be understood."""
        for path, (_, after) in step.files.items():
            if after and self._ours(path):
                yield after

    def apply(self, step: Step, contents: Mapping[str, bytes]) -> list[Moment]:
        """Take the step; give what it changed for each model."""
        touched: dict[ModelKey, None] = {}
        for path, (_, after) in step.files.items():
            if not self._ours(path):
                continue
            before = self._files.get(path, {})
            now = _read(path, contents[after], before, self._only) if after else {}
            touched |= dict.fromkeys((*before, *now))
            for key in before.keys() - now.keys():
                self._places[key].discard(path)
            for key in now:
                self._places.setdefault(key, set()).add(path)
            self._files[path] = now
        return [moment for key in touched if (moment := self._moment(step, key)) is not None]

    def _ours(self, path: str) -> bool:
        return _YAML.search(path) is not None and path.startswith(self._prefix)

    def _moment(self, step: Step, key: ModelKey) -> Moment | None:
        before = self.said.pop(key, None)
        place = min(self._places.get(key, ()), default=None)
        after = self._files[place][key] if place is not None else None
        if after is not None:
            self.said[key] = after
        if before is not None and after is not None and (before.path, before.data) == (after.path, after.data):
            return None  # a comment, or another model in the same file
        return None if before is after else Moment(key, step, before, after)


def _read(path: str, data: bytes, before: Mapping[ModelKey, Said], only: bytes) -> dict[ModelKey, Said]:
    if only not in data and not before:
        return {}
    try:
        text = decode(data, path)
        candidates = {each.key: each.reading.data for each in find(text, path) if each.key}
    except InvalidManifest:
        return dict(before)
    specs = dict(_specs(path, text, candidates))
    said = {key: Said(path, text, spec, candidates[key]) for key, spec in specs.items()}
    return said | {key: before[key] for key in candidates if key in before and key not in said}


def _specs(path: str, text: str, keys: Iterable[ModelKey]) -> Iterator[tuple[ModelKey, Spec]]:
    """Read the models of a file, the good ones even where others are broken."""
    try:
        yield from ((found.key, found.model.spec) for found in load(text, path))
    except InvalidManifest:
        for key in keys:
            try:
                yield key, parse(text, path, key).model.spec
            except InvalidManifest:
                continue
