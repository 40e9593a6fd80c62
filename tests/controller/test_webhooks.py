"""The webhook port over real HTTP and raw sockets: strangers get nothing, slow ones get no time."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controller.hooks import Hook, Hooks
from controller.webhooks import CONNECTIONS, MOST_BYTES, Webhooks

SECRET = b"abc"


class Door:
    """A listener on a free port, with what it woke and counted."""

    def __init__(self, folder: Path, patience: float = 30.0) -> None:
        self.woken = 0
        self.counts: Counter[str] = Counter()
        file = folder / "secret"
        file.write_bytes(SECRET)
        hooks = Hooks([Hook("github", file, "a/b", self._wake)])
        self.webhooks = Webhooks(0, hooks, lambda outcome: self.counts.update([outcome]), patience=patience)
        self.webhooks.start()
        self.url = f"http://127.0.0.1:{self.webhooks.port}"

    def _wake(self) -> None:
        self.woken += 1

    def post(self, body: bytes, path: str = "/webhook", **headers: str) -> httpx.Response:
        """Send as GitHub does, signed unless the headers say otherwise."""
        signed = {"X-Hub-Signature-256": signature(body), "Content-Type": "application/json"}
        with httpx.Client(trust_env=False) as client:
            return client.post(self.url + path, content=body, headers={**signed, **headers})

    def talk(self, *parts: bytes) -> bytes:
        """Say something over a raw connection, and hear what comes until it is closed."""
        with socket.create_connection(("127.0.0.1", self.webhooks.port), timeout=60) as line:
            try:
                for part in parts:
                    line.sendall(part)
                return _all(line)
            except ConnectionError:
                return b""


def _all(line: socket.socket) -> bytes:
    heard = b""
    while True:
        try:
            more = line.recv(65_536)
        except ConnectionError:
            return heard
        if not more:
            return heard
        heard += more


def signature(body: bytes, secret: bytes = SECRET) -> str:
    """Sign as GitHub does."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


HEAD = b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=" + b"0" * 64 + b"\r\n"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A listener with patience."""
    made = Door(tmp_path)
    yield made
    made.webhooks.stop()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Door]:
    """A listener that gives a connection half a second."""
    made = Door(tmp_path, patience=0.5)
    yield made
    made.webhooks.stop()


def test_a_signed_webhook_wakes(door: Door) -> None:
    """2xx without a word; the same again is 2xx too, and wakes nobody."""
    answer = door.post(b'{"a": 1}')
    assert (answer.status_code, answer.content) == (204, b"")
    assert door.post(b'{"a": 1}').status_code == 204
    assert door.woken == 1
    assert door.counts == {"woke": 1, "duplicate": 1}


def test_what_is_signed_is_the_raw_body(door: Door) -> None:
    """A compressed body is not unpacked: no bomb, and the signature is about the bytes that came."""
    body = gzip.compress(b"x" * 50_000_000)
    answer = door.post(body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, door.woken) == (204, 1)


@pytest.mark.parametrize(
    "headers",
    [{"X-Hub-Signature-256": signature(b"x", b"guess")}, {"X-Hub-Signature-256": ""}, {"X-Gitlab-Token": "abc",
      "X-Hub-Signature-256": ""}],
    ids=["wrong", "none", "another-forge"],
)  # fmt: skip
def test_strangers_learn_nothing(door: Door, headers: dict[str, str]) -> None:
    """401 without a word, a name or a reason."""
    answer = door.post(b"x", **headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert not answer.headers.get("Server")
    assert (door.woken, door.counts) == (0, {"refused": 1})


def test_there_is_one_path_and_one_verb(door: Door) -> None:
    """Everything else is not there, and is not counted."""
    assert door.post(b"x", path="/").status_code == 404
    assert door.post(b"x", path="/webhook/more").status_code == 404
    with httpx.Client(trust_env=False) as client:
        for verb in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            answer = client.request(verb, f"{door.url}/webhook")
            assert (answer.status_code, answer.content) == (404, b"")
    assert (door.woken, door.counts) == (0, {})


def test_what_is_too_large_is_not_read(door: Door) -> None:
    """413 as soon as its length is known, before a byte of it was sent."""
    heard = door.talk(HEAD + b"Content-Length: 26214400\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert heard.endswith(b"\r\n\r\n")
    assert door.counts == {"oversized": 1}


def test_the_largest_one_is_read(door: Door) -> None:
    """Exactly as much as is allowed wakes, a byte more does not."""
    assert door.post(b"x" * MOST_BYTES).status_code == 204
    assert door.post(b"x" * (MOST_BYTES + 1)).status_code == 413
    assert door.woken == 1


def test_a_body_without_an_end_is_cut_off(door: Door) -> None:
    """Chunks without a length are counted as they come."""
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    heard = door.talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 40)
    assert not heard or heard.startswith(b"HTTP/1.1 413 ")
    assert door.woken == 0
    assert door.counts == {"oversized": 1}


def test_without_a_signature_no_body_is_waited_for(door: Door) -> None:
    """Whoever has nothing to prove is answered at once."""
    heard = door.talk(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: ", HEAD + b"Content-Length: 1000\r\n\r\nabc",
     HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"],
    ids=["silence", "in-a-header", "in-the-body", "in-a-chunk"],
)  # fmt: skip
def test_whoever_is_slow_is_hung_up_on(hasty: Door, sent: bytes) -> None:
    """A connection has its time in all, wherever it stands; nobody is woken."""
    assert hasty.talk(sent) == b""
    assert hasty.woken == 0
    assert hasty.post(b"still here").status_code == 204


@pytest.mark.parametrize(
    "sent",
    [b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
     b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST /webhook HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n",
     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"nonsense\r\n\r\n",
     HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     HEAD + b"Content-Length: -5\r\n\r\n"],
    ids=["long-header", "long-path", "many-headers", "tls", "nonsense", "two-lengths", "negative-length"],
)  # fmt: skip
def test_what_is_no_proper_request_is_refused(
    door: Door, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """4xx without a word (or nothing at all), and no line in our log either: strangers do not get to fill it."""
    heard = door.talk(sent)
    assert not heard or heard.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert heard == b"" or heard.endswith(b"\r\n\r\n")
    assert door.woken == 0
    assert not caplog.records


def test_connections_have_a_bound(tmp_path: Path) -> None:
    """Those beyond it are closed; when the idle ones have had their time, there is room again."""
    door = Door(tmp_path, patience=2.0)
    lines = [socket.create_connection(("127.0.0.1", door.webhooks.port), timeout=60) for _ in range(CONNECTIONS + 5)]
    try:
        assert all(_all(line) == b"" for line in lines)
        assert door.post(b"room").status_code == 204
    finally:
        for line in lines:
            line.close()
        door.webhooks.stop()


def test_a_listener_that_never_began_can_be_stopped(tmp_path: Path) -> None:
    """A replica that only stands by has the port, answers nobody there, and lets it go."""
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    webhooks = Webhooks(0, Hooks([Hook("github", file, "a/b", lambda: None)]))
    port = webhooks.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    webhooks.stop()
    socket.create_server(("", port)).close()
