"""What the text of one file says about models: parsed with all that is wrong, or only looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.git_environment import printable
from specs.digests import desired_digest
from specs.errors import InvalidManifest, Problem
from specs.manifest import Candidate, decode, find, judge
from specs.modelspec import ModelKey

_NAME = re.compile(rb"""["']?name["']?\s*:\s*["']?([a-z0-9][a-z0-9-]{0,62})""")
"""What may be a model's name. Finds more than there are, never fewer: names are plain DNS labels."""
_NUMBER = re.compile(rb"""version["']?\s*:\s*["']?\+?([0-9]{1,18})\b""")
"""Likewise what may be a release's number, in a text where every ``version`` is written like that."""
_ODD = re.compile(rb"[\\!&*]")
"""What could hide a name or a number: escapes, tags, anchors, aliases."""
_MEANT = (b"ModelSpec", b"trunkline.dev/")


@dataclass(frozen=True)
class Said:
    """What one content says about one model."""

    digest: str
    """``desired_digest`` of its spec; empty where it has none."""
    release: int
    line: int = 0
    problems: tuple[Problem, ...] = ()


NOTHING = Said("", 0)


@dataclass(frozen=True)
class File:
    """A file of the branch, read."""

    blob: str
    models: Mapping[ModelKey, Said] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    """What is wrong with all of it, so that nobody knows which models it holds."""


def names_in(data: bytes) -> frozenset[str]:
    """Give what may be names of models."""
    return frozenset(name.decode() for name in _NAME.findall(data))


def is_ours(data: bytes) -> bool:
    """Whether it so much as mentions our kind."""
    return any(word in data for word in _MEANT)


def highest_release(data: bytes) -> int | None:
    """Give a number that no release in a content is higher than; None where that cannot be told without parsing it."""
    if not is_ours(data):
        return 0
    found = _NUMBER.findall(data)
    return None if len(found) != data.count(b"version") or _ODD.search(data) else max(map(int, found), default=0)


def parse_file(path: str, blob: str, data: bytes) -> File:
    """Read all models of a file, each with what is wrong with it."""
    shown = printable(path)
    try:
        candidates = find(decode(data, shown), shown)
    except InvalidManifest as error:
        return File(blob, problems=error.problems)
    models: dict[ModelKey, Said] = {}
    for candidate in candidates:
        if candidate.key is None or candidate.key in models:
            continue
        try:
            judge(candidates, shown, candidate.key)
            problems: tuple[Problem, ...] = ()
        except InvalidManifest as error:
            problems = error.problems
        if shown != path:
            words = "the file's name is not UTF-8, so Trunkline cannot edit it; rename the file"
            problems = problems or (Problem(shown, 0, 0, "", words),)
        digest, release = _spec(candidate)
        models[candidate.key] = Said(digest, release, candidate.line, problems)
    return File(blob, models)


def glance(data: bytes, key: ModelKey) -> Said:
    """Read one model of a content that need not be valid any more."""
    try:
        candidates = [found for found in find(decode(data, ""), "") if found.key == key]
    except InvalidManifest:
        return NOTHING
    return Said(*_spec(candidates[0])) if candidates else NOTHING


def _spec(candidate: Candidate) -> tuple[str, int]:
    """Give the digest of a spec and the number of its release."""
    spec: Any = candidate.reading.data.get("spec")
    if not isinstance(spec, dict):
        return "", 0
    release = spec.get("release")
    version = release.get("version") if isinstance(release, dict) else None
    return desired_digest(spec), version if isinstance(version, int) and not isinstance(version, bool) else 0
