"""Whether a spec that a cluster asks for is what the tracked branch says, and where it says so.

Made for thousands of models: one listing and one walk over history serve all of them. A file is parsed when somebody
asks about a model in it, once for all models in it; of its older versions, only those that could tell something.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import RLock

from adapters.git_environment import check_path, sanitise
from adapters.git_objects import Folders
from adapters.provenance_files import File, Said, glance, highest_release, is_ours, names_in, parse_file
from adapters.repository import Repository
from specs.errors import Problem
from specs.facts import Commit, Origin, SourcedSpec, Standing
from specs.manifest import decode
from specs.modelspec import ModelKey

_OLD_VERSIONS = 200
"""How far back a version of a file is still known as an older one."""
_CACHE_SIZE = 2_000
_BATCH = 500
"""Contents in memory at once, of versions that are not the branch's own."""

Step = tuple[Commit, str]
"""A commit, and the content that it gave a file; empty where it removed it."""


@dataclass
class _Trunk:
    """The tracked branch at one commit."""

    head: str = ""
    files: dict[str, str] = field(default_factory=dict)
    """Path to content, by its git name."""
    contents: dict[str, bytes] = field(default_factory=dict)
    named: dict[str, frozenset[str]] = field(default_factory=dict)
    """Path to what may be names in it; of files that are gone, in their last content."""
    history: dict[str, list[Step]] = field(default_factory=dict)
    """Path to its versions on the first-parent line, oldest first."""
    gone: dict[str, str] = field(default_factory=dict)
    """Path to the last content of a file that is no more."""

    def blob(self, path: str) -> str:
        """Name a file's content and the commit that gave it that: A → B → A is another A."""
        steps = self.history.get(path)
        return f"{self.files[path]}.{steps[-1][0].sha[:12]}" if path in self.files and steps else ""


