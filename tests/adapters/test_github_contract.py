"""What we send to GitHub, and what the stand-in says for it, against GitHub's own description of its API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.forge_http import ForgeClient
from tests.support.contract import Contract
from tests.support.forge_server import Answer, Call
from tests.support.forge_stage import remote_stage
from tests.support.forge_tour import tour
from tests.support.github_app import app_of

CONTRACT = Contract(Path(__file__).parent / "contracts" / "github.json")
GRAPHQL = {
    "inputs": {
        "authorEmail", "clientMutationId", "commitBody", "commitHeadline", "expectedHeadOid", "mergeMethod",
        "pullRequestId",
    },
    "answers": {"actor", "clientMutationId", "pullRequest"}, "methods": {"MERGE", "REBASE", "SQUASH"},
}  # fmt: skip
"""The mutation enablePullRequestAutoMerge in the schema of GitHub's GraphQL API (npm @octokit/graphql-schema 15.26)."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Call]]:
    """Give every request of a tour that was not refused."""
    folder = tmp_path_factory.mktemp("github")
    with remote_stage("github", folder) as here:
        tour(here)
        assert app_of(here.server, folder)()
        yield [call for call in here.server.calls if call.answer.status < 400]


def test_every_request_and_every_answer_agrees_with_the_description(calls: list[Call]) -> None:
    """Paths, queries, bodies and all fields of answers are known there, with these types."""
    asked = [call for call in calls if call.path != "/api/graphql"]
    assert [(call.verb, call.path, fault) for call in asked for fault in CONTRACT.faults(call)] == []


def test_all_operations_are_covered(calls: list[Call]) -> None:
    """Nothing is described that we do not use, and the tour uses all."""
    asked = {CONTRACT.name(call) for call in calls if call.path != "/api/graphql"}
    assert asked == set(CONTRACT.operations)


def test_the_mutation_is_one_that_exists(calls: list[Call]) -> None:
    """Name, inputs, method and answer of the only GraphQL request are in the published schema."""
    (call,) = [call for call in calls if call.path == "/api/graphql"]
    found = re.search(r"enablePullRequestAutoMerge\(input: \{(.*?)\}\) \{ (\w+) \}", call.body["query"])
    assert found is not None
    assert set(re.findall(r"(\w+):", found[1])) <= GRAPHQL["inputs"]
    assert found[2] in GRAPHQL["answers"]
    assert call.body["variables"]["method"] in GRAPHQL["methods"]
    assert "pullRequestId: $pull" in found[1]


@pytest.mark.parametrize(("change", "fault"), [
    ({"query": {"sorted": "updated"}}, "query sorted"),
    ({"query": {"state": "opened"}}, "query state"),
    ({"answer": Answer(200, [{"iid": 1}])}, "answer[0].iid is unknown"),
    ({"answer": Answer(200, [{"number": "1"}])}, "answer[0].number is '1', not integer"),
    ({"answer": Answer(200, [{"head": {"repo": {"path": "x"}}}])}, "answer[0].head.repo.path is unknown"),
])  # fmt: skip
def test_a_slip_would_be_noticed(calls: list[Call], change: dict[str, object], fault: str) -> None:
    """A name that GitHub does not know, or a type that it does not have, is a fault."""
    listing = next(call for call in calls if call.path.endswith("/pulls") and call.verb == "GET")
    assert CONTRACT.faults(replace(listing, **change)) == [fault]  # type: ignore[arg-type]


def test_the_address_of_graphql_is_found(calls: list[Call]) -> None:
    """On github.com it is beside the REST API, on a server of one's own beside its version."""
    from adapters.forge_github import GitHubForge

    for rest, graphql in (
        ("https://api.github.com", "https://api.github.com/graphql"),
        ("https://git.example.com/api/v3", "https://git.example.com/api/graphql"),
    ):
        forge = GitHubForge(ForgeClient(rest, dict), "acme/models", branch="main")
        assert forge.graphql == graphql
