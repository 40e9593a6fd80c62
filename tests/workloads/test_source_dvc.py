"""Data sets behind DVC pointers: real data repositories, real remotes, real tampering."""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adapters.store import Store
from specs.data import DvcSource
from specs.data_records import ImportRecord, import_key
from specs.errors import CorruptArtifact, Stalled, Transient, TrunklineError
from specs.workorders import ImportOrder
from tests.support.dvc_repository import DvcProject
from tests.support.s3 import BUCKET, s3_server
from workloads import job
from workloads.errors import BAD_MATERIAL, DONE
from workloads.sources import Fetched
from workloads.sources.dvc import fetch

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def allowed(tmp_path: Path) -> Iterator[None]:
    """Let data come from below the test's folder, and keep a cache there."""
    own = {"TRUNKLINE_DATA_FOLDERS": str(tmp_path), "TRUNKLINE_CACHE": str(tmp_path / "cache")}
    os.environ.update(own)
    yield
    for name in (*own, "TRUNKLINE_DATA_HOSTS"):
        os.environ.pop(name, None)


@pytest.fixture
def project(tmp_path: Path) -> DvcProject:
    """Give a data repository with one small data set."""
    return DvcProject.ready(tmp_path / "far")


def bring(tmp_path: Path, source: DvcSource, name: str = "", told: Any = lambda *_: None) -> Fetched:
    """Fetch as a job does, with the node's cache and a scratch folder of its own."""
    scratch = tmp_path / "scratch" / (name or os.urandom(4).hex())
    scratch.mkdir(parents=True)
    return fetch(source, scratch, tmp_path / "cache", told)


def contents(folder: Path) -> dict[str, bytes]:
    """Give path to bytes of every file in a folder; what is no plain file is an error."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_dir() or path.is_symlink():
            assert stat.S_ISREG(path.lstat().st_mode), path
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def cached(tmp_path: Path, md5: str) -> Path:
    """Give where the node's cache has an object."""
    return tmp_path / "cache" / "dvc" / "files" / "md5" / md5[:2] / md5[2:]


def objects(tmp_path: Path) -> dict[str, tuple[int, int]]:
    """Give path to (number of the file, size) of every object in the node's cache."""
    found = (path for path in (tmp_path / "cache" / "dvc" / "files").rglob("*") if path.is_file())
    return {
        str(path): (path.stat().st_ino, path.stat().st_size) for path in found if not path.name.startswith(".")
    }


