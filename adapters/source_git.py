"""ModelSpecs straight from the tracked branch of a git repository: the agent's source.

What was ever learned about a commit never changes, so after a step of the branch only the changed files are read and
only the new history is walked; a branch that was rewritten is read anew. The same branch gives the same answers either
way, so nothing is lost with the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType

from adapters.checkout import Checkout
from adapters.git_environment import check_path, printable, sanitise
from adapters.repository import Repository
from specs.errors import InvalidManifest, Problem
from specs.facts import Commit, SourcedSpec
from specs.manifest import Candidate, LoadedModel, decode, find, load, parse
from specs.modelspec import ModelKey
from specs.yaml_text import documents

_MEANT = re.compile(rb"""^\s*["']?kind["']?\s*:\s*["']?ModelSpec\b""", re.MULTILINE)
"""What makes a file that is no YAML our business all the same."""


_BATCH = 500
"""Versions of files in memory at once."""


@dataclass(frozen=True)
class _File:
    """What one file of the tracked branch holds now."""

    path: str
    text: str = ""
    models: tuple[LoadedModel, ...] = ()
    broken: Mapping[ModelKey, tuple[Problem, ...]] = field(default_factory=dict)
    """Models that the file holds, or held before it broke, and that cannot be acted on."""
    problems: tuple[Problem, ...] = ()


@dataclass
class _History:
    """What the first-parent line up to a commit did to our files."""

    latest: dict[str, Commit] = field(default_factory=dict)
    """Path to the last commit that changed it."""
    versions: dict[ModelKey, int] = field(default_factory=dict)
    """Highest release version ever named."""
    keys: dict[str, tuple[ModelKey, ...]] = field(default_factory=dict)
    """Path to the models of its newest version that can be read at all."""


class GitSource:
    """The ModelSpecs in all ``*.yaml`` and ``*.yml`` files below ``prefix``, a folder, of the tracked branch.

    ``keys`` and ``get`` give the models that can be acted on; ``broken`` those that must be left as they are until
    their file is mended, with the reasons; ``problems`` everything that is wrong with any file. Files that hold no
    ModelSpec are nobody's business, even where they are no YAML (templates).
    """

    def __init__(self, repository: Repository | Checkout, *, prefix: str = "") -> None:
        self._repository = repository
        self._prefix = check_path(prefix.strip("/")) if prefix.strip("/") else ""
        self._head = ""
        self._history = _History()
        self._files: dict[str, _File] = {}
        self._specs: dict[ModelKey, SourcedSpec] = {}
        self._broken: dict[ModelKey, tuple[Problem, ...]] = {}
        self._problems: tuple[Problem, ...] = ()

    def refresh(self) -> None:
        """Fetch, and read what changed. Raises as ``Repository.fetch`` does; what was known before then stays."""
        self.read(self._repository.fetch())

    def read(self, head: str) -> None:
        """Read what is new in a commit that was fetched already, as if the tracked branch were there."""
        if head == self._head:
            return
        known = bool(self._head) and self._repository.extends(self._head, head)
        history = self._walk(self._history if known else _History(), head, self._head if known else None)
        blobs = {path: sha for path, sha in self._listing(head).items() if _is_yaml(path)}
        changed = set(self._repository.diff_paths(self._head, head)) if known else set(blobs)
        contents = self._repository.blobs(blobs[path] for path in changed & blobs.keys())
        files = {path: file for path, file in self._files.items() if path in blobs and path not in changed}
        for path in changed & blobs.keys():
            read = _read(path, contents[blobs[path]], history.keys.get(path, ()))
            if read is not None:
                files[path] = read
        self._files, self._history, self._head = files, history, head
        self._assemble()

    def keys(self) -> tuple[ModelKey, ...]:
        """Give all models that can be acted on, sorted."""
        return tuple(sorted(self._specs))

    def get(self, key: ModelKey) -> SourcedSpec | None:
        """Give one model's text and origin; None where there is none, or where it is broken."""
        return self._specs.get(key)

    @property
    def head(self) -> str:
        """The commit that was read last; empty before the first ``refresh``."""
        return self._head

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with any file, by path and line."""
        return self._problems

    @property
    def broken(self) -> Mapping[ModelKey, tuple[Problem, ...]]:
        """Models that are wanted but cannot be acted on, and why. What serves for them goes on serving."""
        return MappingProxyType(self._broken)

    def _listing(self, head: str) -> dict[str, str]:
        """Give the blobs of plain files, by path."""
        entries = self._repository.entries(head, self._prefix)
        return {path: entry.sha for path, entry in entries.items() if entry.plain}

    def _walk(self, before: _History, head: str, since: str | None) -> _History:
        """Add the steps after ``since`` to what is known of history."""
        steps = [change for change in self._repository.changes(head, self._prefix, since) if _is_yaml(change.path)]
        history = _History(dict(before.latest), dict(before.versions), dict(before.keys))
        steps.reverse()
        for batch in (steps[at : at + _BATCH] for at in range(0, len(steps), _BATCH)):
            blobs = self._repository.blobs(step.blob for step in batch if step.blob)
            for step in batch:
                history.latest[step.path] = step.commit
                held = history.keys.get(step.path, ())
                named, whole = _named(blobs[step.blob], held=bool(held)) if step.blob else ({}, True)
                # Where a version is broken, what the file held before still counts.
                history.keys[step.path] = tuple(named if whole else dict.fromkeys((*held, *named)))
                for key, version in named.items():
                    history.versions[key] = max(version, history.versions.get(key, 0))
        return history

    def _assemble(self) -> None:
        """Put the files together: a name that two of them hold is nobody's."""
        places: dict[ModelKey, list[tuple[str, int]]] = {}
        for file in self._files.values():
            for model in file.models:
                places.setdefault(model.key, []).append((file.path, model.line))
            for key, reasons in file.broken.items():
                places.setdefault(key, []).append((file.path, min((reason.line for reason in reasons), default=0)))
        twice = {key: sorted(found) for key, found in places.items() if len(found) > 1}
        clashes = {key: tuple(_clashes(key, found)) for key, found in twice.items()}
        broken = {key: reasons for file in self._files.values() for key, reasons in file.broken.items()}
        self._broken = broken | {key: clashes[key] + broken.get(key, ()) for key in twice}
        every = [problem for file in self._files.values() for problem in file.problems]
        every += [problem for found in clashes.values() for problem in found]
        self._problems = tuple(sorted(set(every), key=lambda one: (one.path, one.line, one.column, one.field)))
        self._specs = {
            model.key: self._sourced(file, model)
            for file in self._files.values()
            for model in file.models
            if model.key not in twice
        }

    def _sourced(self, file: _File, model: LoadedModel) -> SourcedSpec:
        return SourcedSpec(
            model.key,
            file.path,
            file.text,
            self._head,
            self._history.latest[file.path],
            model.line,
            sanitise(self._repository.url),
            self._repository.branch,
            self._history.versions.get(model.key, 0),
        )


