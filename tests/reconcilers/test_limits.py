"""Caps: how many proposals a repository takes at once and in an hour, whoever opens them. Rollbacks are exempt."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from reconcilers.apply import Applier
from reconcilers.limits import HOUR, UNSEEN, Allowance, Crowd, Limits
from reconcilers.world import Ports
from specs.errors import Transient
from specs.facts import PullRequest, PullState
from specs.status import ConditionType, Reason
from tests.support.builders import NOW, first
from tests.support.story import phases
from tests.support.world import World


def branch(name: str, intent: str = "promote") -> str:
    """Give a proposal's branch of another model."""
    return f"trunkline/{intent}/retail.{name}/{'a' * 12}"


def pull(number: int, *, ago: float = 0.0, state: PullState = PullState.OPEN, intent: str = "promote") -> PullRequest:
    """Give a proposal of another model, opened some seconds ago."""
    where = branch(f"other-{number}", intent)
    return PullRequest(number, state, where, "f" * 40, "main", "t", "b", opened=int(NOW - ago))


def crowd(limits: Limits, *pulls: PullRequest) -> Crowd:
    """Count."""
    return Allowance(limits).looked(pulls)


def test_open_ones_of_all_models_count_and_rollbacks_do_not() -> None:
    """Who closes or merges one makes room; a rollback takes none."""
    limits = Limits(max_open=2)
    two = (pull(1, ago=2 * HOUR), pull(2, ago=2 * HOUR))
    found = crowd(limits, *two).full(NOW)
    assert found == ("the repository has 2 open proposals, of at most 2; merge or close one", 0)
    assert crowd(limits, two[0], replace(two[1], state=PullState.MERGED)).full(NOW) is None
    assert crowd(limits, two[0], replace(two[1], branch=branch("x", "rollback"))).full(NOW) is None
    assert crowd(limits, two[0], replace(two[1], branch="feature")).full(NOW) is None


def test_an_hour_sees_so_many_and_the_pause_is_known() -> None:
    """Whatever became of them; the oldest of the last hour says when there is room again."""
    limits = Limits(max_per_hour=2)
    pulls = [pull(n, ago=ago, state=PullState.CLOSED) for n, ago in enumerate((HOUR + 5, 600, 60), 1)]
    found = crowd(limits, *pulls).full(NOW)
    assert found == ("the repository got 2 proposals within an hour, of at most 2", HOUR - 600)
    assert crowd(limits, *pulls).full(NOW + HOUR - 600) is None
    assert crowd(limits, *pulls[:2]).full(NOW) is None


def test_without_limits_there_is_always_room() -> None:
    """What is only imagined is not counted."""
    assert Crowd().full(NOW, 1000) is None


def test_many_workers_on_one_look_keep_to_the_limit() -> None:
    """They all saw room for two; two get it."""
    allowance = Allowance(Limits(max_open=3))
    allowance.looked([pull(1)])

    def one(number: int) -> bool:
        try:
            allowance.take("promote", branch(f"m{number}"), NOW)
        except Transient:
            return False
        return True

    with ThreadPoolExecutor(8) as workers:
        assert sum(workers.map(one, range(40))) == 2


def test_what_the_list_does_not_show_yet_still_counts() -> None:
    """A look that began before the opening, or a list that lags, makes no room; after a while nothing was opened."""
    allowance = Allowance(Limits(max_open=1))
    allowance.looked([])
    allowance.take("promote", branch("a"), NOW)
    allowance.looked([])
    with pytest.raises(Transient, match="has 1 open proposals"):
        allowance.take("promote", branch("b"), NOW + 1)
    allowance.take("promote", branch("a"), NOW + 1)  # the same one again, its answer was lost
    allowance.take("rollback", branch("b", "rollback"), NOW + 1)
    allowance.take("promote", branch("b"), NOW + 2 + UNSEEN)


def test_what_the_list_shows_is_not_counted_twice() -> None:
    """Once the forge shows it, the list is all there is."""
    allowance = Allowance(Limits(max_open=2))
    allowance.looked([])
    allowance.take("promote", pull(1).branch, NOW)
    allowance.looked([pull(1)])
    allowance.take("promote", branch("b"), NOW)
    with pytest.raises(Transient):
        allowance.take("promote", branch("c"), NOW)


@pytest.fixture
def world() -> World:
    """Give a model that is about to be proposed, in a repository with two open proposals of other models."""
    made = next(phase.before for phase in phases() if phase.name == "epochs raised").fork()
    made.limits = Limits(max_open=2)
    made.forge.pulls += [pull(1, ago=2 * HOUR), pull(2, ago=2 * HOUR)]
    return made


def proposed(world: World) -> tuple[str, str]:
    """Give reason and message about the proposal."""
    found = world.status.condition(ConditionType.PROPOSED)
    assert found is not None
    return found.reason, found.message


def test_model_waits_until_there_is_room_and_pushes_nothing(world: World) -> None:
    """The status says how many there are; when one is closed, the proposal is opened."""
    world.converge()
    assert proposed(world)[0] == Reason.PROPOSAL_LIMIT
    assert "has 2 open proposals" in world.status.summary
    assert world.status.condition(ConditionType.STALLED) is None
    assert world.branches() == []
    assert world.quiet()
    world.forge.shut(1)
    world.converge()
    assert proposed(world)[0] == Reason.PULL_REQUEST_OPEN
    assert world.forge.opened()[-1].branch in world.branches()


def test_hourly_limit_passes_with_time(world: World) -> None:
    """Nobody has to do anything about it."""
    world.limits = Limits(max_per_hour=2)
    world.forge.pulls = [pull(n, ago=0, state=PullState.MERGED) for n in (1, 2)]
    begun = world.now
    world.converge()
    assert proposed(world)[0] == Reason.PULL_REQUEST_OPEN
    assert world.now >= begun + HOUR - 600


def test_superseding_at_the_limit_makes_its_own_room(world: World) -> None:
    """A model never waits for its own older proposal: that is closed first."""
    world.limits = Limits(max_open=3)
    world.converge()
    assert len(world.forge.opened()) == 3
    world.change(r"epochs: \d+", "epochs: 8")
    world.converge()
    assert [p.state.value for p in world.forge.pulls] == ["open", "open", "closed", "open"]


def test_rollback_is_opened_whatever_the_limit() -> None:
    """What makes git say what serves does not wait in line."""
    made = next(phase.before for phase in phases() if phase.name == "v4 merged and cannot be loaded").fork()
    made.limits = Limits(max_open=1, max_per_hour=1)
    made.forge.pulls.append(replace(pull(1), number=len(made.forge.pulls) + 1))
    made.converge()
    assert "/rollback/" in made.forge.opened()[-1].branch


def test_refusal_when_it_comes_to_it_leaves_nothing_behind(world: World) -> None:
    """Two workers decided on the same look, and there was room for one: the other one's branch is not pushed."""
    world.limits = Limits()
    twin = world.fork()
    while not (plan := twin.one_pass().plan) or not any(type(a).__name__ == "Propose" for a in plan.actions):
        for name in twin.jobs.running():
            twin.jobs.finish(name)
    action = first(plan.actions)

    def refuse(_proposal: object) -> None:
        raise Transient("ProposalLimit", "full")

    log = len(world.wire.log)
    applier = Applier(Ports(world.store, world.git, world.forge, world.jobs, world.servers))
    (trouble,) = applier.apply(world.source(), (action,), refuse)
    assert trouble.error.reason == "ProposalLimit"
    assert len(world.wire.log) == log
