"""One training by several processes, here or on several nodes: who they are, who starts them, who says how it ended.

A job that is to use several devices becomes their *launcher*: it fetches what all of them need, starts ``torchrun`` and
waits. Each process that ``torchrun`` starts is a job like any other, with the same order; only the first of all tells
how it goes, keeps checkpoints and writes the record. Where one fails, ``torchrun`` ends the others of its node, and the
cluster those of the other nodes, so that the attempt as a whole has failed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs.errors import Stalled, Transient
from specs.workorders import TrainOrder
from workloads.environment import CACHE, SCRATCH
from workloads.errors import BAD_MATERIAL, HOPELESS, OUT_OF_MEMORY, RETRY, Hopeless

PROCESSES = "TRUNKLINE_PROCESSES"
"""Variable: how many processes of this machine share a training, where nobody else says so."""
ENDINGS = "TRUNKLINE_ENDINGS"
"""Variable: the folder in which the processes of a launcher say how they ended."""
_ORDER = "TRUNKLINE_WORK_ORDER"
_PORT = 29400
_GRACE = 25.0
"""Seconds for the processes to end, of the 30 that a pod has."""
_DEFAULT_BATCH = 16
_ALONE = ("auto", "cpu", "gpu", "")
"""What torchrun counts by itself."""


@dataclass(frozen=True)
class Team:
    """The processes that share a training, as one node sees them."""

    nodes: int
    per_node: int
    node: int = 0
    """Which one this is, from 0."""
    address: str = "127.0.0.1"
    port: int = _PORT

    @property
    def size(self) -> int:
        """Of all processes."""
        return self.nodes * self.per_node


def team(args: Mapping[str, Any], environment: Mapping[str, str]) -> Team | None:
    """Say which processes are to be started here; None where this one works alone, or is one of them already.

    ``args`` of the training may name devices. Kubeflow Trainer tells of nodes in torchrun's own variables, ``PET_…``.
    """
    if is_member(environment):
        return None
    named = _devices(args.get("device"))
    told = environment.get("PET_NPROC_PER_NODE", "")
    own = int(environment.get(PROCESSES) or 1) if told in _ALONE else int(told)
    found = Team(
        nodes=int(environment.get("PET_NNODES") or 1), per_node=len(named) or own,
        node=int(environment.get("PET_NODE_RANK") or 0), address=environment.get("PET_MASTER_ADDR") or Team.address,
        port=int(environment.get("PET_MASTER_PORT") or 0),
    )  # fmt: skip
    return found if found.size > 1 else None


def is_member(environment: Mapping[str, str]) -> bool:
    """Whether torchrun started this process as one of several."""
    return int(environment.get("WORLD_SIZE") or 1) > 1 and "RANK" in environment


def leads(environment: Mapping[str, str]) -> bool:
    """Whether this process is the one that tells, keeps and records: the first of all, or the only one."""
    return not is_member(environment) or environment["RANK"] == "0"


def device_of(args: Mapping[str, Any], environment: Mapping[str, str], count: int) -> str:
    """Give the argument ``device`` of a member: the devices of its node, of which ``count`` are there; all see all."""
    named = _devices(args.get("device"))
    here = int(environment.get("LOCAL_WORLD_SIZE") or 1)
    if not count:
        return "cpu"
    if len(named) not in (0, here) or (not named and here > count):
        have = f"args.device names {len(named)}" if named else f"there are {count}"
        raise Stalled("DevicesMissing", f"{here} processes of this node need a GPU each, and {have}")
    return ",".join(named or map(str, range(here)))


def check(args: Mapping[str, Any], size: int) -> None:
    """Stalled ``BatchNotShared`` where ``size`` processes cannot share a batch as these arguments have it."""
    batch = args.get("batch", _DEFAULT_BATCH)
    problem = ""
    if not isinstance(batch, int) or batch < 1:
        problem = f"batch: {batch} lets one GPU find out what fits, which {size} processes cannot; give a number"
    elif batch % size:
        problem = f"batch: {batch} cannot be shared by {size} processes; give a multiple of {size}"
    elif args.get("rect"):
        problem = f"rect: pictures of like shape cannot be shared by {size} processes; remove it"
    if problem:
        raise Stalled("BatchNotShared", f"spec.training.args.{problem}, or train on one device")


def launch(found: Team, store_url: str, order: TrainOrder, scratch: Path, shared: Path) -> None:
    """Start the processes of this node, and wait until all are over.

    ``shared`` is the folder of files that all of them need. Raises what the process that failed would have: Hopeless,
    Stalled, Transient or MemoryError; Transient ``PeerLost`` where none of this node says why.
    """
    endings = scratch / "endings"
    endings.mkdir()
    (scratch / "members").mkdir()
    environment = {
        **os.environ, _ORDER: order.encode().decode(), CACHE: str(shared), SCRATCH: str(scratch / "members"),
        ENDINGS: str(endings),
    }  # fmt: skip
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // found.per_node)))
    # Killed without a word, the launcher takes torchrun along, and that its processes.
    tied = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
    command = [*tied, *_torchrun(found), "-m", "workloads", "--store", store_url]
    with subprocess.Popen(command, env=environment, cwd=scratch) as process:
        try:
            code = process.wait()
        finally:
            _end(process)
    if code:
        fail(endings)


def say_ending(code: int, message: str) -> None:
    """Tell the launcher how this process ends, where there is one."""
    folder = os.environ.get(ENDINGS)
    if folder and is_member(os.environ):
        text = json.dumps({"code": code, "message": message})
        Path(folder, f"{os.environ['RANK']}.json").write_text(text, encoding="utf-8")


def fail(endings: Path) -> None:
    """Raise what the process that failed says; one that can never work is told before those that wait for it."""
    said = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(endings.glob("*.json"))]
    for code in (HOPELESS, BAD_MATERIAL, OUT_OF_MEMORY, RETRY):
        message = next((str(one["message"]) for one in said if one["code"] == code), None)
        if message is None:
            continue
        reason, _, words = message.partition(": ")
        if code == OUT_OF_MEMORY:
            raise MemoryError(words)
        raise {HOPELESS: Hopeless, BAD_MATERIAL: Stalled, RETRY: Transient}[code](reason, words)
    raise Transient("PeerLost", "a process of this training ended without a word, here or on another node; see its log")


def _devices(given: object) -> list[str]:
    """Give the GPUs that ``device`` names, where it names several."""
    parts = given if isinstance(given, list | tuple) else str(given if given is not None else "").split(",")
    named = [str(part).strip().removeprefix("cuda:") for part in parts]
    return named if len(named) > 1 and all(part.isdecimal() for part in named) else []


def _torchrun(found: Team) -> list[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(found.per_node)]
    if found.nodes == 1:
        return [*command, "--standalone"]  # finds a port of its own
    where = ["--master-addr", found.address, "--master-port", str(found.port or _PORT)]
    return [*command, "--nnodes", str(found.nodes), "--node-rank", str(found.node), *where]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs: torchrun ends its processes, which leave a checkpoint."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
