"""The artifact store: write-once records and content-addressed files behind one URL, ``file://`` or ``s3://``.

Whatever happens (a kill, a full disk, two writers), a key is either absent or holds all the bytes that its first writer
meant. Files are named by their digest and checked whenever they are read. Nothing is ever deleted here, but for what
lies below ``kept/``: pictures of live traffic, which have their day and go; and below ``checkpoints/``: the state of
trainings that are not over.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from adapters.store_folder import NO_ROOM, Backend, Folder, Writable, pour
from specs.digests import hex_of
from specs.errors import CorruptArtifact, Stalled, Transient

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_KEY = re.compile(rf"{_PART}(/{_PART})*")
_KEY_LENGTH = 512
_BLOBS = "blobs/"
_PROGRESS = "progress/"
_KEPT = "kept/"
_CHECKPOINTS = "checkpoints/"
_REPLACED = (_PROGRESS, _CHECKPOINTS, "fleet/devices/")
"""Where a record says how something is now, and not what happened."""
_REMOVED = (_KEPT, _CHECKPOINTS)


class Store:
    """One store. ``url`` is a path, ``file:///path``, or ``s3://bucket/folder``.

    Many processes and threads may use it at once. Any method may raise Transient ``StoreUnavailable`` or ``StoreFull``.
    """

    def __init__(self, url: str) -> None:
        self.url, self._bytes = _backend(url)

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None where there is none."""
        with self._bytes.open(_key(key)) as stream:
            return None if stream is None else stream.read()

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once. True if this call wrote it; False if one is there already: the first one wins."""
        if _key(key).startswith((_BLOBS, *_REPLACED, *_REMOVED)):
            msg = f"{key} is no record: files are stored by put_blob, progress by replace, what goes again by keep"
            raise Stalled("KeyInvalid", msg)
        return self._bytes.add(key, io.BytesIO(data), hashlib.sha256(data).hexdigest())

    def replace(self, key: str, data: bytes) -> None:
        """Write what says how something is now, and not what happened, over an older one."""
        if not _key(key).startswith(_REPLACED):
            places = " and ".join(_REPLACED)
            raise Stalled("KeyInvalid", f"{key} is write-once; only what lies below {places} may be replaced")
        self._bytes.put(key, data)

    def keep(self, key: str, data: Path | bytes) -> bool:
        """Write something below ``kept/`` or ``checkpoints/`` once, whole or not at all.

        False where something is there already.
        """
        with _readable(data) as stream:
            digest = pour(stream, _Nowhere())
            stream.seek(0)
            return self._bytes.add(_kept(key), stream, digest)

    def forget(self, key: str) -> None:
        """Remove something below these; nothing happens where it is gone already, so two may do it at once."""
        self._bytes.remove(_kept(key))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Give the keys that begin with ``prefix``, sorted, and how many bytes each one has."""
        _key(prefix.removesuffix("/"))
        found = self._bytes.sizes(prefix)
        return {key: found[key] for key in sorted(found) if _KEY.fullmatch(key)}

    def stamps(self, prefix: str) -> dict[str, str]:
        """Give the keys that begin with ``prefix``, sorted, each with what is another after it was replaced."""
        _key(prefix.removesuffix("/"))
        found = self._bytes.stamps(prefix)
        return {key: found[key] for key in sorted(found) if _KEY.fullmatch(key)}

    def has_blob(self, digest: str) -> bool:
        """Whether a file is there (its bytes are checked when it is read)."""
        return self._bytes.exists(_blob(digest))

    def read_blob(self, digest: str) -> bytes:
        """Give a file's bytes, verified; CorruptArtifact where they differ, Stalled ``BlobMissing`` where absent."""
        buffer = io.BytesIO()
        self._copy(_blob(digest), digest, buffer)
        return buffer.getvalue()

    def put_blob(self, source: Path | bytes) -> str:
        """Store a file and give its digest; nothing is written where it is there already. Memory stays constant."""
        with _readable(source) as stream:
            digest = pour(stream, _Nowhere())
            key = f"{_BLOBS}sha256/{digest}"
            if not self._bytes.exists(key):
                stream.seek(0)
                self._bytes.add(key, stream, digest)
        return f"sha256:{digest}"

    def fetch_blob(self, digest: str, destination: Path) -> None:
        """Copy a file out. It appears under its name only whole and verified; else nothing is left behind.

        CorruptArtifact and Stalled ``BlobMissing`` as in ``read_blob``; Transient ``DiskFull`` where there is no room.
        """
        self.fetch(_blob(digest), digest, destination)

    def fetch(self, key: str, digest: str, destination: Path) -> None:
        """Copy out what lies under a key and must have this digest, as ``fetch_blob`` does."""
        part = destination.with_name(f".{destination.name[:100]}.{uuid.uuid4().hex}.part")
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as target:
                self._copy(_key(key), digest, _Local(target))
            part.replace(destination)
        except _LocalTrouble as error:
            raise _disk(destination, error.cause) from error
        except OSError as error:
            raise _disk(destination, error) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def sweep(self, *, kept: bool = False) -> int:
        """Remove what killed writers left behind over an hour ago; give how many files.

        ``kept``: only what was on its way to ``kept/``, for whoever may write nowhere else.
        """
        return self._bytes.sweep(kept=kept)

    def _copy(self, key: str, digest: str, target: Writable) -> None:
        with self._bytes.open(key) as stream:
            if stream is None:
                msg = f"the file {digest} is not in the store {self.url}; put it there again, or correct what names it"
                raise Stalled("BlobMissing", msg)
            found = pour(stream, target)
        if found != hex_of(digest):
            msg = (
                f"the file {digest} in the store {self.url} is damaged or was changed: its bytes have the digest "
                f"sha256:{found}. Restore it from a copy, or move it away and have it made again"
            )
            raise CorruptArtifact(msg)

    def list(self, prefix: str = "") -> list[str]:
        """Give the keys that begin with ``prefix``, sorted; half-written files are none."""
        if prefix:
            _key(prefix.removesuffix("/"))
        return [key for key in self._bytes.keys(prefix) if _KEY.fullmatch(key)]


