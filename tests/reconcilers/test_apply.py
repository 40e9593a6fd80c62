"""Carrying out: each action becomes its calls, in order, and one that fails does not stop the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconcilers.actions import CloseProposal, DeleteBranch, Propose, RollOut, StartJob, Withdraw
from reconcilers.apply import Applier
from reconcilers.world import Ports
from specs.errors import Stalled, Transient
from specs.facts import PullState
from specs.manifest import parse
from specs.serving_facts import ServingTarget
from tests.support.builders import KEY, NAME, digest, first
from tests.support.fake_git import TRUNK
from tests.support.fakes import FakeStore
from tests.support.wire import Moment
from tests.support.world import World


@pytest.fixture
def world() -> World:
    """Give a model whose candidate is complete and not proposed yet."""
    made = World()
    made.change(r"epochs: \d+", "epochs: 5")
    for _ in range(4):
        made.one_pass()
        for name in made.jobs.running():
            made.jobs.finish(name)
        if len(made.store.records) > 6:
            break
    made.wire.log.clear()
    return made


def applier(world: World) -> Applier:
    """Give the one that acts on a world."""
    return Applier(Ports(world.store, world.git, world.forge, world.jobs, world.servers))


def asked(world: World) -> Propose:
    """Give what the plan asks for, without doing it."""
    twin = world.fork()
    plan = twin.one_pass().plan
    assert plan is not None
    return first(plan.actions)


def test_propose_edits_commits_pushes_and_asks(world: World) -> None:
    """A proposal is one commit on the base that was read: the edited manifest, evidence and pictures."""
    action = asked(world)
    assert applier(world).apply(world.source(), (action,)) == ()
    assert [effect.split()[0] for effect in world.wire.log] == ["commit", "push", "open"]
    (pull,) = world.forge.opened()
    commit = world.git.commits[pull.head]
    assert commit.parents == (world.git.heads[TRUNK],)
    assert commit.message == action.proposal.message
    folder = "evidence/retail.shelf/v1/"
    assert set(commit.tree) == {"models/shelf.yaml"} | {
        folder + name
        for name in ("evidence.json", "report.md", "data-train.jpg", "golden-confusion.png", "training-results.png")
    }
    before, after = (text.decode() for text in (world.text.encode(), commit.tree["models/shelf.yaml"]))
    kept = after.partition("\n  release:")[0]
    assert before.rstrip() == kept.rstrip()
    assert parse(after, "", KEY).model.spec.release is not None


def test_propose_twice_is_one_commit_and_one_pull_request(world: World) -> None:
    """The same proposal on the same base is the same commit, so a second try finds all done."""
    action, source = asked(world), world.source()
    applier(world).apply(source, (action,))
    heads, pulls = dict(world.git.heads), list(world.forge.pulls)
    assert applier(world).apply(source, (action,)) == ()
    assert (world.git.heads, world.forge.pulls) == (heads, pulls)


def test_update_moves_the_branch_and_words_it_anew(world: World) -> None:
    """With a number the pull request is updated in place."""
    action = asked(world)
    applier(world).apply(world.source(), (action,))
    (pull,) = world.forge.opened()
    newer = replace(action, number=1, expected=pull.head, proposal=replace(action.proposal, title="t", message="m\n"))
    assert applier(world).apply(world.source(), (newer,)) == ()
    (again,) = world.forge.opened()
    assert (again.number, again.title) == (1, "t")
    assert world.git.commits[world.git.heads[again.branch]].message == "m\n"


def test_branch_that_moved_is_not_overwritten(world: World) -> None:
    """Somebody who was quicker is not undone: the push is refused, and nothing is asked."""
    action = asked(world)
    world.git.heads[action.proposal.branch] = world.git.heads[TRUNK]
    (trouble,) = applier(world).apply(world.source(), (action,))
    assert isinstance(trouble.error, Transient)
    assert trouble.error.reason == "BranchMoved"
    assert world.forge.pulls == []


def test_edit_without_proof_has_no_effect(world: World) -> None:
    """An edit outside the fields that we may touch is refused before anything is pushed."""
    action = asked(world)
    wrong = replace(action, proposal=replace(action.proposal, field="spec.suspend", value=True))
    (trouble,) = applier(world).apply(world.source(), (wrong,))
    assert isinstance(trouble.error, Stalled)
    assert trouble.error.reason == "UnsafeEdit"
    assert world.wire.log == []


def test_edit_that_makes_no_valid_model_has_no_effect(world: World) -> None:
    """What would be written is read again before anybody is asked to merge it."""
    action = asked(world)
    wrong = replace(action, proposal=replace(action.proposal, value={"version": 1, "run": "latest"}))
    (trouble,) = applier(world).apply(world.source(), (wrong,))
    assert trouble.error.reason == "UnsafeEdit"
    assert "not valid after the edit" in trouble.error.message
    assert world.wire.log == []


def test_picture_that_is_gone_has_no_effect(world: World) -> None:
    """Evidence is complete or there is none."""

    class Empty(FakeStore):
        def read_blob(self, digest: str) -> bytes:
            raise Stalled("BlobMissing", digest)

    action = asked(world)
    world.store = Empty()
    (trouble,) = applier(world).apply(world.source(), (action,))
    assert trouble.error.reason == "BlobMissing"
    assert world.wire.log == []


def test_close_comments_then_deletes_the_branch(world: World) -> None:
    """A proposal of ours that is not wanted is closed with its reason, and its branch goes."""
    action = asked(world)
    applier(world).apply(world.source(), (action,))
    (pull,) = world.forge.opened()
    mark = "<!-- trunkline:closed reason=Obsolete -->"
    close = CloseProposal(1, pull.branch, pull.head, "Obsolete", "No longer wanted.", mark)
    assert applier(world).apply(world.source(), (close, close)) == ()
    assert [(p.state, p.comments) for p in world.forge.pulls] == [(PullState.CLOSED, ("No longer wanted.",))]
    assert mark in world.forge.pulls[0].body
    assert pull.branch not in world.git.heads
    gone = replace(close, branch_head=None)
    assert applier(world).apply(world.source(), (gone,)) == ()


def test_simple_actions_are_one_call_each(world: World) -> None:
    """Jobs, rollouts, withdrawals and leftovers go straight to their port."""
    target = ServingTarget(NAME, 1, digest("r"), digest("w"), digest("f"))
    branch = "trunkline/promote/retail.shelf/aaaaaaaaaaaa"
    world.git.heads[branch] = head = world.git.heads[TRUNK]
    order = next(iter(world.jobs.orders.values()))
    actions = (
        StartJob(order), RollOut(target), Withdraw(NAME), DeleteBranch(branch, head),
    )  # fmt: skip
    assert applier(world).apply(world.source(), actions) == ()
    assert [effect.split()[0] for effect in world.wire.log] == ["start", "roll", "withdraw", "delete"]
    assert list(world.git.heads) == [TRUNK]
    assert world.servers.states == {}


def test_one_failure_leaves_the_others_their_turn(world: World) -> None:
    """Trouble is collected with the action it belongs to; bugs are not."""
    target = ServingTarget(NAME, 1, digest("r"), digest("w"), digest("f"))

    def no_answer(_number: int, moment: Moment, name: str) -> None:
        if moment == "before" and name.startswith("roll"):
            raise Transient("ServerUnavailable", "no answer")

    world.wire.script = no_answer
    action = asked(world)
    (trouble,) = applier(world).apply(world.source(), (RollOut(target), action))
    assert trouble.action == RollOut(target)
    assert len(world.forge.opened()) == 1
