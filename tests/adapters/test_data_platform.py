"""What the control plane asks the Ultralytics Platform, and how it takes the answers."""

from __future__ import annotations

import socket
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.data_platform import DataPlatform, Platform, version_of
from specs.data import PlatformSource
from specs.errors import Stalled, Transient
from specs.monitoring import OnData
from tests.support.platform_server import KEY, Dataset, Image, PlatformServer, platform_server

URI = "ul://acme/datasets/shelf"
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def server() -> Iterator[PlatformServer]:
    """A Platform with one data set in two versions."""
    with platform_server() as told:
        told.datasets["acme/shelf"] = dataset = Dataset("detect", ["milk", "bread"])
        for name in ("a.png", "b.png"):
            dataset.images.append(Image(name, name.encode(), [[0, 0.5, 0.5, 0.2, 0.2]]))
            dataset.save()
        yield told


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """The file with our key."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    return tmp_path / "key"


class Clock:
    """Shows the time that a test set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def platform(server: PlatformServer, key_file: Path, clock: Clock) -> Iterator[Platform]:
    """A client of it."""
    made = Platform(server.url, key_file, timeout=20, clock=clock)
    yield made
    made.close()


def source(uri: str = URI, **fields: Any) -> PlatformSource:
    """Name the data set, or another one."""
    return PlatformSource(uri=uri, **fields)


def hashes(server: PlatformServer) -> list[str]:
    """Give the versions' content hashes."""
    return [version["contentHash"] for version in server.datasets["acme/shelf"].versions]


def test_a_bare_source_becomes_the_newest_version(server: PlatformServer, platform: Platform) -> None:
    """Without a version the highest one is meant; number and content hash pin it."""
    assert DataPlatform(platform).resolve(source()) == source(version=2, digest=hashes(server)[1])


def test_a_version_gets_its_content_hash(server: PlatformServer, platform: Platform) -> None:
    """A version that a person named stays, and the hash is added."""
    assert DataPlatform(platform).resolve(source(version=1)) == source(version=1, digest=hashes(server)[0])


def test_the_newest_version_is_found(server: PlatformServer, platform: Platform) -> None:
    """A newer version is given pinned, whatever the source is pinned to; the same world gives the same answer."""
    data, pinned = DataPlatform(platform), source(version=1, digest=hashes(server)[0])
    assert data.newest(pinned, OnData()) == source(version=2, digest=hashes(server)[1])
    server.datasets["acme/shelf"].images.append(Image("c.png", b"c", []))
    server.datasets["acme/shelf"].save()
    assert data.newest(pinned, OnData()) == data.newest(pinned, OnData()) == source(version=3, digest=hashes(server)[2])


def test_a_hash_alone_names_its_version(server: PlatformServer, platform: Platform) -> None:
    """A job that knows only the content hash finds the version that has it."""
    assert version_of(platform, source(digest=hashes(server)[0])).number == 1


def test_branches_are_refused(platform: Platform) -> None:
    """The Platform has versions only; who asks for a branch is told what to write."""
    with pytest.raises(Stalled, match="write onData: true") as caught:
        DataPlatform(platform).newest(source(), OnData(branch="main"))
    assert caught.value.reason == "DataSourceUnsupported"


@pytest.mark.parametrize(
    ("wrong", "reason", "said"),
    [
        pytest.param(source(version=9), "DataMissing", "no version 9", id="version"),
        pytest.param(source(digest="gone"), "DataMissing", "content hash gone", id="hash"),
        pytest.param(source("ul://acme/datasets/none"), "DataMissing", "no such", id="data set"),
        pytest.param(source("ul://acme/datasets/-a"), "DataSourceUnsupported", "ul://OWNER", id="name"),
    ],
)
def test_what_is_not_there_is_said(platform: Platform, wrong: PlatformSource, reason: str, said: str) -> None:
    """A data set or version that is not there needs a person, and the sentence says what was looked for."""
    with pytest.raises(Stalled, match=said) as caught:
        DataPlatform(platform).resolve(wrong)
    assert caught.value.reason == reason


def test_versions_without_a_hash_cannot_be_pinned(server: PlatformServer, platform: Platform) -> None:
    """A version that the Platform has no content hash for is no pin; a new version is."""
    dataset = server.datasets["acme/shelf"]
    dataset.hashed = False
    dataset.images.append(Image("c.png", b"c", []))
    dataset.save()
    with pytest.raises(Stalled, match="save a new version"):
        DataPlatform(platform).resolve(source())


def test_data_sets_without_versions_are_said(server: PlatformServer, platform: Platform) -> None:
    """Nothing is saved on a user's behalf: a data set without a version waits for one."""
    server.datasets["acme/shelf"].versions.clear()
    with pytest.raises(Stalled, match="no saved version"):
        DataPlatform(platform).resolve(source())


