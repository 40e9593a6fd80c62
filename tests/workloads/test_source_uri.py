"""Data sets that URLs name: archives and folders, on this machine, in buckets, over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from specs.data import UriSource
from specs.digests import digest_bytes, tree_digest
from specs.errors import CorruptArtifact, Stalled, Transient
from tests.support import pictures
from tests.support.file_server import FileServer, file_server
from tests.support.s3 import BUCKET, s3_server
from workloads.errors import Hopeless
from workloads.sources import Fetched, folders, uri
from workloads.sources.kept import Shelf

OTHER = digest_bytes(b"other")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server that jobs may go to."""
    monkeypatch.setenv("TRUNKLINE_DATA_HOSTS", "127.0.0.1")
    with file_server() as told:
        yield told


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket."""
    with s3_server() as url:
        yield url


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that ``file://`` data may lie below."""
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("TRUNKLINE_DATA_FOLDERS", f"/nowhere:{folder}")
    return folder


class Job:
    """Fetches like a job: each time with a scratch folder of its own, and with the node's cache."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.told: list[tuple[str, int, int]] = []
        self._folder, self._number = folder, 0

    def fetch(self, url: str, digest: str | None = None, *, cached: bool = True) -> Fetched:
        """Fetch; nothing of an earlier call's scratch is there."""
        self._number += 1
        scratch = self._folder / f"scratch-{self._number}"
        scratch.mkdir()
        source = UriSource(url=url, digest=digest)
        return uri.fetch(source, scratch, self.cache if cached else None, lambda *words: self.told.append(words))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A node."""
    return Job(tmp_path)


def zipped(folder: Path, archive: Path) -> bytes:
    """Pack a folder."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive.read_bytes()


def leave(job: Job, url: str, begun: bytes, version: object) -> None:
    """Leave on the node what a job leaves that was killed: a beginning, and whose it is."""
    with Shelf(job.cache / "uri").part(url) as part:
        part.write_bytes(begun)
        part.with_name(part.name + ".json").write_text(json.dumps(version))


