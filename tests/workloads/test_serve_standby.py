"""The version before, which stands by for a while, and what else a server is told beside what to serve."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.store import Store
from specs.digests import hex_of
from specs.serving import ServerOptions
from tests.support import onnx_models
from tests.support.inference_server import ServerProcess, publish, running, serving, wait_until
from tests.support.onnx_models import Published
from workloads.serve.cache import Cache
from workloads.serve.engine import Opening
from workloads.serve.engine_onnx import OnnxEngine
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.repository import Repository
from workloads.serve.state import Asked, State

BAKE = 600.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give the server of all these tests."""
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(shared: ServerProcess) -> ServerProcess:
    """Give a server without a model."""
    shared.http.post("/v2/repository/models/digits/unload")
    return shared


def asked(model: Published, version: int, **options: Any) -> dict[str, Any]:
    """Give what a load asks for."""
    return model.target(version) | {"options": ServerOptions(**options).plain()}


def digits(server: ServerProcess) -> dict[str, Any]:
    """Give what the server says about its model."""
    return server.models()["digits"]


def without_store(server: ServerProcess) -> None:
    """Take everything away that a load would read."""
    shutil.rmtree(server.store_path)
    for file in (server.state / "cache").iterdir():
        file.unlink()


def on_trial(server: ServerProcess, seconds: float = BAKE) -> tuple[Published, Published]:
    """Have v1 replaced by v2, and stand by."""
    old, new = publish(server, 1), publish(server, 2)
    assert server.load("digits", asked(old, 1, standby=seconds)).status_code == 200
    assert digits(server)["standby"] is None
    assert server.load("digits", asked(new, 2, standby=seconds)).status_code == 200
    return old, new


def test_goes_back_without_store_and_disk(server: ServerProcess) -> None:
    """The version before takes over again although neither store nor cache have its file; a restart serves it too."""
    old, _new = on_trial(server)
    assert digits(server)["standby"] == 1
    without_store(server)
    assert server.load("digits", asked(old, 1)).status_code == 200
    assert serving(server) == hex_of(old.file)[:12]
    entry = digits(server)
    assert (entry["version"], entry["standby"], entry["failed_file"]) == (1, None, None)
    assert f'"file":"{old.file}"' in (server.state / "serving/digits.json").read_text().replace(" ", "")


def test_without_time_nothing_stands_by(server: ServerProcess) -> None:
    """A version that nobody wants back is let go at once: going back to it is a load, which needs the store."""
    old, new = on_trial(server, 0)
    assert digits(server)["standby"] is None
    without_store(server)
    assert server.load("digits", asked(old, 1)).status_code in (404, 503)
    assert serving(server) == hex_of(new.file)[:12]


def test_stands_by_for_its_time_only(server: ServerProcess) -> None:
    """When its time is over the version before is let go, also where the time is made shorter meanwhile."""
    on_trial(server, 0.05)
    wait_until(lambda: digits(server)["standby"] is None)
    new = publish(server, 3)
    server.load("digits", asked(new, 3, standby=BAKE))
    assert digits(server)["standby"] == 2
    assert server.load("digits", asked(new, 3, standby=0.001)).status_code == 200
    wait_until(lambda: digits(server)["standby"] is None)
    assert serving(server) == hex_of(new.file)[:12]


def test_only_exactly_that_version_comes_back(server: ServerProcess) -> None:
    """The same file under another version is another release: it is looked up as always, and loads as always."""
    old, new = on_trial(server)
    assert server.load("digits", asked(old, 3, standby=BAKE)).status_code == 200
    assert (digits(server)["version"], digits(server)["standby"]) == (3, 2)
    without_store(server)
    assert server.load("digits", asked(new, 2)).status_code == 200
    assert digits(server)["version"] == 2


def test_a_third_version_takes_the_place(server: ServerProcess) -> None:
    """Only the version before stands by, and what does not load replaces nothing."""
    on_trial(server)
    third = publish(server, 3)
    missing = asked(third, 3) | {"file": "sha256:" + "0" * 64}
    assert server.load("digits", missing).status_code == 404
    assert digits(server)["standby"] == 1
    assert server.load("digits", asked(third, 3, standby=BAKE)).status_code == 200
    assert digits(server)["standby"] == 2
    server.http.post("/v2/repository/models/digits/unload")
    assert server.models() == {}


