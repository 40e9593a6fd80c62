"""The store, in a folder and on a real S3 server: written once, whole or not at all, verified on the way out."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import CorruptArtifact, Stalled, Transient
from tests.support.s3 import BUCKET, s3_server

ROOT = Path(__file__).parents[2]
RUN = "runs/" + "a" * 64 + "/run.json"
ABSENT = "sha256:" + "0" * 64


class Place:
    """A store and its back door."""

    def __init__(self, url: str, folder: Path | None) -> None:
        self.url = url
        self.folder = folder

    def tamper(self, key: str, data: bytes) -> None:
        """Change bytes behind the store's back."""
        if self.folder is not None:
            (self.folder / key).unlink()
            (self.folder / key).write_bytes(data)
        else:
            bucket, _, top = self.url.removeprefix("s3://").partition("/")
            boto3.client("s3").put_object(Bucket=bucket, Key=f"{top}/{key}", Body=data)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Give the address of a running S3 server."""
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give an empty place for a store, once as a folder and once in a bucket."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return Place(f"s3://{BUCKET}/{uuid.uuid4().hex}", None)
    return Place((tmp_path / "store").as_uri(), tmp_path / "store")


@pytest.fixture
def store(place: Place) -> Store:
    """Give an empty store."""
    return Store(place.url)


def child(code: str, *args: str) -> subprocess.Popen[str]:
    """Start a Python process that has the project on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def small(folder: Path) -> set[str]:
    """Give the names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    """An absent record is None; a created one reads back byte for byte, also through another Store."""
    assert store.read(RUN) is None
    assert store.create(RUN, b'{"a":1}')
    assert Store(store.url).read(RUN) == b'{"a":1}'


@pytest.mark.parametrize("second", [b"first", b"other"], ids=["same", "different"])
def test_the_first_record_wins(store: Store, second: bytes) -> None:
    """A second create changes nothing and says so."""
    assert store.create(RUN, b"first")
    assert not store.create(RUN, second)
    assert store.read(RUN) == b"first"


def test_only_progress_is_replaced(store: Store) -> None:
    """Progress is overwritten freely; every other key refuses."""
    store.replace("progress/train-a.json", b"1")
    store.replace("progress/train-a.json", b"2")
    assert store.read("progress/train-a.json") == b"2"
    with pytest.raises(Stalled, match="write-once"):
        store.replace(RUN, b"x")


@pytest.mark.parametrize("key", ["blobs/sha256/" + "a" * 64, "progress/x.json"], ids=["blob", "progress"])
def test_records_do_not_go_where_other_things_live(store: Store, key: str) -> None:
    """Create refuses keys of files and of progress."""
    with pytest.raises(Stalled, match="no record"):
        store.create(key, b"x")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../x",
        "runs/../../x",
        "runs//x",
        "runs/",
        ".tmp/x",
        "runs/.hidden",
        "runs\\x",
        "runs/a b",
        "ä",
        "runs/a\n",
        "x" * 600,
        "-x",
    ],
    ids=[
        "empty",
        "absolute",
        "parent",
        "inner-parent",
        "double-slash",
        "folder",
        "scratch",
        "hidden",
        "backslash",
        "space",
        "unicode",
        "newline",
        "long",
        "dash",
    ],
)
def test_keys_that_could_leave_the_store_are_refused(tmp_path: Path, key: str) -> None:
    """No method takes a key that is not plain."""
    store = Store(str(tmp_path))
    for act in (store.read, lambda k: store.create(k, b""), lambda k: store.replace(k, b"")):
        with pytest.raises(Stalled) as caught:
            act(key)
        assert caught.value.reason == "KeyInvalid"


@pytest.mark.parametrize("size", [0, 5, 9 * 1024 * 1024 + 1], ids=["empty", "small", "several-parts"])
@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_a_file_goes_in_and_comes_out_whole(store: Store, tmp_path: Path, size: int, kind: str) -> None:
    """A file is stored under its digest and read and fetched back verified, whatever its size."""
    data = os.urandom(size)
    (tmp_path / "in").write_bytes(data)
    digest = store.put_blob(data if kind == "bytes" else tmp_path / "in")
    assert digest == digest_bytes(data)
    assert store.has_blob(digest)
    assert store.read_blob(digest) == data
    store.fetch_blob(digest, tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out").read_bytes() == data


def test_storing_a_file_twice_writes_once(store: Store, place: Place) -> None:
    """What is there is left alone, even where somebody changed it: reading will tell."""
    digest = store.put_blob(b"weights")
    place.tamper(f"blobs/sha256/{digest[7:]}", b"wEights")
    assert store.put_blob(b"weights") == digest
    with pytest.raises(CorruptArtifact):
        store.read_blob(digest)


def test_a_tampered_file_is_never_handed_out(store: Store, place: Place, tmp_path: Path) -> None:
    """A changed file raises CorruptArtifact with both digests, and fetching it leaves no file, new or old, touched."""
    digest = store.put_blob(b"weights")
    place.tamper(f"blobs/sha256/{digest[7:]}", b"evil")
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_bytes(b"old")
    with pytest.raises(CorruptArtifact, match=digest_bytes(b"evil")):
        store.read_blob(digest)
    for name in ("new", "old"):
        with pytest.raises(CorruptArtifact):
            store.fetch_blob(digest, out / name)
    assert small(out) == {"old"}
    assert (out / "old").read_bytes() == b"old"


def test_an_absent_file_is_said_to_be_absent(store: Store, tmp_path: Path) -> None:
    """Reading and fetching raise Stalled BlobMissing and leave nothing behind."""
    assert not store.has_blob(ABSENT)
    for act in (lambda: store.read_blob(ABSENT), lambda: store.fetch_blob(ABSENT, tmp_path / "out" / "x")):
        with pytest.raises(Stalled) as caught:
            act()
        assert caught.value.reason == "BlobMissing"
    assert not small(tmp_path / "out")


def test_a_malformed_digest_is_refused(store: Store) -> None:
    """Digests become keys only in their one form."""
    with pytest.raises(Stalled, match="64 hexadecimal"):
        store.has_blob("sha256:../../x")


def test_list_gives_keys_by_prefix(store: Store) -> None:
    """Keys come sorted, by plain prefix; an empty store and an unknown prefix give none."""
    assert store.list() == []
    for key in ("runs/b/run.json", "runs/a/run.json", "exports/x.json"):
        store.create(key, b"1")
    digest = store.put_blob(b"x")
    assert store.list("runs/") == ["runs/a/run.json", "runs/b/run.json"]
    assert store.list("runs/a") == ["runs/a/run.json"]
    assert store.list("nothing/") == []
    assert store.list() == sorted(
        ["runs/b/run.json", "runs/a/run.json", "exports/x.json", f"blobs/sha256/{digest[7:]}"]
    )


KEPT = "kept/retail.shelf/20261126/101500-" + "a" * 16 + "-" + "b" * 8


def test_kept_things_come_and_go(store: Store) -> None:
    """Below ``kept/`` the first writer wins, sizes are told, and what is removed is gone, asked once or twice."""
    assert store.sizes("kept/retail.shelf/") == {}
    assert store.keep(f"{KEPT}.png", b"picture")
    assert store.keep(f"{KEPT}.json", b"{}")
    assert not store.keep(f"{KEPT}.json", b"another")
    assert store.read(f"{KEPT}.json") == b"{}"
    assert store.sizes("kept/retail.shelf/") == {f"{KEPT}.json": 2, f"{KEPT}.png": 7}
    assert store.sizes("kept/retail.shelf2/") == {}
    assert store.list("kept/") == [f"{KEPT}.json", f"{KEPT}.png"]
    for _ in range(2):
        store.forget(f"{KEPT}.json")
    assert store.list() == [f"{KEPT}.png"]
    store.forget(f"{KEPT}.png")
    assert store.list() == []


def test_checkpoints_come_and_go_and_are_checked(store: Store, tmp_path: Path) -> None:
    """Below ``checkpoints/`` records are replaced, files are kept and fetched by digest, and all of it is removed."""
    (tmp_path / "last.pt").write_bytes(b"state")
    folder = "checkpoints/" + "a" * 64
    assert store.keep(f"{folder}/file", tmp_path / "last.pt")
    store.replace(f"{folder}/record.json", b"1")
    store.replace(f"{folder}/record.json", b"2")
    assert store.read(f"{folder}/record.json") == b"2"
    store.fetch(f"{folder}/file", digest_bytes(b"state"), tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"state"
    with pytest.raises(CorruptArtifact):
        store.fetch(f"{folder}/file", digest_bytes(b"another"), tmp_path / "never")
    with pytest.raises(Stalled, match="no record"):
        store.create(f"{folder}/record.json", b"x")
    for key in store.list("checkpoints/"):
        store.forget(key)
    assert store.list() == []


def test_an_emptied_folder_of_kept_things_goes_along(tmp_path: Path) -> None:
    """Days whose pictures were all removed leave no folders behind for ever."""
    store = Store(str(tmp_path))
    store.keep(f"{KEPT}.png", b"1")
    store.forget(f"{KEPT}.png")
    assert not (tmp_path / KEPT).parent.exists()
    assert store.keep(f"{KEPT}.png", b"2")


@pytest.mark.parametrize(
    "key",
    [
        RUN, "blobs/sha256/" + "a" * 64, "progress/x.json", "kept", "kept/", "kept/../runs/x", "kept/./x", "kept//x",
        "/kept/x", "keptx/y", "kept/x\n", "kept/.x", "Kept/x", "kept\\x", "kept/" + "x" * 600,
    ],
)  # fmt: skip
def test_nothing_but_kept_things_is_ever_removed(store: Store, key: str) -> None:
    """Keep and forget take no key that lies, or could lie, outside ``kept/``: the rest of a store is for ever."""
    store.create(RUN, b"record")
    digest = store.put_blob(b"weights")
    for act in (store.forget, lambda k: store.keep(k, b"x")):
        with pytest.raises(Stalled) as caught:
            act(key)
        assert caught.value.reason == "KeyInvalid"
    assert store.list() == sorted([RUN, f"blobs/sha256/{digest[7:]}"])


def test_half_written_kept_things_are_swept_by_themselves(tmp_path: Path) -> None:
    """What a killed writer left of a live picture goes after an hour, and of other things only where that is asked."""
    store = Store(str(tmp_path))
    for folder in (".tmp", "kept/.tmp"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "young").write_bytes(b"x")
        (tmp_path / folder / "old").write_bytes(b"x")
        os.utime(tmp_path / folder / "old", (time.time() - 4000,) * 2)
    assert store.list() == []
    assert store.sweep(kept=True) == 1
    assert small(tmp_path) == {".tmp/old", ".tmp/young", "kept/.tmp/young"}
    assert store.sweep() == 1


def test_pictures_are_kept_where_nothing_else_may_be_written() -> None:
    """A server whose store is mounted read-only, but for ``kept/``, keeps, reads, removes and sweeps there."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody with fewer rights")
    code = """
        import os, sys
        from adapters.store import Store
        from specs.errors import Transient
        store, key, run = Store(sys.argv[1]), sys.argv[2], sys.argv[3]
        os.setgid(65534); os.setuid(65534)
        print(store.keep(key, b"picture"), store.read(key), len(store.sizes("kept/")), store.sweep(kept=True))
        try:
            store.create("runs/x/run.json", b"")
        except Transient as error:
            print(error.reason)
        store.forget(key)
        print(store.list("kept/"))
    """
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be entered by root alone
        place = Path(folder)
        place.chmod(0o755)
        Store(folder).create(RUN, b"x")
        (place / "kept").mkdir()
        os.chown(place / "kept", 65534, 65534)
        printed, errors = child(code, folder, f"{KEPT}.png", RUN).communicate(timeout=60)
    assert printed.split("\n")[:3] == ["True b'picture' 1 0", "StoreUnavailable", "[]"], errors


