"""A search: its budget, its end, and that nothing of it is lost or done twice, wherever it is killed.

The trials are pretended (``tests.support.tiny_trial``), the processes, the store and the algorithm are real.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specs.digests import digest_of
from specs.errors import Stalled, Transient
from specs.experiment_records import TrialRecord, TuningRecord, asked_key, begun_key, tuning_key
from specs.records import Progress, progress_key
from tests.support.dying_store import DyingStore, Killed
from tests.support.living import until
from tests.support.tiny_trial import METRIC
from tests.support.tuning_bench import workshop
from workloads.errors import Hopeless
from workloads.tuning import BEGINNINGS, record_failure


def table(record: TuningRecord) -> list[tuple[int, Any, str, float | None]]:
    """Give what does not differ between two equal searches."""
    return [(trial.number, trial.args, trial.status, trial.value) for trial in record.trials]


def test_a_search_ends_with_the_best_that_was_tried(tmp_path: Path) -> None:
    """The first trial has the arguments as they are; the answer has all trials, the best one and pictures of both."""
    place = workshop(tmp_path, maxTrialCount=8)
    record = place.go_on()
    assert (record.status, record.stopped_by, len(record.trials)) == ("Succeeded", "TrialCount", 8)
    assert record.baseline is not None
    assert record.baseline.args == {"lr0": 0.001}
    assert record.best == max(record.trials, key=lambda trial: trial.value or 0)
    assert record.best.value is not None
    assert record.best.value > (record.baseline.value or 0)
    assert place.began() == Counter(range(8))
    for name in ("history.png", "parameters.png"):
        assert place.store.read_blob(record.files[name]).startswith(b"\x89PNG")


def test_each_trial_keeps_its_course(tmp_path: Path) -> None:
    """A trial's own record has the objective after every epoch; the answer has them not, so that it stays small."""
    place = workshop(tmp_path, {"epochs": 3}, maxTrialCount=2)
    record = place.go_on()
    kept = place.over(1)
    assert kept is not None
    assert [(epoch.epoch, list(epoch.metrics)) for epoch in kept.epochs] == [(n, [METRIC]) for n in (1, 2, 3)]
    assert [trial.epochs for trial in record.trials] == [[], []]


def test_less_may_be_better(tmp_path: Path) -> None:
    """What is minimized is answered with the trial that has least of it."""
    place = workshop(tmp_path, objective={"type": "minimize", "metric": METRIC})
    record = place.go_on()
    assert record.best == min(record.trials, key=lambda trial: trial.value or 0)


def test_a_search_that_dies_at_every_write_repeats_no_trial(tmp_path: Path) -> None:
    """Killed before and after each of its writes, one attempt after the other, it comes to the same answer.

    A trial whose record is there is never started again; one that was cut off has the values that it had.
    """
    (tmp_path / "calm").mkdir()
    (tmp_path / "hit").mkdir()
    calm, place = workshop(tmp_path / "calm"), workshop(tmp_path / "hit")
    store, settled, record = DyingStore(place.store.url), dict[int, int](), None
    while record is None:
        try:
            record = place.go_on(store)
        except Killed:
            began = place.began()
            assert all(began[number] == count for number, count in settled.items())
            settled = {number: began[number] for number in range(4) if place.over(number)}
    assert len(store.deaths) == 2 * (1 + 3 * 4 + 1)  # base, three for each trial, the answer
    assert settled == dict(place.began()) == dict.fromkeys(range(4), 2)  # once in vain: its record was not written
    assert table(record) == table(calm.go_on())


@pytest.mark.parametrize("at", [0, 2])
def test_a_killed_job_goes_on(tmp_path: Path, at: int) -> None:
    """A job killed with SIGKILL takes its trial with it; the next attempt begins that trial again, and no other."""
    place = workshop(tmp_path, {str(at): "hang"})
    (tmp_path / "hold").touch()
    process = place.start()
    until((tmp_path / f"hangs-{at}").exists)
    process.kill()
    process.wait()
    until(lambda: not place.trials_alive())
    asked = place.store.read(asked_key(place.order.tuning_digest, at))
    (tmp_path / "hold").unlink()
    record = place.go_on()
    assert place.began() == Counter({0: 1, 1: 1, 2: 1, 3: 1}) + Counter([at])
    assert place.store.read(asked_key(place.order.tuning_digest, at)) == asked
    assert [trial.status for trial in record.trials] == ["Succeeded"] * 4


