"""The life of a proposal that people leave alone: opened, adopted, brought up to date, superseded, closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Action, CloseProposal, DeleteBranch, Proposal, Propose
from reconcilers.context import Step, Verdict
from reconcilers.drafts import closing
from reconcilers.markdown import escape
from reconcilers.plan import plan
from specs.facts import Commit, ProposalState, PullState
from specs.modelspec import ModelKey
from specs.names import parse_branch
from specs.status import ConditionType, Reason
from tests.support.builders import (
    TOP1,
    Stage,
    candidate_ready,
    decide,
    digest,
    first,
    moved_on,
    proposed,
    pull,
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


def test_opens_one_where_there_is_none() -> None:
    """A complete candidate is proposed, on a branch that names model, intent and content."""
    step, actions = answer()
    assert (step.verdict, step.reason) == (Verdict.WAIT, Reason.PULL_REQUEST_OPEN)
    (action,) = actions
    assert action == Propose(OURS, None, None)
    assert parse_branch(OURS.branch) == ("promote", "retail", "shelf", OURS.key[:12])
    assert OURS.field == "spec.release"


def test_adopts_the_branch_that_a_crash_left() -> None:
    """A branch of ours without a pull request is taken up, not swept: its commit is replaced by the one of now."""
    left = {OURS.branch: "d" * 40, OTHER.branch: "e" * 40}
    _, actions = answer(branches=left, leftovers=left)
    assert actions == (Propose(OURS, None, "d" * 40), DeleteBranch(OTHER.branch, "e" * 40))


def test_open_one_waits_for_a_person() -> None:
    """An open proposal that says what we would say is left alone."""
    step, actions = answer(pull(OURS))
    assert (step.verdict, step.reason) == (Verdict.WAIT, Reason.PULL_REQUEST_OPEN)
    assert "pull request #1" in step.message
    assert actions == ()


@pytest.mark.parametrize(
    ("state", "head"),
    [(pull(OURS, conflicted=True), "b" * 40), (pull(OURS, branch_head=None), None)],
    ids=["conflicted", "branch deleted"],
)
def test_open_one_is_brought_up_to_date(state: ProposalState, head: str | None) -> None:
    """A proposal that cannot be merged as it is is rebuilt on the base of now, under its number."""
    _, actions = answer(state)
    assert actions == (Propose(OURS, 1, head),)


def test_outdated_text_is_written_anew() -> None:
    """Where the numbers behind a proposal changed, its text follows; its key and branch stay."""
    stage = STAGE.but(source=replace(STAGE.world.source, changed=Commit("e" * 40, "Ann", 1, "Word it better")))
    step, actions = answer(pull(OURS), stage=stage)
    action = first(actions)
    assert (action.number, action.proposal.key, action.proposal.branch) == (1, OURS.key, OURS.branch)
    assert "eeeeeeeeeeee" in action.proposal.body
    assert step.verdict is Verdict.WAIT


def test_new_candidate_supersedes_the_open_one() -> None:
    """Another candidate gets another proposal, and the older one is closed with a word and without its branch."""
    _, actions = answer(pull(OTHER, number=7))
    propose, close = actions
    assert propose == Propose(OURS, None, None)
    assert isinstance(close, CloseProposal)
    assert (close.number, close.reason, close.branch_head) == (7, "Superseded", "b" * 40)
    assert escape(OURS.title) in close.comment


def test_superseding_goes_on_after_a_crash() -> None:
    """With the new one open, the older one is still closed."""
    _, actions = answer(pull(OTHER, number=1), pull(OURS, number=2))
    (close,) = actions
    assert isinstance(close, CloseProposal)
    assert close.number == 1


def test_already_applied_is_closed_with_that_reason() -> None:
    """Where trunk says already what an open proposal asks for, it is closed, whoever wrote it there."""
    step, actions = answer(pull(OURS), stage=settled())
    (close,) = actions
    assert isinstance(close, CloseProposal)
    assert (close.number, close.reason) == (1, "AlreadyApplied")
    assert (step.verdict, step.reason) == (Verdict.DONE, Reason.RELEASED)


def test_inputs_changed_makes_the_open_one_obsolete() -> None:
    """While the new inputs train, nobody merges the old candidate by mistake."""
    stage = moved_on(STAGE.but(proposals=(pull(OURS),)), lambda d: d["training"]["args"].update(epochs=9), work=False)
    closes = [action for action in stage.plan.actions if isinstance(action, CloseProposal)]
    assert [(close.number, close.reason) for close in closes] == [(1, "Obsolete")]
    assert "inputs changed" in closes[0].comment


def test_same_candidate_in_new_measurement_keeps_its_proposal() -> None:
    """While the same candidate is measured or exported again, its proposal stays open."""
    for state in (pull(OURS), reworded(pull(OURS), "<!-- trunkline:v1", "<!-- gone")):
        again = STAGE.but(proposals=(state,), evaluations={})
        assert [type(action).__name__ for action in again.plan.actions] == ["StartJob"]


def test_gate_tightened_closes_the_open_one() -> None:
    """A candidate that no longer passes is not offered any longer."""
    stage = moved_on(STAGE.but(proposals=(pull(OURS),)), lambda data: data["gates"][0].update(min=0.999))
    (close,) = stage.plan.actions
    assert isinstance(close, CloseProposal)
    assert close.reason == "Obsolete"
    assert f"{escape(TOP1)} 0.9906 is below 0.999" in close.comment


def test_run_denied_closes_the_open_one() -> None:
    """A run that was put on ``deny`` is not offered any longer."""
    stage = settled()
    moved = moved_on(stage, lambda data: data["training"]["args"].update(epochs=9))
    offered = proposed(moved.spec, moved.world)
    deny = {"run": moved.spec.inputs_digest, "reason": "no"}
    denied = moved_on(moved.but(proposals=(pull(offered),)), lambda data: data["release"].update(deny=[deny]))
    (close,) = denied.plan.actions
    assert isinstance(close, CloseProposal)
    assert "deny" in close.comment


KEYS = [
    ({"repository": "other"}, "another repository"), ({"branch": "prod"}, "another branch"),
    ({"path": "b.yaml"}, "another file"), ({"key": ModelKey("retail", "shelf2")}, "another model"),
]  # fmt: skip


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for change, name in KEYS])
def test_key_depends_on_where_the_edit_goes(change: dict[str, Any]) -> None:
    """Two places never share a proposal."""
    source = replace(STAGE.world.source, **change)
    decided = plan(source.key, STAGE.spec, replace(STAGE.world, source=source), 0.0)
    assert first(decided.actions).proposal.key != OURS.key


def test_key_does_not_depend_on_version_time_or_wording() -> None:
    """The same content is the same proposal, whatever version it gets and whoever changed the file last."""
    source = replace(STAGE.world.source, last_version=41, changed=Commit("e" * 40, "Bob", 5, "x"), head="9" * 40)
    again = first(decide(STAGE.spec, replace(STAGE.world, source=source)).actions).proposal
    assert again.key == OURS.key
    assert again.title != OURS.title


def test_commit_message_carries_trailers() -> None:
    """Who reads history finds model, intent, run, weights and evidence in the trailers."""
    last = OURS.message.rstrip().rpartition("\n\n")[2]
    trailers = dict(line.split(": ", 1) for line in last.splitlines())
    assert trailers["Trunkline-Model"] == "retail/shelf"
    assert trailers["Trunkline-Intent"] == "promote"
    assert trailers["Trunkline-Run"] == STAGE.spec.inputs_digest
    assert trailers["Trunkline-Weights"] == digest("weights", STAGE.spec.inputs_digest)
    assert trailers["Trunkline-Key"] == OURS.key


def test_suspended_closes_and_opens_nothing() -> None:
    """A suspended model's proposals stay as they are, but the plan still says what it would do."""
    stage = candidate_ready(suspend=True)
    decided = stage.but(proposals=(pull(OTHER, number=1),)).plan
    assert decided.actions == ()
    assert {type(action) for action in decided.intended} == {Propose, CloseProposal}
