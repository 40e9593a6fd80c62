"""The whole loop with its pull requests on GitHub: the agent, real git, real HTTP, and people on their pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.facts import PullState
from tests.support.forge_server import running
from tests.support.github_server import GitHubServer
from tests.support.place import Place

pytestmark = pytest.mark.xdist_group("agent")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place of the test's own."""
    made = Place(tmp_path / "place")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def github(place: Place) -> Iterator[GitHubServer]:
    """Let the place's pull requests live on GitHub from now on."""
    with running(GitHubServer(place.hub.path)) as server:
        (place.folder / "token").write_text(server.token)
        with (place.folder / "trunkline.toml").open("a") as file:
            file.write(
                f'[forge]\nkind = "github"\nurl = "{server.url}"\nproject = "{server.project}"\n'
                f'token_file = "{place.folder / "token"}"\n'
            )
        place.restart()
        yield server


def test_from_a_spec_to_a_merge_on_github(place: Place, github: GitHubServer) -> None:
    """Trained, proposed once though an answer is lost, rejected, wanted again, merged by squash, served; then quiet."""
    place.write(place.spec())
    github.fault("POST", r"/pulls$", 502, after=True)
    place.until("something is proposed", lambda: github.pulls)
    place.skew += 600
    place.settle()
    (pull,) = github.pulls.values()
    assert (pull.state, pull.labels) == ("open", ["trunkline"])
    assert pull.head == place.hub.head(pull.branch)
    assert place.reason("Proposed") == "PullRequestOpen"

    github.close(1)
    place.passes(2)
    assert place.reason("Proposed") == "ProposalRejected"
    assert len(github.pulls) == 1
    github.reopen(1)
    place.until("it is open again", lambda: place.reason("Proposed") == "PullRequestOpen")

    commit = github.merge(1, "squash")
    place.until("it serves", lambda: place.reason("Serving") == "ReleaseServing")
    place.settle()
    (seen,) = place.app.forge.list()
    assert (seen.state, seen.merge_commit) == (PullState.MERGED, commit)
    assert place.hub.heads().keys() == {"main"}

    place.assert_quiet()
    github.calls.clear()
    place.passes(3)
    assert [(call.verb, call.answer.status) for call in github.calls[-2:]] == [("GET", 304)] * 2
    assert not any(call.wrote for call in github.calls)
    assert github.token not in "".join(path.read_text() for path in (place.folder / "state/status").iterdir())
