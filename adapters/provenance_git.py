"""Whether a spec that a cluster asks for is what the tracked branch says, and where it says so.

Made for thousands of models: one listing and one walk over history serve all of them, files are parsed when somebody
asks about a model in them, and no other time. What was learned about a file's content never changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from threading import RLock
from typing import Any

from adapters.git_environment import check_path, printable, sanitise
from adapters.repository import Repository
from specs.digests import desired_digest
from specs.errors import InvalidManifest, Problem
from specs.facts import Commit, Origin, SourcedSpec, Standing
from specs.manifest import decode, find, parse
from specs.modelspec import ModelKey

_NAME = re.compile(rb"""["']?name["']?\s*:\s*["']?([a-z0-9][a-z0-9-]{0,62})""")
"""What may be a model's name. Finds more than there are, never fewer: names are plain DNS labels."""
_OLD_VERSIONS = 200
"""How far back a version of a file is still known as an older one."""
_CACHE_SIZE = 2_000


@dataclass(frozen=True)
class _Version:
    """What one version of a file says about one model."""

    digest: str
    """``desired_digest`` of its spec; empty where it has none."""
    release: int


@dataclass
class _Trunk:
    """The tracked branch at one commit."""

    head: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """Path to content, by its git name."""
    contents: dict[str, bytes] = field(default_factory=dict)
    named: dict[str, frozenset[str]] = field(default_factory=dict)
    """Path to what may be names in it."""
    history: dict[str, list[tuple[Commit, str]]] = field(default_factory=dict)
    """Path to its versions on the first-parent line, oldest first: commit and content."""


