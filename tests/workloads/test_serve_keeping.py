"""Keeping live pictures behind the server's back: nothing waits for it, nothing is lost by it, all of it is counted."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.kept_records import KeptRecord
from specs.monitoring import Labelling
from tests.support.inference_server import wait_until
from tests.support.kept import (
    MODEL,
    NAMES,
    TARGET,
    ClosedStore,
    StuckStore,
    boxes,
    encoded,
    labelling,
    offered,
    record,
    scene,
)  # fmt: skip
from workloads.serve.keeping import MOST_BYTES, MOST_WAITING, Keeper, Pace
from workloads.serve.keeping_series import KeptSeries
from workloads.serve.keeping_shelf import AT_ONCE, KeptStore

ROOT = Path(__file__).parents[2]
UNCERTAIN = labelling(confidence={"min": 0.25, "max": 0.5})
ALL = labelling(randomPercent=100, confidence={"min": 0.25, "max": 0.5}, zeroDetections=True)


class Bench:
    """A keeper, what it counts, and what is asked for meanwhile."""

    def __init__(self, store: KeptStore, asked: Labelling | None, pace: Pace) -> None:
        self.registry = CollectorRegistry()
        self.models: dict[str, Labelling | None] = {MODEL: asked}
        self.keeper = Keeper(store, KeptSeries(self.registry), "one", lambda: self.models, pace)

    def count(self, name: str, **labels: str) -> float:
        """Give a counter; 0 where it is not shown."""
        return self.registry.get_sample_value(name, {"model": MODEL, **labels}) or 0.0

    def dropped(self, reason: str) -> float:
        """Give how many were dropped for a reason."""
        return self.count("trunkline_kept_dropped_total", reason=reason)

    def kept(self, why: str, version: str = "3") -> float:
        """Give how many were kept for a reason."""
        return self.count("trunkline_kept_total", version=version, why=why)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return Store(str(tmp_path / "store"))


@contextmanager
def keeping(
    store: KeptStore, asked: Labelling | None = None, *, sweep: float = 600.0, pause: float = 600.0
) -> Iterator[Bench]:
    """Give a keeper at work; it is told to leave at the end, and waited for."""
    bench = Bench(store, asked, Pace(sweep, pause, 60.0))
    try:
        yield bench
    finally:
        if isinstance(store, StuckStore):
            store.go.set()
        bench.keeper.close()


def records(store: Store) -> list[KeptRecord]:
    """Give all records, each of which must have its picture; one may just be going."""
    texts = [store.read(key) for key in store.list("kept/") if key.endswith(".json")]
    found = [KeptRecord.decode(text) for text in texts if text is not None]
    for each in found:
        assert digest_bytes(store.read(each.picture) or b"") == each.digest
    return found


def test_a_kept_picture_says_all_that_labelling_needs(store: Store) -> None:
    """The bytes as they were sent, and beside them what answered, what it said, when, to whom, and why it is here."""
    picture = encoded(scene(5), "JPEG")
    before = int(time.time())
    with keeping(store) as bench:
        bench.keeper.offer(offered("r-1", ALL, [boxes(0.4, 0.9, 0.1)], seed=5, picture=picture))
    [kept] = records(store)
    assert store.read(kept.picture) == picture
    assert kept.picture.endswith(".jpg")
    assert (kept.model, kept.version, kept.file, kept.task) == (MODEL, 3, TARGET.file, "detect")
    assert (kept.request, kept.why, kept.content_type) == ("r-1", ["random", "uncertain"], "image/jpeg")
    assert (kept.size, kept.width, kept.height, kept.blurred) == (len(picture), 64, 48, False)
    assert [(each["name"], round(each["confidence"], 3)) for each in kept.predictions] == [
        (NAMES[1], 0.9), (NAMES[0], 0.4),
    ]  # fmt: skip
    assert set(kept.predictions[0]["box"]) == {"x1", "y1", "x2", "y2"}
    assert before <= time.mktime(time.strptime(kept.when, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone <= time.time()
    assert bench.kept("random") == bench.kept("uncertain") == 1
    assert bench.kept("nothing") == 0


def test_nothing_is_kept_where_nothing_is_asked_for(store: Store) -> None:
    """With an empty ``spec.labelling`` no picture reaches the store; sure and unreadable answers do neither."""
    with keeping(store) as bench:
        for asked in (labelling(), labelling(maxPerDay=0, randomPercent=100)):
            bench.keeper.offer(offered("a", asked))
        bench.keeper.offer(offered("b", UNCERTAIN, [boxes(0.9)]))
        bench.keeper.offer(offered("c", ALL, []))
    assert store.list() == []
    assert bench.dropped("error") == 0


def test_what_is_asked_for_may_change_at_any_time(store: Store) -> None:
    """Each picture is judged by what was asked for when it was answered."""
    with keeping(store) as bench:
        bench.keeper.offer(offered("a", labelling(zeroDetections=True), [boxes()]))
        bench.keeper.offer(offered("b", UNCERTAIN, [boxes()]))
        bench.keeper.offer(offered("d", UNCERTAIN, [boxes(0.3)]))
    assert {each.request: each.why for each in records(store)} == {"a": ["nothing"], "d": ["uncertain"]}


def test_blurred_regions_are_never_written(store: Store) -> None:
    """With ``blur`` what was sent reaches the store in no form, and the record says so."""
    asked = labelling(randomPercent=100, blur=[{"left": 0, "top": 0, "right": 1, "bottom": 1}])
    with keeping(store) as bench:
        bench.keeper.offer(offered("a", asked, seed=9))
    [kept] = records(store)
    assert kept.blurred
    assert kept.picture.endswith(".png")
    assert encoded(scene(9)) not in (store.read(key) for key in store.list())


def test_a_store_that_hangs_stops_nobody(tmp_path: Path) -> None:
    """The queue fills up, the rest is dropped and counted, each offer returns; what waited is kept once it goes on."""
    store = StuckStore(str(tmp_path))
    with keeping(store) as bench:
        bench.keeper.offer(offered("first", UNCERTAIN))
        assert store.asked.wait(60)
        for number in range(MOST_WAITING + 10):
            bench.keeper.offer(offered(f"r{number}", UNCERTAIN))
        assert bench.dropped("behind") == 10
        assert store.list() == []
    assert len(records(store)) == MOST_WAITING + 1
    assert bench.kept("uncertain") == MOST_WAITING + 1


def test_few_large_pictures_fill_the_queue(tmp_path: Path) -> None:
    """What waits is bounded in bytes too; one that is larger than the bound alone may still be kept."""
    store = StuckStore(str(tmp_path))
    large = encoded(scene(1)) + bytes(MOST_BYTES)
    with keeping(store) as bench:
        bench.keeper.offer(offered("first", UNCERTAIN))
        assert store.asked.wait(60)
        bench.keeper.offer(offered("large", UNCERTAIN, picture=large))
        bench.keeper.offer(offered("small", UNCERTAIN))
        assert bench.dropped("behind") == 1
    assert {each.request for each in records(store)} == {"first", "large"}


def test_a_store_that_may_not_be_written_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log, a count for each picture, and it is not asked again before the pause is over."""
    store = ClosedStore(str(tmp_path))
    with caplog.at_level(logging.INFO), keeping(store) as bench:
        bench.keeper.offer(offered("first", UNCERTAIN))
        wait_until(lambda: bench.dropped("store") == 1)
        for number in range(20):
            bench.keeper.offer(offered(f"r{number}", UNCERTAIN))
    assert bench.dropped("store") == 21
    assert store.tries == 1
    [line] = [entry.getMessage() for entry in caplog.records if "for people" in entry.getMessage()]
    assert "cannot be kept; requests are answered as ever" in line
    assert "Access Denied" in line