def _is_yaml(path: str) -> bool:
    return PurePosixPath(path).suffix in (".yaml", ".yml")


def _named(data: bytes, *, held: bool) -> tuple[dict[ModelKey, int], bool]:
    """Give the models of a file and their release versions, and whether that is certainly all that it means to hold."""
    try:
        candidates = _find(decode(data, ""), "", held=held)
    except InvalidManifest:
        return {}, False
    named = {candidate.key: _version(candidate) for candidate in candidates if candidate.key}
    return named, all(candidate.key for candidate in candidates)


def _find(text: str, path: str, *, held: bool) -> list[Candidate]:
    """Give what means to be a ModelSpec. A file that held one must be YAML to say that it holds none any more."""
    candidates = find(text, path)
    if held and not candidates:
        documents(text, path)
    return candidates


def _version(candidate: Candidate) -> int:
    spec = candidate.reading.data.get("spec")
    release = spec.get("release") if isinstance(spec, dict) else None
    version = release.get("version") if isinstance(release, dict) else None
    return version if isinstance(version, int) and not isinstance(version, bool) else 0


def _read(path: str, data: bytes, before: tuple[ModelKey, ...]) -> _File | None:
    """Read a file; None where it holds nothing of ours. ``before``: what it held when it could last be read."""
    shown = printable(path)
    try:
        text = decode(data, shown)
        candidates = _find(text, shown, held=bool(before))
        if not candidates:
            return None
    except InvalidManifest as error:
        if not before and not _MEANT.search(data):
            return None
        return _File(path, broken=dict.fromkeys(before, error.problems), problems=error.problems)
    if shown != path:
        problem = Problem(shown, 0, 0, "", "the file's name is not UTF-8, so Trunkline cannot edit it; rename the file")
        keys = [candidate.key for candidate in candidates if candidate.key]
        return _File(path, broken=dict.fromkeys(keys, (problem,)), problems=(problem,))
    try:
        return _File(path, text, tuple(load(text, path)))
    except InvalidManifest as error:
        return _sorted_out(path, text, {*before, *(c.key for c in candidates if c.key)}, error.problems)


def _sorted_out(path: str, text: str, keys: set[ModelKey], problems: tuple[Problem, ...]) -> _File:
    """Tell the good models of a file from the bad ones. A document that lost its name may be any that is missing."""
    models: dict[ModelKey, LoadedModel] = {}
    broken: dict[ModelKey, tuple[Problem, ...]] = {}
    for key in keys:
        try:
            models[key] = parse(text, path, key)
        except InvalidManifest as error:
            broken[key] = error.problems
    return _File(path, text, tuple(models.values()), broken, problems)


def _clashes(key: ModelKey, places: list[tuple[str, int]]) -> Iterable[Problem]:
    for path, line in places:
        others = " and ".join(f"{other}:{number}" for other, number in places if (other, number) != (path, line))
        message = f"a ModelSpec {key} stands in {others} too; one of them must go, neither is acted on"
        yield Problem(path, line, 1 if line else 0, "metadata.name", message)
