"""Serving: what is pinned serves, the last good one until then, and what failed is undone by a person's merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose, RollOut, Withdraw
from reconcilers.context import Step, Verdict
from specs.facts import PullState
from specs.placement import Placement, Shape
from specs.records import RunRecord
from specs.release import Release
from specs.serving import ServerOptions
from specs.serving_facts import ServingState
from specs.status import ConditionType, Reason
from tests.support.builders import NAME, Stage, digest, first, moved_on, proposed, pull, released, serving, settled


def second() -> Stage:
    """Give a model whose v2 was just merged while v1 serves."""
    one = settled()
    two = moved_on(one, lambda data: data["training"]["args"].update(epochs=9))
    value = proposed(two.spec, two.world).value
    assert isinstance(value, dict)
    return replace(two, spec=released(two.spec, value), world=replace(two.world, serving=one.world.serving))


V2 = second()
assert V2.spec.release is not None
FILE = V2.spec.release.exports["onnx"]
V1 = V2.world.serving
assert V1 is not None
FAILED = replace(V1, failed_file=FILE, failure="the answer of the self-test differs")


def step_of(stage: Stage) -> Step:
    """Give what the plan says about serving."""
    step = stage.plan.step(ConditionType.SERVING)
    assert step is not None
    return step


def test_release_not_serving_is_rolled_out_first() -> None:
    """A pinned release that does not serve is asked for before anything else, and the old one is said to answer."""
    stage = moved_on(V2, lambda data: data["training"]["args"].update(epochs=5), work=False)
    step = step_of(stage)
    assert (step.verdict, step.reason) == (Verdict.WAIT, Reason.ROLLING_OUT)
    assert "v1 answers until then" in step.message
    rollout = stage.plan.actions[0]
    assert isinstance(rollout, RollOut)
    assert (rollout.target.name, rollout.target.version, rollout.target.file) == (NAME, 2, FILE)
    assert [type(action).__name__ for action in stage.plan.actions] == ["RollOut", "StartJob"]


def test_what_the_device_makes_is_part_of_what_serves() -> None:
    """Another format or precision of the same released file is asked for; that one failed says nothing of the other."""
    exports = [{"name": "onnx", "format": "openvino", "buildOn": "Device"}]
    stage = settled(exports=exports)
    state = stage.world.serving
    assert state is not None
    assert stage.but(serving=replace(state, build="openvino")).plan.actions == ()
    for other in ("", "engine", "openvino:fp16"):
        (action,) = stage.but(serving=replace(state, build=other)).plan.actions
        assert isinstance(action, RollOut)
        assert action.target.build == "openvino"
    failed = replace(state, ready=False, failed_file=state.file, failure="it cannot be made")
    asked = {build: stage.but(serving=replace(failed, failed_build=build)) for build in ("engine", "openvino")}
    assert [step_of(each).reason for each in asked.values()] == [Reason.ROLLING_OUT, Reason.ROLLOUT_FAILED]


STATES = [
    (None, Reason.ROLLING_OUT, 1, "nothing serves"),
    (serving(V2.spec), Reason.SERVING, 0, "the release serves"),
    (replace(serving(V2.spec), version=1), Reason.ROLLING_OUT, 1, "the right file under another version"),
    (replace(serving(V2.spec), ready=False), Reason.ROLLING_OUT, 1, "not ready"),
    (replace(serving(V2.spec), file=digest("else")), Reason.ROLLING_OUT, 1, "something else serves"),
    (replace(V1, failed_file=digest("else"), failure="x"), Reason.ROLLING_OUT, 1, "another file failed before"),
    (replace(serving(V2.spec), failed_file=FILE), Reason.SERVING, 0, "it failed once and serves now"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "reason", "actions"), [pytest.param(*case[:3], id=case[3]) for case in STATES]
)
def test_serving_by_state(state: ServingState | None, reason: Reason, actions: int) -> None:
    """What serves is compared with what is pinned, file and version, and nothing else counts."""
    stage = V2.but(serving=state)
    assert step_of(stage).reason is reason
    assert len([action for action in stage.plan.actions if isinstance(action, RollOut)]) == actions


def test_nothing_released_serves_nothing() -> None:
    """Before the first release nothing is asked for; where the release was taken out of git, serving ends."""
    bare = replace(V2, spec=released(V2.spec, None))
    assert step_of(bare.but(serving=None)).reason is Reason.NOT_RELEASED
    assert step_of(bare.but(serving=None)).actions == ()
    assert step_of(bare).actions == (Withdraw(NAME),)


def test_serving_section_removed_withdraws() -> None:
    """Without ``spec.serving`` nothing serves; asking once is enough."""
    stage = moved_on(V2, lambda data: data.pop("serving"))
    assert (step_of(stage).verdict, step_of(stage).reason) == (Verdict.REST, Reason.NO_SERVING)
    assert step_of(stage).actions == (Withdraw(NAME),)
    assert step_of(stage.but(serving=None)).actions == ()


def _edit(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["release"].update(changes)


HAND_EDITED = [
    (_edit(run=digest("x")), "spec.release.run sha256:", "unknown run"),
    (_edit(weights=digest("x")), "are not what run", "weights of another run"),
    (_edit(exports={"ncnn": FILE}), "has no onnx, which spec.serving.export names; it has ncnn", "export missing"),
    (_edit(exports={"onnx": digest("x")}), "is not in the store", "export that does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), [pytest.param(*case[:2], id=case[2]) for case in HAND_EDITED])
def test_release_that_cannot_be_is_refused_and_the_last_good_one_serves(
    change: Callable[[dict[str, Any]], None], text: str
) -> None:
    """A hand-edited release that does not fit together is never asked for; what serves goes on serving."""
    stage = moved_on(V2, change)
    step = step_of(stage)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.RELEASE_UNKNOWN)
    assert text in step.message
    assert not [action for action in stage.plan.actions if isinstance(action, (RollOut, Withdraw))]


def test_export_of_other_weights_is_refused() -> None:
    """An export that was made from the weights of another run is not served as this one."""
    previous = V2.spec.release.previous if V2.spec.release else None
    assert previous is not None
    step = step_of(moved_on(V2, _edit(exports=dict(previous.exports))))
    assert step.reason is Reason.RELEASE_UNKNOWN
    assert "was not made from weights" in step.message


def test_failed_load_keeps_the_last_good_one_and_proposes_to_roll_back() -> None:
    """A release that failed is not tried again; git is asked to say what serves, the run denied, promotions on hold."""
    stage = V2.but(serving=FAILED)
    step = step_of(stage)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.FALLBACK)
    assert step.message == "v2 could not be loaded: the answer of the self-test differs. v1 answers."
    (action,) = stage.plan.actions
    assert isinstance(action, Propose)
    release = Release.model_validate(action.proposal.value, by_alias=True)
    old = V2.spec.release
    assert old is not None
    assert old.previous is not None
    assert action.proposal.intent == "rollback"
    assert (release.version, release.content()) == (3, old.previous.content())
    assert release.previous is not None
    assert (release.previous.version, release.previous.content()) == (2, old.content())
    assert [(denied.run, denied.at) for denied in release.deny or ()] == [(old.run, "v2")]
    assert release.hold is not None
    assert "self-test differs" in action.proposal.body


def test_fallback_is_asked_for_where_nothing_answers() -> None:
    """With nothing ready the previous release is rolled out at once, before anybody merges anything."""
    stage = V2.but(serving=replace(FAILED, ready=False, version=None, file=None))
    rollout, propose = stage.plan.actions
    assert isinstance(rollout, RollOut)
    assert rollout.target.version == 1
    assert isinstance(propose, Propose)
    assert "v1 is asked for" in step_of(stage).message


def test_open_rollback_is_the_only_question() -> None:
    """While the rollback waits, no promotion is opened beside it; it is not written anew on every pass."""
    stage = V2.but(serving=FAILED)
    asked = pull(first(stage.plan.actions).proposal)
    fixed = moved_on(stage, lambda data: data["training"]["args"].update(epochs=10)).but(proposals=(asked,))
    assert fixed.plan.actions == ()
    step = fixed.plan.step(ConditionType.PROPOSED)
    assert step is not None
    assert (step.reason, "#1" in step.message) == (Reason.PULL_REQUEST_OPEN, True)


def test_rejected_rollback_leaves_room_for_a_fix() -> None:
    """A person who closes the rollback wants another way out: the next candidate may be proposed."""
    stage = V2.but(serving=FAILED)
    refused = pull(first(stage.plan.actions).proposal, PullState.CLOSED)
    again = stage.but(proposals=(refused,))
    assert again.plan.actions == ()
    assert again.plan.step(ConditionType.SERVING).reason is Reason.FALLBACK  # type: ignore[union-attr]
    fixed = moved_on(again, lambda data: data["training"]["args"].update(epochs=10))
    assert first(fixed.plan.actions).proposal.intent == "promote"


def test_rollback_stays_open_while_a_restarted_server_tries_again() -> None:
    """A server that comes back has forgotten the failure; the question to people is not withdrawn and asked anew."""
    asked = pull(first(V2.but(serving=FAILED).plan.actions).proposal)
    for state in (None, V1):
        stage = V2.but(serving=state, proposals=(asked,))
        assert [type(action) for action in stage.plan.actions] == [RollOut]


def test_rollback_is_closed_once_the_release_serves_or_is_another_one() -> None:
    """A rollback that nothing asks for any more is closed by us."""
    asked = pull(first(V2.but(serving=FAILED).plan.actions).proposal)
    served = V2.but(serving=serving(V2.spec), proposals=(asked,))
    gone = replace(served, spec=released(V2.spec, None))
    one = settled()
    other = served.but(serving=None)
    other = replace(other, spec=one.spec)
    for stage in (served, gone, other):
        closes = [action for action in stage.plan.actions if isinstance(action, CloseProposal)]
        assert [(close.number, close.reason) for close in closes] == [(1, "Obsolete")]


def test_neither_release_nor_previous_loads() -> None:
    """Where the fallback fails too, both are left alone and a person is told; nothing is tried in turns for ever."""
    stage = V2.but(serving=replace(FAILED, ready=False))
    asked = pull(first(stage.plan.actions).proposal)
    assert V2.spec.release is not None
    assert V2.spec.release.previous is not None
    old = V2.spec.release.previous.exports["onnx"]
    both = V2.but(serving=ServingState(NAME, False, failed_file=old, failure="no memory"), proposals=(asked,))
    step = step_of(both)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.ROLLOUT_FAILED)
    assert step.message == "Neither v2 nor v1 can be loaded: no memory."
    assert both.plan.actions == ()


def _previous(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["release"].update(previous=value)


_PIN = V2.spec.release.previous.model_dump(mode="json", by_alias=True) if V2.spec.release.previous else {}
NO_FALLBACK = [
    (_previous(None), "There is no previous release", "none"),
    (_previous({**_PIN, "run": digest("x")}), "There is nothing to fall back to: spec.release.run", "unknown run"),
    (_previous({**_PIN, "exports": {"ncnn": digest("x")}}), "has no onnx", "without the served export"),
    (_previous({**_PIN, "exports": {"onnx": FILE}}), "has the same bytes", "the same file"),
    (_edit(deny=[{"run": _PIN.get("run"), "reason": "x"}]), "is on spec.release.deny", "denied"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), [pytest.param(*case[:2], id=case[2]) for case in NO_FALLBACK])
def test_nothing_to_fall_back_to_stops(change: Callable[[dict[str, Any]], None], text: str) -> None:
    """Where the previous release is no way out, none is asked for or proposed, and the reason is told."""
    stage = moved_on(V2.but(serving=FAILED), change)
    step = step_of(stage)
    assert (step.verdict, step.reason) == (Verdict.STOP, Reason.ROLLOUT_FAILED)
    assert text in step.message
    assert not [action for action in stage.plan.actions if isinstance(action, (RollOut, Propose))]


def test_rollback_may_be_asked_again_after_the_same_release_was_tried_again() -> None:
    """Rolled back, promoted again after a mend, failed again: that is a new question, with the same answer."""
    stage = V2.but(serving=FAILED)
    rollback = first(stage.plan.actions).proposal
    promote = replace(rollback, intent="promote", branch=rollback.branch.replace("rollback", "promote"))
    merged = pull(rollback, PullState.MERGED, 1), pull(promote, PullState.MERGED, 2)
    assert first(stage.but(proposals=merged).plan.actions).proposal.key == rollback.key
    undone = stage.but(proposals=(pull(promote, PullState.MERGED, 1), pull(rollback, PullState.MERGED, 2)))
    assert undone.plan.actions == ()


def test_failed_run_cannot_be_served() -> None:
    """A release that pins a run that failed is one that does not fit together."""
    assert V2.spec.release is not None
    run = V2.world.runs[V2.spec.release.run]
    failed = RunRecord(**{**run.model_dump(), "status": "Failed", "weights": None})
    stage = V2.but(runs={**V2.world.runs, run.inputs_digest: failed})
    assert step_of(stage).reason is Reason.RELEASE_UNKNOWN


def shape_of(stage: Stage) -> Shape:
    """Give the shape that a spec asks for."""
    serving = stage.spec.serving
    assert serving is not None
    placement = Placement.of(serving.resources, serving.node_selector)
    return Shape(1 if serving.replicas is None else serving.replicas, placement, serving.autoscaling)


def test_batching_travels_with_the_release() -> None:
    """Other rules for batches are asked for with the same release, and the server is told them as options."""
    stage = moved_on(V2, lambda data: data["serving"].update(batching={"maxRows": 8, "latencyBudget": "50ms"}))
    stage = stage.but(serving=replace(serving(stage.spec), options=ServerOptions().digest))
    (rollout,) = rollouts(stage)
    assert rollout.target.options.plain()["batching"] == {"maxRows": 8, "latencyBudget": "50ms"}
    told = replace(serving(stage.spec), options=rollout.target.options.digest)
    assert rollouts(stage.but(serving=told)) == []


def in_cluster(stage: Stage, **changes: Any) -> ServingState:
    """Give a cluster that has rolled out the stage's release, in its shape."""
    made = serving(stage.spec, shape=shape_of(stage).digest, replicas=(1, 1))
    return replace(made, **({"asked": made.file, "asked_version": made.version} | changes))


