"""A labelling queue that is a folder: people move a picture from ``todo/`` to ``done/`` once its label is right."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from adapters.labels import LabelFormat
from specs.dataset_merge import label_text
from specs.datasets import is_picture
from specs.errors import Stalled, Transient
from specs.label_records import Answer, AskedRecord, Thing, box_between
from specs.modelspec import Task

Read = Callable[[AskedRecord], bytes]
Tick = Callable[[], None]
_STALE_SECONDS = 3600.0

_DETECT = """Pictures that {model} was not sure about, or that it was given by chance. Label them like this:

  todo/images/   pictures that wait
  todo/labels/   what the model thinks is in each: a line an object, CLASS X Y WIDTH HEIGHT, centre and size in parts
                 of the picture; CLASS is the number of a line of classes.txt, from 0
  done/          pictures that are done

1. Correct the label file of a picture with the tool you like (all that read YOLO labels will do), or by hand.
   Nothing of interest in it? Leave the label file empty, but leave it there.
2. Move the picture from todo/images/ to done/images/. That says: its labels are right. The label file may stay
   where it is, or move to done/labels/; what lies in done/labels/ counts.
3. A picture that is no use: move it to skip/, or delete it. Nobody is asked about it again.

`trunkline labels import {model}` fetches what is done. After that it may be deleted here, or stay.
A class that is missing: add a line at the end of classes.txt. Never move the lines there: their numbers are in use.
"""
_CLASSIFY = """Pictures that {model} was not sure about, or that it was given by chance. Label them like this:

  todo/CLASS/    pictures that wait, each in the folder of the class that the model thinks of first
  done/CLASS/    pictures that are done, in the folder of their true class

1. Move each picture from todo/ into the folder below done/ that it belongs to, also where the model is right.
2. A picture that is no use: move it to skip/, or delete it. Nobody is asked about it again.

`trunkline labels import {model}` fetches what is done. After that it may be deleted here, or stay.
A class that is missing: make a folder for it below done/.
"""


class FolderQueue:
    """A queue in ``folder``, for a model by the name that commands take. Made when something is put there."""

    def __init__(self, folder: Path, model: str, task: Task) -> None:
        self.place, self.recorded = str(folder), f"directory {folder.name}"
        self._folder, self._model, self._task = folder, model, task

    def send(self, asked: Sequence[AskedRecord], names: Sequence[str], read: Read, tick: Tick) -> None:
        """Put pictures there that are not there yet, whichever state they are in; calls ``tick`` after each.

        ``names`` are the classes. A picture appears whole, after its label file. Transient ``DiskUnavailable``.
        """
        try:
            listed = self._prepare(names)
            there = {path.stem for path in self._pictures()}
            for record in asked:
                if record.id not in there:
                    self._put(record, listed, read(record))
                tick()
        except OSError as error:
            raise self._trouble(error) from error

    def finished(self, asked: Mapping[str, AskedRecord]) -> tuple[list[Answer], list[str]]:
        """Give what people are done with, and sentences about what cannot be used yet. Stalled ``QueueMissing``."""
        if not self._folder.is_dir():
            words = "it is made by `trunkline labels export`; was it moved away?"
            raise Stalled("QueueMissing", f"there is no folder {self.place}: {words}")
        try:
            done = {path.stem: path for path in sorted(self._pictures("done"))}
            listed = self._listed()
            read = self._class_of if self._task == "classify" else self._boxes_of
            found = [(record, read(record, done[id_], listed)) for id_, record in asked.items() if id_ in done]
        except OSError as error:
            raise self._trouble(error) from error
        answers = [Answer(id=record.id, things=told) for record, told in found if not isinstance(told, str)]
        return answers, [told for _, told in found if isinstance(told, str)]

    def _prepare(self, names: Sequence[str]) -> list[str]:
        """Make folders and descriptions; give the class names in the order of this folder."""
        kinds = ("images", "labels") if self._task != "classify" else [name for name in names if _is_folder(name)]
        for state in ("todo", "done"):
            for kind in kinds:
                (self._folder / state / kind).mkdir(parents=True, exist_ok=True)
        (self._folder / "skip").mkdir(exist_ok=True, parents=True)
        self._sweep()
        text = (_CLASSIFY if self._task == "classify" else _DETECT).format(model=self._model)
        self._write(self._folder / "README.txt", text.encode())
        if self._task == "classify":
            return list(names)
        before = self._listed()
        listed = [*before, *(name for name in names if name not in before)]
        if listed != before:
            self._write(self._folder / "classes.txt", "".join(f"{name}\n" for name in listed).encode())
        lines = ("# For tools that want it. Here, classes.txt decides.", "path: .", "train: done/images",
                 "val: done/images", f"names: {json.dumps(listed, ensure_ascii=False)}")  # fmt: skip
        self._write(self._folder / "data.yaml", "".join(f"{line}\n" for line in lines).encode())
        return listed

    def _put(self, record: AskedRecord, listed: Sequence[str], picture: bytes) -> None:
        todo = self._folder / "todo"
        if self._task == "classify":
            first = record.guesses[0].name if record.guesses else ""
            self._write(todo / (first if _is_folder(first) else "unsorted") / record.file_name, picture)
            return
        known = [thing for thing in record.guesses if thing.name in listed]
        self._write(todo / "labels" / f"{record.id}.txt", label_text(listed, known))
        self._write(todo / "images" / record.file_name, picture)

    def _pictures(self, *states: str) -> Iterator[Path]:
        """Give the pictures that lie in a state, or anywhere."""
        for state in states or ("todo", "done", "skip"):
            for path in (self._folder / state).rglob("*"):
                if is_picture(path.name) and not path.name.startswith("."):
                    yield path

    def _class_of(self, record: AskedRecord, path: Path, _listed: Sequence[str]) -> list[Thing] | str:
        parts = path.relative_to(self._folder / "done").parts
        if len(parts) != 2:
            return f"{record.file_name} lies in no class folder: move it to done/CLASS/"
        return [Thing(name=parts[0])]

    def _boxes_of(self, record: AskedRecord, path: Path, listed: Sequence[str]) -> list[Thing] | str:
        name = f"{record.id}.txt"
        places = (self._folder / "done/labels" / name, path.with_name(name), self._folder / "todo/labels" / name)
        label = next((place for place in places if place.is_file()), None)
        if label is None:
            return f"{record.file_name} is in done/ and has no label file; write an empty one if nothing is in it"
        form = LabelFormat("detect", listed)
        data = label.read_bytes()
        _, problems = form.read(label.relative_to(self._folder).as_posix(), data)
        if problems:
            return "; ".join(problems[:3])
        things = []
        for number, (x, y, width, height) in form.objects(data):
            box = box_between(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            if box is not None:
                things.append(Thing(name=listed[number], box=box))
        return things

    def _listed(self) -> list[str]:
        file = self._folder / "classes.txt"
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        return [line.strip() for line in text.splitlines() if line.strip()]

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file so that nobody ever sees half of it."""
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what killed exports left behind."""
        for part in self._folder.rglob(".*.part"):
            if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                part.unlink(missing_ok=True)

    def _trouble(self, error: OSError) -> Transient:
        return Transient("DiskUnavailable", f"the labelling folder {self.place}: {error.strerror or error}")


def _is_folder(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".")
