"""Requests whose answers are known: what an export must answer before a server may trust it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from adapters.store import Store
from specs.base import Args
from specs.datasets import pictures
from specs.exports import needs_calibration
from specs.modelspec import Task
from specs.records import DatasetManifest, SelfTest
from workloads.preprocess import Tensor, decode, preprocess

COUNT = 3
_SIDE = 96

Infer = Callable[[Tensor], dict[str, Any]]
"""Tensor in, arrays by output name out."""


def sample_pictures(store: Store, golden: DatasetManifest | None) -> list[tuple[str, bytes]]:
    """Give digest and bytes of some golden pictures, always the same ones; a generated one where there is no golden."""
    if golden is None:
        data = _generated()
        return [(store.put_blob(data), data)]
    chosen = sorted({picture.file.digest for picture in pictures(golden)})[:COUNT]
    return [(digest, store.read_blob(digest)) for digest in chosen]


def tolerance_of(format_: str, args: Args) -> float:
    """Give how far an answer may be from the recorded one, absolute and relative, by the precision of the export.

    Machines round numbers of fewer bits in more different ways.
    """
    asked = str(args.get("quantize")).lower()
    if needs_calibration(format_, args) or asked in ("8", "int8") or asked.startswith("w8"):
        return 5e-2
    return 1e-2 if asked in ("16", "fp16", "w16a16") else 1e-3


def make(
    store: Store, samples: Sequence[tuple[str, bytes]], task: Task, size: tuple[int, int], infer: Infer,
    tolerance: float = 1e-3,
) -> list[SelfTest]:  # fmt: skip
    """Ask the export each sample once and store question and answer."""
    tests = []
    for digest, data in samples:
        tensor = preprocess(decode(data), task, size)
        tests.append(SelfTest(
            image=digest, input=store.put_blob(_npy(tensor)), outputs=store.put_blob(_npz(infer(tensor))),
            tolerance=tolerance,
        ))  # fmt: skip
    return tests


def _generated() -> bytes:
    """A smooth picture: noise would amplify rounding between machines."""
    ramp = np.linspace(0, 255, _SIDE, dtype=np.uint8)
    planes = [np.tile(ramp, (_SIDE, 1)), np.tile(ramp[:, None], (1, _SIDE)), np.full((_SIDE, _SIDE), 128, np.uint8)]
    buffer = io.BytesIO()
    Image.fromarray(np.stack(planes, axis=-1)).save(buffer, "PNG")
    return buffer.getvalue()


def _npy(tensor: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tensor, allow_pickle=False)
    return buffer.getvalue()


def _npz(outputs: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **outputs)
    return buffer.getvalue()
