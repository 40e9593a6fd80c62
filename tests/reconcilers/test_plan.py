"""The plan as a whole: the table of states, the order of actions, and every reason there is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import DeleteBranch, Propose, RollOut, StartJob
from reconcilers.context import Verdict
from reconcilers.drafts import closing
from reconcilers.limits import Crowd, Limits
from reconcilers.observed import SCHEDULE, DatasetFact, SourceTrouble
from reconcilers.plan import LINE, Plan
from specs.data_records import Alike, SetReport
from specs.engines import refusal
from specs.facts import JobPhase, JobState, ProposalState, PullState
from specs.profile_records import ProfileRecord
from specs.records import ExportRecord, RunRecord
from specs.status import ConditionType, Reason, SignalStatus
from specs.traffic import Watched
from tests.support.builders import (
    BUILDER,
    GOLDEN,
    MLFLOW,
    NOW,
    TOP1,
    VALIDATED,
    Lab,
    Stage,
    candidate_ready,
    decide,
    digest,
    first,
    mirrored,
    moved_on,
    observed,
    proposed,
    pull,
    released,
    serving,
    settled,
    spec,
)  # fmt: skip
from tests.support.data_stages import BARE, dvc, elsewhere, following, md5, newer, pinned, unknown, validation
from tests.support.in_steps import beside, merged
from tests.support.searches import TUNING, searching, tuned
from tests.support.trials import live, on_trial
from tests.support.watched import ON_ERRORS, asking, firing, unwatched, watched
from tests.support.waves import fleet, on_devices, opened


def _export_changed() -> Stage:
    return moved_on(settled(), lambda data: data["exports"][0].update(args={"dynamic": True}), work=False)


def _retrain(*, work: bool) -> Stage:
    return moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9), work=work)


def _second_merged() -> Stage:
    stage = _retrain(work=True)
    value = proposed(stage.spec, stage.world).value
    assert isinstance(value, dict)
    return replace(stage, spec=released(stage.spec, value))


def _second_failed() -> Stage:
    stage = _second_merged()
    assert stage.spec.release is not None
    assert stage.world.serving is not None
    return stage.but(serving=replace(stage.world.serving, failed_file=stage.spec.release.exports["onnx"], failure="x"))


def _first_failed() -> Stage:
    stage = settled()
    good = serving(stage.spec)
    return stage.but(serving=replace(good, ready=False, version=None, file=None, failed_file=good.file, failure="x"))


def _other_device() -> Stage:
    stage = settled(exports=[{"name": "trt", "format": "engine"}], serving={"export": "trt"})
    words, good = refusal(BUILDER, BUILDER | {"gpu": "another"}), serving(stage.spec)
    return stage.but(serving=replace(good, ready=False, version=None, file=None, failed_file=good.file, failure=words))


def _failed_run() -> Stage:
    given = spec()
    run = RunRecord(inputs_digest=given.inputs_digest, inputs={}, status="Failed", reason="X", model="m", commit="c")
    return Stage(given, observed(runs={given.inputs_digest: run}), Lab())


def _with_job(phase: JobPhase, **values: Any) -> Stage:
    given = spec()
    name = decide(given, observed()).actions[0].order.job  # type: ignore[union-attr]
    return Stage(given, observed(jobs={name: JobState(name, phase, **values)}), Lab())


def _failed_export() -> Stage:
    stage = candidate_ready()
    failed = {
        (weights, name): ExportRecord(weights=weights, export_digest=name, format="onnx", args={}, status="Failed")
        for weights, name in stage.world.exports
    }
    return stage.but(exports=failed)


def _proposal(state: PullState, **changes: Any) -> Stage:
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), state, **changes),))


def _closed_just_now() -> Stage:
    mark = closing(_proposal(PullState.OPEN).world.proposals[0], "Obsolete", "x").mark
    return _proposal(PullState.CLOSED, closed=int(NOW) - 10, body=mark)


def _held() -> Stage:
    return moved_on(_retrain(work=True), lambda data: data["release"].update(hold={"reason": "x"}))


def _denied() -> Stage:
    stage = _retrain(work=False)
    deny = [{"run": stage.spec.inputs_digest, "reason": "x"}]
    return moved_on(stage, lambda data: data["release"].update(deny=deny), work=False)


def _taken_over() -> Stage:
    stage = candidate_ready()
    other = replace(proposed(stage.spec, stage.world), key="f" * 64)
    return stage.but(proposals=(pull(other, foreign=True),))


def _failed_profile() -> ProfileRecord:
    file, golden = digest("file"), GOLDEN.digest()
    return ProfileRecord(file=file, golden=golden, task="classify", status="Failed", reason="X", message="x")


def _closed_retraining() -> ProposalState:
    """Give a question about an earlier episode, which we closed when that was over."""
    before = asking(firing(start=NOW - 48 * 3600))
    made = pull(first(before.plan.actions).proposal, PullState.CLOSED, opened=int(NOW) - 7200, closed=int(NOW) - 3600)
    mark = closing(made, "Obsolete", "x").mark
    return replace(made, pull=replace(made.pull, body=made.pull.body + mark))


def _asking_for_data(**triggers: Any) -> Stage:
    stage = asking(data__train=dvc(1), triggers=ON_ERRORS | triggers)
    return stage.but(newer=newer())


def _reached(reach: int, *, serving: int = 2, failed: int = 0, since: float = NOW - 7200) -> Stage:
    stage = on_devices()
    devices = fleet(stage, serving=serving - failed, failed=failed, since=since)
    return stage.but(devices=devices, waves=opened(stage, [reach]))


def _data(reason: Reason) -> Stage:
    return Stage(spec(), observed(train=DatasetFact(digest("x"), reason=reason, message="x")), Lab())


FAILING = [{"name": "g", "metric": TOP1, "min": 1}]
FRESH = Stage(spec(), observed(), Lab())
RESOLVED = {"spec.data.train": pinned(1)}
BAD = VALIDATED.model_copy(update={"train": SetReport(images=20, unreadable_count=1, unreadable=["a.png: empty"])})
LEAKING = VALIDATED.model_copy(
    update={"leak_count": 1, "leaks": [Alike(first="milk/1.png", second="milk/7.png", exact=True)]}
)
TABLE: list[tuple[str, Callable[[], Stage], ConditionType, Verdict, Reason, list[str]]] = [
    ("source not verified: refuse", lambda: candidate_ready().but(verified=False), ConditionType.SOURCE_VERIFIED,
     Verdict.STOP, Reason.NOT_IN_GIT, []),
    ("suspended: nothing", lambda: candidate_ready(suspend=True), ConditionType.PROPOSED, Verdict.WAIT,
     Reason.PULL_REQUEST_OPEN, []),
    ("data unresolved: stop", lambda: _data(Reason.DATA_MISSING), ConditionType.DATA_READY, Verdict.STOP,
     Reason.DATA_MISSING, []),
    ("digest wrong: stop", lambda: _data(Reason.DATA_CORRUPT), ConditionType.DATA_READY, Verdict.STOP,
     Reason.DATA_CORRUPT, []),
    ("expectations fail: stop", lambda: Stage(spec(data__expect={"minImages": 99}), observed(), Lab()),
     ConditionType.DATA_READY, Verdict.STOP, Reason.DATA_UNEXPECTED, []),
    ("leakage: stop", lambda: FRESH.but(shared_pictures=("milk/1.png",)), ConditionType.DATA_READY, Verdict.STOP,
     Reason.DATA_LEAKAGE, []),
    ("data not pinned: stop", lambda: Stage(spec(data__train__uri__digest=None), observed(), Lab()),
     ConditionType.DATA_READY, Verdict.STOP, Reason.DATA_NOT_PINNED, []),
    ("data that nobody may read: stop",
     lambda: elsewhere(None, data__train=BARE).but(troubles=unknown(Reason.DATA_UNSUPPORTED, passing=False)),
     ConditionType.DATA_READY, Verdict.STOP, Reason.DATA_UNSUPPORTED, []),
    ("bare reference: propose the pin", lambda: elsewhere(None, data__train=BARE).but(resolved=RESOLVED),
     ConditionType.DATA_READY, Verdict.WAIT, Reason.DATA_NOT_PINNED, ["Propose"]),
    ("bare reference, nobody answers: wait", lambda: elsewhere(None, data__train=BARE).but(troubles=unknown()),
     ConditionType.DATA_READY, Verdict.WAIT, Reason.DATA_UNREACHABLE, []),
    ("bare address: fetch it", lambda: elsewhere(None, data__train={"uri": {"url": "s3://b/x"}}),
     ConditionType.DATA_READY, Verdict.WAIT, Reason.IMPORTING, ["StartJob"]),
    ("data is elsewhere: fetch it", lambda: elsewhere(DatasetFact(md5(1))), ConditionType.DATA_READY, Verdict.WAIT,
     Reason.IMPORTING, ["StartJob"]),
    ("data cannot be fetched: stop", lambda: elsewhere(DatasetFact(md5(1), reason=Reason.IMPORT_FAILED)),
     ConditionType.DATA_READY, Verdict.STOP, Reason.IMPORT_FAILED, []),
    ("data not looked at: look", lambda: FRESH.but(validation=None), ConditionType.DATA_READY, Verdict.WAIT,
     Reason.VALIDATING, ["StartJob"]),
    ("data looked at, bad: stop", lambda: FRESH.but(validation=BAD), ConditionType.DATA_READY, Verdict.STOP,
     Reason.DATA_INVALID, []),
    ("data looked at, leaks: stop", lambda: FRESH.but(validation=LEAKING), ConditionType.DATA_READY, Verdict.STOP,
     Reason.DATA_LEAKAGE, []),
    ("data is the newest: nothing", following, ConditionType.DATA_CURRENT, Verdict.DONE, Reason.DATA_NEWEST, []),
    ("nobody knows the newest data: rest", lambda: following().but(troubles=unknown()), ConditionType.DATA_CURRENT,
     Verdict.REST, Reason.DATA_UNREACHABLE, []),
    ("newer data: fetch it", lambda: following().but(newer=newer(fact=DatasetFact(md5(2)))),
     ConditionType.DATA_CURRENT, Verdict.WAIT, Reason.DATA_NEWER, ["StartJob"]),
    ("newer data fetched: look and compare", lambda: following().but(newer=newer(validation=None, difference=None)),
     ConditionType.DATA_CURRENT, Verdict.WAIT, Reason.DATA_NEWER, ["StartJob", "StartJob"]),
    ("newer data is good: propose it", lambda: following().but(newer=newer()), ConditionType.DATA_CURRENT,
     Verdict.WAIT, Reason.PULL_REQUEST_OPEN, ["Propose"]),
    ("newer data is bad: rest", lambda: following().but(newer=newer(validation=validation(train=BAD.train))),
     ConditionType.DATA_CURRENT, Verdict.REST, Reason.DATA_INVALID, []),
    ("pinned but not serving: roll out", lambda: _second_merged().but(serving=None), ConditionType.SERVING,
     Verdict.WAIT, Reason.ROLLING_OUT, ["RollOut"]),
    ("pinned, something else serves: roll out", _second_merged, ConditionType.SERVING, Verdict.WAIT,
     Reason.ROLLING_OUT, ["RollOut"]),
    ("release of nothing known: stop", lambda: settled().but(runs={}), ConditionType.SERVING, Verdict.STOP,
     Reason.RELEASE_UNKNOWN, ["StartJob"]),
    ("rollout failed: fall back, propose rollback", _second_failed, ConditionType.SERVING, Verdict.STOP,
     Reason.FALLBACK, ["Propose"]),
    ("rollout failed, nothing before it: stop", _first_failed, ConditionType.SERVING, Verdict.STOP,
     Reason.ROLLOUT_FAILED, []),
    ("engine of another device: export it again", _other_device, ConditionType.SERVING, Verdict.WAIT,
     Reason.ENGINE_MISMATCH, ["StartJob"]),
    ("merged, with steps: put beside what serves", merged, ConditionType.SERVING, Verdict.WAIT, Reason.CANARY,
     ["RollOut"]),
    ("in a step, and worse: fall back", lambda: beside(2, new=live(errors=0.3, requests=200)), ConditionType.LIVE_GATE,
     Verdict.STOP, Reason.LIVE_GATE_FAILED, ["RollOut", "Propose"]),
    ("on trial: wait", lambda: on_trial(live()), ConditionType.LIVE_GATE, Verdict.WAIT, Reason.BAKING, []),
    ("trial passed: nothing", lambda: on_trial(live(), over=True), ConditionType.LIVE_GATE, Verdict.DONE,
     Reason.LIVE_GATE_PASSED, []),
    ("trial without traffic: rest", lambda: on_trial(None, over=True), ConditionType.LIVE_GATE, Verdict.REST,
     Reason.BAKE_INCONCLUSIVE, []),
    ("live traffic disagrees: fall back, propose rollback", lambda: on_trial(live(errors=0.3)),
     ConditionType.LIVE_GATE, Verdict.STOP, Reason.LIVE_GATE_FAILED, ["RollOut", "Propose"]),
    ("fallen back: git is behind", lambda: on_trial(live(errors=0.3)), ConditionType.GIT_BEHIND, Verdict.DONE,
     Reason.FALLBACK, ["RollOut", "Propose"]),
    ("for devices alone: nothing here", on_devices, ConditionType.SERVING, Verdict.DONE, Reason.ON_DEVICES, []),
    ("no devices: rest", on_devices, ConditionType.FLEET, Verdict.REST, Reason.NO_DEVICES, []),
    ("devices wait: open a wave", lambda: on_devices().but(devices=fleet(on_devices())), ConditionType.FLEET,
     Verdict.WAIT, Reason.WAVE_OPEN, ["OpenWave"]),
    ("a wave soaks: wait", lambda: _reached(2, since=NOW - 60), ConditionType.FLEET, Verdict.WAIT,
     Reason.WAVE_SOAKING, []),
    ("devices failed: halt, propose rollback", lambda: _reached(2, failed=1), ConditionType.FLEET, Verdict.STOP,
     Reason.FLEET_HALTED, ["HaltWaves", "Propose"]),
    ("all devices serve: nothing", lambda: _reached(20, serving=20), ConditionType.FLEET, Verdict.DONE,
     Reason.FLEET_SERVING, []),
    ("serving not asked for", lambda: settled(serving=None), ConditionType.SERVING, Verdict.REST,
     Reason.NO_SERVING, []),
    ("nothing released yet", lambda: FRESH, ConditionType.SERVING, Verdict.REST, Reason.NOT_RELEASED,
     ["StartJob"]),
    ("no run, none in flight: train", lambda: FRESH, ConditionType.TRAINED, Verdict.WAIT, Reason.TRAINING,
     ["StartJob"]),
    ("no run, one in flight: wait", lambda: _with_job(JobPhase.RUNNING), ConditionType.TRAINED, Verdict.WAIT,
     Reason.TRAINING, []),
    ("no run, one waits for room: wait", lambda: _with_job(JobPhase.QUEUED), ConditionType.TRAINED, Verdict.WAIT,
     Reason.QUEUED, []),
    ("no run, job lost for good: stop", lambda: _with_job(JobPhase.ENDED, exit_code=10), ConditionType.TRAINED,
     Verdict.STOP, Reason.JOB_FAILED, []),
    ("no run, denied: stop", _denied, ConditionType.TRAINED, Verdict.STOP, Reason.DENIED, []),
    ("run failed for good: stop", _failed_run, ConditionType.TRAINED, Verdict.STOP, Reason.TRAINING_FAILED, []),
    ("evaluation missing: evaluate", lambda: candidate_ready().but(evaluations={}), ConditionType.EVALUATED,
     Verdict.WAIT, Reason.EVALUATING, ["StartJob"]),
    ("no golden set: go on", lambda: candidate_ready(data__golden=None, gates=[]), ConditionType.EVALUATED,
     Verdict.DONE, Reason.NO_GOLDEN, ["Propose"]),
    ("export missing: export, never retrain", _export_changed, ConditionType.EXPORTED, Verdict.WAIT, Reason.EXPORTING,
     ["StartJob"]),
    ("export failed for good: stop", _failed_export, ConditionType.EXPORTED, Verdict.STOP, Reason.EXPORT_FAILED, []),
    ("all present, gates pass: propose", candidate_ready, ConditionType.PROPOSED, Verdict.WAIT,
     Reason.PULL_REQUEST_OPEN, ["Propose"]),
    ("the same behind a serving model: propose", lambda: _retrain(work=True), ConditionType.PROPOSED, Verdict.WAIT,
     Reason.PULL_REQUEST_OPEN, ["Propose"]),
    ("gates fail: stop with the numbers", lambda: candidate_ready(gates=FAILING),
     ConditionType.GATES_PASSED, Verdict.STOP, Reason.GATE_FAILED, []),
    ("parity fails: stop", lambda: candidate_ready(
        data__golden=None, gates=[], exports=[{"name": "onnx", "format": "onnx", "parity": {"maxDrop": 0.1}}]),
     ConditionType.GATES_PASSED, Verdict.STOP, Reason.PARITY_FAILED, []),
    ("hold: rest", _held, ConditionType.PROPOSED, Verdict.REST, Reason.HELD, []),
    ("proposal waits", lambda: _proposal(PullState.OPEN), ConditionType.PROPOSED, Verdict.WAIT,
     Reason.PULL_REQUEST_OPEN, []),
    ("proposal rejected: stop", lambda: _proposal(PullState.CLOSED), ConditionType.PROPOSED, Verdict.STOP,
     Reason.REJECTED, []),
    ("proposal merged and undone: rest", lambda: _proposal(PullState.MERGED), ConditionType.PROPOSED, Verdict.REST,
     Reason.REVERTED, []),
    ("proposal taken over: rest", lambda: _proposal(PullState.OPEN, foreign=True), ConditionType.PROPOSED, Verdict.REST,
     Reason.DETACHED, []),
    ("proposal points elsewhere: rest", lambda: _proposal(PullState.OPEN, retargeted=True), ConditionType.PROPOSED,
     Verdict.REST, Reason.RETARGETED, []),
    ("proposal closed by us a moment ago: wait", _closed_just_now, ConditionType.PROPOSED, Verdict.WAIT,
     Reason.PROPOSAL_PAUSED, []),
    ("the repository is full: wait", lambda: candidate_ready().but(crowd=Crowd(Limits(max_open=3), 3)),
     ConditionType.PROPOSED, Verdict.WAIT, Reason.PROPOSAL_LIMIT, []),
    ("another one taken over: rest", _taken_over, ConditionType.PROPOSED, Verdict.REST, Reason.TOO_MANY_PROPOSALS, []),
    ("a search is asked for: search", searching, ConditionType.TUNED, Verdict.WAIT, Reason.TUNING, ["StartJob"]),
    ("gates failed, a search is asked for: search",
     lambda: candidate_ready(tuning=TUNING, gates=FAILING).but(tuning=None), ConditionType.TUNED, Verdict.WAIT,
     Reason.TUNING, ["StartJob"]),
    ("no run, a search is asked for: train first", lambda: Stage(spec(tuning=TUNING), observed(), Lab()),
     ConditionType.TUNED, Verdict.REST, Reason.TUNING, ["StartJob"]),
    ("search failed for good: rest", lambda: tuned(status="Failed"), ConditionType.TUNED, Verdict.REST,
     Reason.TUNING_FAILED, []),
    ("search found nothing better: nothing", lambda: tuned(better=False), ConditionType.TUNED, Verdict.DONE,
     Reason.TUNED, []),
    ("search found better arguments: propose", tuned, ConditionType.TUNED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN,
     ["Propose"]),
    ("the same beside a release to propose: wait", lambda: candidate_ready(tuning=TUNING), ConditionType.TUNED,
     Verdict.WAIT, Reason.TOO_MANY_PROPOSALS, ["Propose"]),
    ("a run is not mirrored: mirror it, at rest otherwise", lambda: settled(tracking=MLFLOW), ConditionType.TRACKED,
     Verdict.REST, Reason.TRACKING, ["StartJob"]),
    ("a run is mirrored: nothing", mirrored, ConditionType.TRACKED, Verdict.DONE, Reason.TRACKED, []),
    ("somebody moved the alias: put it back", lambda: mirrored(champion="9"), ConditionType.TRACKED,
     Verdict.REST, Reason.ALIAS_MOVED, ["Register"]),
    ("the registered name is somebody else's: leave it", lambda: mirrored(owner="a/b"), ConditionType.TRACKED,
     Verdict.REST, Reason.NAME_TAKEN, []),
    ("traffic is to be watched: count what is usual", unwatched, ConditionType.MONITORED, Verdict.WAIT,
     Reason.PROFILING, ["StartJob"]),
    ("it can never be counted: rest", lambda: watched().but(profile=_failed_profile()), ConditionType.MONITORED,
     Verdict.REST, Reason.PROFILE_FAILED, []),
    ("traffic is as it should be: nothing", watched, ConditionType.MONITORED, Verdict.DONE, Reason.SIGNALS_QUIET, []),
    ("no window says anything: rest",
     lambda: watched(*(SignalStatus(name=name, state="Unknown") for name in ("errors", "faults"))),
     ConditionType.MONITORED, Verdict.REST, Reason.TRAFFIC_INCONCLUSIVE, []),
    ("Prometheus is down: rest", lambda: watched().but(watched=Watched(trouble="no answer")), ConditionType.MONITORED,
     Verdict.REST, Reason.TRAFFIC_UNREACHABLE, []),
    ("nobody counts: rest", lambda: watched().but(watches=False), ConditionType.MONITORED, Verdict.REST,
     Reason.TRAFFIC_UNREACHABLE, []),
    ("a signal fires, nothing is triggered by it: tell", lambda: watched(firing()), ConditionType.MONITORED,
     Verdict.REST, Reason.SIGNAL_FIRING, []),
    ("a signal that could ask is quiet: nothing", lambda: watched(triggers=ON_ERRORS), ConditionType.TRIGGERED,
     Verdict.DONE, Reason.NOTHING_TRIGGERED, []),
    ("a signal asks: propose to retrain", asking, ConditionType.TRIGGERED, Verdict.WAIT, Reason.PULL_REQUEST_OPEN,
     ["Propose"]),
    ("a schedule is due: propose to retrain",
     lambda: settled(triggers={"schedule": "0 3 1 * *"}).but(schedule_due=NOW - 60), ConditionType.TRIGGERED,
     Verdict.WAIT, Reason.PULL_REQUEST_OPEN, ["Propose"]),
    ("a schedule was due before the run began: nothing",
     lambda: settled(triggers={"schedule": "0 3 1 * *"}).but(schedule_due=1.0), ConditionType.TRIGGERED,
     Verdict.DONE, Reason.NOTHING_TRIGGERED, []),
    ("a schedule is none: stop", lambda: settled(triggers={"schedule": "x x x x x"}).but(troubles={
        SCHEDULE: SourceTrouble(Reason.SCHEDULE_INVALID, "no cron line", passing=False)}), ConditionType.TRIGGERED,
     Verdict.STOP, Reason.SCHEDULE_INVALID, []),
    ("a signal asks, a candidate is proposed: wait",
     lambda: moved_on(asking(), lambda data: data["training"]["args"].update(epochs=9)).but(
         signals=asking().world.signals), ConditionType.TRIGGERED, Verdict.REST, Reason.TRIGGER_WAITS, ["Propose"]),
    ("a signal asks, labels are wanted: rest",
     lambda: asking(triggers=ON_ERRORS | {"require": {"newLabels": 300}}), ConditionType.TRIGGERED, Verdict.REST,
     Reason.LABELS_WANTED, []),
    ("a signal asks, newer data has too few labels: rest", lambda: _asking_for_data(require={"newLabels": 300}),
     ConditionType.DATA_CURRENT, Verdict.REST, Reason.LABELS_WANTED, []),
    ("a signal asks, newer data is there: propose that", _asking_for_data, ConditionType.DATA_CURRENT,
     Verdict.WAIT, Reason.PULL_REQUEST_OPEN, ["Propose"]),
    ("newer data is good, but it is too soon: rest",
     lambda: following(triggers={"onData": True, "cooldown": "3d"}).but(
         newer=newer(), proposals=(_closed_retraining(),)),
     ConditionType.DATA_CURRENT, Verdict.REST, Reason.COOLING_DOWN, []),
    ("a signal asks, the last question is young: rest",
     lambda: asking(triggers=ON_ERRORS | {"cooldown": "3d"}).but(proposals=(_closed_retraining(),)),
     ConditionType.TRIGGERED, Verdict.REST, Reason.COOLING_DOWN, []),
    ("released and serving: nothing", settled, ConditionType.PROPOSED, Verdict.DONE, Reason.RELEASED, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "type_", "verdict", "reason", "actions"), [pytest.param(*row[1:], id=row[0]) for row in TABLE]
)
def test_table(
    build: Callable[[], Stage], type_: ConditionType, verdict: Verdict, reason: Reason, actions: list[str]
) -> None:
    """Each state of the table leads to its verdict, its reason and its actions, and to no others."""
    decided = build().plan
    step = decided.step(type_)
    assert step is not None
    assert (step.verdict, step.reason) == (verdict, reason)
    assert [type(action).__name__ for action in decided.actions] == actions


NOT_FROM_PLANS = {
    Reason.AS_DESIRED: "of the condition Ready, which the summary makes",
    Reason.SUSPENDED: "of the condition Ready, which the summary makes",
    Reason.RETRYING: "trouble while looking or acting, which the summary tells",
    Reason.INTERNAL_ERROR: "a bug, which the host tells",
    Reason.AWAITING_SYNC: "told by a host whose specs come from a cluster, before there is anything to plan",
    Reason.NOT_BOUND: "likewise, where no repository is bound to the namespace",
    Reason.INVALID_MANIFEST: "told before there is a spec to plan for",
    **dict.fromkeys(
        [Reason.UNSIGNED, Reason.SIGNATURE_INVALID, Reason.SIGNATURE_UNTRUSTED, Reason.SIGNATURE_EXPIRED,
         Reason.SIGNATURE_REVOKED, Reason.NO_PULL_REQUEST, Reason.NOT_REVIEWED],
        "told by vetting, before anything is looked at",
    ),
    Reason.UNSAFE_EDIT: "an edit is tried, and proved, when a plan is carried out",
}


def test_every_reason_is_reached_or_explained() -> None:
    """No reason is dead: the states of the table reach each one, or it says here who else gives it."""
    reached = {step.reason for row in TABLE for step in row[1]().plan.steps}
    assert reached | NOT_FROM_PLANS.keys() == set(Reason)
    assert not reached & NOT_FROM_PLANS.keys()


def test_suspended_says_what_it_would_do() -> None:
    """A suspended plan acts on nothing, and keeps what it would do for people to read."""
    decided = candidate_ready(suspend=True).plan
    assert decided.actions == ()
    assert [type(action) for action in decided.intended] == [Propose]


def test_unverified_source_stops_everything() -> None:
    """What is not in git is not acted on: no job, no rollout, no proposal, no withdrawal."""
    for stage in (candidate_ready(), _second_merged(), _second_failed(), FRESH):
        decided = stage.but(verified=False, leftovers={"trunkline/promote/retail.shelf/ffffffffffff": "e"}).plan
        assert decided.intended == ()
        assert [step.type for step in decided.steps] == [ConditionType.SOURCE_VERIFIED]


def test_rollout_comes_first_and_does_not_wait_for_training() -> None:
    """Serving and training are independent rows: both act in one pass, serving before training."""
    stage = moved_on(_second_merged(), lambda data: data["training"]["args"].update(epochs=11), work=False)
    assert [type(action) for action in stage.plan.actions] == [RollOut, StartJob]


def test_leftover_branches_are_swept_in_any_state() -> None:
    """A branch that an interrupted pass left behind goes, whatever else the model is doing."""
    left = {"trunkline/promote/retail.shelf/ffffffffffff": "e" * 40}
    for stage in (settled(), FRESH, _second_failed(), _proposal(PullState.OPEN)):
        decided = stage.but(branches=left, leftovers=left).plan
        assert decided.actions[-1] == DeleteBranch(*next(iter(left.items())))


def test_line_stops_at_the_first_step_that_is_not_done() -> None:
    """Steps are asked in order; those behind an unfinished one say nothing."""
    order = [ConditionType.DATA_READY, ConditionType.TRAINED, ConditionType.EVALUATED, ConditionType.EXPORTED,
             ConditionType.GATES_PASSED, ConditionType.PROPOSED]  # fmt: skip
    assert len(LINE) == len(order)
    for row in TABLE[1:]:
        line = [step for step in row[1]().plan.steps if step.type in order and step.reason is not Reason.FALLBACK]
        assert all(step.verdict is Verdict.DONE for step in line[:-1] if step.type is not ConditionType.PROPOSED)


@pytest.mark.parametrize("build", [pytest.param(row[1], id=row[0]) for row in TABLE])
def test_plan_is_pure(build: Callable[[], Stage]) -> None:
    """The same spec and world give the same plan, and neither is touched."""
    stage = build()
    before = copy.deepcopy((stage.spec, stage.world))
    assert stage.plan == stage.plan
    assert (stage.spec, stage.world) == before


def test_plan_looks_again_when_the_first_pause_is_over() -> None:
    """``after`` is the shortest pause of all steps; none means the host's own pace."""
    assert FRESH.plan.after == 0.0
    assert _with_job(JobPhase.ENDED, exit_code=1, ended=1_800_000_000.0).plan.after == pytest.approx(5.0)
    assert Plan(()).after == 0.0
