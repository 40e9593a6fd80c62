"""The store in a folder. Keys arrive checked; errors leave as ours.

Written with plain system calls and not through fsspec: fsspec has no "appear whole under this name unless it is
taken" (a link does that), no fsync, and takes a tenth of a second to import, in every job.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from specs.errors import Stalled, Transient

CHUNK = 1024 * 1024
_SCRATCH = ".tmp"
_APART = "kept"
"""A folder that may be a mount of its own, the only one that servers may write to: its scratch files are inside it."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_STALE_SECONDS = 3600.0


class Backend(Protocol):
    """Bytes under keys."""

    def open(self, key: str) -> contextlib.AbstractContextManager[BinaryIO | None]:
        """Open for reading; None where there is nothing."""

    def exists(self, key: str) -> bool:
        """Whether something is there."""

    def add(self, key: str, source: BinaryIO, digest: str) -> bool:
        """Write what ``source`` gives, whole or not at all, unless the key is taken: False.

        Transient ``SourceChanged`` where the bytes turn out not to have ``digest`` (64 hexadecimal digits).
        """

    def put(self, key: str, data: bytes) -> None:
        """Write, whole or not at all, over whatever is there."""

    def remove(self, key: str) -> None:
        """Remove what is there, if anything is."""

    def keys(self, prefix: str) -> list[str]:
        """Give the keys that begin with ``prefix``, sorted."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Give these keys, and how many bytes each one has; what is removed meanwhile may be missing."""

    def stamps(self, prefix: str) -> dict[str, str]:
        """Give these keys, each with something that changes when it is written over."""

    def sweep(self, *, kept: bool) -> int:
        """Remove what killed writers (of kept things alone, or of all) left behind over an hour ago; give how many."""


class Writable(Protocol):
    """Anything that takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take all of them."""


def pour(source: BinaryIO, target: Writable) -> str:
    """Copy a stream with constant memory; give the SHA-256 of what went through, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def trouble(error: OSError, where: str) -> Transient:
    """Say in our words what the system says about a file or bucket."""
    if error.errno in NO_ROOM:
        return Transient(
            "StoreFull", f"no room left in {where} ({error.strerror}); free some, nothing half-written was kept"
        )
    return Transient(
        "StoreUnavailable", f"{where} cannot be used: {error.strerror or error}; check that it is there and yours"
    )


class Folder:
    """A folder of a local or shared file system that has hard links. Made at the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[BinaryIO | None]:
        """See Backend."""
        with self._guard():
            try:
                stream = (self.root / key).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                yield None
                return
            with stream:
                yield stream

    def exists(self, key: str) -> bool:
        """See Backend."""
        with self._guard():
            return (self.root / key).is_file()

    def add(self, key: str, source: BinaryIO, digest: str) -> bool:
        """See Backend. The file is on disk, name and all, before this returns."""
        with self._guard(), self._written(key, source, digest) as path:
            target = self.root / key
            self._make_folder(target.parent)
            try:
                os.link(path, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                msg = f"the file system of {self.root} has no hard links; put the store on one that has, or on S3"
                raise Stalled("StoreUnsupported", msg) from error
            _sync_folder(target.parent)
            return True

    def put(self, key: str, data: bytes) -> None:
        """See Backend. Not synced: what is overwritten all the time may be lost with the machine."""
        with self._guard(), self._named(key) as path:
            path.write_bytes(data)
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self.root / key)

    def remove(self, key: str) -> None:
        """See Backend. A folder in which nothing is left goes along."""
        with self._guard(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (self.root / key).unlink()
        with contextlib.suppress(OSError):
            (self.root / key).parent.rmdir()

    def sizes(self, prefix: str) -> dict[str, int]:
        """See Backend."""
        found: dict[str, int] = {}
        for key in self.keys(prefix):
            with self._guard(), contextlib.suppress(FileNotFoundError):
                found[key] = (self.root / key).stat().st_size
        return found

    def stamps(self, prefix: str) -> dict[str, str]:
        """See Backend."""
        found: dict[str, str] = {}
        for key in self.keys(prefix):
            with self._guard(), contextlib.suppress(FileNotFoundError):
                about = (self.root / key).stat()
                found[key] = f"{about.st_mtime_ns}-{about.st_ino}-{about.st_size}"
        return found

    def keys(self, prefix: str) -> list[str]:
        """See Backend."""
        with self._guard():
            walk = os.walk(self.root / prefix.rpartition("/")[0], onerror=_unless_absent)
            found = (
                (Path(folder) / name).relative_to(self.root).as_posix() for folder, _, names in walk for name in names
            )
            return sorted(key for key in found if key.startswith(prefix))

    def sweep(self, *, kept: bool) -> int:
        """See Backend."""
        swept = 0
        folders = (self.root / _APART, *(() if kept else (self.root,)))
        with self._guard():
            for leftover in (path for folder in folders for path in (folder / _SCRATCH).glob("*")):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                        leftover.unlink()
                        swept += 1
        return swept

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise trouble(error, f"the store {self.root}") from error

    @contextlib.contextmanager
    def _named(self, key: str) -> Iterator[Path]:
        """Give the name of a file to write, which is gone afterwards."""
        scratch = self.root / (_APART if key.startswith(f"{_APART}/") else "") / _SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written(self, key: str, source: BinaryIO, digest: str) -> Iterator[Path]:
        with self._named(key) as path:
            with path.open("xb") as target:
                if pour(source, target) != digest:
                    raise changed()
                target.flush()
                os.fsync(target.fileno())
            path.chmod(0o444)
            yield path

    def _make_folder(self, folder: Path) -> None:
        """Make a folder so that its name survives a power cut, too."""
        if folder.is_dir():
            return  # nearly always, and looking at all that is above it costs as much as a sync
        missing = [path for path in (folder, *folder.parents) if not path.is_dir()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            _sync_folder(path.parent)


def changed() -> Transient:
    """Say that a file is still being written."""
    return Transient("SourceChanged", "the file changed while it was being stored; store it when it is finished")


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
