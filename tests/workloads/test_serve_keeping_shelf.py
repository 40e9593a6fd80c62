"""Kept pictures on their shelf: budgets, the fair sample, copies, sweeps, finding again, and deaths at every step."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import Transient
from specs.kept_records import KeptRecord, Why, draw, kept_name
from tests.support.dying_store import Killed
from tests.support.kept import DAY, MODEL, NOON, DyingKeptStore, labelling, record
from tests.support.s3 import BUCKET, s3_server
from workloads.serve.keeping_rules import Shares
from workloads.serve.keeping_shelf import Shelf

OTHERS = Shares(0, 100)
HOUR = 3600.0
DAYS = 24 * HOUR


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give an empty store."""
    return Store(str(tmp_path / "store"))


def put(shelf: Shelf, given: KeptRecord, shares: Shares = OTHERS) -> str:
    """Put a picture whose bytes are its request's name; give ``kept``, or why not."""
    answer = shelf.put(given, given.request.encode(), shares)
    return answer if isinstance(answer, str) else "kept"


def given(request: str, why: Sequence[Why] = ("uncertain",), **fields: object) -> KeptRecord:
    """Give a record of a picture whose bytes are its request's name."""
    return record(request, request.encode(), why=why, **fields)  # type: ignore[arg-type]


def records(store: Store) -> list[KeptRecord]:
    """Read all that is kept, as anybody does; each one's picture must be whole."""
    found = [KeptRecord.decode(store.read(key) or b"") for key in store.list("kept/") if key.endswith(".json")]
    for each in found:
        assert digest_bytes(store.read(each.picture) or b"") == each.digest
    return found


def requests(store: Store) -> list[str]:
    """Give what is kept by the names of the requests, sorted."""
    return sorted(each.request for each in records(store))


def test_a_kept_picture_lies_beside_its_record(store: Store) -> None:
    """Both are below the model and the day, and the key alone says when it was and who kept it."""
    assert put(Shelf(store, "one"), given("a")) == "kept"
    picture, text = sorted(store.list(), key=lambda key: key.endswith(".json"))
    name = kept_name(text)
    assert picture == text.replace(".json", ".png")
    assert name is not None
    assert (name.model, name.day, name.moment, name.key) == (MODEL, DAY, NOON, text)
    assert records(store) == [given("a")]


def test_a_days_budget_survives_a_restart(store: Store) -> None:
    """What is there already is counted; the next day and another replica have budgets of their own."""
    two = Shares(0, 2)
    for shelf in (Shelf(store, "one"), Shelf(store, "one")):
        put(shelf, given("a"), two)
        put(shelf, given("b"), two)
        assert put(shelf, given("c"), two) == "budget"
        assert shelf.hopeless(MODEL, NOON, ["uncertain"], 0.5, two)
        assert not shelf.hopeless(MODEL, NOON + DAYS, ["uncertain"], 0.5, two)
    assert put(Shelf(store, "one"), given("c", when=NOON + DAYS), two) == "kept"
    assert put(Shelf(store, "two"), given("c", replica="two"), two) == "kept"
    assert requests(store) == ["a", "b", "c", "c"]


def test_nothing_is_kept_without_a_budget(store: Store) -> None:
    """Zero a day is nothing at all, of whichever reason."""
    for why in (["random"], ["uncertain"], ["nothing", "random"]):
        assert put(Shelf(store, "one"), given("a", why), Shares(0, 0)) == "budget"
    assert store.list() == []


def test_what_looks_like_one_kept_today_is_not_kept(store: Store) -> None:
    """Up to two bits are no difference, also to what was kept before a restart; tomorrow is another day."""
    assert put(Shelf(store, "one"), given("a", look=0b1111)) == "kept"
    shelf = Shelf(store, "one")
    assert put(shelf, given("b", look=0b0011)) == "similar"
    assert put(shelf, given("c", look=0b0001)) == "kept"
    assert put(shelf, given("d", look=0b1111, when=NOON + DAYS)) == "kept"


def test_the_same_request_is_kept_once(store: Store) -> None:
    """A client that sends a request again, whatever the picture, leaves one."""
    shelf = Shelf(store, "one")
    assert [put(shelf, given("a", ["random"], when=NOON + n), Shares(9, 9)) for n in range(2)] == ["kept", "similar"]
    assert put(Shelf(store, "one"), given("a", when=NOON + 5), Shares(9, 9)) == "similar"


def test_the_sample_takes_all_looks(store: Store) -> None:
    """The random ones are kept however alike they are: without copies they would not be a sample of the traffic."""
    shelf = Shelf(store, "one")
    for number in range(5):
        assert put(shelf, given(f"r{number}", ["random"], look=7), Shares(9, 9)) == "kept"
    assert put(shelf, given("u", ["uncertain"], look=7), Shares(9, 9)) == "similar"


