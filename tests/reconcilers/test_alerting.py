"""What people are told about: known by a name that lasts, and grouped by cause."""

from __future__ import annotations

from reconcilers.alerting import BEHIND, FIRING, GATE, STALLED, alerts, messages
from specs.modelspec import ModelKey
from specs.status import Condition, ConditionType, ModelStatus, Reason, SignalStatus

KEY = ModelKey("retail", "shelf")
FIRES = SignalStatus(
    name="light", state="Firing", value=0.41, low=0.35, high=0.47, n=512, since="2026-11-26T10:00:00Z",
    episode="light-v7-20261126T100000Z",
)  # fmt: skip


def status(*signals: SignalStatus, **conditions: Reason) -> ModelStatus:
    """Give a status with these signals, and conditions by the name of their type."""
    made = [
        Condition(type=ConditionType[name], status="True" if name != "LIVE_GATE" else "False", reason=reason,
                  message=f"about {reason}", last_transition_time="2026-11-26T09:00:00Z")
        for name, reason in conditions.items()
    ]  # fmt: skip
    return ModelStatus(signals=list(signals), conditions=made)


def test_a_firing_signal_is_an_alert_with_its_numbers() -> None:
    """Value, interval and n are told; the episode names it, so the same episode is the same alert."""
    (found,) = alerts(KEY, status(FIRES))
    assert (found.name, found.subject, found.model) == (FIRING, "light", "retail/shelf")
    assert found.text == "signal light: 0.41 (0.35 to 0.47), n = 512"
    later = FIRES.model_copy(update={"value": 0.6})
    assert alerts(KEY, status(later))[0].id == found.id
    again = FIRES.model_copy(update={"episode": "light-v7-20261127T100000Z"})
    assert alerts(KEY, status(again))[0].id != found.id


def test_quiet_and_unknown_signals_are_none() -> None:
    """No data is no bad news."""
    quiet = [FIRES.model_copy(update={"state": state, "episode": ""}) for state in ("Quiet", "Unknown")]
    assert alerts(KEY, status(*quiet)) == ()


def test_only_a_failed_live_gate_is_told() -> None:
    """A bake that is under way is no alert; a failed one, and git behind what serves, are critical."""
    assert alerts(KEY, status(LIVE_GATE=Reason.BAKING)) == ()
    found = alerts(KEY, status(LIVE_GATE=Reason.LIVE_GATE_FAILED, GIT_BEHIND=Reason.FALLBACK))
    assert [(each.name, each.severity) for each in found] == [(GATE, "critical"), (BEHIND, "critical")]


def test_a_model_that_waits_for_a_person_is_told() -> None:
    """Stalled says why; another reason is another alert."""
    (found,) = alerts(KEY, status(STALLED=Reason.GATE_FAILED))
    assert (found.name, found.subject, found.text) == (STALLED, "GateFailed", "about GateFailed")
    assert alerts(KEY, status(STALLED=Reason.REJECTED))[0].id != found.id


def test_many_models_with_one_cause_are_one_message() -> None:
    """Ten are named, the rest is counted; another signal is another message, in an order that never changes."""
    several = [alerts(ModelKey("retail", f"m{number:02}"), status(FIRES))[0] for number in range(12)]
    other = alerts(KEY, status(FIRES.model_copy(update={"name": "mix"})))
    told = messages("new", [*reversed(several), *other])
    assert [message.title for message, _ in told] == ["12 models: signal light fires", "retail/shelf: signal mix fires"]
    body = told[0][0].body
    assert "one cause" in body
    assert "retail/m09" in body
    assert "retail/m10" not in body
    assert "and 2 more" in body
    assert [len(those) for _, those in told] == [12, 1]


def test_what_is_over_is_told_as_good_news() -> None:
    """Chats show it in another colour."""
    ((message, _),) = messages("over", alerts(KEY, status(FIRES)))
    assert (message.title, message.severity) == ("over: retail/shelf: signal light fires", "resolved")
