"""Triggers: when a signal, or the calendar, asks for another model. It is asked for by pull request, always. Pure.

One question for each cause. Where newer data is known, that is what is asked about (``bumping``), else a training of
the same inputs under another nonce. Nothing that comes of it is an error of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconcilers import retrain_page
from reconcilers.actions import Action
from reconcilers.asking import RETRAIN, Cause, answers, held_back, is_on_its_way
from reconcilers.context import Context, Step, Verdict
from reconcilers.drafts import Draft, Edit, key_of
from reconcilers.observed import SCHEDULE
from reconcilers.pinning import answered
from reconcilers.proposals import plan_proposal, stale
from reconcilers.turns import wait_for_turn
from specs.digests import digest_of
from specs.facts import ProposalState, PullState
from specs.monitoring import Triggers
from specs.names import nonce_name, signals_dir
from specs.status import ConditionType as Type
from specs.status import Reason

_FIELD = "spec.training.nonce"
_QUIET = "Nothing asks for it any more: signals are quiet, the model was trained since, or people gave an answer."
_DATA = "Newer data is asked about instead."
_UNFIT = (
    Reason.DATA_NEWEST, Reason.DATA_INVALID, Reason.DATA_UNEXPECTED, Reason.DATA_LEAKAGE, Reason.DATA_CORRUPT,
    Reason.DATA_MISSING, Reason.DATA_UNSUPPORTED, Reason.IMPORT_FAILED, Reason.REJECTED, Reason.REVERTED,
)  # fmt: skip
"""There is no newer data that could be asked about: none at all, none that can be used, or none that people want."""


def plan_triggers(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Ask for a retraining where a trigger wants one; None where nobody set one, or the release just failed."""
    triggers = ctx.spec.triggers
    if any(step.reason is Reason.FALLBACK for step in steps):
        return None
    if triggers is None or not (triggers.on_signal or triggers.schedule):
        gone = stale(ctx, RETRAIN, reason="Obsolete", sentence="spec.triggers asks for no retraining any more.")
        return _step(Verdict.DONE, Reason.NOTHING_TRIGGERED, "spec.triggers asks for nothing", gone) if gone else None
    every = answers(ctx)
    wanting = [cause for cause, said in every if said is None]
    if wanting:
        return _ask(ctx, steps, _first(ctx, wanting))
    over = stale(ctx, RETRAIN, reason="Obsolete", sentence=_QUIET)
    over += answered(ctx) if ctx.spec.follows is None else ()
    trouble = ctx.observed.troubles.get(SCHEDULE)
    if trouble is not None:
        return _step(Verdict.STOP, trouble.reason, f"{SCHEDULE}: {trouble.message}", over)
    return _answered(every, over) or _step(Verdict.DONE, Reason.NOTHING_TRIGGERED, _watched(triggers), over)


def _step(verdict: Verdict, reason: Reason, message: str, actions: tuple[Action, ...] = ()) -> Step:
    return Step(Type.TRIGGERED, verdict, reason, message, actions)


def _watched(triggers: Triggers) -> str:
    """Say what could ask, and does not."""
    parts = [f"none fires of {', '.join(triggers.named)}"] if triggers.named else []
    return "; ".join([*parts, *([f"not due: {triggers.schedule}"] if triggers.schedule else [])])


def _answered(every: Sequence[tuple[Cause, ProposalState | None]], over: tuple[Action, ...]) -> Step | None:
    """Say what people answered to the oldest cause that goes on; None where none does."""
    for cause, found in every:
        if found is not None:
            merged = found.pull.state is PullState.MERGED
            text = f"{cause.name}: pull request #{found.pull.number} was {'merged' if merged else 'closed'} in answer; "
            text += "nothing more is asked before the next one"
            return _step(Verdict.REST, Reason.TRIGGER_WAITS if merged else Reason.REJECTED, text, over)
    return None


def _first(ctx: Context, every: Sequence[Cause]) -> Cause:
    """Choose what to ask about: what is asked about already, else the oldest."""
    return next((cause for cause in every if _is_asked(ctx, cause)), every[0])


def _is_asked(ctx: Context, cause: Cause) -> bool:
    """Whether a question about this cause is open."""
    ours = [each for each in ctx.observed.proposals if each.intent == RETRAIN and each.pull.state is PullState.OPEN]
    key = key_of(ctx, RETRAIN, content(cause))[:12] if ours else ""
    return any(each.key == key for each in ours)


def _ask(ctx: Context, steps: tuple[Step, ...], cause: Cause) -> Step:
    """Ask about one cause, as soon as nothing stands against it."""
    if is_on_its_way(steps):
        return _step(Verdict.REST, Reason.TRIGGER_WAITS, f"{cause.name}: a candidate is on its way already")
    data = next((step for step in steps if step.type is Type.DATA_CURRENT), None)
    if data is not None and data.reason not in _UNFIT:
        return _by_data(ctx, cause, data)
    if not _is_asked(ctx, cause):
        held = held_back(ctx, Type.TRIGGERED, 0)
        held = held or wait_for_turn(ctx, Type.TRIGGERED, RETRAIN, steps)
        if held is not None:
            over = stale(ctx, RETRAIN, reason="Obsolete", sentence=_QUIET)
            return replace(held, message=f"{cause.name}: {held.message}", actions=over)
    step = plan_proposal(ctx, draft(ctx, cause))
    verdict = Verdict.REST if step.verdict is Verdict.STOP else step.verdict
    return replace(step, type=Type.TRIGGERED, verdict=verdict, message=f"{cause.name}: {step.message}")


def _by_data(ctx: Context, cause: Cause, data: Step) -> Step:
    """Leave it to the question about newer data; what keeps that from being asked keeps this one as well."""
    if data.reason in (Reason.LABELS_WANTED, Reason.COOLING_DOWN):
        return _step(Verdict.REST, data.reason, f"{cause.name}: {data.message}")
    asked = data.reason is Reason.PULL_REQUEST_OPEN
    gone = stale(ctx, RETRAIN, reason="Superseded", sentence=_DATA) if asked else ()
    text = f"{cause.name}: newer data comes first; DataCurrent says how that stands"
    return _step(Verdict.REST, Reason.TRIGGER_WAITS, text, gone)


def content(cause: Cause) -> dict[str, str]:
    """Give what makes a proposal this one: the cause."""
    return {"nonce": nonce_name(cause.name)}


def draft(ctx: Context, cause: Cause) -> Draft:
    """Write the proposal: another nonce, and why."""
    nonce = nonce_name(cause.name)
    folder = signals_dir(*ctx.key, nonce)
    return Draft(
        intent=RETRAIN, content=content(cause), subject=digest_of(cause.name), field=_FIELD,
        title=retrain_page.title(ctx, cause), body=retrain_page.body(ctx, cause, folder),
        edit=lambda: _edit(ctx, cause, nonce, folder), instead="wait for the next episode",
        told=retrain_page.told(ctx, cause),
    )  # fmt: skip


def _edit(ctx: Context, cause: Cause, nonce: str, folder: str) -> Edit:
    files = {
        f"{folder}/signals.json": retrain_page.evidence_text(ctx, cause, nonce),
        f"{folder}/report.md": retrain_page.page(ctx, cause).encode(),
    }
    trailers = (("Trunkline-Cause", cause.name), ("Trunkline-Source", ctx.observed.source.changed.sha))
    return Edit(nonce, trailers, files)
