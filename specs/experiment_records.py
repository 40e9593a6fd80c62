"""What tuning and tracking leave in the store.

::

    tunings/<tuningDigest>/base.json            TuningBase: what the search began with; a resumed one keeps to it
    tunings/<tuningDigest>/asked/<n>.json       TrialAsked
    tunings/<tuningDigest>/begun/<n>-<k>.json   TrialBegun: the k-th beginning of a trial
    tunings/<tuningDigest>/trials/<n>.json      TrialRecord
    tunings/<tuningDigest>/tuning.json          TuningRecord
    tracks/<trackDigest>.json                   TrackRecord
"""

from __future__ import annotations

from typing import Any, Literal

from specs.base import Args
from specs.digests import Digest, hex_of
from specs.records import Environment, Epoch, Record


class TuningBase(Record):
    """What the search began with. Whatever changes meanwhile, its trials stay comparable."""

    tuning_digest: Digest
    inputs: dict[str, Any]
    dataset: Digest
    model: str = ""
    """``namespace/name`` of the ModelSpec that asked."""
    commit: str = ""
    started: float = 0
    """Unix seconds; the deadline counts from here."""


class TrialAsked(Record):
    """A trial that was begun: written before it starts, so that a killed one is tried again as it was."""

    number: int
    """From 0, which has the arguments as they are."""
    args: Args


class TrialBegun(Record):
    """A trial started. One that starts again and again and never ends counts as failed."""

    number: int
    beginning: int
    """From 1."""


class TrialRecord(Record):
    """A trial that is over."""

    number: int
    args: Args
    """The values of the parameters that are searched."""
    status: Literal["Succeeded", "Pruned", "Failed"]
    value: float | None = None
    """The objective; for pruned ones the last one seen."""
    message: str = ""
    epochs: list[Epoch] = []
    seconds: float = 0


class TuningRecord(Record):
    """The answer of a search, or why there is none."""

    tuning_digest: Digest
    status: Literal["Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    inputs: dict[str, Any]
    """What the search began with, as in its TuningBase; likewise ``dataset``."""
    dataset: Digest | None = None
    metric: str
    best: TrialRecord | None = None
    trials: list[TrialRecord] = []
    """All of them, by number; their epochs are in their own records."""
    stopped_by: str = ""
    """``TrialCount``, ``Goal``, ``Deadline``, ``FailedTrials``, or ``Exhausted`` where every value was tried."""
    files: dict[str, Digest] = {}
    """``history.png``, ``parameters.png``."""
    environment: Environment | None = None
    finished: str = ""


    @property
    def baseline(self) -> TrialRecord | None:
        """The trial of the arguments as they were when the search began."""
        return next((trial for trial in self.trials if trial.number == 0), None)


class TrackRecord(Record):
    """A run was mirrored, whole."""

    track_digest: Digest
    inputs_digest: Digest
    tracking_uri: str
    experiment: str
    run_id: str
    """Of the tracking server."""
    url: str = ""
    finished: str = ""


def tuning_key(tuning_digest: str) -> str:
    """Key of a TuningRecord."""
    return f"tunings/{hex_of(tuning_digest)}/tuning.json"


def tuning_base_key(tuning_digest: str) -> str:
    """Key of a TuningBase."""
    return f"tunings/{hex_of(tuning_digest)}/base.json"


def asked_key(tuning_digest: str, number: int) -> str:
    """Key of a TrialAsked."""
    return f"tunings/{hex_of(tuning_digest)}/asked/{number}.json"


def begun_key(tuning_digest: str, number: int, beginning: int) -> str:
    """Key of a TrialBegun."""
    return f"tunings/{hex_of(tuning_digest)}/begun/{number}-{beginning}.json"


def trial_key(tuning_digest: str, number: int) -> str:
    """Key of a TrialRecord."""
    return f"tunings/{hex_of(tuning_digest)}/trials/{number}.json"


def track_key(track_digest: str) -> str:
    """Key of a TrackRecord."""
    return f"tracks/{hex_of(track_digest)}.json"