def test_a_job_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM ends the trials too, at once; their folders go, and what was over stays over."""
    place = workshop(tmp_path, {"1": "hang", "2": "hang"}, parallelTrialCount=2)
    (tmp_path / "hold").touch()
    process = place.start()
    until(lambda: (tmp_path / "hangs-1").exists() and (tmp_path / "hangs-2").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert place.trials_alive() == []
    assert list((tmp_path / "scratch").iterdir()) == []
    (tmp_path / "hold").unlink()
    assert place.go_on().status == "Succeeded"
    assert place.began() == Counter({0: 1, 1: 2, 2: 2, 3: 1})


def test_two_jobs_at_once_do_no_harm(tmp_path: Path) -> None:
    """Each trial has one record, and both jobs come to the same answer."""
    place = workshop(tmp_path, maxTrialCount=6)
    answers: list[TuningRecord] = []
    threads = [threading.Thread(target=lambda: answers.append(place.go_on())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 2
    assert table(answers[0]) == table(answers[1])
    assert [trial.number for trial in answers[0].trials] == list(range(6))


def test_a_search_keeps_to_what_it_began_with(tmp_path: Path) -> None:
    """Newer data, or other arguments, do not change a search that has begun: its trials stay comparable."""
    place = workshop(tmp_path, {"1": "exit 75"})
    with pytest.raises(Transient):
        place.go_on()
    (tmp_path / "script").write_text("{}")
    newer = {**place.order.inputs, "data": digest_of("newer"), "args": {"lr0": 0.05}}
    place.order = place.order.model_copy(update={"inputs": newer})
    record = place.go_on()
    assert (record.inputs["data"], record.dataset) == (digest_of("data"), digest_of("data"))
    assert record.baseline is not None
    assert record.baseline.args == {"lr0": 0.001}


def test_trials_that_fail_are_counted_and_passed_over(tmp_path: Path) -> None:
    """A crash and a divergence cost one trial each; their records say why, with the process' last words."""
    place = workshop(tmp_path, {"1": "crash", "2": "Diverged"})
    record = place.go_on()
    assert record.status == "Succeeded"
    assert [trial.status for trial in record.trials] == ["Succeeded", "Failed", "Failed", "Succeeded"]
    assert record.trials[1].message == "Crashed: its process ended with -6; the pretended driver is gone"
    assert record.trials[2].message == "Diverged: as told"


def test_too_many_failures_end_it_without_an_answer(tmp_path: Path) -> None:
    """More than ``maxFailedTrialCount`` says that something is wrong with the search, not with its values."""
    place = workshop(tmp_path, {"1": "crash", "2": "crash"}, maxFailedTrialCount=1)
    record = place.go_on()
    assert (record.status, record.reason, len(record.trials)) == ("Failed", "FailedTrials", 3)
    assert record.message.startswith("2 trials failed, the last one: Crashed")


def test_what_no_trial_can_do_ends_it_at_once(tmp_path: Path) -> None:
    """A metric that nobody measures would fail every trial: the first one is enough to know."""
    place = workshop(tmp_path, {"0": "UnknownMetric"})
    with pytest.raises(Hopeless) as caught:
        place.go_on()
    record_failure(place.order, place.store, caught.value)
    text = place.store.read(tuning_key(place.order.tuning_digest))
    assert text is not None
    record = TuningRecord.decode(text)
    assert (record.status, record.reason, record.message) == ("Failed", "UnknownMetric", "as told")
    assert place.began() == Counter([0])


@pytest.mark.parametrize(("code", "kind"), [(75, Transient), (65, Stalled)])
def test_trouble_with_the_store_is_no_failure_of_a_trial(
    tmp_path: Path, code: int, kind: type[Exception]
) -> None:
    """The job ends as a training would, to be tried again; the trial has no record."""
    place = workshop(tmp_path, {"1": f"exit {code}"})
    with pytest.raises(kind, match="nobody answers"):
        place.go_on()
    assert place.over(0) is not None
    assert place.over(1) is None


