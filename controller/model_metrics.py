"""How models stand, for Prometheus: what agent and operator alike can tell of each model that is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock

from reconcilers.observed import Observed, Reading
from specs.alert_rules import CONDITION, FIRING
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.status import ConditionType, ModelStatus

Gauge = tuple[str, str, dict[str, str], float]
"""Name, help, labels, value."""
Statuses = Callable[[], Iterable[tuple[ModelKey, ModelStatus]]]
"""Gives the statuses of all models that have a signal, or a condition that is worth telling; others do no harm."""

_VALUE = "trunkline_signal_value"
_LOW, _HIGH = "trunkline_signal_low", "trunkline_signal_high"
_SAMPLES = "trunkline_signal_samples"
_TELLING = {ConditionType.STALLED: "True", ConditionType.GIT_BEHIND: "True", ConditionType.LIVE_GATE: "False"}
"""Conditions that somebody should know of, and with which status."""


class ModelMetrics:
    """Reads statuses at each scrape; of windows it remembers the last that said something. Any thread may use it."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses
        self._lock = Lock()
        self._last: dict[ModelKey, dict[str, Reading]] = {}

    def saw(self, key: ModelKey, observed: Observed) -> None:
        """Take in what a pass saw."""
        found = {}
        for name, readings in observed.readings.items():
            told = next((each for each in reversed(readings) if each.value is not None), None)
            if told is not None:
                found[name] = told
        with self._lock:
            if found:
                self._last[key] = found
            else:
                self._last.pop(key, None)

    def gauges(self) -> Iterator[Gauge]:
        """Give all gauges as they are now."""
        known = set()
        for key, status in self._statuses():
            known.add(key)
            who = {"model": serving_name(*key), "namespace": key.namespace, "name": key.name}
            for signal in status.signals:
                told = {**who, "signal": signal.name}
                yield FIRING, "1 while a signal fires.", told, float(signal.state == "Firing")
            yield from self._values(key, who)
            for condition in status.conditions:
                if _TELLING.get(condition.type) == condition.status:
                    told = {**who, "type": str(condition.type), "reason": str(condition.reason)}
                    yield CONDITION, "A condition that somebody should know of; there only while it is so.", told, 1.0
        with self._lock:
            for key in self._last.keys() - known:
                del self._last[key]

    def _values(self, key: ModelKey, who: dict[str, str]) -> Iterator[Gauge]:
        with self._lock:
            last = self._last.get(key, {})
        for name, reading in last.items():
            told = {**who, "signal": name}
            for metric, what, value in (
                (_VALUE, "Value", reading.value), (_LOW, "Low end", reading.low), (_HIGH, "High end", reading.high),
            ):  # fmt: skip
                if value is not None:
                    yield metric, f"{what} of a signal in the last window that was looked at in full.", told, value
            yield _SAMPLES, "Samples in that window.", told, float(reading.n)
