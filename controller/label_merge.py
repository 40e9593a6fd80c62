"""What people said, made part of the training data: as a new version in the store, or in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from adapters.dataset_folder import Nowhere, add_folder
from adapters.dataset_names import DatasetNames
from adapters.store import Store
from controller.labelling import Labelling
from specs.dataset_merge import Labelled, Merged, merge
from specs.errors import Stalled, Transient
from specs.label_records import RANDOM, AnsweredRecord, OwedRecord, truth
from specs.records import dataset_key


@dataclass(frozen=True)
class Outcome:
    """Where the pictures are now."""

    merged: Merged
    place: str
    """``store://NAME``, or the folder."""
    digest: str | None
    """Of the data set's manifest; None for a folder, which says nothing until it is added somewhere."""
    version: int | None = None
    """Number of the name's move."""


def learn(desk: Labelling, given: Sequence[Labelled], to: Path | None, new: Sequence[str]) -> Outcome:
    """Merge what people said, and only then write down that it was done: what is merged twice is there once.

    ``to`` is a data set's folder instead of the store. Stalled ``UnknownClass`` and others; then nothing was done.
    """
    golden = desk.golden()
    outcome = into_folder(desk, to, given, golden, new) if to else into_store(desk, given, golden, new)
    kept_out = set(outcome.merged.golden)
    desk.book.note(*(
        OwedRecord(id=each.picture.id, truth=truth(each.picture, each.things))
        for each in given if RANDOM in each.picture.why
    ))  # fmt: skip
    desk.book.note(*(
        AnsweredRecord(
            id=each.picture.id, things=list(each.things), manifest=outcome.digest,
            kept_out="golden" if each.picture.id in kept_out else "",
        )
        for each in given
    ))  # fmt: skip
    return outcome


def into_store(desk: Labelling, given: Sequence[Labelled], golden: AbstractSet[str], new: Sequence[str]) -> Outcome:
    """Make a new version of the data set and let its name mean it.

    Whoever does the same at once is seen: then it is done again, on top of theirs. A kill before the name has moved
    leaves nothing but files that nobody names; after it, the pictures are there, and are found to be.
    """
    name = desk.name
    if name is None:
        raise Stalled("DataElsewhere", _elsewhere(desk))
    names = DatasetNames(desk.store)
    while True:
        seen, base = desk.base()
        if base is None:
            msg = f"spec.data.train of {desk.key} is not in the store; `trunkline data add` puts it there"
            raise Stalled("DatasetMissing", msg)
        merged = merge(base, golden, given, new)
        digest = merged.manifest.digest()
        if not merged.added:
            return Outcome(merged, f"store://{name}", digest, seen.number if seen else None)
        for text in merged.labels.values():
            desk.store.put_blob(text)
        desk.store.create(dataset_key(digest), merged.manifest.encode())
        moved = names.move(name, seen, digest, f"{len(merged.added)} pictures labelled")
        if moved is not None:
            return Outcome(merged, f"store://{name}", digest, moved.number)


def into_folder(
    desk: Labelling, folder: Path, given: Sequence[Labelled], golden: AbstractSet[str], new: Sequence[str]
) -> Outcome:
    """Write pictures and labels into a data set's folder; what is there already stays as it is."""
    base = add_folder(Nowhere(), folder, task=desk.spec.task)
    if new and desk.spec.task != "classify":
        msg = f"add {', '.join(new)} to the class names in {folder}/data.yaml yourself, then import without --new-class"
        raise Stalled("UnknownClass", msg)
    merged = merge(base, golden, given, new)
    there = {entry.path for entry in base.files}
    try:
        # Labels first: a picture without its label would say that nothing is in it.
        for entry in sorted(merged.manifest.files, key=lambda entry: entry.digest not in merged.labels):
            if entry.path not in there:
                _write(desk.store, folder / entry.path, entry.digest, merged.labels.get(entry.digest))
    except OSError as error:
        raise Transient("DiskUnavailable", f"{folder}: {error.strerror or error}") from error
    return Outcome(merged, str(folder), None)


def _write(store: Store, path: Path, digest: str, text: bytes | None) -> None:
    if text is None:
        store.fetch_blob(digest, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text)
    part.replace(path)


def _elsewhere(desk: Labelling) -> str:
    source = desk.spec.data.train
    if source.dvc is not None:
        hint = "give --to with the folder of your checkout that DVC tracks, then `dvc add` it, push, and commit"
    elif source.platform is not None:
        hint = "upload what people labelled there: --to writes it into a folder that is a data set"
    else:
        hint = "only data named store://NAME, with letters, digits, '.', '_' and '-', gets new versions; or give --to"
    return f"the training data of {desk.key} is not the store's own: {hint}"
