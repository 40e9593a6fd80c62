"""Releases in steps: beside what serves, with a share of live traffic that grows as long as nothing is worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Propose, RollOut, Withdraw
from reconcilers.context import Step, Verdict
from reconcilers.forecast import forecast
from reconcilers.live_checks import FEWEST
from reconcilers.observing_traffic import question
from reconcilers.summary import summarize
from specs.facts import PullState
from specs.placement import Shape
from specs.profile_records import ProfileRecord
from specs.release import Release
from specs.serving_facts import CanaryState, Rejected, ServingState, Share
from specs.status import ConditionType, ModelStatus, Reason
from specs.traffic import Watched
from tests.support.builders import (
    KEY,
    NAME,
    NOW,
    Stage,
    context,
    digest,
    first,
    moved_on,
    pull,
    released,
    serving,
    settled,
)
from tests.support.in_steps import PAUSES, STEPS, beside, merged
from tests.support.trials import live
from tests.support.watched import MONITORING

SERVING, GATE, BEHIND = ConditionType.SERVING, ConditionType.LIVE_GATE, ConditionType.GIT_BEHIND
BAD = live(errors=0.3, requests=200)


def step(stage: Stage, type_: ConditionType = SERVING) -> Step:
    """Give what the plan says about something."""
    found = stage.plan.step(type_)
    assert found is not None
    return found


def rollouts(stage: Stage) -> list[tuple[int, Share | None]]:
    """Give what is rolled out, and with what share."""
    return [(each.target.version, each.target.share) for each in stage.plan.actions if isinstance(each, RollOut)]


def state_of(stage: Stage) -> ServingState:
    """Give what serves."""
    assert stage.world.serving is not None
    return stage.world.serving


def file_of(stage: Stage) -> str:
    """Give the release's file."""
    assert stage.spec.release is not None
    return stage.spec.release.exports["onnx"]


def other_steps(stage: Stage, *steps: dict[str, Any]) -> Stage:
    """Give the same world after git changed the steps."""
    changed = moved_on(stage, lambda data: data["serving"].update(strategy={"canary": {"steps": list(steps)}}))
    return changed.but(watched=stage.world.watched, watches=True)


LAST = Share(3, weight=50)
WALK: list[tuple[str, Callable[[], Stage], list[tuple[int, Share | None]], str, float]] = [
    ("merged", merged, [(2, Share(0))], "v2 is being loaded beside v1", 0),
    ("loading", lambda: beside(0, ready=False), [], "v2 is being loaded beside v1", 0),
    ("loaded", lambda: beside(0), [(2, Share(1, mirror=100))],
     "v2 gets a copy of 100 % of the requests beside v1 (step 1 of 3)", 0),
    ("first step", lambda: beside(1, 299.5), [],
     "v2 gets a copy of 100 % of the requests beside v1 (step 1 of 3)", 0.5),
    ("first step is over", lambda: beside(1, 300), [(2, Share(2, weight=10))],
     "v2 answers 10 % beside v1 (step 2 of 3)", 0),
    ("second step", lambda: beside(2, 590), [], "v2 answers 10 % beside v1 (step 2 of 3)", 10),
    ("second step is over", lambda: beside(2, 600), [(2, LAST)], "v2 answers 50 % beside v1 (step 3 of 3)", 0),
    ("last step", lambda: beside(3, 0, new=live()), [], "v2 answers 50 % beside v1 (step 3 of 3)", 15),
    ("pods are made anew in a step", lambda: beside(2, 9999, ready=False), [], "v2 is being loaded beside v1", 15),
    ("the share is not in force yet", lambda: beside(2, since=0.0), [], "v2 answers 10 % beside v1 (step 2 of 3)", 15),
    ("all is over", lambda: beside(3, 1200, new=live()), [(2, None)], "v2 passed its steps; it is asked to serve alone",
     0),
]  # fmt: skip


@pytest.mark.parametrize(("make", "asked", "text", "after"), [pytest.param(*case[1:], id=case[0]) for case in WALK])
def test_walk(make: Callable[[], Stage], asked: list[tuple[int, Share | None]], text: str, after: float) -> None:
    """Loaded first, then step by step as the pauses go by, and alone at the end; each is asked for once."""
    stage = make()
    found = step(stage)
    assert (found.verdict, found.reason, found.message) == (Verdict.WAIT, Reason.CANARY, text)
    assert rollouts(stage) == asked
    assert asked or stage.plan.after == after  # who asks for something looks again anyway


