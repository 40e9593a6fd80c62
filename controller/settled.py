"""A mark for everything that was looked at when nothing was left to do: while it is the same, nothing can be.

Thousands of models are at rest at any time, also when the operator starts. A model's status keeps the mark of the world
in which it came to rest; where the world still has it, a pass would find what the last one found, so it is spared. A
mark only ever spares work: whoever forged one would get nothing done, not something undone. What it does not cover,
records that vanish from the store, a full pass finds once in a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from reconcilers.loop import Result
from specs.digests import digest_of
from specs.facts import PullRequest
from specs.serving_facts import ServingState
from specs.status import ConditionType, ModelStatus, Reason

_RULES = 3
"""Goes up whenever the same world may mean something else to a new version of the plan."""


def asked(
    desired: str, path: str, blob: str, pulls: Sequence[PullRequest], branches: Mapping[str, str], *, rules: str = ""
) -> str:
    """Name what is asked for: a model's live spec, its file in git, its proposals; and what is required of commits."""
    proposals = [[p.number, p.state, p.head, p.base] for p in pulls]
    world = [_RULES, desired, path, blob, proposals, sorted(branches.items())]
    return digest_of([*world, rules] if rules else world)[7:23]


def found(serving: ServingState | None) -> str:
    """Name what serves."""
    return digest_of(astuple(serving) if serving is not None else None)[7:15]


def at_rest(result: Result) -> bool:
    """Whether nothing is left to do, nothing was done just now, and nothing is to be looked at again soon."""
    ready = result.status.condition(ConditionType.READY)
    waits = result.acted or result.retry or result.after > 0
    return not waits and ready is not None and _is_rest(ready.status, ready.reason)


def _is_rest(status: str, reason: str) -> bool:
    return status == "True" and reason == Reason.AS_DESIRED


def mark(asked_now: str, found_now: str, newest: str) -> str:
    """Name a world; ``newest`` names the newest training data, and what live traffic means, for who follows them."""
    return ".".join([asked_now, found_now, *([newest] if newest else [])])


def is_same(settled: str, asked_now: str, found_now: str | None, newest: str = "") -> bool:
    """Whether a mark names the world as it is now; ``found_now`` is None while nobody knows what serves.

    One that follows its data or watches its traffic, and was not looked at since the start, is looked at once.
    """
    asked_then, _, rest = settled.partition(".")
    found_then, _, newest_then = rest.partition(".")
    return asked_then == asked_now and found_now in (None, found_then) and newest_then in ("", newest)


def marked(status: ModelStatus, path: str, settled: str) -> ModelStatus:
    """Give the status with the file that it is about and the fingerprint; empty where it is not at rest."""
    return status.model_copy(update={"path": path, "settled": settled})