def interrupt_at(count: int) -> Callable[[str, int, int], None]:
    """Give what to call with progress: it ends the job when so many files are there."""

    def told(phase: str, done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return told


def tree_of(folder: Path) -> str:
    """Compute a folder's digest as the manual says."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return tree_digest(
        (path.relative_to(folder).as_posix(), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    )


def test_the_manual_computes_the_digest_of_a_folder(tmp_path: Path) -> None:
    """The few lines of Python that the manual gives print what a job would."""
    folder = pictures.folder(tmp_path / "d", "detect", 3)
    digest = tree_of(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    program = page.partition("<<'EOF'\n")[2].partition("\nEOF")[0]
    said = subprocess.run([sys.executable, "-", folder], input=program, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == digest


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    return tree_of(one) == tree_of(other)


# -------------------------------------------------------------------------------------------------------- archives
def test_an_archive_is_fetched_once(server: FileServer, job: Job, tmp_path: Path) -> None:
    """Its digest is that of its file; another job on the node, which names it by digest, fetches nothing."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    server.files["/d.zip"] = data = zipped(folder, tmp_path / "d.zip")
    first = job.fetch(f"{server.url}/d.zip")
    assert (first.digest, first.bytes) == (digest_bytes(data), len(data))
    assert same(first.folder / "d", folder)
    second = job.fetch(f"{server.url}/d.zip", first.digest)
    assert (second.digest, second.bytes) == (first.digest, 0)
    assert same(second.folder, first.folder)
    assert len(server.asked) == 1
    assert ("fetching", len(data), len(data)) in job.told


def test_other_bytes_than_the_digest_names_are_refused(server: FileServer, job: Job, tmp_path: Path) -> None:
    """They are not kept, not unpacked, and the sentence has both digests; the next try asks the server again."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 2), tmp_path / "d.zip")
    for tries in (1, 2):
        with pytest.raises(CorruptArtifact) as caught:
            job.fetch(f"{server.url}/d.zip?sig=hush", OTHER)
        assert digest_bytes(data) in caught.value.message
        assert OTHER in caught.value.message
        assert "hush" not in caught.value.message
        assert len(server.asked) == tries
    assert not any((job.cache / "uri" / "sha256").rglob("*/*"))
    assert not list(tmp_path.glob("scratch-*/data"))


def test_a_damaged_cache_is_found_out(server: FileServer, job: Job, tmp_path: Path) -> None:
    """A file that rotted in the cache is not used: it is fetched again."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 2), tmp_path / "d.zip")
    digest = job.fetch(f"{server.url}/d.zip").digest
    kept = next((job.cache / "uri" / "sha256").rglob("*/*"))
    kept.write_bytes(b"rotten" + data[6:])
    assert job.fetch(f"{server.url}/d.zip", digest).bytes == len(data)


def test_two_jobs_at_once_fetch_one_archive(server: FileServer, tmp_path: Path) -> None:
    """Of two jobs on a node that want the same archive, one fetches and the other finds it."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 2), tmp_path / "d.zip")
    server.faults += ["hold:100"]
    jobs = [Job(tmp_path / name) for name in ("one", "two")]
    for each in jobs:
        each.cache = tmp_path / "cache"
        (tmp_path / ("one" if each is jobs[0] else "two")).mkdir()
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(each.fetch, f"{server.url}/d.zip", digest_bytes(data)) for each in jobs]
        assert server.halfway.wait(60)
        server.go.set()
        found = [each.result(60) for each in running]
    assert sorted(each.bytes for each in found) == [0, len(data)]
    assert same(found[0].folder, found[1].folder)
    assert [part for _, part in server.asked] == ["", "bytes=100-"]


def test_parts_that_do_not_fit_together_are_fetched_anew(server: FileServer, job: Job, tmp_path: Path) -> None:
    """Where a beginning from an earlier job and the rest give other bytes, the job ends and the next one gets all."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 2), tmp_path / "d.zip")
    leave(job, f"{server.url}/d.zip", bytes(100), {"validator": server.tag("/d.zip")})
    with pytest.raises(Transient) as caught:
        job.fetch(f"{server.url}/d.zip", digest_bytes(data))
    assert caught.value.reason == "DataChanging"
    assert job.fetch(f"{server.url}/d.zip", digest_bytes(data)).bytes == len(data)


def test_a_bad_archive_can_never_be_used(server: FileServer, job: Job) -> None:
    """Bytes that git names and that nobody can unpack are hopeless: they will never be others."""
    server.files["/d.zip"] = b"not an archive"
    with pytest.raises(Hopeless, match=r"http://127.0.0.1:\d+/d.zip is no ZIP archive"):
        job.fetch(f"{server.url}/d.zip", digest_bytes(b"not an archive"))


@pytest.mark.parametrize(
    ("url", "said"),
    [("https://h/folder", "names no archive"), ("store://digits", "nothing to fetch")],
)
def test_urls_that_name_nothing_to_fetch_are_hopeless(job: Job, url: str, said: str) -> None:
    """Over HTTP there are no folders, and what is in the store is not fetched."""
    with pytest.raises(Hopeless, match=said):
        job.fetch(url)


# ------------------------------------------------------------------------------------------- folders of this machine
def test_a_folder_is_copied_as_it_is(top: Path, job: Job) -> None:
    """Its digest is its tree's; hidden files have no part, and nothing of the copy is the original."""
    folder = pictures.folder(top / "d", "detect", 4)
    digest = tree_of(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / ".DS_Store").write_text("x")
    found = job.fetch(f"file://{folder}", digest)
    assert found.digest == digest == tree_of(found.folder)
    assert found.bytes == sum(path.stat().st_size for path in found.folder.rglob("*") if path.is_file())
    (folder / "data.yaml").write_text("names: [other]")
    assert "other" not in (found.folder / "data.yaml").read_text()
    with pytest.raises(CorruptArtifact):
        job.fetch(f"file://{folder}", digest)


def test_an_archive_on_this_machine_is_copied(top: Path, job: Job, tmp_path: Path) -> None:
    """A file is read like one from elsewhere: copied, checked, unpacked."""
    folder = pictures.folder(tmp_path / "d", "detect", 2)
    data = zipped(folder, top / "d.zip")
    assert same(job.fetch(f"file://{top}/d.zip", digest_bytes(data)).folder / "d", folder)


@pytest.mark.parametrize("where", ["other/d", "shared/../other/d", "shared/link", "shared-too/d"])
def test_folders_that_are_not_allowed_are_not_read(top: Path, job: Job, tmp_path: Path, where: str) -> None:
    """Only what lies below an allowed folder is read; dots, links and names that begin alike do not lead out of it."""
    for name in ("other", "shared-too"):
        pictures.folder(tmp_path / name / "d", "detect", 2)
    (top / "link").symlink_to(tmp_path / "other" / "d")
    with pytest.raises(Stalled) as caught:
        job.fetch(f"file://{tmp_path}/{where}") if ".." not in where else folders.allowed(f"file://{tmp_path}/{where}")
    assert caught.value.reason == "AddressRefused"


def test_without_leave_nothing_is_read(job: Job, tmp_path: Path) -> None:
    """Where the operator allows no folder, no folder is read."""
    pictures.folder(tmp_path / "d", "detect", 2)
    with pytest.raises(Stalled, match=r"data\.allow_folders"):
        job.fetch(f"file://{tmp_path}/d")


@pytest.mark.parametrize("kind", ["link", "link to a folder", "pipe"])
def test_links_in_folders_are_refused(top: Path, job: Job, kind: str) -> None:
    """Whatever a link leads to, and whatever a pipe would say, is not read."""
    folder = pictures.folder(top / "d", "detect", 2)
    if kind == "pipe":
        os.mkfifo(folder / "images" / "x.png")
    else:
        (folder / "images" / "x.png").symlink_to("/etc" if "folder" in kind else "/etc/passwd")
    with pytest.raises(Hopeless, match="is a link or a device"):
        job.fetch(f"file://{folder}")


def test_names_that_collide_are_refused(top: Path, job: Job) -> None:
    """A folder that would lose files on another disk is refused."""
    folder = pictures.folder(top / "d", "detect", 2)
    shutil.copy(folder / "images" / "000.png", folder / "images" / "000.PNG")
    with pytest.raises(Hopeless, match="one on many disks"):
        job.fetch(f"file://{folder}")


@pytest.mark.parametrize("missing", ["absent", "empty"])
def test_nothing_there_is_said(top: Path, job: Job, missing: str) -> None:
    """A folder that is not there, or empty, is no data set; somebody may still put it there."""
    (top / "empty").mkdir()
    with pytest.raises(Stalled) as caught:
        job.fetch(f"file://{top}/{missing}")
    assert caught.value.reason == "DataRefused"
    assert not isinstance(caught.value, Hopeless)


@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_called_an_archive_and_is_none_is_said(top: Path, job: Job, kind: str) -> None:
    """A name alone makes no archive; nothing waits for a pipe to say something."""
    (top / "d.zip").mkdir() if kind == "a folder" else os.mkfifo(top / "d.zip")
    with pytest.raises(Stalled, match="is no file"):
        job.fetch(f"file://{top}/d.zip")


@pytest.mark.parametrize("change", ["content", "new", "gone"])
def test_a_folder_that_changes_while_it_is_read_is_found_out(top: Path, job: Job, change: str) -> None:
    """Nothing half old, half new is ever taken, also where git names no digest: the job is tried again."""
    folder = pictures.folder(top / "d", "detect", 4)

    def meddle(*_: object) -> None:
        if change == "content":
            (folder / "images" / "000.png").write_bytes(b"\x89PNG other")
        elif change == "new":
            (folder / "images" / "999.png").write_bytes(b"\x89PNG other")
        else:
            (folder / "labels" / "003.txt").unlink(missing_ok=True)

    with pytest.raises(Transient) as caught:
        folders.copy_tree(folder, job.cache, f"file://{folder}", meddle)
    assert caught.value.reason == "DataChanging"


def test_an_archive_that_changes_while_it_is_read_is_found_out(top: Path, job: Job, tmp_path: Path) -> None:
    """Somebody who still writes to an archive is noticed, also where git names no digest."""
    zipped(pictures.folder(tmp_path / "d", "detect", 2), top / "d.zip")

    def meddle(phase: str, done: int, total: int) -> None:
        with (top / "d.zip").open("ab") as file:
            file.write(b"more")

    with pytest.raises(Transient) as caught:
        folders.copy_file(top / "d.zip", tmp_path / "copy", f"file://{top}/d.zip", meddle)
    assert caught.value.reason == "DataChanging"


# --------------------------------------------------------------------------------------------------------- buckets
def upload(folder: Path, prefix: str) -> str:
    """Put a folder into the bucket; gives its URL."""
    client = boto3.client("s3")
    for path in folder.rglob("*"):
        if path.is_file():
            client.put_object(
                Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
            )
    return f"s3://{BUCKET}/{prefix}"


def test_a_folder_in_a_bucket_is_fetched_once(s3: str, job: Job, tmp_path: Path) -> None:
    """It has the digest of the same folder on a disk; markers of consoles and hidden files have no part in it."""
    folder = pictures.folder(tmp_path / "d", "detect", 6)
    url = upload(folder, "once")
    for key in ("once/", "once/images/", "once/.hidden", "once/.git/config"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")
    first = job.fetch(url)
    assert first.digest == tree_of(folder) == tree_of(first.folder)
    assert first.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert job.fetch(url, first.digest).bytes == 0
    assert job.told[-1][0] == "fetching"


def test_a_folder_is_not_its_neighbour(s3: str, job: Job, tmp_path: Path) -> None:
    """Keys that only begin like the folder are no part of it."""
    folder = pictures.folder(tmp_path / "d", "detect", 2)
    upload(pictures.folder(tmp_path / "e", "detect", 3), "near-by")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="near.txt", Body=b"x")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="near", Body=b"x")
    assert job.fetch(upload(folder, "near")).digest == tree_of(folder)


