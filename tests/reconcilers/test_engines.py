"""Engines that fit one kind of device: the wrong one is made again and asked about; nothing is trained, or given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.actions import Action, Propose, RollOut, StartJob
from reconcilers.context import Step, Verdict
from specs.engines import binding, fits, refusal, refused_by
from specs.facts import PullState
from specs.status import ConditionType, Reason
from specs.workorders import ExportOrder
from tests.support.builders import BUILDER, Stage, first, moved_on, observed, produce, pull, released, serving, settled
from tests.support.world import TEXT, World

L4 = {"gpu": "NVIDIA L4", "computeCapability": "8.9", "tensorrt": "10.4.0", "driver": "560.1", "cuda": "12.6"}
TRT = [{"name": "onnx", "format": "onnx"}, {"name": "trt", "format": "engine", "args": {"quantize": 16}}]
SERVED = TEXT.replace("epochs: 2", "epochs: 5").replace("export: onnx", "export: trt").replace(
    "  gates:", "    - {name: trt, format: engine}\n\n  gates:"
)
"""A model that serves an engine."""


def refused(**changes: Any) -> Stage:
    """Give a model whose v1 was just merged, and whose server cannot load its engine."""
    stage = settled(exports=TRT, serving={"export": "trt"}, **changes)
    assert stage.spec.release is not None
    state = serving(stage.spec, ready=False, version=None, file=None, failed_file=stage.spec.release.exports["trt"])
    return stage.but(serving=replace(state, failure=refusal(BUILDER, L4)))


def said(stage: Stage, type_: ConditionType) -> Step:
    """Give a step's answer."""
    step = stage.plan.step(type_)
    assert step is not None
    return step


def made_again(stage: Stage) -> Stage:
    """Give the stage once the engine was made for the device that refused the other one."""
    lab = produce_more(stage)
    kept = {name: getattr(stage.world, name) for name in ("source", "serving", "proposals", "branches", "leftovers")}
    return Stage(stage.spec, observed(lab, **kept), lab)


def produce_more(stage: Stage) -> Any:
    """Do what the plan starts."""
    for action in stage.plan.actions:
        if isinstance(action, StartJob):
            stage.lab.do(action.order)
    return stage.lab


def kinds(actions: tuple[Action, ...]) -> list[str]:
    """Give what is done, by kind."""
    return [type(action).__name__ for action in actions]


def test_words_carry_the_facts_of_the_device() -> None:
    """Whatever way a refusal takes to the controller, what it says about the device is read from it again."""
    awkward = L4 | {"gpu": "NVIDIA; RTX=6000, Ada"}
    assert refused_by(refusal(BUILDER, L4)) == L4
    assert refused_by(f"v2 could not be loaded: {refusal(BUILDER, L4)}.") == L4
    assert refused_by(refusal(BUILDER, awkward)) == awkward | {"gpu": "NVIDIA  RTX 6000  Ada"}
    assert refused_by("the self-test differs; this device has gpu=X") == {}
    assert binding(L4) == {"gpu": "NVIDIA L4", "computeCapability": "8.9", "tensorrt": "10.4.0"}
    assert (fits(BUILDER, L4), fits(BUILDER, BUILDER | {"driver": "1"}), fits({}, L4)) == (False, True, True)


def test_engine_of_another_device_is_exported_again() -> None:
    """The same weights, for this device: no training, no rollback, and what serves is left alone."""
    stage = refused()
    (start,) = stage.plan.actions
    assert isinstance(start, StartJob)
    assert isinstance(start.order, ExportOrder)
    assert (start.order.weights, start.order.runtime) == (stage.spec.release.weights, binding(L4))  # type: ignore[union-attr]
    assert start.order.way == start.order.export_digest
    step = said(stage, ConditionType.SERVING)
    assert (step.verdict, step.reason) == (Verdict.WAIT, Reason.ENGINE_MISMATCH)
    assert step.message.endswith("It is exported again for this device.")
    assert said(stage, ConditionType.EXPORTED).reason is Reason.EXPORTING


def test_only_the_engine_is_asked_to_be_released() -> None:
    """Run, weights and the other exports stay; the version is the next one; asked once, the plan is quiet."""
    stage = made_again(refused())
    (propose,) = stage.plan.actions
    before, value = stage.spec.release, first(stage.plan.actions).proposal.value
    assert before is not None
    assert isinstance(value, dict)
    assert isinstance(propose, Propose)
    assert propose.proposal.intent == "promote"
    assert (value["version"], value["run"], value["weights"]) == (2, before.run, before.weights)
    assert value["exports"]["onnx"] == before.exports["onnx"]
    assert value["exports"]["trt"] != before.exports["trt"]
    assert "gpu NVIDIA L4" in propose.proposal.body
    waiting = stage.but(proposals=(pull(propose.proposal),))
    assert waiting.plan.actions == ()
    assert said(waiting, ConditionType.SERVING).reason is Reason.ENGINE_MISMATCH


@pytest.mark.parametrize("state", [None, "old"])
def test_server_that_started_again_takes_nothing_back(state: str | None) -> None:
    """While it has not said again what is wrong, what was asked stays open."""
    stage = made_again(refused())
    proposal = pull(first(stage.plan.actions).proposal)
    forgetful = replace(stage.world.serving, failed_file=None, failure="", ready=bool(state), file=state)  # type: ignore[type-var]
    assert kinds(stage.but(proposals=(proposal,), serving=forgetful if state else None).plan.actions) == ["RollOut"]


