"""What serves and its canary on disk: a killed server comes back with both as they were, or as they were to be."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.store import Store
from specs.errors import Stalled, Transient
from specs.serving import ServerOptions
from tests.support import onnx_models
from tests.support.onnx_models import Published
from workloads.serve.cache import Cache
from workloads.serve.exposition import Metrics
from workloads.serve.limits import Limits
from workloads.serve.repository import Repository
from workloads.serve.startup import Wanted, serve_only
from workloads.serve.state import Asked, State

Entry = dict[str, Any]


class Place:
    """A store with three models, and the disk of one server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(f"file://{root / 'store'}")
        self.models = [onnx_models.publish(self.store, onnx_models.classifier(seed)) for seed in range(3)]
        self.disk = root / "state"

    def asked(self, number: int, step: int | None = None, weight: int = 0, /, **more: Any) -> Asked:
        """Give what a load asks for: a model as the version of that number, alone or with a share."""
        model: Published = self.models[number - 1]
        share = None if step is None else {"step": step, "weight": weight, "mirror": 0}
        return Asked.model_validate(model.target(number) | {"share": share} | more)

    @asynccontextmanager
    async def server(self, disk: Path | None = None) -> AsyncIterator[Repository]:
        """Give a server's repository; its disk is taken as it is, and what was there is restored."""
        disk = disk or self.disk
        state = State(disk)
        with ThreadPoolExecutor(2) as threads:
            cache = Cache(disk / "cache", self.store)
            repository = Repository(self.store, cache, state, Limits(threads=1), Metrics(), threads)
            await repository.restore()
            yield repository
            repository.close()
        state.close()

    async def after_a_kill(self) -> Entry:
        """Give what another server would tell, which begins with the disk as it is now."""
        copy = self.root / "copy"
        shutil.copytree(self.disk, copy)
        try:
            async with self.server(copy) as repository:
                return entry(repository)
        finally:
            shutil.rmtree(copy)


def entry(repository: Repository) -> Entry:
    """Give what is told about the model, but for what no restart keeps."""
    slots = repository.slots()
    return slots["digits"].describe() | {"standby": None} if slots else {}


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a test that must end soon."""
    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Give a store and an empty disk."""
    return Place(tmp_path)


def test_whatever_was_done_last_is_what_comes_back(place: Place) -> None:
    """After each step of a canary's life, up to its end in either way, a killed server comes back with exactly that."""
    options = ServerOptions(standby=600).plain()
    steps = [
        place.asked(1), place.asked(2, 0), place.asked(2, 1, 10), place.asked(2, 1, 10, options=options),
        place.asked(1, options=options), place.asked(3, 0), place.asked(2, 0), place.asked(2, 2, 50), place.asked(2),
        place.asked(1), place.asked(3, 1, 5), place.asked(2),
    ]  # fmt: skip

    async def test() -> None:
        seen: list[tuple[int, int | None]] = []
        async with place.server() as repository:
            for number, asked in enumerate(steps):
                await repository.load("digits", asked)
                told = entry(repository)
                assert await place.after_a_kill() == told, f"step {number}"
                canary: Entry = told["canary"] or {}
                seen.append((told["version"], canary.get("version")))
            await repository.unload("digits")
            assert await place.after_a_kill() == {}
        assert seen == [
            (1, None), (1, 2), (1, 2), (1, 2), (1, None), (1, 3), (1, 2), (1, 2), (2, None), (1, None), (1, 3),
            (2, None),
        ]  # fmt: skip

    run(test)


def test_a_disk_that_takes_nothing_changes_nothing(place: Place) -> None:
    """Where the disk does not take what is to be, nothing of it is done, whichever step it is; once it does, all is."""

    async def test() -> None:
        async with place.server() as repository:
            for before, asked in (
                (place.asked(1), place.asked(2, 0)), (place.asked(2, 0), place.asked(2, 1, 10)),
                (place.asked(2, 1, 10), place.asked(3, 0)), (place.asked(2, 1, 10), place.asked(1)),
                (place.asked(2, 1, 10), place.asked(2)),
            ):  # fmt: skip
                await repository.load("digits", before)
                told = entry(repository)
                obstacle = place.disk / "serving" / ".digits.json.partial"
                obstacle.mkdir()
                with pytest.raises(Transient, match="cannot write"):
                    await repository.load("digits", asked)
                after = entry(repository)
                assert after | {"failure": ""} == told
                obstacle.rmdir()
                assert await place.after_a_kill() | {"since": 0} == told | {"since": 0}
            await repository.load("digits", place.asked(2))
            assert entry(repository)["version"] == 2

    run(test)


