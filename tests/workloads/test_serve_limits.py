"""Clients that send too much, too slowly, or nonsense, to the real server."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support import onnx_models
from tests.support.inference_server import ServerProcess, infer_request, running

MAX_BODY = 200_000
MAX_PIXELS = 1_000_000
QUEUE = 3
ROUNDS = 40
INFER = "/v2/models/digits/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a server with narrow limits and two models: ``digits`` and ``slow``."""
    options = (
        "--max-body", str(MAX_BODY), "--max-pixels", str(MAX_PIXELS), "--queue", str(QUEUE), "--threads", "1",
        "--body-timeout", "1", "--idle-timeout", "1.5",
    )  # fmt: skip
    with running(tmp_path_factory.mktemp("serve"), *options) as server:
        quick, slow = onnx_models.classifier(), onnx_models.slow_classifier(ROUNDS)
        for name, model, answers in (("digits", quick, None), ("slow", slow, onnx_models.SLOW_ANSWERS)):
            answer = server.load(name, onnx_models.publish(server.store, model, answers=answers).target())
            assert answer.status_code == 200, answer.text
        yield server


def still_serves(server: ServerProcess) -> bool:
    """Whether an ordinary request is answered."""
    return server.http.post(INFER, json=infer_request([0.0] * 3072, [1, 3, 32, 32])).status_code == 200


