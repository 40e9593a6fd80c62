"""Triggers: when a signal, or the calendar, asks for another model. It is asked for by pull request, always. Pure."""

from __future__ import annotations

from reconcilers.context import Context, Step


def plan_triggers(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Ask for a retraining where a trigger wants one; None where nobody asks."""
    del ctx, steps
    return None
