"""What a client wants to be told about a picture: the query of a plain upload."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from workloads.serve.answers import Refusal

CONFIDENCE = 0.25
"""The least of a detection, where nobody asks for another one; what is counted never depends on what is asked for."""
OVERLAP = 0.7
"""Of two boxes of a class that overlap more (intersection over union), the less confident one is dropped."""
MOST = 300
"""Detections in one picture."""

Masks = Literal["polygon", "rle", "none"]


@dataclass(frozen=True)
class Query:
    """How sure, how many, and in which form."""

    confidence: float = CONFIDENCE
    """The least of a detection, 0 to 1."""
    overlap: float = OVERLAP
    """Of two of a class that overlap more one is dropped; of no effect where the model itself does that."""
    most: int = MOST
    """Detections, the most confident ones."""
    masks: Masks | None = None
    """How masks are told, None for as the task has it: polygons where there are masks."""

    @property
    def counted(self) -> bool:
        """Whether no more is asked for than is looked at anyway, for what is counted."""
        return self.confidence >= CONFIDENCE and self.overlap == OVERLAP and self.most <= MOST


def query_of(given: Mapping[str, str], task: str | None = None) -> Query:
    """Read ``conf``, ``iou``, ``max_det`` and ``masks``, each in Ultralytics' meaning.

    Refusal 400 for other names, values out of range, and where ``task`` is known, masks of a task that has none.
    """
    unknown = sorted(given.keys() - _READ.keys())
    if unknown:
        raise Refusal(400, f"there is no option {unknown[0][:40]!r}; options are {', '.join(_READ)}")
    query = Query(**dict(_READ[name](name, text) for name, text in given.items()))
    if query.masks is not None and task not in (None, "segment"):
        raise Refusal(400, f"masks={query.masks}: only segment models find masks, and this one is for {task}")
    return query


def _share(field: str) -> Callable[[str, str], tuple[str, Any]]:
    def read(name: str, text: str) -> tuple[str, Any]:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise Refusal(400, f"{name}={text[:20]!r} is not a number from 0 to 1")
        return field, value

    return read


def _count(name: str, text: str) -> tuple[str, Any]:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST):
        raise Refusal(400, f"{name}={text[:20]!r} is not a whole number from 1 to {MOST}")
    return "most", int(text)


def _form(name: str, text: str) -> tuple[str, Any]:
    if text not in get_args(Masks):
        raise Refusal(400, f"{name}={text[:20]!r} is none of {', '.join(get_args(Masks))}")
    return "masks", text


_READ: dict[str, Callable[[str, str], tuple[str, Any]]] = {
    "conf": _share("confidence"), "iou": _share("overlap"), "max_det": _count, "masks": _form,
}  # fmt: skip
"""Name of an option to what reads it."""
