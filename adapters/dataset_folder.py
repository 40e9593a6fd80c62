"""Data sets in folders: reads one, checks it, and puts it into the store. Needs neither numpy nor an image library."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import yaml
from pydantic import ValidationError

from adapters.labels import LabelFormat
from specs.datasets import class_folders, is_picture, label_path
from specs.digests import digest_bytes
from specs.errors import Stalled, Transient
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry, dataset_key

MAX_FILES = 2_000_000
MAX_BYTES = 512 * 2**20
"""Of one file; larger pictures exceed every decoder's pixel limit."""
SHOWN = 20
"""Problems that the error lists; the rest is counted."""

DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_UPLOADS = 8

Progress = Callable[[int, int], None]
"""Called with (files done, files in all)."""


class Blobs(Protocol):
    """The part of the store that is needed here."""

    def put_blob(self, source: Path | bytes) -> str:
        """Store a file and give its digest."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once."""


class Nowhere:
    """Blobs that are named and not kept, for who only wants to know."""

    def put_blob(self, source: Path | bytes) -> str:
        """Give a file's digest."""
        if isinstance(source, bytes):
            return digest_bytes(source)
        with source.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def create(self, key: str, data: bytes) -> bool:
        """Write nothing."""
        del key, data
        return True


def add_folder(
    store: Blobs, folder: Path, *, task: Task, names: list[str] | None = None, progress: Progress | None = None
) -> DatasetManifest:
    """Check a folder, put its pictures and labels into the store, and write the data set's manifest last.

    ``names`` are the class names in order; without them, ``data.yaml`` or ``classes.txt`` in the folder is asked
    (classify: the names of the class folders). Adding the same files again gives the same manifest and writes nothing
    new. Stalled ``InvalidDataset`` lists what is wrong; then no manifest was written.
    """
    reading = _Reading(folder, task, names)
    reading.read()
    if reading.problems:
        raise Stalled("InvalidDataset", _message(folder, reading.problems))
    try:
        manifest = DatasetManifest(
            task=task, names=reading.names, files=_upload(store, folder, reading.files, progress),
            images=len(reading.pictures), class_counts={n: reading.counts.get(n, 0) for n in reading.names},
            kpt_shape=reading.keypoints, flip_idx=reading.mirrored,
        )  # fmt: skip
    except OSError as error:
        raise Transient("Unreadable", f"{folder}: {error.strerror or error}; are its files still there?") from error
    store.create(dataset_key(manifest.digest()), manifest.encode())
    return manifest


