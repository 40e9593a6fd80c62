"""From a target to an engine that has proved itself. Runs in a thread; touches no other model."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from specs.digests import short
from specs.errors import CorruptArtifact, Stalled
from specs.records import ArtifactRecord, SelfTest, artifact_key
from workloads.preprocess import preprocess
from workloads.serve.answers import Refusal
from workloads.serve.cache import Cache
from workloads.serve.engine import ANY, Engine, EngineFailure
from workloads.serve.images import decode
from workloads.serve.limits import Limits
from workloads.serve.results import agree
from workloads.serve.state import Target
from workloads.serve.tensors import DATATYPES, Array
from workloads.serve.trust import Records


@dataclass(frozen=True)
class Proven:
    """An engine whose bytes and answers were checked."""

    engine: Engine
    artifact: ArtifactRecord


def read_artifact(store: Records, target: Target) -> ArtifactRecord:
    """Give the record of the target's file.

    Raises Stalled ``ArtifactMissing``, CorruptArtifact where the record is not one or contradicts the target,
    ``LoadFailed`` for a format other than ONNX.
    """
    text = store.read(artifact_key(target.file))
    if text is None:
        msg = f"the store has no artifact record of {target.file}; has its export ended well?"
        raise Stalled("ArtifactMissing", msg)
    try:
        artifact = ArtifactRecord.decode(text)
    except ValidationError as error:
        msg = f"{artifact_key(target.file)} is no artifact record: {error.error_count()} fields are wrong"
        raise CorruptArtifact(msg) from error
    for field, found, asked in (("file", artifact.file, target.file), ("weights", artifact.weights, target.weights)):
        if found != asked:
            msg = f"{artifact_key(target.file)} is about {field} {short(found)}, but {short(asked)} was asked for"
            raise CorruptArtifact(msg)
    if artifact.format != "onnx":
        raise Stalled("LoadFailed", f"the file's format is {artifact.format!r}; this server runs onnx only")
    return artifact


def load(artifact: ArtifactRecord, cache: Cache, limits: Limits) -> Proven:
    """Give an engine for the artifact's file: digest verified, session made, all self-tests passed.

    Raises Stalled ``ArtifactMissing``, ``LoadFailed``, ``SelfTestFailed``; CorruptArtifact; Transient.
    """
    engine = Engine(_blob(cache, artifact.file), image_size=artifact.image_size, threads=limits.threads)
    if len(engine.inputs) != 1:
        names = ", ".join(part.name for part in engine.inputs)
        raise Stalled("LoadFailed", f"the model takes {len(engine.inputs)} inputs ({names}); a picture is one")
    prove(engine, artifact, cache)
    return Proven(engine, artifact)


def prove(engine: Engine, artifact: ArtifactRecord, cache: Cache) -> None:
    """Run all self-tests, as often as anybody wants to know; raises as ``load`` does, but ``LoadFailed``."""
    try:
        if not artifact.self_tests:
            _smoke(engine)
        for number, test in enumerate(artifact.self_tests, start=1):
            _prove(engine, artifact, test, cache, f"self-test {number} of {len(artifact.self_tests)}")
    except EngineFailure as error:
        raise Stalled("SelfTestFailed", f"the model loads but does not run: {error}") from error


def _blob(cache: Cache, digest: str) -> bytes:
    try:
        return cache.read(digest)
    except CorruptArtifact:
        raise
    except Stalled as error:
        raise Stalled("ArtifactMissing", f"the store does not have {digest}: {error.message}") from error


def _smoke(engine: Engine) -> None:
    """Without golden pictures there is no known answer; at least the model must answer."""
    part = engine.inputs[0]
    shape = [1 if size == ANY else size for size in part.shape]
    engine.run({part.name: np.zeros(shape, DATATYPES[part.datatype])})


def _prove(engine: Engine, artifact: ArtifactRecord, test: SelfTest, cache: Cache, title: str) -> None:
    part = engine.inputs[0]
    tensor, expected = _read_arrays(cache, test, title)
    tensor = tensor.astype(DATATYPES[part.datatype], copy=False)
    if not part.takes(tensor):
        msg = f"{title}: its input is {list(tensor.shape)}, but the model takes {list(part.shape)}"
        raise Stalled("SelfTestFailed", msg)
    answers = engine.run({part.name: tensor})
    _compare(expected, answers, artifact, test.tolerance, f"{title}, tensor input")
    if engine.batched:
        pair = engine.run({part.name: np.concatenate([tensor, tensor])})
        last = {name: array[1:2] for name, array in pair.items()}
        _compare(expected, last, artifact, test.tolerance, f"{title}, as part of a batch")
    _prove_picture(_blob(cache, test.image), tensor, artifact, test.tolerance, title)


def _prove_picture(data: bytes, tensor: Array, artifact: ArtifactRecord, tolerance: float, title: str) -> None:
    """The path of an upload must end in the same tensor."""
    try:
        picture = decode(data, max_pixels=1 << 40)
    except Refusal as error:
        raise Stalled("SelfTestFailed", f"{title}: its picture cannot be decoded: {error.message}") from error
    made = preprocess(picture, artifact.task, artifact.image_size).astype(tensor.dtype, copy=False)
    off = float(np.abs(made - tensor).max()) if made.shape == tensor.shape else float("inf")
    if not off <= tolerance:
        msg = f"{title}: preparing its picture gives a tensor that is off by {off:.4g} (tolerance {tolerance:g})"
        raise Stalled("SelfTestFailed", msg)


def _compare(
    expected: dict[str, Array], answers: dict[str, Array], artifact: ArtifactRecord, tolerance: float, title: str
) -> None:
    if expected.keys() != answers.keys():
        msg = f"{title}: outputs are {', '.join(sorted(answers))}, expected {', '.join(sorted(expected))}"
        raise Stalled("SelfTestFailed", msg)
    for name, wanted in expected.items():
        if not agree(artifact.task, wanted, answers[name], tolerance):
            msg = f"{title}: output {name!r} differs from the recorded answer by more than {tolerance:g}"
            raise Stalled("SelfTestFailed", msg)


def _read_arrays(cache: Cache, test: SelfTest, title: str) -> tuple[Array, dict[str, Array]]:
    """Give input and expected outputs. No pickles: arrays of plain numbers only."""
    try:
        tensor = np.load(io.BytesIO(_blob(cache, test.input)), allow_pickle=False)
        with np.load(io.BytesIO(_blob(cache, test.outputs)), allow_pickle=False) as archive:
            return tensor, {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise CorruptArtifact(f"{title}: its arrays cannot be read: {error}") from error
