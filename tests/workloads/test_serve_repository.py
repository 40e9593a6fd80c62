"""Loads, swaps and failures, and what serves meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
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
    running,
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


def test_unload_is_remembered(server: ServerProcess) -> None:
    """A model that was unloaded does not come back with a restart."""
    server.start()
    server.load("digits", publish(server, 1).target())
    assert server.http.post("/v2/repository/models/digits/unload").status_code == 200
    assert server.http.post(INFER, json=REQUEST).status_code == 404
    server.end(signal.SIGKILL)
    server.start()
    assert server.models() == {}
    assert list((server.state / "cache").iterdir()) == []


def test_failed_load_keeps_the_old_one(server: ServerProcess) -> None:
    """Whatever is wrong with a new file, the old one serves on, and the failure shows until another is asked for."""
    server.start()
    old, new, corrupt = publish(server, 1), publish(server, 2), publish(server, 3)
    wrong = onnx_models.publish(
        server.store, onnx_models.classifier(4), answers={"output0": np.zeros((1, 10), np.float32)}
    )
    path = server.store_path / blob_key(corrupt.file)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    server.load("digits", old.target(1))
    for target, status, reason in (
        (corrupt.target(2), 422, "CorruptArtifact"), (wrong.target(2), 422, "SelfTestFailed"),
        (new.target(2) | {"file": "sha256:" + "0" * 64}, 404, "ArtifactMissing"),
        (new.target(2) | {"weights": "sha256:" + "0" * 64}, 422, "CorruptArtifact"),
    ):  # fmt: skip
        answer = server.load("digits", target)
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert serving(server) == hex_of(old.file)[:12]
        entry = server.models()["digits"]
        assert (entry["version"], entry["file"], entry["ready"]) == (1, old.file, True)
        assert (entry["failed_file"], entry["failure"]) == (target["file"], answer.json()["error"])
    assert server.load("digits", new.target(2)).status_code == 200
    entry = server.models()["digits"]
    assert (entry["failed_file"], entry["failure"], entry["version"]) == (None, "", 2)


def test_what_served_before_comes_back_without_a_store_and_where_the_last_one_is_damaged(server: ServerProcess) -> None:
    """Two slots on disk: a release whose file went bad there is told as failed, and the one before it answers."""
    server.start()
    old, new = publish(server, 1), publish(server, 2)
    server.load("digits", old.target(1))
    server.load("digits", new.target(2))
    server.end(signal.SIGKILL)
    server.store_path.rename(server.store_path.with_name("away"))
    server.store_path.symlink_to(server.store_path)  # whoever looks there gets an error, not nothing
    cached = server.state / "cache" / hex_of(new.file)
    cached.chmod(0o644)
    cached.write_bytes(b"flash memory wears out")
    server.start()
    assert serving(server) == hex_of(old.file)[:12]
    entry = server.models()["digits"]
    assert (entry["version"], entry["ready"]) == (1, True)
    assert entry["failure"]
    assert server.load("digits", old.target(1)).status_code == 200, "it is there already"

    server.store_path.unlink()
    server.store_path.with_name("away").rename(server.store_path)
    assert server.load("digits", new.target(2)).status_code == 200
    server.store_path.rename(server.store_path.with_name("away"))
    server.store_path.symlink_to(server.store_path)  # whoever looks there gets an error, not nothing
    assert server.load("digits", old.target(1)).status_code == 200, "going back needs no network"
    assert serving(server) == hex_of(old.file)[:12]


@pytest.mark.parametrize("place", ["store", "cache"])
def test_trouble_of_the_moment_is_no_verdict(server: ServerProcess, place: str) -> None:
    """While store or disk are in trouble a load gets 503 and the file is not held to have failed."""
    server.start()
    old, new = publish(server, 1), publish(server, 2)
    server.load("digits", old.target(1))
    path = server.store_path / "artifacts" if place == "store" else server.state / "cache"
    aside = path.rename(path.with_name("aside"))
    path.symlink_to(path)  # a loop: whoever opens something below it gets an error
    answer = server.load("digits", new.target(2))
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"]
    entry = server.models()["digits"]
    assert (entry["version"], entry["failed_file"]) == (1, None)
    assert entry["failure"] == answer.json()["error"]
    assert serving(server) == hex_of(old.file)[:12]
    path.unlink()
    aside.rename(path)
    assert server.load("digits", new.target(2)).status_code == 200


def test_same_file_is_not_loaded_again(server: ServerProcess) -> None:
    """Asking for the file that serves is no load, even without a store; its version and run may change."""
    server.start()
    model = publish(server, 1)
    server.load("digits", model.target(1))
    for key in (artifact_key(model.file), blob_key(model.file)):
        (server.store_path / key).unlink()
    again = model.target(7) | {"run": "sha256:" + "7" * 64}
    assert server.load("digits", again).status_code == 200
    assert server.models()["digits"] | again == server.models()["digits"]
    assert server.http.post(INFER, json=REQUEST).json()["model_version"] == "7"
    assert server.load("digits", again | {"weights": "sha256:" + "7" * 64}).json()["reason"] == "CorruptArtifact"
    server.end(signal.SIGKILL)
    server.start()
    assert server.models()["digits"]["version"] == 7


def test_simultaneous_loads_are_one(server: ServerProcess) -> None:
    """Ten clients that ask for the same file at once cause one load."""
    server.start()
    target = publish_slow(server, 10).target()
    statuses: list[int] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
            statuses.append(client.post("/v2/repository/models/digits/load", json={"parameters": target}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 10
    assert 'trunkline_loads_total{model="digits",result="ok"} 1.0' in server.http.get("/metrics").text


def test_killed_during_a_load(server: ServerProcess) -> None:
    """A server killed while it loads serves the old one after the restart, and can load the new one then."""
    server.start()
    old = publish(server, 1)
    server.load("digits", old.target(1))
    with slow_load(server) as slow:
        server.end(signal.SIGKILL)
    server.start()
    assert serving(server) == hex_of(old.file)[:12]
    entry = server.models()["digits"]
    assert (entry["version"], entry["failed_file"]) == (1, None)
    assert not [path for path in (server.state / "cache").iterdir() if path.name.startswith(".")]
    assert server.load("digits", slow.target(2)).status_code == 200


def test_load_outlives_its_client(server: ServerProcess) -> None:
    """A client that hangs up during a load does not stop it: the answer is lost, the effect is not."""
    server.start()
    server.load("digits", publish(server, 1).target(1))
    with slow_load(server) as slow:
        pass
    wait_until(lambda: server.models()["digits"]["file"] == slow.file)


def test_only_current_and_previous_files_are_kept(server: ServerProcess) -> None:
    """The cache holds what serves and what served before, and nothing else."""
    server.start()
    models = [publish(server, seed) for seed in range(4)]
    for version, model in enumerate(models, start=1):
        assert server.load("digits", model.target(version)).status_code == 200
    kept = {path.name for path in (server.state / "cache").iterdir()}
    assert {hex_of(model.file) for model in models} & kept == {hex_of(model.file) for model in models[2:]}


def test_swap_under_load(tmp_path: Path) -> None:
    """While models are swapped under four busy clients, no request fails, and each answer belongs to its version."""
    with running(tmp_path) as server:
        models = [publish(server, seed) for seed in (1, 2)]
        expected = [
            onnx_models.run(onnx_models.classifier(seed), np.full((1, 3, 32, 32), 0.5, np.float32))["output0"]
            for seed in (1, 2)
        ]
        server.load("digits", models[0].target(1))
        stop = threading.Event()
        bad: list[str] = []
        seen: set[str] = set()

        def ask(path: str, **request: Any) -> None:
            with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
                while not stop.is_set():
                    answer = client.post(path, **request)
                    file = answer.headers.get("Trunkline-File", "")
                    seen.add(file)
                    if answer.status_code != 200:
                        bad.append(answer.text)
                    elif path == INFER:
                        which = [hex_of(model.file)[:12] for model in models].index(file)
                        given = np.array(answer.json()["outputs"][0]["data"])
                        if not np.allclose(given, expected[which][0], rtol=1e-4):
                            bad.append(f"{file} answered with the other's numbers")

        picture = {"content": onnx_models.picture(), "headers": {"Content-Type": "image/png"}}
        clients = [threading.Thread(target=ask, args=(INFER,), kwargs={"json": REQUEST}) for _ in range(3)]
        clients.append(threading.Thread(target=ask, args=("/models/digits/predict",), kwargs=picture))
        for client in clients:
            client.start()
        for version in range(2, 22):
            assert server.load("digits", models[(version + 1) % 2].target(version)).status_code == 200
        stop.set()
        for client in clients:
            client.join()
        assert bad == []
        assert len(seen) == 2