def test_messages_hold_no_times() -> None:
    """Within a step neither condition changes as time goes by, so the status is written once."""
    told = set()
    for held in (1.0, 100.0, 599.0):
        stage = beside(2, held, new=live(requests=int(held)))
        status = summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "2026-11-26T10:00:00Z")
        told.add(status.model_dump_json())
    assert len(told) == 1
    assert "v2 answers 10 % beside v1 (step 2 of 3)" in told.pop()


# ------------------------------------------------------------------------------------------------- who goes in steps


def undoing() -> Stage:
    """Give a model whose v3 has the bytes of v1, and denies v2, which serves."""
    two = merged()
    release = two.spec.release
    assert release is not None
    assert release.previous is not None
    value = {
        "version": 3, **release.previous.content(), "previous": {"version": 2, **release.content()},
        "deny": [{"run": release.run, "reason": "bad"}],
    }  # fmt: skip
    return replace(two, spec=released(two.spec, value)).but(serving=serving(two.spec))


def _asked(stage: Stage, **changes: Any) -> Stage:
    return stage.but(serving=replace(state_of(stage), **changes))


AT_ONCE: list[tuple[str, Callable[[], Stage]]] = [
    ("nothing serves", lambda: merged().but(serving=None)),
    ("nothing answers", lambda: _asked(merged(), ready=False, version=None, file=None)),
    ("scaled to nothing", lambda: _asked(merged(), replicas=(0, 0))),
    ("the same bytes serve under another version", lambda: _asked(merged(), file=file_of(merged()))),
    ("a later version serves", lambda: _asked(merged(), version=7, file=digest("later"))),
    ("what serves is taken back", undoing),
    ("no steps are given",
     lambda: moved_on(merged(), lambda data: data["serving"].pop("strategy")).but(watches=True)),
    ("the steps were taken away meanwhile",
     lambda: moved_on(beside(2), lambda data: data["serving"].pop("strategy")).but(watches=True)),
]  # fmt: skip


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in AT_ONCE])
def test_at_once(make: Callable[[], Stage]) -> None:
    """Who has nothing beside it, goes back, or was told to, takes over at once; and is on no trial for steps."""
    stage = make()
    assert stage.spec.release is not None
    assert rollouts(stage) == [(stage.spec.release.version, None)]
    assert step(stage).reason is Reason.ROLLING_OUT
    assert stage.plan.step(GATE) is None


def test_the_first_release_goes_without() -> None:
    """There is nothing beside which it could serve."""
    stage = settled(serving={"export": "onnx", "strategy": {"canary": {"steps": STEPS}}}).but(serving=None)
    assert rollouts(stage) == [(1, None)]


def test_a_cluster_that_works_towards_it_alone_is_left_to_it() -> None:
    """Once it was asked to serve alone, it is not put beside anything again while pods are exchanged."""
    stage = merged()
    shape = Shape().digest
    asked = _asked(stage, asked=file_of(stage), asked_version=2, shape=shape)
    assert rollouts(asked) == []
    assert step(asked).message == "v2 is being loaded; v1 answers until then"
    assert asked.plan.step(GATE) is None


def test_other_bytes_than_what_serves_undo_nothing() -> None:
    """A rollback to something that does not serve yet goes in steps as well: only what serves is undone at once."""
    stage = undoing().but(serving=ServingState(NAME, True, 0, digest("zero"), options=None))
    assert rollouts(stage) == [(3, Share(0))]


# ------------------------------------------------------------------------------------------------- git changes


