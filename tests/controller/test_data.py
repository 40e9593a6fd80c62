"""``trunkline data``: data sets as a person asks for them, in real places with real repositories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.dataset_names import DatasetNames
from adapters.store import Store
from specs.data_records import ImportRecord, import_key
from specs.errors import Stalled
from specs.workorders import ImportOrder
from tests.support import pictures
from tests.support.gitrepo import Hub
from tests.support.typed import said, trunkline

MD5 = ["md5:" + letter * 32 + ".dir" for letter in "ab"]
POINTER = "outs:\n- {{md5: {}, size: 1, nfiles: 1, hash: md5, path: shapes}}\n"
MODEL = """apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {{name: shapes}}
spec:
  task: classify
  data:
    train: {train}
    golden: {{uri: {{url: store://golden, digest: "{golden}"}}}}
  training: {{model: yolo26n-cls.yaml, args: {{epochs: 1}}}}
  exports: [{{name: onnx, format: onnx}}]
"""


class Scene:
    """A place with a model, two data sets in the store, and a data repository with two versions of a third."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hub, self.data = Hub(folder), Hub(folder / "elsewhere")
        (folder / "trunkline.toml").write_text(
            'repository = "hub.git"\nstore = "store"\nstate = "state"\n[data]\nallow_folders = ["elsewhere"]\n'
        )
        self.store = Store(str(folder / "store"))
        self.old, self.golden = self.add("old", 6), self.add("golden", 4)
        self.commits = [self.data.commit({
            ".dvc/config": "[core]\n    remote = far\n['remote \"far\"']\n    url = s3://far/away\n",
            "shapes.dvc": POINTER.format(digest.removeprefix("md5:")),
        }) for digest in MD5]  # fmt: skip

    def add(self, name: str, count: int) -> str:
        """Put a data set of so many pictures into the store; give its digest."""
        pictures.folder(self.folder / name, "classify", count, seed="one")
        told: dict[str, Any] = json.loads(said(self.folder, "data", "add", name, "--task", "classify", "--json"))
        return str(told["digest"])

    def dvc(self, **more: str) -> dict[str, str]:
        """Give a source in the data repository."""
        return {"repoURL": str(self.data.path), "targetRevision": "main", "path": "shapes.dvc"} | more

    def model(self, train: dict[str, Any]) -> str:
        """Commit the model with other training data; give its file."""
        text = MODEL.format(train=json.dumps(train), golden=self.golden)
        self.hub.commit({"shapes.yaml": text})
        return text

    def fetched(self, source: dict[str, Any], manifest: str) -> None:
        """Record that a source was fetched, as an import does."""
        order = ImportOrder(model="default/shapes", commit="0" * 40, task="classify", source=source)
        record = ImportRecord(
            import_digest=order.import_digest, task="classify", source=source, status="Succeeded", manifest=manifest
        )
        self.store.create(import_key(order.import_digest), record.encode())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Give a scene of the test's own."""
    return Scene(tmp_path)


def test_list_says_whence_and_for_whom(scene: Scene) -> None:
    """Every data set with its origin and the models that name it; what is named and not there is listed apart."""
    source = {"dvc": scene.dvc(targetRevision=scene.commits[0], digest=MD5[0])}
    scene.model(source)
    told = json.loads(said(scene.folder, "data", "list", "--json"))
    assert [each["digest"] for each in told["dataSets"]] == sorted([scene.old, scene.golden])
    place = f"shapes.dvc at {scene.commits[0][:12]} of {scene.data.path}"
    assert told["notInTheStore"] == [{"model": "default/shapes", "part": "train", "place": place}]
    scene.fetched(source, scene.old)
    told = json.loads(said(scene.folder, "data", "list", "--json"))
    by = {each["digest"]: (each["fetched_from"], each["named_by"], each["images"]) for each in told["dataSets"]}
    assert by[scene.old] == ([place], ["default/shapes train"], 6)
    assert by[scene.golden] == ([], ["default/shapes golden"], 4)
    assert told["notInTheStore"] == []
    text = said(scene.folder, "data", "list")
    assert place in text
    assert "named, and not in the store" not in text


def test_show_finds_a_data_set_by_digest_and_by_model(scene: Scene) -> None:
    """Eight digits are enough; a model means its training data, or its golden set where that is said."""
    scene.model({"uri": {"url": "store://old", "digest": scene.old}})
    for target in (scene.old, scene.old[7:15], "shapes", "default/shapes"):
        told = json.loads(said(scene.folder, "data", "show", target, "--json"))
        assert (told["digest"], told["classCounts"]) == (scene.old, {"green": 3, "red": 3}), target
    assert json.loads(said(scene.folder, "data", "show", "shapes:golden", "--json"))["digest"] == scene.golden
    assert "a folder, by `trunkline data add`" in said(scene.folder, "data", "show", "shapes")


@pytest.mark.parametrize(
    ("target", "reason", "words"),
    [
        ("0123456789abcdef", "DatasetUnknown", "trunkline data list"),
        ("nobody", "NoSuchModel", "default/shapes"),
        ("shapes", "DatasetMissing", "trunkline status default/shapes"),
    ],
)
def test_what_is_not_there_is_said(scene: Scene, target: str, reason: str, words: str) -> None:
    """An unknown digest, an unknown model, and a model whose data was not fetched yet."""
    scene.model({"dvc": scene.dvc(digest=MD5[0])})
    error = trunkline(scene.folder, "data", "show", target).exception
    assert isinstance(error, Stalled)
    assert error.reason == reason
    assert words in error.message


def test_diff_counts_and_names_what_changed(scene: Scene) -> None:
    """Pictures that are in one only, and in both under another class; classes with what they gain and lose."""
    scene.model({"uri": {"url": "store://old", "digest": scene.old}})
    folder = pictures.folder(scene.folder / "new", "classify", 8, seed="one")
    moved = min((folder / "red").iterdir())
    moved.rename(folder / "green" / moved.name)
    told = json.loads(said(scene.folder, "data", "add", "new", "--task", "classify", "--json"))
    found = json.loads(said(scene.folder, "data", "diff", "shapes", told["digest"], "--json"))
    assert (found["added"], found["removed"], found["relabelled"]) == (2, 0, 1)
    assert found["classes"] == {"green": [3, 5], "red": [3, 3]}
    assert found["pictures"]["relabelled"] == [f"red/{moved.name} → green/{moved.name}"]
    text = said(scene.folder, "data", "diff", scene.old, told["digest"])
    assert "6 → 8 pictures; 2 added, 0 removed, 1 relabelled" in text
    assert f"relabelled  red/{moved.name} → green/{moved.name}" in text


def test_check_refuses_what_add_refuses_and_writes_nothing(scene: Scene) -> None:
    """The same faults, found before anything is pushed anywhere; a good folder's digest is the one it will have."""
    before = scene.store.list()
    folder = pictures.folder(scene.folder / "boxes", "detect", 3)
    good = json.loads(said(scene.folder, "data", "check", "boxes", "--task", "detect", "--json"))
    assert good["images"] == 3
    (folder / "labels/001.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    error = trunkline(scene.folder, "data", "check", "boxes", "--task", "detect").exception
    assert isinstance(error, Stalled)
    assert "labels/001.txt:1" in error.message
    assert scene.store.list() == before
    (folder / "labels/001.txt").unlink()
    checked = json.loads(said(scene.folder, "data", "check", "boxes", "--task", "detect", "--json"))
    added = json.loads(said(scene.folder, "data", "add", "boxes", "--task", "detect", "--json"))
    assert checked == added
    assert checked["digest"] != good["digest"]


def test_add_moves_the_name(scene: Scene) -> None:
    """A name means what was added under it last; `data check` moves nothing."""
    names = DatasetNames(scene.store)
    found = names.newest("old")
    assert found is not None
    assert found.manifest == scene.old
    pictures.folder(scene.folder / "new", "classify", 8, seed="one")
    said(scene.folder, "data", "check", "new", "--task", "classify", "--json")
    assert names.newest("new") is None
    added = json.loads(said(scene.folder, "data", "add", "new", "--task", "classify", "--name", "old", "--json"))
    moved = names.newest("old")
    assert moved is not None
    assert (moved.manifest, moved.before, moved.number) == (added["digest"], scene.old, 2)
    scene.model({"uri": {"url": "store://old", "digest": scene.old}})
    train, golden = json.loads(said(scene.folder, "data", "pin", "shapes", "--json"))
    assert (train["state"], golden["state"]) == ("newer", "pinned")
    assert added["digest"] in train["line"]


def test_pin_says_what_to_write(scene: Scene) -> None:
    """A bare reference becomes a commit and DVC's digest; the lines make a ModelSpec that is pinned and newest."""
    file = scene.folder / "draft.yaml"
    file.write_text(scene.model({"dvc": scene.dvc()}))
    train, golden = json.loads(said(scene.folder, "data", "pin", "draft.yaml", "--json"))
    assert (train["state"], golden["state"]) == ("bare", "pinned")
    line = train["line"]
    assert yaml.safe_load(line) == {"dvc": scene.dvc(targetRevision=scene.commits[1], digest=MD5[1])}
    assert line in said(scene.folder, "data", "pin", "shapes")
    file.write_text(file.read_text().replace(json.dumps({"dvc": scene.dvc()}), f"{{{line}}}"))
    assert [each["state"] for each in json.loads(said(scene.folder, "data", "pin", "draft.yaml", "--json"))] == [
        "pinned", "pinned",
    ]  # fmt: skip


def test_pin_finds_a_newer_version(scene: Scene) -> None:
    """What is pinned to an older commit is told the newer one; a place that may not be asked is told apart."""
    scene.model({"dvc": scene.dvc(targetRevision=scene.commits[0], digest=MD5[0])})
    train, _ = json.loads(said(scene.folder, "data", "pin", "shapes", "--json"))
    assert train["state"] == "newer"
    assert scene.commits[1] in train["line"]
    golden = f'{{uri: {{url: store://golden, digest: "{scene.golden}"}}}}'
    old = json.dumps({"dvc": scene.dvc(targetRevision=scene.commits[0], digest=MD5[0])})
    (scene.folder / "golden.yaml").write_text(scene.model({"dvc": scene.dvc()}).replace(golden, old))
    _, frozen = json.loads(said(scene.folder, "data", "pin", "golden.yaml", "--json"))
    assert (frozen["state"], frozen["line"]) == ("pinned", "")  # a newer measure is nobody's wish
    scene.model({"dvc": {**scene.dvc(), "repoURL": str(scene.hub.path)}})
    train, _ = json.loads(said(scene.folder, "data", "pin", "shapes", "--json"))
    assert (train["state"], train["line"]) == ("unknown", "")
    assert "allow_folders" in train["words"]
