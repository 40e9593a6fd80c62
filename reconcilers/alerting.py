"""What people are told about, and in which words: computed from statuses alone. Pure.

An alert lasts as long as what it is about. It is known by a name that a restart does not change, so whoever remembers
the names of what was told tells nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from specs.modelspec import ModelKey
from specs.status import Condition, ConditionType, ModelStatus, Reason, SignalStatus

Severity = Literal["warning", "critical"]
FIRING, GATE, BEHIND, STALLED = "SignalFiring", "LiveGateFailed", "GitBehind", "Stalled"
_LISTED = 10
"""Models that a message names; of more it tells how many."""
_LONGEST = 300
"""Characters of a model's own words in a message about several."""


@dataclass(frozen=True)
class Alert:
    """Something that is so, and that a person wants to know."""

    model: str
    """``namespace/name``."""
    name: str
    """One of a few words: ``SignalFiring``, ``LiveGateFailed``, ``GitBehind``, ``Stalled``."""
    subject: str
    """Which signal; or the reason."""
    id: str
    """The same as long as it lasts; another one when it comes again."""
    since: str
    """ISO 8601."""
    text: str
    severity: Severity = "warning"

    @property
    def cause(self) -> tuple[str, str]:
        """What alerts of many models may have in common, so that they are one message."""
        return self.name, self.subject


@dataclass(frozen=True)
class Message:
    """What is sent to people: a line, and the rest. Plain text."""

    title: str
    body: str
    severity: Severity | Literal["resolved"]


def alerts(key: ModelKey, status: ModelStatus) -> tuple[Alert, ...]:
    """Give what is worth telling about a model now, the worst first."""
    model, found = str(key), []
    for type_, name in ((ConditionType.LIVE_GATE, GATE), (ConditionType.GIT_BEHIND, BEHIND)):
        condition = status.condition(type_)
        if condition is not None and (type_ is ConditionType.GIT_BEHIND or condition.reason == Reason.LIVE_GATE_FAILED):
            found.append(_of_condition(model, name, condition, "critical"))
    stalled = status.condition(ConditionType.STALLED)
    if stalled is not None:
        found.append(_of_condition(model, STALLED, stalled, "warning"))
    firing = (signal for signal in status.signals if signal.state == "Firing")
    return (*found, *(_of_signal(model, signal) for signal in firing))


def _of_signal(model: str, signal: SignalStatus) -> Alert:
    identity = f"{model} {FIRING} {signal.episode or signal.name}"
    text = f"signal {signal.name}: {_numbers(signal.value, signal.low, signal.high, signal.n)}"
    return Alert(model, FIRING, signal.name, identity, signal.since, text)


def _of_condition(model: str, name: str, condition: Condition, severity: Severity) -> Alert:
    identity = f"{model} {name} {condition.reason} {condition.last_transition_time}"
    text = condition.message or condition.reason
    return Alert(model, name, condition.reason, identity, condition.last_transition_time, text, severity)


def _numbers(value: float | None, low: float | None, high: float | None, n: int) -> str:
    if value is None:
        return "out of its bounds"
    bounds = f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else ""
    return f"{value:.3g}{bounds}, n = {n}"


Kind = Literal["new", "still", "over"]
_PREFIX: dict[Kind, str] = {"new": "", "still": "still: ", "over": "over: "}


def messages(kind: Kind, those: Iterable[Alert]) -> list[tuple[Message, list[Alert]]]:
    """Put alerts into words: one message for each cause, however many models share it, with the alerts it is about."""
    groups: dict[tuple[str, str], list[Alert]] = {}
    for alert in sorted(those, key=lambda alert: (alert.severity, alert.cause, alert.model)):
        groups.setdefault(alert.cause, []).append(alert)
    return [(_message(kind, group), group) for group in groups.values()]


def _message(kind: Kind, group: list[Alert]) -> Message:
    first = group[0]
    who = first.model if len(group) == 1 else f"{len(group)} models"
    title = f"{_PREFIX[kind]}{who}: {_TITLES[first.name].format(subject=first.subject)}"
    if len(group) == 1:
        body = f"{first.text}\nsince {first.since}" if first.since else first.text
    else:
        lines = [f"- {alert.model}: {alert.text[:_LONGEST]}" for alert in group[:_LISTED]]
        more = len(group) - _LISTED
        lines += [f"- and {more} more"] if more > 0 else []
        body = "\n".join([_SHARED, *lines])
    return Message(title, body, "resolved" if kind == "over" else first.severity)


_TITLES = {
    FIRING: "signal {subject} fires", GATE: "live traffic disagrees with the release",
    BEHIND: "another release serves than git says", STALLED: "stalled, a person must act ({subject})",
}  # fmt: skip
_SHARED = "They may have one cause: look for it before each of them is retrained."
