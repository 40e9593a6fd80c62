"""What differs between two data sets: pictures by their bytes, classes by their names. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from specs.datasets import Picture, pictures
from specs.records import DatasetManifest


@dataclass(frozen=True)
class DatasetDifference:
    """Two manifests compared, in numbers."""

    images: tuple[int, int]
    """Before and after."""
    added: int
    removed: int
    """Pictures whose bytes only one of them has."""
    relabelled: int
    """Pictures that both have, with other labels; for classify: in other classes."""
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Changes:
    """Two manifests compared, picture by picture, in the order of paths. Copies of a picture are one picture."""

    added: tuple[Picture, ...]
    removed: tuple[Picture, ...]
    relabelled: tuple[tuple[Picture, Picture], ...]
    """As it was, and as it is."""


def changes(before: DatasetManifest, after: DatasetManifest) -> Changes:
    """Say which pictures were added, removed and relabelled. A picture that was renamed is the same picture."""
    old, new = _by_bytes(pictures(before)), _by_bytes(pictures(after))
    return Changes(
        tuple(found[0] for digest, found in new.items() if digest not in old),
        tuple(found[0] for digest, found in old.items() if digest not in new),
        tuple(
            _that_differ(old[digest], found) for digest, found in new.items()
            if digest in old and _labels(old[digest]) != _labels(found)
        ),
    )  # fmt: skip


def difference(before: DatasetManifest, after: DatasetManifest) -> DatasetDifference:
    """Count what ``changes`` lists."""
    found = changes(before, after)
    return DatasetDifference(
        (before.images, after.images), len(found.added), len(found.removed), len(found.relabelled),
        tuple(name for name in after.names if name not in before.names),
        tuple(name for name in before.names if name not in after.names),
    )  # fmt: skip


def _by_bytes(found: Sequence[Picture]) -> dict[str, list[Picture]]:
    copies: dict[str, list[Picture]] = defaultdict(list)
    for picture in found:
        copies[picture.file.digest].append(picture)
    return copies


def _label(picture: Picture) -> str:
    """Name what a picture is labelled with; no label and an empty one mean the same."""
    if picture.label is None or picture.label.size == 0:
        return picture.class_name
    return picture.label.digest


def _labels(copies: Sequence[Picture]) -> frozenset[str]:
    return frozenset(map(_label, copies))


def _that_differ(old: Sequence[Picture], new: Sequence[Picture]) -> tuple[Picture, Picture]:
    """Give the first copy on each side that the other side has not."""
    known, wanted = _labels(old), _labels(new)
    return (
        next((copy for copy in old if _label(copy) not in wanted), old[0]),
        next((copy for copy in new if _label(copy) not in known), new[0]),
    )
