"""A name for everything that was looked at when nothing was left to do: while it is the same, nothing can be.

Thousands of models are at rest at any time, also when the operator starts. A model's status keeps the fingerprint of
the world in which it came to rest; where the world still has it, a pass would find what the last one found, so it is
spared. It only ever spares work: whoever forged one would get nothing done, not something undone. What it does not
cover, records that vanish from the store, a full pass finds once in a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from reconcilers.loop import Result
from specs.digests import digest_of
from specs.facts import PullRequest, ServingState
from specs.status import ConditionType, ModelStatus, Reason

_RULES = 1
"""Goes up whenever the same world may mean something else to a new version of the plan."""


def fingerprint(
    desired: str, path: str, blob: str, serving: ServingState | None, pulls: Sequence[PullRequest],
    branches: Mapping[str, str],
) -> str:  # fmt: skip
    """Name a model's world: its live spec, its file in git, what serves, and its proposals."""
    world = [
        _RULES, desired, path, blob, astuple(serving) if serving is not None else None,
        [[pull.number, pull.state, pull.head] for pull in pulls], sorted(branches.items()),
    ]  # fmt: skip
    return digest_of(world)[7:23]


def at_rest(result: Result) -> bool:
    """Whether nothing is left to do and nothing was done just now."""
    ready = result.status.condition(ConditionType.READY)
    return not result.acted and not result.retry and ready is not None and _is_rest(ready.status, ready.reason)


def _is_rest(status: str, reason: str) -> bool:
    return status == "True" and reason == Reason.AS_DESIRED


def marked(status: ModelStatus, path: str, settled: str) -> ModelStatus:
    """Give the status with the file that it is about and the fingerprint; empty where it is not at rest."""
    return status.model_copy(update={"path": path, "settled": settled})