def rollouts(stage: Stage) -> list[RollOut]:
    """Give what the plan rolls out."""
    return [action for action in stage.plan.actions if isinstance(action, RollOut)]


SHAPES = [
    (lambda data: data["serving"].update(replicas=3), "replicas"),
    (lambda data: data["serving"].update(nodeSelector={"gpu": "l4"}), "nodes"),
    (lambda data: data["serving"].update(resources={"limits": {"memory": "1Gi"}}), "resources"),
    (lambda data: data["serving"].update(
        autoscaling={"minReplicas": 1, "maxReplicas": 4}, resources={"requests": {"cpu": "1"}}), "autoscaling"),
]


@pytest.mark.parametrize("change", [pytest.param(case[0], id=case[1]) for case in SHAPES])
def test_another_shape_is_rolled_out_where_the_host_knows_shapes(change: Callable[[dict[str, Any]], object]) -> None:
    """The same release in another shape is asked for in a cluster; an agent, which has no shapes, has nothing to do."""
    stage = moved_on(V2.but(serving=in_cluster(V2)), change)
    (rollout,) = rollouts(stage)
    assert rollout.target.shape == shape_of(stage)
    assert (rollout.target.version, rollout.target.file) == (2, FILE)
    assert step_of(stage).reason is Reason.ROLLING_OUT
    assert rollouts(stage.but(serving=serving(stage.spec))) == []
    settled_there = stage.but(serving=in_cluster(stage))
    assert (rollouts(settled_there), step_of(settled_there).reason) == ([], Reason.SERVING)