def spoil(path: Path, data: bytes = b"other bytes") -> None:
    """Put other bytes where an object is, as somebody would who may write there."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def refused(error: type[TrunklineError], tmp_path: Path, source: DvcSource) -> TrunklineError:
    """Give the error with which a source is refused."""
    with pytest.raises(error) as caught:
        bring(tmp_path, source)
    assert str(tmp_path / "cache") not in caught.value.message
    return caught.value


# ------------------------------------------------------------------------------------------------- fetching


def test_a_folder_comes_as_it_was_added(tmp_path: Path, project: DvcProject) -> None:
    """Every file, and nothing else; the second time everything is there already, as names of the same bytes."""
    said: list[tuple[str, int, int]] = []
    found = bring(tmp_path, project.source(), told=lambda *words: said.append(words))
    assert found.digest == project.digest()
    assert contents(found.folder) == contents(project.clone / "shelf")
    assert ("fetching", 13, 13) in said
    size = sum(len(data) for data in contents(found.folder).values())
    assert found.bytes == size + cached(tmp_path, project.pointer()["md5"]).stat().st_size
    again = bring(tmp_path, project.source())
    assert (again.bytes, contents(again.folder)) == (0, contents(found.folder))
    assert (again.folder / "data.yaml").stat().st_nlink == 3


def test_only_what_is_missing_is_fetched(tmp_path: Path, project: DvcProject) -> None:
    """One picture more costs that picture, its label and a new listing."""
    bring(tmp_path, project.source())
    before = objects(tmp_path)
    project.pictures(count=7)
    project.add(message="One more")
    found = bring(tmp_path, project.source())
    assert contents(found.folder) == contents(project.clone / "shelf")
    new = objects(tmp_path).keys() - before.keys()
    assert len(new) == 3
    assert found.bytes == sum(objects(tmp_path)[path][1] for path in new)


@pytest.mark.parametrize("form", ["commit", "short", "tag", "branch"])
def test_every_way_to_name_a_revision_works(tmp_path: Path, project: DvcProject, form: str) -> None:
    """A job finds what the control plane pinned, and what people pin by hand; the digest decides all the same."""
    wanted = project.source()
    first = project.head()
    project.tag("v1")
    git_name = {"commit": first, "short": first[:9], "tag": "v1", "branch": "old"}[form]
    project.commit({}, "Keep", branch="old", start=first)
    project.pictures(seed="other")
    project.add(start="main")
    found = bring(tmp_path, wanted.model_copy(update={"target_revision": git_name}))
    assert found.digest == wanted.digest


def test_an_unpinned_source_tells_its_digest(tmp_path: Path, project: DvcProject) -> None:
    """What it is, is told; nobody is asked to believe it."""
    assert bring(tmp_path, project.source(pinned=False)).digest == project.digest()


def test_without_a_cache_nothing_is_left_outside_the_scratch_folder(tmp_path: Path, project: DvcProject) -> None:
    """A node that has none fetches all of it each time."""
    (tmp_path / "scratch").mkdir()
    found = fetch(project.source(), tmp_path / "scratch", None, lambda *_: None)
    assert contents(found.folder) == contents(project.clone / "shelf")
    assert not (tmp_path / "cache").exists()


def test_an_archive_is_unpacked(tmp_path: Path, project: DvcProject) -> None:
    """A single file is a data set if it holds one."""
    shutil.make_archive(str(project.clone / "packed"), "zip", project.clone / "shelf")
    project.add("packed.zip")
    found = bring(tmp_path, project.source(name="packed.zip"))
    assert contents(found.folder) == contents(project.clone / "shelf")
    assert found.digest == project.digest("packed.zip")


def test_a_single_file_that_is_no_archive_is_refused(tmp_path: Path, project: DvcProject) -> None:
    """Nothing is fetched for it, and the words say what would do."""
    (project.clone / "notes.txt").write_text("notes")
    project.add("notes.txt")
    error = refused(Stalled, tmp_path, project.source(name="notes.txt"))
    assert error.reason == "DataSourceUnsupported"
    assert not objects(tmp_path)


def test_data_of_dvc_2_is_read_with_its_own_hashes(tmp_path: Path) -> None:
    """Before version 3 text was hashed with unified line ends, and objects lay elsewhere; both are still right."""
    import hashlib
    import json

    project = DvcProject(tmp_path / "far")
    files = {"a.txt": b"one\r\ntwo\r\n", "b.bin": b"\0\r\n"}

    def put(data: bytes, name: str, suffix: str = "") -> str:
        target = Path(project.remote) / name[:2] / (name[2:] + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return name

    def md5(data: bytes) -> str:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    names = {"a.txt": put(files["a.txt"], md5(b"one\ntwo\n")), "b.bin": put(files["b.bin"], md5(files["b.bin"]))}
    listing = json.dumps([{"md5": name, "relpath": path} for path, name in names.items()]).encode()
    put(listing, md5(listing), ".dir")
    project.commit({"shelf.dvc": f"outs:\n- md5: {md5(listing)}.dir\n  path: shelf\n"})
    assert contents(bring(tmp_path, project.source()).folder) == files
    spoil(Path(project.remote) / names["a.txt"][:2] / names["a.txt"][2:])
    shutil.rmtree(tmp_path / "cache")
    assert "shelf/a.txt" in refused(CorruptArtifact, tmp_path, project.source()).message


# ---------------------------------------------------------------------------------------------- wrong bytes


def test_a_pointer_that_says_something_else_is_refused(tmp_path: Path, project: DvcProject) -> None:
    """The ModelSpec's digest is what counts: a tag that was moved brings nothing."""
    wanted = project.source("v1")
    project.tag("v1")
    project.pictures(seed="other")
    project.add()
    project.tag("v1")
    error = refused(CorruptArtifact, tmp_path, wanted)
    assert wanted.digest is not None
    assert wanted.digest in error.message
    assert project.digest() in error.message
    assert not objects(tmp_path)


@pytest.mark.parametrize("how", ["bytes", "link", "folder", "empty", "longer"])
def test_wrong_bytes_in_the_cache_are_thrown_away_and_fetched_again(
    tmp_path: Path, project: DvcProject, how: str
) -> None:
    """Whoever may write to the node's cache cannot change what is trained on."""
    bring(tmp_path, project.source())
    md5 = project.md5_of("images/003.png")
    place = cached(tmp_path, md5)
    right = place.read_bytes()
    if how in ("bytes", "empty", "longer"):
        spoil(place, {"bytes": b"x" * len(right), "empty": b"", "longer": right + b"x"}[how])
    else:
        place.unlink()
        (tmp_path / "secret").write_bytes(right)  # even with the right bytes: a link may lead elsewhere later
        place.symlink_to(tmp_path / "secret") if how == "link" else place.mkdir()
    found = bring(tmp_path, project.source())
    assert contents(found.folder) == contents(project.clone / "shelf")
    assert found.bytes == len(right)
    assert place.read_bytes() == right
    assert not place.is_symlink()


