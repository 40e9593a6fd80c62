"""Requests under constant load, while releases come and go and servers die: how many fail, and what waiting costs.

    python -m benchmarks.rollouts [--rollouts 20] [--kills 5] [--rate 100] [--gap 0.2]

Two replicas, each a server in a process group of its own that the local host (``adapters.servers_local``) looks after.
The client sends at a constant rate, whether or not answers come (at most ``IN_FLIGHT`` at once), and does what any load
balancer does: it takes turns, asks each replica whether it is ready, and sends a request whose connection was refused,
or died before an answer came, to the other one. Time counts from when a request was due. Goal: none fails.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import aiohttp

from adapters.servers_local import LocalServers, Patience
from adapters.store import Store
from specs.digests import hex_of
from specs.errors import Transient
from specs.serving import ServerOptions
from specs.serving_facts import Rejected, ServingTarget, Share
from tests.support import onnx_models

NAME = "bench"
IN_FLIGHT = 64
STANDBY = 600.0
LOOK = 0.05
"""Seconds between two looks whether something is so."""
STEPS = (Share(0), Share(1, mirror=100), Share(2, weight=10), Share(3, weight=50))
"""Of a rollout through a canary."""


@dataclass
class Phase:
    """What happened to the requests of one stretch of time."""

    title: str
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    elsewhere: int = 0
    """Answered by the other replica, after the first one broke off."""
    seconds: list[float] = field(default_factory=list)
    events: int = 0
    answered_by: set[str] = field(default_factory=set)

    def quantile(self, share: float) -> float:
        """Give a quantile of the times, in milliseconds."""
        ordered = sorted(self.seconds) or [0.0]
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def line(self) -> str:
        """Give a row of the table."""
        times = "  ".join(f"{self.quantile(share):8.1f}" for share in (0.5, 0.99, 1.0))
        return f"{self.title:36} {self.events:6}  {self.sent:8}  {len(self.failed):6}  {self.elsewhere:9}  {times}"


HEAD = f"{'':36} events  requests  failed  elsewhere    p50 ms    p99 ms    max ms"


class Replica:
    """One server with its own state, as a node would have it; both have the same store."""

    def __init__(self, folder: Path, store: str, port: int = 0) -> None:
        self.folder = folder / "server"
        self.servers = LocalServers(
            folder, store, command=[sys.executable, "-m", "workloads.serve"], port=port,
            environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
            patience=Patience(start=60, restart=0),
        )  # fmt: skip
        self.url = ""
        self.ready = False

    def ask(self, target: ServingTarget, rejected: Rejected | None = None) -> None:
        """Have a target roll out, as often as it takes."""
        while True:
            try:
                state = self.servers.roll_out(target, rejected)
            except Transient:
                time.sleep(LOOK)
                continue
            if state.failure:
                raise RuntimeError(state.failure)
            self.url = state.url.partition("/v2/")[0]
            return

    def look(self) -> bool:
        """Whether it answers; a dead server is started again by this."""
        try:
            state = self.servers.state(NAME)
        except Transient:
            return False
        return state is not None and state.ready

    def kill(self, *, node: bool) -> None:
        """Kill the server, or all of its process group, as a node that is gone."""
        group = int((self.folder / "pid").read_text())
        if node:
            os.killpg(group, signal.SIGKILL)
            return
        children = Path(f"/proc/{group}/task/{group}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)


class Balancer:
    """Sends requests to replicas at a constant rate, and takes down what becomes of them."""

    def __init__(self, replicas: Sequence[Replica], rate: float, body: bytes) -> None:
        self.replicas = replicas
        self.phase = Phase("quiet")
        self.phases = [self.phase]
        self._rate = rate
        self._body = body
        self._turn = 0
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, title: str) -> Phase:
        """Have requests count for another phase from here on."""
        self.phase = Phase(title)
        self.phases.append(self.phase)
        return self.phase

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Send, until cancelled."""
        due = time.perf_counter()
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._slots.acquire()
            task = asyncio.create_task(self._send(session, due, self.phase))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            due += 1 / self._rate

    async def watch(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        """Ask a replica again and again whether it is ready, until cancelled."""
        while True:
            try:
                async with session.get(f"{replica.url}/v2/health/ready") as answer:
                    replica.ready = answer.status == 200
            except (aiohttp.ClientError, OSError, ValueError):
                replica.ready = False
            await asyncio.sleep(LOOK)

    async def settled(self) -> None:
        """Wait for the answers to everything that was sent."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _send(self, session: aiohttp.ClientSession, due: float, phase: Phase) -> None:
        phase.sent += 1
        self._turn += 1
        first = self._turn % len(self.replicas)
        order = [*self.replicas[first:], *self.replicas[:first]]
        order.sort(key=lambda replica: not replica.ready)
        trouble = ""
        try:
            for number, replica in enumerate(order):
                try:
                    status, file = await self._ask(session, replica)
                except (aiohttp.ClientError, OSError) as error:
                    replica.ready = False
                    trouble = repr(error)
                    continue
                phase.elsewhere += number > 0
                phase.answered_by.add(file)
                trouble = "" if status == 200 else f"HTTP {status}"
                break
            phase.seconds.append(time.perf_counter() - due)
            if trouble:
                phase.failed.append(trouble)
        finally:
            self._slots.release()

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> tuple[int, str]:
        headers = {"Content-Type": "image/png"}
        async with session.post(f"{replica.url}/models/{NAME}/predict", data=self._body, headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers.get("Trunkline-File", "")


async def until(true: Callable[[], bool]) -> None:
    """Let the others work until something is so."""
    while not true():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(LOOK)


class Stage:
    """Two releases, the replicas that serve them, and requests all the time."""

    def __init__(self, balancer: Balancer, targets: Sequence[ServingTarget], gap: float) -> None:
        """``gap``: seconds between two things that happen."""
        self.balancer = balancer
        self.serving = targets[0]
        self._targets = targets
        self._gap = gap

    async def everywhere(self, act: Callable[[Replica], object]) -> None:
        """Do something to one replica after the other, in a thread."""
        for replica in self.balancer.replicas:
            await asyncio.to_thread(act, replica)

    def next(self) -> ServingTarget:
        """Give the release after the one that serves."""
        other = next(target for target in self._targets if target.file != self.serving.file)
        return replace(other, version=self.serving.version + 1)

    async def roll_out(self, *, canary: bool, back: bool) -> None:
        """Replace what serves, and ``back``: fall back on it again; through a canary that means to give it up."""
        before, after = self.serving, self.next()
        for share in STEPS if canary else ():
            beside = replace(after, share=share)
            await self.everywhere(partial(Replica.ask, target=beside))
            await asyncio.sleep(self._gap)
        if not (canary and back):
            await self.everywhere(partial(Replica.ask, target=after))
            self.serving = after
            await asyncio.sleep(self._gap)
        if back:
            why = Rejected(after.file, "it is a benchmark")
            await self.everywhere(partial(Replica.ask, target=before, rejected=why))
            self.serving = before
            await asyncio.sleep(self._gap)

    async def kill(self, number: int, *, node: bool) -> None:
        """Kill one replica, and wait until it answers again."""
        replica = self.balancer.replicas[number % 2]
        await asyncio.to_thread(replica.kill, node=node)
        while not await asyncio.to_thread(replica.look):  # noqa: ASYNC110 - this is what has it started again
            await asyncio.sleep(self._gap)
        await until(lambda: replica.ready)


@contextlib.asynccontextmanager
async def stage(folder: Path, rate: float, gap: float) -> AsyncIterator[Stage]:
    """Give a stage on which the first release serves, with requests coming; everything is ended afterwards."""
    store = Store(f"file://{folder / 'store'}")
    models = [onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (1, 2)]
    options = ServerOptions(standby=STANDBY)
    targets = [ServingTarget(NAME, 1, m.run, m.weights, m.file, options=options) for m in models]
    replicas = [Replica(folder / f"node{number}", store.url) for number in range(2)]
    balancer = Balancer(replicas, rate, onnx_models.picture())
    ours = Stage(balancer, targets, gap)
    try:
        await ours.everywhere(partial(Replica.ask, target=targets[0]))
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            tasks = [asyncio.create_task(balancer.watch(session, replica)) for replica in replicas]
            await until(lambda: all(replica.ready for replica in replicas))
            tasks.append(sending := asyncio.create_task(balancer.run(session)))
            yield ours
            sending.cancel()
            await balancer.settled()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await ours.everywhere(lambda replica: replica.servers.stop(grace=0))
    known = {hex_of(target.file)[:12] for target in targets}
    assert all(phase.answered_by <= known for phase in balancer.phases), "somebody else answered"


async def story(folder: Path, options: argparse.Namespace) -> list[Phase]:
    """Let everything happen, one after the other."""
    async with stage(folder, options.rate, options.gap) as ours:
        begin = ours.balancer.begin
        await asyncio.sleep(options.quiet)
        for canary in (False, True):
            for back in (False, True):
                what = "rollbacks" if back and not canary else "given up" if back else "rollouts"
                phase = begin(f"{what}, {'through a canary' if canary else 'at once'}")
                for _ in range(options.rollouts):
                    await ours.roll_out(canary=canary, back=back)
                    phase.events += 1
        for node in (False, True):
            phase = begin("node killed (process group)" if node else "server killed (SIGKILL)")
            for number in range(options.kills):
                await ours.kill(number, node=node)
                phase.events += 1
        phase = begin("server killed while it has a canary")
        await ours.everywhere(partial(Replica.ask, target=replace(ours.next(), share=Share(1, weight=50))))
        for number in range(min(options.kills, 4)):  # twice each: after the third death it would be given up
            await ours.kill(number, node=False)
            phase.events += 1
        begin("quiet again")
        await asyncio.sleep(options.quiet)
    return ours.balancer.phases


def main() -> int:
    """Run and print; gives 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20, help="of each kind")
    parser.add_argument("--kills", type=int, default=5, help="of each kind")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--gap", type=float, default=0.2, help="seconds between two things that happen")
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds before and after")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        phases = asyncio.run(story(Path(folder), options))
    print(HEAD)
    for phase in phases:
        print(phase.line())
    failed = [trouble for phase in phases for trouble in phase.failed]
    for trouble in sorted(set(failed)):
        print(f"{failed.count(trouble)} x {trouble}")
    print(f"{sum(phase.sent for phase in phases)} requests, {len(failed)} failed   (goal 0)")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
