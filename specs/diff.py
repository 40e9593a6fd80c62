"""What differs between two specs in meaning: order of fields, comments and notation do not count."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from specs.digests import DIGEST_PATTERN, canonical
from specs.modelspec import Spec

_NAMED_LISTS = ("exports", "gates")


@dataclass(frozen=True)
class Change:
    """One field that differs. ``path`` is dotted, in YAML names, without ``spec.``; None is "not there"."""

    path: str
    before: Any
    after: Any


def changes(before: Spec, after: Spec) -> tuple[Change, ...]:
    """Give all differences, sorted by path. Exports and gates are told apart by name, not by position."""
    # Imported here: deepdiff loads numpy where that is installed, and the controller must start without.
    from deepdiff import DeepDiff  # noqa: PLC0415
    from deepdiff.helper import notpresent  # noqa: PLC0415

    diff = DeepDiff(_plain(before), _plain(after), view="tree", ignore_private_variables=False)
    found: list[Change] = []
    for level in (level for levels in diff.values() for level in levels):
        old, new = (None if value is notpresent else value for value in (level.t1, level.t2))
        found += _leaves(_dotted(level.path(output_format="list")), old, new)
    return tuple(sorted(found, key=lambda change: change.path))


def describe(differences: tuple[Change, ...]) -> list[str]:
    """Write changes for people: ``training.args.epochs: 2 -> 20``."""
    return [f"{change.path}: {_shown(change.before)} -> {_shown(change.after)}" for change in differences]


def _plain(spec: Spec) -> dict[str, Any]:
    """Give the spec as plain JSON values, 1.0 as 1, with lists of named things as maps."""
    data: dict[str, Any] = json.loads(canonical(spec.model_dump(mode="json", by_alias=True, exclude_none=True)))
    for name in _NAMED_LISTS:
        data[name] = {item["name"]: item for item in data.get(name, [])}
    if "monitoring" in data:
        data["monitoring"]["signals"] = {signal["name"]: signal for signal in data["monitoring"]["signals"]}
    return data


def _leaves(path: str, before: Any, after: Any) -> Iterator[Change]:
    """Give one change for each field within a section that appears or vanishes."""
    if isinstance(before or after, dict) and (before is None or after is None):
        for key, value in (before or after).items():
            yield from _leaves(f"{path}.{key}", value if after is None else None, value if before is None else None)
    else:
        yield Change(path, before, after)


def _dotted(parts: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _shown(value: Any) -> str:
    if isinstance(value, str) and re.match(DIGEST_PATTERN, value):
        return f"{value[:19]}…"  # as much as people compare
    return "(none)" if value is None else json.dumps(value, ensure_ascii=False)
