"""``trunkline reproduce``: a release trained again, in a place of its own, and compared. The learning is pretended."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.store import Store
from specs.digests import digest_of
from specs.errors import Stalled, Transient
from specs.records import EvaluationRecord, RunRecord, evaluation_key, run_key
from specs.workorders import TrainOrder
from tests.support.orders import WHO
from tests.support.person import Person
from tests.support.released_in_git import Released, manifest
from tests.support.typed import ROOT, process, said, start, trunkline
from workloads.environment import describe

METRIC = "metrics/accuracy_top1"


class Scene:
    """A store with data, a run and its measurement; and the release of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "place"
        self.log = folder / "log"
        self.log.mkdir()
        self.store = Store(str(folder / "store"))
        person = Person(folder / "person", self.store)
        self.data, self.golden = person.dataset("ab"), person.dataset("cd")
        args = {"epochs": 8, "imgsz": 32}
        text = manifest(self.data, self.golden, args)
        command = ["env", f"STORY_LOG={self.log}", f"PYTHONPATH={ROOT}", sys.executable, "-m",
                   "tests.support.story_workload"]  # fmt: skip
        self.released = Released(self.folder, self.store, text, command)
        inputs = {"v": 1, "task": "classify", "data": self.data, "model": {"name": "yolo26n-cls.yaml"}, "args": args,
                  "nonce": ""}  # fmt: skip
        self.order = TrainOrder(**WHO, inputs_digest=digest_of(inputs), inputs=inputs)

    def run(self, **changes: Any) -> RunRecord:
        """Give the run as a real training recorded it: story weights are the inputs themselves."""
        weights = self.store.put_blob(json.dumps(self.order.inputs, sort_keys=True).encode())
        return RunRecord(
            inputs_digest=self.order.inputs_digest, status="Succeeded", model="default/tiny", commit="0" * 40,
            **{"weights": weights, "inputs": self.order.inputs, **changes},
        )  # fmt: skip

    def measured(self, subject: str, value: float, width: float = 0.01) -> EvaluationRecord:
        return EvaluationRecord(
            subject=subject, golden=self.golden, n=10, values={METRIC: value}, per_image=self.golden,
            intervals={METRIC: {"0.95": (value - width, value + width)}},
        )  # fmt: skip

    def jobs(self) -> list[str]:
        file = self.log / "jobs"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Give a scene in which nothing is released yet."""
    return Scene(tmp_path)


def test_the_same_bytes_are_said_to_be_the_same(scene: Scene) -> None:
    """It trains in a place that is gone afterwards; the real store, which holds the run's record, is only read."""
    run = scene.run()
    scene.store.create(run_key(run.inputs_digest), run.encode())
    scene.released.release(3, run)
    before = scene.store.list()
    text = said(scene.folder, "reproduce", "tiny@v3")
    assert "✓ default/tiny v3: bit for bit the same weights" in text
    assert "evidence in git" in text
    assert scene.jobs() == [scene.order.job]
    assert scene.store.list() == before
    assert not any((scene.folder / "state/reproductions").glob("*-v3-*[!k]/"))
    told = json.loads(said(scene.folder, "reproduce", "default/tiny", "--json"))
    assert (told["version"], told["same"], told["verdict"]) == (3, True, "identical")
    assert len(scene.jobs()) == 2  # the first answer was not taken for the second


@pytest.mark.parametrize(
    ("value", "code", "told"),
    [(0.909, 0, "every metric that counts lies in its recorded 95 % interval"), (0.8, 1, f"recorded: {METRIC}")],
    ids=["within", "outside"],
)
def test_other_weights_are_judged_by_what_was_recorded(scene: Scene, value: float, code: int, told: str) -> None:
    """Trained again, the story's model has 0.908 on golden: inside of one record's interval, outside of another's."""
    run = scene.run(weights="sha256:" + "5" * 64)
    scene.released.release(1, run, evaluation=scene.measured(run.weights or "", value))
    result = trunkline(scene.folder, "reproduce", "tiny@v1")
    assert result.exit_code == code, result.exception
    assert told in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith(METRIC))
    assert line.split()[-1] == ("inside" if code == 0 else "OUTSIDE")
    assert "0.908" in line


def test_other_weights_that_nothing_measured(scene: Scene) -> None:
    """Where nothing was measured nothing can be said, and that is no success."""
    scene.released.release(1, scene.run(weights="sha256:" + "5" * 64))
    result = trunkline(scene.folder, "reproduce", "tiny@v1")
    assert result.exit_code == 1
    assert "no recorded measurement" in result.stdout


def test_what_differs_around_it_is_named(scene: Scene) -> None:
    """The story's workload records no environment, the release does: the difference is told."""
    scene.released.release(1, scene.run(environment=describe()))
    text = said(scene.folder, "reproduce", "tiny@v1")
    assert "the environment differs in 1 thing" in text
    assert text.partition("what differs around it")[2].split()[-4:] == ["environment", "recorded", "not", "recorded"]


