"""Models whose live traffic is watched, in the states that it goes through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconcilers import orders
from reconcilers.observed import Judgement, Reading
from specs.names import episode_name
from specs.status import SignalStatus
from specs.traffic import Traffic, Watched
from tests.support.builders import NOW, Lab, Stage, context, observed, settled

HOUR = 3600.0
START = NOW - 6 * HOUR
"""Of the first failing window; windows begin at whole hours, and so does NOW."""
MONITORING: dict[str, Any] = {
    "window": "1h", "minSamples": 100, "forWindows": 3,
    "signals": [
        {"name": "errors", "type": "ErrorRate", "max": 0.05}, {"name": "faults", "type": "ErrorRate", "max": 0.2},
    ],
}  # fmt: skip
ON_ERRORS: dict[str, Any] = {"onSignal": ["errors"]}


def window(start: float, errors: float = 0.0, requests: int = 1000) -> Traffic:
    """Give an hour in which a share of the requests ended in an error of ours."""
    return Traffic(start, start + HOUR, outcomes={"ok": requests * (1 - errors), "error": requests * errors})


def reading(start: float, judgement: Judgement = Judgement.FAILING, value: float = 0.1) -> Reading:
    """Give what one hour says."""
    return Reading(start, judgement, 1000, value, value - 0.01, value + 0.01)


def quiet(name: str) -> SignalStatus:
    """Give a signal that does not fire."""
    return SignalStatus(name=name, state="Quiet")


def firing(name: str = "errors", start: float = START, version: int = 1) -> SignalStatus:
    """Give a signal that fires since a window."""
    return SignalStatus(
        name=name, state="Firing", value=0.1, low=0.09, high=0.11, n=1000, since="2027-01-15T02:00:00Z",
        episode=episode_name(name, version, start),
    )  # fmt: skip


def unwatched(**changes: Any) -> Stage:
    """Give a model that serves and is to be watched, before anything was counted on golden."""
    return settled(**{"monitoring": MONITORING, **changes}).but(watches=True)


def watched(*signals: SignalStatus, **changes: Any) -> Stage:
    """Give a model that serves, whose profile is there; its signals are quiet unless given."""
    stage = unwatched(**changes)
    lab = Lab(dict(stage.lab.records))
    for order in orders.profile(context(stage.spec, stage.world)):
        lab.do(order)
    known = {name: quiet(name) for name in ("errors", "faults")} | {signal.name: signal for signal in signals}
    made = {
        signal.name: tuple(reading(START + hour * HOUR) for hour in range(3))
        for signal in signals if signal.state == "Firing"
    }  # fmt: skip
    hours = tuple(window(START + hour * HOUR) for hour in range(3))
    return replace(stage, lab=lab).but(
        profile=observed(lab).profile, signals=tuple(known.values()), readings=made, watched=Watched(hours)
    )


def asking(*signals: SignalStatus, **changes: Any) -> Stage:
    """Give a model whose signal ``errors`` fires, and asks."""
    return watched(*(signals or (firing(),)), **{"triggers": ON_ERRORS, **changes})
