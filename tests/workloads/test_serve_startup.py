"""A server that is told at its start what to serve, as a Deployment does: real processes, seen from outside."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from adapters.store import Store
from specs.digests import hex_of
from specs.records import artifact_key, blob_key
from tests.support import onnx_models
from tests.support.apiserver import free_port
from tests.support.inference_server import INFER, REQUEST, ServerProcess, publish, serving, wait_until
from tests.support.onnx_models import Published

SLOW = 200
"""Rounds of a model that takes a second or two to prove itself."""
Start = Callable[..., ServerProcess]


@pytest.fixture
def shelf(tmp_path: Path) -> Store:
    """Give the store that the servers of this test read."""
    return Store(f"file://{tmp_path / 'store'}")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Start]:
    """Give a way to start servers that share store and state, without waiting until one is ready."""
    servers: list[ServerProcess] = []

    def begin(target: str = "", *options: str) -> ServerProcess:
        port = free_port()
        told = ["--target", target] if target else []
        server = ServerProcess(tmp_path, "--port", str(port), *told, *options)
        server.http.close()
        server.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
        server.spawn()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.close()


def told(published: Published, version: int = 1, name: str = "digits") -> str:
    """Give the JSON that tells a server what to serve."""
    return json.dumps({"name": name, **published.target(version)})


def plain(store: Store, seed: int = 1) -> Published:
    """Put a model into the store that loads quickly."""
    return onnx_models.publish(store, onnx_models.classifier(seed))


def slow(store: Store) -> Published:
    """Put a model into the store that takes a second or two to load."""
    return onnx_models.publish(store, onnx_models.slow_classifier(SLOW), answers=onnx_models.SLOW_ANSWERS)


def health(server: ServerProcess, what: str) -> tuple[int, dict[str, Any]]:
    """Ask ``live`` or ``ready``; (0, {}) where nobody listens yet."""
    try:
        answer = server.http.get(f"/v2/health/{what}")
    except httpx.TransportError:
        return 0, {}
    return answer.status_code, answer.json()


def until_ready(server: ServerProcess) -> None:
    """Wait for a server to say that requests may come."""
    wait_until(lambda: health(server, "ready")[0] == 200)


def last_line(tmp_path: Path) -> str:
    """Give what the server said last, as kubernetes would keep it."""
    return (tmp_path / "log.txt").read_text().splitlines()[-1]


def test_alive_at_once_and_ready_when_it_serves(begin: Start, shelf: Store) -> None:
    """It answers that it lives while the target loads, says what it waits for, and is ready once the target answers."""
    server = begin(told(slow(shelf), 7))
    wait_until(lambda: health(server, "live")[0] == 200)
    status, body = health(server, "ready")
    assert (status, body) == (503, {"ready": False, "error": "version 7 of digits is being loaded"})
    seen = []
    while (answer := server.http.get("/v2/health/ready")).status_code == 503:
        seen.append(server.http.post(INFER, json=REQUEST).status_code)
        time.sleep(0.02)
    assert answer.json() == {"ready": True}
    assert set(seen[:-1]) <= {404, 503}, "nothing answers before it is ready"
    assert server.http.post(INFER, json=REQUEST).status_code == 200
    assert server.models()["digits"]["version"] == 7


def test_the_environment_tells_too(begin: Start, shelf: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target may come in the environment; a model of another namespace than default has a dot in its name."""
    model = plain(shelf)
    monkeypatch.setenv("TRUNKLINE_SERVING_TARGET", told(model, 3, "retail.digits"))
    server = begin()
    until_ready(server)
    answer = server.http.post("/v2/models/retail.digits/infer", json=REQUEST)
    assert (answer.status_code, answer.headers["Trunkline-File"]) == (200, hex_of(model.file)[:12])