STEPS_CHANGED: list[tuple[str, list[dict[str, Any]], float, list[tuple[int, Share | None]], str]] = [
    ("another weight", [STEPS[0], {"weight": 20, "pause": "10m"}, STEPS[2]], 1, [(2, Share(2, weight=20))],
     "v2 answers 20 % beside v1 (step 2 of 3)"),
    ("another weight once the step is over", [STEPS[0], {"weight": 20, "pause": "10m"}, STEPS[2]], 9999,
     [(2, Share(2, weight=20))], "v2 answers 20 % beside v1 (step 2 of 3)"),
    ("a longer pause", [STEPS[0], {"weight": 10, "pause": "1d"}, STEPS[2]], 700, [],
     "v2 answers 10 % beside v1 (step 2 of 3)"),
    ("a shorter pause", [STEPS[0], {"weight": 10, "pause": "1m"}, STEPS[2]], 61, [(2, LAST)],
     "v2 answers 50 % beside v1 (step 3 of 3)"),
    ("fewer steps", [{"weight": 30, "pause": "10m"}], 9999, [(2, Share(1, weight=30))],
     "v2 answers 30 % beside v1 (step 1 of 1)"),
    ("more steps", [*STEPS, {"weight": 90}], 1, [], "v2 answers 10 % beside v1 (step 2 of 4)"),
    ("no pause given", [STEPS[0], {"weight": 10}, STEPS[2]], 299, [], "v2 answers 10 % beside v1 (step 2 of 3)"),
    ("a step that sends nothing", [STEPS[0], {"weight": 0}, STEPS[2]], 1, [(2, Share(2))],
     "v2 gets no requests beside v1 (step 2 of 3)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "held", "asked", "text"), [pytest.param(*case[1:], id=case[0]) for case in STEPS_CHANGED]
)
def test_steps_changed_in_git(
    steps: list[dict[str, Any]], held: float, asked: list[tuple[int, Share | None]], text: str
) -> None:
    """What git says now holds for the step that it is at; where that is gone, for the last one. It never goes back."""
    stage = other_steps(beside(2, held, new=live()), *steps)
    assert rollouts(stage) == asked
    assert step(stage).message == text
    if asked and asked[0][1] is not None:  # asked for, it is left at that
        state = state_of(stage)
        assert state.canary is not None
        again = stage.but(serving=replace(state, canary=replace(state.canary, share=asked[0][1], since=NOW)))
        assert rollouts(again) == []


def test_another_release_takes_the_place_beside_what_serves() -> None:
    """A release merged while another one is in its steps begins with the first; v1 serves on, and is what it meets."""
    stage = beside(2, new=live())
    third = moved_on(stage, lambda data: data["training"]["args"].update(epochs=11))
    value = proposed_again(third)
    three = replace(third, spec=released(third.spec, value)).but(watches=True)
    assert rollouts(three) == [(3, Share(0))]
    assert step(three).message == "v3 is being loaded beside v1"
    now = beside(2, stage=three, new=BAD)
    assert [(each.target.version, each.target.share, bool(each.rejected)) for each in now.plan.actions
            if isinstance(each, RollOut)] == [(3, Share(0), True)], "git names v1 no more: v3 only gets no requests"
    assert step(now).message == "v3 failed in live traffic. v1 answers."
    given_up = beside(0, stage=three)
    latched = _asked(given_up, rejected=Rejected(file_of(three), "error rate: too high"))
    assert rollouts(latched) == []
    assert step(latched, GATE).message == "v3 failed: error rate: too high"


def proposed_again(stage: Stage) -> dict[str, Any]:
    """Give the value that the plan proposes for the release."""
    state = replace(state_of(stage), canary=None)
    found = first(stage.but(serving=state, proposals=(), branches={}).plan.actions).proposal.value
    assert isinstance(found, dict)
    return found


def test_a_release_reverted_to_what_serves_lets_the_other_go() -> None:
    """With git back at v1, which serves, v2 is let go; asked once, nothing is left to do."""
    stage = beside(2, new=live())
    release = stage.spec.release
    assert release is not None
    assert release.previous is not None
    one = release.previous.model_dump(mode="json", by_alias=True, exclude_none=True)
    back = replace(stage, spec=released(stage.spec, one))
    assert (step(back).verdict, step(back).message, rollouts(back)) == (Verdict.DONE, "v1 answers", [(1, None)])
    assert rollouts(_asked(back, canary=None)) == []


def test_removed_from_git_serves_nothing() -> None:
    """Without serving, or without a release, both versions go."""
    bare = moved_on(beside(2), lambda data: data.pop("serving"))
    assert [type(action) for action in bare.plan.actions[:1]] == [Withdraw]
    assert [type(action) for action in replace(beside(2), spec=released(beside(2).spec, None)).plan.actions[:1]] == [
        Withdraw
    ]


def test_suspended_stays_at_its_step() -> None:
    """Nothing moves while suspended, neither on nor back; what would happen is said."""
    stage = moved_on(beside(2, 9999, new=BAD), lambda data: data.update(suspend=True))
    stage = stage.but(watched=beside(2, new=BAD).world.watched, watches=True)
    assert stage.plan.actions == ()
    assert [type(action).__name__ for action in stage.plan.intended] == ["RollOut", "Propose"]


@pytest.mark.parametrize(
    "value", [{"hold": {"reason": "freeze"}}, {"deny": [{"run": digest("another"), "reason": "bad"}]}], ids=str
)
def test_hold_and_deny_are_about_proposals(value: dict[str, Any]) -> None:
    """What is merged goes on: hold and deny say what may be proposed, not what serves."""
    stage = moved_on(beside(2, 600), lambda data: data["release"].update(value))
    assert rollouts(stage.but(watched=beside(2).world.watched, watches=True)) == [(2, LAST)]


@pytest.mark.parametrize("changes", [{"shape": "sha256:other"}, {"options": "sha256:other"}], ids=str)
def test_another_shape_or_other_options_are_told_within_a_step(changes: dict[str, str]) -> None:
    """Replicas or labelling that git changed meanwhile are asked for with the same share."""
    assert rollouts(_asked(beside(2), **changes)) == [(2, Share(2, weight=10))]


# ------------------------------------------------------------------------------------------------- the live gate


UNSAID = (
    "beside v1, v2 has no verdict: v2 had fewer than 100 requests, which are needed to judge it. It goes through its "
    "steps, and stays at the last one until there is a verdict; to end it, revert the release, or take "
    "spec.serving.strategy.canary away to let it serve alone."
)
OUTCOMES: list[tuple[str, Callable[[], Stage], Verdict, Reason, str]] = [
    ("nobody looked yet", lambda: beside(1).but(watched=None), Verdict.WAIT, Reason.BAKING,
     "beside v1, v2 is on trial in live traffic, in 3 steps"),
    ("good so far", lambda: beside(2, new=live()), Verdict.WAIT, Reason.BAKING, "is on trial"),
    ("no traffic so far", lambda: beside(2), Verdict.WAIT, Reason.BAKING, "is on trial"),
    ("too little to say", lambda: beside(2, new=live(1.0, FEWEST - 1)), Verdict.WAIT, Reason.BAKING, "on trial"),
    ("bad copies", lambda: beside(1, new=BAD), Verdict.STOP, Reason.LIVE_GATE_FAILED, "v2 failed: error rate: 30 % ("),
    ("bad answers", lambda: beside(2, new=BAD), Verdict.STOP, Reason.LIVE_GATE_FAILED, "error rate: 30 % ("),
    ("bad at the end", lambda: beside(3, 9999, new=BAD), Verdict.STOP, Reason.LIVE_GATE_FAILED, "error rate"),
    ("slow", lambda: beside(2, new=live(seconds=0.12)), Verdict.STOP, Reason.LIVE_GATE_FAILED, "p95 latency"),
    ("unsure", lambda: beside(2, new=live(confidence=0.6)), Verdict.STOP, Reason.LIVE_GATE_FAILED, "confidence"),
    ("answers of its self-tests changed", lambda: beside(2, self_test="self-test 1 of 1: differs"), Verdict.STOP,
     Reason.LIVE_GATE_FAILED, "v2 failed: self-test, repeated while it serves: self-test 1 of 1: differs"),
    ("good", lambda: beside(3, 9999, new=live()), Verdict.DONE, Reason.LIVE_GATE_PASSED, "beside v1, v2 passed: "),
    ("nobody can look any more", lambda: beside(3, 9999).but(watched=None), Verdict.WAIT, Reason.BAKING, "on trial"),
    ("too little at the end", lambda: beside(3, 9999, new=live(requests=99)), Verdict.REST, Reason.BAKE_INCONCLUSIVE,
     UNSAID),
    ("nothing to compare with", lambda: beside(3, 9999, new=live(), old=live(requests=3)), Verdict.REST,
     Reason.BAKE_INCONCLUSIVE, "v1 had fewer than 100 requests"),
    ("nobody looks", lambda: beside(1).but(watches=False, watched=None), Verdict.REST, Reason.BAKE_INCONCLUSIVE,
     "nobody looks at live traffic here"),
    ("trouble", lambda: beside(3, 9999).but(watched=Watched(trouble="Prometheus does not answer", canary=live())),
     Verdict.REST, Reason.BAKE_INCONCLUSIVE, "Prometheus does not answer"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "verdict", "reason", "text"), [pytest.param(*case[1:], id=case[0]) for case in OUTCOMES]
)
def test_outcomes(make: Callable[[], Stage], verdict: Verdict, reason: Reason, text: str) -> None:
    """Worse beyond doubt is found in any step; to serve alone it needs traffic enough, on both sides, to the end."""
    stage = make()
    found = step(stage, GATE)
    assert (found.verdict, found.reason) == (verdict, reason), found.message
    assert text in found.message
    alone = [(2, None)] if reason is Reason.LIVE_GATE_PASSED else []
    failed = reason is Reason.LIVE_GATE_FAILED
    assert rollouts(stage) == ([(1, None)] if failed else alone)
    assert (stage.plan.step(BEHIND) is not None) is failed


def test_no_verdict_waits_at_the_last_step() -> None:
    """Without traffic the steps go by, and at the last one it stays: neither alone, nor rolled back."""
    for number, pause in enumerate(PAUSES[:-1], 1):
        assert [share and share.step for _, share in rollouts(beside(number, pause))] == [number + 1]
    stage = beside(3, 99_999)
    assert stage.plan.actions == ()
    told = {c.type: (c.status, c.reason) for c in status(stage).conditions}
    assert told[GATE] == ("Unknown", "BakeInconclusive")
    assert told[SERVING] == ("False", "Canary")
    assert told[ConditionType.RECONCILING] == ("True", "Canary")
    assert ConditionType.STALLED not in told


def status(stage: Stage) -> ModelStatus:
    """Give the status after a pass."""
    return summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "2026-11-26T10:00:00Z")


