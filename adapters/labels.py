"""Label files in the format that YOLO reads: one object a line, values between 0 and 1."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from specs.modelspec import Task

SLACK = 0.01
"""Annotation tools round; the trainer accepts values that leave the picture by this much."""


@dataclass(frozen=True)
class LabelFormat:
    """What a line of a task's labels must look like."""

    task: Task
    names: Sequence[str]
    keypoints: Sequence[int] | None = None
    """Only for pose: number of keypoints and values of each."""

    def read(self, path: str, data: bytes) -> tuple[Counter[str], list[str]]:
        """Count the objects of each class; give everything wrong as ``path:line: what``."""
        counts: Counter[str] = Counter()
        problems: list[str] = []
        try:
            lines = _lines(data)
        except UnicodeDecodeError:
            return counts, [f"{path}: is not text; labels are lines of numbers"]
        for number, words in lines:
            problem = self._problem(words)
            if problem:
                problems.append(f"{path}:{number}: {problem}")
            else:
                counts[self.names[int(float(words[0]))]] += 1
        return counts, problems

    def objects(self, data: bytes) -> list[tuple[int, list[float]]]:
        """Give class number and values of each object; what is wrong is left out."""
        try:
            lines = _lines(data)
        except UnicodeDecodeError:
            return []
        good = (words for _, words in lines if not self._problem(words))
        return [(int(float(words[0])), [float(word) for word in words[1:]]) for words in good]

    def _problem(self, words: Sequence[str]) -> str:
        try:
            values = [float(word) for word in words]
        except ValueError:
            return f"expected numbers only, found {' '.join(words)[:60]!r}"
        if not all(math.isfinite(value) for value in values):
            return "values must be finite numbers"
        if not values[0].is_integer() or not 0 <= values[0] < len(self.names):
            return f"class {words[0]} does not exist; {len(self.names)} classes are numbered 0 to {len(self.names) - 1}"
        wrong_count = self._wrong_count(len(values))
        if wrong_count:
            return wrong_count
        for value in self._coordinates(values[1:]):
            if not -SLACK <= value <= 1 + SLACK:
                return f"{value:g} is not between 0 and 1; coordinates are fractions of the picture's width and height"
        return self._shapeless(values[1:])

    def _shapeless(self, values: Sequence[float]) -> str:
        """Say what keeps values that are fractions of the picture from being an object in it."""
        if self.task in ("detect", "pose") and min(values[2:4]) <= 0:
            return "width and height must be greater than 0"
        if self.task in ("segment", "obb") and 0 in (_extent(values[::2]), _extent(values[1::2])):
            return "its points enclose nothing: all have the same x, or the same y"
        if self.task == "pose" and self.keypoints is not None and self.keypoints[1] == 3:
            wrong = [value for value in values[6::3] if value not in (0, 1, 2)]
            if wrong:
                return f"visibility {wrong[0]:g} of a keypoint must be 0 (not labelled), 1 (hidden) or 2 (visible)"
        return ""

    def _wrong_count(self, columns: int) -> str:
        match self.task:
            case "segment":
                wrong = columns < 7 or columns % 2 == 0
                want = "class and at least 3 points (x y)"
            case "obb":
                wrong, want = columns != 9, "9 values: class and 4 corners (x y)"
            case "pose":
                points, each = self.keypoints or (0, 3)
                wrong = columns != 5 + points * each
                want = f"{5 + points * each} values: class, box (x y width height) and {points} keypoints of {each}"
            case _:
                wrong, want = columns != 5, "5 values: class, x, y, width, height"
        return f"expected {want}, found {columns} values" if wrong else ""

    def _coordinates(self, values: Sequence[float]) -> list[float]:
        """Give the values that are coordinates: all but the visibility of keypoints."""
        if self.task != "pose" or self.keypoints is None or self.keypoints[1] == 2:
            return list(values)
        return [value for index, value in enumerate(values) if index < 4 or (index - 4) % 3 != 2]


def _lines(data: bytes) -> list[tuple[int, list[str]]]:
    """Give (number, words) of each line that is not empty; UnicodeDecodeError where it is no text."""
    lines = enumerate(data.decode("utf-8-sig").splitlines(), start=1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def _extent(values: Sequence[float]) -> float:
    return max(values) - min(values)