def test_records_for_ever_do_not_go_where_things_are_removed(store: Store) -> None:
    """Create refuses keys below ``kept/``: a record there could vanish."""
    with pytest.raises(Stalled, match="no record"):
        store.create(f"{KEPT}.json", b"x")


def test_storing_a_file_that_is_not_there_says_so(store: Store, tmp_path: Path) -> None:
    """A missing source is a Stalled that names it."""
    with pytest.raises(Stalled, match="no-such-file"):
        store.put_blob(tmp_path / "no-such-file")


def test_many_processes_create_one_record(tmp_path: Path) -> None:
    """Of writers that race for one key exactly one wins, and every reader sees its bytes whole."""
    code = """
        import sys, time
        from adapters.store import Store
        store, me = Store(sys.argv[1]), sys.argv[2]
        print("ready", flush=True)
        time.sleep(max(0, float(sys.stdin.readline()) - time.time()))
        print(sum(store.create(f"runs/{n}/run.json", me.encode() * 100_000) for n in range(40)))
    """
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s"), me],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for me in "abc"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    start = f"{time.time() + 0.2}\n"
    wins = [int(writer.communicate(start, timeout=60)[0]) for writer in writers]
    assert sum(wins) == 40
    store = Store(str(tmp_path / "s"))
    assert {store.read(f"runs/{n}/run.json") for n in range(40)} <= {me.encode() * 100_000 for me in "abc"}