def test_only_what_is_new_is_fetched(s3: str, job: Job, tmp_path: Path) -> None:
    """Of a folder that grew, a node that has the older version gets the new files only."""
    folder = pictures.folder(tmp_path / "d", "detect", 4)
    first = job.fetch(upload(folder, "grows"))
    (folder / "images" / "new.png").write_bytes(b"\x89PNG\r\n\x1a\n new picture")
    second = job.fetch(upload(folder, "grows"))
    assert second.bytes == len(b"\x89PNG\r\n\x1a\n new picture")
    assert second.digest == tree_of(folder) != first.digest


def test_a_folder_that_was_half_fetched_is_not_fetched_again(s3: str, job: Job, tmp_path: Path) -> None:
    """What a job got before it was ended is noted file by file; the next one gets the rest, whatever was cut off."""
    folder = pictures.folder(tmp_path / "d", "detect", 6)
    url = upload(folder, "half")
    (tmp_path / "ended").mkdir()
    source = UriSource(url=url, digest=tree_of(folder))
    with pytest.raises(KeyboardInterrupt):
        uri.fetch(source, tmp_path / "ended", job.cache, interrupt_at(5))
    notes = next(path for path in (job.cache / "uri" / "parts").iterdir() if not path.suffix)
    assert len(notes.read_text().split("\n")) >= 5
    notes.write_text(notes.read_text()[:-20])
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    found = job.fetch(url, source.digest)
    assert 0 < found.bytes < whole
    assert tree_of(found.folder) == source.digest


