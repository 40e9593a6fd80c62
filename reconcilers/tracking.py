"""Mirrors on tracking servers: of every run, and of the release. One way, and beside everything else. Pure.

A tracking server may be down for as long as it likes. That makes no model wait, stall or be worse in any way: the
mirror is late, and says so in its own condition only, in words that stay the same meanwhile.
"""

from __future__ import annotations

from dataclasses import replace

from reconcilers import orders
from reconcilers.actions import Action, Register, StartJob
from reconcilers.context import Context, Step, Verdict
from reconcilers.jobs import FIRST_BACKOFF, placement_of
from specs.digests import short
from specs.facts import JobPhase, JobState
from specs.names import serving_name
from specs.registry_facts import Registration
from specs.status import ConditionType as Type
from specs.status import Reason
from specs.workorders import TrackOrder

ALIAS = "champion"
LAST_BACKOFF = 1800.0
"""Seconds between two attempts that fail again and again."""
_LOOK = 15.0
"""Seconds until a mirror that is under way is looked at."""
_SOON, _LATER = 3.0, 300.0
"""Seconds in which a registry should have answered; and until one that did not is asked again."""
_MOST_DOUBLINGS = 10


def plan_tracking(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Mirror what is trained, and register what is released; None where nobody asks for it, or nothing is there yet."""
    mlflow = ctx.spec.tracking.mlflow if ctx.spec.tracking else None
    if mlflow is None:
        return None
    late = [order for order in orders.tracking(ctx) if not _is_being_measured(ctx, order, steps)]
    mirror = ctx.observed.tracked.get(ctx.inputs_digest) or next(iter(ctx.observed.tracked.values()), None)
    if mirror is None and not late:
        return None
    text = f"mirrored at {mirror.url}" if mirror else ""
    step = Step(Type.TRACKED, Verdict.DONE, Reason.TRACKED, text)
    for order in late:
        step = _and(_mirroring(ctx, order, mlflow.tracking_uri), step)
    return _and(_registering(ctx), step)


def _and(first: Step | None, second: Step) -> Step:
    """Give both as one: the first that is not done has the word, what is to be done is done for both."""
    if first is None:
        return second
    told = second if first.verdict is Verdict.DONE else first
    after = min((step.after for step in (first, second) if step.after > 0), default=0.0)
    return replace(told, actions=(*first.actions, *second.actions), after=after)


def _is_being_measured(ctx: Context, order: TrackOrder, steps: tuple[Step, ...]) -> bool:
    """Whether the candidate's numbers on golden are still to come: then one job brings everything."""
    if order.inputs_digest != ctx.inputs_digest or ctx.weights is None or ctx.golden is None:
        return False
    if (ctx.weights, ctx.golden) in ctx.observed.evaluations:
        return False
    return not any(step.type in _BEFORE and step.verdict in (Verdict.STOP, Verdict.REST) for step in steps)


_BEFORE = (Type.DATA_READY, Type.TRAINED, Type.EVALUATED)


def _mirroring(ctx: Context, order: TrackOrder, uri: str) -> Step:
    """Start the job, or wait for it, or start it again; never give up."""
    state = ctx.observed.jobs.get(order.job)
    pause = _pause(state, ctx.now)
    begins = state is None or (state.phase is JobPhase.ENDED and pause <= 0)
    actions = (StartJob(order, placement_of(ctx.spec, order)),) if begins else ()
    text = f"run {short(order.inputs_digest)} is to be mirrored to {uri}"
    if state is not None and (state.attempts > 1 or state.phase is JobPhase.ENDED):
        text += f"; that fails for now, and is tried again and again: `trunkline logs {order.job}` says why"
    return Step(Type.TRACKED, Verdict.REST, Reason.TRACKING, text, actions, pause if pause > 0 else _LOOK)


def _pause(state: JobState | None, now: float) -> float:
    """Seconds until the next attempt may start."""
    if state is None or state.phase is not JobPhase.ENDED:
        return 0.0
    tries = min(state.attempts - 1, _MOST_DOUBLINGS)
    return state.ended + min(FIRST_BACKOFF * 4.0**tries, LAST_BACKOFF) - now


def registration(ctx: Context) -> Registration | None:
    """Give how the release shall be registered; None where nothing is released, or nobody is to be told."""
    mlflow, release = ctx.spec.tracking.mlflow if ctx.spec.tracking else None, ctx.spec.release
    if mlflow is None or release is None:
        return None
    source, name = ctx.observed.source, serving_name(*ctx.key)
    said = {
        "trunkline.commit": source.changed.sha, "trunkline.evidence": release.evidence or "",
        "trunkline.pullRequest": source.arrival.url or str(source.arrival.pull or ""),
        **{f"trunkline.export.{export}": digest for export, digest in sorted(release.exports.items())},
    }
    return Registration(
        mlflow.tracking_uri, mlflow.experiment or name, name, str(ctx.key), release.version, release.run,
        release.weights, tuple((key, value) for key, value in said.items() if value),
    )  # fmt: skip


def _registering(ctx: Context) -> Step | None:
    """Have the registry say what is released; what somebody else made of it there is told, and put right."""
    wanted, found = registration(ctx), ctx.observed.registered
    if wanted is None or not ctx.observed.asks_registry:
        return None
    if found is None or not found.reached:
        return _aside(after=_SOON if found is None else _LATER)
    if found.owner not in (None, wanted.model):
        text = (
            f"{wanted.tracking_uri} has a registered model {wanted.name} that is not ours, so it is left alone; "
            f"rename it, or give it the tag trunkline.model = {wanted.model}"
        )
        return Step(Type.TRACKED, Verdict.REST, Reason.NAME_TAKEN, text, after=_LATER)
    if not (found.version or found.source):
        return _aside(after=_LATER)  # its run is not mirrored yet, or was removed there
    right = found.champion == found.ours == found.version != ""
    actions = () if right else (Register(wanted),)
    if found.champion not in (found.ours, found.version):
        did = f"set the alias {ALIAS} to version {found.champion}" if found.champion else f"removed the alias {ALIAS}"
        text = f"somebody {did} of {wanted.name}; it follows git alone, and is set to release v{wanted.release} again"
        return Step(Type.TRACKED, Verdict.REST, Reason.ALIAS_MOVED, text, actions, _SOON)
    return _aside(actions, after=_SOON if found.old or actions else 0.0)


def _aside(actions: tuple[Action, ...] = (), after: float = 0.0) -> Step:
    """Say nothing: how far the registry is changes no word of the status."""
    return Step(Type.TRACKED, Verdict.DONE, Reason.TRACKED, "", actions, after)