def test_keeping_goes_on_when_the_store_is_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the pause it is tried again, and the log says that all is well."""
    store = ClosedStore(str(tmp_path))
    with caplog.at_level(logging.INFO), keeping(store, pause=0.0) as bench:
        bench.keeper.offer(offered("a", UNCERTAIN))
        bench.keeper.offer(offered("b", UNCERTAIN))
        wait_until(lambda: bench.dropped("store") == 2)
        store.open = True
        bench.keeper.offer(offered("c", UNCERTAIN))
    assert [each.request for each in records(store)] == ["c"]
    told = [entry.getMessage() for entry in caplog.records if "for people" in entry.getMessage()]
    assert len(told) == 2
    assert told[1].endswith("kept again")


def test_a_spent_budget_costs_nothing(store: Store) -> None:
    """Once the day is full, pictures are dropped before they are copied, and counted."""
    asked = labelling(confidence={"min": 0.25, "max": 0.5}, maxPerDay=2)
    with keeping(store) as bench:
        for number in range(2):
            bench.keeper.offer(offered(f"r{number}", asked))
        wait_until(lambda: bench.kept("uncertain") == 2)
        bench.keeper.offer(offered("late", asked))
        assert bench.dropped("budget") == 1
    assert len(records(store)) == 2


def test_copies_are_counted(store: Store) -> None:
    """A camera that sees the same all the time fills no shelf."""
    with keeping(store) as bench:
        for number in range(5):
            bench.keeper.offer(offered(f"r{number}", UNCERTAIN, seed=1))
    assert len(records(store)) == 1
    assert bench.dropped("similar") == 4


def test_one_odd_picture_does_not_end_it(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A bug, in judging or in keeping, costs that picture; it is logged once with its traceback."""
    blur = labelling(confidence={"min": 0.25, "max": 0.5}, blur=[])
    with keeping(store) as bench:
        for number in range(2):
            bench.keeper.offer(offered(f"cut off {number}", blur, picture=b"\xff\xd8\xff no more"))
            bench.keeper.offer(offered(f"odd {number}", UNCERTAIN, [np.zeros((1, 3), np.float32)]))
        bench.keeper.offer(offered("fine", UNCERTAIN))
    assert [each.request for each in records(store)] == ["fine"]
    assert bench.dropped("error") == 4
    assert len([entry for entry in caplog.records if entry.exc_info]) == 2


