"""What devices cost: many of them against one repository and one store, each with a mirror of its own.

    python -m benchmarks.fleet [--devices 1000] [--json]

Git and store are real, model servers are pretended. Counted are questions, not seconds: what a device asks git and the
store while nothing is new, and while a release reaches it; and the bytes that git moves when nothing is new.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.devices import Devices
from tests.support.gitrepo import git
from tests.support.place import FILE
from tests.support.released import BEGIN, Released

HOUR = 3600
SAID = Console(stderr=True)
EDGE = "serving: {export: onnx, edge: {waves: [{percent: 1, soak: 1h}, {percent: 25, soak: 1h}, {percent: 100}]}}"


def cpu() -> float:
    """Give the processor seconds of this process and of all gits that it ran."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def moved(hub: Path, mirror: Path) -> int:
    """Give the bytes that git moves, both ways, to find out that nothing is new on one branch."""
    log = mirror.parent / "packets"
    environment = {**os.environ, "GIT_TRACE_PACKET": str(log), "GIT_CONFIG_NOSYSTEM": "1"}
    refs = "+refs/heads/main:refs/heads/main"
    command = ["git", f"--git-dir={mirror}", "fetch", "--quiet", "--no-tags", "--", str(hub), refs]
    subprocess.run(command, env=environment, check=True)
    lines = [line.partition("packet:")[2].partition("fetch")[2] for line in log.read_text().splitlines()]
    told = [line.lstrip()[2:] for line in lines if line.lstrip()[:1] in "<>"]
    return sum(len(line) + 4 for line in told)


def run(count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        story = Released(Path(folder))
        text = story.person.spec().replace("serving: {export: onnx}", EDGE)
        story.person.hub.commit({FILE: text}, "Want digits", when=BEGIN)
        fleet = Devices(story, count, site=1)
        story.converge()
        story.merge()
        for _ in track(range(4), "v1 reaches every device", console=SAID):
            fleet.turn(wait=HOUR)
        fleet.asked()

        began = cpu()
        fleet.round()
        idle, each = fleet.asked(), (cpu() - began) / count

        story.change(("epochs: 8", "epochs: 9"))
        story.merge()
        for _ in track(range(4), "v2 reaches every device", console=SAID):
            fleet.turn(wait=HOUR)
        rollout, served = fleet.asked(), fleet.versions()

        began = time.process_time()
        story.converge()
        looked = time.process_time() - began
        mirror = Path(folder, "devices", "site-0", "mirror.git")
        size = sum(path.stat().st_size for path in mirror.rglob("*") if path.is_file())
        proposals = len(git(story.path, "for-each-ref", "refs/heads/trunkline").splitlines())
        return {
            "devices": count, "idle": dict(idle), "cpu_ms_per_idle_poll": round(1000 * each, 2),
            "bytes_per_idle_poll": moved(story.path, mirror), "rollout": dict(rollout),
            "serve_v2": served[2], "mirror_bytes": size, "coordinator_cpu_ms": round(1000 * looked, 1),
            "proposal_branches_not_fetched": proposals,
        }  # fmt: skip


def per(counts: object, devices: int) -> str:
    found = Counter(counts if isinstance(counts, dict) else {})
    return ", ".join(f"{name} {number / devices:.2f}" for name, number in sorted(found.items())) or "nothing"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(options.devices)
    if options.json:
        print(json.dumps(found))
        return 0
    count = options.devices
    title = f"{count} devices, one repository, one store"
    table = Table("what", "how much", title=title, box=None, title_justify="left")
    table.add_row("idle poll, questions a device", per(found["idle"], count))
    table.add_row("idle poll, processor time a device (Python and git)", f"{found['cpu_ms_per_idle_poll']} ms")
    table.add_row("idle poll, bytes of git's protocol", f"{found['bytes_per_idle_poll']}")
    table.add_row("rollout in 3 waves, 8 polls, questions a device", per(found["rollout"], count))
    table.add_row("serve v2 at its end", f"{found['serve_v2']} of {count}")
    table.add_row("coordinator, processor time of a look at all", f"{found['coordinator_cpu_ms']} ms")
    table.add_row("mirror on a device", f"{found['mirror_bytes']} bytes")
    Console().print(table)
    return 0 if found["serve_v2"] == count else 1


if __name__ == "__main__":
    raise SystemExit(main())
