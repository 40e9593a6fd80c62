"""Import jobs from order to record: what they leave in the store, and what is left when they end in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.data_records import ImportRecord, import_key
from specs.digests import digest_bytes
from specs.modelspec import Task
from specs.records import DatasetManifest, Progress, dataset_key, progress_key
from specs.workorders import ImportOrder
from tests.support import pictures
from tests.support.file_server import FileServer, file_server
from tests.support.living import die_at_line, until
from tests.support.orders import WHO
from workloads.errors import BAD_MATERIAL, DONE, HOPELESS, RETRY
from workloads.importing import data_root
from workloads.job import run

TASKS: tuple[Task, ...] = get_args(Task)
ROOT = Path(__file__).parents[2]
OTHER = digest_bytes(b"other")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(f"file://{tmp_path}/store")


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that data may come from; jobs have a scratch folder and a cache."""
    monkeypatch.setenv("TRUNKLINE_DATA_FOLDERS", str(tmp_path / "shared"))
    monkeypatch.setenv("TRUNKLINE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("TRUNKLINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.fixture
def server(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A web server that jobs may go to."""
    monkeypatch.setenv("TRUNKLINE_DATA_HOSTS", "127.0.0.1")
    with file_server() as told:
        yield told


def order(url: str, digest: str | None = None, task: Task = "detect", **changes: Any) -> ImportOrder:
    """Order an import."""
    source = {"uri": {"url": url, **({"digest": digest} if digest else {})}}
    return ImportOrder(**{**WHO, "task": task, "source": source, **changes})


def record(store: Store, asked: ImportOrder) -> ImportRecord:
    """Give the record that an import left."""
    text = store.read(import_key(asked.import_digest))
    assert text is not None
    return ImportRecord.decode(text)


def zipped(folder: Path, archive: Path, *, top: str = "") -> bytes:
    """Pack a folder, in a folder of its own where ``top`` names one."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(top, path.relative_to(folder)))
    return archive.read_bytes()


@pytest.mark.parametrize("top", ["", "coco8"], ids=["plain", "in a folder"])
@pytest.mark.parametrize("task", TASKS)
def test_an_archive_becomes_a_data_set_in_the_store(store: Store, shared: Path, task: Task, top: str) -> None:
    """The manifest is the one that adding the folder by hand gives, with or without a folder around it."""
    folder = pictures.folder(shared.parent / "d", task, 6)
    digest = digest_bytes(zipped(folder, shared / "d.zip", top=top))
    asked = order(f"file://{shared}/d.zip", digest, task)
    assert run(asked, store) == DONE
    found = record(store, asked)
    by_hand = add_folder(Store(str(shared.parent / "other")), folder, task=task)
    assert (found.status, found.digest, found.manifest) == ("Succeeded", digest, by_hand.digest())
    assert (found.images, found.task) == (6, task)
    assert found.bytes == (shared / "d.zip").stat().st_size
    assert found.source == asked.source
    assert found.started <= found.finished
    text = store.read(dataset_key(by_hand.digest()))
    assert text is not None
    assert all(store.has_blob(entry.digest) for entry in DatasetManifest.decode(text).files)


def test_a_bare_source_is_told_its_digest(store: Store, shared: Path) -> None:
    """Where git names no digest, the record says which one it is; pinned to it, nothing needs to be fetched again."""
    pictures.folder(shared / "d", "detect", 4)
    asked = order(f"file://{shared}/d")
    assert run(asked, store) == DONE
    bare = record(store, asked)
    pinned = order(f"file://{shared}/d", bare.digest)
    assert pinned.import_digest != asked.import_digest
    there = record(store, pinned)
    assert (there.manifest, there.digest, there.source) == (bare.manifest, bare.digest, pinned.source)
    assert run(pinned, store) == DONE
    assert record(store, pinned) == there


def test_progress_is_told(store: Store, shared: Path) -> None:
    """The last word is how many files are in the store, of how many."""
    pictures.folder(shared / "d", "detect", 4)
    asked = order(f"file://{shared}/d")
    assert run(asked, store) == DONE
    told = Progress.decode(store.read(progress_key(asked.job)) or b"")
    assert (told.phase, told.done, told.total) == ("storing", 8, 8)


def _labels_wrong(shared: Path) -> ImportOrder:
    folder = pictures.folder(shared / "d", "detect", 2)
    (folder / "labels" / "000.txt").write_text("7 0.5 0.5 2 2\n")
    return order(f"file://{shared}/d")


def _names_unknown(shared: Path) -> ImportOrder:
    folder = pictures.folder(shared / "d", "detect", 2)
    (folder / "data.yaml").unlink()
    return order(f"file://{shared}/d")


def _task_wrong(shared: Path) -> ImportOrder:
    pictures.folder(shared / "d", "detect", 2)
    return order(f"file://{shared}/d", task="segment")


def _no_pictures(shared: Path) -> ImportOrder:
    return order(f"file://{shared}/d.zip", digest_bytes(_packed(shared, {"readme.md": b"nothing"})))


def _hostile(shared: Path) -> ImportOrder:
    return order(f"file://{shared}/d.zip", digest_bytes(_packed(shared, {"../../evil.png": b"x"})))


def _stored(shared: Path) -> ImportOrder:
    return order("store://digits", OTHER)


def _no_archive(shared: Path) -> ImportOrder:
    return order("https://example.com/data", OTHER)


def _unknown(shared: Path) -> ImportOrder:
    return order("ftp://example.com/d.zip", OTHER)


def _packed(shared: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(shared / "d.zip", "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return (shared / "d.zip").read_bytes()


@pytest.mark.parametrize(
    ("make", "reason", "said"),
    [
        (_labels_wrong, "InvalidDataset", "labels/000.txt:1: class 7 does not exist"),
        (_names_unknown, "InvalidDataset", "class names are unknown"),
        (_task_wrong, "InvalidDataset", "expected class and at least 3 points"),
        (_no_pictures, "InvalidDataset", "holds no pictures"), (_hostile, "InvalidArchive", "leads outside"),
        (_stored, "InvalidSource", "in the store already"), (_no_archive, "InvalidSource", "names no archive"),
        (_unknown, "InvalidSource", "ftp://"),
    ],
)  # fmt: skip
def test_what_can_never_be_used_is_recorded(
    store: Store, shared: Path, make: Callable[[Path], ImportOrder], reason: str, said: str
) -> None:
    """The record says why, in words that mean something elsewhere: no folder of this machine, and no manifest."""
    asked = make(shared)
    assert run(asked, store) == HOPELESS
    found = record(store, asked)
    assert (found.status, found.reason, found.manifest) == ("Failed", reason, None)
    assert said in found.message
    assert str(shared.parent / "scratch") not in found.message
    assert store.list("datasets/") == []
    before = store.read(import_key(asked.import_digest))
    assert run(asked, store) == DONE
    assert store.read(import_key(asked.import_digest)) == before


def test_other_bytes_than_git_names_leave_nothing(store: Store, shared: Path) -> None:
    """They are bad material, not a verdict on what git names: once the right ones are there, the import works."""
    folder = pictures.folder(shared.parent / "d", "detect", 2)
    data = zipped(folder, shared.parent / "right.zip")
    (shared / "d.zip").write_bytes(zipped(pictures.folder(shared.parent / "e", "detect", 3), shared.parent / "e.zip"))
    asked = order(f"file://{shared}/d.zip", digest_bytes(data))
    assert run(asked, store) == BAD_MATERIAL
    assert [key for key in store.list() if not key.startswith("progress/")] == []
    (shared / "d.zip").write_bytes(data)
    assert run(asked, store) == DONE


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [("file:///etc", BAD_MATERIAL, "AddressRefused"), ("http://169.254.169.254/d.zip", BAD_MATERIAL, "AddressRefused"),
     ("http://nobody.invalid/d.zip", RETRY, "DataSourceUnreachable"), ("gs://b/d", BAD_MATERIAL, "LibraryMissing")],
)  # fmt: skip
def test_what_git_cannot_change_is_not_recorded(
    store: Store, shared: Path, capsys: pytest.CaptureFixture[str], url: str, code: int, said: str
) -> None:
    """Rules of the operator, missing packages and networks change without git: nothing is written but the log."""
    asked = order(url)
    assert run(asked, store) == code
    assert said in capsys.readouterr().err
    assert store.read(import_key(asked.import_digest)) is None


def test_what_a_killed_job_stored_is_used(store: Store, shared: Path) -> None:
    """A job that ended after everything but the record is done by doing it again: nothing is stored twice."""
    folder = pictures.folder(shared / "d", "detect", 4)
    manifest = add_folder(store, folder, task="detect")
    before = store.list("blobs/")
    asked = order(f"file://{folder}")
    assert run(asked, store) == DONE
    assert store.list("blobs/") == before
    assert record(store, asked).manifest == manifest.digest()


def start(asked: ImportOrder, store: Store) -> subprocess.Popen[str]:
    """Start a job as a process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRUNKLINE_WORK_ORDER": asked.encode().decode()}
    command = [sys.executable, "-m", "workloads", "--store", store.url]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_a_job_that_is_killed_half_way_goes_on(store: Store, server: FileServer, tmp_path: Path) -> None:
    """Killed in the middle of a transfer, a job leaves a beginning; the next one on the node asks for the rest."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 6), tmp_path / "d.zip")
    server.faults += ["hold:5000"]
    asked = order(f"{server.url}/d.zip", digest_bytes(data))
    killed = start(asked, store)
    assert server.halfway.wait(60)
    parts = (tmp_path / "cache" / "uri" / "parts").glob
    until(lambda: any(path.stat().st_size == 5000 for path in parts("*")))
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert store.read(import_key(asked.import_digest)) is None
    done = start(asked, store)
    assert done.communicate(timeout=60)[1] == ""
    assert done.returncode == DONE
    assert [range_ for _, range_ in server.asked] == ["", "bytes=5000-"]
    assert record(store, asked).bytes == len(data) - 5000


def test_a_job_may_die_anywhere(store: Store, server: FileServer, tmp_path: Path) -> None:
    """Killed before any line of ours, a job leaves no record or the right one, and the next one can go on."""
    folder = pictures.folder(tmp_path / "d", "detect", 2)
    server.files["/d.zip"] = data = zipped(folder, tmp_path / "d.zip")
    asked = order(f"{server.url}/d.zip", digest_bytes(data))
    right = add_folder(Store(str(tmp_path / "other")), folder, task="detect").digest()
    deaths = 0
    while die_at_line(1 + 31 * deaths, lambda: run(asked, store), of="workloads/"):
        deaths += 1
        assert store.read(import_key(asked.import_digest)) is None or record(store, asked).manifest == right
    assert deaths > 5
    assert record(store, asked).manifest == right
    assert store.list("datasets/") == [dataset_key(right)]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_jobs_at_once_leave_one_record(store: Store, server: FileServer, tmp_path: Path) -> None:
    """Two controllers may start the same import: both end well, one transfer is made, one record is there."""
    server.files["/d.zip"] = data = zipped(pictures.folder(tmp_path / "d", "detect", 6), tmp_path / "d.zip")
    asked = order(f"{server.url}/d.zip", digest_bytes(data))
    both = [start(asked, store) for _ in range(2)]
    for each in both:
        each.communicate(timeout=60)
    assert [each.returncode for each in both] == [DONE, DONE]
    assert record(store, asked).status == "Succeeded"
    assert len([path for path, _ in server.asked if path == "/d.zip"]) == 1
    assert len(store.list("datasets/")) == 1


@pytest.mark.parametrize(
    ("files", "root"),
    [
        (["images/a.png", "labels/a.txt"], ""), (["coco8/images/a.png", "coco8/labels/a.txt"], "coco8"),
        (["coco8/images/a.png", "LICENSE", "README.md"], "coco8"), (["__MACOSX/._a", "d/images/a.png"], "d"),
        (["data.yaml", "coco8/images/a.png"], ""), (["a/b/images/a.png"], "a/b"), (["images/train/a.png"], ""),
        (["train/images/a.png"], ""), (["test/milk/a.png"], ""), (["d/milk/a.png", "d/bread/a.png"], "d"),
        (["d/milk/a.png"], "d"), (["milk/a.png"], ""), (["a.png", "d/b.png"], ""), ([".hidden/x"], ""),
        (["d/train/milk/a.png", "d/val/milk/a.png"], "d"),
    ],
)  # fmt: skip
def test_the_data_set_is_found_in_its_folder(tmp_path: Path, files: list[str], root: str) -> None:
    """A folder around the data set is stepped into; what means something itself never is."""
    for name in files:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(b"")
    assert data_root(tmp_path / "x").relative_to(tmp_path / "x").as_posix() == (root or ".")


def test_records_say_what_was_asked(store: Store, shared: Path) -> None:
    """A record can be read by anybody: plain JSON in the words of the ModelSpec."""
    pictures.folder(shared / "d", "classify", 4)
    asked = order(f"file://{shared}/d", task="classify")
    assert run(asked, store) == DONE
    text = json.loads(store.read(import_key(asked.import_digest)) or b"")
    assert text["source"] == {"uri": {"url": f"file://{shared}/d"}}
