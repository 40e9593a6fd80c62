"""DVC's pointer files, ``NAME.dvc`` and ``dvc.lock``: what they say about one output.

They are YAML that somebody else wrote. Nothing here needs DVC; whoever calls hands the files in, one at a time.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from specs.errors import Stalled

SIZE_LIMIT = 4 * 2**20
"""Bytes of a pointer file; a ``dvc.lock`` of a hundred stages has some 50,000."""
CONFIGURATION = ".dvc/config"
LOCK = "dvc.lock"
_PIPELINE = "dvc.yaml"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Read = Callable[[str], bytes | None]
"""Gives a file of the data repository at one revision by its path, or None where there is none."""


@dataclass(frozen=True)
class Pointer:
    """One output: what its bytes are, and which file says so."""

    file: str
    """The pointer file."""
    path: str
    """The output's own, in the repository."""
    digest: str
    """``md5:`` and 32 hexadecimal digits; a folder's ends with ``.dir``."""
    unified: bool = False
    """Whether text was hashed with its line ends unified, as DVC did before version 3."""
    remote: str | None = None
    """Name of the remote that the pointer itself chooses."""

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder, not a single file."""
        return self.digest.endswith(".dir")


def find(path: str, read: Read, place: str) -> Pointer:
    """Give the output that ``path`` names: by its ``.dvc`` file, or by its own path.

    ``place`` says which revision of which repository it is, for errors: Stalled ``DataMissing`` where nothing there
    names such an output, ``DataSourceUnsupported`` where its bytes are not kept as Trunkline needs it.
    """
    wanted = path.rstrip("/")
    if wanted.endswith(".dvc"):
        outputs = list(_outputs_of(wanted, read, place))
        if not outputs:
            msg = f"there is no file {wanted} at {place}; correct path, or push the commit that has it"
            raise Stalled("DataMissing", msg)
        if len(outputs) > 1:
            names = ", ".join(sorted(at for at, _ in outputs)[:10])
            raise Stalled("DataMissing", f"{wanted} at {place} has several outputs; write one of them as path: {names}")
        return _pointer(wanted, *outputs[0], place)
    for file in _files_for(wanted):
        for at, entry in _outputs_of(file, read, place):
            if at == wanted:
                return _pointer(file, at, entry, place)
    msg = (
        f"no .dvc file and no dvc.lock at {place} names an output {wanted}; path must be that of a .dvc file, "
        "or of an output that `dvc add` or a pipeline made"
    )
    raise Stalled("DataMissing", msg)


def configurations(pointer: Pointer) -> Iterator[str]:
    """Give the paths where the configuration that holds for a pointer may be, the nearest first."""
    for folder in _upwards(posixpath.dirname(pointer.file)):
        yield posixpath.join(folder, CONFIGURATION)


def _files_for(path: str) -> Iterator[str]:
    yield f"{path}.dvc"
    for folder in _upwards(posixpath.dirname(path)):
        yield posixpath.join(folder, LOCK)


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""


def _outputs_of(file: str, read: Read, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the outputs that a file names, by their paths in the repository; nothing where there is no such file."""
    said = _read(file, read, place)
    if said is None:
        return
    folder = posixpath.dirname(file)
    if posixpath.basename(file) != LOCK:
        _refuse_import(file, said, place)
        yield from _entries(said, folder, said.get("wdir"))
        return
    stages = said.get("stages")
    plain = stages if isinstance(stages, dict) else {}
    pipeline = _read(posixpath.join(folder, _PIPELINE), read, place) or {} if plain else {}
    written = pipeline.get("stages")
    for name, stage in plain.items():
        if isinstance(stage, dict):
            of = written.get(str(name).partition("@")[0]) if isinstance(written, dict) else None
            yield from _entries(stage, folder, of.get("wdir") if isinstance(of, dict) else None)


def _entries(said: Mapping[str, Any], folder: str, wdir: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give entries of ``outs``; paths are relative to ``wdir``, and that to the file's folder."""
    base = posixpath.join(folder, wdir) if isinstance(wdir, str) else folder
    outs = said.get("outs")
    for entry in outs if isinstance(outs, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            yield posixpath.normpath(posixpath.join(base, entry["path"])), entry


def _refuse_import(file: str, said: Mapping[str, Any], place: str) -> None:
    deps = said.get("deps")
    for dep in deps if isinstance(deps, list) else ():
        if isinstance(dep, dict) and "repo" in dep:
            msg = (
                f"{file} at {place} imports from another data repository, whose remote has the bytes; "
                "name that repository as repoURL"
            )
            raise Stalled("DataSourceUnsupported", msg)


def _pointer(file: str, path: str, entry: Mapping[str, Any], place: str) -> Pointer:
    md5, algorithm, remote = entry.get("md5"), entry.get("hash"), entry.get("remote")
    if entry.get("files") or entry.get("version_id") or entry.get("cloud"):
        msg = (
            f"{path} in {file} at {place} is kept in a remote with versions of its own (version_aware, worktree); "
            "use a remote that names files by their content"
        )
        raise Stalled("DataSourceUnsupported", msg)
    if entry.get("cache") is False:
        msg = f"{path} in {file} at {place} is kept in git itself (cache: false), not by DVC; Trunkline cannot use it"
        raise Stalled("DataSourceUnsupported", msg)
    if not isinstance(md5, str) or not _MD5.fullmatch(md5) or algorithm not in (None, "md5"):
        msg = f"{path} in {file} at {place} has no md5 that could be pinned; run `dvc commit`, then commit {file}"
        raise Stalled("DataMissing", msg)
    if path.startswith(("/", "../")) or path in (".", "..") or "://" in path:
        msg = f"{file} at {place} names {path}, which is outside the repository; add the data with `dvc add`"
        raise Stalled("DataSourceUnsupported", msg)
    return Pointer(file, path, f"md5:{md5}", algorithm is None, remote if isinstance(remote, str) else None)


def _read(file: str, read: Read, place: str) -> dict[str, Any] | None:
    data = read(file)
    if data is None:
        return None
    if len(data) > SIZE_LIMIT:
        raise Stalled("DataMissing", f"{file} at {place} has more than {SIZE_LIMIT} bytes; that is no pointer file")
    try:
        said = yaml.load(data, Loader=_LOADER)  # noqa: S506  a safe loader: it makes plain values only
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise Stalled("DataMissing", f"{file} at {place} cannot be read as YAML: {why}; run `dvc add` again") from error
    if not isinstance(said, dict):
        raise Stalled("DataMissing", f"{file} at {place} is no pointer file of DVC; run `dvc add` again")
    return said
