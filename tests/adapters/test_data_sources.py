"""The door to data sets outside the store, with real data repositories behind it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.data_sources import DataSources
from specs.data import DvcSource, PlatformSource, Source, UriSource
from specs.errors import Stalled, Transient
from specs.monitoring import OnData
from tests.support.gitrepo import Hub

ONE, TWO = (f"{digit * 32}.dir" for digit in "12")
LONG = 30.0


class Clock:
    """Time that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def pointer(md5: str) -> str:
    """Write a pointer file as DVC does."""
    return f"outs:\n- {{md5: {md5}, size: 4, nfiles: 2, hash: md5, path: shelf}}\n"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a data repository."""
    hub = Hub(tmp_path / "far")
    hub.commit({"shelf.dvc": pointer(ONE), ".dvc/config": ""}, "First")
    return hub


def sources(tmp_path: Path, **more: object) -> DataSources:
    """Give the door, which lets in what is below the test's folder."""
    given: dict[str, object] = {"allow_folders": [tmp_path], "clock": Clock(), "patience": LONG, **more}
    return DataSources(tmp_path / "state", **given)  # type: ignore[arg-type]


def dvc(url: object, revision: str = "main", path: str = "shelf.dvc") -> Source:
    """Name a data set."""
    return Source(dvc=DvcSource(repoURL=str(url), targetRevision=revision, path=path))


def digest(found: Source | None) -> str | None:
    """Give what is pinned."""
    assert found is not None
    return found.digest


def test_a_dvc_source_is_resolved_and_followed(tmp_path: Path, hub: Hub) -> None:
    """Everything else of the source stays as it is; the mirror is in our own folder, and no more than one."""
    door = sources(tmp_path)
    found = door.resolve(dvc(hub.path))
    assert found == Source(
        dvc=DvcSource(repoURL=str(hub.path), targetRevision=hub.head(), path="shelf.dvc", digest=f"md5:{ONE}")
    )
    assert door.newest(found, OnData()) == found == door.newest(dvc(hub.path, "gone"), OnData(branch="main"))
    assert len(list((tmp_path / "state").iterdir())) == 1


def test_uri_sources_have_no_versions(tmp_path: Path) -> None:
    """Only fetching tells what a URL stands for."""
    source = Source(uri=UriSource(url="s3://bucket/shelf"))
    door = sources(tmp_path)
    assert door.resolve(source) is None
    assert door.newest(source, OnData()) is None


class Versions:
    """A Platform with one data set of three versions."""

    asked = 0

    def resolve(self, source: PlatformSource) -> PlatformSource:
        self.asked += 1
        return self.at(source, 2)

    def newest(self, source: PlatformSource, follow: OnData) -> PlatformSource:
        self.asked += 1
        return self.at(source, 3)

    @staticmethod
    def at(source: PlatformSource, version: int) -> PlatformSource:
        return source.model_copy(update={"version": version, "digest": f"hash-{version}"})


def test_platform_sources_go_to_the_platform_once(tmp_path: Path) -> None:
    """Each question is asked once and answered from memory; without a key nobody is asked, and the words say so."""
    source = Source(platform=PlatformSource(uri="ul://ada/datasets/shelf", version=2))
    platform = Versions()
    door = sources(tmp_path, platform=platform)
    assert {digest(door.resolve(source)) for _ in range(3)} == {"hash-2"}
    assert {digest(door.newest(source, OnData())) for _ in range(3)} == {"hash-3"}
    assert platform.asked == 2
    with pytest.raises(Stalled, match=r"platform_key_file"):
        sources(tmp_path).resolve(source)


def test_many_models_fetch_a_repository_once(tmp_path: Path, hub: Hub) -> None:
    """However many ask at once, the repository is looked at once in a poll, and each question is answered once."""
    clock = Clock()
    door = sources(tmp_path, clock=clock)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: digest(door.resolve(dvc(hub.path))), range(32)))
    assert found == {f"md5:{ONE}"}
    hub.commit({"shelf.dvc": pointer(TWO)})
    assert digest(door.resolve(dvc(hub.path))) == f"md5:{ONE}"
    clock.now = 61.0
    door.newest(dvc(hub.path), OnData())
    for thread in threading.enumerate():
        if thread.name.startswith("look at"):
            thread.join(LONG)  # the look goes on behind our back
    assert digest(door.newest(dvc(hub.path), OnData())) == f"md5:{TWO}" == digest(door.resolve(dvc(hub.path)))


def test_what_is_wrong_with_one_model_is_its_own(tmp_path: Path, hub: Hub) -> None:
    """A path that is not there is an answer as well, about that path alone."""
    door = sources(tmp_path)
    for _ in range(2):
        with pytest.raises(Stalled, match=r"no file other\.dvc"):
            door.resolve(dvc(hub.path, path="other.dvc"))
    assert digest(door.resolve(dvc(hub.path))) == f"md5:{ONE}"


@pytest.fixture
def silent() -> Iterator[int]:
    """Give the port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_repository_that_hangs_holds_nobody_up(tmp_path: Path, hub: Hub, silent: int) -> None:
    """It is unreachable for those who ask for it, and others never notice."""
    door = sources(tmp_path, patience=0.0, allow_hosts=["127.0.0.1"])
    for _ in range(3):
        with pytest.raises(Transient, match=r"has not answered yet"):
            door.resolve(dvc(f"https://127.0.0.1:{silent}/data.git"))
    patient = sources(tmp_path)
    assert digest(patient.resolve(dvc(hub.path))) == f"md5:{ONE}"


@pytest.mark.parametrize("form", ["path", "file", "relative", "link", "dots"])
def test_repositories_on_this_machine_are_read_only_where_the_settings_say_so(
    tmp_path: Path, hub: Hub, form: str
) -> None:
    """Neither a link nor dots lead out of the folders; a relative path means nothing to a controller."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(hub.path)
    url = {
        "path": str(hub.path),
        "file": hub.path.as_uri(),
        "relative": "far/hub.git",
        "link": f"{tmp_path}/open/link",
        "dots": f"{tmp_path}/open/../far/hub.git",
    }[form]
    for folders in ([], [tmp_path / "open"]):
        with pytest.raises(Stalled) as caught:
            sources(tmp_path, allow_folders=folders).resolve(dvc(url))
        assert caught.value.reason == "DataSourceUnsupported"
        assert "allow_folders" in caught.value.message or form == "relative"


def test_addresses_with_secrets_are_refused_without_quoting_them(tmp_path: Path) -> None:
    """What goes wrong before anything is asked is told in the same words as the rest."""
    with pytest.raises(Stalled) as caught:
        sources(tmp_path).resolve(dvc("https://ada:secret@example.com/data.git"))
    assert caught.value.reason == "DataSourceUnsupported"
    assert "secret" not in caught.value.message


def test_a_new_process_looks_before_it_answers(tmp_path: Path, hub: Hub) -> None:
    """What an earlier process had seen may be old: the mirror is used again, the answer is not."""
    assert digest(sources(tmp_path).resolve(dvc(hub.path))) == f"md5:{ONE}"
    hub.commit({"shelf.dvc": pointer(TWO)})
    assert digest(sources(tmp_path).resolve(dvc(hub.path))) == f"md5:{TWO}"
