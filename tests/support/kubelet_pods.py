"""The life of one pod of the process kubelet, from being scheduled to being gone, told in its status."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.kubelet_mirror import Mirror, Trouble
from tests.support.kubelet_probes import Probes
from tests.support.kubelet_process import ContainerProcess, Surroundings

Object = dict[str, Any]
FINALIZER = "kubelet.test/running"
"""Keeps a deleted pod until its process has ended, as the grace period of a real API server does."""
STEP = 0.03
_CRASH_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)


def now() -> str:
    """Give the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Node:
    """What all pods share: where they run, and what tests do to them."""

    mirror: Mirror
    folder: Path
    environment: Mapping[str, str]
    hurry: float
    ended: Callable[[Object], None]
    """Told about every pod that comes to its end, before it may vanish."""
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set nothing is written."""
    bad_images: set[str] = field(default_factory=set)
    missing_nodes: set[tuple[str, str]] = field(default_factory=set)


class PodLife:
    """One pod. ``live`` is its task; ``doom`` and ``crash`` are how others meddle."""

    def __init__(self, pod: Object, node: Node) -> None:
        self.pod, self._node = pod, node
        metadata = pod["metadata"]
        self.surroundings = Surroundings(pod, node.folder / f"{metadata['namespace']}_{metadata['name']}")
        self._doom = asyncio.Event()
        self.verdict = ""
        """Evicted or OOMKilled, where that is how it ended."""
        self.process: ContainerProcess | None = None
        self.ready = False
        self._restarts = 0
        self._last: Object = {}
        self._started = now()
        self._sources: dict[str, Object] = {}
        self._scheduled: Object = {"type": "PodScheduled", "status": "True"}

    @property
    def doomed(self) -> bool:
        """Whether the pod is deleted."""
        return self._doom.is_set()

    def doom(self) -> None:
        """Say that the pod is deleted."""
        self._doom.set()

    @property
    def log(self) -> Path:
        """The log of the newest start."""
        return self.surroundings.folder / f"{self._restarts}.log"

    async def live(self) -> None:
        """Run the pod to its end, and let it go once it is deleted."""
        ended = self.pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if not ended and await self._may_start():
            await self._run()
        await self._doom.wait()
        await self._let_go()

    def crash(self, number: int = signal.SIGKILL, verdict: str = "") -> None:
        """End its process by a signal."""
        self.verdict = verdict
        if self.process is not None:
            self.process.signal(number)

    def kill(self) -> None:
        """End its process at once, and say nothing more of it."""
        if self.process is not None:
            self.process.finish()

    async def _may_start(self) -> bool:
        """Wait for a node, the image and the environment; False where the pod is deleted, or evicted, before that."""
        while not self.doomed:
            trouble = self._unschedulable() or await self._waits_for()
            if not trouble:
                return True
            await self._write("Pending", trouble.get("state", {}))
            await asyncio.sleep(STEP)
        return False

    def _unschedulable(self) -> Object:
        wanted = self.pod["spec"].get("nodeSelector", {}).items()
        missing = [item for item in wanted if item in self._node.missing_nodes]
        self._scheduled = {"type": "PodScheduled", "status": "False" if missing else "True"}
        if not missing:
            return {}
        words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
        self._scheduled |= {"reason": "Unschedulable", "message": words}
        return {"pending": True}

    async def _waits_for(self) -> Object:
        """Say what the container waits for; empty where for nothing."""
        image = self.surroundings.container["image"]
        if image in self._node.bad_images:
            pulled = self.pod.get("status", {}).get("containerStatuses")
            words = f"failed to pull and unpack image {image!r}: not found"
            reason = "ImagePullBackOff" if pulled else "ErrImagePull"
            words = f'Back-off pulling image "{image}": ErrImagePull: {words}' if pulled else words
            return {"state": {"waiting": {"reason": reason, "message": words}}}
        namespace = self.pod["metadata"]["namespace"]
        for plural, name in self.surroundings.sources():
            try:
                path = f"/api/v1/namespaces/{namespace}/{plural}/{name}"
                self._sources[f"{plural}/{name}"] = await self._node.mirror.ask("GET", path)
            except Trouble:
                words = f'{plural.removesuffix("s")} "{name}" not found'
                return {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": words}}}
        return {}

    async def _run(self) -> None:
        """Start the container, again and again where the pod's policy says so."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        terminated = await self._once()
        while True:
            again = policy == "Always" or (policy == "OnFailure" and terminated["exitCode"] != 0)
            if self.doomed or self.verdict == "Evicted" or not again:
                phase = "Succeeded" if terminated["exitCode"] == 0 and self.verdict != "Evicted" else "Failed"
                await self._write(phase, {"terminated": terminated})
                self._node.ended(self.pod)
                return
            pause = _CRASH_PAUSES[min(self._restarts, len(_CRASH_PAUSES) - 1)]
            metadata = self.pod["metadata"]
            words = (f"back-off {10 * 2**self._restarts}s restarting failed container={self._name} "
                     f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})")  # fmt: skip
            self._restarts, self._last = self._restarts + 1, {"terminated": terminated}
            await self._write("Running", {"waiting": {"reason": "CrashLoopBackOff", "message": words}})
            await asyncio.sleep(pause)
            terminated = terminated if self.doomed else await self._once()

    async def _once(self) -> Object:
        """Run the container's process once; give how it ended."""
        begun, self.verdict = now(), ""
        self._project()
        environment = self.surroundings.environment(self._node.environment, self._sources)
        try:
            process = ContainerProcess(self.surroundings.command(), environment, self.surroundings.folder, self.log)
        except OSError as error:
            return self._ending(begun, 128, "StartError", f"exec: {error}")
        self.process = process
        probes = Probes(self.surroundings.container, self.surroundings.address, self._node.hurry)
        try:
            self.ready = await probes.look()
            await self._write("Running", {"running": {"startedAt": begun}}, started=probes.started)
            while process.code is None:
                if self.doomed or probes.failed:
                    await self._shut_down(process)
                    break
                self._project()
                ready = await probes.look()
                if ready != self.ready:
                    self.ready = ready
                    await self._write("Running", {"running": {"startedAt": begun}}, started=probes.started)
                await asyncio.sleep(STEP)
        finally:
            self.ready = False
            await probes.close()
            process.finish()
        code = process.code or 0
        reason = self.verdict or ("Completed" if code == 0 else "Error")
        policy = self.surroundings.container.get("terminationMessagePolicy", "File")
        return self._ending(begun, code, reason, process.last_words(code, policy))

    def _project(self) -> None:
        namespace = self.pod["metadata"]["namespace"]
        self.surroundings.project(lambda name: self._node.mirror.get("ConfigMap", namespace, name))

    async def _shut_down(self, process: ContainerProcess) -> None:
        """Ask it to end, as long as the pod's grace period lasts."""
        self.ready = False
        sleep = self.surroundings.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        await asyncio.sleep(sleep.get("seconds", 0) / self._node.hurry)
        process.signal(signal.SIGTERM)
        give_up = time.monotonic() + self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        while process.code is None and time.monotonic() < give_up:  # noqa: ASYNC110  nobody else waits for it
            await asyncio.sleep(STEP)

    async def _let_go(self) -> None:
        """Let a deleted pod vanish."""
        while (found := self._node.mirror.live("Pod", self.pod)) is not None:
            with suppress(Trouble):
                await self._node.awake.wait()
                left = [name for name in found["metadata"].get("finalizers", ()) if name != FINALIZER]
                await self._node.mirror.finalizers("Pod", found, left)
            await asyncio.sleep(STEP)

    @property
    def _name(self) -> str:
        return str(self.surroundings.container["name"])

    def _ending(self, begun: str, code: int, reason: str, message: str) -> Object:
        ending = {"exitCode": code, "reason": reason, "startedAt": begun, "finishedAt": now()}
        return ending | ({"message": message} if message else {})

    async def _write(self, phase: str, state: Object, *, started: bool = False) -> None:
        """Write the pod's status unless it says so already; again and again until the server takes it."""
        status: Object = {"phase": phase, "conditions": self._conditions(), "hostIP": "127.0.0.1",
                          "reason": None, "message": None}  # fmt: skip
        if self.verdict == "Evicted":
            words = "The node was low on resource: memory."
            status |= {"reason": "Evicted", "message": words}
        if self._scheduled["status"] == "True":
            image = self.surroundings.container["image"]
            status |= {"startTime": self._started, "podIP": self.surroundings.host, "containerStatuses": [{
                "name": self._name, "image": image, "imageID": "", "ready": self.ready, "started": started,
                "restartCount": self._restarts, "state": state, "lastState": self._last,
            }]}  # fmt: skip
        wanted = {key: value for key, value in status.items() if value is not None}
        while self._node.mirror.live("Pod", self.pod) is not None:
            await self._node.awake.wait()
            if self.pod.get("status") == wanted:
                return
            with suppress(Trouble):
                self.pod = await self._node.mirror.merge("Pod", self.pod, {"status": status}, "/status")
                return
            await asyncio.sleep(0.1)

    def _conditions(self) -> list[Object]:
        """Give the conditions, in which a time is that of the last change."""
        ready = "True" if self.ready else "False"
        wanted = [self._scheduled, {"type": "Initialized", "status": "True"},
                  {"type": "ContainersReady", "status": ready}, {"type": "Ready", "status": ready}]  # fmt: skip
        if self._scheduled["status"] == "False":
            wanted = wanted[:1]
        if self.verdict == "Evicted":
            words = "The node was low on resource: memory."
            wanted.append({"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                           "message": words})  # fmt: skip
        return stamped(wanted, self.pod.get("status", {}).get("conditions", ()))


def stamped(wanted: list[Object], known: Any) -> list[Object]:
    """Give conditions with the time of their last change, from what is known of them."""
    times = {(old["type"], old["status"]): old.get("lastTransitionTime") for old in known}
    return [{"lastTransitionTime": times.get((new["type"], new["status"])) or now(), **new} for new in wanted]