class GitProvenance:
    """Answers for all models in ``*.yaml`` and ``*.yml`` files below one or several folders of the tracked branch.

    Threads may ask while another one goes on to a newer head.
    """

    def __init__(self, repository: Repository, *, prefix: Folders = "") -> None:
        self._repository = repository
        folders = [prefix] if isinstance(prefix, str) else prefix
        self._folders = [check_path(folder.strip("/")) if folder.strip("/") else "" for folder in folders]
        self._trunk = _Trunk()
        self._paths: dict[str, set[str]] = {}
        """Name to the files that may hold it, or did until they were removed."""
        self._read: dict[str, File] = {}
        self._versions: dict[tuple[str, ModelKey], Said] = {}
        self._numbers: dict[str, int | None] = {}
        """Content of an older version to the highest release that it may name; None where only parsing tells."""
        self._lock = RLock()

    @property
    def head(self) -> str:
        """The commit that was read last; empty before the first ``read``."""
        return self._trunk.head

    def blob(self, path: str) -> str:
        """Name a file's content at the head and the commit that gave it that; empty where there is no such file."""
        return self._trunk.blob(path)

    def read(self, head: str) -> frozenset[str]:
        """Go on to a commit that was fetched; gives the names of models that may have changed by that."""
        with self._lock:
            before = self._trunk
            if head == before.head:
                return frozenset()
            entries = self._repository.entries(head, self._folders)
            files = {path: e.sha for path, e in entries.items() if e.plain and _is_yaml(path)}
            changed = {path for path, sha in files.items() if before.files.get(path) != sha}
            kept = {sha: before.contents[sha] for sha in set(files.values()) if sha in before.contents}
            contents = kept | self._repository.blobs(files[path] for path in changed if files[path] not in kept)
            history = self._walk(before, head)
            gone = {path: last[1] for path in history.keys() - files.keys() for last in _last(history[path])}
            changed |= {path for path in gone if path in before.files or gone[path] != before.gone.get(path)}
            named = {path: names for path, names in before.named.items() if path in files or path in gone}
            named |= {path: names_in(contents[files[path]]) for path in changed if path in files}
            named |= dict(self._names_of({path: blob for path, blob in gone.items() if path in changed}))
            trunk = _Trunk(head, files, contents, named, history, gone)
            self._note_numbers(trunk, changed)
            kept_read = self._read.copy().items()  # workers add to it meanwhile
            self._trunk, self._read = trunk, {path: file for path, file in kept_read if path in files}
            moved = changed | {path for path in files if before.blob(path) != trunk.blob(path)}
            touched = {name for path in moved for name in (*named[path], *before.named.get(path, ()))}
            touched |= {name for path in before.named.keys() - named.keys() for name in before.named[path]}
            self._reindex(touched)
            return frozenset(touched)

    def origin(self, key: ModelKey, digest: str, within: str = "") -> Origin:
        """Say how a live spec, by its ``desired_digest``, stands to the tracked branch.

        Files outside the folder ``within`` have no say.
        """
        with self._lock:
            trunk, paths = self._trunk, sorted(_below(within, self._paths.get(key.name, ())))
        found: list[tuple[str, Said]] = []
        problems: list[Problem] = []
        for path in paths:
            if path not in trunk.files:
                continue
            file = self._file(trunk, path)
            said = file.models.get(key)
            problems += file.problems or (said.problems if said is not None else ())
            if said is not None and not said.problems:
                found.append((path, said))
        if len(found) > 1:
            problems += _clashes(key, [(path, said.line) for path, said in found])
        if problems:
            path = problems[0].path
            return Origin(Standing.BROKEN, problems=tuple(problems), path=path, blob=trunk.blob(path))
        for path, said in found:
            if said.digest == digest:
                sourced = self._sourced(trunk, path, key, said)
                return Origin(Standing.CURRENT, sourced, path=path, blob=trunk.blob(path))
        commit = self._older(trunk, paths, key, digest)
        return Origin(Standing.OLDER if commit else Standing.FOREIGN, commit=commit)

    def _walk(self, before: _Trunk, head: str) -> dict[str, list[Step]]:
        """Add the steps since the last head; a rewritten branch is walked anew."""
        known = bool(before.head) and self._repository.extends(before.head, head)
        history = dict(before.history) if known else {}
        fresh: dict[str, list[Step]] = {}
        for change in self._repository.changes(head, self._folders, before.head if known else None):
            if _is_yaml(change.path):
                fresh.setdefault(change.path, []).append((change.commit, change.blob or ""))
        for path, steps in fresh.items():
            history[path] = history.get(path, []) + steps[::-1]
        return history

    def _names_of(self, blobs: Mapping[str, str]) -> Iterator[tuple[str, frozenset[str]]]:
        """Give what may be names in contents that the branch has no more; ``blobs`` by path."""
        paths = sorted(blobs)
        for batch in (paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH)):
            contents = self._repository.blobs(blobs[path] for path in batch)
            yield from ((path, names_in(contents[blobs[path]])) for path in batch)

    def _note_numbers(self, trunk: _Trunk, changed: Iterable[str]) -> None:
        """Look through older versions of files that hold models for the numbers of releases, parsing none of them."""
        ours = [path for path in changed if path in trunk.files and is_ours(trunk.contents[trunk.files[path]])]
        blobs = {blob for path in ours for _, blob in trunk.history.get(path, ())[:-1] if blob}
        new = sorted(blobs - self._numbers.keys())
        for batch in (new[at : at + _BATCH] for at in range(0, len(new), _BATCH)):
            self._numbers |= {blob: highest_release(data) for blob, data in self._repository.blobs(batch).items()}

    def _reindex(self, names: Iterable[str]) -> None:
        wanted = set(names)
        for name in wanted:
            self._paths.pop(name, None)
        for path, mentioned in self._trunk.named.items():
            for name in mentioned & wanted:
                self._paths.setdefault(name, set()).add(path)

    def _file(self, trunk: _Trunk, path: str) -> File:
        known = self._read.get(path)
        if known is None or known.blob != trunk.files[path]:
            known = self._read[path] = parse_file(path, trunk.files[path], trunk.contents[trunk.files[path]])
        return known

    def _sourced(self, trunk: _Trunk, path: str, key: ModelKey, said: Said) -> SourcedSpec:
        steps = trunk.history[path]
        released = said.release
        for _, blob in steps[:-1]:
            number = self._numbers.get(blob) if blob else 0
            if number is None or number > released:
                released = max(released, self._version(trunk, blob, key).release)
        return SourcedSpec(
            key, path, decode(trunk.contents[trunk.files[path]], path), trunk.head, steps[-1][0], said.line,
            sanitise(self._repository.url), self._repository.branch, released,
        )  # fmt: skip

    def _older(self, trunk: _Trunk, paths: Iterable[str], key: ModelKey, digest: str) -> Commit | None:
        """Look for the version among those that its file had before, and the last ones of files that are gone."""
        old: list[Step] = []
        for path in paths:
            steps = trunk.history[path]
            old += steps[:-1][-_OLD_VERSIONS:] if path in trunk.files else _last(steps)
        old = [step for step in sorted(old, key=lambda step: -step[0].when) if step[1]]
        unknown = [blob for _, blob in old if (blob, key) not in self._versions and blob not in trunk.contents]
        contents = self._repository.blobs(unknown)
        for commit, blob in old:
            if self._version(trunk, blob, key, contents).digest == digest:
                return commit
        return None

    def _version(self, trunk: _Trunk, blob: str, key: ModelKey, contents: Mapping[str, bytes] | None = None) -> Said:
        """Say what a content said about a model; nothing where it cannot be read."""
        known = self._versions.get((blob, key))
        if known is None:
            data = (contents or {}).get(blob) or trunk.contents.get(blob)
            known = glance(self._repository.blobs([blob])[blob] if data is None else data, key)
            if len(self._versions) >= _CACHE_SIZE:
                self._versions.clear()
            self._versions[blob, key] = known
        return known


def _last(steps: list[Step]) -> list[Step]:
    """Give the last version that was one."""
    return [step for step in steps if step[1]][-1:]


def _below(folder: str, paths: Iterable[str]) -> list[str]:
    """Give the paths below a folder; ``team-ab/x`` is not below ``team-a``."""
    start = f"{folder.strip('/')}/" if folder.strip("/") else ""
    return [path for path in paths if path.startswith(start)]


def _is_yaml(path: str) -> bool:
    return path.endswith((".yaml", ".yml")) and path.rpartition("/")[2] not in (".yaml", ".yml")


def _clashes(key: ModelKey, places: list[tuple[str, int]]) -> list[Problem]:
    return [
        Problem(path, line, 1, "metadata.name", f"a ModelSpec {key} stands in {others} too; one of them must go")
        for path, line in places
        for others in [" and ".join(f"{p}:{n}" for p, n in places if (p, n) != (path, line))]
    ]
