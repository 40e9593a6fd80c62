"""Live traffic: what the release does out there, held against what it does on golden. Pure."""

from __future__ import annotations

from reconcilers.context import Context, Step


def plan_watching(ctx: Context, steps: tuple[Step, ...]) -> Step | None:
    """Say how the signals stand; None where nobody asks."""
    del ctx, steps
    return None
