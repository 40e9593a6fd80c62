"""Refusals as values, for tests that try many inputs of which some are fine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from workloads.serve.answers import Refusal

T = TypeVar("T")


def attempt(call: Callable[[], T]) -> T | Refusal:
    """Give what a call gives, or the refusal it raises; anything else it raises goes on."""
    try:
        return call()
    except Refusal as refusal:
        return refusal
