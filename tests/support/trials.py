"""Releases on trial in live traffic, and traffic as it comes in: good, bad, slow, unsure, and none."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from functools import cache
from typing import Any

from specs.base import seconds
from specs.traffic import BY_STAGE, CONFIDENCE, Measure, Traffic, Watched
from tests.support.builders import NOW, Stage, moved_on, proposed, released, serving, settled

BAKE = "15m"


def live(
    errors: float = 0.01, requests: int = 1000, *, seconds: float = 0.012, confidence: float = 0.93, end: float = NOW
) -> Traffic:
    """Give traffic with a share of errors, all else alike: each request takes as long and is as sure."""
    failed = round(requests * errors)
    well = requests - failed
    return Traffic(
        end - 100, end, {"confidence": _all_at(CONFIDENCE, confidence, well)},
        {"milk": _all_at(CONFIDENCE, confidence, well)}, {"total": _all_at(BY_STAGE, seconds, requests)},
        {"ok": float(well), "error": float(failed)},
    )  # fmt: skip


def _all_at(measure: Measure, value: float, count: int) -> tuple[float, ...]:
    at = bisect_left(measure.edges, value)
    return tuple(float(count) if index == at else 0.0 for index in range(measure.bins))


@cache
def _second(changes: tuple[tuple[str, Any], ...]) -> Stage:
    one = settled(serving={"export": "onnx", "strategy": {"bakeTime": BAKE}}, **dict(changes))
    two = moved_on(one, lambda data: data["training"]["args"].update(epochs=9))
    value = proposed(two.spec, two.world).value
    assert isinstance(value, dict)
    given = released(two.spec, value)
    return replace(two, spec=given, world=replace(two.world, serving=serving(given), watches=True))


def second(**changes: Any) -> Stage:
    """Give a model whose v2 serves since a moment, on trial for 15 minutes, after v1."""
    return _second(tuple(changes.items()))


def on_trial(
    new: Traffic | None, old: Traffic | None = None, *, over: bool = False, trouble: str = "", **changes: Any
) -> Stage:
    """Give one where v2 had some traffic so far, or until its trial was ``over``; v1 had 1 % of errors by default."""
    loaded = NOW - (2 * seconds(BAKE) if over else 60)
    watched = Watched((), loaded, new, old if old is not None else live(), trouble)
    return second(**changes).but(watched=watched)
