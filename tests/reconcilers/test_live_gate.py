"""The live gate: a release is judged by live traffic, beside the one before it, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Propose, RollOut
from reconcilers.context import Step, Verdict
from reconcilers.live_checks import FEWEST
from reconcilers.live_gate import duration
from reconcilers.summary import summarize
from reconcilers.targets import bake_time
from specs.facts import PullState
from specs.release import Release
from specs.serving_facts import Rejected
from specs.status import Condition, ConditionType, ModelStatus, Reason
from specs.traffic import Watched
from tests.support.builders import Stage, context, first, moved_on, pull, released, serving, settled, spec
from tests.support.trials import live, on_trial, second
from tests.support.watched import MONITORING

SERVING, GATE, BEHIND = ConditionType.SERVING, ConditionType.LIVE_GATE, ConditionType.GIT_BEHIND
BAD = live(errors=0.3, requests=200)


def step(stage: Stage, type_: ConditionType = GATE) -> Step:
    """Give what the plan says about something."""
    found = stage.plan.step(type_)
    assert found is not None
    return found


def rollouts(stage: Stage) -> list[RollOut]:
    """Give what is rolled out."""
    return [action for action in stage.plan.actions if isinstance(action, RollOut)]


def fallen_back(stage: Stage) -> Stage:
    """Give the world after the plan's one rollout went well."""
    (rollout,) = rollouts(stage)
    target = rollout.target
    state = stage.world.serving
    assert state is not None
    return stage.but(serving=replace(
        state, version=target.version, file=target.file, rejected=rollout.rejected, options=target.options.digest,
    ))  # fmt: skip


OUTCOMES: list[tuple[str, Callable[[], Stage], Verdict, Reason, str]] = [
    ("nobody looked yet", second, Verdict.WAIT, Reason.BAKING, "v2 is on trial in live traffic for 15m"),
    ("no server said since when", lambda: second().but(watched=Watched()), Verdict.WAIT, Reason.BAKING, "on trial"),
    ("good so far", lambda: on_trial(live()), Verdict.WAIT, Reason.BAKING, "beside what v1 did"),
    ("no traffic so far", lambda: on_trial(None), Verdict.WAIT, Reason.BAKING, "on trial"),
    ("bad at first sight, too little to say", lambda: on_trial(live(1.0, FEWEST - 1)), Verdict.WAIT, Reason.BAKING,
     "on trial"),
    ("good", lambda: on_trial(live(), over=True), Verdict.DONE, Reason.LIVE_GATE_PASSED, "v2 passed beside v1: "),
    ("a little worse", lambda: on_trial(live(0.02), over=True), Verdict.DONE, Reason.LIVE_GATE_PASSED, "not worse"),
    ("more sure and faster", lambda: on_trial(live(seconds=0.002, confidence=0.99), over=True), Verdict.DONE,
     Reason.LIVE_GATE_PASSED, "mean top confidence: 0.97"),
    ("no traffic", lambda: on_trial(None, over=True), Verdict.REST, Reason.BAKE_INCONCLUSIVE,
     "v2 had 0 requests to judge it by, and 100 are needed"),
    ("too little traffic", lambda: on_trial(live(requests=99), over=True), Verdict.REST, Reason.BAKE_INCONCLUSIVE,
     "v2 had 99 requests"),
    ("nothing to compare with", lambda: on_trial(live(), live(requests=0), over=True), Verdict.REST,
     Reason.BAKE_INCONCLUSIVE, "v1 had 0 requests"),
    ("nobody looks", lambda: second().but(watches=False), Verdict.REST, Reason.BAKE_INCONCLUSIVE, "nobody looks"),
    ("nobody can look now", lambda: on_trial(live(end=0.0), over=True, trouble="Prometheus does not answer"),
     Verdict.REST, Reason.BAKE_INCONCLUSIVE, "v2 has no verdict yet: Prometheus does not answer"),
    ("errors", lambda: on_trial(BAD), Verdict.STOP, Reason.LIVE_GATE_FAILED, "v2 failed: error rate: 30 % ("),
    ("bad although nobody can look now", lambda: on_trial(BAD, trouble="x"), Verdict.STOP, Reason.LIVE_GATE_FAILED,
     "too high"),
    ("errors, long ago", lambda: on_trial(BAD, over=True), Verdict.STOP, Reason.LIVE_GATE_FAILED, "error rate"),
    ("slow", lambda: on_trial(live(seconds=0.12)), Verdict.STOP, Reason.LIVE_GATE_FAILED, "p95 latency: 148 ms ("),
    ("slow in times, not in seconds", lambda: on_trial(live(seconds=0.012), live(seconds=0.002), over=True),
     Verdict.DONE, Reason.LIVE_GATE_PASSED, "p95 latency"),
    ("unsure", lambda: on_trial(live(confidence=0.6)), Verdict.STOP, Reason.LIVE_GATE_FAILED,
     "mean top confidence: 0.57"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "verdict", "reason", "text"), [pytest.param(*case[1:], id=case[0]) for case in OUTCOMES]
)
def test_outcomes(make: Callable[[], Stage], verdict: Verdict, reason: Reason, text: str) -> None:
    """A release fails beyond doubt and by more than may be, passes once it had enough traffic, and waits until then."""
    stage = make()
    found = step(stage)
    assert (found.verdict, found.reason) == (verdict, reason), found.message
    assert text in found.message
    failed = reason is Reason.LIVE_GATE_FAILED
    assert (len(rollouts(stage)), stage.plan.step(BEHIND) is not None) == (failed, failed)
    assert step(stage, SERVING).reason is (Reason.FALLBACK if failed else Reason.SERVING)