def _message(folder: Path, problems: Sequence[str]) -> str:
    more = len(problems) - SHOWN
    lines = [f"{folder} is not a usable data set:", *problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(lines)


def _upload(store: Blobs, folder: Path, paths: Sequence[str], progress: Progress | None) -> list[FileEntry]:
    """Put files into the store, several at a time, since each waits for the disk or the network."""

    def put(path: str) -> FileEntry:
        source = folder / path
        return FileEntry(path=path, size=source.stat().st_size, digest=store.put_blob(source))

    entries: list[FileEntry] = []
    with ThreadPoolExecutor(_UPLOADS) as pool:
        for entry in pool.map(put, paths):
            entries.append(entry)
            if progress:
                progress(len(entries), len(paths))
    return entries


class _Reading:
    """One look at a folder: what it holds, and everything that is wrong with it."""

    def __init__(self, folder: Path, task: Task, names: list[str] | None) -> None:
        self.folder = folder
        self.task = task
        self.names: list[str] = list(names or [])
        self.problems: list[str] = []
        self.files: list[str] = []
        self.pictures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.keypoints: list[int] | None = None
        self.mirrored: list[int] | None = None

    def read(self) -> None:
        if not self.folder.is_dir():
            self.problems.append(f"{self.folder}: no such folder")
            return
        found = list(self._walk())
        self.pictures = sorted(path for path in found if is_picture(path))
        if not self.pictures:
            self.problems.append(f"{self.folder}: holds no pictures (.jpg, .png, .bmp, .tif, .webp)")
            return
        for path in self.pictures:
            self._check_picture(path)
        if self.task == "classify":
            self._read_classes()
        else:
            self._read_labels([path for path in found if path.endswith(".txt")])

    def _walk(self) -> Iterator[str]:
        """Give relative paths of regular files; hidden ones are skipped, links are problems."""
        count = 0
        for top, folders, files in os.walk(self.folder, onerror=self._unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted([*folders, *files]):
                path = Path(top, name)
                if name.startswith(".") or (name in folders and not path.is_symlink()):
                    continue
                relative = path.relative_to(self.folder).as_posix()
                count += 1
                if count > MAX_FILES:
                    self.problems.append(f"holds more than {MAX_FILES} files; divide it")
                    return
                if path.is_symlink():
                    self.problems.append(f"{relative}: is a symbolic link; put the file itself there")
                elif self._nameable(relative):
                    yield relative

    def _unreadable(self, error: OSError) -> None:
        self.problems.append(f"{error.filename}: {error.strerror}; make it readable")

    def _nameable(self, relative: str) -> bool:
        try:
            FileEntry(path=relative, size=0, digest="sha256:" + "0" * 64)
            relative.encode()
        except (ValidationError, UnicodeEncodeError):
            self.problems.append(f"{relative!r}: a file name must be plain text; rename it")
            return False
        return True

    def _check_picture(self, path: str) -> None:
        try:
            size = (self.folder / path).stat().st_size
            with (self.folder / path).open("rb") as file:
                start = file.read(12)
        except OSError as error:
            self.problems.append(f"{path}: {error.strerror}; make it readable")
            return
        if size > MAX_BYTES:
            self.problems.append(f"{path}: {size} bytes; at most {MAX_BYTES} are read")
        elif not start.startswith(_SIGNATURES):
            what = "is empty" if not size else "is not a picture of a known format, whatever its name says"
            self.problems.append(f"{path}: {what}; remove or replace it")

    def _read_classes(self) -> None:
        """Classes are the folders, in the order in which Ultralytics will number them."""
        places = class_folders(self.pictures)
        self.problems += [f"{p}: lies in no class folder; move it to <class>/" for p, (_, c) in places.items() if not c]
        self.counts.update(name for _, name in places.values() if name)
        unknown = sorted(set(self.counts) - set(self.names)) if self.names else []
        self.problems += [f"{name}/: is not among the class names given ({', '.join(self.names)})" for name in unknown]
        self.names = sorted({*self.counts, *self.names})
        self.files = self.pictures

    def _read_labels(self, texts: Sequence[str]) -> None:
        self._describe()
        if not self.names:
            self.problems.append("class names are unknown; give them, or write names: [...] into data.yaml")
            return
        if len(set(self.names)) != len(self.names):
            self.problems.append(f"class names must differ from each other: {', '.join(self.names)}")
        if self.task == "pose" and self.keypoints is None:
            self.problems.append("data.yaml: write kpt_shape: [number of keypoints, 2 or 3] for the pose task")
            return
        owners = {}
        for path in self.pictures:
            label = label_path(path)
            if label is None:
                self.problems.append(f"{path}: lies in no images/ folder; labels are looked for in labels/ beside it")
            else:
                owners[label] = path
        form = LabelFormat(self.task, self.names, self.keypoints)
        labels = [path for path in texts if "labels" in path.split("/")[:-1]]
        for path in labels:
            if path not in owners:
                self.problems.append(f"{path}: labels no picture; is its picture missing, or its name different?")
                continue
            counts, problems = form.read(path, (self.folder / path).read_bytes())
            self.counts.update(counts)
            self.problems += problems
        self.files = sorted([*self.pictures, *(path for path in labels if path in owners)])

    def _describe(self) -> None:
        """Take names and keypoints from a description in the folder. Nothing else in it is looked at, ever."""
        for name in DESCRIPTIONS:
            if (self.folder / name).is_file() and not (self.folder / name).is_symlink():
                self._read_description(self.folder / name)
                break
        listed = self.folder / "classes.txt"
        if not self.names and listed.is_file() and not listed.is_symlink():
            text = listed.read_text(encoding="utf-8", errors="replace")
            self.names = [line.strip() for line in text.splitlines() if line.strip()]

    def _read_description(self, path: Path) -> None:
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            self.problems.append(f"{path.name}: cannot be read as YAML: {error}")
            return
        said = said if isinstance(said, dict) else {}
        names = said.get("names")
        if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
            names = [names[index] for index in range(len(names))]
        if names is not None and not isinstance(names, list):
            self.problems.append(f"{path.name}: names must be a list, or a mapping from 0, 1, 2 … to names")
        elif names and not self.names:
            self.names = [str(name) for name in names]
        if self.task == "pose":
            self._read_keypoints(path.name, said.get("kpt_shape"), said.get("flip_idx"))

    def _read_keypoints(self, name: str, shape: object, mirrored: object) -> None:
        if isinstance(shape, list) and len(shape) == 2 and shape[1] in (2, 3) and isinstance(shape[0], int):
            self.keypoints = [shape[0], shape[1]]
        elif shape is not None:
            self.problems.append(f"{name}: kpt_shape must be [number of keypoints, 2 or 3], not {shape!r}")
        if mirrored is None or self.keypoints is None:
            return
        numbers = [each for each in mirrored if type(each) is int] if isinstance(mirrored, list) else []
        if sorted(numbers) == list(range(self.keypoints[0])) and numbers == mirrored:
            self.mirrored = numbers
        else:
            said = f"{name}: flip_idx must name each of 0 to {self.keypoints[0] - 1} once"
            self.problems.append(f"{said}: which keypoint each one becomes in a mirror")
