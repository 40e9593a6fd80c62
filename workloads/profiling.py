"""Profiles: what an export does on the golden set, counted exactly as the server counts live traffic.

It is the server's own engine, preparation, decoding and counting that run here, one picture at a time. Nothing is kept
between attempts: one that was killed is repeated whole, and on the same machine comes to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from adapters.labels import LabelFormat
from adapters.store import Store
from specs.datasets import Picture, pictures
from specs.errors import CorruptArtifact, Stalled
from specs.modelspec import Task
from specs.profile_records import ProfileRecord, profile_key
from specs.records import ArtifactRecord, DatasetManifest, artifact_key
from specs.workorders import ProfileOrder
from workloads.dataset import load_manifest
from workloads.environment import describe
from workloads.errors import Hopeless
from workloads.progress import Reporter
from workloads.serve import runtimes
from workloads.serve.answers import Refusal
from workloads.serve.counting import Classes, Seen
from workloads.serve.engine import Engine, EngineFailure, Opening
from workloads.serve.fitting import Fit
from workloads.serve.images import prepared
from workloads.serve.limits import Limits
from workloads.serve.matching import match
from workloads.serve.query import CONFIDENCE
from workloads.serve.results import Findings, findings

_AT_ONCE = 16
"""Files that are fetched at once, and held."""
_SINGLE = ["item"]
"""What Ultralytics calls the class of a model that was trained to tell none apart."""


def run(order: ProfileOrder, store: Store, scratch: Path) -> None:  # noqa: ARG001 - all kinds of jobs begin alike
    """Write the ProfileRecord.

    Hopeless ``LoadFailed`` for what no server of ours can serve, ``ClassMismatch``, ``UnreadablePictures``. Stalled
    ``ArtifactMissing``, ``DatasetMissing``, CorruptArtifact where the store is at fault.
    """
    with Reporter(store, order.job) as reporter:
        reporter.report("fetching data")
        golden = load_manifest(store, order.golden, order.task)
        artifact = _artifact(order, store)
        _check_classes(golden, artifact)
        profile = _Profile(golden, artifact, _engine(store, artifact))
        chosen = pictures(golden)
        for done, (picture, image, label) in enumerate(_fetched(store, chosen)):
            reporter.report("profiling", done=done, total=len(chosen))
            profile.add(picture, image, label)
        reporter.report("finishing")
        store.create(profile_key(order.file, order.golden), profile.record().encode())


def record_failure(order: ProfileOrder, store: Store, failure: Hopeless) -> None:
    """Write down that this can never be had, and why."""
    record = ProfileRecord(
        file=order.file, golden=order.golden, task=order.task, status="Failed", reason=failure.reason,
        message=failure.message,
    )  # fmt: skip
    store.create(profile_key(order.file, order.golden), record.encode())


@dataclass
class _Profile:
    golden: DatasetManifest
    artifact: ArtifactRecord
    engine: Engine

    def __post_init__(self) -> None:
        self.seen = Seen(self.artifact.names)
        self.right = Classes(self.artifact.names)
        self.judged = False
        self.n = 0

    def add(self, picture: Picture, image: bytes, label: bytes) -> None:
        """Count a picture. Hopeless where it cannot be read, or the model fails on it."""
        part = self.engine.inputs[0]
        try:
            size, tensor = prepared(image, self.artifact, part.datatype, Limits.max_pixels)
            inputs = {part.name: tensor}
            outputs = self.engine.run(inputs) if self.engine.check(inputs, None) else {}
        except Refusal as error:
            raise Hopeless("UnreadablePictures", f"{picture.file.path}: {error.message}") from error
        except EngineFailure as error:
            raise Hopeless("LoadFailed", f"{picture.file.path}: the model fails on this picture: {error}") from error
        found = findings(self.artifact, outputs, 1)
        self.seen.saw(tensor, found)
        self.seen.sized(size[0] * size[1])
        self.n += 1
        self._judge(found, picture, label, size)

    def _judge(self, found: Findings, picture: Picture, label: bytes, size: tuple[int, int]) -> None:
        """Count what is right. Rotated boxes are not matched: their overlap is none of upright ones."""
        if not found or self.artifact.task == "obb":
            return
        self.judged = True
        if self.artifact.task == "classify":
            scores = found[0]
            best = scores.argmax(axis=1)
            right = np.array([self.artifact.names[int(number)] == picture.class_name for number in best])
            self.right.add_all(best[right], scores.max(axis=1)[right])
            return
        rows = found[0][0]
        sure = rows[rows[:, 4] >= CONFIDENCE].astype(np.float64)
        sure[:, :4] = Fit.of(self.artifact.image_size, size).boxes(sure[:, :4])
        hits = match(sure, self._objects(label, size)).right
        self.right.add_all(sure[hits, 5], sure[hits, 4])

    def _objects(self, label: bytes, size: tuple[int, int]) -> NDArray[np.float64]:
        """Give what is in a picture, as ``match`` takes it."""
        form = LabelFormat(self.golden.task, self.golden.names, self.golden.kpt_shape)
        single = self.artifact.names == _SINGLE
        rows = [
            [*_upright(self.golden.task, values), 0 if single else number] for number, values in form.objects(label)
        ]
        objects = np.array(rows, np.float64).reshape(-1, 5)
        objects[:, :4] *= [size[1], size[0], size[1], size[0]]
        return objects

    def record(self) -> ProfileRecord:
        """Give all counts."""
        seen, artifact, rights = self.seen, self.artifact, self.right.counts
        right = {name: rights.get(name, ((0,) * len(counts), 0.0)) for name, (counts, _) in seen.classes.items()}
        return ProfileRecord(
            file=artifact.file, golden=self.golden.digest(), task=artifact.task, n=self.n, names=artifact.names,
            pictures={name: list(bins.counts) for name, bins in seen.pictures.items()},
            classes={name: list(counts) for name, (counts, _) in seen.classes.items()},
            right={name: list(counts) for name, (counts, _) in right.items()} if self.judged else {},
            environment=describe(),
        )  # fmt: skip


def _upright(task: Task, values: Sequence[float]) -> list[float]:
    """Give x1, y1, x2, y2 of a label, all as parts of the picture's sides."""
    if task == "segment":
        across, down = values[::2], values[1::2]
        return [min(across), min(down), max(across), max(down)]
    x, y, width, height = values[:4]
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _artifact(order: ProfileOrder, store: Store) -> ArtifactRecord:
    try:
        runtimes.check(order.format)
    except Stalled as error:
        raise Hopeless("LoadFailed", f"{error.message}, and live traffic is counted there") from error
    text = store.read(artifact_key(order.file))
    if text is None:
        msg = f"the store has no artifact record of {order.file}; has its export ended well?"
        raise Stalled("ArtifactMissing", msg)
    try:
        artifact = ArtifactRecord.decode(text)
    except ValidationError as error:
        msg = f"{artifact_key(order.file)} is no artifact record: {error.error_count()} fields are wrong"
        raise CorruptArtifact(msg) from error
    if (artifact.file, artifact.task) != (order.file, order.task):
        msg = f"{artifact_key(order.file)} is about another file, or its task is not {order.task}"
        raise CorruptArtifact(msg)
    return artifact


