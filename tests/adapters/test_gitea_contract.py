"""What we send to Gitea, and what the stand-in says for it, against a client generated from Gitea's own description.

The generated client, given the same arguments, must make the same request; its models must know what comes back.
"""

from __future__ import annotations

import asyncio
import re
import typing
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from gitea_api_client.api.issue_api import IssueApi
from gitea_api_client.api.repository_api import RepositoryApi
from gitea_api_client.api_client import ApiClient
from pydantic import TypeAdapter, ValidationError

from tests.support.forge_server import Call
from tests.support.forge_stage import RemoteStage, stage
from tests.support.forge_tour import tour

OPERATIONS = {
    ("GET", r"/"): (RepositoryApi, "repo_get"),
    ("GET", r"/branches/(?P<branch>.+)"): (RepositoryApi, "repo_get_branch"),
    ("GET", r"/labels"): (IssueApi, "issue_list_labels"),
    ("GET", r"/pulls"): (RepositoryApi, "repo_list_pull_requests"),
    ("POST", r"/pulls"): (RepositoryApi, "repo_create_pull_request"),
    ("GET", r"/pulls/(?P<index>\d+)"): (RepositoryApi, "repo_get_pull_request"),
    ("PATCH", r"/pulls/(?P<index>\d+)"): (RepositoryApi, "repo_edit_pull_request"),
    ("POST", r"/pulls/(?P<index>\d+)/merge"): (RepositoryApi, "repo_merge_pull_request"),
    ("DELETE", r"/pulls/(?P<index>\d+)/merge"): (RepositoryApi, "repo_cancel_scheduled_auto_merge"),
    ("GET", r"/pulls/(?P<index>\d+)/reviews"): (RepositoryApi, "repo_list_pull_reviews"),
    ("GET", r"/issues/(?P<index>\d+)/comments"): (IssueApi, "issue_get_comments"),
    ("POST", r"/issues/(?P<index>\d+)/comments"): (IssueApi, "issue_create_comment"),
    ("PATCH", r"/issues/comments/(?P<id>\d+)"): (IssueApi, "issue_edit_comment"),
    ("DELETE", r"/issues/comments/(?P<id>\d+)"): (IssueApi, "issue_delete_comment"),
    ("GET", r"/commits/(?P<sha>\w+)/pull"): (RepositoryApi, "repo_get_commit_pull_request"),
    ("GET", r"/commits/(?P<ref>\w+)/statuses"): (RepositoryApi, "repo_list_statuses_by_ref"),
    ("POST", r"/statuses/(?P<sha>\w+)"): (RepositoryApi, "repo_create_status"),
}
NUMBERS = ("index", "id", "page", "limit")


class Recorder(ApiClient):
    """A client that asks nobody and tells what it would have asked."""

    async def call_api(
        self, method: str, url: str, header_params: Any = None, body: Any = None, post_params: Any = None,
        _request_timeout: Any = None,
    ) -> Any:  # fmt: skip
        raise Asked(method, url, body)


class Asked(Exception):
    """No error: what the recorder would have asked."""

    def __init__(self, verb: str, url: str, body: Any) -> None:
        super().__init__(verb, url)
        self.verb, self.url, self.body = verb, url, body


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Call]]:
    """Give every request of a tour that was not refused."""
    with stage("gitea", tmp_path_factory.mktemp("gitea")) as made:
        assert isinstance(made, RemoteStage)
        tour(made)
        yield [call for call in made.server.calls if call.answer.status < 400]


def operation(call: Call) -> tuple[tuple[str, str], dict[str, str]]:
    """Find the operation of a request, and what its path says."""
    path = call.path.removeprefix("/repos/acme/models") or "/"
    for verb, pattern in OPERATIONS:
        match = re.fullmatch(pattern, path)
        if verb == call.verb and match:
            return (verb, pattern), match.groupdict()
    raise AssertionError(f"{call.verb} {call.path} is not in the description")


def twin(call: Call) -> Asked:
    """Let the generated client make the same request."""
    key, named = operation(call)
    api, name = OPERATIONS[key]
    given: dict[str, Any] = {**named, **call.query}
    given |= {each: int(given[each]) for each in NUMBERS if each in given}
    if call.body:
        given["body"] = call.body

    async def ask() -> Asked:
        async with Recorder() as client:
            try:
                await getattr(api(client), name)("acme", "models", **given)
            except Asked as asked:
                return asked
        raise AssertionError(f"{name} asked nothing")

    return asyncio.run(ask())


def test_every_request_is_the_one_that_the_generated_client_makes(calls: list[Call]) -> None:
    """Verb, path, query and body agree, and no argument is unknown or of another type."""
    for call in calls:
        asked = twin(call)
        parts = urlsplit(asked.url)
        assert (asked.verb, parts.path.removeprefix("/api/v1")) == (call.verb, call.path)
        assert dict(parse_qsl(parts.query)) == call.query
        assert (asked.body or None) == (call.body or None)


def test_every_answer_is_known_to_the_generated_models(calls: list[Call]) -> None:
    """No field of the stand-in's answers is unknown there, and all have the right types."""
    for call in calls:
        api, name = OPERATIONS[operation(call)[0]]
        kind = typing.get_type_hints(getattr(api, name))["return"]
        if call.answer.body is not None:
            assert unknown(TypeAdapter(kind), call.answer.body) == set(), call.path


def unknown(kind: TypeAdapter[Any], value: Any) -> set[str]:
    """Give the fields of JSON that a model leaves out; ValidationError where a type is another one."""
    kept = kind.dump_python(kind.validate_python(value), by_alias=True, exclude_unset=True)
    return set(_names(value)) - set(_names(kept))


def _names(value: Any, where: str = "") -> Iterator[str]:
    for name, item in value.items() if isinstance(value, dict) else ():
        yield f"{where}.{name}"
        yield from _names(item, f"{where}.{name}")
    for item in value if isinstance(value, list) else ():
        yield from _names(item, f"{where}[]")


def test_all_operations_are_covered(calls: list[Call]) -> None:
    """The tour asks for everything that the adapter can ask for."""
    assert {operation(call)[0] for call in calls} == set(OPERATIONS)


def test_a_slip_would_be_noticed(calls: list[Call]) -> None:
    """An argument that Gitea does not know, and one of another type, are errors."""
    listing = next(call for call in calls if call.path.endswith("/pulls") and call.verb == "GET")
    for query in ({"per_page": "50"}, {"milestone": "first"}):
        with pytest.raises(ValidationError):
            twin(Call("GET", listing.path, query, None, {}))
    opening = next(call for call in calls if call.path.endswith("/pulls") and call.verb == "POST")
    asked = twin(Call("POST", opening.path, {}, {**opening.body, "description": "unknown"}, {}))
    assert "description" not in asked.body
    model = TypeAdapter(typing.get_type_hints(RepositoryApi.repo_get_pull_request)["return"])
    assert unknown(model, {"number": 1, "iid": 1}) == {".iid"}
    with pytest.raises(ValidationError):
        model.validate_python({"number": "1"})
