"""What signals said window by window, for people who look: a cache beside the agent's status, that may be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.processes import write_text
from reconcilers.observed import Judgement, Observed
from specs.modelspec import ModelKey, Spec
from specs.monitoring import Signal


class WindowReading(BaseModel):
    """One signal in one window; see ``reconcilers.observed.Reading``."""

    model_config = ConfigDict(frozen=True, extra="ignore", from_attributes=True)
    start: float
    judgement: Judgement
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    message: str = ""


class SignalReadings(BaseModel):
    """A signal: what it watches, its bound, and its windows, oldest first."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    name: str
    type: str
    bound: str
    """As people write it, ``≤ 0.25``."""
    windows: list[WindowReading]


class ModelReadings(BaseModel):
    """All signals of a model, in the order of the spec."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: int | None = None
    """Of the release that they are about."""
    window: str = ""
    """Length of a window, ``1h``."""
    signals: list[SignalReadings] = []


class Readings:
    """One JSON file for each model that is watched."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, spec: Spec, observed: Observed) -> None:
        """Keep what a look found, where it is new; drop it where nobody watches any more."""
        file = self._file(observed.source.key)
        if spec.monitoring is None:
            file.unlink(missing_ok=True)
            return
        found = ModelReadings(
            version=observed.serving.version if observed.serving else None, window=spec.monitoring.window,
            signals=[_of(signal, observed) for signal in spec.monitoring.signals],
        )  # fmt: skip
        if found == self.read(observed.source.key):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(file, found.model_dump_json(exclude_defaults=True) + "\n")

    def read(self, key: ModelKey) -> ModelReadings:
        """Give what is kept; empty where nothing is, or nothing that can be read."""
        try:
            return ModelReadings.model_validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return ModelReadings()

    def _file(self, key: ModelKey) -> Path:
        return self._folder / f"{key.namespace}.{key.name}.json"


def _of(signal: Signal, observed: Observed) -> SignalReadings:
    windows = [WindowReading.model_validate(each) for each in observed.readings.get(signal.name, ())]
    return SignalReadings(name=signal.name, type=signal.type, bound=bound(signal), windows=windows)


def bound(signal: Signal) -> str:
    """Give a signal's bound as people write it."""
    sides: list[tuple[str, Any]] = [("≥", signal.min), ("≤", signal.max)]
    return " and ".join(f"{sign} {value:g}" if isinstance(value, float | int) else f"{sign} {value}"
                        for sign, value in sides if value is not None)  # fmt: skip
