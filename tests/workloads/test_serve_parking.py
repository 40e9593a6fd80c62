"""More models than memory: what is parked, what comes back, and what is never let go."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.store import Store
from specs.digests import hex_of
from specs.errors import Stalled
from tests.support import onnx_models
from tests.support.inference_server import REQUEST, ServerProcess, running, samples
from tests.support.onnx_models import Published
from workloads.serve.answers import Refusal
from workloads.serve.cache import Cache
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.repository import Repository
from workloads.serve.served import Served
from workloads.serve.state import Asked, State

HALF = np.full((1, 3, 32, 32), 0.5, np.float32)
SIZE = len(onnx_models.classifier())


class Place:
    """A store, and a repository with a budget for so many of the small models, whose memory is their size."""

    def __init__(self, root: Path, engines: float, queue: int = 256) -> None:
        self.root = root
        self.store = Store(f"file://{root / 'store'}")
        self.limits = Limits(threads=1, queue=queue, memory_budget=int(SIZE * engines), resident=lambda: 0)
        self.metrics = Metrics()

    @contextmanager
    def open(self) -> Iterator[Repository]:
        """Give the repository; what is on disk is not loaded yet."""
        state = State(self.root / "state")
        with ThreadPoolExecutor(2) as threads:
            self.cache = Cache(self.root / "cache", self.store)
            yield Repository(self.store, self.cache, state, self.limits, self.metrics, threads)
        state.close()

    def publish(self, seed: int) -> Published:
        """Put a small model into the store."""
        return onnx_models.publish(self.store, onnx_models.classifier(seed), tests=0)

    def count(self, name: str) -> float:
        """Give the sum of a series over all its labels."""
        families = list(self.metrics.registry.collect())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)


async def ask(repository: Repository, name: str) -> Any:
    """Do what a request does: find who answers, and have it answer."""
    served = await repository.answering(name)
    with served.lease():
        return (await served.batcher.submit({"images": HALF}, 1))["output0"][0]


async def filled(place: Place, repository: Repository, count: int) -> list[Any]:
    """Load so many models, ``m0`` and so on; give what each must answer."""
    for seed in range(count):
        await repository.load(f"m{seed}", Asked.model_validate(place.publish(seed).target()))
    return [onnx_models.run(onnx_models.classifier(seed), HALF)["output0"][0] for seed in range(count)]


def parked(repository: Repository) -> list[str]:
    """Give the models that are not in memory."""
    return [name for name, slot in repository.slots().items() if slot.describe()["parked"]]


def run(place: Place, play: Callable[[Repository], Awaitable[None]]) -> None:
    """Play with a repository, and close it."""

    async def all_of_it() -> None:
        with place.open() as repository:
            await repository.restore()
            try:
                await play(repository)
            finally:
                repository.close()

    asyncio.run(asyncio.wait_for(all_of_it(), 120))


def test_many_models_in_little_memory(tmp_path: Path) -> None:
    """200 models within a budget of 20, asked at random by 8 at once: each answers as itself, and 20 are in memory."""
    place = Place(tmp_path, engines=20.5)

    async def play(repository: Repository) -> None:
        wanted = await filled(place, repository, 200)
        assert len(parked(repository)) == 180
        dice, most = random.Random(7), []

        async def client() -> None:
            for _ in range(50):
                number = int(min(dice.expovariate(1 / 40), 199))
                np.testing.assert_allclose(await ask(repository, f"m{number}"), wanted[number], rtol=1e-4)
                most.append(sum(not slot.served.parked for slot in repository.slots().values() if slot.served))

        await asyncio.gather(*(client() for _ in range(8)))
        assert max(most) == place.count("trunkline_engines") == 20
        assert place.count("trunkline_engines_bytes") <= SIZE * 20.5
        assert place.count("trunkline_loads_total") == 200
        woken = place.count("trunkline_wakes_total")
        assert 0 < woken < 400
        assert place.count("trunkline_parks_total") == 180 + woken
        assert all(slot.describe()["ready"] for slot in repository.slots().values())

    run(place, play)


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    """A model that is asked again and again stays; one that nobody asks goes."""
    place = Place(tmp_path, engines=2.5)

    async def play(repository: Repository) -> None:
        await filled(place, repository, 2)
        await ask(repository, "m0")
        await repository.load("m2", Asked.model_validate(place.publish(2).target()))
        assert parked(repository) == ["m1"]
        await ask(repository, "m1")
        assert parked(repository) == ["m0"]

    run(place, play)


def test_requests_in_flight_keep_a_model(tmp_path: Path) -> None:
    """What answers something is never parked: others wait until it is done, then one of them goes."""
    place = Place(tmp_path, engines=1.5)

    async def play(repository: Repository) -> None:
        wanted = await filled(place, repository, 2)
        busy = await repository.answering("m1")
        with busy.lease():
            waiting = asyncio.create_task(ask(repository, "m0"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            assert parked(repository) == ["m0"]
        np.testing.assert_allclose(await waiting, wanted[0], rtol=1e-4)
        assert parked(repository) == ["m1"]

    run(place, play)


def test_one_load_for_many_and_a_bound_for_those_who_wait(tmp_path: Path) -> None:
    """Ten who ask for a parked model at once cause one load; whoever comes when too many wait gets 429."""
    place = Place(tmp_path, engines=1.5, queue=10)

    async def play(repository: Repository) -> None:
        wanted = await filled(place, repository, 2)
        asking = [asyncio.create_task(ask(repository, "m0")) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await repository.answering("m0")
        assert caught.value.status == 429
        for answer in await asyncio.gather(*asking):
            np.testing.assert_allclose(answer, wanted[0], rtol=1e-4)
        assert place.count("trunkline_wakes_total") == 1

    run(place, play)


def test_what_cannot_come_back(tmp_path: Path) -> None:
    """Without its file a parked model gets 503 with the reason; once the file is there again it answers."""
    place = Place(tmp_path, engines=1.5)

    async def play(repository: Repository) -> None:
        wanted = await filled(place, repository, 2)
        file = str(repository.get("m0").target.file)
        lost = place.root / "lost"
        (place.root / "store/blobs/sha256" / hex_of(file)).rename(lost)
        (place.root / "cache" / hex_of(file)).unlink()
        with pytest.raises(Refusal, match="cannot be brought back: the store does not have") as caught:
            await ask(repository, "m0")
        assert caught.value.status == 503
        lost.rename(place.root / "store/blobs/sha256" / hex_of(file))
        np.testing.assert_allclose(await ask(repository, "m0"), wanted[0], rtol=1e-4)

    run(place, play)


def test_a_swap_while_it_comes_back(tmp_path: Path) -> None:
    """A version that is replaced while somebody waits for it is not waited for: the new one answers."""
    place = Place(tmp_path, engines=1.5)

    async def play(repository: Repository) -> None:
        wanted = await filled(place, repository, 2)
        busy = await repository.answering("m1")
        with busy.lease():
            waiting = asyncio.create_task(ask(repository, "m0"))
            await asyncio.sleep(0)
            await repository.load("m0", Asked.model_validate(place.publish(1).target(2)))
        np.testing.assert_allclose(await waiting, wanted[1], rtol=1e-4)

    run(place, play)


def test_larger_than_all_memory(tmp_path: Path) -> None:
    """A model that could never fit is refused when it is loaded, and the others serve on."""
    place = Place(tmp_path, engines=0.5)

    async def play(repository: Repository) -> None:
        with pytest.raises(Stalled, match=r"takes about .* MiB, but all models together may take .* MiB") as caught:
            await repository.load("m0", Asked.model_validate(place.publish(0).target()))
        assert caught.value.reason == "OverBudget"

    run(place, play)


def test_a_restart_loads_what_fits(tmp_path: Path) -> None:
    """A server that comes back loads no more than fits; the rest is parked unseen, describes itself, and answers."""
    place = Place(tmp_path, engines=3.5)
    wanted: list[Any] = []

    async def fill(repository: Repository) -> None:
        wanted.extend(await filled(place, repository, 8))

    async def come_back(repository: Repository) -> None:
        assert parked(repository) == ["m3", "m4", "m5", "m6", "m7"]
        assert place.count("trunkline_parks_total") == 0
        served: Served = repository.get("m7")
        assert served.engine.inputs[0].shape == (-1, 3, 32, 32)
        assert served.engine.runtime.startswith("onnxruntime")
        assert await repository.check("m6") == ""
        np.testing.assert_allclose(await ask(repository, "m7"), wanted[7], rtol=1e-4)

    run(place, fill)
    place.metrics = Metrics()
    run(place, come_back)


def test_seen_from_outside(tmp_path: Path) -> None:
    """The index has parked models READY and says so; a request, an upload and a restart bring them back."""
    server = ServerProcess(tmp_path, "--memory-budget", "1B")
    try:
        server.start()
        model = onnx_models.publish(server.store, onnx_models.classifier(1))
        answer = server.load("digits", model.target())
        assert (answer.status_code, answer.json()["reason"]) == (422, "OverBudget")
    finally:
        server.close()
    (tmp_path / "more").mkdir()
    with running(tmp_path / "more", "--memory-budget", "1GiB") as server:
        model = onnx_models.publish(server.store, onnx_models.classifier(1))
        server.load("digits", model.target())
        assert server.http.post("/v2/models/digits/infer", json=REQUEST).status_code == 200
        (entry,) = server.http.post("/v2/repository/index").json()
        assert entry == {"name": "digits", "version": "1", "state": "READY", "reason": ""}
        assert server.models()["digits"]["parked"] is False
        assert samples(server)["trunkline_engines",] == 1
        server.end(signal.SIGTERM)
