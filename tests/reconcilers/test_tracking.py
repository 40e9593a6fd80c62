"""Mirrors on tracking servers: late or gone, they change nothing but one condition, in words that stay the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.settled import at_rest
from reconcilers.actions import Register, StartJob
from reconcilers.context import Step
from reconcilers.forecast import forecast
from reconcilers.loop import Reconciler, Result
from reconcilers.summary import summarize
from reconcilers.tracking import LAST_BACKOFF, registration
from reconcilers.world import Ports
from specs.facts import Arrival, JobPhase, JobState
from specs.placement import Placement
from specs.records import RunRecord
from specs.registry_facts import Registered, Registration
from specs.status import ConditionType, ModelStatus, Reason
from specs.workorders import TrackOrder, TrainOrder
from tests.support.builders import (
    KEY,
    MLFLOW,
    NOW,
    Lab,
    Stage,
    candidate_ready,
    context,
    mirrored,
    moved_on,
    observed,
    settled,
    spec,
)  # fmt: skip
from tests.support.world import TEXT, World

TRACKED = ConditionType.TRACKED


def step(stage: Stage) -> Step:
    """Give what the plan says about mirrors."""
    found = stage.plan.step(TRACKED)
    assert found is not None
    return found


def orders(stage: Stage) -> list[TrackOrder]:
    """Give the mirrorings that the plan starts."""
    jobs = [action.order for action in stage.plan.actions if isinstance(action, StartJob)]
    return [order for order in jobs if isinstance(order, TrackOrder)]


def status(stage: Stage) -> ModelStatus:
    """Give the status after a pass."""
    return summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "")


def test_without_the_field_there_is_nothing_to_say() -> None:
    """A spec that asks for no mirror has no such condition, and none before there is anything to mirror."""
    assert settled().plan.step(TRACKED) is None
    assert settled(tracking={"tensorboard": True}).plan.step(TRACKED) is None
    assert Stage(spec(tracking=MLFLOW), observed(), Lab()).plan.step(TRACKED) is None


def test_one_job_brings_everything_once_the_candidate_is_measured() -> None:
    """While numbers on golden are to come a run is not mirrored; then with them, and with where its data came from."""
    stage = candidate_ready(tracking=MLFLOW)
    assert orders(stage.but(evaluations={})) == []
    (order,) = orders(stage)
    assert stage.spec.data.golden is not None
    assert order.golden == stage.spec.data.golden.digest
    assert (order.experiment, order.source) == ("retail.shelf", stage.spec.data.train.plain())


def test_numbers_that_will_never_come_are_not_waited_for() -> None:
    """A run that failed, and one whose measuring is lost, are mirrored as they are."""
    stage = candidate_ready(tracking=MLFLOW)
    (lost,) = {a.order.job for a in stage.but(evaluations={}).plan.actions if isinstance(a, StartJob)}
    ended = JobState(lost, JobPhase.ENDED, attempts=3, exit_code=1)
    (order,) = orders(stage.but(evaluations={}, jobs={lost: ended}))
    assert order.golden is None
    given = spec(tracking=MLFLOW)
    failed = RunRecord(inputs_digest=given.inputs_digest, inputs={}, status="Failed", model="m", commit="c")
    assert len(orders(Stage(given, observed(runs={given.inputs_digest: failed}), Lab()))) == 1


def test_the_release_is_mirrored_too() -> None:
    """A model that is tracked only now has its released run mirrored beside the candidate's."""
    stage = moved_on(settled(tracking=MLFLOW), lambda data: data["training"]["args"].update(epochs=9))
    release = stage.spec.release
    assert release is not None
    assert {order.inputs_digest for order in orders(stage)} == {stage.spec.inputs_digest, release.run}


@pytest.mark.parametrize(
    "registered",
    [None, Registered(reached=False), Registered(), Registered(owner=str(KEY), version="3", champion="9", ours="3")],
    ids=["unknown", "down", "nothing there", "moved"],
)
def test_a_mirror_is_never_in_the_way(registered: Registered | None) -> None:
    """Whatever a tracking server does, a model that serves its release is ready: never reconciling, never stalled."""
    for stage in (settled(tracking=MLFLOW), mirrored()):
        found = status(stage.but(registered=registered, asks_registry=True))
        assert [c.type for c in found.conditions if c.status == "True" and c.type in ("Reconciling", "Stalled")] == []
        ready = found.condition(ConditionType.READY)
        assert ready is not None
        assert (ready.status, ready.reason) == ("True", Reason.AS_DESIRED)