@pytest.mark.parametrize("seed", range(5))
def test_the_sample_is_of_the_whole_day(store: Store, seed: int) -> None:
    """However many come, in whatever order and over restarts: what stays are those with the lowest draws, no others."""
    traffic = [f"request-{number}" for number in range(60)]
    random.Random(seed).shuffle(traffic)
    shelf = Shelf(store, "one")
    for number, request in enumerate(traffic):
        if number % 25 == 24:
            shelf = Shelf(store, "one")
        put(shelf, given(request, ["random"], when=NOON + number), Shares(7, 3))
    assert requests(store) == sorted(sorted(traffic, key=lambda request: draw(MODEL, request))[:7])
    assert len(store.list()) == 14


def test_one_too_many_for_the_sample_may_be_kept_for_another_reason(store: Store) -> None:
    """It is then not called random, and takes a place of the others."""
    low, high = sorted(("a", "b"), key=lambda request: draw(MODEL, request))
    shelf = Shelf(store, "one")
    put(shelf, given(low, ["random"]), Shares(1, 1))
    assert put(shelf, given(high, ["random", "uncertain"]), Shares(1, 1)) == "kept"
    assert {each.request: each.why for each in records(store)} == {low: ["random"], high: ["uncertain"]}
    assert shelf.hopeless(MODEL, NOON, ["random", "uncertain"], 0.999, Shares(1, 1))
    assert not shelf.hopeless(MODEL, NOON, ["random"], 0.0, Shares(1, 1))


def test_death_at_every_step_leaves_the_shelf_in_order(tmp_path: Path) -> None:
    """Killed before and after each write and removal: records are whole, the sample is exact, leftovers swept."""
    store = DyingKeptStore(str(tmp_path))
    shares = Shares(2, 2)
    stream = [given(f"r{n}", ["random"], when=NOON + n) for n in range(5)]
    stream += [given(f"u{n}", when=NOON + n) for n in range(3)]
    for each in stream:
        while True:
            try:
                put(Shelf(store, "one"), each, shares)
                break
            except Killed:
                records(store)  # whatever is there is whole
    lowest = sorted((f"r{n}" for n in range(5)), key=lambda request: draw(MODEL, request))[:2]
    assert requests(store) == sorted([*lowest, "u0", "u1"])
    assert {when for when, _ in store.deaths} == {"before", "after"}
    assert {effect.split()[0] for _, effect in store.deaths} == {"keep", "forget"}
    while True:
        try:
            Shelf(store, "one").sweep(MODEL, labelling(), NOON + 2 * HOUR)
            break
        except Killed:
            pass
    assert requests(store) == sorted([*lowest, "u0", "u1"])
    assert len(store.list()) == 8


class ForgetfulStore(Store):
    """Does what it is told, and then its answer is lost."""

    lossy = True

    def keep(self, key: str, data: bytes) -> bool:
        """Write, and fail to say so."""
        super().keep(key, data)
        if self.lossy:
            raise Transient("StoreUnavailable", "connection reset")
        return False  # what a client says that tried again by itself


def test_a_lost_answer_costs_no_place_twice(tmp_path: Path) -> None:
    """The picture may have been written: it is counted by looking, and never kept a second time."""
    store = ForgetfulStore(str(tmp_path))
    shelf = Shelf(store, "one")
    with pytest.raises(Transient):
        put(shelf, given("a"))
    store.lossy = False
    assert put(shelf, given("a")) == "kept"
    assert put(shelf, given("a", when=NOON + 1)) == "similar"
    assert put(shelf, given("b"), Shares(0, 1)) == "budget"
    assert requests(store) == ["a"]


def test_what_is_older_than_its_retention_goes(store: Store) -> None:
    """Whoever kept it: servers come and go. What is younger stays, also that which expects its record any moment."""
    for replica in ("one", "two"):
        for hours in (0, 5):
            put(Shelf(store, replica), given(f"{replica}{hours}", when=NOON + hours * HOUR, replica=replica))
    store.keep(given("late", when=NOON + 5 * HOUR).picture, b"its record comes any moment")
    store.keep(given("lost", when=NOON + 3 * HOUR).picture, b"its server was killed")
    assert Shelf(store, "one").sweep(MODEL, labelling(retention="2h"), NOON + 5 * HOUR + 1) == (3, 3)
    assert requests(store) == ["one5", "two5"]
    assert store.read(given("late", when=NOON + 5 * HOUR).picture)
    assert not store.read(given("lost", when=NOON + 3 * HOUR).picture)


def test_a_replica_keeps_its_own_size(store: Store) -> None:
    """The oldest of its own go first, and what goes of others for its age makes no room for it."""
    big = b"x" * 400_000
    for number, replica in enumerate(["two", "one", "one", "one", "one", "two"]):
        when = NOON + number if number else NOON - 2 * HOUR
        Shelf(store, replica).put(record(f"r{number}", big, when=when, replica=replica), big, OTHERS)
    assert Shelf(store, "one").sweep(MODEL, labelling(maxSize=1, retention="1h"), NOON + 10) == (3, 3)
    assert requests(store) == ["r3", "r4", "r5"]


