"""Data sets in buckets: ``s3://`` and ``gs://``. Endpoint and credentials are the environment's, never the spec's."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from specs.addresses import shown
from specs.errors import Stalled, Transient
from workloads.sources.archives import Limits
from workloads.sources.kept import CHUNK, sha256_of
from workloads.sources.names import Names

_BLOCK = 8 * CHUNK
_DISK = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Object:
    """An object of a bucket, as a list tells it. ``version`` changes whenever its bytes do."""

    key: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """Names these very bytes, by the bucket's word."""
        return f"{self.key}\n{self.version}\n{self.size}"


class Bucket:
    """What lies behind one URL. Any method may raise Transient ``DataSourceUnreachable`` or Stalled ``DataRefused``."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        self._files = _filesystem(parts.scheme, url)

    def look(self) -> dict[str, Object]:
        """List the files below the URL, hidden ones aside: path to object."""
        with self._guard():
            found = self._files.find(self._root, detail=True)
        names, limits = Names(shown(self._url), "InvalidDataset"), Limits()
        objects: dict[str, Object] = {}
        for key, about in sorted(found.items()):
            path = key[len(self._root) + 1 :]
            if key.endswith("/") or not path or any(part.startswith(".") for part in path.split("/")):
                continue  # what consoles make to show a folder, and what nobody means
            plain = names.plain(path)
            names.claim(plain)
            objects[plain] = _object(key, about)
        if not objects:
            msg = f"{shown(self._url)} holds no files; correct the URL, or put the data set there"
            raise Stalled("DataRefused", msg)
        if len(objects) > limits.entries or sum(each.size for each in objects.values()) > limits.total:
            raise names.refusal(f"holds more than {limits.entries} files or {limits.total} bytes; divide it")
        return objects

    def get(self, wanted: Object, target: Path) -> str:
        """Fetch an object; gives its SHA-256 in hexadecimal."""
        with self._guard():
            self._files.get_file(wanted.key, str(target))
        return sha256_of(target)

    def get_archive(self, part: Path, counted: Callable[[int, int], None]) -> int:
        """Fetch the one object that the URL names, going on where an earlier attempt ended; gives the bytes got now.

        Transient ``DataChanging`` where it is replaced meanwhile.
        """
        note = part.with_name(part.name + ".json")
        with self._guard():
            wanted = _object(self._root, self._files.info(self._root))
            if _noted(note) != wanted.version:
                part.unlink(missing_ok=True)
                note.write_text(json.dumps(wanted.version))
            there = began = part.stat().st_size if part.is_file() else 0
            with self._files.open(self._root, "rb", block_size=_BLOCK) as source, part.open("ab") as file:
                source.seek(there)
                while chunk := source.read(CHUNK):
                    file.write(chunk)
                    there += len(chunk)
                    counted(there, wanted.size)
            if _object(self._root, self._files.info(self._root)) != wanted or there != wanted.size:
                part.unlink()
                raise changing(self._url)
        note.unlink(missing_ok=True)
        return there - began

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Let no error of a library out, nor what it may quote."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        place = shown(self._url)
        try:
            yield
        except FileNotFoundError as error:
            raise Stalled("DataRefused", f"{place} does not exist; correct the URL, or put it there") from error
        except (PermissionError, NoCredentialsError) as error:
            words = "the job may not read it: give its environment credentials that may, or correct the URL"
            raise Stalled("DataRefused", f"{place}: {words}") from error
        except (BotoCoreError, ClientError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            raise Transient("DataSourceUnreachable", f"{place}: {type(error).__name__}: {error}") from error


def changing(url: str) -> Transient:
    """Say that a place changed while it was read."""
    msg = f"{shown(url)} changed while it was read; it is read again. Write data sets once, under a new name each"
    return Transient("DataChanging", msg)


def _noted(note: Path) -> str:
    try:
        return str(json.loads(note.read_text()))
    except (OSError, ValueError):
        return ""


def _object(key: str, about: dict[str, Any]) -> Object:
    version = about.get("ETag") or about.get("etag") or about.get("LastModified") or about.get("updated") or ""
    return Object(key, int(about.get("size") or 0), str(version))


def _filesystem(scheme: str, url: str) -> Any:
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        options |= {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60}}
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs"}[scheme]
        msg = f"{shown(url)} needs the package {package}, which is not in the image of jobs; install it there"
        raise Stalled("LibraryMissing", msg) from error