def test_failed_falls_back_at_once_and_asks_to_roll_back() -> None:
    """What serves is given up in the act that asks for the release before; git is asked to say so, with the numbers."""
    stage = on_trial(BAD)
    rollout, propose = stage.plan.actions
    assert isinstance(rollout, RollOut)
    assert isinstance(propose, Propose)
    release = stage.spec.release
    assert release is not None
    assert (rollout.target.version, rollout.target.options.standby) == (1, 0)
    assert rollout.rejected is not None
    assert rollout.rejected.file == release.exports["onnx"]
    assert rollout.rejected.failure.startswith("error rate: 30 % (")
    assert step(stage, SERVING).message == "v2 failed in live traffic. v1 is asked for."
    body, value = propose.proposal.body, Release.model_validate(propose.proposal.value, by_alias=True)
    assert "passed its gates, and live traffic disagrees: v1 serves again." in body
    assert "| live traffic | v2 | v1 | |" in body
    assert "| error rate | 30 % \\(17.3 % to 45.2 %, n=200\\) | 1 % \\(" in body
    assert "**too high** |" in body
    assert "| p95 latency |" in body
    assert "not worse |" in body
    assert [(each.run, each.reason) for each in value.deny or ()] == [(release.run, "failed live gate")]
    assert value.hold is not None
    assert value.hold.reason == "v2 failed its live gate"


def test_the_verdict_is_latched() -> None:
    """Once the release before serves again, nothing that traffic says later, or forgets, changes anything."""
    stage = fallen_back(on_trial(BAD))
    asked = pull(first(on_trial(BAD).plan.actions).proposal)
    for watched in (stage.world.watched, None, Watched(), Watched((), 0.0, live(), live())):
        later = stage.but(watched=watched, proposals=(asked,))
        assert later.plan.actions == ()
        assert step(later, SERVING).message == "v2 failed in live traffic. v1 answers."
        assert step(later).message.startswith("v2 failed: error rate: 30 % (")
        assert step(later, BEHIND).message == (
            "v2 failed in live traffic. v1 answers. Git still says otherwise: merge the rollback, or a release that "
            "does better."
        )
    again = stage.but(serving=replace(stage.world.serving, version=2, ready=True) if stage.world.serving else None)
    assert [(each.target.version, each.rejected) for each in rollouts(again)] == [
        (1, stage.world.serving and stage.world.serving.rejected)
    ]


def test_conditions_of_a_failed_gate() -> None:
    """People see a model that is stalled and on its fallback; git being behind is there only while it is."""
    told = {c.type: (c.status, c.reason) for c in status(fallen_back(on_trial(BAD))).conditions}
    assert told[GATE] == ("False", "LiveGateFailed")
    assert told[BEHIND] == ("True", "FallbackToPrevious")
    assert told[ConditionType.STALLED] == ("True", "FallbackToPrevious")
    baking = {c.type: (c.status, c.reason) for c in status(on_trial(live())).conditions}
    assert (baking[GATE], baking[ConditionType.RECONCILING][1]) == (("Unknown", "Baking"), "Baking")
    assert BEHIND not in baking
    unsure = {c.type: (c.status, c.reason) for c in status(on_trial(None, over=True)).conditions}
    assert unsure[GATE] == ("Unknown", "BakeInconclusive")
    assert unsure[ConditionType.READY][0] == "True"


def remembered(stage: Stage) -> Condition:
    """Give what the status says about the trial."""
    found = status(stage).condition(GATE)
    assert found is not None
    return found


def status(stage: Stage) -> ModelStatus:
    """Give the status after a pass."""
    return summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "2026-11-26T10:00:00Z")


