"""Data sets on the Ultralytics Platform become folders as YOLO reads them; what came is checked as far as it can be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.data import PlatformSource
from specs.errors import CorruptArtifact, Stalled, Transient
from specs.modelspec import Task
from tests.support import pictures
from tests.support.platform_server import KEY, SIGNATURE, Dataset, Image, PlatformServer, platform_server
from workloads.errors import Hopeless
from workloads.sources import Fetched, platform, platform_export

URI = "ul://acme/datasets/shelf"
TASKS: tuple[Task, ...] = get_args(Task)


def dataset(task: Task, count: int = 6) -> Dataset:
    """Give a data set with the pictures and labels of ``pictures.folder``, in two splits."""
    made = Dataset(task, list(pictures.COLOURS), shape=[2, 3] if task == "pose" else None)
    for index in range(count):
        number = index % 2
        picture, box = pictures.scene(f"p-{index}", list(pictures.COLOURS.values())[number])
        row = [json.loads(word) for word in pictures.label(task, number, box).split()]
        split = "val" if index >= count - 2 else "train"
        made.images.append(Image(f"{index:03}.png", picture, [number] if task == "classify" else [row], split))
    return made


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlatformServer]:
    """A Platform with one version of one data set, that jobs know the way to."""
    (tmp_path / "key").write_text(KEY)
    with platform_server() as told:
        monkeypatch.setenv("TRUNKLINE_PLATFORM_URL", told.url)
        monkeypatch.setenv("TRUNKLINE_PLATFORM_KEY_FILE", str(tmp_path / "key"))
        monkeypatch.setenv("TRUNKLINE_DATA_HOSTS", "127.0.0.1")
        told.datasets["acme/shelf"] = made = dataset("detect")
        made.save()
        yield told


class Job:
    """Fetches like a job: each time with a scratch folder of its own, and with the node's cache."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self.told: list[tuple[str, int, int]] = []

    def fetch(self, **fields: Any) -> Fetched:
        """Fetch what a source names."""
        self._number += 1
        scratch = self._folder / f"scratch-{self._number}"
        scratch.mkdir(parents=True)
        source = PlatformSource(uri=URI, **fields)
        return platform.fetch(source, scratch, self._folder / "cache", lambda *words: self.told.append(words))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A node."""
    return Job(tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    """Give the files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content_hash(server: PlatformServer, number: int = 1) -> str:
    """Give a version's content hash."""
    return str(server.datasets["acme/shelf"].versions[number - 1]["contentHash"])


@pytest.mark.parametrize("task", TASKS)
def test_a_version_becomes_a_data_set(server: PlatformServer, job: Job, tmp_path: Path, task: Task) -> None:
    """Pictures, labels and names of each task are those of the same data set laid out by a person."""
    server.datasets["acme/shelf"] = made = dataset(task)
    made.save()
    found = job.fetch(version=1, digest=content_hash(server))
    assert found.digest == content_hash(server)
    store = Store(str(tmp_path / "store"))
    manifest = add_folder(store, found.folder, task=task)
    assert (manifest.images, manifest.names) == (6, ["green", "red"])
    assert manifest.class_counts == {"green": 3, "red": 3}
    plain = pictures.folder(tmp_path / "plain", task, 6, seed="p")
    by_person = add_folder(store, plain, task=task)
    assert manifest.image_digests() == by_person.image_digests()
    assert manifest.kpt_shape == by_person.kpt_shape


def test_a_job_downloads_only_what_its_node_lacks(server: PlatformServer, job: Job) -> None:
    """Pictures are stored by content: another version, and another job, fetch the new ones only."""
    first = job.fetch(version=1)
    assert job.told[-1] == ("fetching", 6, 6)
    assert server.counted("/storage/acme/shelf/") == 7
    made = server.datasets["acme/shelf"]
    made.images[0].rows = [[1, 0.25, 0.25, 0.125, 0.125]]
    made.images.append(Image("new.png", pictures.scene("new", (9, 9, 9))[0], []))
    made.save()
    server.asked.clear()
    second = job.fetch(version=2, digest=content_hash(server, 2))
    assert server.counted(".png") == 1
    assert second.bytes < first.bytes
    assert files(second.folder)["labels/train/000.txt"] == b"1 0.25 0.25 0.125 0.125\n"
    assert "labels/train/new.txt" not in files(second.folder)