class GitProvenance:
    """Answers for all models in ``*.yaml`` and ``*.yml`` files below ``prefix`` of the tracked branch.

    Threads may ask while another one goes on to a newer head.
    """

    def __init__(self, repository: Repository, *, prefix: str = "") -> None:
        self._repository = repository
        self._prefix = check_path(prefix.strip("/")) if prefix.strip("/") else ""
        self._trunk = _Trunk()
        self._paths: dict[str, set[str]] = {}
        self._versions: dict[tuple[str, ModelKey], _Version] = {}
        self._lock = RLock()

    @property
    def head(self) -> str:
        """The commit that was read last; empty before the first ``read``."""
        return self._trunk.head

    def blob(self, path: str) -> str:
        """Give the git name of a file's content at the head, empty where there is none."""
        return self._trunk.files.get(path, "")

    def read(self, head: str) -> frozenset[str]:
        """Go on to a commit that was fetched; gives the names of models that may have changed by that."""
        with self._lock:
            before = self._trunk
            if head == before.head:
                return frozenset()
            entries = self._repository.entries(head, self._prefix)
            files = {path: e.sha for path, e in entries.items() if e.plain and _is_yaml(path)}
            changed = {path for path, sha in files.items() if before.files.get(path) != sha}
            gone = before.files.keys() - files.keys()
            kept = {sha: before.contents[sha] for sha in set(files.values()) if sha in before.contents}
            contents = kept | self._repository.blobs(files[path] for path in changed if files[path] not in kept)
            named = {path: names for path, names in before.named.items() if path in files and path not in changed}
            named |= {path: frozenset(n.decode() for n in _NAME.findall(contents[files[path]])) for path in changed}
            self._trunk = _Trunk(head, files, contents, named, self._walk(before, head))
            touched = {name for path in changed for name in named[path]}
            touched |= {name for path in (*changed, *gone) for name in before.named.get(path, ())}
            self._reindex(touched)
            return frozenset(touched)

    def origin(self, key: ModelKey, digest: str) -> Origin:
        """Say how a live spec, by its ``desired_digest``, stands to the tracked branch."""
        with self._lock:
            trunk, paths = self._trunk, sorted(self._paths.get(key.name, ()))
        found: list[tuple[str, SourcedSpec]] = []
        problems: list[Problem] = []
        for path in paths:
            sourced, wrong = self._sourced(trunk, path, key)
            problems += wrong
            if sourced is not None:
                found.append((path, sourced))
        if len(found) > 1:
            problems += _clashes(key, found)
        if problems:
            path = problems[0].path
            return Origin(Standing.BROKEN, problems=tuple(problems), path=path, blob=trunk.files.get(path, ""))
        for path, sourced in found:
            blob = trunk.files[path]
            if self._version(trunk, blob, key).digest == digest:
                return Origin(Standing.CURRENT, sourced, path=path, blob=blob)
        commit = self._older(trunk, key, digest)
        return Origin(Standing.OLDER if commit else Standing.FOREIGN, commit=commit)

    def _walk(self, before: _Trunk, head: str) -> dict[str, list[tuple[Commit, str]]]:
        """Add the steps since the last head; a rewritten branch is walked anew."""
        known = bool(before.head) and self._repository.extends(before.head, head)
        history = {path: list(versions) for path, versions in before.history.items()} if known else {}
        steps = list(self._repository.changes(head, self._prefix, before.head if known else None))
        for step in reversed(steps):
            if _is_yaml(step.path):
                history.setdefault(step.path, []).append((step.commit, step.blob or ""))
        return history

    def _reindex(self, names: Iterable[str]) -> None:
        wanted = set(names)
        for name in wanted:
            self._paths.pop(name, None)
        for path, mentioned in self._trunk.named.items():
            for name in mentioned & wanted:
                self._paths.setdefault(name, set()).add(path)

    def _sourced(self, trunk: _Trunk, path: str, key: ModelKey) -> tuple[SourcedSpec | None, tuple[Problem, ...]]:
        """Read a model of a file; both empty where the file merely mentions the name."""
        shown = printable(path)
        try:
            text = decode(trunk.contents[trunk.files[path]], shown)
            if not any(candidate.key == key for candidate in find(text, shown)):
                return None, ()
            model = parse(text, shown, key)
        except InvalidManifest as error:
            return None, error.problems
        if shown != path:
            words = "the file's name is not UTF-8, so Trunkline cannot edit it; rename the file"
            return None, (Problem(shown, 0, 0, "", words),)
        versions = trunk.history[path]
        released = max(self._version(trunk, blob, key).release for _, blob in versions)
        return SourcedSpec(
            key, path, text, trunk.head, versions[-1][0], model.line, sanitise(self._repository.url),
            self._repository.branch, released,
        ), ()  # fmt: skip

    def _older(self, trunk: _Trunk, key: ModelKey, digest: str) -> Commit | None:
        """Look for the version among those that its file had before, and the last ones of files that are gone."""
        named = self._paths.get(key.name, set())
        old = [step for path in named for step in trunk.history[path][:-1][-_OLD_VERSIONS:]]
        old += [step for path in trunk.history.keys() - trunk.files.keys() for step in trunk.history[path][-2:-1]]
        for commit, blob in sorted(old, key=lambda step: -step[0].when):
            if self._version(trunk, blob, key).digest == digest:
                return commit
        return None

    def _content(self, trunk: _Trunk, blob: str) -> bytes:
        found = trunk.contents.get(blob)
        return found if found is not None else self._repository.blobs([blob])[blob]

    def _version(self, trunk: _Trunk, blob: str, key: ModelKey) -> _Version:
        """Say what a content says about a model; nothing where it cannot be read."""
        if not blob:
            return _Version("", 0)
        known = self._versions.get((blob, key))
        if known is None:
            known = _read_version(self._content(trunk, blob), key)
            if len(self._versions) >= _CACHE_SIZE:
                self._versions.clear()
            self._versions[blob, key] = known
        return known


def _read_version(data: bytes, key: ModelKey) -> _Version:
    try:
        candidates = [found for found in find(decode(data, ""), "") if found.key == key]
    except InvalidManifest:
        return _Version("", 0)
    spec: Any = candidates[0].reading.data.get("spec") if candidates else None
    if not isinstance(spec, dict):
        return _Version("", 0)
    release = spec.get("release")
    version = release.get("version") if isinstance(release, dict) else None
    number = version if isinstance(version, int) and not isinstance(version, bool) else 0
    return _Version(desired_digest(spec), number)


def _is_yaml(path: str) -> bool:
    return PurePosixPath(path).suffix in (".yaml", ".yml")


def _clashes(key: ModelKey, found: list[tuple[str, SourcedSpec]]) -> list[Problem]:
    places = [(path, sourced.line) for path, sourced in found]
    return [
        Problem(path, line, 1, "metadata.name", f"a ModelSpec {key} stands in {others} too; one of them must go")
        for path, line in places
        for others in [" and ".join(f"{p}:{n}" for p, n in places if (p, n) != (path, line))]
    ]
