"""Devices and waves in the artifact store: what devices tell, and what lets them go on. See ``specs.fleet``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pydantic import ValidationError

from specs.errors import Stalled
from specs.fleet import (
    DEVICES,
    DeviceReport,
    HaltRecord,
    WaveRecord,
    Waves,
    device_key,
    halt_key,
    wave_key,
)  # fmt: skip
from specs.records import Record

log = logging.getLogger(__name__)
POLL = 20.0
"""Seconds between two looks at what devices said."""
_REMEMBERED = 2_000
R = TypeVar("R", bound=Record)


class FleetRecords(Protocol):
    """What is needed of ``adapters.store.Store``."""

    def read(self, key: str) -> bytes | None:
        """Give a record's bytes, or None."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a record once."""

    def replace(self, key: str, data: bytes) -> None:
        """Write a record over an older one."""

    def stamps(self, prefix: str) -> dict[str, str]:
        """Give the keys that begin with ``prefix``, each with what changes when it is replaced."""


class StoreFleet:
    """Reads and writes the records of a fleet. Any number of threads, and of processes, may do so at once.

    A look lists all devices and reads those that told something new, so it costs as much as there is news. Any method
    may raise Transient ``StoreUnavailable``.
    """

    def __init__(self, store: FleetRecords, clock: Callable[[], float], *, poll: float = POLL) -> None:
        self._store = store
        self._clock = clock
        self._poll = poll
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._stamps: dict[str, str] = {}
        self._reports: dict[str, DeviceReport] = {}
        self._waves: dict[tuple[str, int, str], Waves] = {}

    def devices(self) -> Sequence[DeviceReport]:
        """Give what devices said last, by name. What is no report is left out, and logged once."""
        with self._lock:
            now = self._clock()
            if self._looked is None or now - self._looked >= self._poll:
                self._look()
                self._looked = now
            return [self._reports[key] for key in sorted(self._reports)]

    def _look(self) -> None:
        stamps = self._store.stamps(DEVICES)
        reports = {key: report for key, report in self._reports.items() if key in stamps}
        for key, stamp in stamps.items():
            if self._stamps.get(key) == stamp:
                continue
            data = self._store.read(key)
            reports.pop(key, None)
            try:
                report = DeviceReport.decode(data) if data is not None else None
            except ValidationError:
                log.warning("%s in the store is no device's report; it is left out", key)
                continue
            if report is not None and device_key(report.device) == key:
                reports[key] = report
        self._stamps, self._reports = stamps, reports

    def waves(self, model: str, version: int, file: str) -> Waves:
        """Give how far a release has come. What was read once stands for ever."""
        known = self._known(model, version, file)
        if known.halt is None:
            halt = self._get(halt_key(model, version, file), HaltRecord)
            known = self._waves[model, version, file] = Waves(known.opened, halt)
        return known

    def below(self, model: str, version: int, file: str) -> int:
        """Give the rank below which devices are reached: all that a device that waits needs to know."""
        return self._known(model, version, file).below

    def _known(self, model: str, version: int, file: str) -> Waves:
        """Give what was read before, and the waves that were opened since."""
        known = self._waves.get((model, version, file), Waves())
        while not known.complete:
            record = self._get(wave_key(model, version, file, len(known.opened) + 1), WaveRecord)
            if record is None:
                break
            known = Waves((*known.opened, record), known.halt)
        if len(self._waves) >= _REMEMBERED:
            self._waves.clear()
        self._waves[model, version, file] = known
        return known

    def open(self, record: WaveRecord) -> None:
        """Open a wave; where it is open already, what was written first stands."""
        self._store.create(wave_key(record.model, record.version, record.file, record.wave), record.encode())

    def halt(self, record: HaltRecord) -> None:
        """Open no further wave; likewise."""
        self._store.create(halt_key(record.model, record.version, record.file), record.encode())

    def tell(self, report: DeviceReport) -> None:
        """Write what a device says, over what it said before."""
        self._store.replace(device_key(report.device), report.encode())

    def _get(self, key: str, type_: type[R]) -> R | None:
        data = self._store.read(key)
        if data is None:
            return None
        try:
            return type_.decode(data)
        except ValidationError as error:
            text = f"{key} in the store is not a {type_.__name__}; remove it, and the rollout goes on from before it"
            raise Stalled("CorruptRecord", text) from error
