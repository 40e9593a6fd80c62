"""What Prometheus sees of kept pictures. Labels are bounded: models, their last two versions, a few words."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter

from specs.kept_records import Why

Dropped = Literal["behind", "budget", "similar", "store", "error"]
_VERSIONS = 2


class KeptSeries:
    """Counts pictures that were kept, and those that there was a reason to keep and that were not. For all threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kept = Counter(
            "trunkline_kept", "Pictures kept for people, by each reason that held.", ["model", "version", "why"],
            registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "trunkline_kept_dropped", "Pictures that were worth keeping and were not.", ["model", "reason"],
            registry=registry,
        )  # fmt: skip
        self._versions: defaultdict[str, deque[str]] = defaultdict(deque)
        self._lock = Lock()

    def kept(self, model: str, version: int, why: Iterable[Why]) -> None:
        """Count a kept picture, once for each reason."""
        with self._lock:
            versions = self._versions[model]
            if str(version) not in versions:
                versions.append(str(version))
            while len(versions) > _VERSIONS:
                self._drop(model, versions.popleft())
            for reason in why:
                self._kept.labels(model, str(version), reason).inc()

    def dropped(self, model: str, reason: Dropped) -> None:
        """Count one that was not kept.

        ``behind``: too many wait; ``budget``: the day's is spent; ``similar``: one that looks alike, or the same
        request, was kept today; ``store``: that is in trouble, or may not be written; ``error``: a bug, see the log.
        """
        self._dropped.labels(model, reason).inc()

    def only(self, models: Iterable[str]) -> None:
        """Drop the series of all other models."""
        with self._lock:
            for model in self._versions.keys() - set(models):
                for version in self._versions.pop(model):
                    self._drop(model, version)
                for reason in get_args(Dropped):
                    with suppress(KeyError):
                        self._dropped.remove(model, reason)

    def _drop(self, model: str, version: str) -> None:
        for reason in get_args(Why):
            with suppress(KeyError):
                self._kept.remove(model, version, reason)
