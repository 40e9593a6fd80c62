"""What merging a change means for one model: the change, what it leads to, how long that takes. Facts only."""

from __future__ import annotations

from dataclasses import dataclass

from reconcilers.estimate import Estimate
from reconcilers.forecast import Forecast
from specs.dataset_diff import DatasetDifference
from specs.modelspec import ModelKey


@dataclass(frozen=True)
class DataChange:
    """Another data set is named."""

    field: str
    """``train`` or ``golden``."""
    before: str
    after: str
    """Digests; empty where none is named."""
    difference: DatasetDifference | None = None
    """None where the store was not asked, or does not hold both."""


@dataclass(frozen=True)
class Consequence:
    """What merging means for one model."""

    key: ModelKey
    change: str
    """``added``, ``changed``, ``removed`` or ``unchanged``."""
    lines: tuple[str, ...]
    """The change of the file, as people would say it."""
    forecast: Forecast
    path: str = ""
    """The file, in the repository."""
    data: tuple[DataChange, ...] = ()
    training: Estimate | None = None
    """None where nothing is trained."""
