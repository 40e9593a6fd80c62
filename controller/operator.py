"""The operator: ``kopf run -m controller.operator --all-namespaces --standalone``.

kopf is the informer and nothing else: a low-level handler for each kind that hands events on in microseconds. No
handler of its would write an annotation, set a finalizer or keep state in an object (DESIGN section 7); all decisions
are made by workers, one model at a time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf

from adapters.kubernetes_api import DEPLOYMENT, JOB, Kind
from adapters.kubernetes_pods import MANAGED_BY, US
from controller.host import Host
from controller.informer import KINDS, OPTIONAL

BEAT = 1.0
_OURS = f"{MANAGED_BY}={US}"


class _NoEssence(kopf.DiffBaseStorage):
    """What kopf compares objects with to find out what changed in them: nothing, for no handler of ours asks.

    Its own storage copies every object of every event for this, a fifth of the time that it spends on one.
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Give nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> None:
        """Give nothing: nothing is ever stored."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


class Backoffs:
    """Pauses between tries of a request, without an end: a process that gives up on the API comes back to the same API.

    Long outages show in the metrics and in the probes instead.
    """

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
            pause = min(pause * 2, 30.0)


def install(registry: kopf.OperatorRegistry, make: Callable[[], Host]) -> None:
    """Add the handlers to a registry. ``make`` puts the host together when the operator starts."""
    running: dict[str, Any] = {}

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: object) -> None:
        configure(settings)
        host = running["host"] = make()
        running["beat"] = asyncio.create_task(_beat(host))
        host.listen()
        try:
            acquired = await asyncio.to_thread(host.acquire)
        except asyncio.CancelledError:
            host.stop()
            raise
        if acquired:
            host.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: object) -> None:
        if "host" in running:
            await asyncio.to_thread(running["host"].stop)
            running["beat"].cancel()

    def watch(kind: Kind) -> None:
        group, _, version = kind.api_version.rpartition("/")

        @kopf.on.event(group, version, kind.plural, registry=registry, id=kind.plural)
        async def saw(event: kopf.RawEvent, **_: object) -> None:
            running["host"].saw(kind, event["type"], event["object"])

    # What the cluster does not know when kopf starts is not watched; the audit ends the process once that changes.
    for kind in KINDS:
        watch(kind)


def configure(settings: kopf.OperatorSettings) -> None:
    """Set kopf up; each line with its reason."""
    # Every event that our handlers took in is worth a line to kopf, and none to us.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    # httpx tells of every request to a forge.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # kopf only lists and watches here. A list of ten thousand objects may take a slow server a minute; one that is cut
    # off before its end is asked for again, for ever.
    settings.networking.request_timeout = 300
    settings.networking.connect_timeout = 5
    # kopf ends the process when these run out.
    settings.networking.error_backoffs = Backoffs()
    # The API server's own flow control knows better than we do when to come back.
    settings.networking.enforce_retry_after = True
    # Connections that are dead without saying so are noticed by silence (bookmarks come every minute), and none is
    # older than ten minutes.
    settings.watching.inactivity_timeout = 70
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 630
    settings.watching.reconnect_backoff = 1
    # One list, not pages: a page's token that expires ends the process.
    settings.watching.chunk_size = None
    # What others have of these kinds stays with the API server.
    for kind in (JOB, DEPLOYMENT, *OPTIONAL):
        group, _, version = kind.api_version.rpartition("/")
        settings.watching.label_selectors[group, version, kind.plural] = _OURS
    # Our handlers take microseconds; a limit would only make them wait for idle workers to go away.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1
    settings.queueing.exit_timeout = 5
    # Shorter than the pod's terminationGracePeriodSeconds.
    settings.process.ultimate_exiting_timeout = 25
    # There are no handlers that run in threads.
    settings.execution.max_workers = 1
    # Should a finalizer ever be needed, it is ours by name; nothing sets one today.
    settings.persistence.finalizer = "trunkline.dev/operator"
    settings.persistence.diffbase_storage = _NoEssence()
    # Our events are posted by ourselves, on transitions; kopf's log lines are no events.
    settings.posting.enabled = False
    # The Lease decides who works; kopf's peering pauses everybody at equal priority.
    settings.peering.standalone = True
    # The kinds are known and the CRD is installed before: no need for the right to watch CRDs and namespaces.
    settings.scanning.disabled = True


async def _beat(host: Host) -> None:
    """Show that the event loop turns."""
    while True:
        host.beat = time.monotonic()
        await asyncio.sleep(BEAT)


def _from_environment() -> Host:
    from controller.cluster import host

    return host()


install(kopf.get_default_registry(), _from_environment)