def test_replicas_without_a_number_are_one() -> None:
    """A spec without replicas and one that says 1 ask for the same."""
    stage = V2.but(serving=in_cluster(V2))
    assert rollouts(moved_on(stage, lambda data: data["serving"].update(replicas=1))) == []


UNDER_WAY = [
    ({}, 0, "asked for already"),
    ({"asked_version": 1}, 1, "the same file as another version"),
    ({"asked": digest("else")}, 1, "another file"),
    ({"asked": None, "asked_version": None}, 1, "a host that does not go on by itself"),
    ({"shape": digest("else")}, 1, "another shape"),
    ({"shape": ""}, 1, "bent by hand"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "count"), [pytest.param(*case[:2], id=case[2]) for case in UNDER_WAY])
def test_a_rollout_under_way_is_not_asked_for_again(changes: dict[str, Any], count: int) -> None:
    """Where the cluster works towards exactly this already, waiting is all there is to do."""
    under_way = {"ready": True, "version": 1, "file": digest("v1"), **changes}
    stage = V2.but(serving=in_cluster(V2, **under_way))
    assert len(rollouts(stage)) == count
    step = step_of(stage)
    assert (step.verdict, step.reason) == (Verdict.WAIT, Reason.ROLLING_OUT)
    assert step.message == "v2 is being loaded; v1 answers until then"


