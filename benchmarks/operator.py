"""The operator against a kopf operator that does nothing, on the same API server, with thousands of models at rest.

    python -m benchmarks.operator [--models 10000] [--burst 1000] [--edits 100] [--folder .bench/operator]

Prints a table: what was measured, the goal, and whether it holds. Ends with 1 where a goal is missed. The world takes
some minutes to make and is kept in the folder until edits have changed it; a folder on tmpfs makes it sooner.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.operator_world import Operator, World

NOOP = """\
import os, resource, time
import kopf

SEEN, BEGAN, WANTED = set(), float(os.environ["BEGAN"]), int(os.environ["WANTED"])

@kopf.on.event("trunkline.dev", "v1alpha1", "modelspecs")
async def seen(uid, **_):
    SEEN.add(uid)
    if len(SEEN) == WANTED:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"NOOP {time.monotonic() - BEGAN:.3f} {peak:.1f}", flush=True)
        os._exit(0)
"""


@dataclass
class Table:
    """Rows of what was found; a goal is text for people and a bound."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    missed: bool = False

    def add(self, what: str, found: str, goal: str = "", *, holds: bool | None = None) -> None:
        self.rows.append((what, found, goal, "" if holds is None else "yes" if holds else "NO"))
        self.missed = self.missed or holds is False
        say(f"  {what}: {found}" + (f" (goal {goal}: {self.rows[-1][3]})" if goal else ""))

    def show(self) -> None:
        header = ("what", "found", "goal", "holds")
        widths = [max(len(row[i]) for row in (header, *self.rows)) for i in range(4)]
        for row in (header, *self.rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say(text: str) -> None:
    print(text, flush=True)


def noop(world: World) -> tuple[float, float]:
    """Give seconds and peak memory (MB) of an operator that only looks at every event."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(NOOP)
        script.flush()
        began = time.monotonic()
        command = [sys.executable, "-m", "kopf", "run", script.name, "--all-namespaces", "--standalone"]
        environment = {
            "PATH": "/usr/bin:/bin", "KUBECONFIG": str(world.server.kubeconfig_of("viewer")), "BEGAN": str(began),
            "WANTED": str(world.count), "HOME": str(world.folder),
        }  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    line = next((line for line in done.stdout.splitlines() if line.startswith("NOOP")), None)
    assert line is not None, done.stderr[-2000:]
    seconds, peak = map(float, line.split()[1:])
    return seconds, peak


def cold_start(world: World, table: Table, rounds: int) -> None:
    """All models reconciled once, against the operator that does nothing; alternating, best of each."""
    bare, ours, whole, peaks, memory, writes = [], [], [], [], [], 0
    for _ in range(rounds):
        seconds, peak = noop(world)
        bare.append(seconds)
        memory.append(peak)
        world.server.reset_requests()
        with Operator(world) as operator:
            operator.until(lambda: operator.passes() >= world.count, say)
            ours.append(time.monotonic() - operator.started)
            operator.until(lambda: operator.passes() >= 2 * world.count, say)
            whole.append(time.monotonic() - operator.started)
            peaks.append(operator.peak())
            time.sleep(2)
            writes += sum(world.writes().values())
        mine = f"ours {ours[-1]:.1f} s, {whole[-1]:.1f} s, {peaks[-1]:.0f} MB"
        say(f"    nothing {seconds:.1f} s, {peak:.0f} MB; {mine}")
    time_ratio, memory_ratio = min(ours) / min(bare), min(peaks) / min(memory)
    table.add("cold start, no-op kopf operator", f"{min(bare):.1f} s, {min(memory):.0f} MB")
    table.add("cold start, each reconciled with git and proposals", f"{min(ours):.1f} s, {min(peaks):.0f} MB")
    table.add("  time, as a ratio", f"{time_ratio:.2f}", "≤ 4", holds=time_ratio <= 4)
    table.add("… and once more with its Deployment", f"{min(whole):.1f} s")
    table.add("  of which: one plain LIST of all Deployments", f"{listing(world):.1f} s")
    table.add("  peak memory, as a ratio", f"{memory_ratio:.2f}", "≤ 2.5", holds=memory_ratio <= 2.5)
    table.add("  writes", str(writes), "0", holds=writes == 0)


def listing(world: World) -> float:
    """Give the seconds that the API server itself takes to list all Deployments, whoever asks."""
    began = time.monotonic()
    answer = world.client.get("/apis/apps/v1/deployments", timeout=600)
    assert answer.is_success
    return time.monotonic() - began


def resyncs(world: World, table: Table) -> None:
    """Three resyncs of every model, quickly one after the other."""
    period = max(20.0, world.count / 300)
    with Operator(world, resync=period) as operator:
        operator.until(lambda: operator.passes() >= world.count, say)
        time.sleep(2)
        world.server.reset_requests()
        before = operator.passes()
        operator.until(lambda: operator.passes() >= before + 3 * world.count, say)
        writes = world.writes()
    table.add(f"3 resyncs ({period:.0f} s each), writes", str(sum(writes.values())), "0", holds=not writes)


def idle(operator: Operator, table: Table, seconds: float) -> None:
    """Processor time at rest, with the resync as it is shipped."""
    before, began = operator.cpu(), time.monotonic()
    time.sleep(seconds)
    share = (operator.cpu() - before) / (time.monotonic() - began)
    table.add("at rest, of one core", f"{share:.1%}", "≤ 3 %", holds=share <= 0.03)


def edits(world: World, table: Table, count: int) -> None:
    """One edit among many models at rest: from the moment the cluster has it to the Job."""
    chosen = random.Random(1).sample(range(world.count), count)
    took = []
    for number in chosen:
        world.merge([number], epochs=11)
        before = world.jobs()
        began = time.monotonic()
        world.sync([number], epochs=11)
        while world.jobs() == before:
            assert time.monotonic() - began < 60, "no Job came of it"
            time.sleep(0.02)
        took.append(time.monotonic() - began)
    took.sort()
    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]
    table.add(f"edit → Job, {count} edits", f"p50 {p50:.2f} s, p99 {p99:.2f} s", "p99 ≤ 1.5 s", holds=p99 <= 1.5)


def burst(world: World, table: Table, count: int) -> None:
    """Many models changed by one merge, and one edit of another team in the middle of it."""
    changed, other = list(range(count)), world.count - 1
    world.merge(changed, epochs=12)
    world.hub.commit({f"models/{world.team(other)}/{world.name(other)}.yaml": world.text(other, epochs=13)})
    before = world.jobs()
    began = time.monotonic()
    syncing = threading.Thread(target=lambda: world.sync(changed, epochs=12))
    syncing.start()
    time.sleep(2)
    edited = time.monotonic()
    world.sync([other], epochs=13)
    alone = 0.0
    place = f"/apis/batch/v1/namespaces/{world.team(other)}/jobs"
    while world.jobs() < before + count + 1 or not alone:
        if not alone and world.server.items(place, {"trunkline.dev/model": world.name(other)}):
            alone = time.monotonic() - edited
        assert time.monotonic() - began < 600, f"{world.jobs() - before} Jobs after ten minutes"
        time.sleep(0.05)
    seconds = time.monotonic() - began
    syncing.join()
    table.add(f"{count} changed by one merge → {count} Jobs", f"{seconds:.1f} s", "≤ 60 s", holds=seconds <= 60)
    table.add("  another team's edit meanwhile → Job", f"{alone:.2f} s", "≤ 3 s", holds=alone <= 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--burst", type=int, default=1_000)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="of the cold start")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds to watch it at rest")
    parser.add_argument("--folder", type=Path, default=Path(".bench/operator"))
    asked = parser.parse_args()
    table, began = Table(), time.monotonic()
    world = World.ready(asked.folder.absolute(), asked.models, say)
    try:
        say(f"{asked.models} models, all released and serving")
        cold_start(world, table, asked.rounds)
        resyncs(world, table)
        with Operator(world) as operator:
            operator.until(lambda: operator.passes() >= 2 * world.count, say)  # all Deployments are known as well
            time.sleep(10)
            idle(operator, table, asked.idle)
            edits(world, table, min(asked.edits, asked.models))
            burst(world, table, min(asked.burst, asked.models - 1))
    finally:
        world.stop()
    # Edited models are no longer at rest: the next run makes its world anew.
    (asked.folder / f"ready-{asked.models}").unlink(missing_ok=True)
    say(f"\n{asked.models} models, {time.monotonic() - began:.0f} s in all")
    table.show()
    return int(table.missed)


if __name__ == "__main__":
    sys.exit(main())
