"""What Prometheus sees. Labels are bounded: models that were loaded, two or three versions of each, a few outcomes."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from specs.digests import short
from workloads.serve.answers import Refusal
from workloads.serve.series import AllSeries, Series
from workloads.serve.state import Target

_ROWS = (1, 2, 4, 8, 16, 32, 64)
_VERSIONS = 2
"""Versions of a model that keep their own series: what serves, and what served before; a canary comes on top."""

SHARES = ("weight", "mirror")
"""Names of a canary's shares."""


class Tally:
    """One request: who it turned out to be for."""

    def __init__(self, series: Series) -> None:
        self.series = series
        """Of the version that answers, as soon as it is known."""


class Metrics:
    """All series of one server. Belongs to the event loop's thread."""

    def __init__(self, *, watch: bool = True) -> None:
        """Without ``watch`` pictures and what is found in them are not counted."""
        self._watch = watch
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._versions: dict[tuple[str, str], Series] = {}
        self._unknown = Series()
        self._all = AllSeries(self._versions, self._unknown)
        registry.register(self._all)
        self._rows = Histogram(
            "trunkline_batch_rows", "Rows in one inference.", ["model"], buckets=_ROWS, registry=registry
        )
        self._depth = Gauge(
            "trunkline_queue_depth", "Requests that wait for an inference.", ["model"], registry=registry
        )
        self._info = Gauge(
            "trunkline_model_info", "What serves; always 1.", ["model", "version", "file", "run"], registry=registry
        )
        self._loads = Counter("trunkline_loads", "Loads by how they ended.", ["model", "result"], registry=registry)
        self._share = Gauge(
            "trunkline_canary_percent", "Requests that a canary answers, or gets a copy of.",
            ["model", "version", "share"], registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "trunkline_mirror_dropped", "Copies of requests that a canary did not get, since the server had no time.",
            ["model"], registry=registry,
        )  # fmt: skip
        self._canaries: dict[str, str] = {}
        self._shown: dict[str, tuple[str, ...]] = {}
        self._order: defaultdict[str, OrderedDict[str, None]] = defaultdict(OrderedDict)

    def text(self) -> bytes:
        """Give all series in Prometheus' text format."""
        return generate_latest(self.registry) + self._all.histograms()

    @contextmanager
    def request(self) -> Iterator[Tally]:
        """Count and time a request, however it ends; the caller fills in the Tally as soon as it knows."""
        tally = Tally(self._unknown)
        started = time.perf_counter()
        outcome = "error"
        try:
            yield tally
            outcome = "ok"
        except asyncio.CancelledError:
            outcome = "gone"
            raise
        except Refusal as refusal:
            outcome = refusal.outcome
            raise
        finally:
            tally.series.outcomes[outcome] += 1
            if tally.series is not self._unknown:
                tally.series.stages["total"].add(time.perf_counter() - started)

    def observer(self, model: str, names: Sequence[str]) -> ModelObserver:
        """Give what reports about ``model``, whose classes are ``names``; ``serve`` says as which version."""
        return ModelObserver(self._rows.labels(model), Series(names, watch=self._watch), names)

    def load(self, model: str, result: str) -> None:
        """Count a load; ``result`` is ``ok`` or the failure's reason."""
        self._loads.labels(model, result).inc()

    def serve(
        self, model: str, target: Target, observer: ModelObserver, depth: Callable[[], int], *, since: float
    ) -> None:
        """Show what serves now, since when (Unix time), and stop showing versions long gone.

        A version that comes back goes on counting where it was.
        """
        self._hide_info(model)
        labels = (model, str(target.version), short(target.file), short(target.run))
        self._info.labels(*labels).set(1)
        self._shown[model] = labels
        self._depth.labels(model).set_function(depth)
        self._show_version(model, str(target.version), target.file, observer)
        observer.series.loaded = since

    def beside(self, model: str, target: Target, observer: ModelObserver, *, since: float) -> None:
        """Show a canary beside what serves, and when it was loaded (Unix time); ``share`` says the rest."""
        self._canaries[model] = str(target.version)
        self._show_version(model, str(target.version), target.file, observer)
        observer.series.loaded = since
        self._dropped.labels(model)

    def share(self, model: str, target: Target, shares: Mapping[str, int]) -> None:
        """Show a canary's shares in per cent, by their names."""
        for kind, percent in shares.items():
            self._share.labels(model, str(target.version), kind).set(percent)

    def dropped(self, model: str) -> None:
        """Count a copy that was dropped."""
        self._dropped.labels(model).inc()

    def alone(self, model: str, target: Target) -> None:
        """Show no canary any more; unless it is ``target``, which serves, its series go."""
        version = self._canaries.pop(model, None)
        if version is None:
            return
        for kind in SHARES:
            with suppress(KeyError):
                self._share.remove(model, version, kind)
        if version != str(target.version):
            self._order[model].pop(version, None)
            self._versions.pop((model, version), None)

    def withdraw(self, model: str) -> None:
        """Drop all series of a model."""
        self._hide_info(model)
        with suppress(KeyError):
            self._dropped.remove(model)
        for version in self._order.pop(model, ()):
            del self._versions[model, version]
        with suppress(KeyError):
            self._depth.remove(model)
        with suppress(KeyError):
            self._rows.remove(model)

    def find(self, model: str, version: int) -> Series | None:
        """Give the series of a version, while it has one."""
        return self._versions.get((model, str(version)))

    def _show_version(self, model: str, version: str, file: str, observer: ModelObserver) -> None:
        known = self._versions.get((model, version))
        if known is None or known.file != file:
            known = self._versions[model, version] = Series(observer.names, watch=self._watch, file=file)
        observer.series = known
        order = self._order[model]
        order[version] = None
        order.move_to_end(version)
        while len(order) > _VERSIONS + (model in self._canaries):
            del self._versions[model, order.popitem(last=False)[0]]

    def _hide_info(self, model: str) -> None:
        labels = self._shown.pop(model, None)
        if labels is not None:
            self._info.remove(*labels)


class ModelObserver:
    """Takes down what one loaded model does, under the version that it serves as: the hot path."""

    def __init__(self, rows: Histogram, series: Series, names: Sequence[str]) -> None:
        self._rows = rows
        self.series = series
        self.names = names

    def inference(self, rows: int, seconds: float, queued: list[float]) -> None:
        """Count one inference. Times in seconds."""
        self._rows.observe(rows)
        stages = self.series.stages
        for waited in queued:
            stages["queue"].add(waited)
            stages["inference"].add(seconds)
