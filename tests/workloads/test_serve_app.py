"""The server's life: start, restart, kill, stop, and what it serves meanwhile."""

from __future__ import annotations

import fcntl
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from specs.digests import hex_of
from specs.records import artifact_key, blob_key
from tests.support import onnx_models
from tests.support.inference_server import (
    INFER,
    REQUEST,
    ServerProcess,
    publish,
    publish_slow,
    serving,
    slow_load,
    wait_until,
)  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Give a server that the test starts itself."""
    server = ServerProcess(tmp_path)
    yield server
    server.close()


def test_imports_no_training_library() -> None:
    """The server's process never loads torch or ultralytics, nor anything of the control plane's thinking."""
    code = (
        "import sys, workloads.serve.__main__; "
        "print([m for m in sys.modules if m.split('.')[0] in "
        "{'torch', 'torchvision', 'ultralytics', 'reconcilers', 'controller', 'git', 'kopf'}])"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_announces_itself(server: ServerProcess) -> None:
    """One line and address.json say where the server is; after a stop the file is gone."""
    server.start()
    assert server.process is not None
    assert server.address == {"url": server.url, "pid": server.process.pid}
    assert server.url in server.line
    assert server.http.get("/v2/health/ready").status_code == 200
    assert server.end() == 0
    assert not (server.state / "address.json").exists()


def test_wrong_arguments_and_taken_port(server: ServerProcess, tmp_path: Path) -> None:
    """A server that cannot start says why in one line, without a traceback."""
    server.start()
    _, port = server.socket_address
    command = [sys.executable, "-m", "workloads.serve", "--store", server.store.url]
    for options, said in (
        (["--state", str(tmp_path / "other"), "--port", str(port)], "address already in use"),
        (["--state", str(server.state), "--port", "0"], "another server uses"),
        (["--state", str(tmp_path / "third"), "--queue", "0"], "at least 1"),
    ):
        result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode in {1, 2}
        assert said in result.stderr
        assert "Traceback" not in result.stderr


def test_files_of_the_agent_do_no_harm(server: ServerProcess) -> None:
    """Whoever starts the server may hold a lock and keep notes in the same folder."""
    (server.state / "models").mkdir(parents=True)
    (server.state / "models" / "digits").write_text("{}")
    with (server.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server.start()
        assert server.models() == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_restart_serves_last_good(server: ServerProcess, number: signal.Signals) -> None:
    """After any end the next start serves the same bytes, without asking the store for anything."""
    server.start()
    model = publish(server, 1)
    assert server.load("digits", model.target(4)).status_code == 200
    server.end(number)
    for key in (artifact_key(model.file), *(blob_key(blob) for blob in blobs_of(model))):
        (server.store_path / key).unlink()
    server.start()
    assert serving(server) == hex_of(model.file)[:12]
    assert server.models()["digits"] | model.target(4) == server.models()["digits"]


def blobs_of(model: onnx_models.Published) -> list[str]:
    """Give every file that a load needs."""
    tests = model.artifact.self_tests
    return [model.file, *(blob for test in tests for blob in (test.image, test.input, test.outputs))]


def test_one_broken_model_does_not_stop_the_others(server: ServerProcess) -> None:
    """At a restart, a model whose files are gone is reported; the others serve, and a new load repairs it."""
    server.start()
    good, bad = publish(server, 1), publish(server, 2)
    server.load("digits", good.target())
    server.load("broken", bad.target())
    server.end()
    (server.state / "cache" / hex_of(bad.file)).unlink()
    path = server.store_path / blob_key(bad.file)
    saved = path.read_bytes()
    path.unlink()
    (server.state / "serving" / "garbage.json").write_text("{")
    server.start()
    assert server.http.get("/v2/health/ready").status_code == 200
    assert serving(server) == hex_of(good.file)[:12]
    entry = server.models()["broken"]
    assert (entry["ready"], entry["version"], entry["failed_file"]) == (False, None, bad.file)
    assert bad.file in entry["failure"]
    path.write_bytes(saved)
    assert server.load("broken", bad.target()).status_code == 200
    assert server.models()["broken"]["failed_file"] is None


def test_stop_finishes_what_is_in_flight(server: ServerProcess) -> None:
    """SIGTERM: requests under way are answered, new connections are refused, and the exit is 0 within ten seconds."""
    server.start()
    slow = publish_slow(server, 80)
    server.load("digits", slow.target())
    answers: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            answers.append(client.post(INFER, json=REQUEST).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    in_flight = 'trunkline_queue_depth{model="digits"} 2.0'
    wait_until(lambda: in_flight in server.http.get("/metrics").text)
    started = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - started < 10
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    with pytest.raises(httpx.ConnectError):
        server.http.get("/v2/health/live")


def test_stop_does_not_wait_for_the_hopeless(server: ServerProcess) -> None:
    """Neither a load without end nor a body without end keeps the server beyond ten seconds."""
    server.start()
    server.load("digits", publish(server, 1).target(1))
    with slow_load(server), socket.create_connection(server.socket_address) as upload:
        upload.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n".encode())
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 10


