"""The inference server against bare onnxruntime in a loop, on the same model and machine; and swaps under load.

    python -m benchmarks.server [--model FILE.onnx --side 224] [--rounds 4] [--connections 32] [--swap 20]
    python -m benchmarks.server --watching [--model FILE.onnx --side 224] ...      what counting live traffic costs

The client is another process that does as little as a client can (raw sockets, requests made once, binary tensors).
It shares the machine's cores with the server, so its own cost is printed too: the loop has no client.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from adapters.store import Store
from tests.support import onnx_models

GOAL = 0.85
WATCHING = 0.03
TRIVIAL = 5000
"""Pictures a second of a loop that no server in Python can follow: there, all that counts is the cost of HTTP."""
NAME = "bench"
SERVER = [sys.executable, "-m", "workloads.serve"]


def bare(model: bytes, side: int, batch: int, threads: int, seconds: float) -> float:
    """Give pictures a second of ``session.run`` in a loop."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.random.default_rng(0).random((batch, 3, side, side), np.float32)}
    session.run(None, feed)
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        session.run(None, feed)
        rounds += 1
    return rounds * batch / (time.perf_counter() - started)


def request_bytes(host: str, tensor: str, side: int) -> bytes:
    """Give one inference request with a binary tensor of random numbers."""
    data = np.random.default_rng(1).random((1, 3, side, side), np.float32).tobytes()
    head = json.dumps({
        "inputs": [{"name": tensor, "shape": [1, 3, side, side], "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    lines = (
        f"POST /v2/models/{NAME}/infer HTTP/1.1", f"Host: {host}", "Content-Type: application/octet-stream",
        f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + len(data)}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + head + data


class Connection:
    """One keep-alive connection that always has one request under way."""

    def __init__(self, address: tuple[str, int], request: bytes) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._got = b""
        self.send()

    def send(self) -> None:
        """Send the next request."""
        self.socket.sendall(self._request)

    def receive(self) -> int | None:
        """Read what is there; the status once a response is complete."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._got[:end].lower()
        at = head.index(b"\r\ncontent-length:") + 17
        length = int(head[at : at + 12].split(b"\r\n")[0])
        if len(self._got) < end + 4 + length:
            return None
        status = int(self._got[9:12])
        self._got = self._got[end + 4 + length :]
        return status


def client(host: str, port: int, tensor: str, side: int, connections: int, seconds: float) -> None:
    """Saturate the server and print what happened as JSON. Runs in a process of its own."""
    request = request_bytes(f"{host}:{port}", tensor, side)
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = Connection((host, port), request)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    done = failed = 0
    started, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        for key, _ in selector.select(timeout=1):
            status = key.data.receive()
            if status is not None:
                done += 1
                failed += status != 200
                key.data.send()
    elapsed = time.perf_counter() - started
    print(json.dumps({"done": done, "failed": failed, "rate": done / elapsed,
                      "cpu_us": (time.process_time() - cpu) / max(done, 1) * 1e6}))  # fmt: skip


@contextmanager
def server(root: Path, threads: int, *more: str) -> Iterator[tuple[str, int]]:
    """Run a server process with options; gives host, port and ends it afterwards."""
    command = [*SERVER, "--store", f"file://{root}/store", "--state", str(root / "state"), "--port", "0",
               "--threads", str(threads), *more]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        address = json.loads((root / "state" / "address.json").read_text())
        host, _, port = address["url"].removeprefix("http://").rpartition(":")
        try:
            yield host, int(port)
        finally:
            process.terminate()


def load(host: str, port: int, target: dict[str, Any]) -> None:
    """Ask the server for a model and wait until it serves."""
    url = f"http://{host}:{port}/v2/repository/models/{NAME}/load"
    body = json.dumps({"parameters": target}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, data=body, method="POST"), timeout=120).close()


def run_client(host: str, port: int, options: argparse.Namespace, tensor: str, connections: int, seconds: float) -> str:
    """Run ``client`` in another process and give what it printed."""
    arguments = [host, str(port), tensor, str(options.side), str(connections), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.server", "--as-client", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def throughput(options: argparse.Namespace, model: bytes) -> float:
    """Print the table; give the ratio of the server to the loop with one picture a time (the goal for a trivial model).

    Loop and server take turns, and the best of all turns counts: other programs on the machine only make it slower.
    """
    tensor = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    cores = sorted({1, os.cpu_count() or 1})
    loops = {(threads, batch): 0.0 for threads in cores for batch in ((1, 4, 8, 16) if options.dynamic else (1,))}
    served = {(threads, connections): (0.0, "") for threads in cores for connections in (1, 8, options.connections)}
    with contextlib.ExitStack() as stack:
        folders = {threads: Path(stack.enter_context(tempfile.TemporaryDirectory())) for threads in cores}
        servers = {
            threads: stack.enter_context(prepared(folders[threads], options, model, threads)) for threads in cores
        }
        for _ in range(options.rounds):
            for (threads, batch), best in loops.items():
                loops[threads, batch] = max(best, bare(model, options.side, batch, threads, options.seconds))
            for (threads, connections), best_served in served.items():
                printed = run_client(*servers[threads], options, tensor, connections, options.seconds)
                result = json.loads(printed)
                note = f"the client costs {result['cpu_us']:.0f} us a request; {result['failed']} failed"
                served[threads, connections] = max(best_served, (result["rate"], note))
    for (threads, batch), rate in loops.items():
        print(f"bare onnxruntime, {threads} thread(s), batch {batch:2}        {rate:8.0f} pictures/s")
    for (threads, connections), (rate, note) in served.items():
        print(f"server,           {threads} thread(s), {connections:2} connection(s) {rate:7.0f} pictures/s   {note}")
    single = max(rate for (_, batch), rate in loops.items() if batch == 1)
    top = max(rate for rate, _ in served.values())
    print(f"server / loop with one picture at a time:  {top / single:.2f}   (goal {GOAL})")
    print(f"server / loop with its best batch:         {top / max(loops.values()):.2f}")
    print(f"one request costs {1e6 / top:.0f} us, one inference in the loop {1e6 / single:.0f} us")
    if single > TRIVIAL:
        print("this model does next to nothing, so what was measured is HTTP; the goal is for real ones (--model)")
        return GOAL
    return top / single


@contextmanager
def prepared(
    root: Path, options: argparse.Namespace, model: bytes, threads: int, *more: str
) -> Iterator[tuple[str, int]]:
    """Run a server that serves ``model``."""
    store = Store(f"file://{root}/store")
    published = onnx_models.publish(store, model, side=options.side, task=options.task)
    with server(root, threads, *more) as address:
        load(*address, published.target())
        yield address


def processor_seconds(host: str, port: int) -> float:
    """Give the processor time that a server has used, all its threads together."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{host}:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total "))


def watching(options: argparse.Namespace, model: bytes) -> float:
    """Print what counting costs; give the share of the throughput that it takes.

    Two servers take turns with the same client, one that counts and one that does not. Processor time for each request
    hardly depends on what else the machine does; throughput is what users feel, and best measured on a quiet one.
    """
    tensor = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
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
                printed = run_client(*servers[name], options, tensor, options.connections, options.seconds)
                result = json.loads(printed)
                used = processor_seconds(*servers[name]) - before
                rates[name].append(result["rate"])
                costs[name].append(used / result["done"] * 1e6)
    for name in servers:
        print(f"{name:12}  {max(rates[name]):8.1f} pictures/s   {min(costs[name]):8.1f} us of processor time each "
              f"(median {float(np.median(costs[name])):.1f})")  # fmt: skip
    on, off = costs.values()
    taken = 1 - max(rates["counting"]) / max(rates["not counting"])
    print(f"counting takes {100 * (min(on) / min(off) - 1):+.1f} % processor time "
          f"(of medians: {100 * (float(np.median(on)) / float(np.median(off)) - 1):+.1f} %)")  # fmt: skip
    print(f"counting takes {100 * taken:+.1f} % of throughput   (goal: at most {100 * WATCHING:.0f} %)")
    if bare(model, options.side, 1, 1, options.seconds) > TRIVIAL:
        print("this model does next to nothing, so what was measured is HTTP; the goal is for real ones (--model)")
        return 0.0
    return taken


def swaps(options: argparse.Namespace) -> int:
    """Swap between two models under load; print and give the failures."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(f"file://{root}/store")
        models = [onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (1, 2)]
        with server(root, 1) as (host, port):
            load(host, port, models[0].target(1))
            arguments = [host, str(port), onnx_models.INPUT, str(onnx_models.SIDE), "8", str(options.swap * 0.15 + 1)]
            command = [sys.executable, "-m", "benchmarks.server", "--as-client", *arguments]
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


def main() -> int:
    """Run; gives 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="an ONNX file (default: a tiny classifier, 32 px)")
    parser.add_argument("--side", type=int, default=onnx_models.SIDE, help="pixels")
    parser.add_argument("--task", default="classify")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=4, help="measurements of each kind; the best counts")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--swap", type=int, default=20)
    parser.add_argument("--watching", action="store_true", help="only what counting live traffic costs")
    parser.add_argument("--as-client", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_client:
        host, port, tensor, side, connections, seconds = options.as_client
        client(host, int(port), tensor, int(side), int(connections), float(seconds))
        return 0
    model = options.model.read_bytes() if options.model else onnx_models.classifier()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    options.dynamic = not isinstance(session.get_inputs()[0].shape[0], int)
    if options.watching:
        return int(watching(options, model) > WATCHING)
    ratio = throughput(options, model)
    failed = swaps(options) if options.swap else 0
    return int(ratio < GOAL or failed > 0)


if __name__ == "__main__":
    sys.exit(main())