def _ended(job: str, attempts: int, **changes: Any) -> JobState:
    return replace(JobState(job, JobPhase.ENDED, attempts, exit_code=75, ended=NOW), **changes)


def test_a_server_that_is_down_is_tried_for_ever_and_quietly() -> None:
    """The hundredth attempt follows the others, half an hour apart; the status says the same during and between."""
    stage = settled(tracking=MLFLOW)
    (order,) = orders(stage)
    said = set()
    for attempts in (2, 3, 4, 100, 10_000):
        for state in (_ended(order.job, attempts), JobState(order.job, JobPhase.RUNNING, attempts)):
            waiting = stage.but(jobs={order.job: state})
            assert orders(waiting) == []
            assert 0 < step(waiting).after <= LAST_BACKOFF
            said.add(status(waiting).model_dump_json())
        over = stage.but(jobs={order.job: _ended(order.job, attempts, ended=NOW - LAST_BACKOFF - 1)})
        assert orders(over) == [order]
        said.add(status(over).model_dump_json())
    assert len(said) == 1, said
    assert status(over).jobs == []
    assert f"trunkline logs {order.job}" in step(over).message


def test_whatever_code_a_mirroring_ends_with_it_is_not_lost() -> None:
    """Not even the code that says that it can never work: a server may be mended."""
    stage = settled(tracking=MLFLOW)
    (order,) = orders(stage)
    over = stage.but(jobs={order.job: _ended(order.job, 3, exit_code=10, ended=NOW - 2 * LAST_BACKOFF)})
    assert orders(over) == [order]


def test_a_model_whose_mirror_is_late_is_looked_at_again() -> None:
    """The host must come back by itself, so the model is not at rest; with everything mirrored it is."""
    for stage, rests in ((mirrored(), True), (mirrored(old=True), False), (mirrored(reached=False), False)):
        found = stage.plan
        assert at_rest(Result(status(stage), bool(found.actions), after=found.after)) is rests
    stage = settled(tracking=MLFLOW)
    (order,) = orders(stage)
    waiting = stage.but(jobs={order.job: _ended(order.job, 2)}).plan
    assert waiting.after > 0


@pytest.mark.parametrize(
    ("changes", "registers", "reason"),
    [
        ({"owner": None, "version": "", "champion": "", "ours": ""}, True, Reason.TRACKED),
        ({"version": "", "champion": "2", "ours": "2"}, True, Reason.TRACKED),
        ({"champion": "2", "ours": "2"}, True, Reason.TRACKED),
        ({"ours": "2"}, True, Reason.TRACKED),
        ({"champion": "2"}, True, Reason.ALIAS_MOVED),
        ({"champion": ""}, True, Reason.ALIAS_MOVED),
        ({"champion": "2", "ours": "1"}, True, Reason.ALIAS_MOVED),
        ({"champion": "2", "reached": False}, False, Reason.TRACKED),
        ({"owner": "", "version": "", "champion": "8", "ours": ""}, False, Reason.NAME_TAKEN),
        ({"version": "", "source": "", "champion": "", "ours": ""}, False, Reason.TRACKED),
    ],
    ids=["not there", "release not there", "alias behind", "killed after setting the alias", "alias moved",
         "alias removed", "moved while we were to move it", "not answering", "not ours", "run not there"],
)  # fmt: skip
def test_the_registry_follows_git(changes: dict[str, Any], registers: bool, reason: Reason) -> None:  # noqa: FBT001
    """What the registry lacks is registered; an alias is put back, and told only where it was not our own doing."""
    stage = mirrored(**changes)
    assert step(stage).reason is reason
    found = [action for action in stage.plan.actions if isinstance(action, Register)]
    wanted = registration(context(stage.spec, stage.world))
    assert [action.registration for action in found] == ([wanted] if registers else [])


def test_a_registration_says_where_the_release_came_from() -> None:
    """Name, release, digests, commit and pull request, for whoever finds the version in MLflow."""
    stage = mirrored()
    origin = replace(stage.world.source, arrival=Arrival(asked=True, pull=7, url="https://git.example.com/7"))
    found = registration(context(stage.spec, stage.but(source=origin).world))
    release = stage.spec.release
    assert found is not None
    assert release is not None
    assert (found.name, found.model, found.release) == ("retail.shelf", "retail/shelf", 1)
    assert (found.run, found.weights) == (release.run, release.weights)
    assert dict(found.tags)["trunkline.pullRequest"] == "https://git.example.com/7"
    assert dict(found.tags)["trunkline.commit"] == origin.changed.sha


