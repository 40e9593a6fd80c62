"""All contenders in one run: how much they answer, how long that takes, and what memory they need for it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import server_contenders
from benchmarks.server_contenders import PEERS, Contender, Task
from benchmarks.server_load import bare_rate
from benchmarks.server_ours import TRIVIAL, run_client

THROUGHPUT, LATENCY, MEMORY = 0.9, 1.3, 1.3
"""Goals: of the loop's throughput at least, of bare onnxruntime's p99 and memory at most."""
_CONNECTIONS = 8
"""At moderate load."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Row:
    """What one contender did; the best of all rounds, since other programs only make it worse."""

    name: str
    protocol: str = ""
    version: str = ""
    rate: float = 0.0
    """Pictures a second while clients saturate it."""
    cpu_ms: float = float("inf")
    """Processor time of all its processes for each of them."""
    p50: float = float("inf")
    """Seconds, at moderate load."""
    p99: float = float("inf")
    memory: int = 0
    """Bytes, of all its processes, after both; pages that they share count once."""
    failed: int = 0
    error: str = ""
    """Why it could not be measured."""


def measure(options: argparse.Namespace, model: Path, threads: int) -> tuple[list[Row], dict[int, float]]:
    """Give what everybody did, and the pictures a second of the loop by its batch. They take turns."""
    task = server_contenders.task_of(options, model, threads)
    loops = dict.fromkeys(sorted({1, *(size for size in (4, 8, 16) if size <= task.batch)}), 0.0)
    rows: dict[str, Row] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = _started(stack, folder, task, options.peers, rows)
        for _ in range(options.rounds):
            for batch, best in loops.items():
                bytes_of = model.read_bytes()
                loops[batch] = max(best, bare_rate(bytes_of, task.side, threads, options.seconds, batch))
            for contender in contenders:
                _saturate(contender, rows[contender.name], options)
            for contender in contenders:
                _pace(contender, rows[contender.name], options, options.load * loops[1])
        for contender in contenders:
            rows[contender.name].memory = memory(contender.pid)
    return list(rows.values()), loops


def _started(
    stack: contextlib.ExitStack, folder: Path, task: Task, peers: Sequence[str], rows: dict[str, Row]
) -> list[Contender]:
    """Start everybody; who cannot be has a row that says why."""
    makers = [(name, lambda place, name=name: server_contenders.peer(place, task, name)) for name in peers]
    makers = [("bare + socket", lambda place: server_contenders.bare(place, task)),
              ("Trunkline", lambda place: server_contenders.ours(place, task)), *makers]  # fmt: skip
    contenders = []
    for name, make in makers:
        place = folder / name.replace(" ", "")
        place.mkdir()
        row = rows[name] = Row(name)
        try:
            contender = stack.enter_context(make(place))
        except subprocess.CalledProcessError as error:
            row.error = f"cannot be installed: {(error.stderr or b'').decode(errors='replace').strip()[-300:]}"
        except OSError as error:
            row.error = str(error)[-300:]
        else:
            row.protocol, row.version = contender.protocol, contender.version
            contenders.append(contender)
    return contenders


def _saturate(contender: Contender, row: Row, options: argparse.Namespace) -> None:
    before = processor_seconds(contender.pid)
    connections = contender.connections or options.connections
    told = run_client(contender.request, contender.address, connections, options.seconds)
    used = processor_seconds(contender.pid) - before
    row.rate = max(row.rate, told["rate"])
    row.cpu_ms = min(row.cpu_ms, 1000 * used / max(told["done"] + told["late"], 1))
    row.failed += int(told["failed"])


def _pace(contender: Contender, row: Row, options: argparse.Namespace, rate: float) -> None:
    connections = contender.connections or _CONNECTIONS
    told = run_client(contender.request, contender.address, connections, options.seconds, rate)
    row.p50, row.p99 = min(row.p50, told["p50"]), min(row.p99, told["p99"])
    row.failed += int(told["failed"])


def family(pid: int) -> list[int]:
    """Give a process and all that descend from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def memory(pid: int) -> int:
    """Give the bytes that a process and its descendants hold; what they share counts once, as much as any has of it."""
    private, shared = 0, [0]
    for each in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
            private += sizes["Private_Clean"] + sizes["Private_Dirty"]
            shared.append(sizes["Shared_Clean"] + sizes["Shared_Dirty"])
    return private + max(shared)


def processor_seconds(pid: int) -> float:
    """Give the processor time that a process and its descendants used."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def show(rows: Sequence[Row], loops: dict[int, float], threads: int) -> None:
    """Print a table."""
    table = Table(title=f"{threads} thread(s) inside one inference; the loop alone: " + ", ".join(
        f"{rate:.0f}/s in batches of {batch}" for batch, rate in loops.items()
    ))  # fmt: skip
    for title in ("", "protocol", "pictures/s", "of the loop", "CPU each", "p50", "p99", "memory", "failed"):
        table.add_column(title, justify="left" if title in {"", "protocol"} else "right")
    for row in rows:
        name = f"{row.name} {row.version}".strip()
        if row.error:
            table.add_row(name, row.error)
            continue
        table.add_row(
            name, row.protocol, f"{row.rate:.0f}", f"{row.rate / loops[1]:.2f}", f"{row.cpu_ms:.2f} ms",
            f"{1000 * row.p50:.1f} ms", f"{1000 * row.p99:.1f} ms", f"{row.memory / 1e6:.0f} MB", str(row.failed),
        )  # fmt: skip
    Console(width=150).print(table)


def judge(rows: Sequence[Row], loops: dict[int, float]) -> list[str]:
    """Give the goals that were missed, as sentences."""
    by_name = {row.name: row for row in rows}
    bare, ours = by_name["bare + socket"], by_name["Trunkline"]
    if ours.error or bare.error:
        return [ours.error or bare.error]
    if loops[1] > TRIVIAL:
        return []  # this model does next to nothing, so what was measured is HTTP
    held = [
        (ours.rate >= THROUGHPUT * loops[1], f"throughput is {ours.rate / loops[1]:.2f} of the loop's"),
        (ours.p99 <= LATENCY * bare.p99, f"p99 is {ours.p99 / bare.p99:.2f} of bare onnxruntime's behind a socket"),
        (ours.memory <= MEMORY * bare.memory, f"memory is {ours.memory / bare.memory:.2f} of bare onnxruntime's"),
        (ours.failed == 0, f"{ours.failed} requests failed"),
    ]
    for row in rows:
        if row.name in PEERS and not row.error:
            held += [
                (ours.rate > row.rate, f"{row.name} answers more: {row.rate:.0f}/s"),
                (ours.p99 < row.p99, f"{row.name} has a better p99: {1000 * row.p99:.1f} ms"),
                (ours.memory < row.memory, f"{row.name} needs less memory: {row.memory / 1e6:.0f} MB"),
            ]
    return [sentence for holds, sentence in held if not holds]


def compare(options: argparse.Namespace, model: Path) -> int:
    """Measure with one thread and with all, print, and give how many goals were missed."""
    told, missed = {}, 0
    for threads in options.threads or sorted({1, os.cpu_count() or 1}):
        rows, loops = measure(options, model, threads)
        show(rows, loops, threads)
        flaws = judge(rows, loops)
        print("\n".join(f"missed: {flaw}" for flaw in flaws) or "all goals are held")
        missed += len(flaws)
        told[threads] = {"loops": loops, "rows": [asdict(row) for row in rows], "missed": flaws}
    if options.json:
        options.json.write_text(json.dumps(told, indent=1))
    return missed
