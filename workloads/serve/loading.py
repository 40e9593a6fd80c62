"""From a target to an engine that has proved itself. Runs in a thread; touches no other model."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ValidationError

from specs.attestations import Attestation
from specs.builds import Build
from specs.digests import short
from specs.errors import CorruptArtifact, Stalled
from specs.modelspec import Task
from specs.records import ArtifactRecord, SelfTest, artifact_key
from workloads.preprocess import preprocess
from workloads.serve import runtimes
from workloads.serve.answers import Refusal
from workloads.serve.cache import Cache
from workloads.serve.engine import ANY, Engine, EngineFailure, Opening
from workloads.serve.images import decode
from workloads.serve.limits import Limits
from workloads.serve.memory import trim
from workloads.serve.results import agree
from workloads.serve.state import Target
from workloads.serve.tensors import DATATYPES, Array
from workloads.serve.trust import Records

_MEASURING = threading.Lock()
"""Held by whoever measures how much memory an engine takes."""


@dataclass(frozen=True)
class Proven:
    """An engine whose bytes and answers were checked."""

    engine: Engine
    artifact: ArtifactRecord
    attestation: Attestation | None = None
    """Where this server made the engine of the artifact's file."""


def read_artifact(store: Records, target: Target, *, formats: Collection[str] | None = None) -> ArtifactRecord:
    """Give the record of the target's file.

    Raises Stalled ``ArtifactMissing``, CorruptArtifact where the record is not one or contradicts the target,
    ``LoadFailed`` for a format that is none of ``formats``, or where none are named, that this server does not run.
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
    if formats is None:
        runtimes.check(artifact.format)
    elif artifact.format not in formats:
        names = " and ".join(formats)
        raise Stalled("LoadFailed", f"the file's format is {artifact.format!r}; this server runs {names} only")
    return artifact


def load(artifact: ArtifactRecord, cache: Cache, limits: Limits, *, build: Build | None = None) -> Proven:
    """Give an engine for the artifact's file: digest verified, engine loaded, all self-tests passed.

    With ``build`` the engine is made of the file, which is ONNX, unless it is there already. Raises Stalled
    ``ArtifactMissing``, ``LoadFailed``, ``EngineMismatch``, ``BuildFailed``, ``SelfTestFailed``; CorruptArtifact;
    Transient.
    """
    opening = Opening(artifact.image_size, limits.threads, limits.providers, built_on=artifact.runtime)
    if build is None:
        data = _blob(cache, artifact.file)
        return Proven(_opened(data, artifact.format, opening, artifact, cache, limits), artifact)
    if artifact.format != "onnx" or cache.builds is None:
        raise Stalled("BuildFailed", f"{build.format} is made of onnx only, and the file is {artifact.format}")
    opening = replace(opening, precision=build.precision, built_on=None)

    def try_out(data: bytes) -> tuple[Engine, dict[str, float]]:
        engine = _opened(data, build.format, opening, artifact, cache, limits)
        return engine, _parity(engine, artifact, cache)

    made = cache.builds.obtain(artifact.file, build, opening, lambda: _blob(cache, artifact.file), try_out)
    return Proven(made.engine, artifact, made.attestation)


def _opened(
    data: bytes, format_: str, opening: Opening, artifact: ArtifactRecord, cache: Cache, limits: Limits
) -> Engine:  # fmt: skip
    """Load and prove an engine, and estimate its memory: the size of its file, and what the process grew meanwhile."""
    # With a budget that matters, so one at a time; what is free would hide what is needed.
    with _MEASURING if limits.memory_budget is not None else nullcontext():
        trimmed = limits.memory_budget is not None and trim()
        before = limits.resident()
        engine = runtimes.open_engine(format_, data, opening)
        prove(engine, artifact, cache)
        if trimmed:
            trim()
        engine.memory += len(data) + max(limits.resident() - before, 0)
    return engine


def prove(engine: Engine, artifact: ArtifactRecord, cache: Cache) -> None:
    """Run all self-tests, as often as anybody wants to know; raises as ``load`` does, but ``LoadFailed``."""
    if len(engine.inputs) != 1:
        names = ", ".join(part.name for part in engine.inputs)
        raise Stalled("LoadFailed", f"the model takes {len(engine.inputs)} inputs ({names}); a picture is one")
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
    answers, tolerance = engine.run({part.name: tensor}), max(test.tolerance, engine.tolerance)
    _compare(expected, answers, artifact, tolerance, f"{title}, tensor input")
    if engine.batched:
        pair = engine.run({part.name: np.concatenate([tensor, tensor])})
        last = {name: array[1:2] for name, array in pair.items()}
        _compare(expected, last, artifact, tolerance, f"{title}, as part of a batch")
    _prove_picture(_blob(cache, test.image), tensor, artifact, test.tolerance, title)


def _parity(engine: Engine, artifact: ArtifactRecord, cache: Cache) -> dict[str, float]:
    """Give how far the answers to the self-tests are from the recorded ones, how far they may be, and how many."""
    worst, allowed = 0.0, engine.tolerance
    for test in artifact.self_tests:
        tensor, expected = _read_arrays(cache, test, "self-test")
        part = engine.inputs[0]
        answers = engine.run({part.name: tensor.astype(DATATYPES[part.datatype], copy=False)})
        allowed = max(allowed, test.tolerance)
        worst = max([worst, *(difference(artifact.task, expected[name], answers[name]) for name in expected)])
    return {"difference": worst, "tolerance": allowed, "tests": float(len(artifact.self_tests))}


def difference(task: Task, expected: Array, given: Array) -> float:
    """Give the tolerance within which two answers agree: one, two or five times a power of ten, at most 1."""
    steps = (float(f"{lead}e{power}") for power in range(-7, 0) for lead in (1, 2, 5))
    return next((step for step in (0.0, *steps) if agree(task, expected, given, step)), 1.0)


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


def read_input(cache: Cache, test: SelfTest) -> Array:
    """Give the input tensor of a self-test; raises as ``load`` does."""
    return _read_arrays(cache, test, "a self-test")[0]


def _read_arrays(cache: Cache, test: SelfTest, title: str) -> tuple[Array, dict[str, Array]]:
    """Give input and expected outputs. No pickles: arrays of plain numbers only."""
    try:
        tensor = np.load(io.BytesIO(_blob(cache, test.input)), allow_pickle=False)
        with np.load(io.BytesIO(_blob(cache, test.outputs)), allow_pickle=False) as archive:
            return tensor, {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise CorruptArtifact(f"{title}: its arrays cannot be read: {error}") from error
