"""One frozen snapshot of the world, for one ModelSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconcilers.limits import Crowd
from specs.data import Source
from specs.data_records import DifferenceRecord, ImportRecord, ValidationRecord
from specs.experiment_records import TrackRecord, TuningRecord
from specs.facts import JobState, ProposalState, SourcedSpec
from specs.fleet import DeviceReport, Waves
from specs.profile_records import ProfileRecord
from specs.records import (
    ArtifactRecord,
    ComparisonRecord,
    DatasetManifest,
    EvaluationRecord,
    ExportRecord,
    Progress,
    RunRecord,
)
from specs.registry_facts import Registered
from specs.serving_facts import ServingState
from specs.status import Condition, Reason, SignalStatus
from specs.traffic import Watched

FOLLOWED = "spec.triggers.onData"
"""Under this name stands why nobody knows the newest version."""
SCHEDULE = "spec.triggers.schedule"
"""Under this name stands why nobody knows when that is due."""


@dataclass(frozen=True)
class DatasetFact:
    """A data set as the store knows it: there, or not there with a reason and a sentence."""

    digest: str
    """Of the manifest; where that is not known yet, the one that git names."""
    manifest: DatasetManifest | None = None
    reason: str = ""
    message: str = ""
    imported: ImportRecord | None = None
    """How it came into the store, where its source is elsewhere."""


@dataclass(frozen=True)
class SourceTrouble:
    """Why nobody knows what a source stands for now."""

    reason: Reason
    message: str
    passing: bool
    """Whether it may go away by itself."""


class Judgement(StrEnum):
    """What one window says about one signal. No data is no bad news."""

    PASSING = "Passing"
    FAILING = "Failing"
    """Out of bounds beyond doubt: the whole interval is."""
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal in one window."""

    start: float
    """Of the window, Unix time, seconds."""
    judgement: Judgement
    n: int
    """Pictures, predictions or requests that it is about."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """Interval of ``value`` at the stated level."""
    message: str = ""
    """Why it is inconclusive."""


@dataclass(frozen=True)
class NewerData:
    """A version of the training data that is newer than the one that git names."""

    source: Source
    """As it would be pinned."""
    fact: DatasetFact
    shared_pictures: tuple[str, ...] = ()
    """Golden pictures that are in it as well."""
    difference: DifferenceRecord | None = None
    validation: ValidationRecord | None = None
    """Of it and the golden set."""


@dataclass(frozen=True)
class Observed:
    """Everything a plan may know. Records are looked up by what they are about, never by name or time."""

    source: SourcedSpec
    verified: bool = True
    """Whether the spec is in the tracked branch's history."""
    train: DatasetFact | None = None
    golden: DatasetFact | None = None
    shared_pictures: tuple[str, ...] = ()
    """Golden pictures that are in the training data as well, by path in golden. Counted once, not in every plan."""
    calibration: DatasetFact | None = None
    """Pictures for INT8, where the spec names any."""
    shared_with_calibration: tuple[str, ...] = ()
    """Golden pictures that are among them as well."""
    resolved: Mapping[str, Source] = field(default_factory=dict)
    """Field (``spec.data.train``) to what its bare reference stands for now."""
    newer: NewerData | None = None
    """None where the pinned version is the newest, or nobody asks."""
    troubles: Mapping[str, SourceTrouble] = field(default_factory=dict)
    """Field to why what it names could not be found out: of a bare reference, or ``spec.triggers.onData``."""
    validation: ValidationRecord | None = None
    """Of training data and golden set."""
    calibration_validation: ValidationRecord | None = None
    """Of the pictures for INT8 and golden set."""
    tuning: TuningRecord | None = None
    tracked: Mapping[str, TrackRecord] = field(default_factory=dict)
    """By inputsDigest: mirrors of runs, where ``spec.tracking`` says now."""
    registered: Registered | None = None
    """The release in the registry there; None where nobody knows (yet)."""
    asks_registry: bool = False
    """Whether anybody asks."""
    progress: Mapping[str, Progress] = field(default_factory=dict)
    """By the name of a job that runs."""
    runs: Mapping[str, RunRecord] = field(default_factory=dict)
    """By inputsDigest."""
    evaluations: Mapping[tuple[str, str], EvaluationRecord] = field(default_factory=dict)
    """By (subject, golden)."""
    comparisons: Mapping[tuple[str, str, str], ComparisonRecord] = field(default_factory=dict)
    """By (subject, baseline, golden)."""
    exports: Mapping[tuple[str, str], ExportRecord] = field(default_factory=dict)
    """By (weights, exportDigest)."""
    artifacts: Mapping[str, ArtifactRecord] = field(default_factory=dict)
    """By file digest."""
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    """By job name."""
    serving: ServingState | None = None
    profile: ProfileRecord | None = None
    """Of the released export on golden."""
    profile_before: ProfileRecord | None = None
    """Likewise, of the release before."""
    watched: Watched | None = None
    """Live traffic of what serves; None where nobody looks, or nothing is known yet."""
    watches: bool = False
    """Whether anybody looks."""
    readings: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)
    """Signal to its value in each window that is known, oldest first. Computed once a window, not in every plan."""
    signals: tuple[SignalStatus, ...] = ()
    """How each signal stands, in the order of the spec: what ``episodes`` makes of the readings."""
    signals_before: tuple[SignalStatus, ...] = ()
    """What the last status said: a cache, by which a long episode keeps its name."""
    live_gate_before: Condition | None = None
    """Likewise: what it said about the live gate, whose message names the release that it is about: ``v7 passed …``."""
    schedule_due: float | None = None
    """When ``spec.triggers.schedule`` was due last, Unix time; None where there is none."""
    devices: tuple[DeviceReport, ...] | None = None
    """Those that serve this model or shall, by name; None where nobody looks after devices."""
    waves: Waves = field(default_factory=Waves)
    """How far the release has come on them."""
    proposals: tuple[ProposalState, ...] = ()
    """Ours, for this model, in all states, oldest first."""
    branches: Mapping[str, str] = field(default_factory=dict)
    """Our branches for this model: name to head commit."""
    leftovers: Mapping[str, str] = field(default_factory=dict)
    """Those of them that no open pull request needs and nobody else committed to."""
    crowd: Crowd = field(default_factory=Crowd)
    """The proposals of all models of the repository."""

    def fact(self, field: str) -> DatasetFact | None:
        """Give what is known of the data set that a field (``spec.data.golden``) names."""
        known = {"train": self.train, "golden": self.golden, "calibration": self.calibration}
        return known[field.rpartition(".")[2]]
