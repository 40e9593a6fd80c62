"""Labelling for one model, put together: its kept pictures, the queue that its spec names, its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.dataset_names import DatasetNames
from adapters.label_book import LabelBook
from adapters.labelling_cvat import CvatQueue
from adapters.labelling_folder import FolderQueue
from adapters.labelling_labelstudio import LabelStudioQueue
from adapters.store import Store
from controller import wiring
from controller.console import pick
from controller.data_sets import manifest, models
from controller.named_data import manifest_digest
from controller.settings import Settings
from specs.data_records import NameRecord, name_of
from specs.errors import Stalled
from specs.label_records import Answer, AskedRecord
from specs.modelspec import ModelKey, Spec
from specs.names import serving_name
from specs.records import ArtifactRecord, DatasetManifest, artifact_key


class Queue(Protocol):
    """A place where people label."""

    place: str
    """For people here."""
    recorded: str
    """For records: without folders of anybody's machine."""

    def send(
        self, asked: Sequence[AskedRecord], names: Sequence[str], read: Callable[[AskedRecord], bytes],
        tick: Callable[[], None],
    ) -> None:  # fmt: skip
        """Put pictures there that are not there yet; ``names`` are the classes, ``tick`` is called after each one."""

    def finished(self, asked: Mapping[str, AskedRecord]) -> tuple[list[Answer], list[str]]:
        """Give what people are done with, and sentences about what cannot be used."""


@dataclass(frozen=True)
class Labelling:
    """Everything about labelling one model."""

    settings: Settings
    store: Store
    key: ModelKey
    spec: Spec
    book: LabelBook

    @classmethod
    def of(cls, settings: Settings, text: str) -> Labelling:
        """Open it for the model that a person means; Stalled ``NoSuchModel``."""
        specs = models(settings)
        key = pick(specs, text)
        store = wiring.store(settings)
        return cls(settings, store, key, specs[key], LabelBook(store, serving_name(*key)))

    def queue(self, folder: Path | None) -> Queue:
        """Open the queue of the spec, or one in a folder; Stalled ``LabellingUnsupported``, ``NoQueue``."""
        task, model = self.spec.task, self.called
        if task not in ("classify", "detect"):
            msg = f"{self.key} is a {task} model; pictures for classify and detect can be labelled"
            raise Stalled("LabellingUnsupported", msg)
        if folder is not None:
            return FolderQueue(folder, model, task)
        given = self.spec.labelling.queue if self.spec.labelling else None
        if given is None:
            hint = "add spec.labelling.queue, as `queue: {directory: {}}`, or name a folder"
            raise Stalled("NoQueue", f"{self.key} names no queue: {hint}")
        access = self.settings.labelling.access
        if given.label_studio is not None:
            return LabelStudioQueue(given.label_studio.url, given.label_studio.project, model, task, access)
        if given.cvat is not None:
            return CvatQueue(given.cvat.url, given.cvat.project, model, task, access)
        named = given.directory.path if given.directory else None
        return FolderQueue(self.settings.labelling.folder / (named or self.book.model), model, task)

    @property
    def called(self) -> str:
        """Name the model as commands take it."""
        return self.key.name if self.key.namespace == "default" else str(self.key)

    @property
    def name(self) -> str | None:
        """Name in the store that the training data has; None where it comes from elsewhere."""
        source = self.spec.data.train
        return name_of(source.uri.url) if source.uri is not None and source.in_store else None

    def base(self) -> tuple[NameRecord | None, DatasetManifest | None]:
        """Give what the name of the training data means now, and the data set that new pictures are added to.

        None where nobody moved the name yet; None where the data set is not in the store.
        """
        seen = DatasetNames(self.store).newest(self.name) if self.name else None
        digest = seen.manifest if seen else manifest_digest(self.store, self.spec.data.train, self.spec.task)
        return seen, manifest(self.store, digest) if digest else None

    def golden(self) -> frozenset[str]:
        """Give the digests of all golden pictures; Stalled ``DatasetMissing`` where nobody knows them yet."""
        source = self.spec.data.golden
        if source is None:
            return frozenset()
        digest = manifest_digest(self.store, source, self.spec.task)
        if digest is None:
            msg = f"the golden set of {self.key} is not in the store, so nobody knows what must stay out of training"
            raise Stalled("DatasetMissing", f"{msg}; `trunkline status {self.key}` says why")
        return manifest(self.store, digest).image_digests()

    def classes(self, asked: Sequence[AskedRecord]) -> list[str]:
        """Give the names of the classes: the data set's, else those of the releases that answered."""
        _, base = self.base()
        if base is not None:
            return base.names
        texts = (self.store.read(artifact_key(file)) for file in sorted({record.file for record in asked}))
        names = [name for text in texts if text for name in ArtifactRecord.decode(text).names]
        return list(dict.fromkeys(names))
