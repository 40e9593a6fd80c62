"""Newer training data: found out about beside the line, asked about once it is known to be good, and never an error."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose, StartJob
from reconcilers.context import Step, Verdict
from reconcilers.observed import DatasetFact
from reconcilers.summary import summarize
from specs.data_records import Alike, SetReport
from specs.facts import JobPhase, JobState, PullState
from specs.status import ConditionType, ModelStatus, Reason
from tests.support.builders import (
    GOLDEN,
    NOW,
    TRAIN,
    Stage,
    context,
    digest,
    first,
    manifest,
    moved_on,
    observed,
    proposed,
    pull,
    started,
)  # fmt: skip
from tests.support.data_stages import NEWER, dvc, following, imported, md5, newer, pinned, unknown, validation

CURRENT = ConditionType.DATA_CURRENT


def the(stage: Stage) -> Step:
    """Give the answer about newer data."""
    step = stage.plan.step(CURRENT)
    assert step is not None
    return step


def asked(stage: Stage, state: PullState = PullState.OPEN, **changes: Any) -> Stage:
    """Give the stage after the newer version was proposed, and what became of that."""
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), state, **changes),))


def good() -> Stage:
    """Give a serving model with a newer version of its data that may be proposed."""
    return following().but(newer=newer())


def test_it_is_fetched_then_looked_at_and_compared_at_once() -> None:
    """The import comes first; the other two need what it brings, and not each other."""
    fetching = following().but(newer=newer(fact=DatasetFact(md5(2)), validation=None, difference=None))
    assert started(fetching.plan) == ["import"]
    assert started(following().but(newer=newer(validation=None, difference=None)).plan) == ["validate", "diff"]
    assert started(following().but(newer=newer(difference=None)).plan) == ["diff"]
    assert (the(fetching).verdict, the(fetching).reason) == (Verdict.WAIT, Reason.DATA_NEWER)
    assert the(fetching).message.startswith("data v2: import-shelf-")


def test_proposal_edits_the_values_that_differ_and_no_others() -> None:
    """Revision and digest, each on its own, so that comments between them stay; and it says what it is about."""
    proposal = first(good().plan.actions).proposal
    assert proposal.edits == (
        ("spec.data.train.dvc.digest", md5(2)), ("spec.data.train.dvc.targetRevision", "v2"),
    )  # fmt: skip
    assert proposal.intent == "bump-data"
    assert proposal.title == "retail/shelf: train on data v2 (+12 −2 images, 1 relabelled)"
    for words in ("### What is different", "12 added, 2 removed, 1 relabelled", "looking at every picture and label",
                  "### What merging does", "what serves goes on serving until then", "How to undo it", "How to say no",
                  "shelf.dvc of https"):  # fmt: skip
        assert words in proposal.body.replace("\u200b", ""), words


def test_evidence_lies_in_a_folder_of_its_own() -> None:
    """Records, report and pictures, under a name that follows from the data and from what it was held against."""
    proposal = first(good().plan.actions).proposal
    (folder,) = {path.rpartition("/")[0] for path in (*proposal.files, *proposal.blobs)}
    assert folder.startswith(f"evidence/retail.shelf/data/{NEWER.digest()[7:19]}-")
    assert sorted(path.rpartition("/")[2] for path in proposal.blobs) == ["difference.jpg", "train.jpg"]
    told = json.loads(proposal.files[f"{folder}/data.json"])
    assert (told["before"], told["after"]) == (dvc(1), dvc(2))
    assert told["difference"]["added"] == 12
    assert told["import"]["manifest"] == told["validation"]["train_digest"] == NEWER.digest()
    report = proposal.files[f"{folder}/report.md"].decode()
    assert "![difference.jpg](difference.jpg)" in report
    assert "merging" not in report


def test_same_data_is_the_same_proposal_by_whatever_revision() -> None:
    """A commit to the data repository that leaves the data as it is opens nothing anew."""
    one, other = good(), following().but(newer=newer(source=replaced("v2-again")))
    assert proposed(one.spec, one.world).key == proposed(other.spec, other.world).key


def replaced(revision: str) -> Any:
    """Give version 2 under another revision."""
    source = pinned(2)
    assert source.dvc is not None
    return source.model_copy(update={"dvc": source.dvc.model_copy(update={"target_revision": revision})})


BAD = [
    (newer(fact=DatasetFact(md5(2), reason=Reason.IMPORT_FAILED, message="Broken: no pictures")), Reason.IMPORT_FAILED,
     "no pictures"),
    (newer(fact=imported(2, manifest("n", task="detect"))), Reason.DATA_UNEXPECTED, "for detect"),
    (newer(fact=imported(2, manifest("n", 3))), Reason.DATA_UNEXPECTED, "3 images, at least 15 expected"),
    (newer(fact=imported(2, manifest("n", 30, ["milk", "beer"]))), Reason.DATA_UNEXPECTED, "golden has classes"),
    (newer(shared_pictures=("milk/1.png",)), Reason.DATA_LEAKAGE, "1 golden images"),
    (newer(validation=validation(train=SetReport(images=30, unreadable_count=1, unreadable=["a.png: cut off"]))),
     Reason.DATA_INVALID, "a.png: cut off"),
    (newer(validation=validation(leak_count=1, leaks=[Alike(first="a.png", second="b.png", exact=True)])),
     Reason.DATA_LEAKAGE, "b.png"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "reason", "text"), BAD, ids=[f"{row[1]}: {row[2]}" for row in BAD])
def test_version_that_is_bad_is_not_proposed_and_harms_nobody(found: Any, reason: Reason, text: str) -> None:
    """It is said why; the model that serves stays ready, and nobody is called."""
    stage = following(data__expect={"minImages": 15}).but(newer=found)
    step = the(stage)
    assert (step.verdict, step.reason) == (Verdict.REST, reason)
    assert step.message.startswith("data v2 is not proposed: ")
    assert text in step.message
    assert stage.plan.actions == ()
    assert ready(stage) == ("True", Reason.AS_DESIRED)


def ready(stage: Stage) -> tuple[str, str]:
    """Give the condition Ready."""
    status = summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "")
    found = status.condition(ConditionType.READY)
    assert found is not None
    assert (status.condition(ConditionType.STALLED) is None) or found.status == "False"
    return found.status, found.reason


def test_old_validation_of_another_golden_set_does_not_count() -> None:
    """What was looked at must be this version and this golden set."""
    stage = following().but(newer=newer(validation=validation(golden_digest=digest("other"))))
    assert started(stage.plan) == ["validate"]


def test_nobody_who_can_be_asked_is_no_trouble_of_the_model() -> None:
    """A data repository that is down, or a branch that is gone, is told; the open proposal stays."""
    for passing in (True, False):
        stage = asked(good()).but(newer=None, troubles=unknown(passing=passing))
        assert (the(stage).verdict, the(stage).reason) == (Verdict.REST, Reason.DATA_UNREACHABLE)
        assert "does not answer" in the(stage).message
        assert stage.plan.actions == ()
        assert ready(stage) == ("True", Reason.AS_DESIRED)


def test_job_that_is_lost_needs_a_person_and_stalls_nothing() -> None:
    """The condition says which job to look into; what is pinned, and what serves, are as they were."""
    stage = following().but(newer=newer(difference=None))
    (action,) = stage.plan.actions
    assert isinstance(action, StartJob)
    lost = JobState(action.order.job, JobPhase.ENDED, attempts=3, exit_code=1, ended=NOW)
    step = the(stage.but(jobs={lost.name: lost}))
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.JOB_FAILED)


@pytest.mark.parametrize(
    ("state", "verdict", "reason"),
    [(PullState.OPEN, Verdict.WAIT, Reason.PULL_REQUEST_OPEN), (PullState.CLOSED, Verdict.REST, Reason.REJECTED),
     (PullState.MERGED, Verdict.REST, Reason.REVERTED)],
)  # fmt: skip
def test_what_people_said_is_remembered(state: PullState, verdict: Verdict, reason: Reason) -> None:
    """Open: it waits. Closed, or merged and undone: this version is not asked about again, and that is at rest."""
    stage = asked(good(), state)
    assert (the(stage).verdict, the(stage).reason) == (verdict, reason)
    assert stage.plan.actions == ()


def test_next_version_is_a_new_question() -> None:
    """After a no, or in the place of one that nobody answered."""
    later = newer(source=pinned(3))
    for state, kinds in ((PullState.CLOSED, [Propose]), (PullState.OPEN, [Propose, CloseProposal])):
        stage = asked(good(), state).but(newer=later)
        assert [type(action) for action in stage.plan.actions] == kinds


def test_going_back_to_data_that_was_used_in_between_may_be_asked() -> None:
    """Version 2 was merged, then 3; when 2 is the newest again, that is no undoing."""
    stage = asked(good(), PullState.MERGED)
    third = stage.but(newer=newer(source=pinned(3)), proposals=())
    merged = pull(proposed(third.spec, third.world), PullState.MERGED, number=2)
    both = stage.but(proposals=(*stage.world.proposals, merged))
    assert [type(action) for action in both.plan.actions] == [Propose]


def test_proposal_is_closed_when_nothing_is_left_to_ask() -> None:
    """Pinned by hand, no newer version any more, or nobody follows."""
    there = moved_on(asked(good()), lambda data: data["data"].update(train=dvc(2)))
    unwanted = moved_on(asked(good()), lambda data: data["triggers"].update(onData=False))
    gone = asked(good()).but(newer=None)
    for stage, reason in ((there, "AlreadyApplied"), (unwanted, "Obsolete"), (gone, "Obsolete")):
        closed = [action for action in stage.plan.actions if isinstance(action, CloseProposal)]
        assert [action.reason for action in closed] == [reason]
    assert unwanted.plan.step(CURRENT) is None


def test_open_promotion_and_newer_data_do_not_wait_for_each_other() -> None:
    """Each question is its own: maxOpenProposals counts those of one intent that people took over."""
    stage = moved_on(good(), lambda data: data["training"]["args"].update(epochs=9))
    both = stage.but(newer=newer())
    intents = [action.proposal.intent for action in both.plan.actions if isinstance(action, Propose)]
    assert intents == ["promote", "bump-data"]
    theirs = asked(good(), foreign=True).world.proposals
    taken = both.but(proposals=theirs)
    assert [action.proposal.intent for action in taken.plan.actions if isinstance(action, Propose)] == ["promote"]


def test_nobody_asks_while_a_rollback_is_asked_for() -> None:
    """A model that fell back has another question first."""
    stage = moved_on(good(), lambda data: data["training"]["args"].update(epochs=9))
    value = first(stage.plan.actions).proposal.value
    assert isinstance(value, dict)
    failed = moved_on(stage, lambda data: data.update(release=value))
    world = failed.world
    assert world.serving is not None
    bad = replace(world.serving, failed_file=value["exports"]["onnx"], failure="x")
    assert failed.but(serving=bad, newer=newer()).plan.step(CURRENT) is None


@pytest.mark.parametrize(
    "changes",
    [{"triggers": None}, {"triggers": {"onData": False}}, {"data__train": {"uri": {"url": "s3://b/x",
     "digest": TRAIN.digest()}}}],
    ids=["no triggers", "onData is false", "an address has no versions"],
)  # fmt: skip
def test_who_does_not_follow_is_not_told(changes: dict[str, Any]) -> None:
    """Without ``triggers.onData``, and for sources without versions, there is no such condition."""
    assert following(**changes).plan.step(CURRENT) is None


def test_version_that_differs_in_nothing_is_not_asked_about() -> None:
    """Another digest of the same pictures and labels would train the same again."""
    stage = asked(good()).but(newer=newer(fact=imported(2, TRAIN)))
    assert (the(stage).verdict, the(stage).reason) == (Verdict.DONE, Reason.DATA_NEWEST)
    assert [type(action) for action in stage.plan.actions] == [CloseProposal]


def test_newer_data_waits_for_data_that_is_well() -> None:
    """While the pinned data stops the line, that comes first."""
    assert good().but(shared_pictures=("x",)).plan.step(CURRENT) is None


def test_model_without_golden_set_asks_too() -> None:
    """Then there is nothing to leak into."""
    stage = following(data__golden=None, gates=[])
    record = validation(golden_digest=None, golden=None)
    world = observed(stage.lab, golden=None, source=stage.world.source, serving=stage.world.serving)
    asks = replace(stage, world=replace(world, newer=newer(validation=record)))
    assert isinstance(asks.plan.actions[-1], Propose)
    assert GOLDEN.digest() not in str(asks.plan.actions[-1])