@pytest.mark.parametrize("after", ["start", "middle"])
def test_a_writer_killed_in_the_middle_leaves_no_file(tmp_path: Path, after: str) -> None:
    """SIGKILL while a file is written: it is not there, the next writer stores it, the leftover is swept in time."""
    source = tmp_path / "big"
    with source.open("wb") as stream:
        stream.truncate(128 * 1024 * 1024)
    folder = tmp_path / "store"
    writer = child(
        "import sys; from pathlib import Path; from adapters.store import Store\n"
        "Store(sys.argv[1]).put_blob(Path(sys.argv[2]))",
        str(folder),
        str(source),
    )
    deadline = time.monotonic() + 60
    least = 0 if after == "start" else 16 * 1024 * 1024
    while not any(path.stat().st_size >= least for path in folder.glob(".tmp/*")):
        assert time.monotonic() < deadline
        assert writer.poll() is None
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    store = Store(str(folder))
    assert store.list() == []
    assert store.sweep() == 0, "a young leftover may be somebody's work"
    leftover = next(folder.glob(".tmp/*"))
    os.utime(leftover, (time.time() - 4000,) * 2)
    digest = store.put_blob(source)
    assert digest == "sha256:" + hashlib.file_digest(source.open("rb"), "sha256").hexdigest()
    assert store.has_blob(digest)
    assert store.sweep() == 1
    assert not list(folder.glob(".tmp/*"))


