"""A data set of the store as files for Ultralytics: every byte verified, every path ours, the data YAML our own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from adapters.store import Store
from specs.datasets import Picture, pictures, read_manifest, train_and_val
from specs.digests import digest_bytes, hex_of
from specs.errors import Stalled
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry, dataset_key
from workloads.errors import Hopeless

_FETCHES = 8
CALIBRATION = 1000
"""Pictures at most that ranges of INT8 numbers are found on."""
_TOLD = 100
"""Files after which is told how many are there."""


@dataclass(frozen=True)
class Materialised:
    """A data set on disk."""

    manifest: DatasetManifest
    argument: str
    """What Ultralytics takes as ``data``."""
    train: dict[Path, Picture]
    val: dict[Path, Picture]
    """Absolute path to what it is; for a golden set both are the whole of it."""


def load_manifest(store: Store, digest: str, task: Task) -> DatasetManifest:
    """Read a manifest, verified.

    Stalled ``DatasetMissing`` where the store has none; CorruptArtifact where its text is not the one named;
    Hopeless ``TaskMismatch`` where it was made for another task.
    """
    manifest = read_manifest(store.read(dataset_key(digest)), digest)
    if manifest.task != task:
        raise Hopeless("TaskMismatch", f"data set {digest} is for {manifest.task}, but the task is {task}")
    return manifest


Told = Callable[[int, int], None]
"""Is told how many files are there, of how many."""


def _tell_nobody(_done: int, _total: int) -> None:
    pass


def for_training(
    store: Store, manifest: DatasetManifest, folder: Path, cache: Path | None, told: Told = _tell_nobody
) -> Materialised:
    """Lay out training and validation pictures below ``folder``, which must not exist; Hopeless if too few."""
    try:
        train, val = train_and_val(manifest)
    except ValueError as error:
        raise Hopeless("TooFewPictures", str(error)) from error
    return _lay_out(store, manifest, folder, cache, train, val, told=told)


def for_golden(store: Store, manifest: DatasetManifest, folder: Path, cache: Path | None) -> Materialised:
    """Lay out all pictures as validation pictures, whatever split their folders say."""
    return _lay_out(store, manifest, folder, cache, (), pictures(manifest))


def for_calibration(
    store: Store, manifest: DatasetManifest, folder: Path, cache: Path | None, *, most: int = CALIBRATION
) -> Materialised:
    """Lay out pictures for INT8: all, or those with the smallest digests, as validation pictures.

    More of them do not find better ranges. The same set always gives the same ones.
    """
    found = pictures(manifest)
    kept = {picture.file.digest for picture in sorted(found, key=lambda each: each.file.digest)[:most]}
    return _lay_out(store, manifest, folder, cache, (), [each for each in found if each.file.digest in kept])


def _lay_out(
    store: Store, manifest: DatasetManifest, folder: Path, cache: Path | None,
    train: Sequence[Picture], val: Sequence[Picture], *, told: Told = _tell_nobody,
) -> Materialised:  # fmt: skip
    root = folder.resolve()
    places: dict[str, dict[Path, Picture]] = {}
    wanted: list[tuple[FileEntry, Path]] = []
    for split, part in (("train", train), ("val", val)):
        places[split] = {_place(root, split, picture, manifest.task): picture for picture in part}
        for path, picture in places[split].items():
            wanted.append((picture.file, path))
            if picture.label is not None:
                wanted.append((picture.label, safe_join(root / split, picture.label.path)))
    if len({path for _, path in wanted}) != len(wanted):
        raise Stalled("UnsafePath", "two files of the data set would lie at the same path; add the data set again")
    root.mkdir(parents=True)
    _bring(store, wanted, cache, told)
    if not train:
        places["train"] = places["val"]
    argument = _describe_classes(root, manifest) if manifest.task == "classify" else _describe(root, manifest, places)
    return Materialised(manifest, argument, places["train"], places["val"])


def _place(root: Path, split: str, picture: Picture, task: Task) -> Path:
    """Keep paths as they are, so that labels stay beside pictures; classify needs the class folder on top."""
    path = picture.file.path
    return safe_join(root / split, f"{picture.class_name}/{path}" if task == "classify" else path)


def safe_join(root: Path, path: str) -> Path:
    """Give ``root/path``; Stalled ``UnsafePath`` if that could lie anywhere else."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or ".." in pure.parts or "\x00" in path or "\\" in path:
        raise Stalled("UnsafePath", f"the data set names the path {path!r}, which leads outside; add it again")
    return root.joinpath(*pure.parts)


def _bring(store: Store, wanted: Sequence[tuple[FileEntry, Path]], cache: Path | None, told: Told) -> None:
    def bring(item: tuple[FileEntry, Path]) -> None:
        entry, target = item
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(store, entry.digest, target, cache)

    with ThreadPoolExecutor(_FETCHES) as pool:
        for done, _ in enumerate(pool.map(bring, wanted), 1):
            if done % _TOLD == 0:
                told(done, len(wanted))


def fetch(store: Store, digest: str, target: Path, cache: Path | None) -> None:
    """Put a file of the store at ``target``, verified; hard-linked from the cache where that is possible."""
    if cache is None:
        store.fetch_blob(digest, target)
        return
    kept = cache / "blobs" / hex_of(digest)[:2] / hex_of(digest)
    if not kept.is_file() or digest_bytes(kept.read_bytes()) != digest:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as private:
            store.fetch_blob(digest, Path(private, "blob"))
            Path(private, "blob").replace(kept)
    try:
        os.link(kept, target)
    except OSError:  # the cache is on another file system
        shutil.copyfile(kept, target)


def _describe_classes(root: Path, manifest: DatasetManifest) -> str:
    """Classes are numbered by their sorted folders, so each needs one, with or without pictures."""
    if not (root / "train").is_dir():
        (root / "train").symlink_to("val", target_is_directory=True)
    for split in ("train", "val"):
        for name in manifest.names:
            safe_join(root / split, name).mkdir(parents=True, exist_ok=True)
    return os.path.relpath(root)


def _describe(root: Path, manifest: DatasetManifest, places: dict[str, dict[Path, Picture]]) -> str:
    data: dict[str, object] = {"names": dict(enumerate(manifest.names))}
    if manifest.kpt_shape is not None:
        data["kpt_shape"] = manifest.kpt_shape
    if manifest.flip_idx is not None:
        data["flip_idx"] = manifest.flip_idx
    for split, part in places.items():
        (root / f"{split}.txt").write_text("".join(f"{path}\n" for path in sorted(part)), encoding="utf-8")
        data[split] = f"{split}.txt"
    (root / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return os.path.relpath(root / "data.yaml")
