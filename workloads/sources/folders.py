"""Data sets in folders of this machine, or of a disk that is mounted here: only where the operator allows it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from specs.addresses import shown
from specs.digests import tree_digest
from specs.errors import Stalled, Transient
from workloads.sources import Told
from workloads.sources.archives import Limits
from workloads.sources.kept import CHUNK, Entry
from workloads.sources.names import Names

FOLDERS = "TRUNKLINE_DATA_FOLDERS"
"""Variable: folders that ``file://`` data may lie below, divided by colons."""

_Looked = dict[str, tuple[int, int, int]]
"""Path to size, time of the last change in nanoseconds, and number of the file."""


def allowed(url: str) -> Path:
    """Give the path that a ``file://`` URL names; Stalled ``AddressRefused`` outside of the allowed folders."""
    path = Path(unquote(urlsplit(url).path)).resolve()
    folders = [Path(each).resolve() for each in os.environ.get(FOLDERS, "").split(":") if each]
    if not any(path.is_relative_to(folder) for folder in folders):
        msg = (
            f"{shown(url)} lies below no folder that the operator allows for data; "
            "data.allow_folders in trunkline.toml names them"
        )
        raise Stalled("AddressRefused", msg)
    if not path.exists():
        raise Stalled("DataRefused", f"{shown(url)} does not exist; correct the URL, or put it there")
    return path


def copy_file(source: Path, target: Path, url: str, told: Told) -> int:
    """Copy an archive; gives its size. Transient ``DataChanging`` where somebody writes to it meanwhile."""
    if not source.is_file():
        raise Stalled("DataRefused", f"{shown(url)} is no file, as archives are; correct the URL")
    total = source.stat().st_size
    return _copy(_open(source.name, url, str(source)), target, url, lambda done: told("fetching", done, total))[0]


@dataclass(frozen=True)
class Copied:
    """A folder as it was: a private copy, and its digest."""

    digest: str
    bytes: int


def copy_tree(source: Path, target: Path, url: str, told: Told) -> Copied:
    """Copy the files of a folder, hidden ones aside.

    Transient ``DataChanging`` where it changed meanwhile; Hopeless ``InvalidDataset`` for links and other odd things.
    """
    before = _look(source, url)
    entries: list[Entry] = []
    for entry in _copies(source, target, url):
        entries.append(entry)
        told("fetching", len(entries), len(before))
    if _look(source, url) != before or {path for path, _, _ in entries} != before.keys():
        raise _changing(url)
    return Copied(tree_digest(entries), sum(size for _, size, _ in entries))


def _look(source: Path, url: str) -> _Looked:
    """List the files of a folder, without following or opening anything."""
    names, limits = Names(shown(url), "InvalidDataset"), Limits()
    found: _Looked = {}
    total = 0
    for path, name, folder in _walk(source):
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(about.st_mode):
            raise names.refusal(f"holds {path!r}, which is a link or a device; put the file itself there")
        names.claim(names.plain(path))
        found[path] = (about.st_size, about.st_mtime_ns, about.st_ino)
        total += about.st_size
        if len(found) > limits.entries or total > limits.total:
            raise names.refusal(f"holds more than {limits.entries} files or {limits.total} bytes; divide it")
    if not found:
        raise Stalled("DataRefused", f"{shown(url)} holds no files; correct the URL, or put the data set there")
    return found


def _copies(source: Path, target: Path, url: str) -> Iterator[Entry]:
    for path, name, folder in _walk(source):
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        yield path, *_copy(_open(path, url, name, folder), place, url)


def _open(path: str, url: str, name: str, folder: int | None = None) -> int:
    """Open a file that was a plain one a moment ago; never follows a link, never waits for a pipe."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except PermissionError as error:
        raise Stalled("DataRefused", f"{path} of {shown(url)} cannot be read; make it readable for jobs") from error
    except OSError as error:
        raise _changing(url) from error


def _walk(source: Path) -> Iterator[tuple[str, str, int]]:
    """Give (path in the folder, name, descriptor of its own folder); links to folders are not followed."""
    for top, folders, files, descriptor in os.fwalk(source, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=descriptor).st_mode)]
        for name in sorted([*links, *files]):
            if not name.startswith("."):
                yield Path(top, name).relative_to(source).as_posix(), name, descriptor


def _raise(error: OSError) -> None:
    raise Stalled("DataRefused", f"a folder of the data cannot be read: {error.strerror}; make it readable") from error


def _copy(
    descriptor: int, target: Path, url: str, counted: Callable[[int], None] = lambda done: None
) -> tuple[int, str]:
    """Copy an open file, and close it; gives size and SHA-256. Transient where it changed meanwhile."""
    digest = hashlib.sha256()
    with os.fdopen(descriptor, "rb") as source, target.open("wb") as file:
        before = os.fstat(descriptor)
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
            counted(file.tell())
            if file.tell() > before.st_size:
                break  # somebody may write to it for ever
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _changing(url)
    return after.st_size, digest.hexdigest()


def _changing(url: str) -> Transient:
    msg = f"{shown(url)} changed while it was read; it is read again. Write data sets once, under a new name each"
    return Transient("DataChanging", msg)
