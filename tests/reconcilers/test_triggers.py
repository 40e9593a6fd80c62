"""What asks for another model, when it is asked about, what people read, and how their answers are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import CloseProposal, Propose
from reconcilers.asking import causes
from reconcilers.causes import causes_in
from reconcilers.context import Step, Verdict
from reconcilers.drafts import closing, is_outdated, marker
from reconcilers.limits import Allowance, Crowd
from reconcilers.summary import summarize
from reconcilers.triggers import draft, plan_triggers
from specs.facts import ProposalState, PullState
from specs.manifest import parse, rewrite
from specs.names import nonce_name, parse_branch, signals_dir
from specs.status import ConditionType, ModelStatus, Reason
from tests.support.builders import KEY, NOW, TOP1, Stage, context, moved_on, pull
from tests.support.data_stages import dvc, imported, newer, pinned, validation
from tests.support.watched import HOUR, ON_ERRORS, START, asking, firing, quiet, watched

EPISODE = "errors-v1-20270115T020000Z"


def step(stage: Stage) -> Step:
    """Give what the plan says about triggers."""
    found = stage.plan.step(ConditionType.TRIGGERED)
    assert found is not None
    return found


def proposal(stage: Stage) -> Propose:
    """Give the question that a stage leads to."""
    (only,) = [action for action in step(stage).actions if isinstance(action, Propose)]
    return only


def question(stage: Stage, state: PullState = PullState.OPEN, **changes: Any) -> ProposalState:
    """Give that question as a pull request: opened an hour ago, and decided half an hour ago."""
    closed = 0 if state is PullState.OPEN else int(NOW) - 1800
    return pull(proposal(stage).proposal, state, **{"opened": int(NOW) - 3600, "closed": closed} | changes)


def conditions(stage: Stage) -> dict[ConditionType, tuple[str, str]]:
    """Give the status' conditions."""
    status = summarize(context(stage.spec, stage.world), stage.plan, (), ModelStatus(), "2027-01-15T08:00:00Z")
    return {each.type: (each.status, each.reason) for each in status.conditions}


class TestCauses:
    def test_all_of_a_group_must_fire(self) -> None:
        """Its episode begins with the last of them."""
        both: dict[str, Any] = {"onSignal": [{"allOf": ["errors", "faults"]}]}
        alone = asking(firing(), triggers=both)
        assert causes(context(alone.spec, alone.world)) == ()
        together = asking(firing(), firing("faults", START + HOUR), triggers=both)
        (cause,) = causes(context(together.spec, together.world))
        assert (cause.name, cause.start) == ("errors-and-faults-v1-20270115T030000Z", START + HOUR)
        assert cause.episodes == (EPISODE, "faults-v1-20270115T030000Z")
        assert "the signals errors and faults fire together" in proposal(together).proposal.title

    def test_the_oldest_asks_first_and_what_is_asked_goes_on(self) -> None:
        """An older one that turns up later does not put another question in the place of an open one."""
        each: dict[str, Any] = {"onSignal": ["errors", "faults"]}
        late = asking(firing(start=START + HOUR), firing("faults"), triggers=each)
        assert "faults" in proposal(late).proposal.title
        first = asking(firing(start=START + HOUR), triggers=each)
        opened = late.but(proposals=(question(first),))
        assert (step(opened).reason, step(opened).actions) == (Reason.PULL_REQUEST_OPEN, ())
        assert step(opened).message.startswith("errors-v1-20270115T030000Z: pull request #1 waits")

    def test_a_run_that_does_not_tell_when_it_began_is_not_due(self) -> None:
        """An old record is no reason to train."""
        stage = watched(triggers={"schedule": "0 0 * * *"}).but(schedule_due=NOW)
        runs = {name: run.model_copy(update={"started": ""}) for name, run in stage.world.runs.items()}
        assert step(stage.but(runs=runs)).reason is Reason.NOTHING_TRIGGERED
        assert step(stage).reason is Reason.PULL_REQUEST_OPEN
        assert "`0 0 * * *`, UTC" in proposal(stage).proposal.body
        assert "schedule-20270115T080000Z" in str(proposal(stage).proposal.value)

    def test_signals_that_nobody_lets_ask_do_not(self) -> None:
        """They are told, and that is all."""
        assert watched(firing()).plan.step(ConditionType.TRIGGERED) is None
        assert watched(firing("faults"), triggers=ON_ERRORS).plan.actions == ()