def test_nothing_is_registered_before_a_release_is_merged_or_while_suspended() -> None:
    """A candidate is in no registry; and a suspended model touches nothing."""
    stage = candidate_ready(tracking=MLFLOW)
    assert registration(context(stage.spec, stage.world)) is None
    suspended = moved_on(mirrored(), lambda data: data.update(suspend=True), work=False)
    assert suspended.but(asks_registry=True, registered=Registered()).plan.actions == ()


def test_what_merging_does_is_told_without_mirrors() -> None:
    """A forecast speaks of what changes: not of mirrors, which are no reason to wait for numbers either."""
    stage = settled(tracking=MLFLOW)
    assert forecast(KEY, stage.spec, stage.world, NOW, again=True).sentence == "nothing changes"


def test_mirroring_asks_for_no_accelerator() -> None:
    """It copies numbers and files: no resources of the training; its queue, where a cluster holds back all without."""
    stage = settled(tracking=MLFLOW, training__resources={"limits": {"nvidia.com/gpu": "1"}}, training__queueName="q")
    (start,) = [a for a in stage.plan.actions if isinstance(a, StartJob) and isinstance(a.order, TrackOrder)]
    assert start.placement == Placement(queue="q")


class Registry:
    """A registry that does what it is told at once."""

    def __init__(self) -> None:
        self.told: list[Registration] = []
        self.found: Registered | None = Registered(source="1a2b")

    def state(self, wanted: Registration) -> Registered | None:
        return self.found

    def register(self, wanted: Registration) -> None:
        self.told.append(wanted)
        self.found = Registered(owner=wanted.model, version="1", source="1a2b", champion="1", ours="1")


class Tracked(World):
    """The world with a tracking server."""

    def __init__(self) -> None:
        super().__init__(TEXT.replace("epochs: 2", "epochs: 8") + "  tracking: {mlflow: {trackingUri: 'http://m:5000'}}\n")
        self.registry = Registry()

    def reconciler(self) -> Reconciler:
        ports = Ports(self.store, self.git, self.forge, self.jobs, self.servers, registry=self.registry)
        return Reconciler(ports, self.clock, limits=self.limits)


def test_the_loop_mirrors_what_is_trained_and_registers_what_is_merged() -> None:
    """Trained and mirrored, then proposed; registered after the merge and not before; then quiet."""
    world = Tracked()
    world.converge()
    assert [key for key in world.store.records if key.startswith("tracks/")]
    assert world.registry.told == []
    assert world.merge()
    world.converge()
    (only,) = world.registry.told
    assert only.release == 1
    assert world.quiet()
    assert len(world.registry.told) == 1


def test_the_loop_goes_on_while_mirroring_fails() -> None:
    """A model is trained, proposed, merged and served although no attempt at its mirror ever went well."""
    world = Tracked()
    for _ in range(40):
        world.one_pass()
        for name in world.jobs.running():
            world.jobs.finish(name, "killed" if name.startswith("track-") else "ok")
        world.merge()
    assert world.serving[0] == 1
    assert not [key for key in world.store.records if key.startswith("tracks/")]
    assert any(name.startswith("track-") for name in world.jobs.states)
    assert world.status.condition(ConditionType.RECONCILING) is None


def test_where_mirrors_go_does_not_decide_what_is_trained() -> None:
    """The tracking server is told in the order, but is no input: another one trains nothing again."""
    one, two = spec(tracking=MLFLOW), spec()
    assert one.inputs_digest == two.inputs_digest
    (train,) = [a.order for a in Stage(one, observed(), Lab()).plan.actions if isinstance(a, StartJob)]
    assert isinstance(train, TrainOrder)
    assert train.tracking is not None


@pytest.mark.parametrize("uri", ["http://user:secret@mlflow:5000", "ftp://mlflow", "http://mlflow?token=x", "mlflow"])
def test_an_address_with_credentials_is_no_address(uri: str) -> None:
    """Secrets in git are no secrets; and what is not HTTP is not MLflow."""
    with pytest.raises(ValueError, match="trackingUri"):
        spec(tracking={"mlflow": {"trackingUri": uri}})
