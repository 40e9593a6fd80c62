"""What tuning and tracking leave in the store.

::

    tunings/<tuningDigest>/base.json            TuningBase: what the search began with; a resumed one keeps to it
    tunings/<tuningDigest>/asked/<n>.json       TrialAsked
    tunings/<tuningDigest>/trials/<n>.json      TrialRecord
    tunings/<tuningDigest>/tuning.json          TuningRecord
    tracks/<trackDigest>.json                   TrackRecord
"""

from __future__ import annotations

from typing import Any, Literal

from specs.base import Args
from specs.digests import Digest, hex_of
from specs.records import Epoch, Record


class TuningBase(Record):
    """What the search began with. Whatever changes meanwhile, its trials stay comparable."""

    tuning_digest: Digest
    inputs: dict[str, Any]
    dataset: Digest


class TrialAsked(Record):
    """A trial that was begun: written before it starts, so that a killed one is tried again as it was."""

    number: int
    args: Args


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
    metric: str
    best: TrialRecord | None = None
    trials: list[TrialRecord] = []
    stopped_by: str = ""
    """``TrialCount``, ``Goal``, ``Deadline`` or ``FailedTrials``."""
    files: dict[str, Digest] = {}
    """``history.png`` …"""
    finished: str = ""


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


def trial_key(tuning_digest: str, number: int) -> str:
    """Key of a TrialRecord."""
    return f"tunings/{hex_of(tuning_digest)}/trials/{number}.json"


def track_key(track_digest: str) -> str:
    """Key of a TrackRecord."""
    return f"tracks/{hex_of(track_digest)}.json"