def _check_classes(golden: DatasetManifest, artifact: ArtifactRecord) -> None:
    """Hopeless ``ClassMismatch`` by the same rules that an evaluation has."""
    known, wanted = artifact.names, golden.names
    if artifact.task == "classify":
        unknown = ", ".join(sorted(set(wanted) - set(known)))
        if unknown:
            raise Hopeless("ClassMismatch", f"golden holds classes the model does not know: {unknown}")
    elif known != _SINGLE and known[: len(wanted)] != wanted:
        message = f"golden numbers its classes {', '.join(wanted)}, the model {', '.join(known)}; order them alike"
        raise Hopeless("ClassMismatch", message)


def _engine(store: Store, artifact: ArtifactRecord) -> Engine:
    model = store.read_blob(artifact.file)
    try:
        opening = Opening(artifact.image_size, Limits.threads, built_on=artifact.runtime)
        engine = runtimes.open_engine(artifact.format, model, opening)
    except Stalled as error:
        raise Hopeless(error.reason, error.message) from error
    if len(engine.inputs) != 1:
        raise Hopeless("LoadFailed", f"the model takes {len(engine.inputs)} inputs; a picture is one")
    return engine


def _fetched(store: Store, chosen: Sequence[Picture]) -> Iterator[tuple[Picture, bytes, bytes]]:
    """Give each picture with its bytes and those of its labels, a few ahead."""

    def fetch(picture: Picture) -> tuple[Picture, bytes, bytes]:
        label = store.read_blob(picture.label.digest) if picture.label else b""
        return picture, store.read_blob(picture.file.digest), label

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(chosen), _AT_ONCE):
            yield from pool.map(fetch, chosen[start : start + _AT_ONCE])