def test_failed_is_given_up_at_once_and_asked_to_be_rolled_back() -> None:
    """What is beside v1 is let go in the act that remembers why; git is asked to say so, with the numbers."""
    stage = beside(2, new=BAD)
    rollout, propose = stage.plan.actions
    assert isinstance(rollout, RollOut)
    assert isinstance(propose, Propose)
    assert (rollout.target.version, rollout.target.share, rollout.target.file) == (1, None, state_of(stage).file)
    assert rollout.rejected is not None
    assert rollout.rejected.file == file_of(stage)
    assert rollout.rejected.failure.startswith("error rate: 30 % (")
    assert (step(stage).reason, step(stage).message) == (Reason.FALLBACK, "v2 failed in live traffic. v1 answers.")
    assert "| live traffic | v2 | v1 | |" in propose.proposal.body
    value = Release.model_validate(propose.proposal.value, by_alias=True)
    assert [each.reason for each in value.deny or ()] == ["failed live gate"]
    assert status(stage).condition(BEHIND) is not None


@pytest.mark.parametrize("kept", ["shape", "nothing"])
def test_the_verdict_is_latched(kept: str) -> None:
    """Once it was let go, it is not put beside anything again, whatever traffic says later; the rollback waits."""
    stage = beside(2, new=BAD)
    (rollout,) = [action for action in stage.plan.actions if isinstance(action, RollOut)]
    asked = pull(first(stage.plan.actions).proposal)
    shape = rollout.target.shape.digest if kept == "shape" else None
    gone = _asked(stage, canary=None, rejected=rollout.rejected, shape=shape, options=rollout.target.options.digest)
    for watched in (None, Watched(), Watched(canary=live(), beside=live())):
        later = gone.but(watched=watched, proposals=(asked,))
        assert later.plan.actions == ()
        assert step(later).message == "v2 failed in live traffic. v1 answers."
    said_no = gone.but(proposals=(replace(asked, pull=replace(asked.pull, state=PullState.CLOSED, closed=9)),))
    assert rollouts(said_no) == []


