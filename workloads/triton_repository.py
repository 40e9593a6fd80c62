"""``python -m workloads.triton_repository``: make the model repository that Triton then serves from, and end.

Runs before Triton in its pod. Reads what to serve from the environment, and trusts no more than our own server does:
digests and signatures are verified, and an ONNX file must pass its self-tests, before anything is written. A model's
folder appears whole or not at all. Trouble that may pass is waited out; exit code 10 says that the file never can.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from adapters.store import Store
from specs.errors import Stalled, TrunklineError
from specs.records import ArtifactRecord
from specs.signatures import TRUSTED_VARIABLE, decode_keys
from workloads.serve.cache import Blobs, Cache
from workloads.serve.engine import ANY, Engine
from workloads.serve.limits import Limits
from workloads.serve.loading import load, read_artifact, read_input
from workloads.serve.startup import HOPELESS, HOPELESS_EXIT, TARGET_VARIABLE, Wanted, pauses
from workloads.serve.tensors import DATATYPES
from workloads.serve.trust import Trust
from workloads.triton_config import BUILDS, ONNX, PLAN, Device, Model, Warmup, config_text

_LAST_WORDS = 1000
"""Characters of the last line: Kubernetes keeps 2048 bytes of a log's end."""
_LONGEST_METADATA = 1 << 20
_WARMUP = "warmup"
"""Folder in which Triton looks for data to try."""

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Write the repository; gives 0 where it is whole, 10 where it never can be, 1 where it cannot begin.

    The last line on stderr is then ``trunkline: Reason: sentence``.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        wanted = Wanted.model_validate_json(os.environ.get(TARGET_VARIABLE, ""))
        trust = Trust(decode_keys(os.environ.get(TRUSTED_VARIABLE, "")))
        store = Store(options.store)
    except (ValidationError, ValueError, TrunklineError) as error:
        sys.stderr.write(f"the repository cannot be made: {_one_line(str(error))}\n")
        return 1
    kind = Kind(options.device, options.build)
    for pause in pauses():
        try:
            write(options.repository, wanted, Source(store, options.cache, trust, options.threads), kind)
        except TrunklineError as error:
            if error.reason in HOPELESS:
                sys.stderr.write(f"trunkline: {error.reason}: {_one_line(error.message)}\n")
                return HOPELESS_EXIT
            log.warning("next try in %.0f s: %s", pause, error.message)
        except OSError as error:
            log.warning("next try in %.0f s: %s cannot be written: %s", pause, options.repository, error)
        else:
            return 0
        time.sleep(pause)
    return 1


@dataclass(frozen=True)
class Kind:
    """How Triton shall run it."""

    device: Device = "cpu"
    build: str = ""
    """Format that Triton makes of an ONNX file for itself; empty where it runs the file."""


_CPU = Kind()


class Source:
    """Where files come from, and whom to believe."""

    def __init__(self, store: Blobs, cache: Path, trust: Trust, threads: int) -> None:
        self._store, self._trust = store, trust
        self.cache = Cache(cache, store)
        self.limits = Limits(threads=threads)

    def artifact(self, wanted: Wanted) -> ArtifactRecord:
        """Give the record of what is wanted, proved to belong to its release; raises as the server does."""
        self._trust.demand(self._store, wanted.target)
        return read_artifact(self._store, wanted.target, formats=("onnx", "engine"))


def write(root: Path, wanted: Wanted, source: Source, kind: Kind = _CPU) -> None:
    """Put one model into the repository at ``root``, whole or not at all; another one that is there is replaced.

    Raises Stalled and Transient as loading into our own server does, and OSError.
    """
    artifact = source.artifact(wanted)
    made = _onnx if artifact.format == "onnx" else _plan
    files = made(artifact, wanted, source, kind)
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.iterdir():  # of an attempt that was killed, or of another target
        if leftover.name != wanted.name:
            shutil.rmtree(leftover, ignore_errors=True)
    partial = root / f".{uuid.uuid4().hex}"
    for name, data in files.items():
        place = partial / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    with suppress(FileNotFoundError):
        (root / wanted.name).rename(root / f".{uuid.uuid4().hex}")
    partial.rename(root / wanted.name)
    for old in root.glob(".*"):
        shutil.rmtree(old, ignore_errors=True)
    log.info("version %d of %s is in %s", wanted.version, wanted.name, root)


