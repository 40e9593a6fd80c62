"""Files of the store on the server's own disk, by digest, checked whenever they are read; and what it made of them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from specs.digests import digest_bytes, hex_of
from specs.errors import CorruptArtifact, Transient
from workloads.serve.builds import Builds


class Blobs(Protocol):
    """The part of ``adapters.store.Store`` that a server uses."""

    def read(self, key: str) -> bytes | None:
        """Give a record's text, or None."""

    def fetch_blob(self, digest: str, dest: Path) -> object:
        """Write a blob to ``dest``; CorruptArtifact, Stalled ``BlobMissing``, Transient."""


class Cache:
    """A directory of files that are named by the digest of their bytes; half-written ones begin with a dot."""

    def __init__(self, root: Path, store: Blobs, builds: Builds | None = None) -> None:
        """Make the directory, and remove what a killed server left half-written. Without ``builds`` nothing is made."""
        self.builds = builds
        self._root = root
        self._store = store
        root.mkdir(parents=True, exist_ok=True)
        for partial in root.glob(".*"):
            partial.unlink(missing_ok=True)

    def read(self, digest: str) -> bytes:
        """Give the bytes of a file, from here or from the store.

        A copy here that rotted is fetched again. Raises CorruptArtifact where the store's bytes differ from the
        digest, Stalled ``BlobMissing`` where it has none, Transient where disk or store are in trouble.
        """
        path = self._root / hex_of(digest)
        try:
            data = path.read_bytes() if path.exists() else b""
            if data and digest_bytes(data) == digest:
                return data
            return self._fetch(digest, path)
        except OSError as error:
            raise Transient("CacheUnavailable", f"cannot keep files under {self._root}: {error}") from error

    def _fetch(self, digest: str, path: Path) -> bytes:
        partial = self._root / f".{uuid.uuid4().hex}"
        try:
            self._store.fetch_blob(digest, partial)
            data = partial.read_bytes()
            if digest_bytes(data) != digest:
                raise CorruptArtifact(f"the store's bytes for {digest} have the digest {digest_bytes(data)}")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return data

    def prune(self, keep: Iterable[str]) -> None:
        """Remove all files but those with the digests in ``keep``, and what was made of others.

        What cannot be removed is left for the next time.
        """
        keep = set(keep)
        if self.builds is not None:
            self.builds.prune(keep)
        wanted = {hex_of(digest) for digest in keep}
        with contextlib.suppress(OSError):
            for path in self._root.iterdir():
                if path.name not in wanted and not path.name.startswith("."):
                    path.unlink(missing_ok=True)
