"""The server's own copy of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.store import Store
from specs.digests import digest_bytes, digest_of, hex_of
from specs.errors import CorruptArtifact, Stalled, Transient
from specs.records import blob_key
from workloads.serve.cache import Cache

DATA = b"weights" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Give a store with one file."""
    store = Store(f"file://{tmp_path / 'store'}")
    store.put_blob(DATA)
    return store


def test_second_read_needs_no_store(tmp_path: Path, store: Store) -> None:
    """What was read once is read again when the store has lost it."""
    cache, digest = Cache(tmp_path / "cache", store), digest_bytes(DATA)
    assert cache.read(digest) == DATA
    (tmp_path / "store" / blob_key(digest)).unlink()
    assert Cache(tmp_path / "cache", store).read(digest) == DATA


def test_rotten_copy_is_fetched_again(tmp_path: Path, store: Store) -> None:
    """A copy whose bytes changed on the server's disk is replaced by the store's."""
    cache, digest = Cache(tmp_path / "cache", store), digest_bytes(DATA)
    cache.read(digest)
    copy = tmp_path / "cache" / hex_of(digest)
    for damage in (b"", DATA[:-1], b"x" + DATA[1:]):
        copy.write_bytes(damage)
        assert cache.read(digest) == DATA
        assert copy.read_bytes() == DATA


class LyingStore:
    """A store that hands out other bytes than it should, and does not notice."""

    def read(self, key: str) -> bytes | None:
        """Have no records."""
        del key
        return None

    def fetch_blob(self, digest: str, dest: Path) -> None:
        """Write something else."""
        del digest
        dest.write_bytes(b"something else")


def test_store_is_not_trusted(tmp_path: Path) -> None:
    """Bytes are checked here too, and wrong ones never get the name of the right ones."""
    cache = Cache(tmp_path, LyingStore())
    with pytest.raises(CorruptArtifact):
        cache.read(digest_bytes(DATA))
    assert list(tmp_path.iterdir()) == []


def test_missing_blob(tmp_path: Path, store: Store) -> None:
    """A file that the store does not have is Stalled, and leaves nothing behind."""
    cache = Cache(tmp_path / "cache", store)
    with pytest.raises(Stalled) as caught:
        cache.read(digest_of("nothing"))
    assert caught.value.reason == "BlobMissing"
    assert list((tmp_path / "cache").iterdir()) == []


def test_unwritable_cache_is_transient(tmp_path: Path, store: Store) -> None:
    """Trouble with the server's own disk is no verdict on the file."""
    cache = Cache(tmp_path / "cache", store)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(Transient):
        cache.read(digest_bytes(DATA))


def test_left_overs_are_removed_at_start(tmp_path: Path, store: Store) -> None:
    """What a killed server had half-written is gone after the next start; whole files stay."""
    Cache(tmp_path / "cache", store).read(digest_bytes(DATA))
    (tmp_path / "cache" / ".half").write_bytes(b"ha")
    Cache(tmp_path / "cache", store)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [hex_of(digest_bytes(DATA))]


def test_prune_keeps_what_is_named(tmp_path: Path, store: Store) -> None:
    """Files that nobody names any more are removed."""
    other = store.put_blob(b"other")
    cache = Cache(tmp_path / "cache", store)
    cache.read(digest_bytes(DATA))
    cache.read(other)
    cache.prune([other])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [hex_of(other)]
