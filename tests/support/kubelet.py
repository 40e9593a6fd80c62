"""A process kubelet: plays controllers, node and garbage collector for a test API server, with local processes as pods.

Hand-written, to run whole stories through Jobs and Deployments. What it is faithful in, as far as the API shows it:

- Jobs: pods with their labels and owners, suspension, backoffLimit, pod failure policy, deadline, time to live, counts
  and conditions with the reasons and sentences of the real controller.
- Deployments: rolling updates within maxSurge and maxUnavailable, observedGeneration, counts, Available and
  Progressing with its deadline, and a write of its own (the revision annotation).
- Pods: phases, conditions, exit codes, termination messages, restarts with CrashLoopBackOff, HTTP probes, preStop
  sleep, SIGTERM and grace, eviction, out of memory, image and scheduling trouble, missing Secrets of envFrom; optional
  ConfigMaps as volumes, whose files change as those do (at once: a real kubelet takes up to a minute or so).
- Services: one address each, which leads to a ready pod chosen anew for each connection.
- Owner references: background deletion of what lost its owner; ``--cascade`` orphan and foreground.

What it is not: there are no ReplicaSets, Endpoints, Events, nodes, quotas, resource limits, other volumes but emptyDir,
users, networks or images; one container a pod, one pod a Job; no autoscaler; pauses are short. It remembers in its own
process what it did, so it must live as long as the server's pods. Its requests are the user admin's, and they meet
the server's faults like everybody's.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.apiserver import ApiServer
from tests.support.kubelet_deployments import Deployments
from tests.support.kubelet_garbage import Garbage
from tests.support.kubelet_jobs import Jobs
from tests.support.kubelet_mirror import ROOTS, Mirror, Trouble
from tests.support.kubelet_pods import Node, PodLife
from tests.support.kubelet_services import Services
from tests.support.living import alive_with, kill_all_with, until

Object = dict[str, Any]
Answer = TypeVar("Answer")
MARK = "TRUNKLINE_TEST_KUBELET"
"""Variable of all its processes, by which those that got away are found."""
_PACE = 0.02
_TICK = 0.2


class Kubelet:
    """Runs from ``with Kubelet(...)`` to its end; nothing that it started outlives it.

    ``environment`` is all that containers see of this machine. ``hurry`` divides the patience of startup and liveness
    probes and preStop pauses. Methods may be called from any thread; AssertionError where a pod is not there.
    """

    def __init__(
        self, server: ApiServer, folder: Path, *, environment: Mapping[str, str] | None = None, hurry: float = 1.0
    ) -> None:
        self._kubeconfig = server.kubeconfig_of("admin")
        self._folder = folder
        self._mark = uuid.uuid4().hex
        self._environment = {**(environment or {}), MARK: self._mark}
        self._hurry = hurry
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubelet", daemon=True)
        self._lives: dict[str, PodLife] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks = 0
        self.crashes: list[BaseException] = []
        """What went wrong inside; empty unless the kubelet itself is broken."""

    def start(self) -> Self:
        """Begin to play."""
        self._thread.start()
        self._do(self._begin())
        return self

    def stop(self) -> None:
        """Kill all that was started, and stop playing. Raises what went wrong inside."""
        if self._loop.is_closed():
            return
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        kill_all_with(MARK, self._mark)
        if self.crashes:
            raise self.crashes[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # What tests ask.

    def url(self, namespace: str, service: str) -> str:
        """Give the address of a Service, the same for ever; each connection is led to a pod that is ready then."""
        return self._do(self._services.address(namespace, service))

    def pods(self, namespace: str, owner: str = "") -> list[str]:
        """Give the names of the pods whose process runs, of one Job or Deployment if asked, oldest first."""
        return [life.pod["metadata"]["name"] for life in list(self._lives.values()) if _runs(life, namespace, owner)]

    def address(self, namespace: str, pod: str) -> str:
        """Give the address of one pod."""
        return f"http://{self._life(namespace, pod).surroundings.address}"

    def folder(self, namespace: str, pod: str) -> Path:
        """Give the folder in which a pod's emptyDir volumes are folders by name."""
        return self._life(namespace, pod).surroundings.folder

    def log(self, namespace: str, pod: str) -> str:
        """Give what the newest start of a pod's container said so far."""
        return self._life(namespace, pod).log.read_text(errors="replace")

    def look_twice(self) -> None:
        """Come back when everything was looked at twice more: what did not happen by then, will not."""
        end = self._looks + 2
        until(lambda: self._looks >= end)

    def processes(self) -> list[int]:
        """Give the numbers of all processes that live because of it."""
        return alive_with(MARK, self._mark)

    # What tests do to a cluster.

    def pause(self) -> None:
        """Write nothing more: the processes live on, the API stands still."""
        self._loop.call_soon_threadsafe(self._node.awake.clear)

    def resume(self) -> None:
        """Catch up, and go on."""
        self._loop.call_soon_threadsafe(self._node.awake.set)

    def evict(self, namespace: str, owner: str) -> None:
        """Evict the running pods of a Job or Deployment, or the pod of that name, as a node short of memory does."""
        self._crash(namespace, owner, "Evicted")

    def run_out_of_memory(self, namespace: str, owner: str) -> None:
        """End running pods as the kernel does when they need more memory than they may have."""
        self._crash(namespace, owner, "OOMKilled")

    def crash(self, namespace: str, owner: str) -> None:
        """End the processes of running pods by SIGKILL."""
        self._crash(namespace, owner, "")

    def lose_image(self, image: str) -> None:
        """Let an image be missing from now on."""
        self._loop.call_soon_threadsafe(self._node.bad_images.add, image)

    def find_image(self, image: str) -> None:
        """Let a missing image be there."""
        self._loop.call_soon_threadsafe(self._node.bad_images.discard, image)

    def lose_nodes(self, label: str, value: str) -> None:
        """Let there be no node with a label of that value."""
        self._loop.call_soon_threadsafe(self._node.missing_nodes.add, (label, value))

    def find_nodes(self, label: str, value: str) -> None:
        """Let there be such a node again."""
        self._loop.call_soon_threadsafe(self._node.missing_nodes.discard, (label, value))

    def pass_deadline(self, namespace: str, name: str) -> None:
        """Let the deadline of a Job (activeDeadlineSeconds) or Deployment (progressDeadlineSeconds) be over now."""
        for kind, overdue in (("Job", self._jobs.overdue), ("Deployment", self._deployments.overdue)):
            found = self._mirror.get(kind, namespace, name)
            if found is not None:
                self._loop.call_soon_threadsafe(overdue.add, found["metadata"]["uid"])
        self._loop.call_soon_threadsafe(self._mirror.changed.set)

    def pass_lifetimes(self) -> None:
        """Let the time to live of all Jobs that have ended be over now, where they have one."""
        for job in self._mirror.all("Job"):
            self._loop.call_soon_threadsafe(self._jobs.expired.add, job["metadata"]["uid"])
        self._loop.call_soon_threadsafe(self._mirror.changed.set)

    # How it works.

    async def _begin(self) -> None:
        self._mirror = Mirror(self._kubeconfig)
        self._jobs, self._deployments = Jobs(self._mirror), Deployments(self._mirror)
        self._garbage, self._services = Garbage(self._mirror), Services(self._mirror, self._ready_pods)
        self._node = Node(self._mirror, self._folder, self._environment, self._hurry, self._jobs.pod_ended)
        self._node.awake.set()
        for kind in ROOTS:
            self._spawn(self._mirror.follow(kind))
        self._spawn(self._play())

    async def _end(self) -> None:
        for life in self._lives.values():
            life.kill()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for life in self._lives.values():
            life.kill()
        await self._services.close()
        await self._mirror.close()

    async def _play(self) -> None:
        """Look at everything whenever something changed, and every now and then."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._mirror.changed.wait(), _TICK)
            await self._node.awake.wait()
            self._mirror.changed.clear()
            if not self._mirror.knows("Pod", "Job", "Deployment"):
                continue
            self._look_at_pods()
            await self._each("Job", self._jobs.look)
            await self._each("Deployment", self._deployments.look)
            with suppress(Trouble):
                await self._garbage.collect()
            self._looks += 1
            await asyncio.sleep(_PACE)

    def _look_at_pods(self) -> None:
        """Begin the lives of new pods, and tell those that are deleted."""
        alive: dict[str, Object] = {}
        for pod in self._mirror.all("Pod"):
            alive[pod["metadata"]["uid"]] = pod
            if pod["metadata"]["uid"] not in self._lives:
                self._lives[pod["metadata"]["uid"]] = life = PodLife(pod, self._node)
                self._spawn(life.live())
        for uid, life in list(self._lives.items()):
            if uid not in alive or "deletionTimestamp" in alive[uid]["metadata"]:
                life.doom()
            if uid not in alive and (life.process is None or life.process.code is not None):
                del self._lives[uid]

    async def _each(self, kind: str, look: Callable[[Object, list[Object]], Coroutine[Any, Any, None]]) -> None:
        """Let a controller look at each of its objects; trouble with one is for the next look."""
        by_owner: dict[str, list[Object]] = {}
        for pod in self._mirror.all("Pod"):
            for owner in pod["metadata"].get("ownerReferences", ()):
                by_owner.setdefault(owner["uid"], []).append(pod)
        for obj in self._mirror.all(kind):
            with suppress(Trouble):
                await look(obj, by_owner.get(obj["metadata"]["uid"], []))

    def _ready_pods(self, namespace: str, selector: Mapping[str, str]) -> list[tuple[str, int]]:
        """Give hosts and ports of the ready pods with these labels."""
        return [
            (life.surroundings.host, life.surroundings.port) for life in self._lives.values()
            if life.ready and not life.doomed and life.pod["metadata"]["namespace"] == namespace
            and selector.items() <= life.pod["metadata"].get("labels", {}).items()
        ]  # fmt: skip

    def _crash(self, namespace: str, owner: str, verdict: str) -> None:
        lives = [life for life in list(self._lives.values()) if _runs(life, namespace, owner)]
        assert lives, f"no pod of {namespace}/{owner} is running"
        for life in lives:
            self._loop.call_soon_threadsafe(life.crash, signal.SIGKILL, verdict)

    def _life(self, namespace: str, pod: str) -> PodLife:
        found = [life for life in list(self._lives.values())
                 if (life.pod["metadata"]["namespace"], life.pod["metadata"]["name"]) == (namespace, pod)]  # fmt: skip
        assert found, f"there is no pod {namespace}/{pod}"
        return found[-1]

    def _do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        future: Future[Answer] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.crashes.append(task.exception())  # type: ignore[arg-type]  # it is not None


def _runs(life: PodLife, namespace: str, owner: str) -> bool:
    """Whether a pod's process runs, and it is of an owner (or is the pod of that name)."""
    metadata = life.pod["metadata"]
    names = {metadata["name"], *(reference["name"] for reference in metadata.get("ownerReferences", ()))}
    running = life.process is not None and life.process.code is None and not life.doomed
    return running and metadata["namespace"] == namespace and (not owner or owner in names)
