"""What merging a change would do, in the words that people read before they merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reconcilers.forecast import Forecast, forecast
from reconcilers.imagined import converged
from reconcilers.limits import Crowd, Limits
from reconcilers.observed import SCHEDULE, DatasetFact, SourceTrouble
from specs.facts import PullState
from specs.status import Reason
from tests.support.builders import (
    KEY,
    NOW,
    TOP1,
    Lab,
    Stage,
    candidate_ready,
    digest,
    manifest,
    moved_on,
    observed,
    proposed,
    pull,
    released,
    serving,
    settled,
    spec,
)  # fmt: skip
from tests.support.watched import asking, unwatched, watched

GATES = "then the gates decide whether a release is proposed"
OTHER_GOLDEN = manifest("other golden", 6)


def told(stage: Stage, *, again: bool = True) -> Forecast:
    """Ask for the forecast of a stage."""
    return forecast(KEY, stage.spec, stage.world, NOW, again=again)


def change(edit: Callable[[dict[str, Any]], object], *, work: bool = False) -> Stage:
    """Give a settled model whose spec a pull request would change."""
    return moved_on(settled(), edit, work=work)


def _two_exports() -> Stage:
    extra = {"name": "mnn", "format": "mnn"}
    return change(lambda data: (data["training"]["args"].update(epochs=9), data["exports"].append(extra)))


def _reverted() -> Stage:
    """Give v2's revert: v1 is the release again, v2 serves, and the pull request of v2 is merged."""
    two = change(lambda data: data["training"]["args"].update(epochs=9), work=True)
    proposal = proposed(two.spec, two.world)
    assert isinstance(proposal.value, dict)
    return two.but(serving=serving(released(two.spec, proposal.value)), proposals=(pull(proposal, PullState.MERGED),))


def _promoted() -> Stage:
    stage = candidate_ready()
    proposal = proposed(stage.spec, stage.world)
    assert isinstance(proposal.value, dict)
    return replace(stage, spec=released(stage.spec, proposal.value)).but(proposals=(pull(proposal),))


def _golden() -> Stage:
    stage = change(lambda data: data["data"]["golden"]["uri"].update(digest=OTHER_GOLDEN.digest()))
    return stage.but(golden=DatasetFact(OTHER_GOLDEN.digest(), OTHER_GOLDEN))


def _gate_on_a_new_champion() -> Stage:
    """Give a candidate whose run is there, and a regression gate nobody could judge without comparing first."""
    gate = {"name": "no-worse", "metric": TOP1, "maxRegression": 0.1}
    stage = change(lambda data: (data["training"]["args"].update(epochs=9), data["gates"].append(gate)), work=True)
    return stage.but(comparisons={})