def test_nobody_else_decides_what_serves(begin: Start, shelf: Store) -> None:
    """Orders of clients to load or unload are refused with the way that is right, and change nothing."""
    first, second = plain(shelf), plain(shelf, 2)
    server = begin(told(first))
    until_ready(server)
    for answer in (
        server.load("digits", second.target(2)), server.load("other", second.target()),
        server.http.post("/v2/repository/models/digits/unload", json={}),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["reason"]) == (403, "Fixed")
        assert "by pull request" in answer.json()["error"]
    assert (serving(server), list(server.models())) == (hex_of(first.file)[:12], ["digits"])
    assert health(server, "ready")[0] == 200


def test_trouble_with_the_store_is_waited_out(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """While the store is in trouble the server lives, says what it waits for, and serves once the trouble is over."""
    model = plain(shelf)
    path = tmp_path / "store" / "artifacts"
    aside = path.rename(path.with_name("aside"))
    path.symlink_to(path)  # a loop: whoever opens something below it gets an error
    server = begin(told(model))
    wait_until(lambda: "cannot be loaded now" in health(server, "ready")[1].get("error", ""))
    assert "check that it is there" in health(server, "ready")[1]["error"]
    assert health(server, "live")[0] == 200
    path.unlink()
    aside.rename(path)
    until_ready(server)
    assert serving(server) == hex_of(model.file)[:12]


def absent(store: Store) -> Published:
    """Give a model whose record the store lost."""
    model = plain(store)
    (Path(store.url.removeprefix("file://")) / artifact_key(model.file)).unlink()
    return model


def tampered(store: Store) -> Published:
    """Give a model whose bytes were changed."""
    model = plain(store)
    path = Path(store.url.removeprefix("file://")) / blob_key(model.file)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    return model


def untrue(store: Store) -> Published:
    """Give a model that does not answer as it was recorded."""
    answers = {onnx_models.OUTPUT: np.zeros((1, onnx_models.CLASSES), np.float32)}
    return onnx_models.publish(store, onnx_models.classifier(1), answers=answers)


def garbage(store: Store) -> Published:
    """Give a model that is none."""
    return onnx_models.publish(store, b"no model", tests=0)


HOPELESS = [
    (absent, "ArtifactMissing"),
    (tampered, "CorruptArtifact"),
    (untrue, "SelfTestFailed"),
    (garbage, "LoadFailed"),
]


@pytest.mark.parametrize(("make", "reason"), HOPELESS, ids=[reason for _, reason in HOPELESS])
def test_what_can_never_serve_ends_the_server(
    begin: Start, shelf: Store, tmp_path: Path, make: Callable[[Store], Published], reason: str
) -> None:
    """A verdict on the file ends the server with 10, its reason and one sentence on the last line of its log."""
    server = begin(told(make(shelf)))
    assert server.process is not None
    assert server.process.wait(60) == 10
    line = last_line(tmp_path)
    assert line.startswith(f"trunkline: {reason}: ")
    assert len(line) > len(f"trunkline: {reason}: ") + 20, "a sentence"
    assert "Traceback" not in (tmp_path / "log.txt").read_text()
    assert not (server.state / "address.json").exists()


def test_started_again_it_needs_no_store(begin: Start, shelf: Store, tmp_path: Path) -> None:
    """A container that died serves the same bytes again from its own disk, while the store is gone."""
    model = plain(shelf)
    first = begin(told(model, 4))
    until_ready(first)
    first.end(signal.SIGKILL)
    (tmp_path / "store").rename(tmp_path / "gone")
    again = begin(told(model, 4))
    until_ready(again)
    assert serving(again) == hex_of(model.file)[:12]
    again.end()
    other = begin(told(model, 5))
    assert other.process is not None
    assert other.process.wait(60) == 10, "another version is not what was proved"


def test_what_served_before_is_dropped(begin: Start, shelf: Store) -> None:
    """What the disk remembers beside the target is not served: neither another model nor another file."""
    before = begin()
    until_ready(before)
    for name, seed in (("digits", 1), ("other", 2)):
        assert before.load(name, publish(before, seed).target()).status_code == 200
    before.end()
    model = plain(shelf, 3)
    server = begin(told(model, 2))
    until_ready(server)
    assert list(server.models()) == ["digits"]
    assert serving(server) == hex_of(model.file)[:12]


def test_goes_on_answering_while_the_word_spreads(begin: Start, shelf: Store) -> None:
    """SIGTERM: at once not ready, and still answering for the drain delay; then the end is as clean as ever."""
    server = begin(told(plain(shelf)), "--drain-delay", "1.5")
    until_ready(server)
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: health(server, "ready")[0] == 503)
    assert health(server, "ready")[1]["error"] == "the server is about to stop"
    assert health(server, "live")[0] == 200
    with httpx.Client(base_url=server.http.base_url, trust_env=False) as newcomer:
        assert newcomer.post(INFER, json=REQUEST).status_code == 200
    assert server.process.poll() is None
    assert server.process.wait(30) == 0


