"""What a worker of the operator does with one model: find its origin in git, look at it, say when to look again."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from adapters.kubernetes_api import DEPLOYMENT
from controller.bindings import Binding, Bindings, Site
from controller.following import Following
from controller.informer import Informer, Live
from controller.metrics import Metrics
from controller.passes import works
from controller.queue import Priority, WorkQueue
from controller.settled import asked, at_rest, found, is_same, mark, marked
from controller.trunk import Touched, Trunk
from controller.windows import Windows
from reconcilers.actions import ForgeAction
from reconcilers.loop import Result
from reconcilers.observe import Shared
from reconcilers.summary import awaiting_status, refused_status
from specs.errors import Stalled, Transient, TrunklineError
from specs.facts import Origin, Standing
from specs.modelspec import ModelKey
from specs.names import serving_name
from specs.status import ConditionType, ModelStatus, Reason

log = logging.getLogger("trunkline.desk")

SOON = 0.2
"""Seconds until a model is looked at again after something was done about it."""
DEEP = 4 * 3600.0
"""Seconds in which every model is looked at in full once."""
ROLLOUT_PACE, WORK_PACE = 3.0, 30.0
"""Seconds between looks while pods come up, and while jobs run; events usually come first."""


@dataclass
class Desk:
    """Everything that a worker needs."""

    informer: Informer
    queue: WorkQueue[ModelKey]
    bindings: Bindings
    metrics: Metrics
    clock: Callable[[], float]
    following: Following = field(default_factory=Following)
    windows: Windows = field(default_factory=Windows)
    _deep: dict[ModelKey, float] = field(default_factory=dict)
    """When a model must be looked at in full, whatever its fingerprint says."""

    def wake(self, site: Site, touched: Touched) -> None:
        """Put in line whom a look at a repository concerns: models that are bound to it, whatever else it names."""
        for key in self.informer.models() if touched.names else touched.keys:
            if key.name in touched.names or key in touched.keys:
                binding = self.bindings.of(key.namespace)
                if binding is not None and binding.site is site:
                    self.queue.add(key, Priority.CHANGE)

    def wake_followers(self) -> None:
        """Put in line the models for whose training data there is another newest version than they know."""
        for key in self.following.moved():
            self.queue.add(key, Priority.ROUTINE)

    def wake_watched(self) -> None:
        """Put in line the models whose live traffic, or whose schedule, means something else than they know."""
        for key in self.windows.moved():
            self.queue.add(key, Priority.ROUTINE)

    def forever(self, stop: Event) -> None:
        """Work until told to stop."""
        while not stop.is_set():
            key = self.queue.get(timeout=1.0)
            if key is not None:
                self.work(key)

    def work(self, key: ModelKey) -> None:
        """Look at one model that was taken from the queue. Never raises."""
        began = time.perf_counter()
        try:
            outcome = self._look(key)
        except TrunklineError as error:
            outcome = "retry" if isinstance(error, Transient) else "stalled"
            log.warning("%s: %s: %s", key, error.reason, error.message)
            self.queue.retry(key)
        except Exception:  # a bug about one model must not take the worker away from the others
            log.exception("internal error about %s", key)
            outcome = "error"
            self.queue.retry(key)
        finally:
            self.queue.done(key)
        self.metrics.pass_done(outcome, time.perf_counter() - began)

    def _look(self, key: ModelKey) -> str:
        live, binding = self.informer.model(key), self.bindings.of(key.namespace)
        if live is None:
            self.queue.forget(key)
            self._deep.pop(key, None)
            self.following.forget(key)
            self.windows.forget(key)
            return "gone"
        if binding is None:
            return self._unbound(key)
        trunk, passes = binding.site.trunk, binding.site.passes
        shared = trunk.shared_with(key)
        if shared is None:
            return "early"
        if self._is_settled(live, binding, shared):
            return "settled"
        origin = binding.origin(key, live.digest)
        if origin.standing is Standing.CURRENT and origin.sourced is not None:
            result = passes.look(
                origin.sourced, shared, lambda result: self._marked(live, origin, binding, shared, result)
            )
            self._deep[key] = self.clock() + DEEP
            return self._follow(key, trunk, result)
        if trunk.looked < live.seen:  # Argo CD may be quicker than we are: judge by what git says now
            trunk.want([key])
            return "early"
        if origin.standing is Standing.BROKEN:
            passes.report_broken(key, origin.problems)
            return "broken"
        return self._refuse(binding, key, origin)

    def _is_settled(self, live: Live, binding: Binding, shared: Shared) -> bool:
        """Whether this is the world in which the model came to rest; now and then nobody asks.

        Before all Deployments are known only what is asked for is compared; then everybody is looked at again.
        """
        now = self.clock()
        due = self._deep.get(live.key)
        if due is None:  # a full look is due within the period; not for all models at once
            due = self._deep[live.key] = now + DEEP * random.random()  # noqa: S311  spreads load
        if now >= due:
            return False
        status = json.loads(live.status)
        path, settled = status.get("path"), status.get("settled")
        if not settled or status.get("observedGeneration") != live.generation:
            return False
        known = None
        if self.informer.is_synced(DEPLOYMENT):
            known = found(binding.site.passes.reconciler.ports.servers.state(serving_name(*live.key)))
        asked_now = self._asked(live, path, binding.blob(path), shared)
        beside = (self.following.newest(live.key), self.windows.now(live.key))
        return is_same(settled, asked_now, known, _joined(*beside))

    def _marked(
        self, live: Live, origin: Origin, binding: Binding, shared: Shared, result: Result
    ) -> ModelStatus:  # fmt: skip
        settled, beside, loop = "", "", binding.site.passes.reconciler
        if result.spec is not None and result.observed is not None:
            newest = self.following.saw(result.spec, result.observed, loop.ports.data)
            beside = _joined(newest, self.windows.saw(result, loop.observer.traffic))
        if at_rest(result) and result.observed is not None:
            asked_for = self._asked(live, origin.path, origin.blob, shared)
            settled = mark(asked_for, found(result.observed.serving), beside)
        return marked(result.status, origin.path, settled)

    @staticmethod
    def _asked(live: Live, path: str, blob: str, shared: Shared) -> str:
        pulls, branches = shared.pulls.get(live.key, ()), shared.branches.get(live.key, {})
        return asked(live.digest, path, blob, pulls, branches, rules=shared.rules)

    def _refuse(self, binding: Binding, key: ModelKey, origin: Origin) -> str:
        """Do nothing about a spec that the tracked branch does not ask for now, but say so."""
        report = binding.site.passes.report
        if origin.standing is Standing.OLDER and origin.commit is not None:
            text = f"the cluster has the version of {origin.commit.sha[:12]}; the tracked branch has another one by now"
            report(key, lambda previous, now: awaiting_status(text, previous, now))
            return "awaiting"
        text = f"this spec is not in the history of {binding.place}, so nothing is done about it; change it in git"
        error = Stalled(Reason.NOT_IN_GIT, text)
        report(key, lambda previous, now: refused_status(error, previous, now))
        return "refused"

    def _unbound(self, key: ModelKey) -> str:
        """Do nothing about a spec of a namespace that no repository is bound to, but say so."""
        text = f"no repository is bound to the namespace {key.namespace}, so nothing is done about this spec"
        error = Stalled(Reason.NOT_BOUND, text)
        passes = self.bindings.sites[0].passes  # they differ in where specs come from, not in where status goes
        passes.report(key, lambda previous, now: refused_status(error, previous, now))
        return "unbound"

    def _follow(self, key: ModelKey, trunk: Trunk, result: Result) -> str:
        """Say when to look again."""
        if result.retry:
            self.queue.retry(key)
            return "retry"
        self.queue.went_well(key)
        if result.acted:
            actions = result.plan.actions if result.plan else ()
            if any(isinstance(action, ForgeAction) for action in actions):
                trunk.want([key])  # what was shared is old now
            else:
                self.queue.add(key, Priority.PROGRESS, after=SOON)
            return "acted"
        if result.after > 0:
            self.queue.add(key, Priority.PROGRESS, after=result.after)
        elif works(result.status):
            self.queue.add(key, Priority.ROUTINE, after=_pace(result.status))
        return "stalled" if result.status.condition(ConditionType.STALLED) else "ok"


def _joined(newest: str, windows: str) -> str:
    """Name what goes on beside the model: the data that it follows, the traffic and the schedule that it watches."""
    return ".".join(part for part in (newest, windows) if part)


def _pace(status: ModelStatus) -> float:
    serving = status.condition(ConditionType.SERVING)
    rolling = serving is not None and serving.reason in (Reason.ROLLING_OUT, Reason.CANARY)
    return ROLLOUT_PACE if rolling else WORK_PACE
