"""One pass of the loop: look, decide, do, say; and how each chapter of the story settles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specs.errors import Stalled, Transient
from specs.records import Progress, progress_key
from specs.status import ConditionType, ModelStatus, Reason
from tests.support.fakes import FakeStore
from tests.support.story import phases
from tests.support.wire import at, unanswered
from tests.support.world import World


def test_each_chapter_settles_as_people_expect() -> None:
    """What serves after each chapter, and how many questions are open, is as a person would tell it."""
    versions = [phase.after.serving[0] for phase in phases()]
    assert versions == [None, None, 1, 1, 2, 2, 2, 2, 2, 3, 2, 2, 2, 2, 5, 5, 6, 6, 6, 6, 6, 6, None]
    assert max(len(phase.after.forge.opened()) for phase in phases()) == 1
    assert "0.85 is below 0.95" in phases()[0].after.status.summary
    assert phases()[0].after.forge.pulls == []


def test_status_deleted_is_written_again() -> None:
    """Status is a cache: without it, one pass gives the same again, but for the times."""
    world = phases()[4].after.fork()
    before, world.status = world.facts(), ModelStatus()
    world.one_pass()
    assert world.facts() == before


def test_trouble_of_one_action_does_not_keep_the_others_back() -> None:
    """Rollout and training are independent: where the server cannot be reached, the training starts all the same."""
    world = phases()[2].after.fork()
    world.servers.states.clear()
    world.change(r"epochs: \d+", "epochs: 9")
    world.wire.script = at(len(world.wire.log) + 1, "before", unanswered)
    result = world.one_pass()
    assert [name.split("-")[0] for name in world.jobs.running()] == ["train"]
    assert (result.acted, result.retry) == (True, True)
    reconciling = world.status.condition(ConditionType.RECONCILING)
    assert reconciling is not None
    assert reconciling.reason == Reason.RETRYING


def test_spec_that_cannot_be_read_changes_nothing() -> None:
    """A file that broke on trunk is said so with its line; what serves goes on serving and nothing else happens."""
    world = phases()[2].after.fork()
    before, facts, status = len(world.wire.log), world.serving, world.status
    loop, source = world.reconciler(), world.source()
    shared = loop.share()
    result = loop.run(replace(source, text=source.text.replace("export: onnx", "export: [onnx")), shared, status)
    stalled = result.status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert stalled.reason == Reason.INVALID_MANIFEST
    assert "models/shelf.yaml:" in stalled.message
    assert result.status.serving == status.serving
    assert (world.serving, len(world.wire.log), result.retry) == (facts, before, False)


def test_world_that_cannot_be_looked_at_is_retried() -> None:
    """Where looking fails for the moment, nothing is decided, the rest of the status stays, and the host retries."""

    class Broken(FakeStore):
        def read(self, key: str) -> bytes | None:
            raise Transient("StoreUnavailable", f"{key}: no route")

    world = phases()[2].after.fork()
    broken, before = world.fork(), len(world.wire.log)
    broken.store = Broken()
    loop = broken.reconciler()
    result = loop.run(world.source(), loop.share(), world.status)
    assert (result.acted, result.retry, result.plan) == (False, True, None)
    assert result.status.version == world.status.version
    assert len(broken.wire.log) == before


def test_result_says_when_looking_again_is_useful() -> None:
    """After a failed attempt the result names the pause, and nothing is done meanwhile."""
    world = World()
    world.one_pass()
    world.jobs.finish(world.jobs.running()[0], "killed")
    result = world.one_pass()
    assert not result.acted
    assert result.after == pytest.approx(5.0)


def test_action_that_can_never_work_is_not_called_progress() -> None:
    """Evidence whose picture is gone from the store stalls the proposal; nobody is told to look again at once."""

    class WithoutPictures(FakeStore):
        def read_blob(self, digest: str) -> bytes:
            raise Stalled("BlobMissing", f"{digest} is not in the store")

    world = phases()[1].before.fork()
    lame = WithoutPictures()
    lame.records = world.store.records
    world.store = world.jobs.store = lame
    world.converge()
    stalled = world.status.condition(ConditionType.STALLED)
    assert stalled is not None
    assert stalled.reason == "BlobMissing"
    assert world.quiet()
    assert world.forge.pulls == []


def test_same_text_is_parsed_once() -> None:
    """A controller parses a manifest again only when its text changed, and then at once."""
    world = phases()[2].after.fork()
    loop = world.reconciler()
    world.one_pass(loop)
    world.change("suspend: false", "suspend: true")
    world.one_pass(loop)
    ready = world.status.condition(ConditionType.READY)
    assert ready is not None
    assert ready.reason == Reason.SUSPENDED


def test_how_far_a_job_is_stands_in_the_status_while_it_runs() -> None:
    """From its first words to its end; then nothing about it is left, and a status at rest never changes."""
    world = World()
    world.one_pass()
    (job,) = world.jobs.running()
    assert world.status.progress == []
    said = Progress(job=job, phase="training", epoch=1, epochs=2, eta_seconds=30.0)
    world.store.records[progress_key(job)] = said.encode()
    before = world.one_pass().status
    assert [(each.job, each.text) for each in before.progress] == [(job, "training 1/2 epochs, 30 s left")]
    world.store.records[progress_key(job)] = said.model_copy(update={"eta_seconds": 29.0}).encode()
    assert world.one_pass().status == before
    world.converge()
    assert world.status.progress == []
    assert progress_key(job) in world.store.records
    assert world.quiet()
