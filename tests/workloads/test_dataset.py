from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from adapters.dataset_folder import add_folder
from adapters.store import Store
from specs.digests import digest_bytes
from specs.errors import CorruptArtifact, Stalled
from specs.modelspec import Task
from specs.records import DatasetManifest, FileEntry, blob_key, dataset_key
from tests.support import pictures
from workloads.dataset import fetch, for_golden, for_training, load_manifest, safe_join
from workloads.errors import Hopeless


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, as a job has one, with the store beside it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(root: Path) -> Store:
    """An empty store."""
    return Store(f"file://{root}/store")


def added(store: Store, root: Path, task: Task, count: int = 20) -> DatasetManifest:
    """Put a tiny data set into the store."""
    return add_folder(store, pictures.folder(root / "source", task, count), task=task)


def test_a_data_set_is_laid_out_for_training(store: Store, root: Path) -> None:
    """Pictures and labels keep their paths and bytes, below their split; nothing of the split is in the other."""
    manifest = added(store, root, "pose")
    data = for_training(store, manifest, root / "data", None)
    assert data.argument == "data/data.yaml"
    said = yaml.safe_load((root / data.argument).read_text())
    assert said == {
        "names": {0: "green", 1: "red"}, "kpt_shape": [2, 3], "train": "train.txt", "val": "val.txt",
    }  # fmt: skip
    assert (root / "data" / "val.txt").read_text().splitlines() == sorted(str(path) for path in data.val)
    assert (len(data.train), len(data.val)) == (18, 2)
    for path, picture in {**data.train, **data.val}.items():
        assert path.read_bytes() == (root / "source" / picture.file.path).read_bytes()
        label = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        assert picture.label is not None
        assert label.read_bytes() == (root / "source" / picture.label.path).read_bytes()


def test_it_is_told_how_many_files_are_there(store: Store, root: Path) -> None:
    """Every hundred files, of all of them: pictures and labels."""
    told: list[tuple[int, int]] = []
    manifest = added(store, root, "detect", 101)
    for_training(store, manifest, root / "data", None, lambda done, total: told.append((done, total)))
    assert told == [(100, 202), (200, 202)]


def test_classes_become_folders_in_both_splits(store: Store, root: Path) -> None:
    """Ultralytics numbers classes by sorted folders, so every class has one, even one without pictures."""
    folder = pictures.folder(root / "source", "classify", 20)
    manifest = add_folder(store, folder, task="classify", names=["blue", "green", "red"])
    data = for_training(store, manifest, root / "data", None)
    for split in ("train", "val"):
        assert sorted(path.name for path in (root / data.argument / split).iterdir()) == ["blue", "green", "red"]
    assert {path.relative_to(root / "data" / "val").parts[0] for path in data.val} == {"green", "red"}


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_golden_is_measured_on_as_a_whole(store: Store, root: Path, task: Task) -> None:
    """A golden set has no parts: whatever its folders are called, every picture is measured on."""
    source = root / "source"
    pictures.folder(source / ("train" if task == "classify" else ""), task, 4)
    if task == "classify":
        pictures.folder(source / "val", task, 4, seed="other")
        pictures.folder(source / "test", task, 4, seed="third")
    manifest = add_folder(store, source, task=task)
    golden = for_golden(store, manifest, root / "golden", None)
    assert len(golden.val) == manifest.images
    assert {path.read_bytes() for path in golden.val} == {path.read_bytes() for path in source.rglob("*.png")}
    assert (root / "golden" / ("train" if task == "classify" else "train.txt")).exists()


def test_changed_bytes_are_not_trained_on(store: Store, root: Path) -> None:
    """A file in the store that was tampered with is found before anything uses it."""
    manifest = added(store, root, "detect")
    (root / "store" / blob_key(manifest.files[3].digest)).write_bytes(b"something else")
    with pytest.raises(CorruptArtifact, match=manifest.files[3].digest):
        for_training(store, manifest, root / "data", None)


def test_a_missing_file_is_named(store: Store, root: Path) -> None:
    """Absent data is an error with the digest, not fewer pictures."""
    manifest = added(store, root, "detect")
    (root / "store" / blob_key(manifest.files[0].digest)).unlink()
    with pytest.raises(Stalled, match=manifest.files[0].digest) as caught:
        for_training(store, manifest, root / "data", None)
    assert caught.value.reason == "BlobMissing"


def test_a_manifest_must_be_the_one_named(store: Store, root: Path) -> None:
    """Manifest missing, changed, or of another task: each is said as what it is."""
    manifest = added(store, root, "detect")
    digest = manifest.digest()
    assert load_manifest(store, digest, "detect") == manifest
    with pytest.raises(Hopeless, match="is for detect, but the task is pose"):
        load_manifest(store, digest, "pose")
    with pytest.raises(Stalled, match="add it again"):
        load_manifest(store, digest_bytes(b"other"), "detect")
    record = root / "store" / dataset_key(digest)
    record.chmod(0o644)
    record.write_bytes(manifest.encode().replace(b"red", b"rot"))
    with pytest.raises(CorruptArtifact, match="is not the one that was added"):
        load_manifest(store, digest, "detect")


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "images/../../x.png", "/etc/passwd", "images\\..\\x.png", "..", "a\0b"]
)
def test_no_path_leads_outside(root: Path, path: str) -> None:
    """A manifest is untrusted: its paths stay below the folder they are laid out in."""
    with pytest.raises(Stalled) as caught:
        safe_join(root, path)
    assert caught.value.reason == "UnsafePath"


def test_a_hostile_manifest_writes_nothing(store: Store, root: Path) -> None:
    """Paths are checked before the first file is written."""
    digest = store.put_blob(b"x")
    files = [FileEntry(path=path, size=1, digest=digest) for path in ("images/1.png", "images/../../../2.png")]
    manifest = DatasetManifest(task="detect", names=["a"], files=files, images=2, class_counts={})
    with pytest.raises(Stalled, match="leads outside"):
        for_golden(store, manifest, root / "golden", None)
    assert not (root / "golden").exists()


def test_too_few_pictures_are_hopeless(store: Store, root: Path) -> None:
    """One picture cannot be trained and validated with: waiting changes nothing."""
    manifest = added(store, root, "detect", 1)
    with pytest.raises(Hopeless) as caught:
        for_training(store, manifest, root / "data", None)
    assert caught.value.reason == "TooFewPictures"


def test_the_cache_is_linked_and_never_trusted(store: Store, root: Path) -> None:
    """A file comes from the cache without a copy; a cached file with other bytes is fetched anew."""
    digest = store.put_blob(b"picture")
    cache = root / "cache"
    fetch(store, digest, root / "first", cache)
    fetch(store, digest, root / "second", cache)
    assert (root / "first").samefile(root / "second")
    (kept,) = [path for path in cache.rglob("*") if path.is_file()]
    kept.write_bytes(b"damaged")
    fetch(store, digest, root / "third", cache)
    assert (root / "third").read_bytes() == b"picture"


def test_the_cache_serves_without_the_store(store: Store, root: Path) -> None:
    """What is cached is not fetched again."""
    digest = store.put_blob(b"picture")
    fetch(store, digest, root / "first", root / "cache")
    (root / "store" / blob_key(digest)).unlink()
    fetch(store, digest, root / "second", root / "cache")
    assert (root / "second").read_bytes() == b"picture"