def test_what_hinders_a_rollout_is_told() -> None:
    """Words of the cluster that are no verdict on the file are passed on, and nothing is fallen back to."""
    words = "no node takes its pod: 0/3 nodes are available"
    stage = V2.but(serving=in_cluster(V2, ready=False, version=None, file=None, failure=words))
    step = step_of(stage)
    assert (step.verdict, step.message) == (Verdict.WAIT, f"v2 is being loaded; {words}")
    assert stage.plan.actions == ()


@pytest.mark.parametrize(
    ("replicas", "said"),
    [((3, 3), "v2 answers"), ((1, 3), "v2 answers with 1 of 3 replicas"), (None, "v2 answers"), ((4, 3), "v2 answers")],
    ids=["all", "some", "unknown", "more"],
)
def test_missing_replicas_are_told_and_left_to_the_cluster(replicas: tuple[int, int] | None, said: str) -> None:
    """A release that answers with fewer replicas than asked serves; making new ones is not our work."""
    stage = V2.but(serving=in_cluster(V2, replicas=replicas))
    assert (step_of(stage).verdict, step_of(stage).message) == (Verdict.DONE, said)
    assert stage.plan.actions == ()


def fallen_back(**changes: Any) -> Stage:
    """Give v2 failed in a cluster that asks for it still, while v1 answers, and the rollback is asked for."""
    assert V1 is not None
    one = {"version": V1.version, "file": V1.file, "failed_file": FILE, "failure": "the self-test differs"}
    stage = V2.but(serving=in_cluster(V2, **(one | changes)))
    return stage.but(proposals=(pull(first(stage.plan.actions).proposal),))


