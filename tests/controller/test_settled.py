"""The mark of a model at rest: the same world has the same one, and any difference another."""

from __future__ import annotations

from typing import Any

import pytest

from controller.settled import asked, at_rest, found, is_same
from reconcilers.loop import Result
from specs.facts import PullRequest, PullState
from specs.serving_facts import ServingState
from specs.status import Condition, ConditionType, ModelStatus

PULL = PullRequest(1, PullState.MERGED, "trunkline/promote/a.b/0", "c" * 40, "main", "t", "b")
WORLD: dict[str, Any] = {"desired": "d", "path": "p", "blob": "b", "pulls": [PULL], "branches": {"x": "y"}}
SERVING = ServingState("a", True, 1, "f", "u", shape="s", replicas=(2, 2))


@pytest.mark.parametrize(
    "change",
    [{"desired": "e"}, {"path": "q"}, {"blob": "c"}, {"pulls": []}, {"branches": {}}, {"rules": "r"},
     {"pulls": [PullRequest(1, PullState.OPEN, PULL.branch, PULL.head, "main", "t", "b")]},
     {"pulls": [PullRequest(1, PullState.MERGED, PULL.branch, PULL.head, "dev", "t", "b")]}],
    ids=["spec", "path", "file", "pull request gone", "branch", "rules", "pull request reopened",
         "pull request retargeted"],
)  # fmt: skip
def test_whatever_is_asked_for_differently_has_another_mark(change: dict[str, Any]) -> None:
    """A changed spec, file, proposal or requirement is looked at."""
    assert asked(**WORLD) == asked(**WORLD)
    assert asked(**{**WORLD, **change}) != asked(**WORLD)


@pytest.mark.parametrize("other", [None, ServingState("a", True, 1, "f", "u", shape="s", replicas=(1, 2)),
                                   ServingState("a", True, 1, "f", "u", shape="t", replicas=(2, 2))])  # fmt: skip
def test_whatever_serves_differently_has_another_mark(other: ServingState | None) -> None:
    """A lost pod, another shape, or nothing at all is looked at."""
    assert found(SERVING) != found(other)


def test_while_nobody_knows_what_serves_only_the_rest_counts() -> None:
    """At the start, before all Deployments are known; a wrong half is a wrong mark all the same."""
    mark = f"{asked(**WORLD)}.{found(SERVING)}"
    assert is_same(mark, asked(**WORLD), None)
    assert is_same(mark, asked(**WORLD), found(SERVING))
    assert not is_same(mark, asked(**WORLD), found(None))
    assert not is_same(mark, asked(**{**WORLD, "blob": "c"}), None)
    assert not is_same("", asked(**WORLD), None)


@pytest.mark.parametrize(
    ("status", "reason", "acted", "retry", "rests"),
    [("True", "AsDesired", False, False, True), ("True", "AsDesired", True, False, False),
     ("True", "AsDesired", False, True, False), ("False", "GateFailed", False, False, False),
     ("False", "Suspended", False, False, False)],
    ids=["at rest", "acted", "to retry", "stalled", "suspended"],
)  # fmt: skip
def test_only_ready_and_untouched_is_rest(status: Any, reason: str, acted: bool, retry: bool, rests: bool) -> None:  # noqa: FBT001
    """What a person must do, or what a store may answer differently later, is looked at again and again."""
    ready = Condition(type=ConditionType.READY, status=status, reason=reason)
    assert at_rest(Result(ModelStatus(conditions=[ready]), acted, retry)) is rests
