"""One pass over one model: look, decide, do, say. Never raises for expected trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconcilers.apply import Applier, Trouble
from reconcilers.context import Context
from reconcilers.limits import Limits
from reconcilers.observe import Observer, Shared
from reconcilers.observed import Observed
from reconcilers.plan import Plan, plan
from reconcilers.summary import refused_status, summarize, trouble_status
from reconcilers.vetting import Objection
from reconcilers.world import Ports
from specs.errors import Transient, TrunklineError
from specs.facts import SourcedSpec
from specs.manifest import parse
from specs.modelspec import ModelKey, Spec
from specs.moments import iso
from specs.status import ModelStatus

_CACHE_SIZE = 20_000
_LIMITS = Limits()


@dataclass(frozen=True)
class Result:
    """What a pass came to."""

    status: ModelStatus
    acted: bool = False
    """Whether anything was done, so that looking again at once is worth while."""
    retry: bool = False
    """Whether something was in the way that may go away by itself."""
    after: float = 0.0
    """Seconds until looking again is useful; 0 means the host's own pace."""
    plan: Plan | None = None
    observed: Observed | None = None
    """The world that was decided about."""
    spec: Spec | None = None
    """What was decided about it."""


class Reconciler:
    """Closes the gap between what git asks for and what there is, one step at a time."""

    def __init__(
        self, ports: Ports, clock: Callable[[], float], *, remembered: int = _CACHE_SIZE, limits: Limits = _LIMITS
    ) -> None:
        """``remembered``: how many parsed specs, and how many records, are kept in memory.

        ``limits``: how many proposals the repository takes, from all its models together.
        """
        self.ports = ports
        self.observer = Observer(ports, remembered, limits=limits)
        self._remembered = remembered
        self._applier = Applier(ports)
        self._clock = clock
        self._specs: dict[ModelKey, tuple[str, Spec]] = {}

    def share(self) -> Shared:
        """Look once at what all models share; Transient or Stalled where that fails."""
        return replace(self.observer.share(), rules=self.ports.vetting.rules())

    def run(self, source: SourcedSpec, shared: Shared, previous: ModelStatus) -> Result:
        """Reconcile one model once."""
        now = self._clock()
        stamp = iso(now)
        try:
            spec = self._spec(source)
            source = self.ports.vetting.vet(source, previous)
            observed = self.observer.observe(source, spec, shared, previous, now)
        except Objection as error:
            return Result(refused_status(error, previous, stamp))
        except TrunklineError as error:
            return Result(trouble_status(error, previous, stamp), retry=isinstance(error, Transient))
        ctx = Context(source.key, spec, observed, now)
        decided = plan(source.key, spec, observed, now)
        troubles: tuple[Trouble, ...] = self._applier.apply(
            source, decided.actions, lambda new: shared.allowance.take(new.intent, new.branch, now)
        )
        status = summarize(ctx, decided, troubles, previous, stamp)
        retry = any(isinstance(trouble.error, Transient) for trouble in troubles)
        return Result(status, len(troubles) < len(decided.actions), retry, decided.after, decided, observed, spec)

    def _spec(self, source: SourcedSpec) -> Spec:
        """Parse, unless the same text was parsed before: most passes find nothing changed."""
        known = self._specs.get(source.key)
        if known is None or known[0] != source.text:
            if len(self._specs) >= self._remembered:
                self._specs.clear()
            known = (source.text, parse(source.text, source.path, source.key).model.spec)
            self._specs[source.key] = known
        return known[1]
