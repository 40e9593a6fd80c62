"""The table ``[device]`` of ``trunkline.toml``: who this machine is among the devices that serve models."""

from __future__ import annotations

import re
import socket

from pydantic import Field

from controller.setting_tables import Table
from specs.base import Name
from specs.fleet import Device


def _own_name() -> str:
    """Give this machine's name as a device may have it."""
    plain = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")[:63].strip("-")
    return plain or "device"


class DeviceSettings(Table):
    """What ``trunkline device`` needs to know about its machine."""

    name: Name = Field(default_factory=_own_name)
    """No other device may have the same one; by default the machine's own."""
    labels: dict[str, str] = Field(default_factory=dict)
    """By which models choose their devices."""
    interval: float = Field(default=60.0, gt=0)
    """Seconds between two looks at the repository, give or take a fifth, so that devices do not all come at once."""
    tell_again: float = Field(default=86_400.0, gt=0)
    """Seconds after which a device that has nothing new to tell says so."""

    @property
    def device(self) -> Device:
        """The device."""
        return Device(self.name, self.labels)
