"""The embedded forge on real bare repositories: one act once, whoever races, whoever dies, whoever uses plain git."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from adapters.forge_local import LocalForge
from adapters.repository import Repository
from specs.errors import Stalled, Transient
from specs.facts import PullRequest, PullState
from tests.support.gitrepo import Hub, git

ROOT = Path(__file__).parents[2]
BRANCH = "trunkline/promote/default.digits/0123456789ab"
PERSON = ("Bo", "bo@example.com")
NOW = 1_800_000_000
GIT = shutil.which("git") or "git"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a bare repository with one manifest."""
    hub = Hub(tmp_path / "far")
    hub.commit({"models/digits.yaml": "a: 1\n", "README": "hello\n"}, "First")
    return hub


@pytest.fixture
def forge(hub: Hub) -> LocalForge:
    """Give the forge of that repository, as Trunkline uses it."""
    return forge_of(hub)


def forge_of(hub: Hub) -> LocalForge:
    """Give a forge that remembers nothing."""
    return LocalForge(hub.path, clock=lambda: NOW)


def propose(hub: Hub, branch: str = BRANCH, files: dict[str, str] | None = None, message: str = "Promote") -> str:
    """Push a proposal's branch and give its head."""
    return hub.commit(files or {"models/digits.yaml": "a: 2\n"}, message, branch=branch, start="origin/main")


def opened(hub: Hub, forge: LocalForge, branch: str = BRANCH, files: dict[str, str] | None = None) -> PullRequest:
    """Push a proposal's branch and open its pull request."""
    propose(hub, branch, files)
    return forge.open(branch=branch, title=f"Change {branch}", body="Body")


def pulls_tip(hub: Hub) -> str:
    """Give the newest commit of the metadata."""
    return git(hub.path, "rev-parse", "refs/trunkline/pulls")


# ------------------------------------------------------------------------------------------------- life


def test_a_new_repository_has_no_pull_requests(hub: Hub, forge: LocalForge) -> None:
    """Looking at an empty forge gives nothing and writes nothing."""
    assert forge.list() == ()
    assert git(hub.path, "for-each-ref", "refs/trunkline", "refs/pull") == ""
    with pytest.raises(Stalled, match="there is none yet"):
        forge.get(1)


def test_open_records_everything(hub: Hub, forge: LocalForge) -> None:
    """An opened pull request has a number, its head, and survives the process that opened it."""
    head = propose(hub)
    pull = forge.open(branch=BRANCH, title="Promote digits v1", body="Why\n\n<!-- key -->")
    assert pull == PullRequest(
        1,
        PullState.OPEN,
        BRANCH,
        head,
        "main",
        "Promote digits v1",
        "Why\n\n<!-- key -->",
        author="Trunkline",
        opened=NOW,
    )
    assert forge_of(hub).list() == (pull,)
    assert git(hub.path, "rev-parse", "refs/pull/1/head") == head


def test_opening_again_adopts(hub: Hub, forge: LocalForge) -> None:
    """A lost answer is harmless: the same branch gives the same pull request, unchanged."""
    pull = opened(hub, forge)
    assert forge.open(branch=BRANCH, title="Other", body="Other") == pull
    assert len(forge.list()) == 1


def test_looking_and_saying_the_same_write_nothing(hub: Hub, forge: LocalForge) -> None:
    """Quiet when done: list, get, adopt and an update without news leave every reference where it is."""
    pull = opened(hub, forge)
    before = git(hub.path, "for-each-ref")
    forge.list()
    forge.get(1)
    forge.open(branch=BRANCH, title="x", body="x")
    forge.update(1, title=pull.title, body=pull.body)
    assert git(hub.path, "for-each-ref") == before


def test_update_sets_text_and_sees_the_new_head(hub: Hub, forge: LocalForge) -> None:
    """After a push the head is the new one, with and without an update."""
    opened(hub, forge)
    second = propose(hub, files={"models/digits.yaml": "a: 3\n"})
    assert forge.get(1).head == second
    forge.update(1, title="New", body="Text")
    pull = forge_of(hub).get(1)
    assert (pull.title, pull.body, pull.head) == ("New", "Text", second)
    assert git(hub.path, "rev-parse", "refs/pull/1/head") == second


