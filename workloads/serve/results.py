"""What a model's raw outputs mean, for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specs.modelspec import Task
from specs.records import ArtifactRecord
from workloads.serve.answers import Refusal
from workloads.serve.tensors import Array

TOP = 5
CONFIDENCE = 0.25
"""The least of a detection, where nobody asks for another one; what is counted never depends on what is asked for."""
OVERLAP = 0.7
"""Of two boxes of a class that overlap more (intersection over union), the less confident one is dropped."""
MOST = 300
"""Detections in one picture."""
Findings = list[Array]
"""What was found in some pictures: arrays of shape (n, C), scores of all classes, or (n, R, 6), x1, y1, x2, y2 in input
pixels, confidence and class of each detection, also of those below any threshold. Empty where nobody can read it."""
_SURE = 0.05
"""Detections below this confidence are noise: their order and number may differ between machines."""


def decode_results(
    artifact: ArtifactRecord, outputs: Mapping[str, Array], size: tuple[int, int], confidence: float
) -> list[dict[str, Any]]:
    """Give what is in a picture of ``size`` (height, width): plain values, best first.

    classify gives the five likeliest classes; detect gives boxes (x1, y1, x2, y2 in the picture's pixels) of at
    least ``confidence``. Raises Refusal 501 for tasks and output shapes that this server cannot decode.
    """
    output = next(iter(outputs.values()))[0]
    if artifact.task == "classify":
        return _classes(output, artifact.names)
    if artifact.task == "detect" and output.ndim == 2 and output.shape[1] == 6:
        return _boxes(output, artifact, size, confidence)
    if artifact.task == "detect" and output.ndim == 2 and output.shape[0] == 4 + len(artifact.names):
        return _boxes(suppress(output, confidence), artifact, size, confidence)
    shape = "x".join(map(str, output.shape))
    msg = (
        f"decoding {artifact.task} outputs of shape {shape} is not supported yet; "
        "use /v2/models/NAME/infer for the raw outputs"
    )
    raise Refusal(501, msg)


def findings(artifact: ArtifactRecord, outputs: Mapping[str, Array], pictures: int) -> Findings:
    """Give what was found in each of ``pictures``, as far as it can be told from the shape of the outputs.

    Of other tasks than classify and detect the first four values of a detection are whatever the model says.
    """
    output = next(iter(outputs.values()))
    if output.shape[:1] != (pictures,) or output.dtype.kind != "f" or not output.size:
        return []
    if artifact.task == "classify":
        return [output] if output.ndim == 2 else []
    if _has_rows(artifact.task, output.shape):
        return [output[:, :MOST, :6]]
    if artifact.task == "detect" and output.ndim == 3 and output.shape[1] == 4 + len(artifact.names):
        return [suppress(picture, CONFIDENCE)[None] for picture in output]
    return []


def read(
    artifact: ArtifactRecord, outputs: Mapping[str, Array], size: tuple[int, int], confidence: float
) -> tuple[list[dict[str, Any]], Findings]:
    """Give what ``decode_results`` and what ``findings`` give, of one picture; by one look where that is enough."""
    found = findings(artifact, outputs, 1)
    enough = found and confidence >= CONFIDENCE
    return decode_results(artifact, {"found": found[0]} if enough else outputs, size, confidence), found


def _named(index: int, names: Sequence[str]) -> dict[str, Any]:
    return {"class": index, "name": names[index] if 0 <= index < len(names) else str(index)}


def _classes(scores: Array, names: Sequence[str]) -> list[dict[str, Any]]:
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [_named(int(index), names) | {"confidence": float(scores[index])} for index in best]


def _boxes(rows: Array, artifact: ArtifactRecord, size: tuple[int, int], confidence: float) -> list[dict[str, Any]]:
    """Decode rows of x1, y1, x2, y2 in input pixels, confidence, class."""
    kept = rows[rows[:, 4] >= confidence]
    kept = kept[np.argsort(-kept[:, 4], kind="stable")][:MOST]
    boxes = unletterbox(kept[:, :4], artifact.image_size, size)
    return [
        _named(int(row[5]), artifact.names)
        | {"confidence": float(row[4]), "box": dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))}
        for row, box in zip(kept, boxes, strict=True)
    ]


def suppress(output: Array, confidence: float) -> Array:
    """Give the detections, as rows like those of end-to-end models, of a model that leaves this to its user.

    ``output`` is (4 + classes, anchors): centre x, centre y, width, height in input pixels, then a score for each
    class. Each anchor stands for its best class; overlapping boxes of the same class are one object.
    """
    scores = output[4:].max(axis=0)
    sure = np.flatnonzero(scores >= confidence)
    order = sure[np.argsort(-scores[sure], kind="stable")]
    scores, kinds = scores[order], output[4:, order].argmax(axis=0)
    centre, half = output[:2, order].T, output[2:4, order].T / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    kept: list[int] = []
    left = np.arange(len(order))
    while left.size and len(kept) < MOST:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[(kinds[left] != kinds[best]) | (overlap(boxes[best], boxes[left]) <= OVERLAP)]
    return np.concatenate([boxes[kept], scores[kept, None], kinds[kept, None]], axis=1)


def overlap(box: Array, others: Array) -> Array:
    """Give intersection over union of one box with each of the others (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    result: Array = shared / np.maximum((box[2:] - box[:2]).prod() + areas - shared, 1e-9)
    return result


def unletterbox(boxes: Array, image_size: tuple[int, int], size: tuple[int, int]) -> Array:
    """Map boxes (n, 4; x1 y1 x2 y2) from the padded input of ``image_size`` to a picture of ``size``, clipped to it.

    Sizes are (height, width). The inverse of scaling to fit and padding both sides alike, as preprocessing does.
    """
    gain = min(image_size[0] / size[0], image_size[1] / size[1])
    inner = [max(round(side * gain), 1) for side in size]
    top, left = (round((full - part) / 2 - 0.1) for full, part in zip(image_size, inner, strict=True))
    # Each axis by its own scale, since its length was rounded to whole pixels.
    down, across = (part / side for part, side in zip(inner, size, strict=True))
    moved = (boxes.astype(np.float64) - [left, top, left, top]) / [across, down, across, down]
    return np.clip(moved, 0, [size[1], size[0], size[1], size[0]])


def agree(task: Task, expected: Array, given: Array, tolerance: float) -> bool:
    """Whether two outputs are the same answer: equal within ``tolerance``, absolute and relative.

    Rows of detections are compared as sets, without those of hardly any confidence: sorting by confidence may put
    near-equal rows in another order on another processor.
    """
    if expected.shape != given.shape:
        return False
    if _has_rows(task, expected.shape):
        return all(
            _covers(one, other, tolerance) and _covers(other, one, tolerance)
            for one, other in zip(expected, given, strict=True)
        )
    return bool(np.allclose(given, expected, rtol=tolerance, atol=tolerance, equal_nan=True))


def _has_rows(task: Task, shape: tuple[int, ...]) -> bool:
    """Whether an output holds end-to-end detections (batch, rows, values of a row), not values of each anchor."""
    if len(shape) != 3:
        return False
    width = {"detect": 6, "obb": 7}.get(task)
    return shape[2] == width if width else task != "classify" and shape[1] == MOST and 6 < shape[2] < MOST


def _covers(rows: Array, others: Array, tolerance: float) -> bool:
    """Whether each confident row has its like among the others."""
    sure = rows[rows[:, 4] >= _SURE]
    close: Array = np.isclose(others[None, :, :], sure[:, None, :], rtol=tolerance, atol=tolerance)
    return bool(np.all(np.any(np.all(close, axis=2), axis=1)))
