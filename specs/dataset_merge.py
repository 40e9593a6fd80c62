"""A data set and what people labelled, put together. Pure: manifests and answers in, a manifest and label files out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from specs.datasets import Picture, label_path, pictures
from specs.digests import digest_bytes
from specs.errors import Stalled
from specs.label_records import Answer, AskedRecord, Thing
from specs.records import DatasetManifest, FileEntry


@dataclass(frozen=True)
class Labelled:
    """A picture and what a person said is in it."""

    picture: AskedRecord
    things: tuple[Thing, ...]

    @classmethod
    def of(cls, record: AskedRecord, answer: Answer) -> Labelled:
        """Put question and answer together."""
        return cls(record, tuple(answer.things))


@dataclass(frozen=True)
class Merged:
    """What came of it."""

    manifest: DatasetManifest
    """The same as before where nothing was added."""
    labels: Mapping[str, bytes]
    """Digest to text, of each new label file."""
    added: tuple[str, ...]
    present: tuple[str, ...]
    """Ids of pictures whose bytes were there before; their labels stay as they were."""
    golden: tuple[str, ...]
    """Ids of pictures that golden has: never trained on."""


def unknown_classes(names: Sequence[str], given: Sequence[Labelled]) -> dict[str, int]:
    """Give the class names that a data set does not have, each with the number of pictures that show it."""
    counts = Counter(name for each in given for name in {thing.name for thing in each.things} - set(names))
    return dict(sorted(counts.items()))


def merge(
    base: DatasetManifest, golden: AbstractSet[str], given: Sequence[Labelled], new_classes: Sequence[str] = ()
) -> Merged:
    """Add labelled pictures to a data set, each picture's bytes once; ``golden`` are digests that stay out.

    The same answers give the same manifest, in whatever order they come. Stalled ``UnknownClass`` where a class is
    neither the data set's nor one of ``new_classes``; Stalled ``LabellingUnsupported`` for tasks with other labels.
    """
    if base.task not in ("classify", "detect"):
        raise Stalled("LabellingUnsupported", f"labels of {base.task} data sets cannot be merged; classify, detect can")
    meant = {thing.name for each in given for thing in each.things}
    names = names_after(base, [name for name in new_classes if name in meant])
    unknown = unknown_classes(names, given)
    if unknown:
        shown = ", ".join(f"{name} ({count} picture{'s' if count > 1 else ''})" for name, count in unknown.items())
        msg = (
            f"the data set has no class {shown}. Correct the label, or add each one with --new-class NAME if it is "
            "something new"
        )
        raise Stalled("UnknownClass", msg)
    known, places = set(base.image_digests()), _Places(base)
    files, labels, counts = list(base.files), dict[str, bytes](), Counter(base.class_counts)
    added, present, kept_out = list[str](), list[str](), list[str]()
    for each in sorted(given, key=lambda each: each.picture.id):
        record = each.picture
        if record.picture in golden or record.picture in known:
            (kept_out if record.picture in golden else present).append(record.id)
            continue
        known.add(record.picture)
        path = places.of(record.file_name, each.things)
        files.append(FileEntry(path=path, size=record.size, digest=record.picture))
        if base.task == "detect":
            text = label_text(names, each.things)
            entry = FileEntry(path=label_path(path) or "", size=len(text), digest=digest_bytes(text))
            files.append(entry)
            labels[entry.digest] = text
        counts.update(thing.name for thing in each.things)
        added.append(record.id)
    manifest = base.model_copy(update={
        "names": names, "files": sorted(files, key=lambda file: file.path), "images": base.images + len(added),
        "class_counts": {name: counts.get(name, 0) for name in names},
    }) if added else base  # fmt: skip
    return Merged(manifest, labels, tuple(added), tuple(present), tuple(kept_out))


def names_after(base: DatasetManifest, new: Sequence[str]) -> list[str]:
    """Give class names with new ones. Numbers of old ones stay, but for classify: there folders are numbered sorted.

    Stalled ``UnknownClass`` where a name cannot be that of a folder or of a class in a label file's list.
    """
    for name in new:
        if name != name.strip() or not name.isprintable() or "/" in name or name.startswith("."):
            raise Stalled("UnknownClass", f"{name!r} cannot be a class: it is a folder's name, too; choose a plain one")
    names = [*base.names, *(name for name in dict.fromkeys(new) if name not in base.names)]
    return sorted(names) if base.task == "classify" else names


def label_text(names: Sequence[str], things: Sequence[Thing]) -> bytes:
    """Write a label file as YOLO reads it; empty where nothing is there."""
    lines = [
        f"{names.index(thing.name)} " + " ".join(f"{value:.6f}" for value in (box.x, box.y, box.width, box.height))
        for thing in things if (box := thing.box) is not None
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in lines).encode()


class _Places:
    """Where pictures of a data set lie, so that new ones lie among those that are trained on."""

    def __init__(self, base: DatasetManifest) -> None:
        self._classify = base.task == "classify"
        learnt = [each for each in pictures(base) if each.split in ("train", "")] or list(pictures(base))
        folders = Counter(self._folder(each) for each in learnt)
        self._top = min(folders, key=lambda folder: (-folders[folder], folder)) if folders else self._bare()

    def of(self, name: str, things: Sequence[Thing]) -> str:
        """Give the path of a new picture."""
        parts = (self._top, things[0].name, f"kept-{name}") if self._classify else (self._top, f"kept-{name}")
        return "/".join(part for part in parts if part)

    def _folder(self, picture: Picture) -> str:
        path = picture.file.path
        folder = path.rpartition("/")[0]
        if not self._classify:
            return folder
        return folder.partition("/")[0] if picture.split else ""

    def _bare(self) -> str:
        return "" if self._classify else "images"
