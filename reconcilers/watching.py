"""Live traffic: what the release does out there, held against what it does on golden. Pure.

A signal that fires is no error of the model: what serves goes on serving. So it is told in a condition of its own, in
words that change only when a signal begins or ceases to fire.
"""

from __future__ import annotations

from dataclasses import replace

from reconcilers import jobs, orders
from reconcilers.context import Context, Step, Verdict
from specs.monitoring import MIN_SAMPLES, Monitoring
from specs.status import ConditionType as Type
from specs.status import Reason


def plan_watching(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Say how the signals stand, once it is counted what the release does on golden; None where nobody asks."""
    del steps
    monitoring = ctx.spec.monitoring
    if monitoring is None or ctx.spec.serving is None or ctx.spec.release is None:
        return None
    told = _told(ctx, monitoring)
    work = jobs.work(ctx, Type.MONITORED, Reason.PROFILING, orders.profile(ctx))
    if work is None:
        return told
    if work.verdict is Verdict.STOP:
        work = replace(work, verdict=Verdict.REST)
    return replace(told, actions=work.actions, after=work.after) if told.reason is Reason.SIGNAL_FIRING else work


def _told(ctx: Context, monitoring: Monitoring) -> Step:
    observed = ctx.observed
    firing = [signal.episode for signal in observed.signals if signal.state == "Firing"]
    if firing:
        return _rest(Reason.SIGNAL_FIRING, f"out of bounds: {', '.join(firing)}")
    if observed.profile is not None and observed.profile.status == "Failed":
        why = f"{observed.profile.reason}: {observed.profile.message}"
        text = "without a profile of golden only errors, latency and told truth are judged"
        return _rest(Reason.PROFILE_FAILED, f"{text}: {why}")
    if not observed.watches:
        return _rest(Reason.TRAFFIC_UNREACHABLE, "nobody here knows where live traffic is counted")
    if observed.watched is not None and observed.watched.trouble:
        return _rest(Reason.TRAFFIC_UNREACHABLE, observed.watched.trouble)
    silent = [signal.name for signal in observed.signals if signal.state == "Unknown"]
    if len(silent) == len(observed.signals):
        least = monitoring.min_samples or MIN_SAMPLES
        text = f"no window of {monitoring.window} told anything yet; one needs {least} pictures or requests"
        return _rest(Reason.TRAFFIC_INCONCLUSIVE, text)
    text = f"nothing is known yet of: {', '.join(silent)}" if silent else ""
    return Step(Type.MONITORED, Verdict.DONE, Reason.SIGNALS_QUIET, text)


def _rest(reason: Reason, message: str) -> Step:
    return Step(Type.MONITORED, Verdict.REST, reason, message)
