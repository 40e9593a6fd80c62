"""The search beside the line: when it begins, what it asks for, what people are told. It never gets in the way."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose, StartJob
from reconcilers.context import Step, Verdict
from reconcilers.forecast import forecast
from reconcilers.summary import summarize
from reconcilers.tuning import changes, draft
from specs.errors import UnsafeEdit
from specs.experiment_records import TuningRecord
from specs.facts import JobPhase, JobState, PullState
from specs.manifest import parse, rewrite
from specs.names import tuning_dir
from specs.status import ConditionType, ModelStatus, Reason
from specs.workorders import TuneOrder, tuning_digest
from tests.support.builders import (
    KEY,
    NOW,
    Lab,
    Stage,
    candidate_ready,
    context,
    digest,
    moved_on,
    observed,
    proposed,
    pull,
    spec,
)  # fmt: skip
from tests.support.searches import TUNING, answered, order_of, searching, tuned


def step(stage: Stage) -> Step:
    """Give what the plan says about the search."""
    found = stage.plan.step(ConditionType.TUNED)
    assert found is not None
    return found


def proposal(stage: Stage) -> Propose:
    """Give the proposal that the search leads to."""
    (only,) = [action for action in step(stage).actions if isinstance(action, Propose)]
    return only


def conditions(stage: Stage) -> dict[ConditionType, tuple[str, str]]:
    """Give the status' conditions."""
    status = summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "2026-11-23T10:00:00Z")
    return {each.type: (each.status, each.reason) for each in status.conditions}


class TestName:
    def test_neither_data_nor_arguments_are_part_of_it(self) -> None:
        """Newer data, and a merged result, do not search again."""
        name = tuning_digest(KEY, spec(tuning=TUNING))
        assert tuning_digest(KEY, spec(tuning=TUNING, training__args={"lr0": 0.0123})) == name
        assert tuning_digest(KEY, spec(tuning=TUNING, data__train__uri__digest=digest("newer"))) == name

    @pytest.mark.parametrize(
        "changes",
        [{"tuning": {**TUNING, "nonce": "again"}}, {"tuning": {**TUNING, "maxTrialCount": 4}},
         {"tuning": TUNING, "training__model": "yolo26s-cls.yaml"}],
        ids=["nonce", "section", "base model"],
    )  # fmt: skip
    def test_what_asks_for_another_search_has_another_name(self, changes: dict[str, Any]) -> None:
        """The section as a whole, and what is trained, name the search."""
        assert tuning_digest(KEY, spec(**changes)) != tuning_digest(KEY, spec(tuning=TUNING))

    def test_without_the_section_there_is_no_search(self) -> None:
        """Nothing is said about it, and no condition shows."""
        assert tuning_digest(KEY, spec()) is None
        assert candidate_ready().plan.step(ConditionType.TUNED) is None


class TestBeginning:
    def test_the_order_has_all_that_a_search_needs(self) -> None:
        """Inputs as a training would have them, the section, and where it runs: as trainings do."""
        stage = searching(training__resources={"limits": {"nvidia.com/gpu": "1"}})
        (action,) = step(stage).actions
        assert isinstance(action, StartJob)
        assert isinstance(action.order, TuneOrder)
        assert action.order.inputs == stage.spec.inputs()
        assert action.order.tuning == stage.spec.tuning
        assert action.order.deadline_seconds is None  # its own budget: a job that is killed has no answer
        assert action.placement.limits == {"nvidia.com/gpu": "1"}

    @pytest.mark.parametrize(
        ("stage", "words"),
        [
            (Stage(spec(tuning=TUNING), observed(validation=None), Lab()), "waits for the data"),
            (Stage(spec(tuning=TUNING), observed(), Lab()), "waits for the training of the inputs as they are"),
            (candidate_ready(tuning=TUNING).but(tuning=None, exports={}), "candidate is measured and exported"),
        ],
        ids=["data", "training", "export"],
    )
    def test_the_line_comes_first(self, stage: Stage, words: str) -> None:
        """While the line has work of its own no search begins, and the condition says what it waits for."""
        assert step(stage).verdict is Verdict.REST
        assert words in step(stage).message
        assert not any(isinstance(a, StartJob) and isinstance(a.order, TuneOrder) for a in stage.plan.actions)

    def test_a_search_that_has_begun_goes_on(self) -> None:
        """Newer inputs train beside it; an attempt that ended is followed by another, which continues it."""
        stage = moved_on(searching(), lambda data: data["training"]["args"].update(epochs=9), work=False)
        stage = stage.but(tuning=None)
        job = order_of(stage).job
        ended = JobState(job, JobPhase.ENDED, attempts=1, exit_code=143, ended=NOW - 60)
        kinds = [a.order.kind for a in stage.but(jobs={job: ended}).plan.actions if isinstance(a, StartJob)]
        assert kinds == ["train", "tune"]

    def test_a_job_that_is_lost_stalls_nothing(self) -> None:
        """What serves was not made by the search: the model stays ready, and the condition tells what to do."""
        stage = searching()
        job = order_of(stage).job
        lost = stage.but(jobs={job: JobState(job, PHASE, attempts=3, exit_code=1, message="no disk")})
        assert (step(lost).verdict, step(lost).reason) == (Verdict.REST, Reason.JOB_FAILED)
        assert f"trunkline retry {job}" in step(lost).message
        assert conditions(lost)[ConditionType.READY] == ("True", Reason.AS_DESIRED)


