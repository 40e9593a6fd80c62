"""Which replica works: whoever holds a Lease of the Kubernetes API and keeps renewing it.

Clocks of different machines are never compared: a lease is over when it was not renewed for as long as it lasts *as
seen from here*. Two may still believe at once (one is paused, then goes on), so every effect is safe under two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

from adapters.kubernetes_api import LEASE, KubernetesApi, Object
from specs.errors import Transient

log = logging.getLogger("trunkline.lease")

NAME = "trunkline-operator"
DURATION = 15.0
"""Seconds without renewal after which another replica may take over."""
RENEW = 5.0
"""Seconds between renewals."""
GIVE_UP = 10.0
"""Seconds without a successful renewal after which this one stops, before another one begins."""


@dataclass
class _Seen:
    """A renewal of somebody else's, and when it was first seen here."""

    renewal: tuple[str, str, int] = ("", "", 0)
    since: float = 0.0


class Lease:
    """One replica's claim. No two processes that live at the same time may have the same ``identity``."""

    def __init__(
        self, api: KubernetesApi, namespace: str, identity: str, clock: Callable[[], float], name: str = NAME
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._name = name
        self._seen = _Seen()
        self._renewed = -GIVE_UP

    @property
    def held(self) -> bool:
        """Whether this replica may work."""
        return self._clock() - self._renewed < GIVE_UP

    def acquire(self, stop: Event) -> bool:
        """Wait until the lease is ours; False where ``stop`` came first."""
        told = ""
        while not stop.is_set():
            try:
                holder = self.try_once()
            except Transient as error:
                holder = f"nobody knows ({error.message})"
            if not holder:
                log.info("this replica holds the lease %s/%s", self._namespace, self._name)
                return True
            if holder != told:
                told = holder
                log.info("standing by: the lease %s/%s is held by %s", self._namespace, self._name, holder)
            stop.wait(RENEW / 2)
        return False

    def keep(self, stop: Event) -> None:
        """Renew until told to stop; returns without it where the lease is lost."""
        while not stop.wait(RENEW if self._clock() - self._renewed < RENEW * 1.5 else 1.0):
            try:
                holder = self.try_once()
            except Transient as error:
                log.warning("the lease could not be renewed: %s", error.message)
                holder = ""
            if holder or not self.held:
                log.error("the lease is lost%s; this replica ends", f" to {holder}" if holder else "")
                self._renewed = -GIVE_UP
                return

    def release(self) -> None:
        """Let another replica begin at once; no-op where the lease is not ours."""
        self._renewed = -GIVE_UP
        found = self._api.get(LEASE, self._namespace, self._name)
        if found is not None and found["spec"].get("holderIdentity") == self._identity:
            self._api.replace(LEASE, found | {"spec": {**found["spec"], "holderIdentity": ""}})

    def try_once(self) -> str:
        """Take or renew the lease; gives who has it otherwise. Transient where the API does not answer."""
        asked = self._clock()
        found = self._api.get(LEASE, self._namespace, self._name)
        if found is None:
            metadata = {"namespace": self._namespace, "name": self._name}
            mine = self._api.create(LEASE, {"metadata": metadata, "spec": self._spec(None)})
            if not mine:
                return "another replica"
            self._renewed = asked
            return ""
        holder = str(found["spec"].get("holderIdentity") or "")
        if holder not in ("", self._identity) and not self._is_over(found["spec"], holder):
            return holder
        try:
            self._api.replace(LEASE, found | {"spec": self._spec(found["spec"])})
        except Transient as error:
            if error.reason == "KubernetesConflict":  # somebody was quicker; the next look tells who
                return holder if holder not in ("", self._identity) else "another replica"
            raise
        self._renewed = asked  # counted from before the request: it may have waited on its way
        return ""

    def _is_over(self, spec: Object, holder: str) -> bool:
        renewal = (holder, str(spec.get("renewTime")), int(spec.get("leaseTransitions") or 0))
        if renewal != self._seen.renewal:
            self._seen = _Seen(renewal, self._clock())
        return self._clock() - self._seen.since > float(spec.get("leaseDurationSeconds") or DURATION)

    def _spec(self, before: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        was = before or {}
        same = was.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION), "renewTime": now,
            "acquireTime": was.get("acquireTime", now) if same else now,
            "leaseTransitions": int(was.get("leaseTransitions") or 0) + (0 if same or before is None else 1),
        }  # fmt: skip