FILL = """
    import json, sys
    from pathlib import Path
    from adapters.store import Store
    from specs.errors import TrunklineError
    def attempt(act):
        try:
            act()
        except TrunklineError as error:
            return [type(error).__name__, error.reason, error.message]
        return ["fine", "", ""]
    store, big = Store(sys.argv[1]), Path(sys.argv[2])
    print(json.dumps([
        attempt(lambda: store.create("runs/ok/run.json", b"fits")),
        attempt(lambda: store.put_blob(big)),
        attempt(lambda: store.create("runs/big/run.json", big.read_bytes())),
        attempt(lambda: store.replace("progress/big.json", big.read_bytes())),
        store.list(), [p.name for p in Path(sys.argv[1]).glob(".tmp/*")],
    ]))
"""


def check_full(output: str) -> None:
    """Check what FILL printed: small things fit, big ones are Transient StoreFull, and nothing half-written is left."""
    fits, *failed, keys, scratch = json.loads(output)
    assert fits[0] == "fine"
    assert [result[:2] for result in failed] == [["Transient", "StoreFull"]] * 3
    assert keys == ["runs/ok/run.json"]
    assert scratch == []


def test_a_full_disk_is_transient_and_leaves_nothing(tmp_path: Path) -> None:
    """A really full file system: StoreFull, and nothing half-written remains."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare to mount a tiny file system")
    mount, big = tmp_path / "tiny", tmp_path / "big"
    mount.mkdir()
    big.write_bytes(os.urandom(2 * 1024 * 1024))
    script = f'mount -t tmpfs -o size=512k none "{mount}" || exit 77; exec "$@"'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-c",
        textwrap.dedent(FILL),
        str(mount),
        str(big),
    ]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no tiny file system could be mounted: {done.stderr}")
    assert done.returncode == 0, done.stderr
    check_full(done.stdout)


def test_a_file_size_limit_is_a_full_store(tmp_path: Path) -> None:
    """What ulimit -f forbids is treated as a full disk."""
    big = tmp_path / "big"
    big.write_bytes(os.urandom(2 * 1024 * 1024))
    limit = 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILL), str(tmp_path / "store"), str(big)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    check_full(done.stdout)


def test_no_room_at_the_destination_is_not_the_stores_fault(tmp_path: Path) -> None:
    """Fetching to a place that takes no more bytes is DiskFull, and names that place."""
    digest = Store(str(tmp_path / "store")).put_blob(os.urandom(2 * 1024 * 1024))
    code = """
        import resource, sys
        from pathlib import Path
        from adapters.store import Store
        from specs.errors import Transient
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            Store(sys.argv[1]).fetch_blob(sys.argv[2], Path(sys.argv[3]))
        except Transient as error:
            print(error.reason, error.message)
    """
    out = tmp_path / "job" / "weights.pt"
    printed, errors = child(code, str(tmp_path / "store"), digest, str(out)).communicate(timeout=60)
    assert printed.startswith(f"DiskFull {out}"), errors
    assert not small(out.parent)


def test_a_store_that_is_no_folder_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder should be: Transient StoreUnavailable for writing, with the place named."""
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(Transient, match="store") as caught:
        Store(str(tmp_path / "store")).create(RUN, b"x")
    assert caught.value.reason == "StoreUnavailable"


