"""Bad input, end to end with real parts: a clear message, nothing half-done, nothing lost, quiet afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from specs.digests import digest_bytes
from specs.errors import Stalled
from specs.facts import PullState
from specs.modelspec import ModelKey
from specs.records import RunRecord, dataset_key, run_key
from tests.support.gitrepo import git
from tests.support.living import alive_with
from tests.support.place import FILE, Place

pytestmark = pytest.mark.xdist_group("bad_input")
NOWHERE = "sha256:" + "0" * 64
OTHER = ModelKey("default", "other")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Give a place where v1 serves; every test that borrows it leaves it so."""
    made = Place(tmp_path_factory.mktemp("serving") / "place")
    try:
        made.write(made.spec())
        assert made.released() == 1
        made.assert_quiet()
        yield made
    finally:
        made.stop()


def _endure(place: Place, files: dict[str, str | bytes | None]) -> None:
    """Put bad files on the tracked branch; nothing may happen but words, and v1 goes on serving."""
    before = {name: value for name, value in place.world().items() if name in ("store", "jobs")}
    head = place.write(files)
    place.passes(2)
    place.assert_quiet()
    assert {name: value for name, value in place.world().items() if name in ("store", "jobs")} == before
    assert place.hub.heads() == {"main": head}
    state = place.app.servers.state("digits")
    assert state is not None
    assert (state.ready, state.version) == (True, 1)


def _mend(place: Place, files: dict[str, str | bytes | None]) -> None:
    """Take the bad files back; all is as if nothing had been."""
    place.write(files)
    place.settle()
    assert place.reason("Ready") == "AsDesired"
    assert place.reason("Serving") == "ReleaseServing"
    place.assert_quiet()


FILES = {
    "broken-yaml": ("  serving: {export: onnx}", "  serving: {export: onnx", ("digits.yaml:",)),
    "duplicate-key": ("  task: classify", "  task: classify\n  task: classify", ("digits.yaml:7:", "task")),
    "anchor": ("  task: classify", "  task: &t classify", ("digits.yaml:6:", "anchor")),
    "unknown-field": ("  task: classify", "  task: classify\n  taks: detect", ("digits.yaml:7:", "taks")),
    "wrong-type": ("{epochs: 8, imgsz: 32}", "[epochs, 8]", ("digits.yaml:12:", "spec.training.args")),
    "wrong-word": ("  task: classify", "  task: clasify", ("digits.yaml:6:", "spec.task", "classify")),
    "duplicate-key-in-flow": (
        "metadata: {name: digits}",
        "metadata: {name: digits, name: x}",
        ("digits.yaml:4:", "name"),
    ),
}


@pytest.mark.parametrize(("old", "new", "words"), FILES.values(), ids=FILES.keys())
def test_a_file_that_says_it_wrong(serving: Place, old: str, new: str, words: tuple[str, ...]) -> None:
    """File, line and field are named; nothing is done until the file is mended, and then nothing is lost."""
    text = serving.read()
    assert text.count(old) == 1
    _endure(serving, {FILE: text.replace(old, new)})
    stalled = serving.condition("Stalled")
    assert stalled.reason == "InvalidManifest"
    assert all(word in stalled.message for word in words), stalled.message
    assert serving.reason("Serving") == "ReleaseServing"
    _mend(serving, {FILE: text})


def test_two_modelspecs_of_one_name(serving: Place) -> None:
    """Both places are named and neither is acted on, until one of them goes."""
    _endure(serving, {"copy.yaml": serving.read().replace("epochs: 8", "epochs: 20")})
    message = serving.condition("Stalled").message
    assert "copy.yaml:2" in message
    assert "digits.yaml:2" in message
    assert "one of them must go" in message
    _mend(serving, {"copy.yaml": None})