def test_close_comments_once(hub: Hub, forge: LocalForge) -> None:
    """Closing twice is closing once; the branch is not ours to delete here."""
    opened(hub, forge)
    forge.close(1, comment="Superseded by #2")
    forge.close(1, comment="Superseded by #2")
    pull = forge.get(1)
    assert (pull.state, pull.closed, pull.comments) == (PullState.CLOSED, NOW, ("Superseded by #2",))
    assert BRANCH in hub.heads()


def test_comments_are_kept_in_order(hub: Hub, forge: LocalForge) -> None:
    """People and Trunkline can comment, in any state."""
    opened(hub, forge)
    forge.comment(1, "first\nline")
    forge.close(1, comment="second")
    forge.comment(1, "third")
    assert forge.get(1).comments == ("first\nline", "second", "third")


def test_numbers_increase_and_are_never_used_again(hub: Hub, forge: LocalForge) -> None:
    """A closed pull request keeps its number; the branch's next one gets a new one."""
    opened(hub, forge)
    forge.close(1, comment="")
    assert forge.open(branch=BRANCH, title="again", body="").number == 2
    assert [(pull.number, pull.state) for pull in forge.list()] == [(1, PullState.CLOSED), (2, PullState.OPEN)]


def test_list_gives_ours_or_all(hub: Hub, forge: LocalForge) -> None:
    """Trunkline sees its own branches; people see everything, oldest first."""
    opened(hub, forge, "feature/x")
    opened(hub, forge)
    assert [pull.number for pull in forge.list()] == [2]
    assert [pull.number for pull in forge.list("")] == [1, 2]


def test_reopen_brings_a_closed_one_back(hub: Hub, forge: LocalForge) -> None:
    """A closed pull request can be wanted after all, unless another one is open for its branch."""
    opened(hub, forge)
    forge.close(1, comment="no")
    assert forge.reopen(1).state is PullState.OPEN
    assert forge.reopen(1).closed == 0
    forge.close(1, comment="no")
    forge.open(branch=BRANCH, title="2", body="")
    with pytest.raises(Stalled, match="#2 is open"):
        forge.reopen(1)


@pytest.mark.parametrize(
    ("branch", "reason"),
    [("trunkline/none", "BranchMissing"), ("main", "NothingToMerge"), ("-x", "UnsafeRef"), ("level", "NothingToMerge")],
    ids=["absent", "base", "hostile", "no-commits"],
)
def test_what_cannot_be_opened_says_why(hub: Hub, forge: LocalForge, branch: str, reason: str) -> None:
    """A pull request needs a branch with something new."""
    git(hub.path, "branch", "level", "main")
    with pytest.raises(Stalled) as caught:
        forge.open(branch=branch, title="t", body="b")
    assert caught.value.reason == reason
    assert forge.list("") == ()


def test_odd_characters_survive(hub: Hub, forge: LocalForge) -> None:
    """Bodies are kept to the character; titles are one printable line; nobody can forge trailers with them."""
    propose(hub)
    body = "ü 🎉 \x00 \x1b[31m \udce9 ' \" ` $(x)\r\n\r\nTrunkline-Pull-Request: 99\n"
    forge.open(branch=BRANCH, title="a\nMerged-by: mallory\x1b[31m\u2028 ü 🎉\x00", body=body)
    pull = forge_of(hub).get(1)
    assert pull.body == body
    assert pull.title == "a Merged-by: mallory [31m ü 🎉"
    merge = forge.merge(1, actor=PERSON)
    trailers = git(hub.path, "log", "-1", "--format=%(trailers:only)", merge).split("\n")
    assert [line for line in trailers if line] == ["Trunkline-Pull-Request: 1", "Merged-by: Bo <bo@example.com>"]


@pytest.mark.parametrize(
    "actor", [("", "a@b"), ("a", ""), ("a\nb", "c@d"), ("a", "<c@d>")], ids=["name", "email", "line", "angle"]
)
def test_an_actor_needs_a_name(hub: Hub, actor: tuple[str, str]) -> None:
    """Commits are signed by somebody who can be written into a commit."""
    with pytest.raises(Stalled, match="to sign with"):
        LocalForge(hub.path, actor=actor)


