"""Serving: what is pinned serves, the last good one until then, and what failed is undone by a person's merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose, RollOut, Withdraw
from reconcilers.context import Step, Verdict
from specs.facts import PullState, ServingState
from specs.records import RunRecord
from specs.release import Release
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
