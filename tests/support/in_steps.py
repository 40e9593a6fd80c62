"""Releases that take over in steps: a model whose v2 was just merged, or is beside v1, with traffic as a test says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from specs.serving_facts import CanaryState, Share
from specs.traffic import Traffic, Watched
from tests.support.builders import NOW, Stage, moved_on, proposed, released, serving, settled
from tests.support.trials import live

STEPS: list[dict[str, Any]] = [
    {"mirror": 100, "pause": "5m"}, {"weight": 10, "pause": "10m"}, {"weight": 50, "pause": "20m"},
]  # fmt: skip
PAUSES = (300, 600, 1200)


@cache
def _merged() -> Stage:
    one = settled(serving={"export": "onnx", "strategy": {"canary": {"steps": STEPS}}})
    two = moved_on(one, lambda data: data["training"]["args"].update(epochs=9))
    value = proposed(two.spec, two.world).value
    assert isinstance(value, dict)
    given = released(two.spec, value)
    before = serving(one.spec)
    return replace(two, spec=given, world=replace(two.world, serving=before, watches=True))


def merged() -> Stage:
    """Give a model whose v2 was merged a moment ago; v1 serves."""
    return _merged()


def beside(
    step: int, held: float = 1.0, *, new: Traffic | None = None, old: Traffic | None = None, stage: Stage | None = None,
    **changes: Any,
) -> Stage:  # fmt: skip
    """Give one where v2 is beside v1, at a step since ``held`` seconds, with the traffic that both had since then."""
    stage = stage or merged()
    release, state = stage.spec.release, stage.world.serving
    assert release is not None
    assert state is not None
    asked = STEPS[step - 1] if step else {}
    share = Share(step, asked.get("weight", 0), asked.get("mirror", 0))
    made = CanaryState(release.version, release.exports["onnx"], share, ready=True, since=NOW - held)
    watched = Watched(canary=new, beside=old if old is not None else live())
    return stage.but(serving=replace(state, canary=replace(made, **changes)), watched=watched)
