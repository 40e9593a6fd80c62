"""Rolling a release out to devices, wave by wave, and halting where too many of them fail. Pure.

Nobody tells a device what to do: a wave that is open lets it serve what git says. So whoever opens waves may be down
for as long as it likes, and devices too; what is open stays open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reconcilers.actions import HaltWaves, OpenWave
from reconcilers.context import Context, Step, Verdict
from reconcilers.live_gate import duration, undoes
from reconcilers.targets import release_fault
from specs.base import seconds
from specs.fleet import RANKS, TOLD, DeviceModel, DeviceReport, HaltRecord, WaveRecord, has_labels, rank
from specs.moments import iso, unix
from specs.names import serving_name
from specs.release import Release
from specs.serving import Edge, Wave
from specs.status import ConditionType as Type
from specs.status import Reason

MAX_SILENT = 10
"""Per cent of a wave's devices that hold nobody up, where ``edge.maxSilent`` does not say."""
LOOK = 60.0
"""Seconds after which devices are looked at again although nothing is to be done: no watch tells of their news."""


@dataclass(frozen=True)
class Tally:
    """How the devices that a release has reached stand."""

    serving: tuple[DeviceModel, ...]
    failed: tuple[tuple[str, str], ...]
    """Device and why, by name."""
    silent: tuple[str, ...]
    """Devices that have not said that they serve it, nor that they cannot."""

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.serving) + len(self.failed) + len(self.silent)


def members(devices: Sequence[DeviceReport], edge: Edge) -> tuple[DeviceReport, ...]:
    """Give the devices that serve a model by its labels."""
    return tuple(each for each in devices if has_labels(each.labels, edge.devices))


def reached(devices: Sequence[DeviceReport], model: str, below: int) -> tuple[DeviceReport, ...]:
    """Give the devices that waves reach up to a rank."""
    return tuple(each for each in devices if rank(model, each.device) < below)


def tally(devices: Sequence[DeviceReport], model: str, version: int, file: str) -> Tally:
    """Say how these devices stand to a release."""
    serving, failed, silent = [], [], []
    for device in devices:
        told = device.of(model)
        if told is not None and told.state == "Serving" and (told.version, told.file) == (version, file):
            serving.append(told)
        elif told is not None and told.state == "Failed" and told.failed == file:
            failed.append((device.device, told.failure))
        else:
            silent.append(device.device)
    return Tally(tuple(serving), tuple(failed), tuple(silent))


def plan_fleet(ctx: Context) -> Step | None:
    """Open the next wave where the ones before it have soaked; None where the model is not for devices.

    A release that takes a bad one back reaches every device at once.
    """
    serving, release = ctx.spec.serving, ctx.spec.release
    if serving is None or serving.edge is None or release is None or release_fault(ctx, release, serving) is not None:
        return None
    if ctx.observed.devices is None:
        return Step(Type.FLEET, Verdict.REST, Reason.NO_DEVICES, "nobody looks after devices here")
    devices = members(ctx.observed.devices, serving.edge)
    if not devices:
        wanted = ", ".join(f"{name}={value}" for name, value in sorted((serving.edge.devices or {}).items()))
        text = f"no device{f' with {wanted}' if wanted else ''} has told of itself yet"
        return Step(Type.FLEET, Verdict.REST, Reason.NO_DEVICES, text, after=LOOK)
    return _Rollout(ctx, serving.edge, release, release.exports[serving.export], devices).step()