class _LocalTrouble(Exception):
    """Writing outside the store failed. No OSError, which would be taken for the store's own."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Nowhere:
    """Takes bytes and drops them."""

    def write(self, data: bytes, /) -> int:
        return len(data)


class _Local:
    """A file outside the store."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, data: bytes, /) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            raise _LocalTrouble(error) from error


def _disk(destination: Path, error: OSError) -> Transient:
    reason = "DiskFull" if error.errno in NO_ROOM else "DiskUnavailable"
    return Transient(reason, f"{destination} cannot be written: {error.strerror or error}")


def _backend(url: str) -> tuple[str, Backend]:
    """Give the address as it may be shown, and what is behind it; Stalled ``StoreUrlInvalid``."""
    parts = urlsplit(url)
    plain = not ("://" in url and any(mark in url for mark in "@?#"))
    if "://" not in url:
        root = Path(url).absolute()
        if url and "\0" not in url:
            return root.as_uri(), Folder(root)
    elif plain and parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return url, Folder(Path(unquote(parts.path)))
    elif plain and parts.scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
        folder = parts.path.strip("/")
        if not folder or _KEY.fullmatch(folder):
            address = f"{parts.netloc}/{folder}".rstrip("/")
            return f"s3://{address}", _bucket(address)
    shown = repr(url) if plain else f"{parts.scheme}://…"
    msg = (
        f"the store's URL {shown} must be a path, file:///path, or s3://bucket/folder; endpoint and credentials of S3 "
        "belong into the environment (AWS_ENDPOINT_URL, AWS_PROFILE …), never into the URL"
    )
    raise Stalled("StoreUrlInvalid", msg)


def _bucket(address: str) -> Backend:
    try:
        from adapters.store_bucket import Bucket  # noqa: PLC0415 - three times the import time of all the rest
    except ImportError as error:
        raise Stalled("StoreUnsupported", "an s3:// store needs the extra: pip install 'trunkline[s3]'") from error
    return Bucket(address)


def _key(key: str) -> str:
    """Give a key back; Stalled ``KeyInvalid`` where it could mean anything but one place in the store."""
    if len(key) > _KEY_LENGTH or not _KEY.fullmatch(key):
        msg = (
            f"{key!r} is no key: use letters, digits, '.', '_' and '-', parts separated by '/', none beginning with '.'"
        )
        raise Stalled("KeyInvalid", msg)
    return key


def _kept(key: str) -> str:
    """Give a key back; Stalled ``KeyInvalid`` for all that must stay for ever."""
    if not _key(key).startswith(_REMOVED):
        places = " and ".join(_REMOVED)
        raise Stalled("KeyInvalid", f"{key} stays: only what lies below {places} may be written and removed like this")
    return key


def _blob(digest: str) -> str:
    try:
        return f"{_BLOBS}sha256/{hex_of(digest)}"
    except ValueError as error:
        raise Stalled("DigestInvalid", f"{error}; it must be sha256: and 64 hexadecimal digits") from error


@contextlib.contextmanager
def _readable(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        stream = source.open("rb")
    except OSError as error:
        raise Stalled("SourceMissing", f"{source} cannot be stored: {error.strerror or error}") from error
    with stream:
        yield stream