def test_a_release_without_evidence_of_its_own(scene: Scene) -> None:
    """A rollback pins a run that an earlier release proved; without any evidence the store's own record tells."""
    run = scene.run()
    scene.released.release(1, run)
    scene.released.release(2, run, proof=False)
    assert "evidence in git" in said(scene.folder, "reproduce", "tiny@v2")
    other = scene.run(weights="sha256:" + "5" * 64)
    scene.released.release(3, other, proof=False)
    result = trunkline(scene.folder, "reproduce", "tiny@v3")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "EvidenceMissing"
    scene.store.create(run_key(other.inputs_digest), other.encode())
    record = scene.measured(other.weights or "", 0.909)
    scene.store.create(evaluation_key(record.subject, scene.golden), record.encode())
    assert "the store alone" in said(scene.folder, "reproduce", "tiny@v3")


BAD: dict[str, tuple[Callable[[Scene], None], str, str]] = {
    "no such version": (lambda s: s.released.release(1, s.run()), "NoSuchRelease", "there is v1"),
    "altered evidence": (lambda s: s.released.release(9, s.run(), gates=[1]), "EvidenceContradicts", "verify-history"),
    "other inputs": (
        lambda s: s.released.release(9, s.run(inputs={**s.order.inputs, "nonce": "x"})), "EvidenceContradicts",
        "the run's inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("prepare", "reason", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_believed_is_not_trained(
    scene: Scene, prepare: Callable[[Scene], None], reason: str, told: str
) -> None:
    """Evidence that was altered, or that is about something else, is refused before any compute is spent."""
    prepare(scene)
    result = trunkline(scene.folder, "reproduce", "tiny@v9")
    assert isinstance(result.exception, Stalled), result.output
    assert (result.exception.reason, told in result.exception.message) == (reason, True)
    assert scene.jobs() == []


def test_data_from_elsewhere_is_brought_by_its_manifest(scene: Scene) -> None:
    """Git names the data by DVC's digest, the run says which manifest that was: it is brought, and trained on again."""
    inputs = {**scene.order.inputs, "data": "md5:" + "a" * 32 + ".dir"}
    scene.order = TrainOrder(**WHO, inputs_digest=digest_of(inputs), inputs=inputs, dataset=scene.data)
    scene.released.release(1, scene.run(dataset=scene.data))
    text = said(scene.folder, "reproduce", "tiny@v1")
    assert "✓ default/tiny v1: bit for bit the same weights" in text
    assert scene.jobs() == [scene.order.job]


def test_data_that_is_gone_is_named(scene: Scene) -> None:
    """A picture that is no longer in the store stops it, by name; nothing is trained on less."""
    scene.released.release(1, scene.run())
    shutil.rmtree(scene.folder.parent / "store/blobs")
    result = trunkline(scene.folder, "reproduce", "tiny@v1")
    assert isinstance(result.exception, Stalled)
    assert result.exception.reason == "BlobMissing"


def test_a_job_that_fails_is_told_and_tried_anew_next_time(scene: Scene) -> None:
    """Its last words are shown, nothing is left behind, and the next call starts from nothing."""
    scene.released.release(1, scene.run())
    (scene.log / "fail-train").touch()
    result = trunkline(scene.folder, "reproduce", "tiny@v1")
    assert isinstance(result.exception, Stalled)
    assert "the pretended disk is on fire" in result.exception.message
    (scene.log / "fail-train").unlink()
    assert "bit for bit" in said(scene.folder, "reproduce", "tiny@v1")


def test_killed_and_called_again_adopts_the_training(scene: Scene) -> None:
    """SIGKILL while it trains: the next call waits for the job that still runs, and nothing is trained twice."""
    scene.released.release(1, scene.run())
    (scene.log / "hold-train").touch()
    first = start(scene.folder, "reproduce", "tiny@v1")
    while not scene.jobs():
        assert first.poll() is None
    refused = trunkline(scene.folder, "reproduce", "tiny@v1").exception
    assert isinstance(refused, Transient)
    assert refused.reason == "ReproductionRunning"
    first.kill()
    first.wait()
    (scene.log / "hold-train").unlink()
    assert "bit for bit" in said(scene.folder, "reproduce", "tiny@v1")
    assert scene.jobs() == [scene.order.job]


def test_what_was_trained_can_be_kept(scene: Scene) -> None:
    """``--keep`` leaves it for looking at, where the next call does not take it for an answer."""
    scene.released.release(1, scene.run())
    said(scene.folder, "reproduce", "tiny@v1", "--keep")
    (kept,) = (scene.folder / "state/reproductions").glob("*.kept")
    assert Store(str(kept / "store")).read(run_key(scene.order.inputs_digest))
    said(scene.folder, "reproduce", "tiny@v1", "--keep")
    assert len(scene.jobs()) == 2


def test_a_name_that_means_nothing(scene: Scene) -> None:
    """Models that are not there, and words that name no release."""
    scene.released.release(1, scene.run())
    assert process(scene.folder, "reproduce", "nobody@v1").returncode == 1
    assert isinstance(trunkline(scene.folder, "reproduce", "@v").exception, Stalled)
