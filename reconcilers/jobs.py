"""What to do about jobs whose records are not there yet. Pure; every kind of job is treated alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconcilers.actions import StartJob
from reconcilers.context import Context, Step, Verdict
from specs.facts import JobPhase, JobState
from specs.modelspec import Spec
from specs.placement import Placement
from specs.status import ConditionType, Reason
from specs.training import TrainJob
from specs.workorders import (
    TIRELESS,
    AnyOrder,
    CompareOrder,
    DiffOrder,
    ExportOrder,
    ImportOrder,
    ProfileOrder,
    TrackOrder,
    TrainOrder,
    ValidateOrder,
)

MAX_ATTEMPTS = 3
PERMANENT_EXIT = 10
FIRST_BACKOFF = 5.0
"""Seconds after the first failed attempt; four times as long after each further one."""

_LIGHT = (ImportOrder, ValidateOrder, DiffOrder, CompareOrder, TrackOrder, ProfileOrder)
"""What computes with pictures and numbers only: a GPU, or a node that has one, would stand idle."""


def work(ctx: Context, type_: ConditionType, reason: Reason, orders: Iterable[AnyOrder]) -> Step | None:
    """Give the step that gets these orders done, or None where nothing is to be done.

    The first order that is lost for good stops the step; otherwise everything that can start starts.
    """
    orders = tuple(orders)
    if not orders:
        return None
    actions: list[StartJob] = []
    waits: list[str] = []
    pauses: list[float] = []
    for order in orders:
        state = ctx.observed.jobs.get(order.job)
        if state is not None and is_lost(state):
            return Step(type_, Verdict.STOP, Reason.JOB_FAILED, _lost_message(order, state))
        pause = _pause(state, ctx.now)
        if state is None or (state.phase is JobPhase.ENDED and pause <= 0):
            actions.append(StartJob(order, placement_of(ctx.spec, order)))
        if pause > 0:
            pauses.append(pause)
        waits.append(_wait_message(order, state))
    states = [ctx.observed.jobs.get(order.job) for order in orders]
    if all(state is not None and state.phase is JobPhase.QUEUED for state in states):
        reason = Reason.QUEUED
    return Step(type_, Verdict.WAIT, reason, "; ".join(waits), tuple(actions), min(pauses, default=0.0))


def is_lost(state: JobState) -> bool:
    """Whether another attempt would be useless: it said so itself, or it failed too often."""
    if state.phase is not JobPhase.ENDED:
        return False
    return state.exit_code == PERMANENT_EXIT or state.attempts >= MAX_ATTEMPTS


def placement_of(spec: Spec, order: AnyOrder) -> Placement:
    """Give where a job runs: exports as their section says, what needs no accelerator anywhere, the rest like training.

    The queue admits all of them, so that nothing is held back where a cluster suspends jobs that name none.
    """
    training = spec.training
    if isinstance(order, _LIGHT):
        return Placement(queue=training.queue_name or "")
    if isinstance(order, ExportOrder):
        for export in spec.exports:
            if order.is_of(export) and (export.resources or export.node_selector):
                return Placement.of(export.resources, export.node_selector, training.queue_name)
    if order.kind == TIRELESS:
        return Placement()  # a few requests and files need no accelerator
    placement = Placement.of(training.resources, training.node_selector, training.queue_name)
    if isinstance(order, TrainOrder) and training.backend == "TrainJob":
        return replace(placement, train_job=training.train_job or TrainJob())
    return placement


def _pause(state: JobState | None, now: float) -> float:
    """Seconds until the next attempt may start."""
    if state is None or state.phase is not JobPhase.ENDED:
        return 0.0
    return state.ended + FIRST_BACKOFF * 4.0 ** (state.attempts - 1) - now


def _wait_message(order: AnyOrder, state: JobState | None) -> str:
    if state is not None and state.phase is JobPhase.ENDED and state.reason:
        return f"{order.job}: attempt {state.attempts} ended ({state.reason}); trying again"
    if state is not None and state.phase is not JobPhase.ENDED and state.message:
        return f"{order.job}: {state.message}"
    if state is not None and state.phase is JobPhase.QUEUED:
        return f"{order.job} waits for room"
    return f"{order.job} is working"


def _lost_message(order: AnyOrder, state: JobState) -> str:
    tries = "once" if state.attempts == 1 else f"{state.attempts} times"
    return (
        f"{order.job} failed {tries}, last: {state.reason or 'Error'}: {state.message or 'no output'}. "
        f"Read `trunkline logs {order.job}`, mend the cause, then `trunkline retry {order.job}` "
        "(in a cluster `trunkline kube logs` and `kube retry`)."
    )
