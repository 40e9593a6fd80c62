"""``trunkline ci``: one comment and three checks on a pull request, in the jobs of every forge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.store import Store
from reconcilers.ci_report import MARKER
from specs.errors import Stalled
from specs.manifest import edit
from tests.support.ci_job import actions, ci, clone
from tests.support.forge_project import Pull
from tests.support.forge_server import running
from tests.support.github_server import GitHubServer
from tests.support.gitrepo import git
from tests.support.proposals_in_git import CONTENT, FILE, FULL, SHELF, Studio, release

NAMES = {"trunkline/check", "trunkline/plan", "trunkline/edit"}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """Give a repository with one released model."""
    return Studio(tmp_path)


@pytest.fixture
def server(studio: Studio) -> Iterator[GitHubServer]:
    """Give GitHub before that repository."""
    with running(GitHubServer(studio.hub.path)) as made:
        yield made


class Job:
    """A pull request of these files, and the job that runs for it."""

    def __init__(self, studio: Studio, server: GitHubServer, folder: Path) -> None:
        self.studio, self.server, self.folder = studio, server, folder
        self.pull: Pull | None = None

    def open(self, files: dict[str, str | bytes | None], text: str = "Change\n", branch: str = "change") -> None:
        self.studio.push(files, text, branch=branch)
        self.pull = self.server.create(title="x", body="", branch=branch, base="main", author="ann")

    def run(self, *words: str, exit_code: int = 0, **environment: str) -> str:
        """Run the job; give what it printed."""
        assert self.pull is not None
        self.server.follow()
        place = self.folder / f"job{len(list(self.folder.glob('job*')))}"
        clone(self.studio.hub, place)
        result = ci(place, actions(self.server, self.pull, self.folder) | environment, *words)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result.output

    def comments(self) -> list[str]:
        assert self.pull is not None
        return [comment.body for comment in self.pull.comments]

    def checks(self) -> dict[str, tuple[str, str]]:
        """Give the newest state and summary of each check on the head."""
        assert self.pull is not None
        return {each.context: (each.state, each.summary) for each in self.server.statuses.get(self.pull.head, [])}


@pytest.fixture
def job(studio: Studio, server: GitHubServer, tmp_path: Path) -> Job:
    """Give a job."""
    return Job(studio, server, tmp_path)


def test_a_change_is_told_where_people_look(job: Job) -> None:
    """One comment says what merging does; three checks with fixed names stand on the commit; the job's page, too."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    printed = job.run()
    (comment,) = job.comments()
    assert comment.rstrip().endswith(MARKER)
    for word in ("`retail/shelf-detector`", "retrains", "`training.args.epochs: 100 -> 120`", "No store was asked"):
        assert word in comment
        assert word in printed
    states = job.checks()
    assert states.keys() == NAMES
    assert {state for state, _ in states.values()} == {"success"}
    assert "retail/shelf-detector: retrains; re-exports onnx" in states["trunkline/plan"][1]
    assert "retrains" in (job.folder / "summary.md").read_text()


def test_the_comment_is_brought_up_to_date(job: Job) -> None:
    """However often the job runs there is one comment, and it speaks of the newest commit."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    job.run()
    writes = sum(call.wrote for call in job.server.calls)
    job.run()
    assert sum(call.wrote for call in job.server.calls) == writes  # nothing new, nothing written
    job.studio.hub.commit({"README.md": "x\n", FILE: FULL + "# only a comment\n"}, branch="change")
    job.run()
    (comment,) = job.comments()
    assert "retrains" not in comment
    assert "Nothing changes" in comment
    assert job.checks()["trunkline/plan"] == ("success", "nothing changes")


def test_a_broken_file_fails_the_check(job: Job) -> None:
    """The job is red, the check says file and line, and the comment shows it."""
    job.open({FILE: FULL.replace("task: detect ", "task: dance  ")})
    job.run(exit_code=1)
    state, summary = job.checks()["trunkline/check"]
    assert state == "failure"
    assert f"{FILE}:" in summary
    assert "spec.task" in job.comments()[0]


def test_what_was_broken_before_holds_nobody_up(job: Job) -> None:
    """Problems that the target branch has already are counted, and are not this pull request's fault."""
    job.studio.base = job.studio.hub.commit({"old.yaml": "kind: ModelSpec\nspec: 1\n"}, branch="main")
    job.open({"README.md": "x\n"})
    job.run()
    state, summary = job.checks()["trunkline/check"]
    assert state == "success"
    assert "on the target branch already" in summary


