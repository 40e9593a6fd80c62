"""Says and shows how two versions of a data set differ: what was added, removed, and labelled anew."""

from __future__ import annotations

from pathlib import Path

from adapters.store import Store
from specs.data_records import ClassDifference, DifferenceRecord, difference_key
from specs.dataset_diff import Changes, changes
from specs.datasets import Picture
from specs.records import DatasetManifest
from specs.workorders import DiffOrder
from workloads.choosing import Choice
from workloads.dataset import load_manifest
from workloads.looking import Unusable, look
from workloads.progress import Reporter
from workloads.sheets import COLUMNS, Row, Tile, sheet
from workloads.tiles import tile

_LOOKED_AT = 8 * COLUMNS
"""Pictures of one kind that the contact sheet's are chosen from."""


def run(order: DiffOrder, store: Store, scratch: Path) -> None:  # noqa: ARG001 - all kinds of jobs begin alike
    """Write the DifferenceRecord, after the picture that it names.

    Stalled where the store's material is not what the order names; Hopeless where it was made for another task.
    """
    before, after = (load_manifest(store, digest, order.task) for digest in (order.before, order.after))
    found = changes(before, after)
    with Reporter(store, order.job) as reporter:
        reporter.report("drawing what changed")
        page = _page(store, before, after, found)
        record = DifferenceRecord(
            before=order.before, after=order.after, images=(before.images, after.images),
            added=len(found.added), removed=len(found.removed), relabelled=len(found.relabelled),
            labelled=sum(map(_is_labelled, found.added)), classes=_classes(before, after),
            files={"difference.jpg": store.put_blob(page)} if page else {},
        )  # fmt: skip
        store.create(difference_key(order.before, order.after), record.encode())


def _is_labelled(picture: Picture) -> bool:
    """Whether somebody looked: an empty label file says that nothing is there, none at all says nothing."""
    return bool(picture.class_name) or picture.label is not None


def _classes(before: DatasetManifest, after: DatasetManifest) -> list[ClassDifference]:
    names = [*after.names, *(name for name in before.names if name not in after.names)]
    return [
        ClassDifference(name=name, before=_number(before, name), after=_number(after, name)) for name in names
    ]  # fmt: skip


def _number(manifest: DatasetManifest, name: str) -> int | None:
    return manifest.class_counts.get(name, 0) if name in manifest.names else None


def _page(store: Store, before: DatasetManifest, after: DatasetManifest, found: Changes) -> bytes:
    """Draw a row for each kind of change that there is; empty where nothing changed that can be shown."""
    kinds: tuple[tuple[str, DatasetManifest, dict[str, tuple[Picture, ...]]], ...] = (
        ("Added", after, {picture.file.digest: (picture,) for picture in found.added}),
        ("Removed", before, {picture.file.digest: (picture,) for picture in found.removed}),
        ("Relabelled, before and after", after, {pair[1].file.digest: pair for pair in found.relabelled}),
    )
    rows, names = [], [*after.names, *(name for name in before.names if name not in after.names)]
    for title, manifest, pictures in kinds:
        tiles = _tiles(store, before, manifest, pictures, names)
        if tiles:
            rows.append(Row(f"{title}: {len(pictures):,}", tiles))
    heading = f"{before.images:,} pictures before, {after.images:,} after"
    return sheet(heading, rows, names) if rows else b""


def _tiles(
    store: Store, before: DatasetManifest, manifest: DatasetManifest, pictures: dict[str, tuple[Picture, ...]],
    names: list[str],
) -> list[Tile]:  # fmt: skip
    """Choose pictures by the classes that they show, and give them, a relabelled one with what it was before it."""
    tiles: dict[str, tuple[Tile, ...]] = {}
    size = COLUMNS
    choice = Choice(names, size)
    for digest in sorted(pictures)[:_LOOKED_AT]:
        *old, new = pictures[digest]
        try:
            look(store.read_blob(digest))
        except Unusable:
            continue
        size = COLUMNS // (1 + len(old))
        tiles[digest] = (
            *(tile(store, before, picture, names, arrow=True) for picture in old), tile(store, manifest, new, names),
        )  # fmt: skip
        choice.offer(new, [names[number] for number in tiles[digest][-1].classes])
    return [each for picture in choice.chosen()[:size] for each in tiles[picture.file.digest]]
