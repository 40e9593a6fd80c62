"""The real operator, with every effect counted, and killed at the ones it is told to be killed at.

Run as a process: ``python -m tests.support.crashing_operator``, which forks each life. The variable CRASH is ``never``,
``before`` or ``after``, STORY_LOG the folder where effects and deaths are noted. An effect is a request that changes
something in the API (its lease excepted: that is how it lives, not what it does), or a call that changes git or the
forge. Each one kills the operator once (SIGKILL): just before it, or just after it, which is also what a lost answer
looks like.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kopf

from adapters.kubernetes_api import KubernetesApi
from controller import cluster
from controller.cluster import Parts
from controller.operator import install
from specs.digests import digest_of
from tests.support.living import live_on

PORTS = {"repository": ("commit_files", "push", "delete_branch"), "forge": ("open", "update", "close")}
LOG, WHEN = Path(os.environ["STORY_LOG"]), os.environ["CRASH"]


def effect(name: str, call: Callable[[], Any]) -> Any:
    """Do something, and die of it once."""
    if WHEN == "before":
        _die_once(name)
    answer = call()
    if WHEN == "after":
        _die_once(name)
    _note("effects", name)
    return answer


def _die_once(name: str) -> None:
    killed = LOG / "killed"
    if killed.exists() and name in killed.read_text().splitlines():
        return
    _note("killed", name)
    os.kill(os.getpid(), signal.SIGKILL)


def _note(name: str, text: str) -> None:
    with (LOG / name).open("a") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


class CrashingApi(KubernetesApi):
    """The API, of which each new write is deadly."""

    def _send(self, request: Any) -> tuple[int, bytes]:
        if request.method == "GET" or "/leases" in request.path:
            return super()._send(request)
        answer: tuple[int, bytes] = effect(_name(request), lambda: super(CrashingApi, self)._send(request))
        return answer


def _name(request: Any) -> str:
    """Name a write by what it is about, without what differs from try to try: uids, versions, times, event names."""
    body = json.loads(request.body)
    if request.path.endswith("/status"):
        conditions = body["status"].get("conditions", [])
        about = " ".join(f"{c['type']}={c['status']}/{c['reason']}" for c in conditions)
        serving = body["status"].get("serving", {})
        return f"api.status {serving.get('version')} {serving.get('replicas')} {about}"
    if body.get("kind") == "Event":
        return f"api.event {body['reason']}"
    metadata = body.get("metadata", {})
    kept = {key: value for key, value in metadata.items() if key in ("annotations", "labels")}
    return f"api.{request.method.lower()} {request.path} {digest_of([kept, body.get('spec')])[7:19]}"


class CrashingPort:
    """A port whose effects are deadly."""

    def __init__(self, port: Any, name: str) -> None:
        self._port, self._name = port, name

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if method not in PORTS[self._name]:
            return found

        def counted(*args: Any, **named: Any) -> Any:
            return effect(f"{self._name}.{method} {_about(method, args, named)}", lambda: found(*args, **named))

        return counted


def _about(method: str, args: tuple[Any, ...], named: dict[str, Any]) -> str:
    match method:
        case "commit_files":
            return str(args[2]).splitlines()[0]
        case "push":
            return f"{args[0]} {'anew' if args[2] else ''}"
        case "open":
            return str(named["branch"])
        case _:
            return str(args[0])


def between(parts: Parts) -> Parts:
    """Stand between the loop and git and forge."""
    wrapped: dict[str, Any] = {name: CrashingPort(getattr(parts.ports, name), name) for name in PORTS}
    return replace(parts, ports=replace(parts.ports, **wrapped))


def main() -> None:
    """Run until killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(kopf.login_with_kubeconfig)
    install(registry, lambda: cluster.host(between, CrashingApi))
    kopf.run(registry=registry, clusterwide=True, standalone=True)


if __name__ == "__main__":
    sys.exit(live_on(main))