def test_a_proposal_is_proved(job: Job) -> None:
    """The required check is green, and the comment says what the proof covers."""
    job.open(job.studio.promote(), "x\n\nTrunkline-Model: retail/shelf-detector\nTrunkline-Intent: promote\n",
             job.studio.branch())  # fmt: skip
    job.run()
    state, summary = job.checks()["trunkline/edit"]
    assert (state, summary[:7]) == ("success", "proved:")
    assert "serves v8" in job.comments()[0]
    assert "changed by hand" not in job.comments()[0]


def test_a_proposal_that_does_more_is_refused(job: Job) -> None:
    """The required check is red, whoever pushed it."""
    files = job.studio.promote() | {FILE: edit(str(job.studio.promote()[FILE]), SHELF, "spec.training.nonce", "x")}
    job.open(files, "x\n\nTrunkline-Model: retail/shelf-detector\nTrunkline-Intent: promote\n", job.studio.branch())
    job.run(exit_code=1)
    state, summary = job.checks()["trunkline/edit"]
    assert state == "failure"
    assert "spec.training.nonce" in summary
    assert "claims to be a proposal of Trunkline, and is not" in job.comments()[0]


def test_a_proposal_that_a_person_took_over(job: Job) -> None:
    """The proof does not apply any more: the check passes as for any person's change, and the comment says so."""
    job.open(job.studio.promote(), "x\n\nTrunkline-Model: retail/shelf-detector\nTrunkline-Intent: promote\n",
             job.studio.branch())  # fmt: skip
    job.studio.hub.commit({"README.md": "a word\n"}, "A word", branch=job.studio.branch())
    job.run()
    state, summary = job.checks()["trunkline/edit"]
    assert (state, "taken over by a person" in summary) == ("success", True)
    assert "is somebody's own now" in job.comments()[0]


HAND = {
    "new digests": ({**release(), "evidence": None}, False, "which was never released: no gate judged these digests"),
    "held": ("hold", True, "changes hold of the release; the bytes stay those of v7"),
    "removed": (None, True, "removes the release v7"),
}


@pytest.mark.parametrize(("value", "fine", "told"), HAND.values(), ids=HAND.keys())
def test_a_release_by_hand_is_told_for_what_it_is(job: Job, value: object, told: str, *, fine: bool) -> None:
    """What only keeps books passes; digests that nothing vouches for do not."""
    if value == "hold":
        text = FULL.replace("    hold: null", "    hold: {reason: a fair is on}")
        assert text != FULL
    else:
        text = edit(FULL, SHELF, "spec.release", value)
    job.open({FILE: text})
    job.run(exit_code=0 if fine else 1)
    assert job.checks()["trunkline/edit"][0] == ("success" if fine else "failure")
    assert told in job.comments()[0]


def test_a_revert_by_hand_goes_back_to_what_was_released(job: Job) -> None:
    """`git revert` of a promotion is allowed, and told as what it is."""
    later = edit(FULL, SHELF, "spec.release", {"version": 8, **CONTENT})
    job.studio.base = job.studio.hub.commit({FILE: later}, "v8", branch="main")
    job.open({FILE: FULL}, "Revert\n")
    job.run()
    assert job.checks()["trunkline/edit"][0] == "success"
    assert "goes back to what v7 released" in job.comments()[0]


def test_with_a_store_the_data_is_known(job: Job, tmp_path: Path) -> None:
    """The store says that the data is not there, so merging would stop; the plan is told, and fails nobody."""
    Store(str(tmp_path / "store")).create("runs/x.json", b"{}")
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    job.run(TRUNKLINE_STORE=str(tmp_path / "store"))
    assert "then stop" in job.checks()["trunkline/plan"][1]
    assert "No store was asked" not in job.comments()[0]