CASES: list[tuple[str, Callable[[], Stage], str]] = [
    ("epochs changed", lambda: change(lambda data: data["training"]["args"].update(epochs=9)),
     f"retrains; re-exports onnx; {GATES}"),
    ("epochs changed, an export added", _two_exports, f"retrains; re-exports onnx; re-exports mnn; {GATES}"),
    ("export argument changed", lambda: change(lambda data: data["exports"][0].update(args={"dynamic": True})),
     f"re-exports onnx; {GATES}"),
    ("export renamed", lambda: change(lambda data: (data["exports"][0].update(name="web"),
                                                    data["serving"].update(export="web"))), "proposes to promote"),
    ("only a gate changed, still met", lambda: change(lambda data: data["gates"][0].update(min=0.9)),
     "nothing changes"),
    ("only a gate changed, not met", lambda: change(lambda data: data["gates"][0].update(min=0.999)),
     "nothing changes"),
    ("golden changed", _golden, f"measures on golden; {GATES}"),
    ("release reverted", _reverted, "serves v1"),
    ("release merged", _promoted, "serves v1"),
    ("nothing changed", settled, "nothing changes"),
    ("run exists already", lambda: change(lambda data: data["training"]["args"].update(epochs=9), work=True),
     "proposes to promote"),
    ("run exists, comparison is missing", _gate_on_a_new_champion, f"measures on golden; {GATES}"),
    ("no gates at all", lambda: change(lambda data: (data["training"]["args"].update(epochs=9), data.pop("gates"))),
     "retrains; re-exports onnx; proposes to promote"),
    ("suspended", lambda: change(lambda data: data.update(suspend=True)),
     "nothing while suspended; without that: nothing changes"),
    ("suspended and changed", lambda: change(
        lambda data: (data.update(suspend=True), data["training"]["args"].update(epochs=9))),
     f"nothing while suspended; without that: retrains; re-exports onnx; {GATES}"),
    ("serving removed", lambda: change(lambda data: data.pop("serving")), "stops serving"),
    ("release removed", lambda: replace(settled(), spec=released(settled().spec, None)),
     "stops serving; proposes to promote"),
    ("data missing", lambda: settled().but(train=DatasetFact(digest("x"), reason="DataMissing", message="x")),
     "nothing changes"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "sentence"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_sentence(build: Callable[[], Stage], sentence: str) -> None:
    """Each kind of change is told by what it does, and by nothing that it does not do."""
    assert told(build()).sentence == sentence


def test_new_model_trains_and_exports_for_the_first_time() -> None:
    """What a model never had is not done again."""
    stage = Stage(spec(), observed(), Lab())
    assert told(stage, again=False).sentence == f"trains; exports onnx; {GATES}"


def test_gates_that_will_decide_are_listed() -> None:
    """Where only measuring can tell, the bounds are named."""
    gates = [
        {"name": "floor", "metric": TOP1, "min": 0.95},
        {"name": "speed", "export": "onnx", "metric": "latency/p95_ms", "max": 40},
        {"name": "no-worse", "metric": TOP1, "maxRegression": 0.01},
    ]  # fmt: skip
    assert told(Stage(spec(gates=gates), observed(), Lab())).gates == (
        f"floor: {TOP1} >= 0.95",
        "speed: latency/p95_ms <= 40",
        f"no-worse: {TOP1} at most 0.01 worse than the champion",
    )


STOPS: list[tuple[str, Callable[[], Stage], str]] = [
    ("gate not met", lambda: change(lambda data: data["gates"][0].update(min=0.999)), "0.9906 is below 0.999"),
    ("data missing", lambda: settled().but(train=DatasetFact(digest("x"), reason="DataMissing", message="gone")),
     "spec.data.train: gone"),
    ("release of nothing known", lambda: change(lambda data: data["release"].update(run="sha256:" + "0" * 64)),
     "is not in the store"),
    ("run denied", lambda: change(lambda data: data["release"].update(
        deny=[{"run": settled().spec.inputs_digest, "reason": "bad light"}])), "bad light"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "text"), [pytest.param(*case[1:], id=case[0]) for case in STOPS])
def test_stop_is_told_beforehand(build: Callable[[], Stage], text: str) -> None:
    """Where merging would end in a stop, the reason is told before anybody merges."""
    assert text in told(build()).stopped


def test_open_proposals_do_not_matter() -> None:
    """What is being asked about may be an open proposal itself, so none of them counts."""
    stage = change(lambda data: data["training"]["args"].update(epochs=9), work=True)
    open_one = stage.but(proposals=(pull(proposed(stage.spec, stage.world)),))
    assert told(open_one) == told(stage)


def test_pauses_and_limits_do_not_matter() -> None:
    """What merging leads to is asked, not when: neither what we closed just now nor a full repository is in the way."""
    stage = change(lambda data: data["training"]["args"].update(epochs=9), work=True)
    mark = "<!-- trunkline:closed reason=Obsolete -->"
    closed = pull(proposed(stage.spec, stage.world), PullState.CLOSED, closed=int(NOW), body=mark)
    world = stage.but(proposals=(closed,), crowd=Crowd(Limits(max_open=1), 1))
    assert told(world).sentence == "proposes to promote"


def test_jobs_that_were_lost_and_branches_that_lie_about_do_not_matter() -> None:
    """A forecast is about the change, not about the moment."""
    stage = change(lambda data: data["training"]["args"].update(epochs=9))
    left = {"trunkline/promote/retail.shelf/ffffffffffff": "e" * 40}
    assert told(stage.but(branches=left, leftovers=left)) == told(stage)


def test_forecast_touches_nothing() -> None:
    """The imagined world stays imagined."""
    stage = change(lambda data: data["training"]["args"].update(epochs=9))
    runs, exports = dict(stage.world.runs), dict(stage.world.exports)
    told(stage)
    assert (stage.world.runs, stage.world.exports) == (runs, exports)


class TestLiveTraffic:
    def test_a_change_that_watches_says_so_and_trains_nothing(self) -> None:
        """It is counted what the release does on golden; no gate is asked, and the words are said once."""
        stage = unwatched()
        assert told(stage) == Forecast(("watches 2 signals of live traffic",))

    def test_one_that_is_watched_already_says_nothing(self) -> None:
        """Its profile is there."""
        stage = watched()
        assert told(stage).sentence == "nothing changes"

    def test_what_fires_now_is_a_question_of_its_own(self) -> None:
        """Another pull request does not ask it, nor does a schedule that happens to be due."""
        for stage in (asking(), watched(triggers={"schedule": "0 3 * * *"}).but(schedule_due=NOW)):
            assert told(stage).sentence == "nothing changes"

    def test_a_schedule_that_is_none_stops(self) -> None:
        """Whoever reads the pull request is told."""
        trouble = SourceTrouble(Reason.SCHEDULE_INVALID, "no cron line", passing=False)
        stage = watched(triggers={"schedule": "x x x x x"}).but(troubles={SCHEDULE: trouble})
        assert told(stage).stopped == "spec.triggers.schedule: no cron line"

    def test_without_a_store_the_files_tell(self) -> None:
        """In an imagined world the profile of what is released is counted already, unless it is asked for now."""
        stage = unwatched()
        state = stage.world.serving
        same = converged(stage.world.source, stage.spec, stage.spec, state)
        assert forecast(KEY, stage.spec, same, NOW, again=True, blind=True).sentence == "nothing changes"
        before = stage.spec.model_copy(update={"monitoring": None})
        asked = converged(stage.world.source, before, stage.spec, state)
        assert forecast(KEY, stage.spec, asked, NOW, again=True, blind=True).effects == (
            "watches 2 signals of live traffic",
        )