PHASE = JobPhase.ENDED


class TestAnswer:
    def test_a_failed_search_is_told_and_leaves_the_model_ready(self) -> None:
        """The words say why, and that a nonce searches again."""
        stage = tuned(status="Failed")
        assert "2 trials failed" in step(stage).message
        assert "nonce" in step(stage).message
        found = conditions(stage)
        assert found[ConditionType.TUNED] == ("False", Reason.TUNING_FAILED)
        assert found[ConditionType.READY] == ("True", Reason.AS_DESIRED)
        assert ConditionType.STALLED not in found

    def test_nothing_better_is_an_answer(self) -> None:
        """No proposal, and a sentence instead."""
        stage = tuned(better=False)
        assert step(stage).actions == ()
        assert step(stage).message == "3 trials, and none better than the arguments as they were"
        assert conditions(stage)[ConditionType.TUNED] == ("True", Reason.TUNED)

    def test_equal_is_not_better(self) -> None:
        """Nobody is asked to retrain for nothing."""
        stage, record = answered(searching())
        assert record.best is not None
        same = record.best.model_copy(update={"value": 0.9})
        assert step(stage.but(tuning=record.model_copy(update={"best": same}))).verdict is Verdict.DONE

    def test_another_searchs_answer_is_none(self) -> None:
        """After a change of the section, what the search before it found is not asked about."""
        stage = moved_on(tuned(), lambda data: data["tuning"].update(nonce="again")).but(tuning=tuned().world.tuning)
        assert step(stage).reason is Reason.TUNING
        assert isinstance(step(stage).actions[0], StartJob)

    def test_merged_it_is_done(self) -> None:
        """With the best values in the file nothing is left to ask; what it was about is told."""
        stage = _merged(tuned())
        assert step(stage).verdict is Verdict.DONE
        assert step(stage).message == "accuracy_top1 0.95, 0.9 before, in 3 trials"

    def test_without_a_first_trial_the_best_is_proposed(self) -> None:
        """Where the arguments as they are failed, anything that trains is better."""
        stage, record = answered(searching())
        stage = stage.but(tuning=record.model_copy(update={"trials": record.trials[1:]}))
        assert isinstance(step(stage).actions[0], Propose)


def _merged(stage: Stage) -> Stage:
    record = stage.world.tuning
    made = moved_on(stage, lambda data: data["training"]["args"].update(lr0=0.0123), work=False)
    return made.but(tuning=record)


TEXT = """\
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {name: shelf, namespace: retail}
spec:
  task: classify
  data: {train: {uri: {url: "store://train", digest: "sha256:%s"}}}
  training:
    model: yolo26n-cls.yaml   # small
    args:
      epochs: 8               # enough
      lr0: 0.01               # a guess
  tuning:
    objective: {type: maximize, metric: metrics/accuracy_top1}
    maxTrialCount: 3
    parameters: [{name: lr0, type: double, min: 0.001, max: 0.1, scale: log}]
  exports: [{name: onnx, format: onnx}]
""" % ("a" * 64)


