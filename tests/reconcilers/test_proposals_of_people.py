"""Proposals that people decided about: rejected, reopened, reverted, taken over, held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Action, CloseProposal, DeleteBranch, Proposal, Propose, Withdrawn
from reconcilers.context import Step, Verdict
from reconcilers.drafts import closing
from specs.facts import ProposalState, PullState
from specs.status import ConditionType, Reason
from tests.support.builders import (
    Stage,
    candidate_ready,
    first,
    moved_on,
    proposed,
    pull,
    released,
    settled,
)  # fmt: skip

STAGE = candidate_ready()
OURS = proposed(STAGE.spec, STAGE.world)
OTHER = replace(OURS, key="f" * 64, branch=OURS.branch[:-12] + "f" * 12)
"""Another candidate's proposal."""


def answer(*proposals: ProposalState, stage: Stage = STAGE, **changes: Any) -> tuple[Step, tuple[Action, ...]]:
    """Give the last step about proposals, and all actions of the plan."""
    decided = stage.but(proposals=proposals, **changes).plan
    step = decided.step(ConditionType.PROPOSED)
    assert step is not None
    return step, decided.actions


def reworded(state: ProposalState, old: str, new: str) -> ProposalState:
    """Give a pull request whose text was changed by hand."""
    assert old in state.pull.body
    return replace(state, pull=replace(state.pull, body=state.pull.body.replace(old, new)))


def by_us(proposal: Proposal, number: int = 1, **changes: Any) -> ProposalState:
    """Give a pull request that we closed ourselves."""
    mark = closing(pull(proposal), "Obsolete", "Not wanted.").mark
    return pull(proposal, PullState.CLOSED, number, body=f"{proposal.body}\n{mark}\n", **changes)


def test_branch_with_foreign_commits_is_not_overwritten() -> None:
    """Somebody's commits on a branch that is ours by name are theirs, also without a pull request."""
    step, actions = answer(branches={OURS.branch: "d" * 40}, leftovers={})
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.DETACHED)
    assert OURS.branch in step.message
    assert actions == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [("### Gates", "### Doors"), ("<!-- trunkline:v1", "<!-- gone"), ("Trunkline asks", "I ask")],
    ids=["heading reworded", "marker removed", "sentence reworded"],
)
def test_a_persons_wording_is_left_alone(old: str, new: str) -> None:
    """What people write into the text of a pull request stays."""
    _, actions = answer(reworded(pull(OURS), old, new))
    assert actions == ()


def test_closed_by_a_person_is_a_rejection() -> None:
    """A proposal that a person closed is not opened again; the model stalls until something changes."""
    step, actions = answer(pull(OURS, PullState.CLOSED, comments=("not now",)))
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.REJECTED)
    assert actions == ()


def test_rejection_closes_what_else_is_open() -> None:
    """Where nothing is proposed because of a rejection, an older candidate's proposal is not left open instead."""
    _, actions = answer(pull(OTHER, number=1), pull(OURS, PullState.CLOSED, 2))
    (close,) = actions
    assert isinstance(close, CloseProposal)
    assert (close.number, close.reason) == (1, "Obsolete")


def test_rejected_branch_stays_so_that_it_can_be_reopened() -> None:
    """A person may reopen what a person closed: its branch is not swept, others are."""
    left = {OURS.branch: "d" * 40, OTHER.branch: "e" * 40}
    _, actions = answer(pull(OURS, PullState.CLOSED), branches=left, leftovers=left)
    assert actions == (DeleteBranch(OTHER.branch, "e" * 40),)


def test_reopened_one_is_open_whatever_came_after_it() -> None:
    """An older pull request of the same content that is open counts, not the newer one that was closed."""
    step, actions = answer(pull(OURS, number=1), pull(OURS, PullState.CLOSED, 2))
    assert (step.reason, actions) == (Reason.PULL_REQUEST_OPEN, ())


def test_closed_by_ourselves_is_no_rejection() -> None:
    """What we closed because it was not wanted is opened again when it is wanted, rather than a new one."""
    _, actions = answer(by_us(OURS, 4))
    assert actions == (Propose(OURS, None, None, Withdrawn(4, "b" * 40)),)