def test_a_trial_that_never_ends_counts_as_failed(tmp_path: Path) -> None:
    """One that takes the machine down each time would otherwise keep the search from ever ending."""
    place = workshop(tmp_path)
    for beginning in range(1, BEGINNINGS + 1):
        place.store.create(begun_key(place.order.tuning_digest, 1, beginning), b"{}")
    record = place.go_on()
    assert [trial.status for trial in record.trials] == ["Succeeded", "Failed", "Succeeded", "Succeeded"]
    assert record.trials[1].message == f"it began {BEGINNINGS} times and never came to an end"
    assert place.began() == Counter([0, 2, 3])


def test_the_deadline_counts_from_the_first_attempt(tmp_path: Path) -> None:
    """What was found until then is the answer; a later attempt has no time of its own."""
    place = workshop(tmp_path, activeDeadlineSeconds=250, maxTrialCount=100)
    place.clock = lambda: 1000.0 + 100 * sum(place.over(number) is not None for number in range(9))
    record = place.go_on()
    assert (record.status, record.stopped_by, len(record.trials)) == ("Succeeded", "Deadline", 3)
    assert place.go_on().stopped_by == "Deadline"
    assert place.began() == Counter([0, 1, 2])


def test_a_deadline_before_any_trial_is_over_leaves_no_answer(tmp_path: Path) -> None:
    """The record says so instead of proposing nothing in silence."""
    place = workshop(tmp_path, activeDeadlineSeconds=1)
    times = iter((1000.0,))
    place.clock = lambda: next(times, 2000.0)
    record = place.go_on()
    assert (record.status, record.reason) == ("Failed", "Deadline")
    assert record.message == "no trial came to a good end before the deadline"


def test_the_goal_ends_it(tmp_path: Path) -> None:
    """As good as asked for is good enough."""
    place = workshop(tmp_path, objective={"type": "maximize", "metric": METRIC, "goal": 0.7})
    record = place.go_on()
    assert (record.stopped_by, len(record.trials)) == ("Goal", 1)


def test_every_value_tried_is_the_end(tmp_path: Path) -> None:
    """Nothing is tried twice: the same values would give the same numbers."""
    listed = [{"name": "lr0", "type": "discrete", "values": [0.001, 0.01, 0.1]}]
    record = workshop(tmp_path, parameters=listed, maxTrialCount=20).go_on()
    assert record.stopped_by == "Exhausted"
    assert sorted(str(trial.args["lr0"]) for trial in record.trials) == ["0.001", "0.01", "0.1"]


def test_hopeless_trials_are_cut_short(tmp_path: Path) -> None:
    """One that is below the median of the others after ``startStep`` epochs is told to stop, and does."""
    stopping = {"minTrialsRequired": 2, "startStep": 2}
    place = workshop(tmp_path, {"epochs": 5, "2": "bad"}, earlyStopping=stopping, algorithm="random")
    record = place.go_on()
    assert (record.trials[2].status, record.trials[2].message) == ("Pruned", "cut short after epoch 2")
    kept = place.over(2)
    assert kept is not None
    assert [epoch.epoch for epoch in kept.epochs] == [1, 2]


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    """The progress counts trials, and has the best so far."""
    place = workshop(tmp_path)
    place.go_on()
    text = place.store.read(progress_key(place.order.job))
    assert text is not None
    progress = Progress.decode(text)
    assert progress.epochs == 4
    assert progress.phase.startswith("trial ")


def test_a_record_that_is_none_is_named(tmp_path: Path) -> None:
    """A damaged store is trouble for a person, with the key and what to do."""
    place = workshop(tmp_path)
    place.store.create(asked_key(place.order.tuning_digest, 0), b"{}")
    with pytest.raises(Stalled, match=r"asked/0\.json in the store is not a TrialAsked"):
        place.go_on()
    assert TrialRecord.model_fields  # the class stays what others read