def test_old_pictures_go_by_themselves(store: Store) -> None:
    """The thread sweeps every model that serves, also with no traffic, and what nobody asks for any more."""
    for request, days in (("old", 1), ("fresh", 3)):
        kept = record(request, b"x", when=time.time() - 2 * 86400, replica="gone", days=days)
        store.keep(kept.picture, b"x")
        store.keep(kept.key, kept.encode())
    with keeping(store, sweep=0.01) as bench:
        wait_until(lambda: [each.request for each in records(store)] == ["fresh"])
        bench.models[MODEL] = labelling(retention="1ms")
        wait_until(lambda: store.list() == [])


def test_many_old_pictures_go_in_portions(store: Store) -> None:
    """More than go at once go in several rounds, with no waiting between them."""
    for number in range(AT_ONCE + 5):
        store.keep(record(f"r{number}", b"x", when=time.time() - 40 * 86400 + number).picture, b"x")
    with keeping(store, labelling()):
        wait_until(lambda: store.list() == [])


def test_series_are_bounded() -> None:
    """Two versions of a model have series; a model that serves no more has none."""
    registry = CollectorRegistry()
    series = KeptSeries(registry)
    for version in (1, 2, 3):
        series.kept("a", version, ["random"])
    series.dropped("a", "store")
    series.kept("b", 1, ["nothing"])
    shown = generate_latest(registry).decode()
    assert set(re.findall(r'kept_total{model="a",version="(\d)"', shown)) == {"2", "3"}
    series.only(["b"])
    shown = generate_latest(registry).decode()
    assert 'model="a"' not in shown
    assert 'model="b"' in shown


CHILD = """
    import sys
    from prometheus_client import CollectorRegistry
    from adapters.store import Store
    from tests.support.kept import labelling, offered
    from workloads.serve.keeping import Keeper
    from workloads.serve.keeping_series import KeptSeries
    asked = labelling(randomPercent=100, zeroDetections=True, maxPerDay=40)
    keeper = Keeper(Store(sys.argv[1]), KeptSeries(CollectorRegistry()), "one", dict)
    for number in range(10_000):
        keeper.offer(offered(f"{sys.argv[2]}-{number}", asked))
"""


def test_a_killed_server_leaves_the_shelf_in_order(store: Store) -> None:
    """SIGKILL while it keeps and replaces: every record has its picture, and the next server keeps the same budget."""
    for life in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), store.url, str(life)], cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        before = len(store.list())
        wait_until(lambda before=before: len(store.list()) > before + 6)
        child.kill()
        child.wait()
        kept = records(store)
        assert len(kept) <= 21, "one more than the share, where it died before it removed the replaced one"
    with keeping(store) as bench:
        asked = labelling(randomPercent=100, zeroDetections=True, maxPerDay=40)
        bench.keeper.offer(offered("last", asked))
    assert len(records(store)) <= 20
