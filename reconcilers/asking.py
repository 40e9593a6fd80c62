"""What asks for another model now: signals that fire, and a schedule that is due; and what holds every question back.

Whatever people decided about a question of ours after a cause came up answers that cause, by whatever name we asked:
who said no to one of three signals that fire together is not asked about the other two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconcilers.causes import causes_in
from reconcilers.context import Context, Step, Verdict
from reconcilers.episodes import for_windows
from reconcilers.proposals import was_decided
from specs.base import seconds
from specs.facts import ProposalState
from specs.names import episode_name, moment_name, parse_episode
from specs.status import ConditionType as Type
from specs.status import Reason, SignalStatus

RETRAIN, BUMP = "retrain", "bump-data"
_FIRST = (
    Type.DATA_READY, Type.TRAINED, Type.EVALUATED, Type.EXPORTED, Type.GATES_PASSED, Type.PROPOSED, Type.SERVING,
    Type.LIVE_GATE,
)  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """One thing that asks."""

    name: str
    """Of the episode, or ``schedule-20261101T030000Z``."""
    start: float
    """Since when: the first failing window of the last signal that it takes, or when the schedule was due."""
    came_up: float
    """When it could be known at the earliest. Unix time, seconds, like ``start``."""
    signals: tuple[SignalStatus, ...] = ()
    """That fire; none for a schedule."""

    @property
    def episodes(self) -> tuple[str, ...]:
        """Names of what its pull request is about, for the day on which nobody else remembers."""
        return tuple(signal.episode for signal in self.signals) or (self.name,)


def causes(ctx: Context) -> tuple[Cause, ...]:
    """Give all that ask now, answered or not, the oldest first."""
    return tuple(sorted((*_of_signals(ctx), *_of_schedule(ctx)), key=lambda cause: cause.start))


def _of_signals(ctx: Context) -> Iterator[Cause]:
    triggers, monitoring = ctx.spec.triggers, ctx.spec.monitoring
    firing = {signal.name: signal for signal in ctx.observed.signals if signal.state == "Firing"}
    if triggers is None or monitoring is None or not firing:
        return
    takes = seconds(monitoring.window) * for_windows(monitoring)
    for entry in triggers.on_signal or ():
        names = (entry,) if isinstance(entry, str) else tuple(entry.all_of)
        found = tuple(firing[name] for name in names if name in firing)
        named = [each for signal in found if (each := parse_episode(signal.episode)) is not None]
        if len(named) == len(names):
            version, start = named[0][1], max(each[2] for each in named)
            yield Cause(episode_name("-and-".join(names), version, start), start, start + takes, found)


def _of_schedule(ctx: Context) -> Iterator[Cause]:
    """Ask where the candidate began to be trained before the schedule was due."""
    due = ctx.observed.schedule_due
    began = _began(ctx) if due is not None else None
    if due is not None and began is not None and began < due:
        yield Cause(f"schedule-{moment_name(due)}", due, due)


def _began(ctx: Context) -> float | None:
    try:
        return datetime.fromisoformat(ctx.run.started).timestamp() if ctx.run is not None else None
    except ValueError:  # a record that does not tell
        return None


def asked(ctx: Context) -> list[ProposalState]:
    """Give our questions for another model so far, in all states, oldest first."""
    return [each for each in ctx.observed.proposals if each.intent in (RETRAIN, BUMP)]


def answer(ctx: Context, cause: Cause) -> ProposalState | None:
    """Give the question that people answered after the cause came up, or that was about it; None where none was."""
    found = [
        each for each in asked(ctx)
        if was_decided(each)
        and (each.pull.closed >= cause.came_up or set(cause.episodes) <= set(causes_in(each.pull.body)))
    ]  # fmt: skip
    return max(found, key=lambda each: (each.pull.closed, each.pull.number), default=None)


def unanswered(ctx: Context) -> list[Cause]:
    """Give the causes that still want an answer, the oldest first."""
    return [cause for cause, said in answers(ctx) if said is None]


def answers(ctx: Context) -> list[tuple[Cause, ProposalState | None]]:
    """Give all that ask now, the oldest first, each with what people answered."""
    return [(cause, answer(ctx, cause)) for cause in causes(ctx)]


def is_on_its_way(steps: Sequence[Step]) -> bool:
    """Whether a candidate is being made, measured or asked about, or a release is rolled out or on trial."""
    return any(step.type in _FIRST and step.verdict is Verdict.WAIT for step in steps)


def held_back(ctx: Context, type_: Type, new_labels: int | None) -> Step | None:
    """Say why nothing may be asked yet, by ``spec.triggers``; None where it may.

    ``new_labels``: how many pictures with labels the model has never learned from would come; None where nobody knows.
    """
    triggers = ctx.spec.triggers
    if triggers is None:
        return None
    wanted = triggers.require.new_labels if triggers.require else None
    if wanted is not None and new_labels is not None and new_labels < wanted:
        text = f"{new_labels} of the {wanted} new labels that spec.triggers.require.newLabels wants are there"
        return Step(type_, Verdict.REST, Reason.LABELS_WANTED, text)
    pause = seconds(triggers.cooldown) if triggers.cooldown is not None else 0.0
    moments = [max(each.pull.opened, each.pull.closed) for each in asked(ctx)]
    left = max(moments, default=0) + pause - ctx.now
    if not moments or left <= 0:
        return None
    last = max(asked(ctx), key=lambda each: (max(each.pull.opened, each.pull.closed), each.pull.number))
    text = f"spec.triggers.cooldown is {triggers.cooldown}, counted from pull request #{last.pull.number}"
    return Step(type_, Verdict.REST, Reason.COOLING_DOWN, text, after=left)
