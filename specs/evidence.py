"""Evidence as it lies in the repository, read back: the argument for a release, checked for its form only.

``reconcilers.evidence`` writes it. Fields that a later version added are ignored; what is here must be as it says.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from specs.data_records import ImportRecord, ValidationRecord
from specs.digests import Digest
from specs.records import ComparisonRecord, EvaluationRecord, ExportRecord, Record, RunRecord


class Content(Record):
    """What is released."""

    run: Digest
    weights: Digest
    exports: dict[str, Digest]


class Source(Record):
    """The commit whose spec asked for it."""

    repository: str = ""
    path: str = ""
    commit: str


class Dataset(Record):
    """A data set in numbers."""

    digest: Digest
    """Of its manifest."""
    images: int = 0
    names: list[str] = []
    class_counts: dict[str, int] = Field(default={}, alias="classCounts")
    files: int = 0
    source: dict[str, Any] | None = None
    """What the spec named, where that lies outside the store."""
    imported: ImportRecord | None = None
    """How it came into the store then."""

    @property
    def pinned(self) -> str:
        """The digest by which git names it."""
        named = next(iter((self.source or {}).values()), None)
        return str(named.get("digest", "")) if isinstance(named, dict) else self.digest


class Data(Record):
    """What was trained on, and what was measured on."""

    train: Dataset | None = None
    golden: Dataset | None = None
    calibration: Dataset | None = None
    """Pictures for INT8, where the spec named any."""
    validation: ValidationRecord | None = None
    """What looking at both of them found, where that was done."""


class Champion(Record):
    """What the candidate was compared with."""

    weights: Digest | None = None
    version: int | None = None
    evaluation: EvaluationRecord | None = None
    comparison: ComparisonRecord | None = None


class ExportEvidence(Record):
    """One export of the release."""

    name: str
    record: ExportRecord | None = None
    evaluation: EvaluationRecord | None = None
    comparison: ComparisonRecord | None = None


class GateEvidence(Record):
    """How a gate was judged then. ``gate`` is the gate as the spec had it."""

    gate: dict[str, Any]
    passed: bool
    value: float | None = None
    bound: float
    text: str


class Evidence(Record):
    """The whole argument."""

    schema_: Literal["trunkline.dev/evidence/v1"] = Field(alias="schema")
    model: str
    """``namespace/name``."""
    version: int
    release: Content
    inputs: dict[str, Any]
    source: Source
    data: Data
    run: RunRecord | None = None
    evaluation: EvaluationRecord | None = None
    champion: Champion
    exports: list[ExportEvidence]
    gates: list[GateEvidence]