class TestProposal:
    def test_it_changes_the_values_and_no_other_byte(self) -> None:
        """Comments stay, other arguments stay, and what only the trials had does not get in."""
        stage = tuned(
            tuning={**TUNING, "trialArgs": {"epochs": 1}}, training__args={"epochs": 8, "imgsz": 32, "lr0": 0.01}
        )
        asked = proposal(stage).proposal
        assert asked.edits == (("spec.training.args.lr0", 0.0123),)
        text = rewrite(TEXT, KEY, asked.edits)
        assert text == TEXT.replace("lr0: 0.01  ", "lr0: 0.0123  ")
        assert parse(text, "", KEY).model.spec.training.args == {"epochs": 8, "lr0": 0.0123}

    def test_where_there_are_no_arguments_it_writes_them(self) -> None:
        """The trainer's default, which the first trial told, is what the value is held against."""
        stage = tuned(training__args={}, gates=[])
        assert proposal(stage).proposal.edits == (("spec.training.args", {"lr0": 0.0123}),)
        assert "| `lr0` | `0.01` | `0.0123` |" in proposal(stage).proposal.body

    def test_what_is_so_by_default_is_not_written(self) -> None:
        """A best value that is the default changes nothing."""
        stage, record = answered(searching())
        assert record.best is not None
        best = record.best.model_copy(update={"args": {"lr0": 0.01}})
        found = record.model_copy(update={"best": best})
        assert changes(context(stage.spec, stage.but(tuning=found).world), found) == {}

    def test_its_text_says_what_people_need(self) -> None:
        """What changes, how it was found out, what merging does, how to undo it, how to say no."""
        asked = proposal(tuned()).proposal
        assert asked.title == "retail/shelf: tune training.args (accuracy_top1 0.95, 0.9 before, in 3 trials)"
        for words in (
            "| 1 | 0.95 | `0.0123` | 40 s | **best** |", "| 0 | 0.9 | `0.01` | 40 s | as it was |",
            "### What merging does", "golden was not looked at", "### How to undo it", "### How to say no",
            "all trials that `maxTrialCount` allows",
        ):  # fmt: skip
            assert words in asked.body, words
        assert "cut short" not in asked.body

    def test_it_says_what_changed_since(self) -> None:
        """Other data, or other arguments than the trials had, are said; the proposal stays the same one."""
        stage, record = answered(searching())
        older = {**record.inputs, "data": digest("older"), "args": {"epochs": 2, "imgsz": 32}}
        asked = proposal(stage.but(tuning=record.model_copy(update={"inputs": older}))).proposal
        assert "The training data is another one by now" in asked.body
        assert "**Other arguments changed** since the search began: `epochs`" in asked.body
        assert asked.key == proposal(stage).proposal.key

    def test_trial_arguments_are_said_and_not_proposed(self) -> None:
        """Who merges knows that the trials were shorter than the training will be."""
        asked = proposal(tuned(tuning={**TUNING, "trialArgs": {"epochs": 2}})).proposal
        assert "`epochs: 2`, which is not part of this change" in asked.body

    def test_the_evidence_comes_with_it(self) -> None:
        """The record, a page with all trials and the pictures, in the folder of the search."""
        stage = tuned()
        asked, record = proposal(stage).proposal, stage.world.tuning
        assert record is not None
        folder = tuning_dir(*KEY, record.tuning_digest)
        assert TuningRecord.decode(asked.files[f"{folder}/tuning.json"]) == record
        page = asked.files[f"{folder}/report.md"].decode()
        assert "![history.png](history.png)" in page
        assert "cut short" in page
        assert asked.blobs == {f"{folder}/{name}": found for name, found in record.files.items()}
        assert f"Trunkline-Tuning: {record.tuning_digest}" in asked.message

    def test_it_says_the_same_each_time(self) -> None:
        """The same world gives the same commit: no time is in it."""
        assert proposal(tuned()) == proposal(tuned())

    def test_words_of_others_are_no_markup(self) -> None:
        """A metric, a value or a message from a user cannot become a link or a mention."""
        stage, record = answered(searching())
        failed = record.trials[2].model_copy(update={"status": "Failed", "message": "@all <img> #1"})
        found = record.model_copy(update={"trials": [*record.trials[:2], failed]})
        page = next(text for path, text in proposal(stage.but(tuning=found)).proposal.files.items() if "report" in path)
        assert b"@all" not in page
        assert b"<img>" not in page


