"""Models that serve on devices, and devices in all states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from specs.fleet import RANKS, DeviceModel, DeviceReport, HaltRecord, WaveRecord, Waves, rank
from tests.support.builders import NAME, NOW, Stage, moved_on, proposed, released, settled

EDGE = {"waves": [{"percent": 10, "soak": "1h"}, {"percent": 50, "soak": "1h"}, {"percent": 100}]}
NAMES = sorted((f"cam-{n:02}" for n in range(20)), key=lambda name: rank(NAME, name))
"""Devices in the order in which the model reaches them."""


def stamp(when: float) -> str:
    """Give Unix time as reports have it."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def on_devices(edge: dict[str, Any] | None = None, *, first: bool = False) -> Stage:
    """Give a model for devices whose v2 was just merged, after v1; ``first``: whose v1 was."""
    one = settled(serving={"export": "onnx", "edge": EDGE if edge is None else edge}).but(serving=None)
    if first:
        return one.but(devices=())
    two = moved_on(one, lambda data: data["training"]["args"].update(epochs=9))
    value = proposed(two.spec, two.world).value
    assert isinstance(value, dict)
    return replace(two, spec=released(two.spec, value)).but(devices=())


def report(name: str, stage: Stage, state: str, version: int = 2, since: float = NOW - 7200) -> DeviceReport:
    """Give what a device says: that it serves the release, or another, or failed to."""
    release = stage.spec.release
    assert release is not None
    pin = release if version == release.version else release.previous
    assert pin is not None
    bad = {"failed": release.exports["onnx"], "failure": "it does not load."} if state == "Failed" else {}
    answers = {"version": pin.version, "file": pin.exports["onnx"], "since": stamp(since)}
    said = DeviceModel.model_validate({"model": NAME, "state": state, **answers, **bad})
    return DeviceReport(device=name, models=[said], told=stamp(since))


def fleet(
    stage: Stage, *, serving: int = 0, failed: int = 0, since: float = NOW - 7200, count: int = len(NAMES)
) -> tuple[DeviceReport, ...]:
    """Give devices of which the first ones serve v2 since then, the next ones failed to, and the rest serves v1."""
    states = ["Serving"] * serving + ["Failed"] * failed
    states += ["Waiting"] * (count - len(states))
    versions = [2 if state == "Serving" else 1 for state in states]
    reports = (report(*each, since=since) for each in zip(NAMES, [stage] * count, states, versions, strict=False))
    return tuple(sorted(reports, key=lambda each: each.device))


def opened(stage: Stage, reach: Iterable[int], *, when: float = NOW - 7200) -> Waves:
    """Give waves that are open, each reaching so many of the devices; 20 are all there will ever be."""
    release = stage.spec.release
    assert release is not None
    records = [
        WaveRecord(
            model=NAME, version=release.version, file=release.exports["onnx"], wave=number, of=3, devices=count,
            below=RANKS if count == len(NAMES) else rank(NAME, NAMES[count - 1]) + 1, opened=stamp(when),
        )
        for number, count in enumerate(reach, start=1)
    ]  # fmt: skip
    return Waves(tuple(records))


def halted(stage: Stage) -> Waves:
    """Give the same after a halt in the first wave."""
    waves = opened(stage, [2])
    first = waves.opened[0]
    halt = HaltRecord(
        model=NAME, version=2, file=first.file, wave=1, failures={"cam-03": "it does not load."}, failed=1,
        halted=stamp(NOW),
    )  # fmt: skip
    return replace(waves, halt=halt)