def test_what_nobody_asks_for_any_more_goes_when_it_was_promised(store: Store) -> None:
    """Without ``spec.labelling`` each picture stays as long as the spec of its day said, and no longer."""
    put(Shelf(store, "one"), given("short", days=1))
    put(Shelf(store, "one"), given("long", days=9, when=NOON + HOUR))
    assert Shelf(store, "one").sweep(MODEL, None, NOON + DAYS - 1) == (0, 2)
    assert Shelf(store, "one").sweep(MODEL, None, NOON + DAYS) == (1, 1)
    assert requests(store) == ["long"]
    newer = given("newer", when=NOON)
    store.keep(newer.picture, b"newer")
    store.keep(newer.key, b'{"written by": "a later version"}')
    assert Shelf(store, "one").sweep(MODEL, None, NOON + 10 * DAYS) == (1, 1)
    assert store.list() == [newer.key, newer.picture]
    assert Shelf(store, "one").sweep(MODEL, None, NOON + 31 * DAYS) == (1, 0)
    assert store.list() == []


def test_two_may_sweep_at_once(store: Store) -> None:
    """Several replicas remove the same pictures at the same time: all are gone, and nobody complains."""
    shelf = Shelf(store, "one")
    for number in range(40):
        put(shelf, given(f"r{number}", when=NOON + number))
    failures: list[Exception] = []
    start = threading.Barrier(3)

    def sweep(replica: str) -> None:
        start.wait(60)
        try:
            Shelf(store, replica).sweep(MODEL, labelling(), NOON + 31 * DAYS)
        except Exception as error:  # noqa: BLE001 - any is one too many
            failures.append(error)

    threads = [threading.Thread(target=sweep, args=(replica,)) for replica in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert store.list() == []


def test_things_of_others_are_left_alone(store: Store) -> None:
    """What has no name of ours is no picture: it counts for nothing, stays, and disturbs nobody."""
    store.keep(f"kept/{MODEL}/{DAY}/readme.txt", b"?")
    store.keep(f"kept/{MODEL}/notes/{'a' * 9}.json", b"{")
    store.keep("kept/other/20261126/x.json", b"{}")
    put(Shelf(store, "one"), given("a"))
    broken = given("broken")
    store.keep(broken.picture, b"picture")
    store.keep(broken.key, b"{no json")
    shelf = Shelf(store, "one")
    assert put(shelf, given("b"), Shares(0, 2)) == "kept"
    assert shelf.find(MODEL, "broken") is None
    assert shelf.sweep(MODEL, labelling(), NOON + 31 * DAYS) == (3, 0)
    assert len(store.list()) == 3


def test_a_request_is_found_again(store: Store) -> None:
    """By every replica and after a restart; not where its id only looks similar, and not once it is gone."""
    put(Shelf(store, "two"), given("a", replica="two"))
    shelf = Shelf(store, "one")
    assert shelf.find(MODEL, "a") == given("a", replica="two")
    put(shelf, given("b"))
    assert shelf.find(MODEL, "b") == given("b")
    for odd in ("", "A", "a\0", "../a", "\ud800", "x" * 100_000):
        assert shelf.find(MODEL, odd) is None
    store.forget(given("b").key)
    assert shelf.find(MODEL, "b") is None


def test_looking_for_nothing_does_not_wear_out_the_store(tmp_path: Path) -> None:
    """Requests that nobody knows are looked for in the store once in a while, not once each."""

    class Counting(Store):
        looks = 0

        def sizes(self, prefix: str) -> dict[str, int]:
            self.looks += 1
            return super().sizes(prefix)

    store = Counting(str(tmp_path))
    shelf = Shelf(store, "one")
    assert [shelf.find(MODEL, f"r{number}") for number in range(50)] == [None] * 50
    assert store.looks == 1


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """Run an S3 server."""
    with s3_server():
        yield


@pytest.mark.usefixtures("s3")
def test_a_bucket_is_as_good_a_shelf() -> None:
    """The same life in S3: kept, replaced in the sample, found, swept."""
    store = Store(f"s3://{BUCKET}/shelf")
    shelf = Shelf(store, "one")
    low, high = sorted(("a", "b"), key=lambda request: draw(MODEL, request))
    for request in (high, low):
        assert put(shelf, given(request, ["random"]), Shares(1, 1)) == "kept"
    assert put(shelf, given("u"), Shares(1, 1)) == "kept"
    assert requests(store) == sorted([low, "u"])
    assert Shelf(store, "two").find(MODEL, low) == given(low, ["random"])
    assert Shelf(store, "two").sweep(MODEL, labelling(), NOON + 31 * DAYS) == (2, 0)
    assert store.list() == []
