"""Engines that fit one machine only: what that depends on, whether a device has it, and the words for saying so."""

from __future__ import annotations

import re
from collections.abc import Mapping

MACHINE_BOUND = ("engine",)
"""Formats whose files work only where they were made, and on machines that are alike."""
MISMATCH = "EngineMismatch"
"""Reason of a server that cannot load an engine because it was made for another kind of device."""
DECIDING = ("computeCapability", "gpu", "tensorrt")
"""Facts that must be the same; ``cuda`` and ``driver`` are told for people."""
_HERE = "; this device has "
_FACT = re.compile(r"([A-Za-z]+)=([^,;=]+)(?:, |$)")


def binding(facts: Mapping[str, str]) -> dict[str, str]:
    """Give the facts that decide whether an engine works, as far as they are known."""
    return {name: facts[name] for name in DECIDING if facts.get(name)}


def fits(built: Mapping[str, str], device: Mapping[str, str]) -> bool:
    """Whether an engine made where ``built`` was so works on a device; what only one of them knows is no difference."""
    return all(built[name] == device[name] for name in DECIDING if built.get(name) and device.get(name))


def refusal(built: Mapping[str, str], device: Mapping[str, str]) -> str:
    """Say why a device cannot load an engine. Whoever reads it gets the device's facts back with ``refused_by``."""
    return f"{MISMATCH}: the engine was made for {_told(built)}{_HERE}{_told(device)}"


def refused_by(failure: str) -> dict[str, str]:
    """Give the facts of the device that refused an engine with these words; empty where they say something else."""
    before, here, after = failure.partition(_HERE)
    return dict(_FACT.findall(after.rstrip(" ."))) if here and MISMATCH in before else {}


def _told(facts: Mapping[str, str]) -> str:
    told = [f"{name}={re.sub('[,;=]', ' ', value)}" for name, value in sorted(facts.items()) if value]
    return ", ".join(told) or "nobody knows what"
