"""Connections that are too many, never begin a request, or never take an answer, to the real server."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import onnx_models
from tests.support.inference_server import ServerProcess, infer_request, running, wait_until

MOST = 3
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server with few connections and little patience, whose model ``talker`` answers with a megabyte."""
    options = ("--max-connections", str(MOST), "--body-timeout", "1", "--idle-timeout", "1.5", "--threads", "1")
    with running(tmp_path_factory.mktemp("serve"), *options) as server:
        model = onnx_models.detector(np.zeros((60_000, 6), np.float32), onnx_models.SIDE)
        published = onnx_models.publish(server.store, model, task="detect", side=onnx_models.SIDE)
        assert server.load("talker", published.target()).status_code == 200
        server.http.close()
        yield server


def talk(server: ServerProcess, data: bytes) -> bytes:
    """Send bytes and give all that comes back; nothing where the server hangs up on what it did not read."""
    with socket.create_connection(server.socket_address, timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


def test_head_that_drips(server: ServerProcess) -> None:
    """A byte now and then does not keep a connection open whose request never begins."""
    with socket.create_connection(server.socket_address, timeout=20) as connection:
        connection.settimeout(0.2)
        for byte in b"POST /v2/models/digits/infer HTTP/1.1":
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("the connection was never closed")


def test_answer_that_nobody_takes(server: ServerProcess) -> None:
    """A client that asks for more than its buffers hold, and reads nothing of it, loses its connection."""
    body = json.dumps(infer_request([0.0] * 3072, [1, 3, 32, 32])).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.socket_address)
        head = f"POST /v2/models/talker/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        ends = server.socket_address[1], connection.getsockname()[1]
        wait_until(lambda: established(*ends))
        wait_until(lambda: not established(*ends))


def established(here: int, there: int) -> bool:
    """Whether the kernel holds a connection from port ``here`` to port ``there`` of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = (f":{here:04X}", f":{there:04X}")
    return any(row[1].endswith(wanted[0]) and row[2].endswith(wanted[1]) and row[3] == "01" for row in rows)


def test_too_many_connections(server: ServerProcess) -> None:
    """One connection more than there may be is told so at once; when another one ends there is room again."""
    wait_until(lambda: talk(server, LIVE).startswith(b"HTTP/1.1 200"))
    held = [socket.create_connection(server.socket_address) for _ in range(MOST)]
    answer = talk(server, b"")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1" in answer
    assert b"--max-connections" in answer
    held.pop().close()
    wait_until(lambda: talk(server, LIVE).startswith(b"HTTP/1.1 200"))
    for connection in held:
        connection.close()
