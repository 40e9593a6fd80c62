"""Kept pictures as servers leave them, and a place with a model whose pictures are labelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from adapters.dataset_names import DatasetNames
from adapters.label_book import LabelBook
from adapters.store import Store
from specs.datasets import read_manifest
from specs.digests import digest_bytes
from specs.kept_records import KeptRecord, Why, draw, hashed, kept_id, moment
from specs.label_records import AskedRecord, asked, label_id
from specs.records import DatasetManifest, dataset_key
from tests.support import pictures
from tests.support.gitrepo import Hub
from tests.support.typed import said

NOON = 1_795_694_400.0
"""2026-11-26T12:00:00Z."""
MODEL = "shapes"
FILE = "sha256:" + "f" * 64
SPEC = """apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {{name: shapes}}
spec:
  task: {task}
  data:
    train: {{uri: {{url: store://shapes, digest: "{train}"}}}}
    golden: {{uri: {{url: store://golden, digest: "{golden}"}}}}
  training: {{model: yolo26n.yaml, args: {{epochs: 1}}}}
  exports: [{{name: onnx, format: onnx}}]
  labelling: {{confidence: {{min: 0.2, max: 0.6}}, queue: {queue}}}
  triggers: {{onData: true}}
"""
Kind = Literal["classify", "detect"]


def kept(
    task: Kind, request: str, picture: bytes, *, why: Sequence[Why] = ("uncertain",), when: float = NOON,
    version: int = 3, predictions: Sequence[dict[str, Any]] | None = None, model: str = MODEL,
) -> KeptRecord:  # fmt: skip
    """Give the record of a picture that the model took for something red, with a confidence of 0.4."""
    guess: dict[str, Any] = {"class": 1, "name": "red", "confidence": 0.4}
    if task == "detect":
        guess["box"] = {"x1": 8.0, "y1": 4.0, "x2": 24.0, "y2": 20.0}
    return KeptRecord(
        id=kept_id(when, request, "one"), model=model, version=version, file=FILE, task=task, request=request,
        when=moment(when), until=moment(when + 86_400), why=list(why), draw=draw(model, request),
        content_type="image/png", size=len(picture), digest=digest_bytes(picture), width=pictures.SIDE,
        height=pictures.SIDE, hash=hashed(request), predictions=[guess] if predictions is None else list(predictions),
    )  # fmt: skip


def question(task: Kind, request: str, **more: Any) -> tuple[AskedRecord, bytes]:
    """Give what people are asked about a picture of its own, and the picture."""
    picture, _ = pictures.scene(request, pictures.COLOURS["red"])
    return asked(kept(task, request, picture, **more), "a queue"), picture


class Shelf:
    """A place with a model, its two data sets in the store, and pictures that servers kept."""

    def __init__(self, folder: Path, task: Kind, queue: str = "{directory: {}}", settings: str = "") -> None:
        self.folder, self.task = folder, task
        self.hub = Hub(folder)
        (folder / "trunkline.toml").write_text(
            f'repository = "hub.git"\nstore = "store"\nstate = "state"\n{settings}'
        )
        self.store = Store(str(folder / "store"))
        self.book = LabelBook(self.store, MODEL)
        self.train = self._add("train", 6, "shapes")
        self.golden = self._add("test", 4, "golden")
        self.hub.commit({"shapes.yaml": SPEC.format(task=task, train=self.train, golden=self.golden, queue=queue)})

    def _add(self, seed: str, count: int, name: str) -> str:
        pictures.folder(self.folder / name, self.task, count, seed=seed)
        words = ("data", "add", name, "--task", self.task, "--json")
        return str(json.loads(said(self.folder, *words))["digest"])

    def keep(self, request: str, *, colour: str = "red", **more: Any) -> str:
        """Keep a picture of its own, as a server does; give its id among those to label."""
        return self.keep_bytes(request, pictures.scene(request, pictures.COLOURS[colour])[0], **more)

    def keep_bytes(self, request: str, picture: bytes, **more: Any) -> str:
        """Keep a picture with these bytes."""
        record = kept(self.task, request, picture, **more)
        self.store.keep(record.picture, picture)
        self.store.keep(record.key, record.encode())
        return label_id(record)

    def labels(self, *words: str) -> Any:
        """Type ``trunkline labels …``; give what it said to programs."""
        return json.loads(said(self.folder, "labels", *words, "--json"))

    def newest(self) -> tuple[str, DatasetManifest]:
        """Give what the name of the training data means now: digest and data set."""
        record = DatasetNames(self.store).newest("shapes")
        assert record is not None
        return record.manifest, read_manifest(self.store.read(dataset_key(record.manifest)), record.manifest)