def test_a_connection_kept_open_is_led_away_in_a_drain(begin: Start, shelf: Store) -> None:
    """A client that never asks whether the server is ready is told to connect anew, before the server closes on it."""
    server = begin(told(plain(shelf)), "--drain-delay", "1.5")
    until_ready(server)
    assert server.process is not None
    with httpx.Client(base_url=server.http.base_url, trust_env=False) as client:
        assert "connection" not in client.post(INFER, json=REQUEST).headers
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: health(server, "ready")[0] == 503)
        for page, status in ((INFER, 200), ("/nowhere", 404)):
            answer = client.post(page, json=REQUEST)
            assert (answer.status_code, answer.headers["connection"]) == (status, "close")
    assert server.process.wait(30) == 0


def test_no_request_is_lost_in_a_drain(begin: Start, shelf: Store) -> None:
    """Clients that ask until they learn that it is not ready get an answer to every request."""
    server = begin(told(plain(shelf)), "--drain-delay", "1")
    until_ready(server)
    answers: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.http.base_url, trust_env=False) as client:
            while client.get("/v2/health/ready").status_code == 200:
                answers.append(client.post(INFER, json=REQUEST).status_code)
            answers.append(client.post(INFER, json=REQUEST).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 10)
    assert server.end() == 0
    for thread in threads:
        thread.join()
    assert set(answers) == {200}


@pytest.mark.parametrize("why", ["loading", "waiting for the store"])
def test_stopped_before_it_was_ready(begin: Start, shelf: Store, tmp_path: Path, why: str) -> None:
    """A server that nobody sends requests to yet stops at once, whatever it waits for."""
    model = slow(shelf)
    if why != "loading":
        path = tmp_path / "store" / "artifacts"
        path.rename(path.with_name("aside"))
        path.symlink_to(path)
    server = begin(told(model), "--drain-delay", "60")
    sign = "cannot be loaded now" if why != "loading" else "is being loaded"
    wait_until(lambda: sign in health(server, "ready")[1].get("error", ""))
    assert server.end() == 0


WRONG = [
    ("digits", "JSON with name, version, run, weights and file"),
    ('{"name": "digits"}', "version: Field required"),
    ('{"name": "../x", "version": 1, "run": "x", "weights": "x", "file": "x"}', "name: "),
]  # fmt: skip


@pytest.mark.parametrize(("target", "said"), WRONG, ids=["no JSON", "incomplete", "wrong values"])
def test_a_target_that_is_none(tmp_path: Path, target: str, said: str) -> None:
    """A target that is not one is a wrong argument: exit 2, and the words say what is expected."""
    command = [sys.executable, "-m", "workloads.serve", "--store", f"file://{tmp_path}", "--state", str(tmp_path)]
    result = subprocess.run([*command, "--target", target], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert said in result.stderr


def test_a_taken_port_is_no_verdict(tmp_path: Path, shelf: Store) -> None:
    """Trouble of the place is not blamed on the file: exit 1."""
    command = [sys.executable, "-m", "workloads.serve", "--store", shelf.url, "--state", str(tmp_path / "state")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--port", str(taken.getsockname()[1]), "--target", told(plain(shelf))]
        result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "address already in use" in result.stderr