def test_a_pinned_folder_needs_its_bucket_no_more(s3: str, job: Job, tmp_path: Path) -> None:
    """What a node has is found by digest, wherever the bucket is by now; what rotted there is fetched again."""
    url = upload(pictures.folder(tmp_path / "d", "detect", 3), "pinned")
    digest = job.fetch(url).digest
    assert job.fetch("s3://no-such-bucket/pinned", digest).bytes == 0
    kept = next((job.cache / "uri" / "sha256").rglob("*/*"))
    size = kept.stat().st_size
    kept.unlink()
    kept.write_bytes(bytes(size))
    again = job.fetch(url, digest)
    assert (again.bytes, again.digest, tree_of(again.folder)) == (size, digest, digest)


def test_a_bucket_with_other_files_than_git_names_is_refused(s3: str, job: Job, tmp_path: Path) -> None:
    """The digest of a tree decides, as that of a file does."""
    url = upload(pictures.folder(tmp_path / "d", "detect", 2), "other")
    with pytest.raises(CorruptArtifact, match=OTHER):
        job.fetch(url, OTHER)


@pytest.mark.parametrize("change", ["replaced", "new"])
def test_a_bucket_that_changes_while_it_is_read_is_found_out(
    s3: str, job: Job, tmp_path: Path, change: str
) -> None:
    """Nothing half old, half new is ever taken from a bucket, also where git names no digest."""
    url = upload(pictures.folder(tmp_path / "d", "detect", 2), f"changes-{change}")
    key = f"changes-{change}/images/{'000' if change == 'replaced' else '999'}.png"

    def meddle(phase: str, done: int, total: int) -> None:
        boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"\x89PNG other")

    (tmp_path / "scratch").mkdir()
    with pytest.raises(Transient) as caught:
        uri.fetch(UriSource(url=url), tmp_path / "scratch", job.cache, meddle)
    assert caught.value.reason == "DataChanging"