def test_a_store_without_permission_is_unavailable(tmp_path: Path) -> None:
    """Nobody's user: reading is refused as StoreUnavailable, never answered with "not there"."""
    store = Store(str(tmp_path / "store"))
    store.create(RUN, b"x")
    (tmp_path / "store").chmod(0o700)
    if os.geteuid() == 0:
        code = """
            import os, sys
            from adapters.store import Store
            from specs.errors import Transient
            store = Store(sys.argv[1])
            os.chown(sys.argv[1], 0, 0); os.setgid(65534); os.setuid(65534)
            reading, writing = lambda: store.read(sys.argv[2]), lambda: store.create("runs/x", b"")
            for act in (reading, writing, lambda: store.list("runs/")):
                try:
                    print("got", act())
                except Transient as error:
                    print(error.reason)
        """
        printed, errors = child(code, str(tmp_path / "store"), RUN).communicate(timeout=60)
        assert printed.split() == ["StoreUnavailable"] * 3, errors
    else:
        (tmp_path / "store").chmod(0)
        with pytest.raises(Transient, match="cannot be used"):
            store.read(RUN)
        (tmp_path / "store").chmod(0o700)


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_never_an_empty_store() -> None:
    """No bucket: every question is StoreUnavailable, because "no run yet" would train the world again."""
    store = Store("s3://no-such-bucket/x")
    for act in (
        lambda: store.read(RUN),
        store.list,
        lambda: store.has_blob(ABSENT),
        lambda: store.put_blob(b"x"),
        lambda: store.create(RUN, b"x"),
        lambda: store.keep(f"{KEPT}.json", b"x"),
        lambda: store.forget(f"{KEPT}.json"),
        lambda: store.sizes("kept/"),
    ):
        with pytest.raises(Transient) as caught:
            act()
        assert caught.value.reason == "StoreUnavailable"


def test_an_s3_server_that_is_down_is_unavailable(s3: str, tmp_path: Path) -> None:
    """Nobody listens: Transient StoreUnavailable, no vendor exception."""
    assert s3
    code = """
        from adapters.store import Store
        from specs.errors import Transient
        try:
            Store("s3://bucket/x").read("runs/x")
        except Transient as error:
            print(error.reason)
    """
    environment = os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout == "StoreUnavailable\n", done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host/x",
        "file://host/x",
        "s3://",
        "s3://key:secret@bucket/x",
        "s3://bucket/../x",
        "ext::sh",
        "memory://x",
    ],
    ids=["empty", "http", "remote-file", "no-bucket", "credentials", "parent", "odd", "memory"],
)
def test_odd_addresses_are_refused(url: str) -> None:
    """A URL that is neither path, file nor s3 is refused with what would be right, and without its secret."""
    if url == "ext::sh":
        assert Store(url).url.startswith("file://"), "a name with colons is a relative path like any other"
        return
    with pytest.raises(Stalled, match="file:///path") as caught:
        Store(url)
    assert "secret" not in caught.value.message


def test_a_path_and_its_file_url_are_the_same_store(tmp_path: Path) -> None:
    """Spaces and percent signs in a path survive the way through a URL."""
    folder = tmp_path / "a b%20c"
    Store(str(folder)).create(RUN, b"x")
    assert Store(folder.as_uri()).read(RUN) == b"x"


def test_importing_the_store_is_cheap() -> None:
    """Every job imports the store: it must bring no cloud library, and no numpy."""
    code = "import sys, adapters.store; print([m for m in ('fsspec', 's3fs', 'botocore', 'numpy') if m in sys.modules])"
    assert child(code).communicate(timeout=60)[0] == "[]\n"