@pytest.mark.parametrize("fault", ["500", "502", "503", "408", "drop", "nonsense"])
def test_bad_days_are_transient(server: PlatformServer, platform: Platform, fault: str) -> None:
    """An answer that is none is asked for again later, and the next one counts."""
    server.faults += [fault]
    data = DataPlatform(platform)
    with pytest.raises(Transient) as caught:
        data.resolve(source())
    assert caught.value.reason == "DataSourceUnreachable"
    assert KEY not in caught.value.message
    assert data.resolve(source()) is not None


@pytest.mark.parametrize(("fault", "wait"), [("429:12", 12.0), ("503:12", 12.0), ("429", 60.0)])
def test_a_spent_quota_is_waited_out(
    server: PlatformServer, platform: Platform, clock: Clock, fault: str, wait: float
) -> None:
    """While the Platform asks to wait it is not asked at all; afterwards it is."""
    server.faults += [fault]
    data = DataPlatform(platform)
    for left in (wait, wait):
        with pytest.raises(Transient, match=f"{left:.0f} s"):
            data.resolve(source())
    assert len(server.asked) == 1
    clock.now += wait
    assert data.resolve(source()) is not None


@pytest.mark.parametrize("text", [None, "", "ul_wrong", "two words", "caf\u00e9"])
def test_a_wrong_key_needs_a_person(
    server: PlatformServer, platform: Platform, key_file: Path, text: str | None
) -> None:
    """A key that is missing, no key, or refused is said with the file it was read from, and never quoted."""
    key_file.unlink() if text is None else key_file.write_text(text)
    with pytest.raises(Stalled) as caught:
        DataPlatform(platform).resolve(source())
    assert caught.value.reason == "PlatformUnauthorized"
    assert not text or text not in caught.value.message
    key_file.write_text(KEY)  # keys are replaced while we run
    assert DataPlatform(platform).resolve(source()) is not None


def test_a_refusal_is_quoted_without_our_key(server: PlatformServer, platform: Platform) -> None:
    """A Platform that repeats our key in its error does not make us print it."""
    server.faults += ["403"]
    with pytest.raises(Stalled, match="Not now") as caught:
        DataPlatform(platform).resolve(source())
    assert KEY not in caught.value.message


def test_a_platform_that_is_not_there_is_transient(key_file: Path) -> None:
    """No connection is no verdict."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(Transient):
        DataPlatform(Platform(f"http://127.0.0.1:{port}", key_file)).resolve(source())


def test_an_export_is_a_signed_url(server: PlatformServer, platform: Platform) -> None:
    """A version's export is asked for by number, and is the version that was asked for."""
    assert platform.export(URI, 2).startswith(f"{server.url}/storage/acme/shelf/v2.ndjson?signature=")
    with pytest.raises(Stalled, match="no such version"):
        platform.export(URI, 9)


# ---------------------------------------------------------------------------------------------------- the contract
def _faults(value: Any, kind: Any, where: str) -> list[str]:
    """Compare an answer with a type of the Platform's own client: keys that lack, keys too many, other types."""
    origin = typing.get_origin(kind)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        wrong = [f"{where}.{key} lacks" for key in kind.__required_keys__ - value.keys()]
        wrong += [f"{where}.{key} is not described" for key in value.keys() - hints.keys()]
        for key in value.keys() & hints.keys():
            wrong += _faults(value[key], hints[key], f"{where}.{key}")
        return wrong
    if origin is list:
        return [fault for each in value for fault in _faults(each, typing.get_args(kind)[0], f"{where}[]")]
    if origin is typing.Literal:
        return [] if value in typing.get_args(kind) else [f"{where}: {value!r}"]
    if origin in (typing.Union, types.UnionType):
        branches = [_faults(value, each, where) for each in typing.get_args(kind)]
        return min(branches, key=len)
    plain = {float: (int, float)}.get(kind, origin or kind)
    return [] if plain is Any or isinstance(value, plain) else [f"{where} is {type(value).__name__}"]


def test_the_stand_in_answers_as_the_platforms_own_client_expects(server: PlatformServer) -> None:
    """The Platform's own client, generated from its description, reads our stand-in; its types fit the answers."""
    import ultralytics_platform as sdk  # comes with the trainer
    from ultralytics_platform import types as described

    with sdk.Platform(api_key=KEY, base_url=server.url, max_retries=0) as client:
        detail = client.datasets.retrieve("acme", "shelf")
        export = client.datasets.export("acme", "shelf", v=1)
        saved = client.datasets.create_export("acme", "shelf")
        with pytest.raises(sdk.APIError) as caught:
            client.datasets.export("acme", "shelf", v=9)
    assert _faults(detail, described.DatasetsRetrieveResponse, "detail") == []
    assert _faults(export, described.DatasetsExportResponse, "export") == []
    assert _faults(saved, described.DatasetsCreateExportResponse, "saved") == []
    assert caught.value.status_code == 404
    assert isinstance(caught.value.json["error"], str)
    assert detail["dataset"]["versions"][0].keys() >= {"version", "contentHash", "imageCount"}
    assert _faults({**export, "more": 1}, described.DatasetsExportResponse, "export")  # the comparison can fail