@pytest.mark.parametrize("change", [{"head": ""}, {"retargeted": True}], ids=["commit unknown", "points elsewhere"])
def test_closed_by_ourselves_is_not_opened_again_where_that_makes_no_sense(change: dict[str, Any]) -> None:
    """A forge that no longer tells the commit, or a pull request that goes to another branch: a new one is opened."""
    _, actions = answer(by_us(OURS, 4, **change))
    assert actions == (Propose(OURS, None, None),)


def test_merged_then_undone_is_not_asked_again() -> None:
    """A release that was merged and reverted is what people decided."""
    step, actions = answer(pull(OURS, PullState.MERGED))
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.REVERTED)
    assert "pull request #1" in step.message
    assert actions == ()


@pytest.mark.parametrize("intent", ["promote", "rollback"])
def test_going_back_after_another_release_is_a_new_question(intent: str) -> None:
    """A, then B, then A again: what was merged before another release was may be proposed again."""
    newer = replace(pull(OTHER, PullState.MERGED, 2), intent=intent)
    _, actions = answer(pull(OURS, PullState.MERGED, 1), newer)
    assert first(actions).number is None


def test_later_merge_counts_not_the_higher_number() -> None:
    """Pull requests are not always merged in the order they were opened."""
    older = pull(OTHER, PullState.MERGED, 2, closed=150)
    step, _ = answer(pull(OURS, PullState.MERGED, 1, closed=180), older)
    assert step.reason is Reason.REVERTED


def test_merged_tune_says_nothing_about_releases() -> None:
    """Only intents that edit the release make an undone release a new question."""
    tune = replace(pull(OTHER, PullState.MERGED, 2), intent="tune")
    assert answer(pull(OURS, PullState.MERGED, 1), tune)[0].reason is Reason.REVERTED


def test_foreign_commits_detach() -> None:
    """Once somebody else committed to the branch, we touch neither branch nor text, and stop asking."""
    outdated = reworded(pull(OURS, foreign=True, conflicted=True), "Trunkline asks", "I ask")
    step, actions = answer(outdated)
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.DETACHED)
    assert actions == ()


def test_foreign_one_of_another_candidate_is_neither_closed_nor_joined_by_a_second() -> None:
    """With the one allowed proposal taken over by a person, the next candidate waits for that person."""
    step, actions = answer(pull(OTHER, foreign=True))
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.TOO_MANY_PROPOSALS)
    assert "pull request #1" in step.message
    assert actions == ()


def test_policy_may_allow_more_open_proposals() -> None:
    """``policy.maxOpenProposals`` is how many may be open, those taken over included."""
    stage = candidate_ready(policy={"maxOpenProposals": 2})
    _, actions = answer(pull(OTHER, foreign=True), stage=stage)
    assert first(actions).number is None


def test_hold_closes_the_open_one_and_says_why() -> None:
    """``spec.release.hold`` stops promotions until a person removes it."""
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
    offered = proposed(stage.spec, stage.world)
    held = moved_on(
        stage.but(proposals=(pull(offered),)), lambda data: data["release"].update(hold={"reason": "inventory week"})
    )
    step = held.plan.step(ConditionType.PROPOSED)
    assert step is not None
    assert (step.verdict, step.reason) == (Verdict.REST, Reason.HELD)
    assert "inventory week" in step.message
    assert [type(action) for action in held.plan.actions] == [CloseProposal]


def test_release_edited_by_hand_to_the_same_content_is_no_new_proposal() -> None:
    """Success is what trunk says, not what became of a pull request."""
    value = OURS.value
    assert isinstance(value, dict)
    by_hand = released(STAGE.spec, {**value, "version": 9})
    step, actions = answer(pull(OURS, PullState.CLOSED), stage=Stage(by_hand, STAGE.world, STAGE.lab))
    assert step.reason is Reason.RELEASED
    assert not [action for action in actions if isinstance(action, Propose)]
