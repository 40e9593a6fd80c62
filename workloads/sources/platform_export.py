"""Reads the NDJSON that the Ultralytics Platform exports: a line about the data set, then a line for each picture.

It becomes a folder as YOLO reads it: ``images/<split>/<name>`` with ``labels/<split>/<name>.txt`` and ``data.yaml``,
or ``<split>/<class>/<name>`` for classify. Numbers are written as JSON has them, the shortest that mean the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from specs.addresses import fault
from specs.datasets import is_picture
from workloads.sources.archives import Limits
from workloads.sources.names import Names

ANNOTATIONS = {
    "detect": "boxes", "segment": "segments", "pose": "pose", "obb": "obb", "classify": "classification",
}  # fmt: skip
"""Task to where a picture's record has what it shows."""
SPLITS = ("train", "val", "test")
MAX_LINE = 64 * 2**20
"""Bytes of one record."""


@dataclass(frozen=True)
class Picture:
    """One picture, where it belongs, and what its label file says (None where it has none)."""

    path: str
    url: str
    """Signed: a secret."""
    label: tuple[str, str] | None = None
    """Path and text."""


@dataclass
class Export:
    """A data set version as its export has it."""

    task: str
    version: int | None
    names: list[str]
    keypoints: list[int] | None
    pictures: list[Picture] = field(default_factory=list)
    skipped: int = 0
    """Pictures without a class, of classify; nothing can be learned from them."""

    def describe(self) -> str:
        """Give ``data.yaml``, which JSON is as well."""
        shape = {"kpt_shape": self.keypoints} if self.keypoints else {}
        return json.dumps({"names": self.names, **shape}, ensure_ascii=False) + "\n"


def read(path: Path, uri: str) -> Export:
    """Read an export; Hopeless ``InvalidDataset`` where it says nothing that a YOLO model could learn from."""
    reading = _Reading(Names(uri, "InvalidDataset"))
    lines = _lines(path, reading)
    first = next(lines, None)
    if first is None:
        raise reading.names.refusal("has an empty export; save a new version")
    export = reading.header(first)
    for number, record in enumerate(lines, start=2):
        picture = reading.picture(export, record, number)
        if picture is None:
            export.skipped += 1
        else:
            export.pictures.append(picture)
        if number > Limits().entries:
            raise reading.names.refusal(f"has more than {Limits().entries} pictures; divide it")
    if not export.pictures:
        raise reading.names.refusal("has no pictures that are labelled; label some, and save a new version")
    return export


def _lines(path: Path, reading: _Reading) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line) if len(line) <= MAX_LINE else None
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise reading.names.refusal(f"has an export whose line {number} is no JSON object")
            yield record


@dataclass
class _Reading:
    names: Names
    _taken: set[str] = field(default_factory=set)

    def header(self, record: dict[str, Any]) -> Export:
        task = record.get("task", "detect")
        if not isinstance(task, str) or task not in ANNOTATIONS:
            raise self.names.refusal(f"is for {task!r}; known are {', '.join(ANNOTATIONS)}")
        shape = record.get("kpt_shape")
        if task == "pose" and not _is_shape(shape):
            raise self.names.refusal("names no kpt_shape, [number of keypoints, 2 or 3]; set its keypoints")
        version = record.get("version")
        return Export(
            task=task, version=version if isinstance(version, int) else None,
            names=self._classes(record.get("class_names")), keypoints=shape if task == "pose" else None,
        )  # fmt: skip

    def _classes(self, given: Any) -> list[str]:
        """Give class names by number; a number without a name gets one, as the trainer does it."""
        if isinstance(given, list):
            given = dict(enumerate(given))
        try:
            named = {int(number): str(name) for number, name in (given or {}).items()}
        except (AttributeError, ValueError) as error:
            raise self.names.refusal("has class names that belong to no numbers") from error
        if any(not 0 <= number < 100_000 for number in named):
            raise self.names.refusal("has class numbers beyond 100000")
        return [named.get(number, f"class{number}") for number in range(max(named, default=-1) + 1)]

    def picture(self, export: Export, record: dict[str, Any], number: int) -> Picture | None:
        split, name, url = record.get("split"), record.get("file"), record.get("url")
        if split not in SPLITS or not isinstance(name, str) or not isinstance(url, str) or fault(url):
            raise self.names.refusal(f"has an export whose line {number} names no split, file and URL of a picture")
        rows = self._rows(record.get("annotations") or {}, ANNOTATIONS[export.task], number)
        if export.task == "classify":
            return self._classified(export, rows, self._name(name, url, number), split, url, number)
        place = self._free(f"images/{split}", self._name(name, url, number), number)
        stem = place.rpartition(".")[0].partition("/")[2]
        text = "".join(self._row(row, number) + "\n" for row in rows)
        return Picture(place, url, (f"labels/{stem}.txt", text) if text else None)

    def _rows(self, annotations: Any, wanted: str, number: int) -> list[Any]:
        """Give what a picture shows; other kinds of annotations alone mean that the data set is for another task."""
        rows = annotations.get(wanted, []) if isinstance(annotations, dict) else None
        if not isinstance(rows, list) or (annotations and wanted not in annotations):
            found = ", ".join(map(str, annotations)) if isinstance(annotations, dict) else "something else"
            raise self.names.refusal(f"has an export whose line {number} has {found} where {wanted} should be")
        return rows

    def _classified(self, export: Export, rows: Any, name: str, split: str, url: str, number: int) -> Picture | None:
        if not rows:
            return None
        index = rows[0]
        if not isinstance(index, int) or not 0 <= index < len(export.names):
            raise self.names.refusal(f"has an export whose line {number} has a class without a name: {index!r}")
        label = export.names[index]
        if "/" in label or label.startswith(".") or not label.strip():
            raise self.names.refusal(f"has the class {label!r}, which cannot be a folder's name; rename it")
        return Picture(self._free(f"{split}/{label}", name, number), url)

    def _name(self, name: str, url: str, number: int) -> str:
        """Give a picture's name, with the ending of the stored file: the Platform converts files, and keeps names."""
        last = name.replace("\\", "/").rpartition("/")[2]
        stored = urlsplit(url).path.rpartition("/")[2]
        stem = last.rpartition(".")[0] or last
        for each in (stored, last):
            if is_picture(each):
                return f"{stem}.{each.rpartition('.')[2].lower()}"
        raise self.names.refusal(f"has {last!r} (line {number}), which is no .jpg, .png, .bmp, .tif or .webp")

    def _free(self, folder: str, name: str, number: int) -> str:
        """Give a path that no other picture has, nor its label: of two pictures of one name the later gets a number."""
        stem, _, ending = name.rpartition(".")
        key = f"{folder}/{stem}".casefold()
        if key in self._taken:
            stem = f"{stem}-{number}"
            key = f"{folder}/{stem}".casefold()
        self._taken.add(key)
        path = self.names.plain(f"{folder}/{stem}.{ending}")
        self.names.claim(path)
        return path

    def _row(self, row: Any, number: int) -> str:
        numbers = isinstance(row, list) and row and all(isinstance(value, int | float) for value in row)
        if not numbers or not all(math.isfinite(value) for value in row):
            raise self.names.refusal(f"has an export whose line {number} has an annotation that is no list of numbers")
        return " ".join(str(value) for value in row)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) == 2 and isinstance(shape[0], int) and shape[1] in (2, 3)