def test_a_cluster_that_goes_on_trying_is_told_to_stop() -> None:
    """A cluster would try the failed file for ever beside the old one that answers; once told, all is quiet."""
    stage = fallen_back()
    (rollout,) = rollouts(stage)
    assert V1 is not None
    assert (rollout.target.version, rollout.target.file) == (1, V1.file)
    assert (step_of(stage).reason, rollout.target.shape) == (Reason.FALLBACK, shape_of(V2))
    told = fallen_back(asked=V1.file, asked_version=1)
    assert (told.plan.actions, step_of(told).reason) == ((), Reason.FALLBACK)
    assert "v1 answers." in step_of(told).message


def test_an_agent_that_gave_up_by_itself_is_left_alone() -> None:
    """A host that keeps the last good one and tries nothing by itself need not be told."""
    assert fallen_back(asked=None, asked_version=None, shape=None).plan.actions == ()


def test_a_fallback_follows_the_shape() -> None:
    """While the previous release answers instead, a new shape is rolled out for it; the failed file is not tried."""
    assert V1 is not None
    told = fallen_back(asked=V1.file, asked_version=1)
    wider = moved_on(told, lambda data: data["serving"].update(replicas=3))
    (rollout,) = rollouts(wider)
    assert (rollout.target.version, rollout.target.shape.replicas) == (1, 3)
    assert V1.file == rollout.target.file


def test_a_fallback_that_does_not_answer_yet_is_asked_for() -> None:
    """Where nothing answers, the previous release is asked for until it does."""
    assert V1 is not None
    stage = fallen_back(ready=False, version=None, file=None, asked=V1.file, asked_version=1)
    assert [rollout.target.version for rollout in rollouts(stage)] == [1]
    assert "v1 is asked for." in step_of(stage).message
