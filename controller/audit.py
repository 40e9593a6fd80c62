"""Comparing what the watches told with what the API lists: before the first pass, and every now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event

from adapters.kubernetes_api import (
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    MODEL_SPEC,
    SERVICE,
    TRAIN_JOB,
    Kind,
    KubernetesApi,
    Object,
)  # fmt: skip
from adapters.kubernetes_pods import selector
from adapters.kubernetes_triton import service_behind
from controller.informer import KINDS, OPTIONAL, Change, Informer, Name
from specs.errors import TrunklineError

log = logging.getLogger("trunkline.audit")

OURS = selector()
GRACE = 5.0
"""Seconds that the watch may be behind a list."""
_SELECTED: dict[Kind, dict[str, str]] = {
    MODEL_SPEC: {}, JOB: OURS, DEPLOYMENT: OURS, SERVICE: OURS, INFERENCE_SERVICE: OURS, TRAIN_JOB: OURS,
}  # fmt: skip


class Audit:
    """Finds what a watch did not tell. ``namespaces``: those that are watched; empty means all."""

    def __init__(self, api: KubernetesApi, informer: Informer, namespaces: Sequence[str]) -> None:
        self._api = api
        self._informer = informer
        self._namespaces = tuple(namespaces) or ("",)
        self._alone: dict[Name, Change] = {}
        """Services that are missing, and whose model they belong to."""
        self._absent: set[Kind] = set()
        """Kinds that the cluster did not know when this process began, so that nobody watches them."""
        self.missed = 0
        """Objects that two audits in a row found unknown or old here; in a burst a watch may well be late once."""
        self._suspected = False

    def reachable(self, namespace: str, name: str) -> bool:
        """Whether the last look found that Service, which Deployments of ours need (or was not after it yet)."""
        return (namespace, name) not in self._alone

    def wait_for(self, kind: Kind, stop: Event) -> bool:
        """Wait until everything of a kind that is listed is known here; False where ``stop`` came first."""
        while not stop.is_set():
            try:
                if kind in OPTIONAL and not self._api.serves(kind):
                    log.info("the cluster has no %s", kind.plural)
                    self._absent.add(kind)
                    self._informer.mark_synced(kind)
                    return True
                if self._settles(kind, self._list(kind), stop, 30.0):
                    self._informer.mark_synced(kind)
                    return True
            except TrunklineError as error:
                log.warning("waiting for the API: %s", error.message)
                stop.wait(2)
        return False

    def came_up(self) -> Kind | None:
        """Give a kind that the cluster knows by now, and did not when this process began to watch; None where none."""
        return next((kind for kind in self._absent if self._api.serves(kind)), None)

    def once(self, stop: Event, tell: Callable[[Change], None]) -> None:
        """Compare all kinds once: ``tell`` gets what vanished; counts what the watch missed."""
        missed = 0
        for kind in (kind for kind in KINDS if kind not in self._absent):
            before = self._informer.snapshot(kind)
            listed = self._list(kind)
            for change in self._informer.vanished(kind, before, listed):
                tell(change)
            if not self._settles(kind, listed, stop, GRACE):
                missed += len(self._informer.missing(kind, listed))
        self._look_for_services(tell)
        self.missed = missed if self._suspected else 0
        self._suspected = missed > 0
        if missed:
            log.error("the watch has not told of %d objects that the API lists", missed)

    def _look_for_services(self, tell: Callable[[Change], None]) -> None:
        """Find Deployments whose Service was deleted: nobody watches Services, for they never change by themselves."""
        there = {_name(metadata) for metadata in self._list(SERVICE)}
        was, self._alone = self._alone, {}
        for name in self._informer.snapshot(DEPLOYMENT).keys() - there:
            change = self._informer.owner_of(DEPLOYMENT, name)
            service = service_behind(name[1], change.key.name) if change is not None else ""
            if change is not None and service and (name[0], service) not in there:
                self._alone[name[0], service] = change
        for change in (was | self._alone).values():
            tell(change)

    def _settles(self, kind: Kind, listed: Sequence[Object], stop: Event, patience: float) -> bool:
        """Wait until nothing listed is missing here, at most ``patience`` seconds."""
        left = patience
        missing = self._informer.missing(kind, listed)
        while missing and left > 0 and not stop.wait(0.1):
            left -= 0.1
            wanted = set(missing)
            missing = self._informer.missing(kind, [one for one in listed if _name(one) in wanted])
        return not missing

    def _list(self, kind: Kind) -> list[Object]:
        found: list[Object] = []
        if kind in OPTIONAL and not self._api.serves(kind):  # what it was told of is gone with it
            return found
        for namespace in self._namespaces:
            found += self._api.names(kind, namespace, labels=_SELECTED[kind])
        return found


def _name(metadata: Object) -> Name:
    return (metadata["namespace"], metadata["name"])
