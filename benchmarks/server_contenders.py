"""Who is measured: our server, the least that a server can be, and what a user would pick instead, as processes."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks import server_ours
from benchmarks.server_client import once

PEERS = ("MLServer", "KServe", "LitServe", "BentoML")
PROGRAMS = Path(__file__).parent / "peers"
HOMES = Path(".bench/peers")
_STARTS = 120.0
"""Seconds that a server has to give its first answer."""
Floats = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Task:
    """What all of them do."""

    model: Path
    tensor: str
    side: int
    task: str
    threads: int
    batch: int
    """The largest that the model takes; 1 where its batch axis is fixed."""
    answer: Floats


@dataclass(frozen=True)
class Contender:
    """A server that runs."""

    name: str
    protocol: str
    request: Path
    address: tuple[str, int]
    pid: int
    version: str = ""
    connections: int | None = None
    """That it can serve at once; None for any number."""


def task_of(options: argparse.Namespace, model: Path, threads: int) -> Task:
    """Look at a model and let it answer once."""
    session = server_ours.opened(model.read_bytes(), threads)
    (first, *_) = session.get_inputs()
    answer = session.run(None, {first.name: server_ours.picture(options.side)})[0]
    batch = options.batch if not isinstance(first.shape[0], int) else 1
    return Task(model, first.name, options.side, options.task, threads, batch, np.asarray(answer))


@contextmanager
def ours(folder: Path, task: Task) -> Iterator[Contender]:
    """Run our server."""
    wanted = argparse.Namespace(side=task.side, task=task.task)
    path = folder / "ours.http"
    path.write_bytes(server_ours.request_bytes(task.tensor, task.side))
    with server_ours.prepared(folder, wanted, task.model.read_bytes(), task.threads) as address:
        pid = json.loads((folder / "state" / "address.json").read_text())["pid"]
        contender = Contender("Trunkline", "v2, binary tensors", path, address, pid)
        _await(contender, task, lambda body: body[-task.answer.nbytes :], None)
        yield contender


@contextmanager
def bare(folder: Path, task: Task) -> Iterator[Contender]:
    """Run onnxruntime behind a blocking socket, in our environment."""
    request = server_ours.http("/", {"Shape": _shape(task)}, server_ours.picture(task.side).tobytes())
    with _program(folder, task, "bare_socket", Path(sys.executable), request, lambda body: body) as (process, address):
        yield Contender("bare + socket", "HTTP, raw", folder / "bare_socket.http", address, process.pid, connections=1)


@contextmanager
def peer(folder: Path, task: Task, name: str) -> Iterator[Contender]:
    """Run one of ``PEERS``; CalledProcessError where pip cannot install it, OSError where it does not answer."""
    python = installed(name)
    data = server_ours.picture(task.side).tobytes()
    raw = {"Content-Type": "application/octet-stream"}
    protocol, request, read = _SPOKEN[name](task, data, raw)
    with _program(folder, task, f"{name.lower()}_model", python, request, read) as (process, address):
        (path,) = folder.glob(f"{name.lower()}_model.*p*")
        yield Contender(name, protocol, path, address, process.pid, _version(python, name))


def installed(name: str) -> Path:
    """Give the interpreter of a peer's environment, which pip makes the first time."""
    home = (HOMES / name.lower()).absolute()
    if not (home / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        wanted = [name.lower(), f"onnxruntime=={onnxruntime.__version__}"]
        subprocess.run([home / "bin" / "pip", "install", "-q", "--no-input", *wanted], check=True, capture_output=True)
        (home / "done").touch()
    return home / "bin" / "python"


Spoken = tuple[str, bytes, Callable[[bytes], bytes]]
"""The protocol in words, a request, and how the tensor is found in an answer."""


def _grpc(task: Task, data: bytes, raw: Mapping[str, str]) -> Spoken:
    from tritonclient.grpc import service_pb2 as proto  # noqa: PLC0415  needed for some peers only

    del raw
    message = proto.ModelInferRequest(model_name=server_ours.NAME, raw_input_contents=[data])
    message.inputs.add(name=task.tensor, datatype="FP32", shape=[1, 3, task.side, task.side])
    return "v2 gRPC, raw tensors", message.SerializeToString(), lambda body: (
        proto.ModelInferResponse.FromString(body).raw_output_contents[0]
    )  # fmt: skip


def _litserve(task: Task, data: bytes, raw: Mapping[str, str]) -> Spoken:
    del task
    return "HTTP, raw bytes", server_ours.http("/predict", dict(raw), data), lambda body: body


def _bentoml(task: Task, data: bytes, raw: Mapping[str, str]) -> Spoken:
    del task, raw
    head = b'--x\r\nContent-Disposition: form-data; name="tensors"; filename="t"\r\n'
    body = head + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n--x--\r\n"
    request = server_ours.http("/infer", {"Content-Type": "multipart/form-data; boundary=x"}, body)
    return "HTTP, uploaded bytes", request, lambda body: base64.b64decode(json.loads(body)[0])


_SPOKEN: Mapping[str, Callable[[Task, bytes, Mapping[str, str]], Spoken]] = {
    "MLServer": _grpc, "KServe": _grpc, "LitServe": _litserve, "BentoML": _bentoml,
}  # fmt: skip


@contextmanager
def _program(
    folder: Path, task: Task, name: str, python: Path, request: bytes, read: Callable[[bytes], bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """Run one of ``PROGRAMS`` until it answers rightly; all that it started ends with it."""
    path = folder / f"{name}.{'grpc' if name.startswith(('mlserver', 'kserve')) else 'http'}"
    path.write_bytes(request)
    address = ("127.0.0.1", _free_port())
    environment = {
        **os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", "BENTOML_DO_NOT_TRACK": "True",
        "MODEL": str(task.model.absolute()), "PORT": str(address[1]), "THREADS": str(task.threads),
        "BATCH": str(task.batch), "SHAPE": _shape(task), "HOME": str(folder), "TMPDIR": str(folder),
    }  # fmt: skip
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(python), str(PROGRAMS / f"{name}.py")], env=environment, stdout=log, stderr=log, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    try:
        _await(Contender(name, "", path, address, process.pid), task, read, process)
        yield process, address
    except OSError as error:
        last = (folder / f"{name}.log").read_text(errors="replace").strip()[-500:]
        raise OSError(f"{error}; it said: {last}") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await(
    contender: Contender, task: Task, read: Callable[[bytes], bytes], process: subprocess.Popen[bytes] | None
) -> None:
    """Ask until it answers, and look whether that is what onnxruntime says; OSError where it does not or is not."""
    end = time.monotonic() + _STARTS
    while True:
        try:
            found = np.frombuffer(read(once(contender.address, contender.request)), np.float32)
            break
        except OSError:
            if time.monotonic() > end or (process is not None and process.poll() is not None):
                raise
            time.sleep(0.3)
    if not np.allclose(found, task.answer.ravel(), atol=1e-4):
        raise OSError(f"{contender.name} answers something else than onnxruntime")


def _shape(task: Task) -> str:
    return f"1,3,{task.side},{task.side}"


def _free_port() -> int:
    """Give a port with free ones behind it, since some servers take more than one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return min(int(listening.getsockname()[1]), 65_000)


def _version(python: Path, name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name.lower()!r}))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