TEXT = """\
apiVersion: trunkline.dev/v1alpha1
kind: ModelSpec
metadata: {name: shelf, namespace: retail}
spec:
  task: classify
  data: {train: {uri: {url: "store://train", digest: "sha256:%s"}}}
  training:
    model: yolo26n-cls.yaml   # small
  exports: [{name: onnx, format: onnx}]
""" % ("a" * 64)


class TestProposal:
    def test_it_changes_the_nonce_and_no_other_byte(self) -> None:
        """Also where the file has none yet; the run is another one then."""
        edits = proposal(asking()).proposal.edits
        assert edits == (("spec.training.nonce", EPISODE),)
        text = rewrite(TEXT, KEY, edits)
        assert text == TEXT.replace("# small\n", f"# small\n    nonce: {EPISODE}\n")
        before, after = (parse(each, "", KEY).model.spec for each in (TEXT, text))
        assert before.inputs_digest != after.inputs_digest

    def test_its_text_says_what_people_need(self) -> None:
        """Which signal, its windows with interval, n and bound, what merging does, how to undo it, how to say no."""
        asked = proposal(asking()).proposal
        assert asked.title == "retail/shelf: retrain, since the signal errors fires"
        for words in (
            "for 3 windows in a row", f"| `errors` | at most 0.05 | 2027-01-15T02:00:00Z | `{EPISODE}` |",
            "| `errors` | 2027-01-15T04:00:00Z | 0.1 | 0.09 to 0.11 | 1000 | at most 0.05 |",
            "### What merging does", "### How to undo it", "### How to say no", "before the next episode",
        ):  # fmt: skip
            assert words in asked.body, words

    def test_the_evidence_comes_with_it(self) -> None:
        """The windows as numbers and as a page, in the folder that the nonce names."""
        asked = proposal(asking()).proposal
        folder = signals_dir(*KEY, EPISODE)
        told = json.loads(asked.files[f"{folder}/signals.json"])
        assert (told["model"], told["nonce"], told["cause"], told["version"]) == (str(KEY), EPISODE, EPISODE, 1)
        assert [each["n"] for each in told["signals"][0]["windows"]] == [1000] * 3
        assert "| `errors` | 2027-01-15T02:00:00Z |" in asked.files[f"{folder}/report.md"].decode()
        assert f"Trunkline-Cause: {EPISODE}" in asked.message

    def test_windows_that_go_by_change_nothing_that_was_written(self) -> None:
        """Neither new ones nor those that are out of sight: the text was true when it was written."""
        stage = asking()
        opened = question(stage)
        for known in ({}, {"errors": stage.world.readings["errors"][1:]}):
            later = stage.but(readings=known, proposals=(opened,))
            assert step(later).actions == ()
        forgotten = proposal(stage.but(readings={})).proposal
        assert "| `errors` | the last of them | 0.1 | 0.09 to 0.11 | 1000 |" in forgotten.body

    def test_it_names_the_others_that_ask_for_the_same_reason(self) -> None:
        """One cause of many models is seen as one; who comes later changes no text that is open."""
        stage = asking()
        crowd = Crowd(because=(("errors", "retail.shelf"), ("errors", "retail.till"), ("light", "retail.door")))
        alone, two = proposal(stage).proposal, proposal(stage.but(crowd=crowd)).proposal
        assert "One other model of this repository asks for the same reason: `retail.till`" in two.body
        assert "of this repository" not in alone.body
        assert step(stage.but(crowd=crowd, proposals=(question(stage),))).actions == ()
        many = Crowd(because=tuple(("errors", f"retail.m{number}") for number in range(30)))
        assert "30 other models of this repository ask" in proposal(stage.but(crowd=many)).proposal.body

    def test_the_list_of_pull_requests_tells_who_asks(self) -> None:
        """Only open ones count, and only those that name a signal."""
        stage = asking()
        opened, closed = question(stage).pull, question(stage, PullState.CLOSED).pull
        assert Allowance().looked([opened]).because == (("errors", "retail.shelf"),)
        assert Allowance().looked([closed]).because == ()
        assert Allowance().looked([replace(opened, body="a person's words")]).because == ()

    def test_words_of_people_are_not_written_over_for_new_windows(self) -> None:
        """What is compared is what stays true for as long as the cause does."""
        stage = asking()
        ctx = context(stage.spec, stage.world)
        (cause,) = causes(ctx)
        key = proposal(stage).proposal.key
        assert not is_outdated(question(stage).pull, marker(replace(draft(ctx, cause), told="other windows"), key))

    def test_a_long_name_is_cut_to_a_nonce_of_its_own(self) -> None:
        """A nonce holds 64 characters; two long causes never share one."""
        names = [f"{'x' * 60}{letter}-v12-20270115T020000Z" for letter in "ab"]
        nonces = [nonce_name(name) for name in names]
        assert [len(nonce) for nonce in nonces] == [64, 64]
        assert nonces[0] != nonces[1]
        assert nonce_name(EPISODE) == EPISODE


