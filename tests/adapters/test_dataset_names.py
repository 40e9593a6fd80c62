"""Names of data sets in the store: they move, and nobody ever sees half of a move."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.data_sources import DataSources
from adapters.dataset_names import DatasetNames
from adapters.store import Store
from specs.data import Source, UriSource
from specs.data_records import name_key, name_of
from specs.errors import Stalled
from specs.monitoring import OnData

ONE, TWO, THREE = ("sha256:" + digit * 64 for digit in "123")


@pytest.fixture
def names(tmp_path: Path) -> DatasetNames:
    """Give the names of an empty store."""
    return DatasetNames(Store(str(tmp_path / "store")))


def test_the_last_move_counts_and_the_past_stays(names: DatasetNames, tmp_path: Path) -> None:
    """A name means what it was moved to last, also where it meant that before; each move is a record of its own."""
    assert names.newest("shelf") is None
    for digest in (ONE, TWO, ONE, ONE):
        names.point("shelf", digest, "for a test")
    found = names.newest("shelf")
    assert found is not None
    assert (found.manifest, found.before, found.number) == (ONE, TWO, 3)
    assert Store(str(tmp_path / "store")).list("datasets/names/shelf/") == [name_key("shelf", n) for n in (1, 2, 3)]
    assert names.newest("shel") is None


def test_a_move_from_what_is_old_by_now_fails(names: DatasetNames) -> None:
    """Who saw an older meaning moves nothing, and looks again; who wants what it means already has it."""
    seen = names.point("shelf", ONE, "")
    assert names.move("shelf", seen, TWO, "")
    assert names.move("shelf", seen, THREE, "") is None
    assert names.move("shelf", seen, ONE, "") == seen  # as it was then
    found = names.newest("shelf")
    assert found is not None
    assert found.manifest == TWO


def test_many_move_one_name_at_once_and_none_is_lost(names: DatasetNames) -> None:
    """Every move of each thread is there, one after the other, and each names the one before it."""
    digests = ["sha256:" + f"{number:064x}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda digest: names.point("shelf", digest, ""), digests))
    assert sorted(each.number for each in moved) == list(range(1, 13))
    by_number = {each.number: each for each in moved}
    assert all(by_number[number].before == by_number[number - 1].manifest for number in range(2, 13))


def test_a_damaged_record_is_said(names: DatasetNames, tmp_path: Path) -> None:
    """What is no record, and one about another name, is a matter for people, with the key to remove."""
    store = Store(str(tmp_path / "store"))
    store.create(name_key("shelf", 1), b"{}")
    with pytest.raises(Stalled, match=r"datasets/names/shelf/000001\.json"):
        names.newest("shelf")
    store.create(name_key("other", 1), (names.point("good", ONE, "")).encode())
    with pytest.raises(Stalled, match="is about good"):
        names.newest("other")


def test_sources_follow_names(names: DatasetNames, tmp_path: Path) -> None:
    """The newest version of ``store://NAME`` is what the name means; one that was never moved has none."""
    now = [0.0]
    sources = DataSources(tmp_path / "state", names=names, clock=lambda: now[0], patience=30, poll=10)
    source = Source(uri=UriSource(url="store://shelf", digest=ONE))
    assert sources.newest(source, OnData()) is None
    names.point("shelf", TWO, "")
    assert sources.newest(source, OnData()) is None, "the place is looked at once in a while"
    now[0] = 60
    sources.newest(source, OnData())  # asks behind our back
    while (found := sources.newest(source, OnData())) is None:
        pass
    assert found == Source(uri=UriSource(url="store://shelf", digest=TWO))


def test_names_have_no_branches_and_plain_characters(names: DatasetNames, tmp_path: Path) -> None:
    """What cannot be followed is refused with what would work; addresses elsewhere have no versions at all."""
    sources = DataSources(tmp_path / "state", names=names)
    source = Source(uri=UriSource(url="store://shelf", digest=ONE))
    with pytest.raises(Stalled, match="onData: true"):
        sources.newest(source, OnData(branch="main"))
    for url in ("store://a/b", "store://.hidden", "store://my%20shelf"):
        assert name_of(url) is None
        with pytest.raises(Stalled, match="letters, digits"):
            sources.newest(Source(uri=UriSource(url=url, digest=ONE)), OnData())
    assert sources.newest(Source(uri=UriSource(url="s3://a/b.zip", digest=ONE)), OnData()) is None
