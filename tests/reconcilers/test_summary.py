"""Status: kstatus conditions, stable messages, times that are kept, and one line for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reconcilers.actions import StartJob
from reconcilers.apply import Trouble
from reconcilers.observed import DatasetFact
from reconcilers.summary import summarize, trouble_status
from specs.errors import InvalidManifest, Problem, Stalled, Transient, TrunklineError, UnsafeEdit
from specs.facts import JobPhase, JobState, PullState
from specs.status import Condition, ConditionType, ModelStatus, Reason
from tests.support.builders import (
    TOP1,
    Lab,
    Stage,
    candidate_ready,
    context,
    digest,
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
from tests.support.data_stages import following
from tests.support.watched import firing, watched

THEN, LATER = "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z"
LIVE = (ConditionType.MONITORED, ConditionType.TRIGGERED, ConditionType.LIVE_GATE, ConditionType.GIT_BEHIND)
READY, RECONCILING, STALLED = ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED


def status(
    stage: Stage, *errors: TrunklineError, previous: ModelStatus | None = None, now: str = THEN
) -> ModelStatus:
    """Give the status after a pass whose first actions failed with these errors."""
    decided = stage.plan
    start = decided.actions[0] if decided.actions else StartJob(None)  # type: ignore[arg-type]
    troubles = [Trouble(start, error) for error in errors]
    return summarize(context(stage.spec, stage.world), decided, troubles, previous or ModelStatus(), now)


def told(found: ModelStatus) -> dict[ConditionType, tuple[str, str]]:
    """Give the conditions that say how the model is as a whole."""
    return {c.type: (c.status, c.reason) for c in found.conditions if c.type in (READY, RECONCILING, STALLED)}


def _rolling() -> Stage:
    return settled().but(serving=None)


def _rolling_and_failing() -> Stage:
    return moved_on(_rolling(), lambda data: data["gates"][0].update(min=0.999))


def _held() -> Stage:
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
    return moved_on(stage, lambda data: data["release"].update(hold={"reason": "week"}))


def _rejected() -> Stage:
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), PullState.CLOSED),))


def _taken_over() -> Stage:
    stage = candidate_ready()
    return stage.but(proposals=(pull(proposed(stage.spec, stage.world), foreign=True),))


FRESH = Stage(spec(), observed(), Lab())
OVERALL: list[tuple[str, Callable[[], Stage], dict[ConditionType, tuple[str, str]]]] = [
    ("as desired", settled, {READY: ("True", Reason.AS_DESIRED)}),
    ("work under way", lambda: FRESH, {READY: ("False", Reason.TRAINING), RECONCILING: ("True", Reason.TRAINING)}),
    ("rolling out", _rolling, {READY: ("False", Reason.ROLLING_OUT), RECONCILING: ("True", Reason.ROLLING_OUT)}),
    ("pull request open", candidate_ready,
     {READY: ("False", Reason.PULL_REQUEST_OPEN), RECONCILING: ("True", Reason.PULL_REQUEST_OPEN)}),
    ("gates failed", lambda: candidate_ready(gates=[{"name": "g", "metric": TOP1, "min": 1}]),
     {READY: ("False", Reason.GATE_FAILED), STALLED: ("True", Reason.GATE_FAILED)}),
    ("rejected", _rejected, {READY: ("False", Reason.REJECTED), STALLED: ("True", Reason.REJECTED)}),
    ("one waits, one is stuck", _rolling_and_failing,
     {READY: ("False", Reason.GATE_FAILED), RECONCILING: ("True", Reason.ROLLING_OUT),
      STALLED: ("True", Reason.GATE_FAILED)}),
    ("suspended", lambda: settled(suspend=True), {READY: ("False", Reason.SUSPENDED)}),
    ("on hold", _held, {READY: ("True", Reason.AS_DESIRED)}),
    ("nothing released, left to people", _taken_over, {READY: ("False", Reason.NOT_RELEASED)}),
    ("nothing to serve", lambda: settled(serving=None), {READY: ("True", Reason.AS_DESIRED)}),
]  # fmt: skip


@pytest.mark.parametrize(("build", "wanted"), [pytest.param(*row[1:], id=row[0]) for row in OVERALL])
def test_overall_conditions(
    build: Callable[[], Stage], wanted: dict[ConditionType, tuple[str, str]]
) -> None:
    """Ready is always there; Reconciling and Stalled only while they are true."""
    assert told(status(build())) == wanted


NO_ANSWER = Transient("ServerUnavailable", "no answer")
SHARED = UnsafeEdit("shared line")
BOTH = {READY: ("False", Reason.UNSAFE_EDIT), RECONCILING: ("True", Reason.RETRYING),
        STALLED: ("True", Reason.UNSAFE_EDIT)}  # fmt: skip
ERRORS = [
    ("for the moment", (NO_ANSWER,), {READY: ("False", Reason.RETRYING), RECONCILING: ("True", Reason.RETRYING)}),
    ("for good", (SHARED,), {READY: ("False", Reason.UNSAFE_EDIT), STALLED: ("True", Reason.UNSAFE_EDIT)}),
    ("both, in either order", (SHARED, NO_ANSWER), BOTH),
    ("both, in the other order", (NO_ANSWER, SHARED), BOTH),
]


@pytest.mark.parametrize(("errors", "wanted"), [pytest.param(*row[1:], id=row[0]) for row in ERRORS])
def test_trouble_of_actions(
    errors: tuple[TrunklineError, ...], wanted: dict[ConditionType, tuple[str, str]]
) -> None:
    """Trouble with an effect is told in the three names; what a person must do outweighs the rest."""
    found = status(settled(), *errors)
    assert told(found) == wanted
    assert found.summary == f"v1 answers; {errors[0].message}"


def test_every_step_is_a_condition() -> None:
    """Each step that was asked is a condition, in the order of the enum, and no other is there."""
    types = [c.type for c in status(mirrored()).conditions]
    aside = (ConditionType.DATA_CURRENT, ConditionType.TUNED, ConditionType.FLEET, *LIVE)
    assert types == [t for t in ConditionType if t not in (RECONCILING, STALLED, *aside)]
    current = status(following().but(newer=None)).condition(ConditionType.DATA_CURRENT)
    assert current is not None
    assert (current.status, current.reason) == ("True", Reason.DATA_NEWEST)
    assert [c.type for c in status(FRESH).conditions] == [
        READY, RECONCILING, ConditionType.SOURCE_VERIFIED, ConditionType.DATA_READY, ConditionType.TRAINED,
        ConditionType.SERVING,
    ]  # fmt: skip


def test_same_world_gives_the_same_status() -> None:
    """Time alone changes nothing: a second pass in the same world writes the same bytes."""
    for row in OVERALL:
        stage = row[1]()
        one = status(stage)
        assert status(stage, previous=one, now=LATER) == one


def test_transition_time_moves_with_the_status_only() -> None:
    """A condition keeps its time while its status stays, also when reason and message change."""
    one = status(FRESH)
    lab = Lab()
    lab.do(FRESH.plan.actions[0].order)  # type: ignore[union-attr]
    two = status(Stage(FRESH.spec, observed(lab), lab), previous=one, now=LATER)
    times = {c.type: c.last_transition_time for c in two.conditions}
    assert two.condition(RECONCILING) != one.condition(RECONCILING)
    assert times[RECONCILING] == THEN
    assert times[ConditionType.TRAINED] == LATER
    assert times[ConditionType.SERVING] == THEN


def test_status_says_what_serves_what_is_proposed_and_what_runs() -> None:
    """The fields beside the conditions come from the snapshot."""
    stage = moved_on(settled(), lambda data: data["training"]["args"].update(epochs=9))
    offered = pull(proposed(stage.spec, stage.world), number=4)
    jobs = {name: JobState(name, phase) for name, phase in (("b", JobPhase.RUNNING), ("a", JobPhase.ENDED))}
    found = status(stage.but(proposals=(offered,), jobs=jobs))
    release = stage.spec.release
    assert release is not None
    assert found.inputs_digest == stage.spec.inputs_digest
    assert found.candidate == digest("weights", stage.spec.inputs_digest)
    assert found.metrics[TOP1] == pytest.approx(0.992593)
    assert found.version == 1
    assert found.serving is not None
    assert (found.serving.version, found.serving.file) == (1, release.exports["onnx"])
    assert [(p.number, p.intent, p.url) for p in found.proposals] == [(4, "promote", "local://4")]
    assert found.jobs == ["b"]
    assert found.commit == "c" * 40
    assert found.summary == "v1 answers; PullRequestOpen: pull request #4 waits for a person to merge it"


def test_suspended_says_what_would_happen() -> None:
    """A person who suspended a model can read what lifting that would do."""
    stage = moved_on(
        settled(suspend=True), lambda data: data["training"]["args"].update(epochs=9), work=False
    )
    ready = status(stage).condition(READY)
    assert ready is not None
    assert "retrains; re-exports onnx" in ready.message
    assert status(stage).summary == "v1 answers; suspended"


def test_generation_of_the_host_is_kept_and_stamped() -> None:
    """The host's generation goes through; conditions carry it."""
    found = status(settled(), previous=ModelStatus(observed_generation=7))
    assert found.observed_generation == 7
    assert {c.observed_generation for c in found.conditions} == {7}