def talk(server: ServerProcess, data: bytes) -> bytes:
    """Send bytes, and give all that comes back until the server closes or is silent for long."""
    with socket.create_connection(server.socket_address, timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def head(length: str, content_type: str = "application/json", path: str = INFER) -> bytes:
    """Give a request's head."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n".encode()


def test_announced_body_is_refused_unread(server: ServerProcess) -> None:
    """A Content-Length above the limit gets 413 although not one byte of the body was sent."""
    answer = talk(server, head(f"Content-Length: {MAX_BODY + 1}"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert str(MAX_BODY).encode() in answer


def test_body_of_exactly_the_limit_is_read(server: ServerProcess) -> None:
    """A body as large as the limit is looked at; what is wrong with it is something else."""
    body = json.dumps(infer_request([0.0], [2])).encode().ljust(MAX_BODY)
    assert server.http.post(INFER, content=body).status_code == 400
    assert server.http.post(INFER, content=body + b" ").status_code == 413


def test_chunked_body_is_counted(server: ServerProcess) -> None:
    """A body without an announced length is cut off at the limit."""

    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            yield b" " * (MAX_BODY // 8)

    assert server.http.post(INFER, content=chunks()).status_code == 413
    assert still_serves(server)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bomb(server: ServerProcess, encoding: str) -> None:
    """A small compressed body that unpacks to far more than the limit gets 413."""
    bomb = gzip.compress(bytes(150_000_000)) if encoding == "gzip" else zlib.compress(bytes(150_000_000))
    assert len(bomb) < MAX_BODY
    answer = server.http.post(INFER, content=bomb, headers={"Content-Encoding": encoding})
    assert answer.status_code == 413
    assert still_serves(server)


def test_broken_compression(server: ServerProcess) -> None:
    """A body that is not compressed as its header says gets 400."""
    answer = server.http.post(INFER, content=b"nonsense", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400


def test_body_that_never_ends(server: ServerProcess) -> None:
    """A body that stops in the middle gets 408 after the timeout, and its connection is closed."""
    answer = talk(server, head("Content-Length: 1000") + b"{")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"within 1 seconds" in answer


def test_body_that_drips(server: ServerProcess) -> None:
    """A byte now and then does not stretch the timeout: it is for the whole body."""
    with socket.create_connection(server.socket_address, timeout=20) as connection:
        connection.sendall(head("Content-Length: 1000"))
        connection.settimeout(0.2)
        answer = b""
        for _ in range(50):
            try:
                answer += connection.recv(65536)
                break
            except TimeoutError:
                connection.sendall(b" ")
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "said", [b"", b"POST /v2/models/digits/in", head("X: y")[:-2]], ids=["nothing", "line", "head"]
)
def test_slow_heads(server: ServerProcess, said: bytes) -> None:
    """A connection that never finishes the head of a request is closed."""
    assert talk(server, said) == b""


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x00\x01\x02\x03\r\n\r\n", id="bytes"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 20_000 + b"\r\n\r\n", id="long-header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", id="many-headers"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="long-line"),
        pytest.param(head("Content-Length: -5"), id="negative-length"),
        pytest.param(head("Content-Length: 5\r\nTransfer-Encoding: chunked"), id="smuggling"),
        pytest.param(head("Transfer-Encoding: chunked") + b"zz\r\n", id="bad-chunk"),
    ],
)
def test_broken_http(server: ServerProcess, raw: bytes) -> None:
    """What is no HTTP gets 400, never 500, and the server goes on."""
    assert talk(server, raw).split()[1] == b"400"
    assert still_serves(server)


@pytest.mark.parametrize(
    "data", [b"[" * 50_000, b'{"a":' * 30_000, b"[" + b"9" * 100_000 + b"]", b"[1e" + b"9" * 100_000 + b"]"],
    ids=["lists", "objects", "digits", "exponent"],
)
def test_json_bombs(server: ServerProcess, data: bytes) -> None:
    """JSON that is nested without end, and numbers without end, get 400."""
    body = b'{"inputs":[{"name":"images","shape":[1],"datatype":"FP32","data":' + data + b"}]}"
    assert server.http.post(INFER, content=body).status_code == 400
    assert still_serves(server)


def huge_png() -> bytes:
    """Give a complete, valid PNG of 100 megapixels in about 100 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compressobj(9)
    packed = b"".join(pixels.compress(bytes(1 + 10_000)) for _ in range(10_000)) + pixels.flush()
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_100_megapixels(server: ServerProcess) -> None:
    """A small file with 100 megapixels gets 413, and costs the server no memory."""
    picture = huge_png()
    assert len(picture) < MAX_BODY
    before = resident(server)
    answer = server.http.post("/models/digits/predict", content=picture, headers={"Content-Type": "image/png"})
    assert answer.status_code == 413
    assert "10000 x 10000" in answer.json()["error"]
    assert resident(server) - before < 50_000_000


def resident(server: ServerProcess) -> int:
    """Give the server's memory in bytes."""
    pages = Path(f"/proc/{server.address['pid']}/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        pytest.param(onnx_models.picture()[:200], "image/png", 400, id="truncated"),
        pytest.param(b"hello", "image/jpeg", 400, id="no-picture"),
        pytest.param(b"", "image/jpeg", 400, id="empty"),
        pytest.param(b"{}", "application/json", 415, id="json"),
        pytest.param(b"--x\r\n", "multipart/form-data; boundary=x", 400, id="broken-form"),
    ],
)
def test_bad_uploads(server: ServerProcess, content: bytes, content_type: str, status: int) -> None:
    """What is no picture is refused with a sentence."""
    answer = server.http.post("/models/digits/predict", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status
    assert answer.json()["error"]


def test_full_queue(server: ServerProcess) -> None:
    """More requests than may wait get 429 with Retry-After; the others are answered, and later ones again."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            answers.append(client.post("/v2/models/slow/infer", json=infer_request([0.0] * 3072, [1, 3, 32, 32])))

    threads = [threading.Thread(target=ask) for _ in range(QUEUE * 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= QUEUE
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 429)
    ask()
    assert answers[-1].status_code == 200


def test_latency_budget(server: ServerProcess) -> None:
    """With a budget, whoever would be answered too late gets 429 long before the queue is full; without it nobody."""
    model = onnx_models.publish(server.store, onnx_models.slow_classifier(ROUNDS), answers=onnx_models.SLOW_ANSWERS)
    request = infer_request([0.0] * 3072, [1, 3, 32, 32])

    def answers(latency: str) -> list[httpx.Response]:
        batching = {"batching": {"latencyBudget": latency}}
        assert server.load("slow", model.target() | {"options": batching}).status_code == 200
        with ThreadPoolExecutor(QUEUE) as pool:
            return list(pool.map(lambda _: server.http.post("/v2/models/slow/infer", json=request), range(QUEUE)))

    assert {answer.status_code for answer in answers("1h")} == {200}
    refused = [answer for answer in answers("1ms") if answer.status_code == 429]
    assert 0 < len(refused) < QUEUE
    assert "latencyBudget" in refused[0].json()["error"]
    assert server.load("slow", model.target() | {"options": {}}).status_code == 200


def test_clients_that_leave_are_dropped(server: ServerProcess) -> None:
    """Requests whose clients hung up while they waited are not run: the queue is free again at once."""
    body = json.dumps(infer_request([0.0] * 3072, [1, 3, 32, 32])).encode()
    request = head(f"Content-Length: {len(body)}", path="/v2/models/slow/infer") + body
    runs = inferences(server)
    connections = [socket.create_connection(server.socket_address) for _ in range(QUEUE)]
    for connection in connections:
        connection.sendall(request)
    time.sleep(0.05)
    for connection in connections:
        connection.close()
    answer = server.http.post("/v2/models/slow/infer", content=body)
    assert answer.status_code == 200
    assert inferences(server) - runs < len(connections) + 1


def inferences(server: ServerProcess) -> int:
    """Give how many inferences the slow model made."""
    for line in server.http.get("/metrics").text.splitlines():
        if line.startswith('trunkline_batch_rows_count{model="slow"}'):
            return int(float(line.split()[-1]))
    return 0