class TestAnswers:
    def test_rejected_it_is_remembered_for_the_episode(self) -> None:
        """Nothing is asked again, the model stays ready, and the next episode is another question."""
        no = asking().but(proposals=(question(asking(), PullState.CLOSED),))
        assert (step(no).verdict, step(no).reason, step(no).actions) == (Verdict.REST, Reason.REJECTED, ())
        assert conditions(no)[ConditionType.READY] == ("True", Reason.AS_DESIRED)
        later = asking(firing(start=NOW)).but(proposals=no.world.proposals)
        assert isinstance(proposal(later), Propose)

    def test_whoever_said_no_is_not_asked_by_another_name(self) -> None:
        """Three signals of one cause are one question: what fired when it was answered is answered."""
        each: dict[str, Any] = {"onSignal": ["errors", "faults"]}
        one, both = asking(firing(), triggers=each), asking(firing(), firing("faults"), triggers=each)
        no = both.but(proposals=(question(one, PullState.CLOSED),))
        assert (step(no).reason, step(no).actions) == (Reason.REJECTED, ())
        later = asking(firing(), firing("faults", NOW), triggers=each).but(proposals=no.world.proposals)
        assert "faults" in proposal(later).proposal.title

    def test_reopened_it_is_open(self) -> None:
        """Whoever changes their mind is heard."""
        assert step(asking().but(proposals=(question(asking()),))).reason is Reason.PULL_REQUEST_OPEN

    def test_merged_it_trains_and_asks_no_more(self) -> None:
        """The run of the new nonce is missing; after it fails the gates the same episode asks for nothing."""
        merged = question(asking(), PullState.MERGED)
        stage = _merged(asking())
        assert stage.plan.step(ConditionType.TRAINED).reason is Reason.TRAINING  # type: ignore[union-attr]
        failed = _merged(asking(), work=True, gates=[{"name": "g", "metric": TOP1, "min": 1}])
        after = failed.but(proposals=(merged,))
        assert after.plan.step(ConditionType.GATES_PASSED).reason is Reason.GATE_FAILED  # type: ignore[union-attr]
        assert (step(after).verdict, step(after).reason) == (Verdict.REST, Reason.TRIGGER_WAITS)
        assert "pull request #1 was merged in answer" in step(after).message

    @pytest.mark.parametrize(
        "now",
        [lambda: watched(triggers=ON_ERRORS), lambda: watched(firing()), watched],
        ids=["the signal is quiet", "it may not ask any more", "nothing is triggered"],
    )
    def test_over_it_is_closed(self, now: Any) -> None:
        """A question that nothing asks any more is an old one; it goes with its branch."""
        stage = now().but(proposals=(question(asking()),))
        (close,) = [action for action in stage.plan.actions if isinstance(action, CloseProposal)]
        assert (close.reason, close.branch_head) == ("Obsolete", "b" * 40)

    def test_what_people_took_over_is_left_alone(self) -> None:
        """A foreign commit means hands off, also when the episode is over."""
        theirs = question(asking(), foreign=True)
        assert watched(triggers=ON_ERRORS).but(proposals=(theirs,)).plan.actions == ()
        assert step(asking().but(proposals=(theirs,))).reason is Reason.DETACHED

    def test_behind_a_failed_release_nothing_is_asked(self) -> None:
        """Which model should serve is the first question."""
        stage = asking()
        failed = Step(ConditionType.SERVING, Verdict.STOP, Reason.FALLBACK, "v1 could not be loaded")
        assert plan_triggers(context(stage.spec, stage.world), (failed,)) is None


def _merged(stage: Stage, *, work: bool = False, **changes: Any) -> Stage:
    def change(data: dict[str, Any]) -> None:
        data["training"]["nonce"] = EPISODE
        data.update(changes)

    made = moved_on(stage, change, work=work)
    kept = {name: getattr(stage.world, name) for name in ("signals", "readings", "watched", "watches", "profile")}
    return made.but(**kept)