def test_a_job_that_was_ended_half_way_goes_on(server: PlatformServer, job: Job, tmp_path: Path) -> None:
    """Pictures that are on the node already are not asked for again."""

    def told(phase: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    (tmp_path / "ended").mkdir()
    with pytest.raises(KeyboardInterrupt):
        platform.fetch(PlatformSource(uri=URI, version=1), tmp_path / "ended", tmp_path / "cache", told)
    server.asked.clear()
    assert len([path for path in files(job.fetch(version=1).folder) if path.endswith(".png")]) == 6
    assert server.counted(".png") <= 3


def test_a_bare_source_is_the_newest_version(server: PlatformServer, job: Job) -> None:
    """Without version and hash the newest one is taken, and the answer names it."""
    server.datasets["acme/shelf"].images.pop()
    server.datasets["acme/shelf"].save()
    assert job.fetch().digest == content_hash(server, 2)


def test_secrets_stay_where_they_belong(server: PlatformServer, job: Job, tmp_path: Path) -> None:
    """Our key goes to the API and not to storage; signed addresses are in no error."""
    job.fetch(version=1)
    assert server.leaked == []
    server.datasets["acme/shelf"].kept.clear()
    with pytest.raises(Stalled) as caught:
        Job(tmp_path / "other").fetch(version=1)
    assert "does not exist" in caught.value.message
    assert SIGNATURE not in caught.value.message
    assert KEY not in caught.value.message


def test_another_hash_than_git_names_is_refused(server: PlatformServer, job: Job) -> None:
    """The pin decides: a version whose content hash is another one is not fetched at all."""
    with pytest.raises(CorruptArtifact, match=content_hash(server)):
        job.fetch(version=1, digest="0" * 32)
    assert server.counted("/export") == 0


def test_a_new_version_meanwhile_changes_nothing(server: PlatformServer, job: Job) -> None:
    """Versions never change: what was asked for is read to its end although a newer one is saved."""

    def save() -> None:
        server.datasets["acme/shelf"].images.pop()
        server.datasets["acme/shelf"].save()

    server.after_export.append(save)
    found = job.fetch()
    assert found.digest == content_hash(server, 1)
    assert len([path for path in files(found.folder) if path.endswith(".png")]) == 6


@pytest.mark.parametrize("pinned", [True, False])
def test_a_version_that_changes_meanwhile_is_found_out(
    server: PlatformServer, job: Job, pinned: bool  # noqa: FBT001
) -> None:
    """Should a version change after all while it is read, nothing of it is taken."""
    fields = {"version": 1, "digest": content_hash(server)} if pinned else {}
    server.after_export.append(lambda: server.datasets["acme/shelf"].versions[0].update(contentHash="other"))
    with pytest.raises(CorruptArtifact if pinned else Transient):
        job.fetch(**fields)


def ndjson(*records: dict[str, Any] | str, **header: Any) -> bytes:
    """Write an export."""
    first = {"type": "dataset", "task": "detect", "class_names": {"0": "a"}, **header}
    lines = [first, *records]
    return b"".join((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n" for line in lines)


def image(**fields: Any) -> dict[str, Any]:
    """Write a picture's record."""
    base = {"type": "image", "file": "a.png", "url": "http://h/x.png", "split": "train"}
    return {**base, "annotations": {"boxes": [[0, 0.5, 0.5, 0.1, 0.1]]}, **fields}


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty export"),
    "no JSON": (ndjson("{"), "line 2 is no JSON object"),
    "no pictures": (ndjson(), "no pictures"),
    "another kind of task": (ndjson(image(), task="depth"), "is for 'depth'"),
    "names without numbers": (ndjson(image(), class_names={"a": "b"}), "belong to no numbers"),
    "number too large": (ndjson(image(), class_names={"99999999": "b"}), "beyond 100000"),
    "no split": (ndjson(image(split="all")), "line 2 names no split"),
    "no end": (ndjson("[" * 100_000), "line 2 is no JSON object"),
    "a URL of a file": (ndjson(image(url="file://h/x")), "line 2 names no split, file and URL"),
    "no URL": (ndjson(image(url=None)), "line 2 names no split, file and URL"),
    "other annotations": (ndjson(image(annotations={"segments": [[0, 1, 1]]})), "has segments where boxes"),
    "annotation of words": (ndjson(image(annotations={"boxes": [["a"]]})), "no list of numbers"),
    "annotation without end": (ndjson(image(annotations={"boxes": [[0, float("inf")]]})), "no list of numbers"),
    "no picture": (ndjson(image(file="a.avif", url="http://h/x.avif")), "'a.avif' (line 2), which is no .jpg"),
    "name that lies": (ndjson(image(file="a\u202eb.png")), "cannot be printed"),
    "keypoints unknown": (ndjson(image(), task="pose"), "no kpt_shape"),
    "class without a name": (
        ndjson(image(annotations={"classification": [7]}), task="classify"), "class without a name: 7"
    ),
    "class that is a path": (
        ndjson(image(annotations={"classification": [0]}), task="classify", class_names={"0": "../a"}),
        "cannot be a folder's name",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("export", "said"), BAD.values(), ids=BAD)
def test_exports_that_say_nothing_useful_are_hopeless(tmp_path: Path, export: bytes, said: str) -> None:
    """A version never changes: what cannot be read in it needs a new version, and the sentence says where to look."""
    (tmp_path / "e").write_bytes(export)
    with pytest.raises(Hopeless) as caught:
        platform_export.read(tmp_path / "e", URI)
    assert said in caught.value.message
    assert caught.value.message.startswith(URI)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = ("task", "class_names", "kpt_shape", "version", "split", "file", "url", "annotations")


@given(st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON), max_size=3), st.sampled_from(TASKS))
@settings(max_examples=40)
def test_no_export_is_a_bug(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[str, Any]], task: Task
) -> None:
    """Whatever an export says in whatever field: it is read, or refused with a sentence."""
    header, *images = [*changes, {}]
    export = tmp_path_factory.mktemp("export") / "e"
    lines = [{"task": task, "class_names": {"0": "a"}, **header}, *({**image(), **each} for each in images)]
    export.write_text("\n".join(json.dumps(line) for line in lines))
    try:
        found = platform_export.read(export, URI)
    except Hopeless:
        return
    assert len({picture.path for picture in found.pictures}) == len(found.pictures)