def test_git_is_behind_a_release_that_did_not_load() -> None:
    """A release that failed to load, and fell back, leaves git behind as well."""
    stage = second().but(serving=serving(settled().spec, failed_file=None))
    release = stage.spec.release
    assert release is not None
    old = serving(settled().spec, version=1, failed_file=release.exports["onnx"], failure="no memory")
    behind = step(stage.but(serving=old), BEHIND)
    assert behind.message.startswith("v2 could not be loaded: no memory. v1 answers. Git still says otherwise")
    assert stage.but(serving=old).plan.step(GATE) is None


def test_passed_is_remembered_in_the_words_of_the_status() -> None:
    """A release that passed is on no second trial, whatever its traffic does later or whoever forgets it."""
    passed = remembered(on_trial(live(), over=True))
    for watched in (None, Watched((), 0.0, BAD, live())):
        stage = second().but(watched=watched, live_gate_before=passed)
        assert (step(stage).reason, step(stage).message) == (Reason.LIVE_GATE_PASSED, passed.message)
        assert rollouts(stage) == []
    of_v1 = passed.model_copy(update={"message": passed.message.replace("v2", "v1")})
    another = on_trial(BAD).but(live_gate_before=of_v1)
    assert step(another).reason is Reason.LIVE_GATE_FAILED


def test_no_verdict_stays_until_somebody_looked_again() -> None:
    """A controller that was just started does not put a release on trial again that ended its trial unsaid."""
    unsure = remembered(on_trial(None, over=True))
    stage = second().but(live_gate_before=unsure)
    assert (step(stage).reason, step(stage).message) == (Reason.BAKE_INCONCLUSIVE, unsure.message)
    assert step(on_trial(BAD).but(live_gate_before=unsure)).reason is Reason.LIVE_GATE_FAILED


def test_passed_stays_while_another_shape_is_rolled_out() -> None:
    """What passed is not forgotten because its pods are made anew."""
    passed = remembered(on_trial(live(), over=True))
    stage = second().but(live_gate_before=passed)
    assert stage.world.serving is not None
    bent = stage.but(serving=replace(stage.world.serving, shape="sha256:another"))
    assert (step(bent, SERVING).reason, step(bent).reason) == (Reason.ROLLING_OUT, Reason.LIVE_GATE_PASSED)


def test_a_self_test_that_fails_later_counts() -> None:
    """A server whose answers changed since it loaded has failed, without any traffic."""
    stage = second()
    assert stage.world.serving is not None
    broken = stage.but(serving=replace(stage.world.serving, self_test="self-test 1 of 1: output 'x' differs"))
    assert [each.target.version for each in rollouts(broken)] == [1]
    assert "self-test, repeated while it serves: self-test 1 of 1" in first(broken.plan.actions).proposal.body
    passed = broken.but(live_gate_before=remembered(on_trial(live(), over=True)))
    assert rollouts(passed) == []