class TestLife:
    def test_open_it_waits(self) -> None:
        """Nothing is written while a person thinks."""
        stage = tuned()
        waiting = stage.but(proposals=(pull(proposal(stage).proposal),))
        assert (step(waiting).verdict, step(waiting).actions) == (Verdict.WAIT, ())

    def test_rejected_it_is_remembered_and_stalls_nothing(self) -> None:
        """It is asked again only for another search."""
        stage = tuned()
        no = stage.but(proposals=(pull(proposal(stage).proposal, PullState.CLOSED),))
        assert (step(no).verdict, step(no).reason, step(no).actions) == (Verdict.REST, Reason.REJECTED, ())
        assert "change spec.tuning" in step(no).message
        assert conditions(no)[ConditionType.READY] == ("True", Reason.AS_DESIRED)

    def test_merged_and_changed_by_hand_it_is_not_asked_again(self) -> None:
        """Whoever writes another value afterwards is not contradicted."""
        stage = tuned()
        merged = pull(proposal(stage).proposal, PullState.MERGED)
        by_hand = moved_on(stage, lambda data: data["training"]["args"].update(lr0=0.05), work=False)
        assert step(by_hand.but(tuning=stage.world.tuning, proposals=(merged,))).reason is Reason.REVERTED

    def test_written_by_hand_it_is_closed(self) -> None:
        """The tracked branch says what was proposed, however it came there."""
        stage = tuned()
        opened = pull(proposal(stage).proposal)
        (close,) = step(_merged(stage).but(proposals=(opened,))).actions
        assert isinstance(close, CloseProposal)
        assert close.reason == "AlreadyApplied"

    @pytest.mark.parametrize("change", [{"tuning": None}, {"tuning": {**TUNING, "nonce": "again"}}])
    def test_what_nobody_asks_for_any_more_is_closed(self, change: dict[str, Any]) -> None:
        """Without the section, or with another search, the open question is an old one."""
        stage = tuned()
        opened = pull(proposal(stage).proposal)
        given = replace(searching(**change), lab=stage.lab).but(proposals=(opened,))
        closes = [action for action in step(given).actions if isinstance(action, CloseProposal)]
        assert [close.reason for close in closes] == ["Obsolete"]

    def test_a_release_is_asked_about_first(self) -> None:
        """Two questions at once are one too many; which one it waits for is said, and nothing flaps."""
        stage = candidate_ready(tuning=TUNING)
        asked = proposed(stage.spec, stage.but(tuning=None).world)
        waits = stage.but(proposals=(pull(asked, number=7),))
        assert step(waits).reason is Reason.TOO_MANY_PROPOSALS
        assert "pull request #7 (promote)" in step(waits).message
        assert step(waits).actions == ()
        assert "the proposal to promote" in step(stage).message
        both = stage.but(proposals=(pull(asked, number=7), pull(_tune(stage), number=8)))
        assert step(both).reason is Reason.PULL_REQUEST_OPEN  # opened before the other one: it stays
        assert step(both).actions == ()

    def test_a_policy_may_allow_more(self) -> None:
        """``maxOpenProposals`` counts over all intents."""
        stage = candidate_ready(tuning=TUNING, policy={"maxOpenProposals": 2})
        assert isinstance(step(stage).actions[0], Propose)


def _tune(stage: Stage) -> Any:
    """Give the proposal that a stage would have without others."""
    return proposal(moved_on(stage, lambda data: data.update(policy={"maxOpenProposals": 2})).but(
        tuning=stage.world.tuning
    )).proposal  # fmt: skip


class TestForecast:
    def test_a_search_is_said_once(self) -> None:
        """Asking for one costs something, so a pull request that does says so; nothing else changes."""
        stage = searching()
        told = forecast(KEY, stage.spec, stage.world, NOW, again=True)
        assert told.sentence == "searches for better training arguments"

    def test_it_comes_after_the_line(self) -> None:
        """What people wait for is said first."""
        given = spec(tuning=TUNING)
        told = forecast(KEY, given, observed(), NOW)
        assert told.effects == (
            "trains", "exports onnx", "then the gates decide whether a release is proposed",
            "searches for better training arguments",
        )  # fmt: skip

    def test_an_answer_is_a_question_of_its_own(self) -> None:
        """What a search found says nothing about what another pull request does."""
        stage = tuned()
        assert forecast(KEY, stage.spec, stage.world, NOW, again=True).sentence == "nothing changes"

    def test_merging_the_answer_retrains(self) -> None:
        """That is what the proposal is for."""
        stage = _merged(tuned())
        told = forecast(KEY, stage.spec, stage.world, NOW, again=True)
        assert told.sentence == "retrains; re-exports onnx; then the gates decide whether a release is proposed"


def test_the_draft_can_be_proved(tmp_path: object) -> None:
    """An argument that only the search knows cannot smuggle anything: the edit is proved like any other."""
    stage, record = answered(searching())
    ctx = context(stage.spec, stage.but(tuning=record).world)
    made = draft(ctx, record, {"lr0": float("nan")})
    with pytest.raises(UnsafeEdit):
        rewrite(TEXT, KEY, ((made.field, float("nan")),))
    assert json.loads(json.dumps(made.content))