def test_later_exports_are_for_the_same_device() -> None:
    """The released engine remembers for which device it was made: nothing goes back, and a new run follows it."""
    stage = made_again(refused())
    value = first(stage.plan.actions).proposal.value
    assert isinstance(value, dict)
    merged = released(stage.spec, value)
    after = replace(stage, spec=merged).but(serving=serving(merged))
    assert after.plan.actions == ()
    assert said(after, ConditionType.PROPOSED).reason is Reason.RELEASED
    newer = moved_on(after, lambda data: data["training"]["args"].update(epochs=9), work=False)
    produce(newer.spec, newer.lab)
    done = observed(newer.lab)
    newer = newer.but(runs=done.runs, evaluations=done.evaluations, comparisons=done.comparisons)
    orders = [a.order for a in newer.plan.actions if isinstance(a, StartJob) and isinstance(a.order, ExportOrder)]
    assert [order.runtime for order in orders if order.format == "engine"] == [binding(L4)]


def test_two_kinds_of_devices_are_no_circle() -> None:
    """Where one device refuses what was made for the other, people are told, and nobody is asked to go back."""
    stage = made_again(refused())
    value = first(stage.plan.actions).proposal.value
    assert isinstance(value, dict)
    v2 = released(stage.spec, value)
    assert v2.release is not None
    t4 = L4 | {"gpu": "NVIDIA T4", "computeCapability": "7.5"}
    state = serving(v2, failed_file=v2.release.exports["trt"], file="", version=1, failure=refusal(L4, t4))
    stage = made_again(replace(stage, spec=v2).but(serving=state))
    value = first(stage.plan.actions).proposal.value
    assert isinstance(value, dict)
    v3 = released(v2, value)
    assert v3.release is not None
    state = replace(state, failed_file=v3.release.exports["trt"], failure=refusal(t4, L4))
    stage = replace(stage, spec=v3).but(serving=state)
    step = said(stage, ConditionType.SERVING)
    assert (step.verdict, step.reason, stage.plan.actions) == (Verdict.STOP, Reason.ENGINE_MISMATCH, ())
    assert "unlike devices" in step.message


def test_engine_made_for_the_device_that_refuses_it_has_failed() -> None:
    """Whatever the words: making it once more would give the same. So it is a rollout that failed."""
    stage = made_again(refused())
    value = first(stage.plan.actions).proposal.value
    assert isinstance(value, dict)
    merged = released(stage.spec, value)
    assert merged.release is not None
    state = replace(serving(stage.spec), failed_file=merged.release.exports["trt"], failure=refusal(L4, L4))
    stage = replace(stage, spec=merged).but(serving=state)
    assert said(stage, ConditionType.SERVING).reason is Reason.FALLBACK


def test_release_before_serves_only_where_it_fits() -> None:
    """With nothing that answers, the release before is asked for, unless its engine is for another device as well."""
    one = settled(exports=TRT, serving={"export": "trt"})
    two = moved_on(one, lambda data: data["training"]["args"].update(epochs=9))
    value = first(two.plan.intended).proposal.value
    assert isinstance(value, dict)
    spec = released(two.spec, value)
    assert spec.release is not None
    gone = serving(one.spec, ready=False, version=None, file=None)
    state = replace(gone, failed_file=spec.release.exports["trt"], failure=refusal(BUILDER, L4))
    stage = replace(two, spec=spec).but(serving=state)
    assert "RollOut" not in kinds(stage.plan.actions)
    assert one.spec.release is not None
    old = one.spec.release.exports["trt"]
    plain = stage.world.artifacts[old].model_copy(update={"runtime": {}})
    stage = stage.but(artifacts={**stage.world.artifacts, old: plain})
    (asked,) = [action for action in stage.plan.actions if isinstance(action, RollOut)]
    assert asked.target.version == 1
    failed = replace(state, failed_file=old, failure="x")
    proposal = pull(first(made_again(stage).plan.actions).proposal, PullState.OPEN)
    both = stage.but(serving=failed, proposals=(proposal,))
    assert said(both, ConditionType.SERVING).reason is Reason.ROLLOUT_FAILED
    assert "RollOut" not in kinds(both.plan.actions)


def test_story_of_a_device_of_another_kind() -> None:
    """From the first release to the engine that fits: one training, one question more, and quiet while it waits."""
    world = World(SERVED)
    world.servers.device = L4
    world.converge()
    assert world.merge()
    world.converge()
    assert world.serving == (None, None)
    assert world.status.condition(ConditionType.SERVING).reason == Reason.ENGINE_MISMATCH  # type: ignore[union-attr]
    assert len(world.forge.opened()) == 1
    assert world.quiet()
    world.servers.restart()
    world.converge()
    assert len(world.forge.pulls) == 2
    assert world.merge()
    world.converge()
    assert world.serving[0] == 2
    assert world.quiet()
    assert sum(entry.startswith("start train") for entry in world.wire.log) == 1
    assert sum(entry.startswith("start export") for entry in world.wire.log) == 3
    world.change(r"epochs: 5", "epochs: 9")
    world.converge()
    assert world.merge()
    world.converge()
    assert world.serving[0] == 3
    assert world.quiet()