def test_a_fork_without_rights_gets_its_page(job: Job) -> None:
    """A job that may not write says so, shows everything on its own page, and ends by what it found."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    assert job.pull is not None
    job.pull.fork = "eve/models"
    for path in ("/comments", "/statuses"):
        job.server.fault("POST", path, 403, words="Resource not accessible by integration", times=9)
    printed = job.run()
    assert job.comments() == []
    assert "the comment could not be written" in printed
    assert "a pull request from a fork" in printed
    assert "retrains" in (job.folder / "summary.md").read_text()
    assert "no token was given" in job.run(GITHUB_TOKEN="")


def test_trouble_with_the_forge_hides_no_finding(job: Job) -> None:
    """A forge that fails does not turn a red job green, nor a green one red; what can be written is."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    job.server.fault("POST", "/comments", 502)
    assert "the comment could not be written" in job.run()
    assert job.checks().keys() == NAMES


def test_a_dry_run_says_nothing_to_anybody(job: Job) -> None:
    """It prints the comment; no request is made."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    assert "retrains" in job.run("--dry-run")
    told = json.loads(job.run("--dry-run", "--json"))
    assert {check["name"] for check in told["checks"]} == NAMES
    assert job.server.calls == []


def test_a_merge_queue_gets_checks_alone(job: Job) -> None:
    """Its commit gets what branch protection asks for; there is no pull request to comment on."""
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    assert job.pull is not None
    queue = {"base_sha": job.studio.base, "head_sha": job.pull.head, "base_ref": "refs/heads/main"}
    (job.folder / "group.json").write_text(json.dumps({"merge_group": queue}))
    job.run(GITHUB_EVENT_PATH=str(job.folder / "group.json"))
    assert job.comments() == []
    assert job.checks().keys() == NAMES


def test_at_home_with_two_branches(job: Job) -> None:
    """Without any CI system, a person may try it in their clone."""
    job.studio.push({FILE: FULL.replace("epochs: 100", "epochs: 120")}, "Change\n", branch="change")
    place = clone(job.studio.hub, job.folder / "home")
    result = ci(place, {}, "--dry-run", "--base", "origin/main", "--head", "change")
    assert result.exit_code == 0, result.exception
    assert "retrains" in result.output
    assert isinstance(ci(place, {}).exception, Stalled)


def test_a_shallow_clone_is_told_what_to_fetch(job: Job) -> None:
    """Where the history was cut off nothing is guessed."""
    job.studio.hub.commit({"README.md": "1\n"}, branch="main")
    job.studio.hub.commit({"README.md": "2\n"}, branch="main")
    job.open({FILE: FULL.replace("epochs: 100", "epochs: 120")})
    assert job.pull is not None
    place = clone(job.studio.hub, job.folder / "shallow", depth=1)
    error = ci(place, actions(job.server, job.pull, job.folder)).exception
    assert isinstance(error, Stalled)
    assert error.reason == "ShallowClone"
    assert "fetch-depth: 0" in error.message


def test_text_of_users_stays_text(job: Job) -> None:
    """A class or a comment cannot mention people, close issues or bring markup into the comment."""
    evil = "<img src=x> @everyone [x](https://e.example) closes #1 `| a"
    text = FULL.replace("reason: failed canary", f"reason: {json.dumps(evil)}")
    assert text != FULL
    job.open({FILE: text.replace("epochs: 100", "epochs: 120")})
    job.run()
    (comment,) = job.comments()
    assert "<img" not in comment.replace("`", "") or "\\<img" in comment or "`" in comment
    lines = [line for line in comment.splitlines() if "everyone" in line]
    assert lines
    assert all(line.startswith("- `") and line.count("`") == 2 for line in lines)


def test_nothing_of_the_pull_request_is_run(job: Job) -> None:
    """Hooks, attributes, settings and links that a pull request brings are never looked at."""
    marker = job.folder / "pwned"
    evil = f'[filter "x"]\n\tsmudge = touch {marker}\n[core]\n\tfsmonitor = touch {marker}\n'
    job.open({
        ".gitattributes": "* filter=x diff=x\n", ".gitconfig": evil, "trunkline.toml": 'repository = "/nowhere"\n',
        "sitecustomize.py": f"open({str(marker)!r}, 'w')\n", FILE: FULL.replace("epochs: 100", "epochs: 120"),
    })  # fmt: skip
    job.run()
    assert not marker.exists()
    assert git(job.studio.hub.path, "cat-file", "-t", "change") == "commit"
