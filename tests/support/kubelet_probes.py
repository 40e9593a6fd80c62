"""The probes of a container, asked over HTTP at the address that it really has."""

from __future__ import annotations

import time
from typing import Any

import aiohttp

Object = dict[str, Any]
_PACE, _READY_PACE = 0.1, 0.3
"""Seconds between two looks: at a container that is not ready, and at one that is."""


class Probes:
    """Asks more often than real probes do, but loses patience no sooner (``hurry`` times sooner, if given)."""

    def __init__(self, container: Object, address: str, hurry: float) -> None:
        self._probes = {kind: container.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness")}
        self._address, self._hurry = address, hurry
        self._client = aiohttp.ClientSession()
        self._next = 0.0
        self._well_since: dict[str, float] = {}
        """When a probe succeeded last, or was asked first."""
        self.started = self._probes["startup"] is None
        self.ready = False
        self.failed = False
        """Whether the container must be killed for its startup or liveness probe."""

    async def look(self) -> bool:
        """Ask where it is time to; whether the container is ready."""
        if time.monotonic() < self._next:
            return self.ready
        self._next = time.monotonic() + (_READY_PACE if self.ready else _PACE)
        if not self.started:
            self.started = await self._well("startup")
            self.failed = self._out_of_patience("startup")
        if self.started:
            await self._well("liveness")
            self.failed = self._out_of_patience("liveness")
            self.ready = await self._well("readiness") or (self.ready and not self._out_of_patience("readiness"))
        return self.ready

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    async def _well(self, kind: str) -> bool:
        probe = self._probes[kind]
        if probe is None:
            return True
        self._well_since.setdefault(kind, time.monotonic() + probe.get("initialDelaySeconds", 0) / self._hurry)
        asked = probe["httpGet"]
        url = f"http://{self._address}{asked.get('path', '/')}"
        try:
            timeout = aiohttp.ClientTimeout(total=probe.get("timeoutSeconds", 1))
            async with self._client.get(url, timeout=timeout) as answer:
                if answer.status >= 400:
                    return False
        except (aiohttp.ClientError, TimeoutError):
            return False
        self._well_since[kind] = time.monotonic()
        return True

    def _out_of_patience(self, kind: str) -> bool:
        probe = self._probes[kind]
        if probe is None:
            return False
        patience = probe.get("failureThreshold", 3) * probe.get("periodSeconds", 10) / self._hurry
        return time.monotonic() - self._well_since[kind] > float(patience)