def _onnx(artifact: ArtifactRecord, wanted: Wanted, source: Source, kind: Kind) -> dict[str, bytes]:
    """Give the files of a model that passed its self-tests here, by their places in its folder."""
    engine = load(artifact, source.cache, source.limits).engine
    warmups, data = _warmups(engine, artifact, source.cache)
    parameters = _parameters(wanted) | {"intra_op_thread_count": str(source.limits.threads)}
    max_batch = source.limits.max_batch if engine.batched else 0
    model = Model(
        wanted.name, wanted.version, ONNX, kind.device, max_batch, engine.inputs, engine.outputs, warmups, kind.build,
        parameters,
    )  # fmt: skip
    return {"config.pbtxt": config_text(model).encode(), f"{wanted.version}/{ONNX}": source.cache.read(artifact.file),
            **data}  # fmt: skip


def _plan(artifact: ArtifactRecord, wanted: Wanted, source: Source, kind: Kind) -> dict[str, bytes]:
    """Give the files of a TensorRT engine, which tells Triton by itself what it takes and gives."""
    if kind.device != "gpu":
        text = "a TensorRT engine needs a GPU: ask for one in spec.serving.resources.limits, or serve an ONNX export"
        raise Stalled("LoadFailed", text)
    model = Model(wanted.name, wanted.version, PLAN, kind.device, parameters=_parameters(wanted))
    plan = without_metadata(source.cache.read(artifact.file))
    return {"config.pbtxt": config_text(model).encode(), f"{wanted.version}/{PLAN}": plan}


def without_metadata(engine: bytes) -> bytes:
    """Give a TensorRT engine as TensorRT reads it: Ultralytics writes four bytes of length and JSON before it."""
    size = int.from_bytes(engine[:4], "little")
    if 0 < size <= min(_LONGEST_METADATA, len(engine) - 4):
        with suppress(ValueError):
            if isinstance(json.loads(engine[4 : 4 + size]), dict):
                return engine[4 + size :]
    return engine


def _warmups(
    engine: Engine, artifact: ArtifactRecord, cache: Cache
) -> tuple[Sequence[Warmup], Mapping[str, bytes]]:  # fmt: skip
    """Give what Triton tries first: the inputs of the self-tests, or zeros where there are none."""
    (part,) = engine.inputs
    if not artifact.self_tests:
        shape = tuple(1 if size == ANY else size for size in part.shape)
        return [Warmup("zeros", part, shape, "")], {}
    warmups, data = [], {}
    for number, test in enumerate(artifact.self_tests, start=1):
        tensor = np.ascontiguousarray(read_input(cache, test).astype(DATATYPES[part.datatype]))
        name = f"self-test-{number}"
        warmups.append(Warmup(name, part, tensor.shape, name))
        data[f"{_WARMUP}/{name}"] = tensor.tobytes()
    return warmups, data


def _parameters(wanted: Wanted) -> dict[str, str]:
    """Give what names the release, so that whoever looks at Triton sees where a model came from."""
    return {f"trunkline.{name}": str(value) for name, value in wanted.target.model_dump().items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LAST_WORDS]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workloads.triton_repository", description=__doc__)
    option = parser.add_argument
    option("--store", required=True, metavar="URL", help="artifact store")
    option("--repository", required=True, type=Path, metavar="DIR", help="where Triton looks for models")
    option("--cache", required=True, type=Path, metavar="DIR", help="files by digest")
    option("--device", default="cpu", choices=["cpu", "gpu"], help="what Triton shall run on (default: %(default)s)")
    option("--build", default="", choices=BUILDS, help="format that Triton makes of an ONNX file for itself")
    option("--threads", default=len(os.sched_getaffinity(0)), type=int, metavar="N", help="inside one inference")
    return parser


if __name__ == "__main__":
    sys.exit(main())
