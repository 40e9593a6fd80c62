"""What differs between two data sets: pictures by their bytes, classes by their names. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from specs.datasets import is_picture
from specs.records import DatasetManifest


@dataclass(frozen=True)
class DatasetDifference:
    """Two manifests compared."""

    images: tuple[int, int]
    """Before and after."""
    added: int
    removed: int
    """Pictures whose bytes only one of them has."""
    relabelled: int
    """Other files (labels) that are in both under the same path, with other bytes."""
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()


def difference(before: DatasetManifest, after: DatasetManifest) -> DatasetDifference:
    """Compare two data sets. A picture that was renamed is the same picture."""
    old, new = before.image_digests(), after.image_digests()
    labels = {entry.path: entry.digest for entry in before.files if not is_picture(entry.path)}
    changed = [
        entry for entry in after.files
        if not is_picture(entry.path) and labels.get(entry.path, entry.digest) != entry.digest
    ]  # fmt: skip
    return DatasetDifference(
        (before.images, after.images), len(new - old), len(old - new), len(changed),
        tuple(name for name in after.names if name not in before.names),
        tuple(name for name in before.names if name not in after.names),
    )  # fmt: skip
