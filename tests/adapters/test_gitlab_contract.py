"""What we send to GitLab, and what the stand-in says for it, against GitLab's own description of its API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.contract import Contract
from tests.support.forge_server import Answer, Call
from tests.support.forge_stage import RemoteStage, stage
from tests.support.forge_tour import tour

CONTRACT = Contract(Path(__file__).parent / "contracts" / "gitlab.json")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Call]]:
    """Give every request of a tour that was not refused."""
    with stage("gitlab", tmp_path_factory.mktemp("gitlab")) as made:
        assert isinstance(made, RemoteStage)
        tour(made)
        yield [call for call in made.server.calls if call.answer.status < 400]


def test_every_request_and_every_answer_agrees_with_the_description(calls: list[Call]) -> None:
    """Paths, queries, bodies and all fields of answers are known there, with these types."""
    assert [(call.verb, call.path, fault) for call in calls for fault in CONTRACT.faults(call)] == []


def test_all_operations_are_covered(calls: list[Call]) -> None:
    """Nothing is described that we do not use, and the tour uses all."""
    assert {CONTRACT.name(call) for call in calls} == set(CONTRACT.operations)


@pytest.mark.parametrize(("change", "fault"), [
    ({"query": {"sorting": "desc"}}, "query sorting"),
    ({"query": {"state": "open"}}, "query state"),
    ({"answer": Answer(200, [{"number": 1}])}, "answer[0].number is unknown"),
    ({"answer": Answer(200, [{"iid": "1"}])}, "answer[0].iid is '1', not integer"),
    ({"answer": Answer(200, [{"author": {"login": "ann"}}])}, "answer[0].author.login is unknown"),
])  # fmt: skip
def test_a_slip_would_be_noticed(calls: list[Call], change: dict[str, object], fault: str) -> None:
    """A name that GitLab does not know, or a type that it does not have, is a fault."""
    listing = next(call for call in calls if call.path.endswith("/merge_requests") and call.verb == "GET")
    assert CONTRACT.faults(replace(listing, **change)) == [fault]  # type: ignore[arg-type]