def _previous(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["release"].update(previous=value)


def test_nothing_to_fall_back_to_is_said_and_it_goes_on_serving() -> None:
    """Where the release before cannot serve, capacity is never lowered: people are told, and nothing is rolled out."""
    release = second().spec.release
    assert release is not None
    assert release.previous is not None
    gone = {**release.previous.model_dump(mode="json", by_alias=True), "run": "sha256:" + "0" * 64}
    stage = moved_on(on_trial(BAD), _previous(gone)).but(watched=on_trial(BAD).world.watched, watches=True)
    assert (step(stage).verdict, step(stage).reason) == (Verdict.STOP, Reason.LIVE_GATE_FAILED)
    assert "There is nothing to fall back to: spec.release.run sha256:0000" in step(stage).message
    assert step(stage).message.endswith("It goes on serving.")
    assert step(stage, SERVING).reason is Reason.SERVING
    assert rollouts(stage) == []
    assert stage.plan.step(BEHIND) is None


def test_fallback_that_does_not_load_is_said_and_what_was_given_up_goes_on() -> None:
    """Where the release before does not load any more, it is not tried again, and what answers goes on."""
    stage = fallen_back(on_trial(BAD))
    state = stage.world.serving
    assert state is not None
    assert stage.spec.release is not None
    back = replace(state, version=2, file=stage.spec.release.exports["onnx"], failed_file=state.file, failure="rotten")
    both = stage.but(serving=back)
    assert both.plan.actions == ()
    assert step(both, SERVING).message == "v2 failed in live traffic. v1 could not be loaded: rotten. v2 answers."
    assert step(both, SERVING).reason is Reason.ROLLOUT_FAILED


def test_in_a_cluster_falling_back_is_asked_for_once() -> None:
    """As long as the cluster works towards the release before, it is not asked again; the verdict is there already."""
    stage = on_trial(BAD)
    (rollout,) = rollouts(stage)
    target, state = rollout.target, stage.world.serving
    assert state is not None
    asked = replace(
        state, asked=target.file, asked_version=1, shape=target.shape.digest, options=target.options.digest,
        rejected=rollout.rejected,
    )  # fmt: skip
    under_way = stage.but(serving=asked, watched=None)
    assert rollouts(under_way) == []
    assert step(under_way, SERVING).reason is Reason.FALLBACK
    assert rollouts(stage.but(serving=replace(asked, options="sha256:other"), watched=None)) != []


NO_TRIAL: list[tuple[str, Stage]] = [
    ("the first release", settled(serving={"export": "onnx", "strategy": {"bakeTime": "15m"}})),
    ("nobody asked for a trial", moved_on(on_trial(BAD), lambda data: data["serving"].pop("strategy"))),
    ("a rollback", moved_on(on_trial(BAD), lambda data: data["release"].update(
        deny=[{"run": data["release"]["previous"]["run"], "reason": "failed live gate"}]))),
    ("not serving yet", on_trial(BAD).but(serving=None)),
    ("another version serves", on_trial(BAD).but(serving=serving(settled().spec))),
    ("nothing released", replace(on_trial(BAD), spec=released(second().spec, None))),
]  # fmt: skip


@pytest.mark.parametrize("stage", [pytest.param(stage, id=name) for name, stage in NO_TRIAL])
def test_no_trial(stage: Stage) -> None:
    """Who is on no trial has no condition about it, and is not given up for any traffic."""
    stage = stage.but(watched=Watched((), 0.0, BAD, live()), watches=True)
    assert stage.plan.step(GATE) is None
    assert not [each for each in rollouts(stage) if each.rejected is not None]


def test_a_verdict_about_another_release_says_nothing() -> None:
    """What was given up before is no verdict on a release with other bytes."""
    state = on_trial(live()).world.serving
    assert state is not None
    other = Rejected("sha256:" + "e" * 64, "error rate: 1 % against 0 %, too high")
    stage = on_trial(live()).but(serving=replace(state, rejected=other))
    assert (step(stage).reason, step(stage, SERVING).reason) == (Reason.BAKING, Reason.SERVING)


def test_a_person_who_says_no_keeps_what_serves() -> None:
    """With the rollback closed unmerged the fallback goes on serving, and the question is not asked again."""
    asked = pull(first(on_trial(BAD).plan.actions).proposal, PullState.CLOSED)
    stage = fallen_back(on_trial(BAD)).but(proposals=(asked,))
    assert stage.plan.actions == ()
    assert step(stage, SERVING).reason is Reason.FALLBACK


TIMES: list[tuple[dict[str, Any], float]] = [
    ({}, 0.0),
    ({"serving__strategy": {"bakeTime": "90s"}}, 90.0),
    ({"monitoring": MONITORING}, 3 * 3600.0),
    ({"monitoring": {**MONITORING, "forWindows": None, "window": "5m"}}, 900.0),
    ({"monitoring": MONITORING, "serving__strategy": {"bakeTime": "1m"}}, 60.0),
    ({"monitoring": MONITORING, "serving": None}, 0.0),
]


@pytest.mark.parametrize(("changes", "wanted"), TIMES)
def test_how_long_a_trial_is(changes: dict[str, Any], wanted: float) -> None:
    """It is as long as the spec says, else as long as a signal takes to fire, else there is none."""
    assert bake_time(spec(**changes)) == wanted


@pytest.mark.parametrize(("time", "text"), [(90, "90s"), (900, "15m"), (10_800, "3h"), (172_800, "2d"), (0.5, "0.5s")])
def test_times_are_said_as_people_write_them(time: float, text: str) -> None:
    """In the largest unit that keeps them whole."""
    assert duration(time) == text


def test_the_spec_says_how_many_samples_are_enough() -> None:
    """``monitoring.minSamples`` holds for the live gate too."""
    for least, reason in ((400, Reason.LIVE_GATE_PASSED), (500, Reason.BAKE_INCONCLUSIVE)):
        watched = on_trial(live(requests=450), over=True).world.watched
        stage = moved_on(second(), lambda data, n=least: data.update(monitoring={**MONITORING, "minSamples": n}))
        assert step(stage.but(watched=watched, watches=True)).reason is reason


def test_options_that_are_not_in_force_are_told_to_what_serves() -> None:
    """Another labelling is asked for with the same release; a host that knows no options is left alone."""
    stage = second()
    assert stage.world.serving is not None
    stale = stage.but(serving=replace(stage.world.serving, options="sha256:other"))
    (rollout,) = rollouts(stale)
    assert (rollout.target.version, rollout.target.options.standby, rollout.rejected) == (2, 900, None)
    told = replace(stage.world.serving, options=rollout.target.options.digest)
    assert rollouts(stage.but(serving=told)) == []