class TestHoldingBack:
    def test_a_release_on_trial_comes_first(self) -> None:
        """It may be the last one's turn again soon; so no question is asked before there is a verdict."""
        stage = asking()
        trial = Step(ConditionType.LIVE_GATE, Verdict.WAIT, Reason.BAKING)
        waits = plan_triggers(context(stage.spec, stage.world), (trial,))
        assert waits is not None
        assert (waits.reason, waits.actions) == (Reason.TRIGGER_WAITS, ())

    def test_after_the_cooldown_it_is_asked(self) -> None:
        """A host looks again when it is over; what was asked meanwhile counts from its own end."""
        earlier = question(asking(firing(start=NOW - 48 * HOUR)), PullState.CLOSED, closed=int(NOW) - 24 * 3600)
        mark = closing(earlier, "Obsolete", "x").mark
        over = replace(earlier, pull=replace(earlier.pull, body=earlier.pull.body + mark, opened=int(NOW) - 30 * 3600))
        cool = asking(triggers=ON_ERRORS | {"cooldown": "2d"}).but(proposals=(over,))
        assert (step(cool).reason, step(cool).after) == (Reason.COOLING_DOWN, 24 * 3600.0)
        assert step(cool).message == f"{EPISODE}: spec.triggers.cooldown is 2d, counted from pull request #1"
        warm = asking(triggers=ON_ERRORS | {"cooldown": "1d"}).but(proposals=(over,))
        assert isinstance(proposal(warm), Propose)

    def test_an_open_question_does_not_wait_for_itself(self) -> None:
        """The cooldown begins with its opening, and it stays open."""
        stage = asking(triggers=ON_ERRORS | {"cooldown": "2d"})
        opened = stage.but(proposals=(question(stage),))
        assert (step(opened).reason, step(opened).actions) == (Reason.PULL_REQUEST_OPEN, ())

    def test_another_cause_waits_for_the_cooldown_as_well(self) -> None:
        """The question whose cause is over is closed meanwhile, and none is put in its place."""
        each: dict[str, Any] = {"onSignal": ["errors", "faults"], "cooldown": "2d"}
        before = question(asking(firing("faults"), triggers=each))
        stage = asking(firing(), quiet("faults"), triggers=each).but(proposals=(before,))
        assert step(stage).reason is Reason.COOLING_DOWN
        assert [type(action).__name__ for action in step(stage).actions] == ["CloseProposal"]

    def test_one_question_at_a_time(self) -> None:
        """A proposal of another intent is answered first, unless the policy allows more."""
        tune = pull(replace(proposal(asking()).proposal, intent="tune", key="e" * 64), number=7)
        waits = asking().but(proposals=(tune,))
        assert (step(waits).reason, step(waits).actions) == (Reason.TOO_MANY_PROPOSALS, ())
        assert step(waits).message.startswith(f"{EPISODE}: it is proposed after pull request #7 (tune)")
        allowed = asking(policy={"maxOpenProposals": 2}).but(proposals=(tune,))
        assert isinstance(proposal(allowed), Propose)

    def test_labels_that_are_wanted_keep_back_what_brings_none(self) -> None:
        """Training the same data again brings none, so it is not asked; data that brings enough is."""
        wanted = ON_ERRORS | {"require": {"newLabels": 13}}
        few = asking(triggers=wanted)
        assert step(few).message.startswith(f"{EPISODE}: 0 of the 13 new labels that spec.triggers.require.newLabels")
        enough = asking(triggers=wanted, data__train=dvc(1)).but(newer=newer())  # 12 added, 1 relabelled
        assert [a.proposal.intent for a in enough.plan.actions if isinstance(a, Propose)] == ["bump-data"]
        more = asking(triggers=ON_ERRORS | {"require": {"newLabels": 14}}, data__train=dvc(1)).but(newer=newer())
        assert (step(more).reason, more.plan.actions) == (Reason.LABELS_WANTED, ())