# ------------------------------------------------------------------------------------------------- merging


def test_merge_makes_a_merge_commit(hub: Hub, forge: LocalForge) -> None:
    """Two parents, a readable message, the head's trailers and ours; the proposal's branch is gone."""
    before = hub.head()
    head = propose(
        hub, message="Promote digits\n\nTrunkline-Run: sha256:1\nTrunkline-Pull-Request: 7\nMerged-by: mallory"
    )
    forge.open(branch=BRANCH, title="Promote digits v1", body="b")
    merge = forge.merge(1, actor=PERSON)
    assert hub.heads() == {"main": merge}
    assert git(hub.path, "log", "-1", "--format=%P|%an <%ae>|%ct|%B", merge) == (
        f"{before} {head}|Bo <bo@example.com>|{NOW}|Merge pull request #1 from {BRANCH}\n\nPromote digits v1\n\n"
        "Trunkline-Run: sha256:1\nTrunkline-Pull-Request: 1\nMerged-by: Bo <bo@example.com>\n"
    )
    pull = forge_of(hub).get(1)
    assert (pull.state, pull.merge_commit, pull.head, pull.merged_by, pull.closed) == (
        PullState.MERGED,
        merge,
        head,
        "Bo <bo@example.com>",
        NOW,
    )
    assert git(hub.path, "show", "main:models/digits.yaml") == "a: 2"


def test_squash_makes_one_commit(hub: Hub, forge: LocalForge) -> None:
    """One parent, the title and number as subject, trailers kept; it is seen as merged all the same."""
    before = hub.head()
    propose(hub, message="m\n\nTrunkline-Run: sha256:1")
    forge.open(branch=BRANCH, title="Promote", body="b")
    merge = forge.merge(1, method="squash")
    assert git(hub.path, "log", "-1", "--format=%P|%B", merge) == (
        f"{before}|Promote (#1)\n\nTrunkline-Run: sha256:1\nTrunkline-Pull-Request: 1\n"
        "Merged-by: Trunkline <trunkline@localhost>\n"
    )
    assert forge_of(hub).get(1).state is PullState.MERGED


def test_merging_again_gives_the_same_commit(hub: Hub, forge: LocalForge) -> None:
    """A lost answer is harmless; closing what is merged changes nothing; it cannot be reopened."""
    opened(hub, forge)
    merge = forge.merge(1)
    assert forge.merge(1) == merge
    forge.close(1, comment="no")
    assert forge.get(1).state is PullState.MERGED
    assert forge.get(1).comments == ()
    with pytest.raises(Stalled, match="revert"):
        forge.reopen(1)


def test_a_persons_branch_outlives_its_merge(hub: Hub, forge: LocalForge) -> None:
    """Only trunkline/ branches are ours to delete."""
    opened(hub, forge, "feature/x")
    forge.merge(1)
    assert "feature/x" in hub.heads()
    forge.merge(1)
    assert "feature/x" in hub.heads()


def test_a_conflict_names_files_and_what_to_do(hub: Hub, forge: LocalForge) -> None:
    """Nothing moves on a conflict; after the branch is repaired the merge goes through."""
    opened(hub, forge)
    theirs = hub.commit({"models/digits.yaml": "a: 9\n"}, branch="main")
    with pytest.raises(Stalled, match=r"models/digits\.yaml.*resolve the conflict, push") as caught:
        forge.merge(1)
    assert caught.value.reason == "MergeConflict"
    assert hub.head() == theirs
    assert forge.get(1).state is PullState.OPEN
    propose(hub, files={"models/digits.yaml": "a: 10\n"})
    assert forge.merge(1) == hub.head()


def test_a_branch_deleted_under_an_open_pull_request(hub: Hub, forge: LocalForge) -> None:
    """It stays open with its last head; merging says how to bring the branch back, and that works."""
    pull = opened(hub, forge)
    git(hub.path, "update-ref", "-d", f"refs/heads/{BRANCH}")
    git(hub.path, "gc", "-q", "--prune=now")
    assert forge.list() == (pull,)
    with pytest.raises(Stalled, match="was deleted") as caught:
        forge.merge(1)
    command = caught.value.message.partition("run: git ")[2].split(" ")
    git(hub.path, *command)
    assert forge.merge(1) == hub.head()


