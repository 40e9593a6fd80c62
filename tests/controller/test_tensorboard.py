"""``trunkline tensorboard``: a real TensorBoard on the runs that git and the store know."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from adapters.store import Store
from controller.commands.tensorboard import bring
from controller.past import told
from controller.settings import load
from reconcilers.trainings import trainings
from specs.errors import CorruptArtifact, Stalled
from specs.records import EVENT_FILE, Epoch, RunRecord, blob_key
from tests.support.released import Repo
from tests.support.typed import start, trunkline
from workloads.board import event_file

STARTED = 1_767_258_000.0


@pytest.fixture(scope="module")
def place(story: Repo, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repository with six releases whose trainings all left events; nobody may change it."""
    folder = tmp_path_factory.mktemp("events")
    place = story.copied(folder / "place")
    store = Store(str(place.folder / "store"))
    for number, key in enumerate(sorted(store.list("runs/"))):
        text = store.read(key)
        assert text is not None
        record = RunRecord.decode(text)
        curves = [(Epoch(epoch=epoch, metrics={"train/loss": number + 1 / epoch}), 1.0 * epoch) for epoch in (1, 2)]
        made = event_file(curves, folder, None, STARTED)
        assert made is not None
        files = record.files | {EVENT_FILE: store.put_blob(made)}
        (place.folder / "store" / key).unlink()
        store.create(key, record.model_copy(update={"files": files}).encode())
    return place


def runs_of(place: Repo) -> dict[str, str]:
    """Give the first digits of every run's inputs, and its record's key."""
    store = Store(str(place.folder / "store"))
    return {key.split("/")[1][:12]: key for key in store.list("runs/")}


@pytest.fixture
def address(place: Repo) -> Iterator[str]:
    """Start the command as a person does, and end it as one does; give where TensorBoard answers."""
    process = start(place.folder, "tensorboard", "digits", "--no-open", "--port", "0")
    said = ""
    for line in process.stdout or ():
        said += line
        found = re.search(r"at (http://\S+)", line)
        if found:
            break
    else:
        pytest.fail(said)
    yield found[1].rstrip("/")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    with pytest.raises(httpx.ConnectError):
        httpx.get(found[1])


def test_tensorboard_shows_the_runs_side_by_side(place: Repo, address: str) -> None:
    """Each release by its version, what was never released as such; scalars by TensorBoard's own answers."""
    known = runs_of(place)
    names = sorted(httpx.get(f"{address}/data/runs").json())
    assert {name.rpartition("-")[2] for name in names} <= known.keys()
    assert [name for name in names if name.startswith("v1-")]
    (first,) = [name for name in names if name.startswith("v1-")]
    answer = httpx.get(f"{address}/data/plugin/scalars/scalars?run={quote(first)}&tag={quote('train/loss')}")
    number = sorted(known).index(first.rpartition("-")[2])
    assert [(step, value) for _, step, value in answer.json()] == [(1, number + 1.0), (2, number + 0.5)]


def test_one_run_can_be_chosen(place: Repo, tmp_path: Path) -> None:
    """By any of its versions, by its role or by digits; what was brought before and is not chosen now is removed."""
    past, store = told(load(place.folder), "digits"), Store(str(place.folder / "store"))
    every = trainings(past.story, past.keys[0])
    digits = min(runs_of(place))
    for word, name in (("v2", "v1-"), ("candidate", "candidate-"), (digits[:6], digits)):
        shown = bring(store, [each for each in every if each.is_called(word)], tmp_path)
        (only,) = tmp_path.iterdir()
        assert shown == [only.name]
        assert name in only.name
    result = trunkline(place.folder, "tensorboard", "digits", "--run", "v99", "--no-open")
    assert isinstance(result.exception, Stalled)
    assert "no run of default/digits called v99 has events" in result.exception.message


def test_events_are_verified_when_they_are_brought(place: Repo, tmp_path: Path) -> None:
    """Bytes that are not what the record names are shown to nobody."""
    place = place.copied(tmp_path / "tampered")
    store = Store(str(place.folder / "store"))
    for key in runs_of(place).values():
        blob = place.folder / "store" / blob_key(RunRecord.decode(store.read(key) or b"").files[EVENT_FILE])
        blob.chmod(0o644)
        blob.write_bytes(b"other events")
    result = trunkline(place.folder, "tensorboard", "digits", "--no-open")
    assert isinstance(result.exception, CorruptArtifact)
    assert not list((place.folder / "state/tensorboard").rglob("*tfevents*"))


def test_a_model_without_events_is_told_what_to_write(story: Repo, tmp_path: Path) -> None:
    """The sentence names the line for the spec; a model that never was is another error."""
    place = story.copied(tmp_path / "bare")
    result = trunkline(place.folder, "tensorboard", "digits", "--no-open")
    assert isinstance(result.exception, Stalled)
    assert "set spec.tracking.tensorboard: true" in result.exception.message
    result = trunkline(place.folder, "tensorboard", "nobody", "--no-open")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "NoSuchModel"
