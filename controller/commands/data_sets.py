"""``trunkline data list``, ``show`` and ``diff``: the data sets that are in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import click

from adapters.store import Store
from controller import wiring
from controller.console import as_json, console, print_json, settings, table
from controller.data_sets import Reference, digests, find, manifest, models, place, references
from controller.named_data import imports
from specs.data import Source
from specs.dataset_diff import Changes, changes, difference
from specs.datasets import Picture
from specs.digests import short
from specs.records import DatasetManifest

_SHOWN = 10
"""Pictures of one kind that ``diff`` lists for people."""


@dataclass(frozen=True)
class DataSet:
    """One data set of the store, and who has to do with it."""

    digest: str
    task: str
    images: int
    bytes: int
    fetched_from: tuple[str, ...]
    named_by: tuple[str, ...]


@click.command("list")
@as_json
def list_(json_: bool) -> None:
    """Show the data sets of the store: where they came from, and which models of the tracked branch name them."""
    found = settings()
    store = wiring.store(found)
    named = references(store, models(found))
    origins = _origins(store)
    sets = [_described(store, digest, named, origins) for digest in digests(store)]
    absent = [(str(each.model), each.part, place(each.source)) for each in named if each.manifest is None]
    if json_:
        away = [dict(zip(("model", "part", "place"), each, strict=True)) for each in absent]
        print_json({"dataSets": [asdict(each) for each in sets], "notInTheStore": away})
        return
    rows = [
        (short(each.digest), each.task, str(each.images), _size(each.bytes), ", ".join(each.fetched_from) or "a folder",
         ", ".join(each.named_by) or "–") for each in sets
    ]  # fmt: skip
    out = console()
    out.print(table(None, ("digest", "task", "images", "size", "came from", "named by"), rows))
    if absent:
        out.print()
        out.print(table("named, and not in the store", ("model", "part", "where it is"), absent))


@click.command()
@click.argument("target", metavar="DIGEST|MODEL[:golden]")
@as_json
def show(target: str, json_: bool) -> None:
    """Show one data set of the store: classes, splits, size, where it came from, who names it.

    \b
    trunkline data show 1f0c9a4be2d7      by its digest; eight digits are enough
    trunkline data show digits            what the model digits is trained on
    trunkline data show digits:golden     what it is measured on
    """
    found = settings()
    store = wiring.store(found)
    digest = find(found, store, target)
    told = manifest(store, digest)
    each = _described(store, digest, references(store, models(found)), _origins(store))
    if json_:
        print_json({**asdict(each), "classCounts": told.class_counts, "keypoints": told.kpt_shape})
        return
    facts = [
        ("digest", digest), ("task", told.task), ("pictures", f"{told.images:,}"),
        ("files", f"{len(told.files):,}, {_size(each.bytes)}"),
        ("came from", "\n".join(each.fetched_from) or "a folder, by `trunkline data add`"),
        ("named by", "\n".join(each.named_by) or "no model of the tracked branch"),
    ]  # fmt: skip
    out = console()
    out.print(table(None, ("", ""), facts))
    out.print(table(None, ("class", "pictures" if told.task == "classify" else "objects"), _counted(told)))


@click.command()
@click.argument("before", metavar="DIGEST|MODEL[:golden]")
@click.argument("after", metavar="DIGEST|MODEL[:golden]")
@as_json
def diff(before: str, after: str, json_: bool) -> None:
    """Say how two data sets differ: pictures added, removed and relabelled, and what that does to each class.

    Pictures are compared by their bytes, so a renamed one is no change. What a pull request with newer data shows
    is this, with pictures.

    \b
    trunkline data diff digits 1f0c9a4be2d7    what the model is trained on, against another data set
    """
    found = settings()
    store = wiring.store(found)
    digest_before, digest_after = find(found, store, before), find(found, store, after)
    old, new = manifest(store, digest_before), manifest(store, digest_after)
    told, exactly = difference(old, new), changes(old, new)
    classes = [(name, old.class_counts.get(name), new.class_counts.get(name)) for name in _names(old, new)]
    if json_:
        print_json({
            "before": digest_before, "after": digest_after, **asdict(told),
            "classes": {name: counts for name, *counts in classes}, "pictures": _listed(exactly, None),
        })  # fmt: skip
        return
    out = console()
    head = f"{short(digest_before)} → {short(digest_after)}: {old.images:,} → {new.images:,} pictures"
    counts = f"{told.added:,} added, {told.removed:,} removed, {told.relabelled:,} relabelled"
    out.print(f"{head}; {counts}", markup=False, soft_wrap=True)
    rows = [(name, _number(one), _number(other), _change(one, other)) for name, one, other in classes]
    out.print(table(None, ("class", "before", "after", ""), rows))
    for what, paths in _listed(exactly, _SHOWN).items():
        for path in paths:
            out.print(f"{what:<11} {path}", markup=False, soft_wrap=True)


def _described(
    store: Store, digest: str, named: Iterable[Reference], origins: Mapping[str, tuple[str, ...]]
) -> DataSet:
    told = manifest(store, digest)
    by = tuple(each.words for each in named if each.manifest == digest)
    size = sum(entry.size for entry in told.files)
    return DataSet(digest, told.task, told.images, size, origins.get(digest, ()), by)


def _origins(store: Store) -> dict[str, tuple[str, ...]]:
    """Give where each data set was fetched from; more than one place may have the same."""
    found: dict[str, tuple[str, ...]] = {}
    for record in imports(store):
        if record.manifest is not None:
            found[record.manifest] = (*found.get(record.manifest, ()), place(Source.model_validate(record.source)))
    return found


def _counted(told: DatasetManifest) -> list[tuple[str, str]]:
    return [(name, f"{told.class_counts.get(name, 0):,}") for name in told.names]


def _names(old: DatasetManifest, new: DatasetManifest) -> list[str]:
    return list(dict.fromkeys([*old.names, *new.names]))


def _listed(found: Changes, most: int | None) -> dict[str, list[str]]:
    relabelled = [f"{old.file.path} → {new.file.path}" if old.file.path != new.file.path else new.file.path
                  for old, new in found.relabelled]  # fmt: skip
    return {
        "added": _paths(found.added)[:most], "removed": _paths(found.removed)[:most], "relabelled": relabelled[:most],
    }  # fmt: skip


def _paths(pictures: Iterable[Picture]) -> list[str]:
    return [picture.file.path for picture in pictures]


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _change(before: int | None, after: int | None) -> str:
    by = (after or 0) - (before or 0)
    return f"{by:+,}" if by else ""


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
