"""Moments as records and statuses write them: ISO 8601 in UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(when: float) -> str:
    """Write Unix time, seconds: ``2026-11-26T10:00:00Z``."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix(text: str) -> float:
    """Read what ``iso`` wrote, or any other ISO 8601; 0 for what is no moment."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
