"""Status from a plan: what people and programs read. Pure; the same world gives the same status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reconcilers.apply import Trouble
from reconcilers.context import Context, Step, Verdict
from reconcilers.forecast import forecast
from reconcilers.plan import Plan
from reconcilers.progress import told
from reconcilers.vetting import source_status
from specs.errors import InvalidManifest, Stalled, Transient, TrunklineError
from specs.facts import JobPhase, PullState
from specs.serving_facts import ServingState
from specs.status import Condition, ConditionType, ModelStatus, ProposalStatus, Reason, ServingStatus
from specs.workorders import TIRELESS

_MESSAGE_LIMIT = 32_000


def summarize(ctx: Context, plan: Plan, troubles: Sequence[Trouble], previous: ModelStatus, now: str) -> ModelStatus:
    """Give the status after a pass. ``now`` (ISO 8601) is used for conditions that changed, and nowhere else."""
    observed, spec = ctx.observed, ctx.spec
    found = {step.type: _condition(step) for step in plan.steps}
    found |= _overall(ctx, plan, [trouble.error for trouble in troubles])
    serving = observed.serving
    evaluation = observed.evaluations.get((ctx.weights or "", ctx.golden or ""))
    opened = [p for p in observed.proposals if p.pull.state is PullState.OPEN]
    running = sorted(
        name for name, state in observed.jobs.items()
        if state.phase is JobPhase.RUNNING and not name.startswith(f"{TIRELESS}-")
    )  # fmt: skip
    said = {job: observed.progress[job] for job in running if job in observed.progress}
    return ModelStatus(
        observed_generation=previous.observed_generation,
        commit=observed.source.changed.sha,
        source=source_status(observed.source),
        path=previous.path,
        inputs_digest=ctx.inputs_digest,
        candidate=ctx.weights or "",
        metrics=evaluation.values if evaluation else {},
        version=spec.release.version if spec.release else None,
        serving=_serving(serving) if serving and serving.ready else None,
        proposals=[
            ProposalStatus(number=p.pull.number, intent=p.intent, branch=p.pull.branch, url=p.pull.url) for p in opened
        ],
        jobs=running,
        progress=told(said, spec.task, previous.progress),
        signals=list(observed.signals),
        summary=_line(_headline(plan, troubles)),
        conditions=_stamped(found, previous, now),
    )


def trouble_status(error: TrunklineError, previous: ModelStatus, now: str) -> ModelStatus:
    """Give the status when the world could not be looked at, or the spec not be read: the rest stays as it was."""
    stalled = not isinstance(error, Transient)
    reason = error.reason if stalled else Reason.RETRYING
    kept = {c.type: c for c in previous.conditions if c.type not in _OVERALL}
    kept |= _verdict(ConditionType.STALLED if stalled else ConditionType.RECONCILING, reason, error.message)
    if isinstance(error, InvalidManifest):
        summary = f"{error.problems[0]}" if error.problems else error.message
    else:
        summary = error.message
    return previous.model_copy(update={"summary": _line(summary), "conditions": _stamped(kept, previous, now)})


def refused_status(stalled: Stalled, previous: ModelStatus, now: str) -> ModelStatus:
    """Give the status of a spec that git does not ask for (``NotInGit``), or not as is required (``Unsigned`` …).

    What was found out before stays.
    """
    return _unverified(ConditionType.STALLED, stalled.reason, stalled.message, previous, now)


def awaiting_status(message: str, previous: ModelStatus, now: str) -> ModelStatus:
    """Give the status of a spec that git asked for before: it is on its way to what git asks for now."""
    return _unverified(ConditionType.RECONCILING, Reason.AWAITING_SYNC, message, previous, now)


def _unverified(type_: ConditionType, reason: str, message: str, previous: ModelStatus, now: str) -> ModelStatus:
    source = ConditionType.SOURCE_VERIFIED
    kept = {c.type: c for c in previous.conditions if c.type not in _OVERALL}
    kept[source] = Condition(type=source, status="False", reason=reason, message=_cut(message))
    kept |= _verdict(type_, reason, message)
    return previous.model_copy(update={"summary": _line(message), "conditions": _stamped(kept, previous, now)})


def _serving(state: ServingState) -> ServingStatus:
    replicas = f"{state.replicas[0]}/{state.replicas[1]}" if state.replicas else ""
    return ServingStatus(version=state.version, file=state.file, url=state.url, replicas=replicas)


_OVERALL = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)


_UNDECIDED = (Reason.BAKING, Reason.BAKE_INCONCLUSIVE)
"""Neither yes nor no."""


def _condition(step: Step) -> Condition:
    status: Literal["True", "False", "Unknown"] = "True" if step.verdict is Verdict.DONE else "False"
    if step.reason in _UNDECIDED:
        status = "Unknown"
    return Condition(type=step.type, status=status, reason=step.reason, message=_cut(step.message))


def _cut(text: str) -> str:
    """Give what a condition may hold. It ends up in terminals, so nothing in it can steer one or hide."""
    short = text[:_MESSAGE_LIMIT]
    if short.isprintable():
        return short
    lines = (" ".join(line.split()) for line in short.split("\n"))
    return "\n".join("".join(char if char.isprintable() else "\ufffd" for char in line) for line in lines)


def _line(text: str) -> str:
    return " ".join(_cut(text).split())


def _verdict(type_: ConditionType, reason: str, message: str) -> dict[ConditionType, Condition]:
    """Give Ready=False together with the condition that says which way it is not ready."""
    text = _cut(message)
    return {
        ConditionType.READY: Condition(type=ConditionType.READY, status="False", reason=reason, message=text),
        type_: Condition(type=type_, status="True", reason=reason, message=text),
    }


def _overall(ctx: Context, plan: Plan, errors: Sequence[TrunklineError]) -> dict[ConditionType, Condition]:
    """Ready, and Reconciling and Stalled while they are true (kstatus); what a person must do outweighs the rest."""
    if plan.suspended:
        text = f"spec.suspend is true: {forecast(ctx.key, ctx.spec, ctx.observed, ctx.now, again=True).sentence}"
        ready = Condition(type=ConditionType.READY, status="False", reason=Reason.SUSPENDED, message=_cut(text))
        return {ConditionType.READY: ready}
    found: dict[ConditionType, Condition] = {}
    waits = [(step.reason.value, step.message) for step in plan.steps if step.verdict is Verdict.WAIT][:1]
    waits += [(Reason.RETRYING, f"{e.reason}: {e.message}") for e in errors if not isinstance(e, Stalled)][:1]
    stops = [(step.reason.value, step.message) for step in plan.steps if step.verdict is Verdict.STOP][:1]
    stops += [(e.reason, e.message) for e in errors if isinstance(e, Stalled)][:1]
    for type_, sentences in ((ConditionType.RECONCILING, waits), (ConditionType.STALLED, stops)):
        for reason, message in sentences:
            found |= _verdict(type_, reason, message)
    return found or {ConditionType.READY: _ready(plan)}


def _ready(plan: Plan) -> Condition:
    """Nothing to do and nothing in the way: ready, unless nothing was ever released."""
    serving = plan.step(ConditionType.SERVING)
    proposed = plan.step(ConditionType.PROPOSED)
    released = serving is not None and serving.reason is not Reason.NOT_RELEASED
    reason = Reason.AS_DESIRED if released else Reason.NOT_RELEASED
    message = proposed.message if proposed is not None else ""
    status: Literal["True", "False"] = "True" if released else "False"
    return Condition(type=ConditionType.READY, status=status, reason=reason, message=_cut(message))


def _headline(plan: Plan, troubles: Sequence[Trouble]) -> str:
    """One line for people: what serves, then what is going on."""
    serving = plan.step(ConditionType.SERVING)
    parts = [serving.message] if serving is not None and serving.message else []
    if plan.suspended:
        parts.append("suspended")
    elif troubles:
        parts.append(troubles[0].error.message)
    else:
        open_ = [s for s in plan.steps if s.verdict is not Verdict.DONE and s.type is not ConditionType.SERVING]
        parts += [f"{step.reason}: {step.message}" if step.message else str(step.reason) for step in open_[:1]]
    return "; ".join(parts)


def _stamped(found: dict[ConditionType, Condition], previous: ModelStatus, now: str) -> list[Condition]:
    """Keep the time of conditions whose status did not change; order as the type's enum has it."""
    stamped = []
    for type_ in ConditionType:
        condition = found.get(type_)
        if condition is None:
            continue
        before = previous.condition(type_)
        same = before is not None and before.status == condition.status and before.last_transition_time
        time = before.last_transition_time if same and before else now
        stamped.append(condition.model_copy(update={
            "last_transition_time": time, "observed_generation": max(previous.observed_generation, 0),
        }))  # fmt: skip
    return stamped