def test_a_server_that_is_told_what_to_serve(place: Place) -> None:
    """It has the canary that it is told of, and none that only the disk remembers; the same file is no canary."""

    async def told(canary: int | None) -> Entry:
        state = State(place.disk)
        with ThreadPoolExecutor(2) as threads:
            cache = Cache(place.disk / "cache", place.store)
            repository = Repository(place.store, cache, state, Limits(threads=1), Metrics(), threads)
            model = {"canary": place.models[canary - 1].target(canary)} if canary else {}
            wanted = Wanted.model_validate({"name": "digits", **place.models[0].target(1), **model})
            await serve_only(wanted, wanted.beside(None), state, repository, lambda _: None)
            found = entry(repository)
            repository.close()
        state.close()
        return found

    async def test() -> None:
        seen = []
        for canary in (2, 2, 3, 1, None):
            found = await told(canary)
            assert (found["version"], found["ready"]) == (1, True)
            seen.append((found["canary"] or {}).get("version"))
        assert seen == [2, 2, 3, None, None]

    run(test)


def test_everybody_at_once(place: Place) -> None:
    """Callers that ask for different things at once leave one of them whole, in memory as on the disk."""

    async def test() -> None:
        async with place.server() as repository:
            await repository.load("digits", place.asked(1))
            many = [
                place.asked(2, 0), place.asked(2, 1, 10), place.asked(3, 0), place.asked(1), place.asked(2),
                place.asked(2, 2, 50), place.asked(1), place.asked(3, 1, 1), place.asked(3),
            ]  # fmt: skip
            await asyncio.gather(*(repository.load("digits", asked) for asked in many))
            told = entry(repository)
            assert await place.after_a_kill() == told
            assert (told["version"], told["canary"], told["failure"]) == (3, None, "")
            for _ in range(3):
                assert (await repository.answering("digits")).target.version == 3

    run(test)


@pytest.mark.parametrize("end", [1, 2, 3], ids=["given up", "took over", "replaced"])
def test_copies_end_with_the_canary(place: Place, end: int) -> None:
    """Whatever ends a canary, nobody takes copies any more, and it lets go of its engine once it answers nothing."""
    mirrored = {"share": {"step": 1, "weight": 0, "mirror": 100}}

    async def test() -> None:
        async with place.server() as repository:
            await repository.load("digits", place.asked(1))
            await repository.load("digits", place.asked(2, **mirrored))
            before, canary = repository.get("digits"), repository.get("digits", "2")
            assert before.copies is not None
            await repository.load("digits", place.asked(end))
            assert [before.copies, canary.copies] == [None, None]
            assert (before.gone, canary.gone) == (end != 1, end != 2)
            assert repository.slots()["digits"].canary is None

    run(test)


def test_a_canary_under_another_name(place: Place) -> None:
    """The same file as another version and run is the same canary, unless it is said to be of other weights."""

    async def test() -> None:
        async with place.server() as repository:
            await repository.load("digits", place.asked(1))
            await repository.load("digits", place.asked(2, 1, 10))
            served = repository.get("digits", "2")
            renamed = place.asked(2, 1, 10, version=5)
            await repository.load("digits", renamed)
            told = entry(repository)
            assert (told["canary"]["version"], told["canary"]["share"]["weight"]) == (5, 10)
            assert repository.get("digits", "5") is served
            assert await place.after_a_kill() == told
            for step in (1, None):
                with pytest.raises(Stalled, match="was made from weights"):
                    await repository.load("digits", place.asked(2, step, weights="sha256:" + "7" * 64))
            await repository.load("digits", place.asked(2, version=6))
            assert repository.get("digits") is served
            assert (entry(repository)["version"], entry(repository)["canary"]) == (6, None)

    run(test)