@dataclass(frozen=True)
class _Rollout:
    """One release on its way to devices."""

    ctx: Context
    edge: Edge
    release: Release
    file: str
    devices: tuple[DeviceReport, ...]

    @property
    def model(self) -> str:
        return serving_name(*self.ctx.key)

    @property
    def title(self) -> str:
        return f"v{self.release.version}"

    def step(self) -> Step:
        waves = self.ctx.observed.waves
        if undoes(self.release):
            return self._ended(tally(self.devices, self.model, self.release.version, self.file))
        there = tally(
            reached(self.devices, self.model, waves.below), self.model, self.release.version, self.file
        )  # fmt: skip
        if waves.halt is not None:
            return self._halted(waves.halt)
        if not waves.opened:
            return self._open(1, "no device may serve it yet")
        if len(there.failed) > (self.edge.max_failures or 0):
            return self._halt(there, waves.opened[-1].wave)
        return self._goes_on(there, waves.opened[-1])

    def _goes_on(self, there: Tally, last: WaveRecord) -> Step:
        share = MAX_SILENT if self.edge.max_silent is None else self.edge.max_silent
        name = self._name(last.wave)
        if len(there.silent) * 100 > there.total * share:
            done = 10 * math.floor(10 * len(there.serving) / there.total)  # in tenths: a status is no ticker
            some = f"{done} % of its devices serve {self.title}"
            names = f"; {', '.join(there.silent[:3])} {'do' if len(there.silent) > 1 else 'does'} not yet"
            few = names if len(there.silent) <= 3 else ""
            return Step(Type.FLEET, Verdict.WAIT, Reason.WAVE_OPEN, f"{name} is open: {some}{few}")
        if last.below >= RANKS:
            return self._ended(there)
        soak = self._wave(last.wave).soak
        end = max((unix(each.since) for each in there.serving), default=0.0)
        end = max(end, unix(last.opened)) + (seconds(soak) if soak else 0.0)
        if self.ctx.now < end:
            text = f"{name} serves {self.title}, and soaks for {duration(seconds(soak or '1s'))}"
            return Step(Type.FLEET, Verdict.WAIT, Reason.WAVE_SOAKING, text, after=end - self.ctx.now)
        return self._open(last.wave + 1, f"{name} has soaked")

    def _open(self, number: int, why: str) -> Step:
        """Open a wave. With fewer waves in git than were open already, what is left is the last one."""
        number = min(number, max(len(self.edge.waves), len(self.ctx.observed.waves.opened) + 1))
        count, below = self._reach(number)
        record = WaveRecord(
            model=self.model, version=self.release.version, file=self.file, wave=number, of=len(self.edge.waves),
            below=below, devices=count, opened=iso(self.ctx.now),
        )  # fmt: skip
        text = f"{self._name(number)} is being opened: {why}"
        return Step(Type.FLEET, Verdict.WAIT, Reason.WAVE_OPEN, text, (OpenWave(record),))

    def _reach(self, number: int) -> tuple[int, int]:
        """Give how many of the known devices a wave reaches, and the rank that ends it."""
        percent = self._wave(number).percent
        if percent == 100:
            return len(self.devices), RANKS
        ranks = sorted(rank(self.model, each.device) for each in self.devices)
        count = math.ceil(len(ranks) * percent / 100)
        below = max(ranks[count - 1] + 1, self.ctx.observed.waves.below)
        return sum(each < below for each in ranks), below

    def _wave(self, number: int) -> Wave:
        return self.edge.waves[min(number, len(self.edge.waves)) - 1]

    def _name(self, number: int) -> str:
        percent = self._wave(number).percent
        return f"wave {number} of {max(number, len(self.edge.waves))} ({percent} %)"

    def _halt(self, there: Tally, wave: int) -> Step:
        told = dict(there.failed[:TOLD])
        record = HaltRecord(
            model=self.model, version=self.release.version, file=self.file, wave=wave, failures=told,
            failed=len(there.failed), halted=iso(self.ctx.now),
        )  # fmt: skip
        return Step(Type.FLEET, Verdict.STOP, Reason.FLEET_HALTED, halted(record), (HaltWaves(record),))

    def _halted(self, halt: HaltRecord) -> Step:
        return Step(Type.FLEET, Verdict.STOP, Reason.FLEET_HALTED, halted(halt))

    def _ended(self, there: Tally) -> Step:
        silent = f"; {len(there.silent)} more have not told yet" if there.silent else ""
        failed = f"; {there.failed[0][0]} cannot: {there.failed[0][1]}" if there.failed else ""
        text = f"{self.title} serves on {len(there.serving)} of {there.total} devices{silent}{failed}"
        return Step(Type.FLEET, Verdict.DONE, Reason.FLEET_SERVING, text, after=LOOK)


def halted(record: HaltRecord) -> str:
    """Say why a rollout was halted, in one sentence without a full stop."""
    device, why = next(iter(sorted(record.failures.items())), ("", "no reason was told"))
    count = f"{record.failed} device{'s' if record.failed != 1 else ''} failed"
    first = f"; {device}: {why.rstrip(' .')}" if device else ""
    return f"v{record.version} was halted in wave {record.wave}: {count}{first}"
