"""How long a training may take, from those that were done before; honest where nothing is known. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from specs.modelspec import ModelKey, Spec
from specs.records import RunRecord

_OF_NO_MATTER = ("epochs", "seed", "lr0", "lrf", "momentum", "weight_decay")
"""Arguments that say nothing about the time that one epoch takes."""


@dataclass(frozen=True)
class Past:
    """One training that succeeded."""

    model: str
    """``namespace/name`` of the model that asked for it."""
    inputs: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """The median of earlier trainings. ``seconds`` is None where there are none."""

    seconds: float | None = None
    runs: int = 0
    alike: bool = False
    """Whether they had the same data, base model and arguments, but for those that cost no time."""

    @property
    def sentence(self) -> str:
        """Say it in a few words."""
        if self.seconds is None:
            return "unknown: no earlier run of this model, or of such inputs, is known"
        of = "such inputs" if self.alike else "this model, with other inputs"
        return f"about {duration(self.seconds)}, the median of {self.runs} earlier run{'s'[: self.runs != 1]} of {of}"


def past(record: RunRecord) -> Past | None:
    """Give what a record tells about time; None where it failed, or does not say."""
    if record.status != "Succeeded" or record.seconds <= 0:
        return None
    return Past(record.model, record.inputs, record.seconds)


def training_time(key: ModelKey, spec: Spec, known: Sequence[Past]) -> Estimate:
    """Estimate the training that a spec asks for: from runs of the same inputs but for epochs, else of this model.

    Where both numbers of epochs are known, the time grows with them.
    """
    wanted = spec.inputs()
    alike = [run for run in known if _kind(run.inputs) == _kind(wanted)]
    chosen = alike or [run for run in known if run.model == str(key)]
    if not chosen:
        return Estimate()
    seconds = median(run.seconds * _growth(run.inputs, wanted) for run in chosen)
    return Estimate(seconds, len(chosen), bool(alike))


def _kind(inputs: Mapping[str, Any]) -> dict[str, Any]:
    args = {name: value for name, value in inputs.get("args", {}).items() if name not in _OF_NO_MATTER}
    return {name: inputs.get(name) for name in ("task", "data", "model", "runtime")} | {"args": args}


def _growth(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    old, new = (inputs.get("args", {}).get("epochs") for inputs in (before, after))
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    return new / old if numbers and old > 0 and new > 0 else 1.0


def duration(seconds: float) -> str:
    """Show seconds as people say them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
