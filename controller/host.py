"""The operator's inside: threads that look at models, at git, at the API; and what tells whether all of them live."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Thread
from typing import Any

from adapters.kubernetes_api import DEPLOYMENT, JOB, MODEL_SPEC, Kind
from controller.alerts import Alerts
from controller.audit import Audit
from controller.bindings import Site
from controller.desk import Desk
from controller.informer import OPTIONAL, Change
from controller.lease import Lease
from controller.metrics import Metrics
from controller.probes import Probes
from controller.queue import Priority
from controller.webhooks import Webhooks
from specs.errors import TrunklineError

log = logging.getLogger("trunkline.host")

AUDIT = 300.0
"""Seconds between two comparisons with the API's lists."""
AFTER_RELIST = 2.0
"""Seconds after a relist was noticed until its names are compared."""
STUCK = 600.0
"""Seconds that a model may be in line, or a pass take, before this process counts as dead."""
LAG = 30.0
"""Seconds that the event loop may not have turned."""
GRACE = 20.0
"""Seconds that passes have to end when the process is told to stop."""


def _die(why: str) -> None:
    """End at once: whatever was begun, the next process finds and finishes."""
    log.critical("%s; ending", why)
    logging.shutdown()
    os._exit(1)


@dataclass
class Host:
    """Everything that runs beside kopf. ``saw`` is all that kopf's handlers call."""

    desk: Desk
    lease: Lease
    audit: Audit
    metrics: Metrics
    workers: int
    interval: float
    resync: float
    port: int
    webhooks: Webhooks | None = None
    alerts: Alerts | None = None
    _stop: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)
    _relisted: Event = field(default_factory=Event)
    _working: Event = field(default_factory=Event)
    _probes: Probes | None = None
    beat: float = field(default_factory=time.monotonic)
    """When the event loop turned last."""

    def listen(self) -> None:
        """Answer probes; a replica that stands by is healthy, but not ready."""
        self.metrics.watch(self._gauges)
        self._probes = Probes(self.port, healthy=self.unhealthy, ready=self.not_ready, metrics=self.metrics.text)
        self._probes.start()
        log.info("probes and metrics on port %d", self._probes.port)

    def acquire(self) -> bool:
        """Wait for the lease; False where this process was told to stop before."""
        return self.lease.acquire(self._stop)

    def start(self) -> None:
        """Begin to work: with everything that there is known, and a tracked branch read."""
        self._thread("lease", lambda: self.lease.keep(self._stop))
        for number, site in enumerate(self.desk.bindings.sites):
            self._thread(f"trunk-{number}", partial(self._follow, site))
        self._thread("data", self._follow_data)
        if self.webhooks is not None:
            self.webhooks.start()
            log.info("webhooks on port %d", self.webhooks.port)
        self._thread("audit", self._audit_forever)
        if self.alerts is not None:
            self._thread("alerts", partial(self._tell_forever, self.alerts))
        self._thread("resync", self._resync_forever)

    def stop(self) -> None:
        """Finish what is begun, let the lease go, be silent."""
        self._stop.set()
        self._relisted.set()
        for site in self.desk.bindings.sites:
            site.trunk.want()
        self.desk.queue.close()
        if self.webhooks is not None:
            self.webhooks.stop()
        give_up = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        try:
            self.lease.release()
        except TrunklineError as error:
            log.warning("the lease could not be released: %s", error.message)
        if self._probes is not None:
            self._probes.stop()

    def saw(self, kind: Kind, event: str | None, body: Mapping[str, Any]) -> None:
        """Take in what a watch says. Quick, and without IO."""
        informer = self.desk.informer
        if event is None and informer.is_synced(kind):
            self._relisted.set()
        change = informer.saw(kind, event, body)
        if change is not None and (kind is MODEL_SPEC or event is not None or informer.is_synced(kind)):
            self.tell(change, Priority.ROUTINE if event is None else None)

    def unhealthy(self) -> Sequence[str]:
        """Say what only a restart can mend."""
        found = []
        lag = time.monotonic() - self.beat
        if lag > LAG:
            found.append(f"the event loop has not turned for {lag:.0f} s")
        if self.desk.queue.oldest() > STUCK:
            found.append(f"a model has waited or been worked on for {self.desk.queue.oldest():.0f} s")
        if self.audit.missed:
            found.append(f"the watch has not told of {self.audit.missed} objects that the API lists")
        return found

    def not_ready(self) -> Sequence[str]:
        """Say why no work is done now."""
        if not self.lease.held:
            return ("standing by: another replica holds the lease",)
        if not self._working.is_set():
            return ("reading what there is",)
        return () if self._has_read() else ("no tracked branch has been read yet",)

    def tell(self, change: Change, priority: Priority | None = None) -> None:
        """Queue what a change concerns; a model that is gone is looked at no more."""
        queue = self.desk.queue
        if change.gone:
            queue.forget(change.key)
            return
        wanted = Priority.CHANGE if change.desired else Priority.PROGRESS
        queue.add(change.key, wanted if priority is None else priority)

    def _follow(self, site: Site) -> None:
        """Look at one repository for ever; another one that is down, or slow, has a thread of its own."""
        site.trunk.forever(self.interval, self._stop, lambda touched: self.desk.wake(site, touched))

    def _follow_data(self) -> None:
        """Look for newer data and for what traffic means, again and again; what either said the ports remember."""
        while not self._stop.wait(self.interval):
            self.desk.wake_followers()
            self.desk.wake_watched()

    def _tell_forever(self, alerts: Alerts) -> None:
        """Tell people, once all models are known: what is not known yet would count as over."""
        if self.audit.wait_for(MODEL_SPEC, self._stop):
            alerts.forever(self._stop)

    def _audit_forever(self) -> None:
        """Let the workers begin once all models are known; then compare now and then, and soon after a relist."""
        if not self.audit.wait_for(MODEL_SPEC, self._stop) or not self._wait_for_trunk():
            return
        self._working.set()
        for number in range(self.workers):
            self._thread(f"worker-{number}", lambda: self.desk.forever(self._stop))
        log.info("working on %d models with %d workers", self.desk.informer.count(MODEL_SPEC), self.workers)
        if not all(self.audit.wait_for(kind, self._stop) for kind in (*OPTIONAL, DEPLOYMENT, JOB)):
            return
        log.info("%d Deployments are known; looking at all models once more", self.desk.informer.count(DEPLOYMENT))
        for key in self.desk.informer.models():
            self.desk.queue.add(key, Priority.ROUTINE)
        while not self._stop.is_set():
            if self._relisted.wait(min(AUDIT, self.resync)) and not self._stop.wait(AFTER_RELIST):
                self._relisted.clear()
            try:
                came_up = self.audit.came_up()
                if came_up is not None:
                    _die(f"the cluster has {came_up.plural} now, which are watched from the next start on")
                self.audit.once(self._stop, self.tell)
            except TrunklineError as error:
                log.warning("the API could not be compared with: %s", error.message)

    def _wait_for_trunk(self) -> bool:
        """Wait until one repository was read: the models of others stand aside until theirs is, however long."""
        while not self._has_read() and not self._stop.wait(0.05):
            pass
        return not self._stop.is_set()

    def _has_read(self) -> bool:
        return any(site.trunk.shared is not None for site in self.desk.bindings.sites)

    def _resync_forever(self) -> None:
        """Look at every model once in ``resync`` seconds, one after the other, so that there is never a crowd."""
        while not self._stop.is_set():
            keys = self.desk.informer.models()
            began = time.monotonic()
            for number, key in enumerate(keys):
                if self._stop.wait(max(0.0, began + self.resync * (number + 1) / len(keys) - time.monotonic())):
                    return
                self.desk.queue.add(key, Priority.ROUTINE)
            if not keys:
                self._stop.wait(min(self.resync, 5.0))

    def _thread(self, name: str, run: Callable[[], None]) -> None:
        """Start a thread that lives as long as the process: one that ends before takes the process with it."""

        def guarded() -> None:
            try:
                run()
            except BaseException:
                log.exception("the %s thread failed", name)
            if not self._stop.is_set():
                _die(f"the {name} thread ended")

        thread = Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _gauges(self) -> Iterator[tuple[str, str, dict[str, str], float]]:
        desk = self.desk
        yield "trunkline_queue_depth", "Models that wait in line.", {}, desk.queue.depth
        yield "trunkline_queue_oldest_seconds", "How long the oldest one has waited.", {}, desk.queue.oldest()
        yield "trunkline_passes_running", "Passes that run now.", {}, desk.queue.working
        yield "trunkline_leader", "1 where this replica works.", {}, float(self.lease.held)
        yield "trunkline_watch_missed_objects", "What the watch did not tell of.", {}, self.audit.missed
        for site in desk.bindings.sites:
            labels = {"repository": site.trunk.name}
            yield "trunkline_repository_up", "1 where the last look succeeded.", labels, float(site.trunk.answers)
        yield "trunkline_models", "ModelSpecs in the cluster.", {}, desk.informer.count(MODEL_SPEC)
        for (type_, status), count in sorted(desk.informer.conditions().items()):
            labels = {"type": type_, "status": status}
            yield "trunkline_conditions", "Models by condition.", labels, count
