"""How a data set is laid out: which picture belongs to which split, class and label. Pure: paths in, answers out.

classify:         ``<class>/<picture>``, or ``<split>/<class>/<picture>``
all other tasks:  ``images/<picture>`` with ``labels/<same>.txt``; a split's folder may stand before or after ``images``
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from specs.digests import digest_bytes
from specs.errors import CorruptArtifact, Stalled
from specs.modelspec import Task
from specs.records import IMAGE_SUFFIXES, DatasetManifest, FileEntry

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder name to what it means."""

HELD_OUT = 10
"""One picture in this many is held out for validation where a data set brings no validation split."""


@dataclass(frozen=True)
class Picture:
    """One picture and what belongs to it."""

    file: FileEntry
    split: str = ""
    """``train``, ``val``, ``test``, or empty where the folders do not say."""
    class_name: str = ""
    """Only for classify."""
    label: FileEntry | None = None
    """None for classify and for background."""


def read_manifest(text: bytes | None, digest: str) -> DatasetManifest:
    """Read the manifest that a digest names, from the store's text of it.

    Stalled ``DatasetMissing`` where there is none; CorruptArtifact where it is another one, or none at all.
    """
    if not text:
        hint = "add it again; one that was fetched is fetched anew once its record below imports/ is removed"
        raise Stalled("DatasetMissing", f"data set {digest} is not in the store: {hint}")
    if digest_bytes(text) != digest:
        raise CorruptArtifact(f"the manifest of data set {digest} is not the one that was added; add it again")
    try:
        return DatasetManifest.decode(text)
    except ValidationError as error:
        raise CorruptArtifact(f"data set {digest} is no manifest: {error}") from error


def is_picture(path: str) -> bool:
    """Whether the name is that of a picture."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def label_path(path: str) -> str | None:
    """Give where the labels of a picture are: its last ``images`` folder replaced; None where it has none."""
    parts = path.split("/")
    if "images" not in parts[:-1]:
        return None
    at = len(parts) - 2 - parts[-2::-1].index("images")
    name = parts[-1].rpartition(".")[0] + ".txt"
    return "/".join([*parts[:at], "labels", *parts[at + 1 : -1], name])


def class_folders(paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Give (split, class) of each picture of a classify data set; class is empty for a picture in no class folder.

    There is a level of splits only where all pictures have one, so that a class may be called ``train``.
    """
    split_level = [path.split("/") for path in paths]
    splits = all(len(parts) > 2 and parts[0] in SPLITS for parts in split_level)
    found = {}
    for parts in split_level:
        rest = parts[1:] if splits else parts
        found["/".join(parts)] = (SPLITS[parts[0]] if splits else "", rest[0] if len(rest) > 1 else "")
    return found


def _split_of(path: str) -> str:
    return next((SPLITS[part] for part in path.split("/")[:-1] if part in SPLITS), "")


def pictures(manifest: DatasetManifest) -> tuple[Picture, ...]:
    """Give the pictures of a data set, sorted by path."""
    entries = {entry.path: entry for entry in manifest.files}
    paths = sorted(path for path in entries if is_picture(path))
    if manifest.task == "classify":
        folders = class_folders(paths)
        return tuple(Picture(entries[path], *folders[path]) for path in paths)
    return tuple(Picture(entries[p], _split_of(p), label=entries.get(label_path(p) or "")) for p in paths)


def train_and_val(manifest: DatasetManifest) -> tuple[list[Picture], list[Picture]]:
    """Divide a data set for training. Pictures of a test split are in neither part.

    Without a validation split, a tenth is held out: those with the smallest digests, so that the choice needs no
    seed, hardly moves when the data set grows, and never puts copies of one picture on both sides. For classify
    each class is divided on its own and keeps at least one picture for training.

    ValueError where there are too few pictures to divide.
    """
    everything = [picture for picture in pictures(manifest) if picture.split != "test"]
    val = [picture for picture in everything if picture.split == "val"]
    train = [picture for picture in everything if picture.split != "val"]
    if not val:
        held = _held_out(train, manifest.task)
        val = [picture for picture in train if picture.file.digest in held]
        train = [picture for picture in train if picture.file.digest not in held]
    if not train or not val:
        msg = "training needs at least two different pictures: one to learn from and one to validate with"
        raise ValueError(msg)
    return train, val


def _held_out(train: Sequence[Picture], task: Task) -> frozenset[str]:
    groups: dict[str, set[str]] = defaultdict(set)
    for picture in train:
        groups[picture.class_name if task == "classify" else ""].add(picture.file.digest)
    held: set[str] = set()
    for digests in groups.values():
        held |= set(sorted(digests)[: (len(digests) + HELD_OUT // 2) // HELD_OUT])
    if not held:
        for digests in groups.values():
            held |= set(sorted(digests)[: min(1, len(digests) - 1)])
    return frozenset(held)
