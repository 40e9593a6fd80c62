"""Kept pictures go to people, and come back as newer data that an agent asks to train on: real git, store and jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.checkout import Checkout
from adapters.dataset_names import DatasetNames
from adapters.git_changes import changeset
from specs.claims import Standing, judge
from specs.data_records import DifferenceRecord, difference_key, new_labels
from specs.label_records import label_id
from tests.support.gitrepo import git
from tests.support.place import Place
from tests.support.to_label import kept
from tests.support.typed import said

LABELLED = ("  serving: {export: onnx}", "  triggers: {onData: true}\n  labelling: {queue: {directory: {}}}")
"""Who answered the requests is no matter here: pictures are kept by hand."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place whose model follows the name of its training data, and looks at it often."""
    made = Place(tmp_path, tables="[data]\npoll = 0.01\n")
    made.write(made.spec(LABELLED))
    yield made
    made.stop()


def keep(place: Place, request: str, picture: bytes) -> str:
    """Keep a picture, as the server does that answered it."""
    guess = {"class": 0, "name": "x", "confidence": 0.41}
    record = kept("classify", request, picture, model="digits", predictions=[guess], why=["uncertain"])
    place.store.keep(record.picture, picture)
    place.store.keep(record.key, record.encode())
    return label_id(record)


def test_labelled_pictures_become_a_proposal(place: Place) -> None:
    """Kept, exported, labelled by a person, imported; then asked about, with what is different, and proved."""
    place.forge().merge(place.proposed().number)
    place.until("it is released", lambda: place.reason("Ready") == "AsDesired")
    assert place.reason("DataCurrent") == "DataIsNewest"
    ids = [keep(place, request, request.encode() * 9) for request in ("one", "two")]
    assert f"{len(ids)} pictures are in" in said(place.folder, "labels", "export", "digits")
    queue = place.folder / "labels/digits"
    for id_ in ids:
        (queue / "done/y").mkdir(exist_ok=True)
        (queue / f"todo/x/{id_}.png").rename(queue / f"done/y/{id_}.png")
    told = said(place.folder, "labels", "import", "digits")
    assert "2 labelled pictures added: store://train has 3 now" in told
    assert "opens a pull request" in told

    newer = place.proposed()
    assert newer.title.startswith("default/digits: train on data ")
    assert newer.title.endswith("(+2 images)")
    assert "store://train" in newer.body
    shown = git(place.hub.path, "ls-tree", "-r", "--name-only", newer.branch)
    assert {path.rpartition("/")[2] for path in shown.splitlines() if "/data/" in path} == {
        "data.json", "report.md", "difference.jpg",
    }  # fmt: skip
    objects = Checkout(place.hub.path)
    change = changeset(objects, place.hub.head(), objects.resolve(newer.head), newer.branch)
    proof = judge(change, lambda blob: objects.blobs([blob])[blob])
    assert proof.standing is Standing.PROVED, proof.sentences
    found = DatasetNames(place.store).newest("train")
    assert found is not None
    assert found.manifest in git(place.hub.path, "show", f"{newer.branch}:digits.yaml")
    before = json.loads(said(place.folder, "data", "show", "digits", "--json"))["digest"]
    record = DifferenceRecord.decode(place.store.read(difference_key(before, found.manifest)) or b"")
    assert new_labels(record) == 2

    assert "nobody is done with a picture yet" in said(place.folder, "labels", "import", "digits")
    place.assert_quiet()
