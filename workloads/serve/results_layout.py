"""The layouts in which exports give what they found, told from the shapes of their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs.records import ArtifactRecord
from workloads.serve.query import MOST
from workloads.serve.tensors import Array

BOX = 6
"""Numbers of a finished row before those of its task: four of the box, confidence, class."""


@dataclass(frozen=True)
class Layout:
    """Of the output that holds what was found, one of a batch."""

    finished: bool
    """Rows (rows, 6 + extra), one an object: box, confidence, class, extra. Else (4 + classes + extra, anchors), of all
    places where an object could be: centre, width and height, a score for each class, extra."""
    classes: int
    extra: int
    """Numbers that only this task has: mask coefficients, key points, or the angle."""
    rotated: bool = False
    """Boxes are centre, width and height in both layouts, and the last number is their angle."""

    @property
    def told(self) -> int:
        """Numbers of a row that say where an object is and how sure that is."""
        return BOX + self.extra if self.rotated else BOX


def found_in(outputs: Mapping[str, Array]) -> Array:
    """Give the output that holds what was found: scores (n, classes), or the one of three dimensions."""
    return next((output for output in outputs.values() if output.ndim == 3), next(iter(outputs.values())))


def prototypes_in(outputs: Mapping[str, Array]) -> Array | None:
    """Give the prototypes of masks (n, coefficients, height, width), None where there are none."""
    return next((output for output in outputs.values() if output.ndim == 4), None)


def layout_of(artifact: ArtifactRecord, outputs: Mapping[str, Array]) -> Layout | None:
    """Give the layout of a model that finds objects; None for outputs that are no such thing."""
    shape, classes = found_in(outputs).shape, len(artifact.names)
    if len(shape) != 3 or artifact.task == "classify":
        return None
    extra = _extra(artifact, outputs, shape)
    rotated = artifact.task == "obb"
    if extra is None:
        return None
    if shape[2] == BOX + extra:
        return Layout(finished=True, classes=classes, extra=extra, rotated=rotated)
    if shape[1] == 4 + classes + extra:
        return Layout(finished=False, classes=classes, extra=extra, rotated=rotated)
    return None


def _extra(artifact: ArtifactRecord, outputs: Mapping[str, Array], shape: tuple[int, ...]) -> int | None:
    """Give how many numbers follow those of the box; None where that cannot be."""
    if artifact.task == "segment":
        prototypes = prototypes_in(outputs)
        return None if prototypes is None else prototypes.shape[1]
    if artifact.task == "pose":
        if artifact.kpt_shape is not None:
            return artifact.kpt_shape[0] * artifact.kpt_shape[1]
        # Records of before have no shape of the key points: what is left must be they.
        left = shape[2] - BOX if shape[1] == MOST and shape[2] < MOST else shape[1] - 4 - len(artifact.names)
        return left if left > 0 else None
    return 1 if artifact.task == "obb" else 0


def points_of(artifact: ArtifactRecord, extra: int) -> tuple[int, int]:
    """Give how many key points there are, and of how many numbers each is: x, y, and mostly how visible."""
    if artifact.kpt_shape is not None:
        return artifact.kpt_shape
    return (extra // 3, 3) if extra % 3 == 0 else (extra // 2, 2)