def test_a_changed_listing_in_the_cache_is_fetched_again(tmp_path: Path, project: DvcProject) -> None:
    """The listing is an object like all others."""
    bring(tmp_path, project.source())
    spoil(cached(tmp_path, project.pointer()["md5"]), b"[]")
    assert contents(bring(tmp_path, project.source()).folder) == contents(project.clone / "shelf")


@pytest.mark.parametrize("what", ["file", "listing"])
def test_wrong_bytes_in_the_remote_end_the_import(tmp_path: Path, project: DvcProject, what: str) -> None:
    """The file is named, nothing wrong stays in the cache, and when the remote is mended it works."""
    md5 = project.md5_of("labels/002.txt") if what == "file" else project.pointer()["md5"]
    place = project.object(md5)
    right = place.read_bytes()
    spoil(place, b"0 0.5 0.5 0.9 0.9\n")
    error = refused(CorruptArtifact, tmp_path, project.source())
    assert ("shelf/labels/002.txt" if what == "file" else "the listing of shelf") in error.message
    assert md5 in error.message
    assert not cached(tmp_path, md5).exists()
    spoil(place, right)
    assert contents(bring(tmp_path, project.source()).folder) == contents(project.clone / "shelf")


def test_files_that_were_never_pushed_are_named(tmp_path: Path, project: DvcProject) -> None:
    """A `dvc push` that was forgotten is the commonest fault of all, and is nobody's secret."""
    project.object(project.md5_of("images/001.png")).unlink()
    project.object(project.md5_of("images/002.png")).unlink()
    error = refused(Stalled, tmp_path, project.source())
    assert error.reason == "DataMissing"
    assert "shelf/images/00" in error.message
    assert "dvc push" in error.message
    assert "1 more" in error.message


# ---------------------------------------------------------------------------------------- crashes and crowds

DIES = """
import os, signal, sys
from pathlib import Path
from specs.data import DvcSource
from workloads.sources.dvc import fetch

def told(phase, done, count):
    if phase == "fetching" and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

fetch(DvcSource.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), told)
"""


def die(tmp_path: Path, source: DvcSource) -> None:
    """Import in a process of its own, which is killed after five files."""
    scratch = tmp_path / "scratch" / "dead"
    scratch.mkdir(parents=True)
    text = source.model_dump_json(by_alias=True)
    command = [sys.executable, "-c", DIES, text, str(scratch), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()


def check_resumed(tmp_path: Path, project: DvcProject) -> None:
    """Import again, and see that nothing was fetched twice."""
    before = objects(tmp_path)
    assert 1 < len(before) < 14
    found = bring(tmp_path, project.source())
    assert contents(found.folder) == contents(project.clone / "shelf")
    after = objects(tmp_path)
    assert {path: after[path] for path in before} == before
    assert found.bytes == sum(size for path, (_, size) in after.items() if path not in before)


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path, project: DvcProject) -> None:
    """What had arrived stays as it is, to the file."""
    die(tmp_path, project.source())
    check_resumed(tmp_path, project)


def test_imports_at_once_fetch_once(tmp_path: Path, project: DvcProject) -> None:
    """Jobs that want the same wait for whoever was first, and find it there."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: bring(tmp_path, project.source(), f"job{number}"), range(4)))
    assert sorted(each.bytes for each in found)[:3] == [0, 0, 0]
    assert {frozenset(contents(each.folder).items()) for each in found} == {
        frozenset(contents(project.clone / "shelf").items())
    }


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, project: DvcProject) -> None:
    """It is a fault of the machine, and gone when somebody mends it."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "dvc").write_text("in the way")
    assert refused(Transient, tmp_path, project.source()).reason == "CacheUnavailable"
    (tmp_path / "cache" / "dvc").unlink()
    assert bring(tmp_path, project.source()).bytes


def test_what_killed_jobs_left_half_written_is_removed_in_time(tmp_path: Path, project: DvcProject) -> None:
    """Old leftovers go, those of a job that may still be at it stay."""
    bring(tmp_path, project.source())
    folder = cached(tmp_path, project.pointer()["md5"]).parent
    old, new = folder / ".old.tmp", folder / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    bring(tmp_path, project.source())
    assert (old.exists(), new.exists()) == (False, True)


# -------------------------------------------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Give the address of an S3 server with an empty bucket, which the environment leads to."""
    with s3_server() as address:
        yield address