def test_names_are_made_to_fit(tmp_path: Path) -> None:
    """Two pictures of one name both stay, with their labels; folders in names are dropped; the ending is the file's."""
    (tmp_path / "e").write_bytes(ndjson(
        image(), image(), image(file="A.jpg"), image(file="x\\..\\y/b.heic", url="http://h/1.jpg?s=.png"),
        image(split="val"), image(file="c.png", annotations=None),
    ))  # fmt: skip
    found = platform_export.read(tmp_path / "e", URI)
    assert [picture.path for picture in found.pictures] == [
        "images/train/a.png", "images/train/a-3.png", "images/train/A-4.png", "images/train/b.jpg",
        "images/val/a.png", "images/train/c.png",
    ]  # fmt: skip
    assert [picture.label and picture.label[0] for picture in found.pictures] == [
        "labels/train/a.txt", "labels/train/a-3.txt", "labels/train/A-4.txt", "labels/train/b.txt",
        "labels/val/a.txt", None,
    ]  # fmt: skip


def test_class_numbers_without_a_name_get_one(tmp_path: Path) -> None:
    """Numbers keep their meaning where some have no name, as the trainer does it; lists of names are taken too."""
    (tmp_path / "e").write_bytes(ndjson(image(), class_names={"2": "c", "0": "a"}))
    assert platform_export.read(tmp_path / "e", URI).names == ["a", "class1", "c"]
    (tmp_path / "e").write_bytes(ndjson(image(), class_names=["a", "b"]))
    assert platform_export.read(tmp_path / "e", URI).names == ["a", "b"]


@pytest.mark.parametrize("wrong", ["fewer", "another version"])
def test_an_export_that_is_not_the_version_is_refused(server: PlatformServer, job: Job, wrong: str) -> None:
    """An export that was cut, or of another version, is never taken for the version that git names."""
    version = 1 if wrong == "fewer" else 7
    server.stored["/storage/acme/shelf/v1.ndjson"] = ndjson(image(), version=version)
    with pytest.raises(CorruptArtifact, match="1 pictures of 6" if wrong == "fewer" else "gave version 7"):
        job.fetch(version=1)


def test_pictures_without_a_class_are_left_out(
    server: PlatformServer, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing can be learned from a picture without a class; the log says how many there were."""
    server.datasets["acme/shelf"] = made = dataset("classify")
    made.images[0].rows = []
    made.save()
    found = job.fetch(version=1)
    assert len(files(found.folder)) == 5
    assert "1 pictures have no class" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["TRUNKLINE_PLATFORM_URL", "TRUNKLINE_PLATFORM_KEY_FILE"])
def test_without_a_key_nobody_is_asked(
    server: PlatformServer, job: Job, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Jobs go to the Platform only where the operator gave them a key for it."""
    monkeypatch.delenv(missing)
    with pytest.raises(Stalled, match=r"data\.platform_key_file"):
        job.fetch(version=1)
    assert server.asked == []


def test_pictures_are_not_fetched_from_private_places(
    server: PlatformServer, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an export names is fetched by the rules for addresses: the Platform's word opens no door."""
    monkeypatch.delenv("TRUNKLINE_DATA_HOSTS")
    with pytest.raises(Stalled) as caught:
        job.fetch(version=1)
    assert caught.value.reason == "AddressRefused"
    assert server.counted("/storage") == 0


@pytest.mark.ml
@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_that_the_trainer_would_write(
    server: PlatformServer, job: Job, tmp_path: Path, task: Task
) -> None:
    """The trainer's own reader of exports makes the same label files and classes of the same export."""
    from ultralytics.data.converter import convert_ndjson_to_yolo

    server.datasets["acme/shelf"] = made = dataset(task)
    made.save()
    ours = files(job.fetch(version=1).folder)
    export = tmp_path / "shelf.ndjson"
    export.write_bytes((tmp_path / "scratch-1" / "export.ndjson").read_bytes())
    made_there = Path(asyncio.run(convert_ndjson_to_yolo(export, tmp_path / "theirs")))
    theirs = files(made_there if made_there.is_dir() else made_there.parent)

    def known(found: dict[str, bytes]) -> list[tuple[str, bytes, bytes]]:
        """Give split, label and picture of each picture, whatever it is called."""
        listed = []
        for path, data in found.items():
            if path.endswith(".png"):
                split, rest = path.removeprefix("images/").split("/", 1)
                label = found.get(f"labels/{split}/{rest.removesuffix('.png')}.txt", b"").strip()
                listed.append((split, label, data))
        return sorted(listed)

    assert known(ours) == known(theirs)
    assert len(known(ours)) == 6