def test_long_messages_are_cut() -> None:
    """Kubernetes takes 32 KiB at most; a message is cut rather than refused."""
    gates = [{"name": f"g{i}", "metric": f"m{i}" + "x" * 250, "min": 1} for i in range(128)]
    found = status(candidate_ready(gates=gates))
    gated = found.condition(ConditionType.GATES_PASSED)
    assert gated is not None
    assert len(gated.message) == 32_000


BROKEN = InvalidManifest((Problem("m.yaml", 3, 5, "spec.task", "is missing"), Problem("m.yaml", 9, 1, "", "more")))
TROUBLES: list[tuple[str, TrunklineError, dict[ConditionType, tuple[str, str]], str]] = [
    ("forge down", Transient("ForgeUnavailable", "no route"),
     {READY: ("False", Reason.RETRYING), RECONCILING: ("True", Reason.RETRYING)}, "no route"),
    ("corrupt record", Stalled("CorruptRecord", "runs/x is not a RunRecord"),
     {READY: ("False", "CorruptRecord"), STALLED: ("True", "CorruptRecord")}, "runs/x is not a RunRecord"),
    ("broken file", BROKEN, {READY: ("False", Reason.INVALID_MANIFEST), STALLED: ("True", Reason.INVALID_MANIFEST)},
     "m.yaml:3:5: spec.task: is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "wanted", "summary"), [pytest.param(*row[1:], id=row[0]) for row in TROUBLES])
def test_trouble_while_looking_keeps_the_rest(
    error: TrunklineError, wanted: dict[ConditionType, tuple[str, str]], summary: str
) -> None:
    """Where the world could not be looked at, the last known facts stay and only the overall conditions change."""
    before = status(settled())
    found = trouble_status(error, before, LATER)
    assert told(found) == wanted
    assert found.summary == summary
    kept = {"summary", "conditions"}
    assert found.model_dump(exclude=kept) == before.model_dump(exclude=kept)
    steps = [c for c in before.conditions if c.type is not READY]
    assert [c for c in found.conditions if c.type not in (READY, RECONCILING, STALLED)] == steps
    assert trouble_status(error, found, "2027-01-01T00:00:00Z") == found


def test_trouble_before_the_first_pass_is_told_too() -> None:
    """A model whose very first look fails has a status that says so."""
    found = trouble_status(NO_ANSWER, ModelStatus(), THEN)
    assert told(found) == {READY: ("False", Reason.RETRYING), RECONCILING: ("True", Reason.RETRYING)}
    assert isinstance(found.conditions[0], Condition)


def test_serving_model_with_trouble_behind_it_still_says_what_serves() -> None:
    """A stop behind a serving model does not hide that it serves."""
    stage = settled()
    stage = stage.but(train=DatasetFact("sha256:" + "0" * 64, reason="DataCorrupt", message="other bytes"))
    found = status(stage)
    serves = found.condition(ConditionType.SERVING)
    assert serves is not None
    assert serves.status == "True"
    assert found.summary.startswith("v1 answers; DataCorrupt: ")


def test_release_taken_out_is_not_ready() -> None:
    """A model whose release was reverted away is not ready: nothing is released."""
    stage = settled()
    merged = pull(proposed(released(stage.spec, None), replace(stage.world, serving=None)), PullState.MERGED)
    bare = replace(stage, spec=released(stage.spec, None)).but(serving=None, proposals=(merged,))
    assert told(status(bare)) == {READY: ("False", Reason.NOT_RELEASED)}
    assert serving(stage.spec).ready


def test_signals_are_told_and_leave_the_model_ready() -> None:
    """Each as it stands, in the order of the spec; one that fires is in the line for people, and no error."""
    told = status(watched(firing("faults")))
    assert [(each.name, each.state) for each in told.signals] == [("errors", "Quiet"), ("faults", "Firing")]
    assert told.summary.startswith("v1 answers; SignalFiring: out of bounds: faults-v1-")
    ready = told.condition(ConditionType.READY)
    assert ready is not None
    assert (ready.status, ready.reason) == ("True", Reason.AS_DESIRED)
    assert status(settled()).signals == []