def test_a_new_file_that_is_broken_is_complained_about(serving: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A ModelSpec that never was right has no status; the agent's log says what is wrong, once."""
    caplog.set_level("WARNING", "trunkline.agent")
    _endure(serving, {"new.yaml": "apiVersion: trunkline.dev/v1alpha1\nkind: ModelSpec\nmetadata: {name: [\n"})
    said = [record.getMessage() for record in caplog.records if "new.yaml:" in record.getMessage()]
    assert len(said) == 2  # by the agent, and by the one that was started after it
    _mend(serving, {"new.yaml": None})


DATA = {
    "absent": ("DataMissing", ("spec.data.train", "trunkline data add")),
    "tampered-manifest": ("DataCorrupt", ("other bytes", "add the data set again")),
    "leakage": ("GoldenLeakage", ("1 golden images", "x/b.png")),
    "other-classes": ("DataUnexpected", ("golden has classes", "['x', 'y']", "['x', 'z']")),
    "expectation": ("DataUnexpected", ("spec.data.expect", "at least 50 expected")),
}


@pytest.mark.parametrize(("case", "reason", "words"), [(c, *v) for c, v in DATA.items()], ids=DATA.keys())
def test_data_that_is_not_right(serving: Place, case: str, reason: str, words: tuple[str, ...]) -> None:
    """Data is checked before anything is spent on it, and the old version serves on."""
    text = serving.read()
    now = serving.dataset("a")
    new = {
        "absent": NOWHERE, "tampered-manifest": digest_bytes(b"tampered"), "leakage": serving.dataset("ab"),
        "other-classes": serving.dataset("c", ("x", "z")), "expectation": now,
    }[case]  # fmt: skip
    if case == "tampered-manifest":
        serving.store.create(dataset_key(new), b'{"task": "classify"}')
    bad = text.replace(now, new)
    if case == "expectation":
        bad = text.replace("  training:", "    expect: {minImages: 50}\n  training:")
    _endure(serving, {FILE: bad})
    found = serving.condition("DataReady")
    assert (found.status, found.reason) == ("False", reason)
    assert serving.reason("Stalled") == reason
    assert all(word in found.message for word in words), found.message
    _mend(serving, {FILE: text})


RELEASES = {
    "run": ("run", "is not in the store"),
    "weights": ("weights", "are not what run"),
    "export": ("onnx", "is not in the store"),
}


@pytest.mark.parametrize(("field", "words"), RELEASES.values(), ids=RELEASES.keys())
def test_a_release_edited_by_hand(serving: Place, field: str, words: str) -> None:
    """A release that names what does not exist is not served; the old one goes on."""
    text = serving.read()
    release = text.index("  release:")
    line = next(line for line in text[release:].splitlines() if line.strip().startswith(f"{field}:"))
    digest = "sha256:" + line.partition("sha256:")[2][:64]
    bad = text[:release] + text[release:].replace(line, line.replace(digest, NOWHERE), 1)
    before = serving.jobs()
    serving.write({FILE: bad})
    serving.settle()
    found = serving.condition("Serving")
    assert (found.status, found.reason) == ("False", "ReleaseUnknown")
    assert words in found.message
    assert NOWHERE in found.message
    serving.assert_quiet()
    assert serving.jobs() == before
    state = serving.app.servers.state("digits")
    assert state is not None
    assert (state.ready, state.version) == (True, 1)
    serving.write({FILE: text})
    serving.settle()
    for pull in serving.open_pulls():  # what was proposed against the bad release is obsolete
        pytest.fail(pull.title)
    assert serving.reason("Serving") == "ReleaseServing"


def test_a_killed_job_is_tried_again_and_trains_once(place: Place) -> None:
    """SIGKILL in the middle of a training: it is said, it starts again, and one run comes of it."""
    (place.log / "hold-train").touch()
    place.write(place.spec())
    place.until("it trains", lambda: place.jobs("train"))
    (victim,) = alive_with("STORY_LOG", str(place.log))
    os.kill(victim, signal.SIGKILL)
    place.until("it is seen", lambda: "Killed" in place.condition("Trained").message)
    assert "trying again" in place.condition("Trained").message
    assert place.condition("Reconciling").reason == "Training"
    assert len(place.jobs("train")) == 1  # not before its pause is over
    (place.log / "hold-train").unlink()
    place.skew += 6
    place.proposed()
    assert len(place.jobs("train")) == 2
    assert len([key for key in place.store.list() if key.startswith("runs/")]) == 1
    place.assert_quiet()


def test_a_job_that_keeps_failing_stops_until_a_person_says_retry(place: Place) -> None:
    """Three attempts, then JobFailed with the job's words and what to do; forgotten, it is tried again."""
    (place.log / "fail-train").touch()
    place.write(place.spec())
    place.skew = 1000  # the pauses between attempts are over at once
    place.settle()
    found = place.condition("Trained")
    assert found.reason == "JobFailed"
    job = place.jobs("train")[0]
    for word in ("failed 3 times", "the pretended disk is on fire", f"trunkline logs {job}", f"trunkline retry {job}"):
        assert word in found.message
    assert place.jobs("train") == [job] * 3
    place.assert_quiet()
    (place.log / "fail-train").unlink()
    place.app.jobs.forget(job)
    place.proposed()
    assert place.jobs().count(job) == 4


def test_evidence_that_was_tampered_with_is_not_proposed(place: Place) -> None:
    """A picture of the run changed behind our back: no branch, no pull request, and the digest is named."""
    (place.log / "hold-evaluate").touch()
    place.write(place.spec())
    place.until("it is trained", lambda: place.reason("Trained") == "RunSucceeded")
    (record,) = [key for key in place.store.list() if key.startswith("runs/")]
    run = RunRecord.decode(place.store.read(record) or b"")
    place.tamper(run.files["results.png"])
    (place.log / "hold-evaluate").unlink()
    place.until("it is seen", lambda: place.reason("Stalled") == "CorruptArtifact")
    assert run.files["results.png"] in place.condition("Stalled").message
    place.settle()
    place.assert_quiet()
    assert set(place.hub.heads()) == {"main"}
    assert not place.forge().list("")
    assert place.store.read(run_key(run.inputs_digest)) is not None


def test_a_corrupt_artifact_falls_back_and_converges(place: Place) -> None:
    """The last good version never stops; a rollback is proposed, and merged it makes all quiet."""
    place.write(place.spec())
    assert place.released() == 1
    first = place.app.servers.state("digits")
    place.change("epochs: 8", "epochs: 9")
    pull = place.proposed()
    file = yaml.safe_load(place.read(ref=pull.branch))["spec"]["release"]["exports"]["onnx"]
    place.tamper(file)
    place.forge().merge(pull.number)
    place.settle()
    found = place.condition("Serving")
    assert found.reason == "FallbackToPrevious"
    assert "v2 could not be loaded" in found.message
    assert "v1 answers" in found.message
    now = place.app.servers.state("digits")
    assert first is not None
    assert now is not None
    assert (now.ready, now.file, now.version) == (True, first.file, 1)
    place.assert_quiet()
    (rollback,) = place.open_pulls()
    assert rollback.branch.startswith("trunkline/rollback/")
    place.forge().merge(rollback.number)
    place.settle()
    assert place.reason("Serving") == "ReleaseServing"
    serving = place.status().serving
    assert serving is not None
    assert (serving.version, serving.file) == (3, first.file)
    assert not place.open_pulls()
    place.assert_quiet()


def test_a_branch_deleted_under_a_proposal_comes_back(place: Place) -> None:
    """The same pull request gets its branch again; no second one is opened."""
    place.write(place.spec())
    pull = place.proposed()
    git(place.hub.clone, "push", "-q", "origin", "--delete", pull.branch)
    place.settle()
    assert [p.number for p in place.forge().list("")] == [pull.number]
    assert place.hub.heads()[pull.branch] == place.proposed().head
    place.assert_quiet()
    place.forge().merge(pull.number)


def test_a_merge_conflict_rebuilds_the_proposal(place: Place) -> None:
    """A change of trunk beside the proposed lines: the proposal is made anew on top of it, and can be merged."""
    place.write(place.spec())
    pull = place.proposed()
    place.write(place.read() + "  policy: {maxOpenProposals: 1}\n")
    place.settle()
    again = place.proposed()
    assert (again.number, again.branch) == (pull.number, pull.branch)
    assert again.head != pull.head
    place.assert_quiet()
    place.forge().merge(again.number)
    assert "maxOpenProposals: 1" in place.read()
    assert "release:" in place.read()


def test_a_closed_proposal_is_a_decision(place: Place) -> None:
    """It is remembered, said, and not asked again, also by an agent that lost its state; reopened, it is back."""
    place.write(place.spec())
    pull = place.proposed()
    place.forge().close(pull.number, comment="not now")
    place.settle()
    found = place.condition("Proposed")
    assert found.reason == "ProposalRejected"
    assert f"#{pull.number} was closed" in found.message
    assert "reopen" in found.message
    place.assert_quiet()
    assert [p.state for p in place.forge().list("")] == [PullState.CLOSED]
    place.forge().reopen(pull.number)
    place.settle()
    assert place.reason("Proposed") == "PullRequestOpen"
    place.forge().merge(pull.number)


def test_a_foreign_commit_means_hands_off(place: Place) -> None:
    """A person's commit on a proposal's branch makes it theirs: nothing is pushed over it or closed."""
    place.write(place.spec())
    pull = place.proposed()
    git(place.hub.clone, "fetch", "-q", "origin")
    mine = place.hub.commit({"note.md": "mine\n"}, "A note", branch=pull.branch, start=f"origin/{pull.branch}")
    place.write(place.read() + "  policy: {maxOpenProposals: 1}\n")
    place.settle()
    found = place.condition("Proposed")
    assert found.reason == "ProposalDetached"
    assert "commits of others" in found.message
    assert place.hub.heads()[pull.branch] == mine
    assert [p.number for p in place.open_pulls()] == [pull.number]
    place.assert_quiet()


def test_a_bad_model_does_not_stop_a_good_one(place: Place) -> None:
    """One file is broken; the model of the other file is trained and proposed all the same."""
    place.write({FILE: place.spec(), "other.yaml": place.spec(("name: digits", "name: other"), ("epochs", "epochz"))
                 .replace("  task: classify", "  task: dance")})  # fmt: skip
    place.proposed()
    assert place.reason("Proposed") == "PullRequestOpen"
    assert place.condition("Stalled", OTHER).reason == "InvalidManifest"
    assert "other.yaml:6:" in place.condition("Stalled", OTHER).message
    place.assert_quiet()


def test_refusals_of_the_forge_say_what_to_do(place: Place) -> None:
    """Merging a proposal whose branch is gone is refused with the command that brings it back."""
    place.write(place.spec())
    pull = place.proposed()
    git(place.hub.clone, "push", "-q", "origin", "--delete", pull.branch)
    with pytest.raises(Stalled, match=f"git -C .* branch {pull.branch} {pull.head}"):
        place.forge().merge(pull.number)
    assert "release:" not in place.read()
