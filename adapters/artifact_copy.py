"""Brings what a training needs from one store into another, verified on the way; the source is only read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.store import Store
from specs.datasets import read_manifest
from specs.records import dataset_key

_FETCHES = 8
Told = Callable[[int, int], None]
"""Is told how many files are there, of how many."""


def copy_dataset(source: Store, target: Store, digest: str, told: Told = lambda done, total: None) -> None:
    """Bring a data set, manifest last; Stalled ``DatasetMissing``, ``BlobMissing`` or CorruptArtifact."""
    text = source.read(dataset_key(digest)) or b""
    manifest = read_manifest(text, digest)
    copy_blobs(source, target, (entry.digest for entry in manifest.files), told)
    target.create(dataset_key(digest), text)


def copy_blobs(
    source: Store, target: Store, digests: Iterable[str], told: Told = lambda done, total: None
) -> None:
    """Bring files by digest; those that are there already are not asked for."""
    wanted = [digest for digest in dict.fromkeys(digests) if not target.has_blob(digest)]
    with tempfile.TemporaryDirectory(prefix="trunkline-copy-") as folder, ThreadPoolExecutor(_FETCHES) as pool:

        def bring(numbered: tuple[int, str]) -> None:
            path = Path(folder, str(numbered[0]))
            source.fetch_blob(numbered[1], path)
            target.put_blob(path)
            path.unlink()

        for done, _ in enumerate(pool.map(bring, enumerate(wanted)), 1):
            told(done, len(wanted))