@pytest.fixture
def in_bucket(tmp_path: Path, bucket: str) -> DvcProject:
    """Give a data repository whose remote is a bucket."""
    project = DvcProject.ready(tmp_path / "far")
    project.move(f"s3://{BUCKET}/{tmp_path.name}")
    return project


def test_data_in_a_bucket_comes_with_one_request_each(
    tmp_path: Path, in_bucket: DvcProject, caplog: pytest.LogCaptureFixture
) -> None:
    """No listing, no look before the leap: a request for each object that is missing, none for those that are there."""
    with caplog.at_level("INFO", logger="werkzeug"):
        found = bring(tmp_path, in_bucket.source())
        asked = [message for message in caplog.messages if "/files/md5/" in message]
        again = bring(tmp_path, in_bucket.source())
    assert contents(found.folder) == contents(in_bucket.clone / "shelf") == contents(again.folder)
    assert len(asked) == 14
    assert asked == [message for message in caplog.messages if "/files/md5/" in message]


def test_a_killed_import_from_a_bucket_goes_on(tmp_path: Path, in_bucket: DvcProject) -> None:
    """The same holds where many files are on their way at once."""
    die(tmp_path, in_bucket.source())
    check_resumed(tmp_path, in_bucket)


def test_an_endpoint_that_the_repository_names_must_be_allowed(
    tmp_path: Path, in_bucket: DvcProject, bucket: str
) -> None:
    """Who writes a data repository's configuration must not lead jobs into the network they are in."""
    in_bucket.options = {"endpointurl": bucket}
    in_bucket.configure()
    in_bucket.commit({}, "Endpoint")
    error = refused(Stalled, tmp_path, in_bucket.source())
    assert "127.0.0.1" in error.message
    os.environ["TRUNKLINE_DATA_HOSTS"] = "127.0.0.1"
    assert contents(bring(tmp_path, in_bucket.source()).folder) == contents(in_bucket.clone / "shelf")


def test_a_bucket_that_lets_nobody_in_is_told_without_secrets(
    tmp_path: Path, in_bucket: DvcProject, caplog: pytest.LogCaptureFixture
) -> None:
    """A bucket that is not there, or a server that is down: kind of trouble and name of the remote, no more."""
    before = os.environ["AWS_ENDPOINT_URL"]
    os.environ |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    try:
        error = refused(Transient, tmp_path, in_bucket.source())
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before
        del os.environ["AWS_MAX_ATTEMPTS"]
    assert error.reason == "DataSourceUnreachable"
    assert "the remote store (s3)" in error.message
    assert "127.0.0.1" not in error.message + caplog.text


def test_a_remote_behind_http_is_read(tmp_path: Path, project: DvcProject) -> None:
    """Objects that a web server gives; its private address must be allowed."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=project.remote)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder, project.remote = project.remote, f"http://127.0.0.1:{server.server_port}"
        project.configure()
        project.commit({}, "Web")
        assert "not public" in refused(Stalled, tmp_path, project.source()).message
        os.environ["TRUNKLINE_DATA_HOSTS"] = "127.0.0.1"
        project.remote = folder
        md5 = project.md5_of("images/004.png")
        project.object(md5).rename(tmp_path / "away")
        assert "shelf/images/004.png" in refused(Stalled, tmp_path, project.source()).message
        (tmp_path / "away").rename(project.object(md5))
        found = bring(tmp_path, project.source())
        server.shutdown()
    assert contents(found.folder) == contents(project.clone / "shelf")


# --------------------------------------------------------------------------------------------- as a whole job


def test_an_import_order_leaves_a_record_and_a_data_set(tmp_path: Path, project: DvcProject) -> None:
    """The store holds the data set under the digests of its bytes; the record ties them to what git names."""
    store = Store(f"file://{tmp_path}/store")
    source = project.source()
    order = ImportOrder(
        model="default/shelf", commit="0" * 40, task="detect",
        source={"dvc": source.model_dump(mode="json", by_alias=True, exclude_none=True)},
    )  # fmt: skip
    spoil(project.object(project.md5_of("images/000.png")))
    assert job.run(order, store) == BAD_MATERIAL
    assert store.read(import_key(order.import_digest)) is None
    shutil.copy(project.clone / "shelf" / "images" / "000.png", tmp_path / "right.png")
    spoil(project.object(project.md5_of("images/000.png")), (tmp_path / "right.png").read_bytes())
    assert job.run(order, store) == DONE
    record = ImportRecord.model_validate_json(store.read(import_key(order.import_digest)) or b"")
    assert (record.digest, record.images, record.status) == (source.digest, 6, "Succeeded")