class TestNewerData:
    def test_newer_data_is_asked_about_rather_than_the_same_again(self) -> None:
        """Also without onData; while that question is open, the other one is closed."""
        stage = asking(data__train=dvc(1)).but(newer=newer())
        (asked,) = [action.proposal for action in stage.plan.actions if isinstance(action, Propose)]
        assert asked.intent == "bump-data"
        assert "### Why it is asked now\n\nLive traffic of `retail/shelf` v1 is out of bounds" in asked.body
        assert causes_in(asked.body) == (EPISODE,)
        assert (step(stage).verdict, step(stage).reason) == (Verdict.REST, Reason.TRIGGER_WAITS)
        retrain = question(asking(data__train=dvc(1)))
        both = stage.but(proposals=(retrain, pull(asked, number=2)))
        (close,) = [action for action in both.plan.actions if isinstance(action, CloseProposal)]
        assert (close.number, close.reason) == (1, "Superseded")

    def test_without_a_cause_newer_data_is_nobodys_business(self) -> None:
        """No job looks at it, and a question about it is closed when the episode is over."""
        stage = watched(triggers=ON_ERRORS, data__train=dvc(1)).but(newer=newer(validation=None))
        assert stage.plan.actions == ()
        assert stage.plan.step(ConditionType.DATA_CURRENT) is None
        asked = asking(data__train=dvc(1)).but(newer=newer()).plan.actions
        (opened,) = [pull(action.proposal) for action in asked if isinstance(action, Propose)]
        (close,) = [a for a in stage.but(proposals=(opened,)).plan.actions if isinstance(a, CloseProposal)]
        assert close.reason == "Obsolete"

    def test_an_open_question_about_data_stays_while_it_is_asked(self) -> None:
        """The step that closes what nobody asks knows that a signal does."""
        stage = asking(data__train=dvc(1)).but(newer=newer())
        (asked,) = [action.proposal for action in stage.plan.actions if isinstance(action, Propose)]
        assert stage.but(proposals=(pull(asked),)).plan.actions == ()

    def test_data_that_cannot_be_used_is_no_answer(self) -> None:
        """Then the same inputs are trained again, if people want that."""
        bad = validation().train.model_copy(update={"unreadable_count": 1, "unreadable": ["a.png: empty"]})
        stage = asking(data__train=dvc(1)).but(newer=newer(validation=validation(train=bad)))
        assert proposal(stage).proposal.intent == "retrain"

    def test_data_that_is_being_looked_at_is_waited_for(self) -> None:
        """Nothing is asked twice: the better question is on its way."""
        stage = asking(data__train=dvc(1)).but(newer=newer(difference=None, validation=None))
        assert (step(stage).reason, step(stage).actions) == (Reason.TRIGGER_WAITS, ())

    def test_a_person_who_refused_the_data_in_the_episode_answered_it(self) -> None:
        """Whoever refused that version before the signal fired is asked about a retraining."""
        stage = asking(data__train=dvc(1)).but(newer=newer())
        (asked,) = [action.proposal for action in stage.plan.actions if isinstance(action, Propose)]
        no = pull(asked, PullState.CLOSED, opened=int(NOW) - 3600, closed=int(NOW) - 60)
        refused = stage.but(proposals=(no,))
        assert (step(refused).reason, refused.plan.actions) == (Reason.REJECTED, ())
        earlier = watched(triggers={"onData": True}, data__train=dvc(1)).but(newer=newer())
        (asked,) = [action.proposal for action in earlier.plan.actions if isinstance(action, Propose)]
        long_ago = pull(asked, PullState.CLOSED, opened=1, closed=2)
        assert proposal(stage.but(proposals=(long_ago,))).proposal.intent == "retrain"

    def test_who_follows_data_and_waits_for_labels_keeps_an_open_question(self) -> None:
        """What holds questions back holds for onData as well, but never takes back what is asked."""
        follows: dict[str, Any] = {"onData": True, "cooldown": "3d"}
        stage = watched(triggers=follows, data__train=dvc(1)).but(newer=newer())
        (asked,) = [action.proposal for action in stage.plan.actions if isinstance(action, Propose)]
        opened = stage.but(proposals=(pull(asked, opened=int(NOW) - 60),))
        assert opened.plan.actions == ()
        third = opened.but(newer=newer(source=pinned(3), fact=imported(3)))
        data = third.plan.step(ConditionType.DATA_CURRENT)
        assert data is not None
        assert (data.reason, data.actions) == (Reason.COOLING_DOWN, ())


def test_quiet_signals_and_no_schedule_say_so() -> None:
    """The condition is true, and tells what could ask."""
    stage = watched(quiet("errors"), triggers=ON_ERRORS | {"schedule": "0 0 * * *"}).but(schedule_due=1.0)
    assert step(stage).message == "none fires of errors; not due: 0 0 * * *"
    assert conditions(stage)[ConditionType.TRIGGERED] == ("True", Reason.NOTHING_TRIGGERED)


def test_branches_of_retrainings_are_known_again() -> None:
    """The branch names intent and model, like any proposal's."""
    parsed = parse_branch(proposal(asking()).proposal.branch)
    assert parsed is not None
    assert parsed[:3] == ("retrain", *KEY)