def test_an_earlier_verdict_about_other_bytes_is_not_mistaken_for_this_one() -> None:
    """What was rejected before says nothing: the new verdict has its own words."""
    stage = _asked(beside(2, new=BAD), rejected=Rejected(digest("older"), "p95 latency: too high"))
    (rollout,) = [action for action in stage.plan.actions if isinstance(action, RollOut)]
    assert rollout.rejected is not None
    assert rollout.rejected.failure.startswith("error rate")


def test_no_further_trial_follows_unless_it_is_asked_for() -> None:
    """Judged in its steps, a release that serves alone is on no trial, be its traffic watched; ``bakeTime`` asks."""
    watched = moved_on(merged(), lambda data: data.update(monitoring=MONITORING))
    alone = watched.but(serving=serving(watched.spec), watched=Watched((), NOW - 60, BAD, live()), watches=True)
    assert alone.plan.step(GATE) is None
    baked = moved_on(alone, lambda data: data["serving"]["strategy"].update(bakeTime="15m"))
    baked = baked.but(watched=alone.world.watched, watches=True)
    assert step(baked, GATE).reason is Reason.LIVE_GATE_FAILED
    passed = status(beside(3, 9999, new=live())).condition(GATE)
    assert step(baked.but(live_gate_before=passed), GATE).reason is Reason.LIVE_GATE_FAILED


