"""What a model's raw outputs mean, for each task: told to clients, counted, and compared with recorded answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from specs.modelspec import Task
from specs.records import ArtifactRecord
from workloads.serve.answers import Refusal
from workloads.serve.fitting import Fit
from workloads.serve.query import MOST, Query
from workloads.serve.results_layout import Layout, found_in, layout_of, points_of, prototypes_in
from workloads.serve.results_masks import Prototypes, check_size
from workloads.serve.results_rotated import corners
from workloads.serve.results_rows import chosen
from workloads.serve.tensors import Array

TOP = 5
Findings = list[Array]
"""What was found in some pictures: arrays of shape (n, C), scores of all classes, or (n, R, 6), x1, y1, x2, y2 in input
pixels, confidence and class of each detection, also of those below any threshold; (n, R, 7) of rotated boxes: centre x,
centre y, width, height, confidence, class, angle. Empty where nobody can read it."""
Told = list[dict[str, Any]]
"""What a client gets: plain values, best first."""
_SURE = 0.05
"""Detections below this confidence are noise: their order and number may differ between machines."""
_USUAL = Query()


def decode_results(
    artifact: ArtifactRecord, outputs: Mapping[str, Array], size: tuple[int, int], query: Query = _USUAL
) -> Told:
    """Give what is in a picture of ``size`` (height, width), in its own pixels.

    classify gives the five likeliest classes, all other tasks boxes, and with them masks, key points or angles. Raises
    Refusal 501 for outputs that this server cannot decode, 413 for masks that would take too long.
    """
    if artifact.task == "classify":
        return _classes(found_in(outputs)[0], artifact.names)
    layout = layout_of(artifact, outputs)
    if layout is None:
        shapes = " and ".join("x".join(map(str, output.shape)) for output in outputs.values())
        msg = (
            f"outputs of shape {shapes} cannot be decoded for {artifact.task} with {len(artifact.names)} classes; "
            "use /v2/models/NAME/infer for the raw outputs"
        )
        raise Refusal(501, msg)
    return _objects(chosen(found_in(outputs)[0], layout, query), artifact, outputs, size, query)


def findings(artifact: ArtifactRecord, outputs: Mapping[str, Array], pictures: int) -> Findings:
    """Give what was found in each of ``pictures``, as far as it can be told from the shape of the outputs."""
    output = found_in(outputs)
    if output.shape[:1] != (pictures,) or output.dtype.kind != "f" or not output.size:
        return []
    if artifact.task == "classify":
        return [output] if output.ndim == 2 else []
    layout = layout_of(artifact, outputs)
    if layout is None:
        return []
    if layout.finished:
        return [output[:, :MOST, : layout.told]]
    return [chosen(picture, layout, _USUAL)[None, :, : layout.told] for picture in output]


def read(
    artifact: ArtifactRecord, outputs: Mapping[str, Array], size: tuple[int, int], query: Query = _USUAL
) -> tuple[Told, Findings]:
    """Give what ``decode_results`` and what ``findings`` give, of one picture; by one look where that is enough."""
    layout = layout_of(artifact, outputs)
    if layout is None or layout.finished or not query.counted:
        return decode_results(artifact, outputs, size, query), findings(artifact, outputs, 1)
    rows = chosen(found_in(outputs)[0], layout, _USUAL)
    told = chosen(rows, Layout(finished=True, classes=layout.classes, extra=layout.extra), query)
    return _objects(told, artifact, outputs, size, query), [rows[None, :, : layout.told]]


def recalled(artifact: ArtifactRecord, found: Array, size: tuple[int, int]) -> Told:
    """Give what was told of a picture with the least confidence that is counted, from what was found there.

    ``found`` is (C,), (R, 6) or (R, 7), as in ``Findings``. Masks and key points are gone.
    """
    if artifact.task == "classify":
        return _classes(found, artifact.names)
    layout = Layout(finished=True, classes=len(artifact.names), extra=0, rotated=artifact.task == "obb")
    rows, fit = chosen(found, layout, _USUAL), Fit.of(artifact.image_size, size)
    return _rotated(rows, artifact, fit) if layout.rotated else _upright(rows, artifact, fit)


def _named(index: int, names: Sequence[str]) -> dict[str, Any]:
    return {"class": index, "name": names[index] if 0 <= index < len(names) else str(index)}


def _classes(scores: Array, names: Sequence[str]) -> Told:
    best = np.argsort(-scores, kind="stable")[:TOP]
    return [_named(int(index), names) | {"confidence": float(scores[index])} for index in best]


def _objects(
    rows: Array, artifact: ArtifactRecord, outputs: Mapping[str, Array], size: tuple[int, int], query: Query
) -> Told:
    fit = Fit.of(artifact.image_size, size)
    if artifact.task == "obb":
        return _rotated(rows, artifact, fit)
    told = _upright(rows, artifact, fit)
    prototypes = prototypes_in(outputs)
    if artifact.task == "pose":
        return [each | {"keypoints": points} for each, points in zip(told, _posed(rows, artifact, fit), strict=True)]
    if artifact.task == "segment" and prototypes is not None and query.masks != "none":
        draw = _runs if query.masks == "rle" else _polygons
        masks = draw(rows, Prototypes(prototypes[0], fit), fit)
        # As Ultralytics has it: an object of which no pixel is left is none.
        return [each | mask for each, mask in zip(told, masks, strict=True) if mask]
    return told


def _upright(rows: Array, artifact: ArtifactRecord, fit: Fit) -> Told:
    return [
        _named(int(row[5]), artifact.names)
        | {"confidence": float(row[4]), "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
        for row, box in zip(rows, fit.boxes(rows[:, :4]).tolist(), strict=True)
    ]


def _rotated(rows: Array, artifact: ArtifactRecord, fit: Fit) -> Told:
    boxes = np.concatenate([fit.centres(rows[:, :2]), fit.lengths(rows[:, 2:4]), rows[:, -1:]], axis=1)
    names = [f"{axis}{corner}" for corner in range(1, 5) for axis in "xy"]
    return [
        _named(int(row[5]), artifact.names) | {
            "confidence": float(row[4]), "box": dict(zip(names, places, strict=True)),
            "rotated": dict(zip(("x", "y", "width", "height", "angle"), box, strict=True)),
        }
        for row, box, places in zip(rows, boxes.tolist(), corners(boxes).reshape(-1, 8).tolist(), strict=True)
    ]  # fmt: skip


def _posed(rows: Array, artifact: ArtifactRecord, fit: Fit) -> Told:
    """Give the key points of each row: places in the picture, and how visible each is where the model tells."""
    number, width = points_of(artifact, rows.shape[1] - 6)
    points = rows[:, 6 : 6 + number * width].reshape(-1, number, width)
    places = fit.points(points[:, :, :2])
    told = [{"x": xs, "y": ys} for xs, ys in zip(places[:, :, 0].tolist(), places[:, :, 1].tolist(), strict=True)]
    if width < 3:
        return told
    return [each | {"visible": seen} for each, seen in zip(told, points[:, :, 2].tolist(), strict=True)]


def _polygons(rows: Array, prototypes: Prototypes, fit: Fit) -> Told:
    check_size(rows[:, :4].clip(0, max(fit.image)))
    sums = prototypes.sums(rows[:, 6:])
    outlines = [prototypes.polygon(each, box).round(2) for each, box in zip(sums, rows[:, :4], strict=True)]
    return [
        {"segments": {"x": outline[:, 0].tolist(), "y": outline[:, 1].tolist()}} if len(outline) else {}
        for outline in outlines
    ]


def _runs(rows: Array, prototypes: Prototypes, fit: Fit) -> Told:
    boxes = fit.boxes(rows[:, :4])
    check_size(boxes)
    counts = [prototypes.runs(each, box) for each, box in zip(prototypes.sums(rows[:, 6:]), boxes, strict=True)]
    return [{"mask": {"size": list(fit.picture), "counts": each}} if each else {} for each in counts]


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
