"""References without a digest: nothing is trained on them, and one pull request pins all of them."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose, StartJob
from reconcilers.context import Step, Verdict
from specs.data import Source
from specs.facts import PullState
from specs.manifest import parse
from specs.status import ConditionType, Reason
from specs.workorders import ImportOrder
from tests.support.builders import GOLDEN, KEY, Stage, digest, first, moved_on, observed, proposed, pull, spec, started
from tests.support.data_stages import AWAY, BARE, dvc, elsewhere, md5, pinned, unknown
from tests.support.world import ELSEWHERE, World

ADDRESS = {"uri": {"url": "s3://datasets/golden.zip"}}
FETCHED = Source.model_validate({"uri": ADDRESS["uri"] | {"digest": digest("zip")}}, by_alias=True, by_name=False)
BOTH = {"spec.data.train": pinned(1), "spec.data.golden": FETCHED}


def bare(**changes: Any) -> Stage:
    """Give a model whose training data and golden set are both not pinned, and both known."""
    stage = elsewhere(None, data__train=BARE, data__golden=ADDRESS)
    return stage.but(**{"golden": None, "resolved": BOTH, **changes})


def the(stage: Stage) -> Step:
    """Give the answer about data."""
    step = stage.plan.step(ConditionType.DATA_READY)
    assert step is not None
    return step


def test_one_proposal_pins_everything_at_once() -> None:
    """Every value is an edit of its own; the title names what is pinned, the message which pull request does it."""
    stage = bare()
    proposal = first(stage.plan.actions).proposal
    assert proposal.edits == (
        ("spec.data.golden.uri.digest", digest("zip")), ("spec.data.train.dvc.digest", md5(1)),
        ("spec.data.train.dvc.targetRevision", "v1"),
    )  # fmt: skip
    assert (proposal.intent, proposal.title) == ("bump-data", "retail/shelf: pin training data and golden set")
    assert md5(1) in proposal.body
    assert started(stage.plan) == []
    opened = stage.but(proposals=(pull(proposal),))
    assert (the(opened).verdict, the(opened).reason) == (Verdict.WAIT, Reason.DATA_NOT_PINNED)
    assert the(opened).message == (
        "spec.data.train.dvc, spec.data.golden.uri has no digest: pull request #1 waits for a person to merge it"
    )
    assert opened.plan.actions == ()


def test_address_without_digest_is_fetched_to_learn_it() -> None:
    """Only its bytes tell; everything else waits for that."""
    stage = bare(resolved={"spec.data.train": pinned(1)})
    (action,) = stage.plan.actions
    assert isinstance(action, StartJob)
    assert isinstance(action.order, ImportOrder)
    assert action.order.source == ADDRESS
    assert the(stage).reason is Reason.IMPORTING


def test_person_who_says_no_is_asked_about_other_data_only() -> None:
    """A closed pin stalls, and says what to do; the reference standing for other data is another question."""
    stage = bare()
    refused = stage.but(proposals=(pull(proposed(stage.spec, stage.world), PullState.CLOSED),))
    assert (the(refused).verdict, the(refused).reason) == (Verdict.STOP, Reason.REJECTED)
    assert "write the digest" in the(refused).message
    moved = refused.but(resolved=BOTH | {"spec.data.train": pinned(2)})
    assert [type(action) for action in moved.plan.actions] == [Propose]


def test_pin_that_was_merged_and_undone_is_not_asked_for_again() -> None:
    """That is what people decided."""
    stage = bare()
    undone = stage.but(proposals=(pull(proposed(stage.spec, stage.world), PullState.MERGED),))
    assert (the(undone).verdict, the(undone).reason) == (Verdict.REST, Reason.REVERTED)


@pytest.mark.parametrize(("passing", "verdict"), [(True, Verdict.WAIT), (False, Verdict.STOP)])
def test_reference_that_nobody_can_look_up_is_told(passing: bool, verdict: Verdict) -> None:  # noqa: FBT001
    """A place that is down is asked again; a revision that is not there needs a person."""
    stage = bare(resolved={}, troubles=unknown(passing=passing))
    assert the(stage).verdict is verdict
    assert the(stage).message == f"spec.data.train: {AWAY}"
    assert stage.plan.actions == ()


def test_pin_written_by_hand_closes_the_proposal() -> None:
    """The tracked branch says already what it asks for; other data by hand makes it pointless."""
    stage = bare(golden=observed().golden, resolved={"spec.data.train": pinned(1)})
    stage = moved_on(stage, lambda data: data["data"].update(golden=spec_golden()), work=False)
    stage = stage.but(resolved={"spec.data.train": pinned(1)})
    opened = stage.but(proposals=(pull(proposed(stage.spec, stage.world)),))
    for version, reason in ((1, "AlreadyApplied"), (2, "Obsolete")):
        by_hand = moved_on(opened, lambda data, version=version: data["data"].update(train=dvc(version)), work=False)
        closed = [action for action in by_hand.plan.actions if isinstance(action, CloseProposal)]
        assert [action.reason for action in closed] == [reason]


def spec_golden() -> dict[str, Any]:
    """Give the golden set in the store."""
    return {"uri": {"url": "store://golden", "digest": GOLDEN.digest()}}


def test_bare_reference_to_the_store_is_for_a_person() -> None:
    """Nobody but who added it knows which one it is."""
    stage = Stage(spec(data__golden__uri__digest=None, data__train=BARE), observed(train=None), bare().lab)
    step = the(stage.but(resolved={"spec.data.train": pinned(1)}))
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.DATA_NOT_PINNED)
    assert "trunkline data add" in step.message


def test_merged_pin_keeps_every_other_byte() -> None:
    """Comments between the values, order and notation stay; the pinned spec says what the proposal said."""
    world = World(ELSEWHERE)
    world.sources.latest = pinned(1)
    world.converge()
    before = world.text
    world.merge()
    pin = f"        targetRevision: v1\n        digest: {md5(1)}\n"
    assert world.text == before.replace("        targetRevision: main\n", pin)
    assert parse(world.text, "", KEY).model.spec.data.train == pinned(1)
