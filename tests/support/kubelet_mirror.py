"""What the process kubelet sees of a cluster: objects as watches last showed them, and its own writes at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.apiserver import MERGE
from tests.support.kubeconfig import access

Object = dict[str, Any]
ROOTS = {
    "Pod": "/api/v1/pods", "Service": "/api/v1/services", "ConfigMap": "/api/v1/configmaps",
    "Job": "/apis/batch/v1/jobs",
    "Deployment": "/apis/apps/v1/deployments", "ModelSpec": "/apis/trunkline.dev/v1alpha1/modelspecs",
    "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/horizontalpodautoscalers",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
}  # fmt: skip
"""What is watched: everything that owns, or is owned."""
_AGAIN, _UNKNOWN_AGAIN = 0.1, 0.5
"""Seconds before a watch is tried again: one that broke, one of a kind that is not installed."""

_PATIENCE = aiohttp.ClientTimeout(total=10)
_NO_PATIENCE_NEEDED = aiohttp.ClientTimeout(total=None, sock_connect=10)
_LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one event of a watch."""


class Trouble(Exception):
    """The server did not do what was asked; looking again later is all there is to do."""


class Mirror:
    """Objects by kind, namespace and name. Lives in one event loop; ``follow`` is its task."""

    def __init__(self, kubeconfig: Path) -> None:
        url, headers, trust = access(kubeconfig)
        self._client = aiohttp.ClientSession(
            url, headers=headers, connector=aiohttp.TCPConnector(ssl=trust, limit=0), timeout=_PATIENCE,
            read_bufsize=_LONGEST_LINE,
        )  # fmt: skip
        self._objects: dict[str, dict[tuple[str, str], Object]] = {kind: {} for kind in ROOTS}
        self._versions: dict[str, str] = {}
        self._gone: dict[tuple[str, str, str], int] = {}
        self.changed = asyncio.Event()

    def knows(self, *kinds: str) -> bool:
        """Whether these kinds were seen whole at least once."""
        return all(kind in self._versions for kind in kinds)

    def all(self, kind: str) -> list[Object]:
        """Give all objects of a kind."""
        return list(self._objects[kind].values())

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Give an object, or None."""
        return self._objects[kind].get((namespace, name))

    def live(self, kind: str, obj: Object) -> Object | None:
        """Give an object as it is now; None where it is gone, also if another one took its name."""
        found = self.get(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
        return found if found is not None and found["metadata"]["uid"] == obj["metadata"]["uid"] else None

    def owned(self) -> Iterator[tuple[str, Object]]:
        """Give all objects that have an owner, with their kinds."""
        for kind, objects in self._objects.items():
            yield from ((kind, obj) for obj in list(objects.values()) if obj["metadata"].get("ownerReferences"))

    async def create(self, kind: str, manifest: Object) -> Object:
        """Create an object."""
        path = _path(kind, manifest, named=False)
        return self._put(kind, await self.ask("POST", path, json=manifest))

    async def merge(self, kind: str, obj: Object, change: Object, part: str = "") -> Object:
        """Change an object by a JSON merge patch; Trouble where it is gone."""
        words = {"data": json.dumps(change), "headers": {"Content-Type": MERGE}}
        return self._put(kind, await self.ask("PATCH", _path(kind, obj) + part, **words))

    async def finalizers(self, kind: str, obj: Object, left: list[str]) -> None:
        """Set the finalizers of an object, which may be gone with the last."""
        change = {"metadata": {"finalizers": left or None, "resourceVersion": obj["metadata"]["resourceVersion"]}}
        await self.ask("PATCH", _path(kind, obj), data=json.dumps(change), headers={"Content-Type": MERGE})

    async def replace(self, kind: str, obj: Object) -> Object:
        """Write an object whole; Trouble where it changed meanwhile."""
        return self._put(kind, await self.ask("PUT", _path(kind, obj), json=obj))

    async def delete(self, kind: str, obj: Object) -> None:
        """Delete this very object, and in the background what it owns."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": obj["metadata"]["uid"]}}
        await self.ask("DELETE", _path(kind, obj), json=options)

    async def ask(self, method: str, path: str, **how: Any) -> Object:
        """Send one request; Trouble for all answers but success."""
        try:
            async with self._client.request(method, path, **how) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"{method} {path}: {type(error).__name__}"
            raise Trouble(message) from error
        if not answer.ok:
            message = f"{method} {path}: {answer.status} {text[:500]}"
            raise Trouble(message)
        return dict(json.loads(text))

    async def follow(self, kind: str) -> None:
        """Watch a kind for ever, through cut connections, outages and histories that were compacted away."""
        while True:
            try:
                if not self._versions.get(kind):
                    await self._list(kind)
                await self._stream(kind)
            except (Trouble, aiohttp.ClientError, TimeoutError) as trouble:
                await asyncio.sleep(_UNKNOWN_AGAIN if " 404 " in str(trouble) else _AGAIN)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.close()

    async def _list(self, kind: str) -> None:
        page = await self.ask("GET", ROOTS[kind])
        version = page["metadata"]["resourceVersion"]
        items = {_name(item): item for item in page["items"]}
        for name in self._objects[kind].keys() - items.keys():
            self._drop(kind, name, int(version))
        for item in items.values():
            self._put(kind, item)
        self._versions[kind] = version
        self.changed.set()

    async def _stream(self, kind: str) -> None:
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
        query["resourceVersion"] = self._versions[kind]
        path = ROOTS[kind]
        async with self._client.get(path, params=query, timeout=_NO_PATIENCE_NEEDED) as answer:
            if not answer.ok:
                if answer.status == 410:
                    self._versions[kind] = ""
                message = f"watch {path}: {answer.status} {await answer.text()}"
                raise Trouble(message)
            async for line in answer.content:
                self._versions[kind] = self._take(kind, json.loads(line))
                if not self._versions[kind]:
                    return

    def _take(self, kind: str, event: Object) -> str:
        """Learn from an event; give the version it stands for, or none where everything must be listed anew."""
        if event["type"] == "ERROR":
            return ""
        obj = event["object"]
        if event["type"] == "DELETED":
            self._drop(kind, _name(obj), _version(obj))
        elif event["type"] != "BOOKMARK":
            self._put(kind, obj)
        self.changed.set()
        return str(obj["metadata"]["resourceVersion"])

    def _put(self, kind: str, obj: Object) -> Object:
        """Keep an object unless something newer is known of its name, be it that it is gone."""
        name, version = _name(obj), _version(obj)
        known = self._objects[kind].get(name)
        if version > self._gone.get((kind, *name), 0) and (known is None or _version(known) <= version):
            self._objects[kind][name] = obj
        self.changed.set()
        return obj

    def _drop(self, kind: str, name: tuple[str, str], version: int) -> None:
        known = self._objects[kind].get(name)
        if known is not None and _version(known) <= version:
            del self._objects[kind][name]
        self._gone[kind, *name] = max(version, self._gone.get((kind, *name), 0))


def _path(kind: str, obj: Object, *, named: bool = True) -> str:
    root, _, plural = ROOTS[kind].rpartition("/")
    metadata = obj["metadata"]
    path = f"{root}/namespaces/{metadata['namespace']}/{plural}"
    return f"{path}/{metadata['name']}" if named else path


def _name(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
