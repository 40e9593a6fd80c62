"""Devices that pull: what they tell of themselves, and the records by which a rollout reaches them wave by wave.

::

    fleet/devices/<device>.json                         DeviceReport; overwritten, when something is new to tell
    fleet/waves/<model>/v<version>-<file>/<wave>.json   WaveRecord; written once
    fleet/waves/<model>/v<version>-<file>/halt.json     HaltRecord; written once

``<model>`` is its name at the server. Every device finds out for itself whether a wave is its own: whoever opens one
names no devices, only how far down the order of all of them it reaches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from specs.base import Name
from specs.digests import Digest, hex_of
from specs.records import Record

DEVICES = "fleet/devices/"
RANKS = 2**32
"""Ranks of devices are below this; so is every device."""


Word = Literal["Serving", "Waiting", "Loading", "Failed"]


class DeviceModel(Record):
    """One model on one device."""

    model: str
    """Its name at the server."""
    state: Word
    """``Waiting``: for a wave; what it had before serves on. ``Failed``: it could not serve what it should."""
    version: int | None = None
    file: Digest | None = None
    """What answers; None where nothing does."""
    since: str = ""
    """Since when, ISO 8601, by the device's clock."""
    failed: Digest | None = None
    """What it could not serve."""
    failure: str = ""
    """Why, one sentence."""


class DeviceReport(Record):
    """What a device says about itself. It is told again only when it changes, and once in a long while."""

    device: Name
    labels: dict[str, str] = {}
    commit: str = ""
    """The newest one that it has seen of the tracked branch."""
    models: list[DeviceModel] = []
    told: str = ""
    """When, ISO 8601, by the device's clock."""

    def of(self, model: str) -> DeviceModel | None:
        """Give what it says about a model."""
        return next((each for each in self.models if each.model == model), None)


class WaveRecord(Record):
    """A wave is open: the devices that it reaches may serve the release."""

    model: str
    version: int
    file: Digest
    wave: Annotated[int, Field(ge=1)]
    of: Annotated[int, Field(ge=1)]
    """How many waves there were to be when this one was opened."""
    below: Annotated[int, Field(ge=0, le=RANKS)]
    """It reaches every device whose rank is below this."""
    devices: int
    """So many of those that were known then, those of earlier waves included."""
    opened: str
    """ISO 8601, by the clock of whoever opened it."""


class HaltRecord(Record):
    """No wave of this release will be opened any more."""

    model: str
    version: int
    file: Digest
    wave: int
    """The last one that was open."""
    failures: dict[str, str]
    """Device to why it failed; at most ``TOLD`` of them."""
    failed: int
    """How many failed in all."""
    halted: str


TOLD = 10


@dataclass(frozen=True)
class Waves:
    """How far the rollout of one release has come."""

    opened: tuple[WaveRecord, ...] = ()
    """In order, without gaps."""
    halt: HaltRecord | None = None

    @property
    def below(self) -> int:
        """Ranks below this are reached."""
        return max((wave.below for wave in self.opened), default=0)

    @property
    def complete(self) -> bool:
        """Whether every device is reached, those that are yet to come included."""
        return self.below >= RANKS


@dataclass(frozen=True)
class Device:
    """A device as it knows itself."""

    name: str
    labels: Mapping[str, str]

    def has(self, labels: Mapping[str, str] | None) -> bool:
        """Whether it has all of these labels."""
        return has_labels(self.labels, labels)


def has_labels(found: Mapping[str, str], wanted: Mapping[str, str] | None) -> bool:
    """Whether all wanted labels are among those found."""
    return all(found.get(name) == value for name, value in (wanted or {}).items())


def rank(model: str, device: str) -> int:
    """Give a device's place in the order in which a model reaches devices: below ``RANKS``, and of no meaning.

    Each model has an order of its own, so that the same devices are not always the first.
    """
    return int.from_bytes(hashlib.sha256(f"{model}/{device}".encode()).digest()[:4])


def device_key(device: str) -> str:
    """Key of a DeviceReport."""
    return f"{DEVICES}{device}.json"


def wave_key(model: str, version: int, file: str, wave: int) -> str:
    """Key of a WaveRecord."""
    return f"{_waves(model, version, file)}/{wave}.json"


def halt_key(model: str, version: int, file: str) -> str:
    """Key of a HaltRecord."""
    return f"{_waves(model, version, file)}/halt.json"


def _waves(model: str, version: int, file: str) -> str:
    return f"fleet/waves/{model}/v{version}-{hex_of(file)[:16]}"