def test_other_options_load_nothing(server: ServerProcess) -> None:
    """Other options are in force at once, without the store, and after a restart; a load without any keeps them."""
    model = publish(server, 1)
    server.load("digits", model.target())
    assert digits(server)["options"] == ServerOptions().digest
    options = ServerOptions.model_validate({"standby": 3, "labelling": {"randomPercent": 10.0, "maxPerDay": 5}})
    without_store(server)
    told = model.target() | {"options": options.plain()}
    assert server.load("digits", told).status_code == 200
    assert digits(server)["options"] == options.digest
    assert server.load("digits", model.target(2)).status_code == 200
    assert (digits(server)["options"], digits(server)["version"]) == (options.digest, 2)


def test_options_outlive_the_server(tmp_path: Path) -> None:
    """A server that was killed comes back with the options that it was told, though not with what stood by."""
    server = ServerProcess(tmp_path)
    try:
        server.start()
        on_trial(server)
        server.end(signal.SIGKILL)
        server.start()
        entry = digits(server)
        assert (entry["version"], entry["standby"]) == (2, None)
        assert entry["options"] == ServerOptions(standby=BAKE).digest
    finally:
        server.close()


def test_options_of_a_newer_controller(server: ServerProcess) -> None:
    """What the server does not know of its options keeps no model from serving, and has the name that it came with."""
    model = publish(server, 1)
    odd = {"standby": 1.5, "labelling": {"mood": "sad"}, "future": [1, {"x": None}]}
    assert server.load("digits", model.target() | {"options": odd}).status_code == 200
    first = digits(server)["options"]
    assert first is not None
    assert server.load("digits", model.target() | {"options": odd | {"standby": 2}}).status_code == 200
    assert digits(server)["options"] not in (first, ServerOptions().digest)


def test_self_tests_are_repeated_on_demand(server: ServerProcess) -> None:
    """Whoever asks has the self-tests of what serves repeated; where they cannot be had, that is no verdict."""
    old, _new = on_trial(server)
    for _ in range(2):
        answer = server.http.post("/trunkline/models/digits/self-test")
        assert (answer.status_code, answer.json()) == (200, {"name": "digits", "passed": True, "error": ""})
    assert digits(server)["self_test"] == ""
    assert server.http.post("/trunkline/models/unknown/self-test").status_code == 404
    without_store(server)
    assert server.http.post("/trunkline/models/digits/self-test").status_code == 503
    assert digits(server)["self_test"] == ""
    assert old.file != digits(server)["file"]


async def changed(true: Callable[[], bool]) -> None:
    """Let the others work until something is true."""
    while not true():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


def test_a_version_on_trial_proves_itself_again_and_again(tmp_path: Path) -> None:
    """A version whose answers are others than when it was loaded is found out by itself, and told until it is well."""

    async def trial() -> tuple[list[object], list[object]]:
        store, state = Store(f"file://{tmp_path / 'store'}"), State(tmp_path / "state")
        old, new, other = (onnx_models.publish(store, onnx_models.classifier(seed)) for seed in (1, 2, 3))
        with ThreadPoolExecutor(2) as threads:
            limits = Limits(threads=1)
            repository = Repository(store, Cache(tmp_path / "cache", store), state, limits, Metrics(), threads)
            for version, model in enumerate((old, new), start=1):
                await repository.load("digits", Asked.model_validate(asked(model, version, standby=4.0)))
            served, slot = repository.get("digits"), repository.slots()["digits"]
            well, rotten = served.engine, OnnxEngine(store.read_blob(other.file), Opening((32, 32)))
            seen: tuple[list[object], list[object]] = ([], [])
            for engine, told in ((rotten, seen[0]), (well, seen[1])):
                served.engine = engine  # as if its memory had rotted, or were well again
                before = slot.flaw
                await changed(lambda now=before: slot.flaw != now)
                told += [slot.describe()["self_test"], slot.served is served]
            repository.close()
        return seen

    rotten, well = asyncio.run(asyncio.wait_for(trial(), 30))
    assert rotten[1] is True
    assert str(rotten[0]).startswith("self-test 1 of 1, tensor input: output")
    assert well == ["", True]