def test_minimum_of_samples_is_the_specs() -> None:
    """``monitoring.minSamples`` says how many requests are enough here too."""
    for least, asked in ((400, [(2, None)]), (500, [])):
        stage = beside(3, 9999, new=live(requests=450))
        many = moved_on(stage, lambda data, n=least: data.update(monitoring={**MONITORING, "minSamples": n}))
        assert rollouts(many.but(watched=stage.world.watched, watches=True)) == asked


# ------------------------------------------------------------------------------------------------- what fails to load


def test_failed_to_load_keeps_what_serves() -> None:
    """A release that cannot be loaded beside v1 is given up as any other; v1 was never touched."""
    stage = _asked(merged(), failed_file=file_of(merged()), failure="no memory")
    assert rollouts(stage) == []
    assert (step(stage).reason, step(stage).message) == (
        Reason.FALLBACK, "v2 could not be loaded: no memory. v1 answers.",
    )  # fmt: skip
    assert first(stage.plan.actions).proposal.intent == "rollback"


def test_a_cluster_that_keeps_trying_is_told_to_stop() -> None:
    """Pods that die of the new version beside the old one are taken away: v1 alone is asked for, once."""
    stage = beside(0, ready=False)
    shape = Shape().digest
    trying = _asked(stage, failed_file=file_of(stage), failure="x", asked=state_of(stage).file, asked_version=1,
                    shape=shape)  # fmt: skip
    assert rollouts(trying) == [(1, None)]
    assert rollouts(_asked(trying, canary=None)) == []


def test_while_all_is_started_again_it_stays_in_its_steps() -> None:
    """A server that is being started again answers nothing for a moment; that is no reason to skip the steps."""
    stage = _asked(beside(2, 9999, ready=False), ready=False)
    assert rollouts(stage) == []
    assert (step(stage).reason, step(stage).message) == (
        Reason.ROLLING_OUT, "v2 is being loaded, and nothing answers now",
    )  # fmt: skip


def test_trouble_of_a_cluster_is_said() -> None:
    """What keeps new pods from getting ready is told with the step."""
    stage = _asked(beside(0, ready=False), failure="no node takes its pod: 0/3 nodes are available")
    assert step(stage).message == "v2 is being loaded beside v1; no node takes its pod: 0/3 nodes are available"


# ------------------------------------------------------------------------------------------------- looking, and saying


def test_traffic_of_both_is_asked_for() -> None:
    """Who counts is asked for the version beside what serves, also where nothing else is watched; else for nothing."""
    stage = beside(1)
    found = question(context(stage.spec, stage.world)).watch
    assert found is not None
    assert (found.version, found.canary, found.before, found.windows) == (1, 2, None, 0)
    assert question(context(merged().spec, merged().world)).watch is None


def test_profiles_count_only_for_the_release_before() -> None:
    """Estimated accuracy needs what both do on golden; of a release that git names no more nobody knows."""
    sure = [0] * 18 + [500, 0]
    golden = ProfileRecord(
        file=digest("f"), golden=digest("g"), task="classify", n=500, names=["milk", "bread"],
        pictures={"confidence": sure}, classes={"milk": sure}, right={"milk": sure},
    )  # fmt: skip
    base = beside(3, 9999, new=live()).but(profile=golden, profile_before=golden)
    for version, named in ((1, "estimated accuracy: "), (0, "mean top confidence: ")):
        told = step(_asked(base, version=version), GATE).message
        assert [name in told for name in ("estimated accuracy: ", "mean top confidence: ")].count(True) == 1
        assert named in told


def test_forecast_says_the_steps() -> None:
    """``trunkline plan`` says how a release will take over."""
    stage = merged()
    told = forecast(KEY, stage.spec, stage.world, NOW)
    assert told.effects == (
        "serves v2 in steps beside v1: a copy of 100 % for 5m, 10 % for 10m, 50 % for 20m, then alone",
    )  # fmt: skip


def test_a_state_of_nothing_else_is_not_beside() -> None:
    """A canary of other bytes under the same version is another one, and is replaced."""
    stage = merged()
    other = CanaryState(2, digest("other"), Share(2, weight=10), ready=True, since=NOW)
    assert rollouts(_asked(stage, canary=other)) == [(2, Share(0))]
