"""Engines that this server makes of released ONNX files for the device it runs on, kept on its own disk.

::

    <root>/<made>.engine    what was made; ``made`` is the digest of all that it depends on
          /<made>.json      its digest, and the attestation once it has proved itself; written after it

Killed at any moment, a server finds a whole engine with its note, or makes it again. An engine whose bytes are not what
was noted, that does not load, or that other versions of the runtime made, is made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from specs.attestations import Attestation, attestation_key
from specs.builds import Build
from specs.digests import Digest, digest_bytes, digest_of, hex_of, short
from specs.errors import Stalled, Transient, TrunklineError
from workloads.inference import latency
from workloads.serve import runtimes
from workloads.serve.engine import ANY, Engine, Opening
from workloads.serve.tensors import DATATYPES

log = logging.getLogger(__name__)

TryOut = Callable[[bytes], tuple[Engine, dict[str, float]]]
"""Loads what was made and runs the self-tests; gives the engine and the parity of an Attestation, or raises."""


class Attestations(Protocol):
    """The part of ``adapters.store.Store`` that takes attestations."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once."""


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    onnx: Digest
    build: str
    engine: Digest
    attestation: Attestation | None = None
    """Once it has proved itself."""
    told: bool = False
    """Whether the store has the attestation."""


@dataclass(frozen=True)
class Made:
    """An engine that was made here, and has proved itself."""

    engine: Engine
    attestation: Attestation


@dataclass(frozen=True)
class _Plan:
    """What is to be made of which file, and where it is kept."""

    onnx: str
    build: Build
    opening: Opening
    versions: dict[str, str]
    device: dict[str, str]
    path: Path

    @property
    def note(self) -> Path:
        return self.path.with_suffix(".json")


class Builds:
    """A directory of engines. Methods may be called from any thread; the same engine is made by one at a time."""

    def __init__(self, root: Path, store: Attestations) -> None:
        """Make the directory, and remove what a killed server left half-written, or without its note."""
        self._root = root
        self._store = store
        self._locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        root.mkdir(parents=True, exist_ok=True)
        unknown = (path for path in root.glob("[!.]*.engine") if not path.with_suffix(".json").exists())
        for path in (*root.glob(".*"), *unknown):
            path.unlink(missing_ok=True)

    def obtain(self, onnx: str, build: Build, opening: Opening, read: Callable[[], bytes], try_out: TryOut) -> Made:
        """Give the engine for this device, made of the file with the digest ``onnx``, which ``read`` gives.

        Raises Stalled ``BuildFailed``, ``LoadFailed``, and what ``read`` and ``try_out`` raise; Transient where the
        disk does not take it. That the store cannot be told is no trouble: see ``tell``.
        """
        plan = self._plan(onnx, build, opening)
        try:
            with self._locks[plan.path]:
                made = self._reuse(plan, try_out) or self._make(plan, read, try_out)
                self._forget_others(plan)
        except OSError as error:
            raise Transient("CacheUnavailable", f"cannot keep engines under {self._root}: {error}") from error
        self.tell()
        return made

    def tell(self) -> bool:
        """Tell the store of engines that it does not know yet; whether it knows all of them now."""
        done = True
        for path in sorted(self._root.glob("[!.]*.json")):
            note = _read(path)
            if note is None or note.attestation is None or note.told:
                continue
            try:
                self._store.create(attestation_key(note.attestation), note.attestation.encode())
                self._write(path, note.model_copy(update={"told": True}).model_dump_json(indent=2).encode())
            except (TrunklineError, OSError) as error:
                log.warning("the store is not told of the engine %s yet: %s", short(note.engine), error)
                done = False
        return done

    def untold(self) -> set[str]:
        """Give the digests of engines that the store does not know of yet."""
        notes = [_read(path) for path in self._root.glob("[!.]*.json")]
        return {note.engine for note in notes if note is not None and note.attestation is not None and not note.told}

    def prune(self, keep: Collection[str]) -> None:
        """Remove what was made of other files than those with the digests in ``keep``."""
        with contextlib.suppress(OSError):
            for path in self._root.glob("[!.]*.json"):
                note = _read(path)
                if note is None or note.onnx not in keep:
                    _remove(path)

    def _plan(self, onnx: str, build: Build, opening: Opening) -> _Plan:
        versions, device = runtimes.versions(build.format), runtimes.device_facts(build.format)
        depends = {
            "onnx": onnx, "build": build.word, "versions": versions, "device": device,
            "size": opening.image_size,
        }  # fmt: skip
        path = self._root / f"{hex_of(digest_of(depends))}.engine"
        return _Plan(onnx, build, opening, versions, device, path)

    def _reuse(self, plan: _Plan, try_out: TryOut) -> Made | None:
        """Give what was made before, where it is what was noted and still proves itself."""
        note = _read(plan.note)
        if note is None or not plan.path.exists():
            return None
        data = plan.path.read_bytes()
        if digest_bytes(data) != note.engine:
            log.warning("the engine %s on disk is not what was made; it is made again", short(note.engine))
            return None
        try:
            return self._proven(plan, data, note, try_out)
        except Stalled as error:
            log.warning("the engine %s is made again: %s", short(note.engine), error.message)
            return None

    def _make(self, plan: _Plan, read: Callable[[], bytes], try_out: TryOut) -> Made:
        log.info("making %s of %s for this device", plan.build.word, short(plan.onnx))
        _remove(plan.note)
        data = runtimes.build_engine(plan.build, read(), plan.opening)
        note = _Note(onnx=plan.onnx, build=plan.build.word, engine=digest_bytes(data))
        self._write(plan.path, data)
        self._write(plan.note, note.model_dump_json(indent=2).encode())
        return self._proven(plan, data, note, try_out)

    def _proven(self, plan: _Plan, data: bytes, note: _Note, try_out: TryOut) -> Made:
        engine, parity = try_out(data)
        if note.attestation is not None:
            return Made(engine, note.attestation)
        attestation = Attestation(
            onnx=plan.onnx, engine=note.engine, format=plan.build.format, precision=plan.build.precision,
            versions=plan.versions, device=plan.device, parity=parity, latency=_timed(engine), bytes=len(data),
        )  # fmt: skip
        known = note.model_copy(update={"attestation": attestation})
        self._write(plan.note, known.model_dump_json(indent=2).encode())
        return Made(engine, attestation)

    def _forget_others(self, plan: _Plan) -> None:
        """Remove what other versions, or another device with this disk, made of the same file."""
        for path in self._root.glob("[!.]*.json"):
            note = _read(path)
            if path != plan.note and note is not None and (note.onnx, note.build) == (plan.onnx, plan.build.word):
                _remove(path)

    def _write(self, path: Path, data: bytes) -> None:
        """Replace a file in one step: after a crash it is the old one or the new one."""
        partial = self._root / f".{uuid.uuid4().hex}"
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _read(path: Path) -> _Note | None:
    try:
        return _Note.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _remove(note: Path) -> None:
    """Remove an engine; its note goes first, so that none is left that speaks of nothing."""
    note.unlink(missing_ok=True)
    note.with_suffix(".engine").unlink(missing_ok=True)


def _timed(engine: Engine) -> dict[str, float]:
    """Time one picture at a time, of zeros."""
    part = engine.inputs[0]
    tensor = np.zeros([1 if size == ANY else size for size in part.shape], DATATYPES[part.datatype])
    return latency(lambda given: engine.run({part.name: given}), tensor)