def test_a_closed_pull_request_is_not_merged(hub: Hub, forge: LocalForge) -> None:
    """Merging what was rejected asks to reopen it first."""
    opened(hub, forge)
    forge.close(1, comment="no")
    with pytest.raises(Stalled, match="reopen"):
        forge.merge(1)


def test_a_branch_set_back_to_the_base_is_not_merged(hub: Hub, forge: LocalForge) -> None:
    """An empty branch is no evidence of a merge; merging it says that there is nothing."""
    opened(hub, forge)
    git(hub.path, "update-ref", f"refs/heads/{BRANCH}", "main")
    assert forge.get(1).state is PullState.OPEN
    with pytest.raises(Stalled) as caught:
        forge.merge(1)
    assert caught.value.reason == "NothingToMerge"


@pytest.mark.parametrize("way", ["merge", "fast-forward", "later-commits", "unseen-push"])
def test_a_merge_by_plain_git_is_seen(hub: Hub, forge: LocalForge, way: str) -> None:
    """Git merge and git push make it merged, by whom and with which commit, and it stays so."""
    opened(hub, forge)
    if way == "unseen-push":
        propose(hub, files={"models/digits.yaml": "a: 3\n"})
    if way == "later-commits":
        for number in range(3):
            hub.commit({f"before-{number}": ""}, branch="main")
    merge = hub.merge(BRANCH, *(["--ff-only"] if way == "fast-forward" else ["--no-ff"]))
    for number in range(3 if way == "later-commits" else 0):
        hub.commit({f"after-{number}": ""}, branch="main")
    if way == "merge":
        git(hub.clone, "push", "-q", "origin", f":{BRANCH}")
    pull = forge.get(1)
    assert (pull.state, pull.merge_commit, pull.merged_by) == (PullState.MERGED, merge, "Ada <ada@example.com>")
    tip = pulls_tip(hub)
    assert forge_of(hub).get(1) == pull
    assert pulls_tip(hub) == tip


def test_a_base_that_moves_does_not_disturb(hub: Hub, forge: LocalForge) -> None:
    """Other commits on main merge cleanly with the proposal."""
    opened(hub, forge)
    other = hub.commit({"other": "x"}, branch="main")
    merge = forge.merge(1)
    assert git(hub.path, "rev-parse", f"{merge}^1") == other


# ------------------------------------------------------------------------------------------------- races and crashes


def race(hub: Hub, code: str, count: int = 3) -> list[list[str]]:
    """Run the same code in several processes at once; give the lines each printed."""
    start = """
        import sys
        from pathlib import Path
        from adapters.forge_local import LocalForge
        from specs.errors import Stalled, Transient
        forge, me = LocalForge(Path(sys.argv[1])), sys.argv[2]
        print("ready", flush=True)
        sys.stdin.readline()
    """
    program = textwrap.dedent(start) + textwrap.dedent(code)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(hub.path), str(me)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for me in range(count)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdin is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * count, answers
    return [out.splitlines() for out, _ in answers]


def test_processes_that_open_the_same_branch_get_the_same_number(hub: Hub) -> None:
    """Invariant 5: one pull request, however many ask at once."""
    propose(hub)
    answers = race(hub, f'print(forge.open(branch="{BRANCH}", title="t" + me, body="").number)')
    assert answers == [["1"]] * 3
    assert len(forge_of(hub).list()) == 1


def test_processes_that_open_different_branches_get_different_numbers(hub: Hub) -> None:
    """Nothing is lost and no number given twice when many write at once."""
    for me in range(3):
        for turn in range(3):
            propose(hub, f"trunkline/b-{me}-{turn}", {f"f-{me}-{turn}": "x"})
    answers = race(
        hub,
        """
        for turn in range(3):
            print(forge.open(branch=f"trunkline/b-{me}-{turn}", title="t", body=me).number)
    """,
    )
    numbers = [int(number) for answer in answers for number in answer]
    assert sorted(numbers) == list(range(1, 10))
    assert {pull.branch for pull in forge_of(hub).list()} == {
        f"trunkline/b-{me}-{turn}" for me in range(3) for turn in range(3)
    }


