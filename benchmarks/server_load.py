"""Our server alone: what counting live traffic costs, and swaps under load."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from adapters.store import Store
from benchmarks.server_ours import (
    TRIVIAL,
    load,
    opened,
    picture,
    prepared,
    processor_seconds,
    request_bytes,
    run_client,
    server,
)
from tests.support import onnx_models

WATCHING = 0.03


def bare_rate(model: bytes, side: int, threads: int, seconds: float, batch: int = 1) -> float:
    """Give pictures a second of ``session.run`` in a loop."""
    session = opened(model, threads)
    feed = {session.get_inputs()[0].name: np.concatenate([picture(side)] * batch)}
    session.run(None, feed)
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(None, feed)
        rounds += 1
    return rounds * batch / (time.perf_counter() - started)


def watching(options: argparse.Namespace, model: bytes) -> float:
    """Print what counting costs; give the share of the throughput that it takes.

    Two servers take turns with the same client, one that counts and one that does not. Processor time for each request
    hardly depends on what else the machine does; throughput is what users feel, and best measured on a quiet one.
    """
    request = request_bytes(opened(model, 1).get_inputs()[0].name, options.side)
    rates: dict[str, list[float]] = {"counting": [], "not counting": []}
    costs: dict[str, list[float]] = {"counting": [], "not counting": []}
    with contextlib.ExitStack() as stack:
        servers = {}
        for name, more in (("counting", ()), ("not counting", ("--no-watch",))):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers[name] = stack.enter_context(prepared(folder, options, model, 1, *more))
        for turn in range(options.rounds):
            for name in sorted(servers, reverse=turn % 2 == 1):
                before = processor_seconds(*servers[name])
                result = run_client(request, servers[name], options.connections, options.seconds)
                used = processor_seconds(*servers[name]) - before
                rates[name].append(result["rate"])
                costs[name].append(used / (result["done"] + result["late"]) * 1e6)
    for name in servers:
        print(f"{name:12}  {max(rates[name]):8.1f} pictures/s   {min(costs[name]):8.1f} us of processor time each "
              f"(median {float(np.median(costs[name])):.1f})")  # fmt: skip
    on, off = costs.values()
    taken = 1 - max(rates["counting"]) / max(rates["not counting"])
    print(f"counting takes {100 * (min(on) / min(off) - 1):+.1f} % processor time "
          f"(of medians: {100 * (float(np.median(on)) / float(np.median(off)) - 1):+.1f} %)")  # fmt: skip
    print(f"counting takes {100 * taken:+.1f} % of throughput   (goal: at most {100 * WATCHING:.0f} %)")
    if bare_rate(model, options.side, 1, options.seconds) > TRIVIAL:
        print("this model does next to nothing, so what was measured is HTTP; the goal is for real ones (--model)")
        return 0.0
    return taken


def swaps(options: argparse.Namespace) -> int:
    """Swap between two models under load; print and give the failures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(f"file://{root}/store")
        models = [onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (1, 2)]
        request = root / "request"
        request.write_bytes(request_bytes(onnx_models.INPUT, onnx_models.SIDE))
        with server(root, 1) as (host, port):
            load(host, port, models[0].target(1))
            arguments = [str(request), host, str(port), "8", str(options.swap * 0.15 + 1)]
            command = [sys.executable, "-m", "benchmarks.server_client", *arguments]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                time.sleep(0.5)
                times: list[float] = []
                for version in range(2, options.swap + 2):
                    started = time.perf_counter()
                    load(host, port, models[version % 2].target(version))
                    times.append(time.perf_counter() - started)
                    time.sleep(0.05)
                result = json.loads(process.communicate()[0])
    print(f"{options.swap} swaps under load (median {1000 * float(np.median(times)):.0f} ms each): "
          f"{result['done']} requests at {result['rate']:.0f}/s, {result['failed']} failed")  # fmt: skip
    return int(result["failed"])
