"""One pass over one model, and the one place that writes status: what the agent and the operator share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from reconcilers.loop import Reconciler, Result
from reconcilers.observe import Shared
from reconcilers.observed import Observed
from reconcilers.summary import trouble_status
from specs.errors import InvalidManifest, Problem, Stalled
from specs.facts import SourcedSpec
from specs.modelspec import ModelKey
from specs.status import ConditionType, ModelStatus, Reason

log = logging.getLogger("trunkline.passes")

Said = Callable[[ModelKey, ModelStatus, ModelStatus], None]
"""Told about a change of status: the model, the status before, and the one now."""


class StatusSink(Protocol):
    """Where a host keeps status. A cache: what is in it may be gone or old at any time."""

    def read(self, key: ModelKey) -> ModelStatus:
        """Give the last status; an empty one where there is none, or none that can be read."""

    def write(self, key: ModelKey, status: ModelStatus) -> bool:
        """Keep a status if it says something new; True if it did. Transient where it could not be kept."""


Saw = Callable[[ModelKey, Observed], None]
"""Told what a pass saw of a model."""


def _unseen(_key: ModelKey, _observed: Observed) -> None:
    """Tell nobody."""


def _silent(_key: ModelKey, _before: ModelStatus, _now: ModelStatus) -> None:
    """Tell nobody."""


Mark = Callable[[Result], ModelStatus]


def _unmarked(result: Result) -> ModelStatus:
    return result.status


@dataclass
class Passes:
    """Looks at models, one at a time. May be used by several threads, each with a model of its own."""

    reconciler: Reconciler
    statuses: StatusSink
    said: Said = _silent
    saw: Saw = _unseen

    def look(self, sourced: SourcedSpec, shared: Shared, mark: Mark = _unmarked) -> Result:
        """Reconcile a model once and write its status. A bug is this model's trouble and nobody else's.

        ``mark`` may add to the status what only the host knows.
        """
        previous = self.statuses.read(sourced.key)
        try:
            result = self.reconciler.run(sourced, shared, previous)
        except Exception:  # a bug in one model's pass must not stop the others
            log.exception("internal error while reconciling %s", sourced.key)
            error = Stalled(Reason.INTERNAL_ERROR, "a bug in Trunkline; its log has the traceback")
            result = Result(trouble_status(error, previous, stamp()), retry=True)
        self._write(sourced.key, previous, mark(result))
        if result.observed is not None:
            self.saw(sourced.key, result.observed)
        return result

    def report_broken(self, key: ModelKey, problems: tuple[Problem, ...]) -> None:
        """Say that a model's file cannot be acted on; what serves goes on serving."""
        self.report(key, lambda previous, now: trouble_status(InvalidManifest(problems), previous, now))

    def report(self, key: ModelKey, make: Callable[[ModelStatus, str], ModelStatus]) -> ModelStatus:
        """Write the status that ``make`` gives, from the one before and the time (ISO 8601)."""
        previous = self.statuses.read(key)
        status = make(previous, stamp()).model_copy(update={"settled": ""})
        self._write(key, previous, status)
        return status

    def _write(self, key: ModelKey, previous: ModelStatus, status: ModelStatus) -> None:
        if self.statuses.write(key, status):
            self.said(key, previous, status)


def works(status: ModelStatus) -> bool:
    """Whether work is under way that will end by itself; waiting for a person is none."""
    found = status.condition(ConditionType.RECONCILING)
    return found is not None and found.reason not in (Reason.PULL_REQUEST_OPEN, Reason.DATA_NOT_PINNED)


def is_crowded_out(status: ModelStatus) -> bool:
    """Whether a model waits until people answer the proposals of others; nobody knows how long that takes."""
    found = status.condition(ConditionType.RECONCILING)
    return found is not None and found.reason == Reason.PROPOSAL_LIMIT


def stamp() -> str:
    """Give the time now, ISO 8601 in whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
