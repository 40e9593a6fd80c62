"""Our server as a process, for measurements."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from adapters.store import Store
from tests.support import onnx_models

NAME = "bench"
TRIVIAL = 5000
"""Pictures a second of a loop that no server in Python can follow: there, all that counts is the cost of HTTP."""
SERVER = [sys.executable, "-m", "workloads.serve"]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def opened(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Give a session with the settings that everybody has here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def request_bytes(tensor: str, side: int) -> bytes:
    """Give one inference request with a binary tensor of random numbers."""
    data = picture(side).tobytes()
    head = json.dumps({
        "inputs": [{"name": tensor, "shape": [1, 3, side, side], "datatype": "FP32",
                    "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return http(f"/v2/models/{NAME}/infer", headers, head + data)


def http(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Give the bytes of a request."""
    headers = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(body))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def picture(side: int) -> np.ndarray[Any, Any]:
    """Give the tensor that is asked about, (1, 3, side, side) float32."""
    return np.random.default_rng(1).random((1, 3, side, side), np.float32)


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
    _OPENER.open(urllib.request.Request(url, data=body, method="POST"), timeout=120).close()


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
    with _OPENER.open(f"http://{host}:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_cpu_seconds_total "))


def run_client(
    request: Path | bytes, address: tuple[str, int], connections: int, seconds: float, rate: float | None = None
) -> dict[str, float]:
    """Run ``benchmarks.server_client`` in another process and give what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(request, bytes):
            path = Path(folder) / "request"
            path.write_bytes(request)
        else:
            path = request
        arguments = [str(path), address[0], str(address[1]), str(connections), str(seconds)]
        arguments += [str(rate)] if rate else []
        command = [sys.executable, "-m", "benchmarks.server_client", *arguments]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    told: dict[str, float] = json.loads(printed)
    return told