def test_an_archive_in_a_bucket_is_fetched(s3: str, job: Job, tmp_path: Path) -> None:
    """One object is an archive where its name says so; the beginning of an earlier job is used."""
    folder = pictures.folder(tmp_path / "d", "detect", 2)
    data = zipped(folder, tmp_path / "d.zip")
    boto3.client("s3").put_object(Bucket=BUCKET, Key="sets/d.zip", Body=data)
    url = f"s3://{BUCKET}/sets/d.zip"
    version = boto3.client("s3").head_object(Bucket=BUCKET, Key="sets/d.zip")["ETag"]
    leave(job, url, data[:1000], version)
    found = job.fetch(url, digest_bytes(data))
    assert same(found.folder / "d", folder)
    assert found.bytes == len(data) - 1000
    leave(job, url, bytes(1000), '"another version"')
    assert job.fetch(url).bytes == len(data)


@pytest.mark.parametrize(
    ("place", "said"), [("no-such-bucket/x", "does not exist|holds no files"), (f"{BUCKET}/nothing", "holds no files"),
                        (f"{BUCKET}/nothing.zip", "does not exist")]
)  # fmt: skip
def test_what_is_not_in_a_bucket_is_said(s3: str, job: Job, place: str, said: str) -> None:
    """A wrong bucket, folder or name ends with a sentence; somebody may still put it there."""
    with pytest.raises(Stalled, match=said) as caught:
        job.fetch(f"s3://{place}")
    assert not isinstance(caught.value, Hopeless)


def test_a_bucket_that_cannot_be_reached_is_tried_later(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is no verdict."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Transient) as caught:
        job.fetch("s3://bucket/d")
    assert caught.value.reason == "DataSourceUnreachable"
    assert "hush" not in caught.value.message


def test_a_library_that_is_missing_is_named(job: Job) -> None:
    """Google's storage needs a package that jobs' images need not have; the sentence says which."""
    with pytest.raises(Stalled, match="gcsfs") as caught:
        job.fetch("gs://bucket/d")
    assert caught.value.reason == "LibraryMissing"


def test_a_job_without_a_cache_needs_none(s3: str, job: Job, tmp_path: Path) -> None:
    """Where a node has no cache, the job's own scratch folder does."""
    folder = pictures.folder(tmp_path / "d", "detect", 2)
    assert tree_of(job.fetch(upload(folder, "uncached"), cached=False).folder) == tree_of(folder)
    assert not job.cache.exists()


def test_what_is_laid_out_shares_bytes_with_the_cache(s3: str, job: Job, tmp_path: Path) -> None:
    """Files are second names of those in the cache, not copies: a large data set lies on a node once."""
    found = job.fetch(upload(pictures.folder(tmp_path / "d", "detect", 2), "links"))
    assert all(path.stat().st_nlink == 2 for path in found.folder.rglob("*") if path.is_file())


def test_only_one_job_has_a_part(tmp_path: Path) -> None:
    """Who comes second waits until the first one is done, and then finds no half files of a job that was killed."""
    shelf, order = Shelf(tmp_path), []
    with ThreadPoolExecutor(1) as pool:
        with shelf.part("x") as part:
            shelf.spare(part).write_bytes(b"half")
            started = threading.Event()

            def second() -> list[Path]:
                started.set()
                with shelf.part("x"):
                    order.append("second")
                    return [path for path in part.parent.iterdir() if path.suffix != ".lock"]

            waiting = pool.submit(second)
            assert started.wait(60)
            order.append("first")
        assert waiting.result(60) == []
    assert order == ["first", "second"]