def test_processes_that_merge_the_same_get_the_same_commit(hub: Hub, forge: LocalForge) -> None:
    """Two people press the button: one merge commit, both are told of it."""
    opened(hub, forge)
    answers = race(hub, "print(forge.merge(1))")
    assert answers == [[hub.head()]] * 3
    assert git(hub.path, "rev-list", "--count", "--merges", "main") == "1"


def test_merges_and_pushes_to_the_base_do_not_lose_each_other(hub: Hub, forge: LocalForge) -> None:
    """Each process merges its own pull request: all are on main in the end."""
    for me in range(3):
        opened(hub, forge, f"trunkline/m{me}", files={f"file-{me}": "x"})
    race(hub, "forge.merge(int(me) + 1)")
    assert git(hub.path, "rev-list", "--count", "--merges", "main") == "3"
    assert set(git(hub.path, "ls-tree", "--name-only", "main").splitlines()) >= {"file-0", "file-1", "file-2"}
    assert {pull.state for pull in forge.list()} == {PullState.MERGED}


def story(path: Path) -> None:
    """Open, rename, and merge, squash or close three pull requests; may be told again and again."""
    forge = LocalForge(path, clock=lambda: NOW)
    known = {pull.branch: pull for pull in forge.list("")}
    for branch, end in (("trunkline/kept", "merge"), ("trunkline/squashed", "squash"), ("trunkline/dropped", "close")):
        pull = known.get(branch) or forge.open(branch=branch, title="First", body="b")
        forge.update(pull.number, title="Second", body="b")
        match end:
            case "merge" | "squash":
                forge.merge(pull.number, method=end)
            case _:
                forge.close(pull.number, comment="Obsolete")


WRAPPER = """#!/bin/sh
# Counts the commands that move references, and kills whoever asked, just before or just after one of them.
case "$*" in *update-ref*) ;; *) exec "{git}" "$@" ;; esac
count=$(($(cat "$COUNT") + 1)); echo $count > "$COUNT"
if [ "$KILL" = "before $count" ]; then kill -9 $PPID; exit 1; fi
"{git}" "$@"; status=$?
if [ "$KILL" = "after $count" ]; then kill -9 $PPID; fi
exit $status
"""


def tell(hub: Hub, folder: Path, kill: str = "") -> tuple[bool, int]:
    """Tell the story in a process whose git kills it; give whether it came to its end, and the count of effects."""
    binaries, count = folder / "bin", folder / "count"
    binaries.mkdir(exist_ok=True)
    (binaries / "git").write_text(WRAPPER.format(git=GIT))
    (binaries / "git").chmod(0o755)
    count.write_text("0")

    def child() -> None:
        os.environ |= {"PATH": f"{binaries}:{os.environ['PATH']}", "KILL": kill, "COUNT": str(count)}
        story(hub.path)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0, int(count.read_text())


def end_state(hub: Hub) -> object:
    """Everything that must not depend on where the story was interrupted."""
    pulls = forge_of(hub).list("")
    names = git(hub.path, "log", "--format=%s", "main").splitlines()
    return (
        [(pull.number, pull.branch, pull.state, pull.title, pull.comments, pull.merge_commit) for pull in pulls],
        names,
        sorted(hub.heads()),
        git(hub.path, "ls-tree", "--name-only", "main"),
    )


def test_killed_around_every_effect_it_converges(tmp_path: Path) -> None:
    """SIGKILL just before and just after every move of a reference: told again, the story ends as ever."""

    def begin(name: str) -> tuple[Hub, Path]:
        folder = tmp_path / name
        if name == "template":
            hub = Hub(folder)
            hub.commit({"README": "x\n"}, when=NOW)
            for branch in ("kept", "squashed", "dropped"):
                hub.commit({branch: "x\n"}, branch=f"trunkline/{branch}", start="origin/main", when=NOW)
            return hub, folder
        shutil.copytree(tmp_path / "template", folder)
        hub = Hub.__new__(Hub)
        hub.path, hub.clone, hub.branch = folder / "hub.git", folder / "clone", "main"
        return hub, folder

    begin("template")
    hub, folder = begin("whole")
    ended, effects = tell(hub, folder)
    assert ended
    assert effects >= 8
    wanted = end_state(hub)
    for number in range(1, effects + 1):
        for moment in ("before", "after"):
            hub, folder = begin(f"{moment}-{number}")
            assert not tell(hub, folder, f"{moment} {number}")[0], f"not killed {moment} effect {number}"
            assert tell(hub, folder)[0]
            assert end_state(hub) == wanted, f"killed {moment} effect {number}"


