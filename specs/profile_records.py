"""What a released file does on the golden set, counted as a server counts live traffic: the reference of all signals.

::

    profiles/<file>-<golden>.json            ProfileRecord
"""

from __future__ import annotations

from typing import Literal

from specs.digests import Digest, hex_of
from specs.modelspec import Task
from specs.records import Environment, Record
from specs.traffic import Traffic


class ProfileRecord(Record):
    """Counts of a file on golden, and how often it was right at each confidence; or why that can never be had."""

    file: Digest
    golden: Digest
    task: Task
    status: Literal["Succeeded", "Failed"] = "Succeeded"
    reason: str = ""
    message: str = ""
    n: int = 0
    """Pictures."""
    names: list[str] = []
    pictures: dict[str, list[int]] = {}
    """As ``Traffic.pictures``."""
    classes: dict[str, list[int]] = {}
    """As ``Traffic.classes``."""
    right: dict[str, list[int]] = {}
    """Of these, the right ones, by predicted class and bin: the true class, for detections at an overlap of 0.5."""
    environment: Environment | None = None

    @property
    def traffic(self) -> Traffic:
        """Give the counts in the form that live ones have; start and end are 0."""
        return Traffic(
            0.0, 0.0, {name: tuple(map(float, counts)) for name, counts in self.pictures.items()},
            {name: tuple(map(float, counts)) for name, counts in self.classes.items()},
        )  # fmt: skip


def profile_key(file: str, golden: str) -> str:
    """Key of a ProfileRecord."""
    return f"profiles/{hex_of(file)}-{hex_of(golden)}.json"