@pytest.mark.parametrize("moved", ["main", BRANCH], ids=["base", "head"])
def test_a_push_between_thinking_and_moving_is_not_lost(
    hub: Hub, forge: LocalForge, tmp_path: Path, moved: str
) -> None:
    """Somebody pushes to the base or to the branch in the last moment: the merge is made again, with that commit."""
    opened(hub, forge)
    before = hub.head(moved)
    late = hub.commit({"late": "x\n"}, "Late", branch=moved, start=f"origin/{moved}")
    git(hub.path, "update-ref", f"refs/heads/{moved}", before)
    marker, binaries = tmp_path / "pushed", tmp_path / "bin"
    binaries.mkdir()
    (binaries / "git").write_text(
        f"""#!/bin/sh
        case "$*" in *update-ref*)
            [ -e "{marker}" ] || {{
                touch "{marker}"
                "{GIT}" --git-dir="{hub.path}" update-ref refs/heads/{moved} {late}
            }};;
        esac
        exec "{GIT}" "$@"
        """,
    )
    (binaries / "git").chmod(0o755)

    def child() -> None:
        os.environ["PATH"] = f"{binaries}:{os.environ['PATH']}"
        forge.merge(1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert marker.exists()
    assert git(hub.path, "merge-base", "--is-ancestor", late, "main") == ""
    assert git(hub.path, "show", "main:late") == "x"
    assert git(hub.path, "show", "main:models/digits.yaml") == "a: 2"


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_base_that_moved_without_its_record_is_repaired(hub: Hub, forge: LocalForge, method: str) -> None:
    """Git died between two references of one transaction: what the base says wins, and is written down."""
    opened(hub, forge)
    before = pulls_tip(hub)
    merge = forge.merge(1, method="merge" if method == "merge" else "squash", actor=PERSON)
    done = forge.get(1)
    git(hub.path, "update-ref", "refs/trunkline/pulls", before)
    assert forge_of(hub).list() == (done,)
    assert forge_of(hub).merge(1) == merge
    assert hub.head() == merge


def test_a_leftover_branch_is_deleted_by_merging_again(hub: Hub, forge: LocalForge) -> None:
    """Git died before the branch was deleted: asking once more finishes the job."""
    pull = opened(hub, forge)
    merge = forge.merge(1)
    git(hub.path, "update-ref", f"refs/heads/{BRANCH}", pull.head)
    assert forge.merge(1) == merge
    assert BRANCH not in hub.heads()


def test_an_old_lock_of_ours_is_cleared_and_a_young_one_respected(hub: Hub, forge: LocalForge) -> None:
    """A git that was killed leaves a lock on our reference: it goes when it is old enough to be nobody's."""
    opened(hub, forge)
    lock = hub.path / "refs" / "trunkline" / "pulls.lock"
    lock.touch()
    os.utime(lock, (time.time() - 120,) * 2)
    forge.comment(1, "hello")
    assert forge.get(1).comments == ("hello",)
    assert not lock.exists()


# ------------------------------------------------------------------------------------------------- trouble


def test_what_is_no_bare_repository_says_so(hub: Hub, tmp_path: Path) -> None:
    """A missing path and a clone with a work tree are told apart."""
    with pytest.raises(Stalled, match="no bare git repository"):
        LocalForge(tmp_path / "none").list()
    with pytest.raises(Stalled, match=r"give its \.git folder"):
        LocalForge(hub.clone).list()


def test_a_missing_base_says_so(hub: Hub) -> None:
    """A tracked branch that does not exist is Stalled."""
    with pytest.raises(Stalled, match="no branch trunk"):
        LocalForge(hub.path, branch="trunk").list()


def test_a_damaged_record_says_how_to_go_back(hub: Hub, forge: LocalForge) -> None:
    """Somebody edited the metadata: the error names the reference and the way back, and that works."""
    pull = opened(hub, forge)
    blob = git(hub.path, "hash-object", "-w", "--stdin", stdin=json.dumps({"number": 1}).encode())
    tree = git(hub.path, "mktree", stdin=f"100644 blob {blob}\t1.json\n".encode())
    broken = git(hub.path, "commit-tree", tree, "-p", pulls_tip(hub), "-m", "oops")
    git(hub.path, "update-ref", "refs/trunkline/pulls", broken)
    with pytest.raises(Stalled) as caught:
        forge_of(hub).list()
    assert caught.value.reason == "PullRequestsCorrupt"
    git(hub.path, *caught.value.message.rpartition(": git ")[2].split(" "))
    assert forge_of(hub).list() == (pull,)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become nobody")
def test_who_cannot_write_may_still_look(hub: Hub, forge: LocalForge) -> None:
    """A reader without permission sees a merge done by hand; changing anything is Transient, with git's words."""
    opened(hub, forge)
    hub.merge(BRANCH)
    for folder in (hub.path.parent.parent, *hub.path.parent.parent.parents):
        if folder != folder.parent and folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    code = """
        import os, sys
        from pathlib import Path
        from adapters.forge_local import LocalForge
        from specs.errors import Transient
        forge = LocalForge(Path(sys.argv[1]))
        os.setgid(65534); os.setuid(65534)
        print(forge.list()[0].state)
        try:
            forge.comment(1, "x")
        except Transient as error:
            print(error.reason)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(hub.path)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout.split() == ["merged", "RepositoryUnavailable"], done.stderr


def test_a_hundred_pull_requests_cost_no_more_commands_than_one(hub: Hub, forge: LocalForge, tmp_path: Path) -> None:
    """Looking takes the same few git commands however many pull requests are open."""
    head = propose(hub)
    names = [f"trunkline/many/{number}" for number in range(100)]
    git(
        hub.path,
        "update-ref",
        "--stdin",
        stdin="".join(f"create refs/heads/{name} {head}\n" for name in names).encode(),
    )
    for name in names:
        forge.open(branch=name, title=name, body="x" * 500)
    assert len(forge_of(hub).list()) == 100
    trace = tmp_path / "trace"
    code = """
        import sys
        from pathlib import Path
        from adapters.forge_local import LocalForge
        print(len(LocalForge(Path(sys.argv[1])).list()))
    """
    environment = os.environ | {"GIT_TRACE": str(trace)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(hub.path)],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout == "100\n", done.stderr
    assert trace.read_text().count("built-in: git") <= 8


def test_repository_and_forge_see_the_same_branches(hub: Hub, forge: LocalForge, tmp_path: Path) -> None:
    """What the repository adapter pushes can be opened, and what the forge merges is fetched."""
    ours = Repository(str(hub.path), tmp_path / "near")
    base = ours.fetch()
    made = ours.commit_files(base, {"models/digits.yaml": b"a: 2\n"}, "Promote\n\nTrunkline-Run: r")
    ours.push(BRANCH, made, None)
    assert forge.open(branch=BRANCH, title="t", body="b").head == made
    merge = forge.merge(1)
    assert ours.fetch() == merge
    assert ours.branches("trunkline/") == {}
    assert dict(ours.last_change(merge, "models/digits.yaml").trailers)["Trunkline-Run"] == "r"


def test_a_busy_reference_is_transient(hub: Hub, forge: LocalForge) -> None:
    """A lock that stays (another git at work) ends in Transient, never in an endless wait or a lost comment."""
    opened(hub, forge)
    lock = hub.path / "refs" / "heads" / "main.lock"
    lock.touch()
    with pytest.raises(Transient) as caught:
        LocalForge(hub.path, patience=0.5).merge(1)
    assert caught.value.reason == "RepositoryBusy"
    lock.unlink()
    assert forge.merge(1) == hub.head()
