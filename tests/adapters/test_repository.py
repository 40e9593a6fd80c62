"""The repository adapter against real bare repositories, and against people who want it to misbehave."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from adapters.git_environment import check_url, sanitise
from adapters.repository import Git, Repository
from specs.errors import Stalled, Transient
from tests.support.gitrepo import PERSON, Hub, git

ROOT = Path(__file__).parents[2]
OURS = ("Trunkline", "trunkline@localhost")
BRANCH = "trunkline/promote/default.digits/0123456789ab"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a bare repository with two files."""
    hub = Hub(tmp_path / "far")
    hub.commit({"models/digits.yaml": "a: 1\n", "README": "hello\n"}, "First", when=1_700_000_000)
    return hub


def repository(hub: Hub, name: str = "near") -> Repository:
    """Give our view of it, with a mirror of that name."""
    return Repository(str(hub.path), hub.path.parent.parent / name)


def reason(caught: pytest.ExceptionInfo[Stalled] | pytest.ExceptionInfo[Transient]) -> str:
    """Give the reason of what was raised."""
    return caught.value.reason


# ------------------------------------------------------------------------------------------------- reading


def test_fetch_gives_the_newest_commit(hub: Hub) -> None:
    """Fetch follows the tracked branch, and again costs nothing but a look."""
    ours = repository(hub)
    assert ours.fetch() == hub.head()
    newer = hub.commit({"README": "again\n"})
    assert ours.fetch() == newer == ours.fetch()


@pytest.mark.parametrize("form", ["path", "file-url"])
def test_both_forms_of_a_local_address_work(hub: Hub, tmp_path: Path, form: str) -> None:
    """A path and a file:// URL name the same repository."""
    url = str(hub.path) if form == "path" else hub.path.as_uri()
    assert Repository(url, tmp_path / "w").fetch() == hub.head()


def test_files_are_read_at_a_commit(hub: Hub) -> None:
    """A path reads as it was at that commit; absent paths and folders are None."""
    ours = repository(hub)
    first = ours.fetch()
    hub.commit({"models/digits.yaml": b"\xff\x00 raw"})
    second = ours.fetch()
    assert ours.read(first, "models/digits.yaml") == b"a: 1\n"
    assert ours.read(second, "models/digits.yaml") == b"\xff\x00 raw"
    assert ours.read(second, "models") is None
    assert ours.read(second, "models/none.yaml") is None
    assert ours.read(second, "README/below-a-file") is None


def test_pathspec_magic_is_just_a_name(hub: Hub) -> None:
    """Names that git could take for patterns are taken for names."""
    hub.commit({"models/*.yaml": "star\n", ":(glob)x": "magic\n"})
    ours = repository(hub)
    head = ours.fetch()
    assert ours.read(head, "models/*.yaml") == b"star\n"
    assert ours.read(head, ":(glob)x") == b"magic\n"
    assert ours.read(head, "models/?igits.yaml") is None
    assert [commit.subject for commit in ours.log(head, "models/*.yaml")] == ["Change"]


def test_files_lists_below_a_folder(hub: Hub) -> None:
    """Files come sorted, by folder and not by prefix of a name; links and submodules are no files."""
    (hub.clone / "link.yaml").symlink_to("README")
    hub.commit({"models/b.yaml": "", "models-old/c.yaml": ""})
    hub.submodule("module")
    ours = repository(hub)
    head = ours.fetch()
    assert ours.files(head) == ["README", "models-old/c.yaml", "models/b.yaml", "models/digits.yaml"]
    assert ours.files(head, "models") == ours.files(head, "models/") == ["models/b.yaml", "models/digits.yaml"]
    assert ours.files(head, "none") == []


def test_a_symbolic_link_is_not_followed(hub: Hub) -> None:
    """Reading a link, or through one, never gives what it points at."""
    (hub.clone / "link.yaml").symlink_to("/etc/passwd")
    (hub.clone / "folder").symlink_to("models")
    hub.commit({})
    ours = repository(hub)
    head = ours.fetch()
    with pytest.raises(Stalled, match="symbolic link") as caught:
        ours.read(head, "link.yaml")
    assert reason(caught) == "UnsafePath"
    assert ours.read(head, "folder/digits.yaml") is None


def test_names_that_are_not_utf8_survive(hub: Hub) -> None:
    """A file whose name is Latin-1 is listed and read, and breaks nothing."""
    name = os.fsdecode(b"caf\xe9.yaml")
    hub.commit({name: "x\n"})
    ours = repository(hub)
    head = ours.fetch()
    assert name in ours.files(head)
    assert ours.diff_paths(git(hub.path, "rev-parse", f"{head}~1"), head) == [name]
    assert {change.path for change in ours.changes(head)} == {name, "README", "models/digits.yaml"}


def test_log_is_first_parent_with_trailers(hub: Hub) -> None:
    """History of a path is what the tracked branch did to it, newest first; trailers are parsed and unfolded."""
    first = hub.head()
    hub.commit({"models/digits.yaml": "a: 2\n"}, "On the side", branch="side", start="main")
    hub.commit({"models/digits.yaml": "a: 3\n"}, "Side again", branch="side")
    merged = hub.merge("side", message="Take it\n\nText: no trailer\n\nReviewed-by: Bo <bo@x.y>\nTrunkline-Run: a\n b")
    ours = repository(hub)
    ours.fetch()
    newest, oldest = ours.log(merged, "models/digits.yaml")
    assert (newest.sha, oldest.sha) == (merged, first)
    assert newest.subject == "Take it"
    assert newest.author == f"{PERSON[0]} <{PERSON[1]}>"
    assert newest.trailers == (("Reviewed-by", "Bo <bo@x.y>"), ("Trunkline-Run", "a b"))
    assert (oldest.when, oldest.trailers) == (1_700_000_000, ())
    assert ours.log(merged, "models/digits.yaml", 1) == [newest]
    assert ours.last_change(merged, "README").sha == first
    with pytest.raises(Stalled) as caught:
        ours.last_change(merged, "never.yaml")
    assert reason(caught) == "PathMissing"


def test_changes_tell_every_first_parent_step(hub: Hub) -> None:
    """Additions, edits, removals and merges appear once each, newest first, with empty commits left out of the way."""
    first = hub.head()
    hub.commit({"x.yaml": "1\n"}, "Add")
    hub.commit({}, "Nothing at all")
    hub.commit({"x.yaml": None}, "Remove")
    hub.commit({"y.yaml": "1\n"}, "Side", branch="side", start="main")
    hub.merge("side", message="Merge")
    ours = repository(hub)
    head = ours.fetch()
    told = [(step.commit.subject, step.path, step.blob is not None) for step in ours.changes(head)]
    assert told == [
        ("Merge", "y.yaml", True),
        ("Remove", "x.yaml", False),
        ("Add", "x.yaml", True),
        ("First", "README", True),
        ("First", "models/digits.yaml", True),
    ]
    assert [step.path for step in ours.changes(head, "models")] == ["models/digits.yaml"]
    assert len(list(ours.changes(head, since=first))) == 3


def test_extends_knows_the_first_parent_line(hub: Hub) -> None:
    """Only commits on the first-parent line count; a rewritten or a side branch does not."""
    first = hub.head()
    side = hub.commit({"s": "1"}, branch="side", start="main")
    main = hub.commit({"m": "1"}, branch="main")
    merged = hub.merge("side")
    ours = repository(hub)
    ours.fetch()
    assert ours.extends(first, merged)
    assert ours.extends(main, merged)
    assert ours.extends(merged, merged)
    assert not ours.extends(side, merged)
    assert not ours.extends(merged, main)
    assert not ours.extends("f" * 40, merged)


def test_resolve_takes_branches_and_full_names_only(hub: Hub) -> None:
    """Branch names and full commit names resolve; what is missing or abbreviated says so."""
    ours = repository(hub)
    head = ours.fetch()
    assert ours.resolve("main") == ours.resolve(head) == head
    for rev, expected in (
        ("none", "BranchMissing"),
        ("f" * 40, "CommitMissing"),
        ("main~99", "CommitMissing"),
        ("main~1:README", "UnsafeRef"),
        ("main@{0}", "UnsafeRef"),
        ("HEAD", "UnsafeRef"),
        ("--all", "UnsafeRef"),
    ):
        with pytest.raises(Stalled) as caught:
            ours.resolve(rev)
        assert reason(caught) == expected


def test_resolve_takes_steps_back(hub: Hub) -> None:
    """A branch or a commit with steps back, as git writes them, resolves to the commit that far back."""
    first = hub.head()
    second = hub.commit({"more": "1"})
    ours = repository(hub)
    ours.fetch()
    assert ours.resolve("main~1") == ours.resolve("main^") == ours.resolve(f"{second}~") == first


def test_merge_base_of_unrelated_histories_is_none(hub: Hub) -> None:
    """Related commits have a base; an orphan has none and conflicts with everything."""
    first = hub.head()
    git(hub.clone, "checkout", "-q", "--orphan", "island")
    island = hub.commit({"README": "other\n"}, branch="island")
    side = hub.commit({"s": "1"}, branch="side", start=first)
    ours = repository(hub)
    ours.fetch()
    assert ours.merge_base(side, first) == first
    assert ours.merge_base(island, first) is None
    assert ours.conflicts(first, island)


def test_conflicts_are_seen_without_a_work_tree(hub: Hub) -> None:
    """The same line changed on both sides conflicts and names the file; different files do not."""
    same = hub.commit({"README": "theirs\n"}, branch="same", start="main")
    other = hub.commit({"other": "x\n"}, branch="other", start="main")
    main = hub.commit({"README": "ours\n"})
    ours = repository(hub)
    ours.fetch()
    assert ours.conflicts(main, same)
    assert ours.merge_tree(main, same) == (None, ("README",))
    assert not ours.conflicts(main, other)


# ------------------------------------------------------------------------------------------------- committing


def test_the_same_arguments_make_the_same_commit(hub: Hub, tmp_path: Path) -> None:
    """Another process, mirror and moment: same base, files and message give the same commit, signed by us."""
    files = {"models/digits.yaml": b"a: 2\r\n", "evidence/v1/report.md": b"# \xf0\x9f\x8e\x89\n"}
    one, other = repository(hub, "one"), repository(hub, "other")
    base = one.fetch()
    made = one.commit_files(base, files, "Promote\n\nTrunkline-Key: 1")
    time.sleep(1.1)
    assert other.fetch() == base
    assert other.commit_files(base, dict(reversed(files.items())), "Promote\n\nTrunkline-Key: 1") == made
    assert one.commit_files(base, files, "Else") != made
    commit = one.log(made, "", 1)[0]
    assert (commit.author, commit.when) == ("Trunkline <trunkline@localhost>", 1_700_000_000)
    assert commit.trailers == (("Trunkline-Key", "1"),)
    assert one.diff_paths(base, made) == sorted(files)
    assert {path: one.read(made, path) for path in files} == files
    assert one.read(made, "README") == b"hello\n"
    assert hub.heads() == {"main": base}


def test_a_program_stays_a_program(hub: Hub) -> None:
    """Replacing a file keeps its executable bit."""
    tool = hub.clone / "tool.sh"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    hub.commit({})
    ours = repository(hub)
    made = ours.commit_files(ours.fetch(), {"tool.sh": b"#!/bin/sh\ntrue\n"}, "Edit")
    assert ours.entries(made)["tool.sh"].mode == "100755"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        ".git/config",
        "a/.GIT/hooks/x",
        ".git ./x",
        "git~1/x",
        "a\\b",
        "a\nb",
        "a\x00b",
        "a\x7f",
        "x" * 2000,
        "caf\udce9",
    ],
    ids=[
        "empty",
        "absolute",
        "parent",
        "inner-parent",
        "double-slash",
        "folder",
        "dot",
        "git",
        "upper-git",
        "padded-git",
        "short-git",
        "backslash",
        "newline",
        "nul",
        "delete",
        "long",
        "surrogate",
    ],
)
def test_hostile_paths_are_refused(hub: Hub, path: str) -> None:
    """No path that leaves the tree or means something to git is read or written."""
    ours = repository(hub)
    head = ours.fetch()
    for act in (lambda: ours.read(head, path), lambda: ours.commit_files(head, {path: b"x"}, "m")):
        with pytest.raises(Stalled) as caught:
            act()
        assert reason(caught) == "UnsafePath"


@pytest.mark.parametrize(
    "path",
    ["link", "folder/x", "module/x", "module", "models", "README/x"],
    ids=["link", "through-link", "through-submodule", "submodule", "folder", "below-file"],
)
def test_nothing_is_written_over_or_through_what_is_no_folder(hub: Hub, path: str) -> None:
    """Links, submodules and folders in the base are neither replaced nor entered."""
    (hub.clone / "link").symlink_to("README")
    (hub.clone / "folder").symlink_to("models")
    hub.commit({})
    hub.submodule("module")
    ours = repository(hub)
    with pytest.raises(Stalled) as caught:
        ours.commit_files(ours.fetch(), {path: b"x"}, "m")
    assert reason(caught) == "UnsafePath"


def test_a_new_file_is_not_a_folder_of_another(hub: Hub) -> None:
    """Two new files that exclude each other are refused."""
    ours = repository(hub)
    with pytest.raises(Stalled, match="not a folder"):
        ours.commit_files(ours.fetch(), {"a": b"", "a/b": b""}, "m")


# ------------------------------------------------------------------------------------------------- pushing


def test_push_creates_moves_and_deletes_a_branch(hub: Hub) -> None:
    """A branch is born, moved and deleted under its expected head, and each act may be repeated."""
    ours = repository(hub)
    base = ours.fetch()
    one, two = (ours.commit_files(base, {"x": data}, "m") for data in (b"1", b"2"))
    for _ in range(2):
        ours.push(BRANCH, one, None)
    assert hub.heads() == {"main": base, BRANCH: one}
    assert ours.branches("trunkline/") == {BRANCH: one}
    for _ in range(2):
        ours.push(BRANCH, two, one)
    assert hub.head(BRANCH) == two
    for _ in range(2):
        ours.delete_branch(BRANCH, two)
    assert hub.heads() == {"main": base}
    assert ours.branches("trunkline/") == {}


def test_the_slower_of_two_pushers_learns_it(hub: Hub) -> None:
    """Of two with the same expectation one wins; the other gets BranchMoved and nothing is lost."""
    one, other = repository(hub, "one"), repository(hub, "other")
    base = one.fetch()
    other.fetch()
    mine, theirs = one.commit_files(base, {"x": b"1"}, "m"), other.commit_files(base, {"x": b"2"}, "m")
    one.push(BRANCH, mine, None)
    for act in (
        lambda: other.push(BRANCH, theirs, None),
        lambda: other.push(BRANCH, theirs, base),
        lambda: other.delete_branch(BRANCH, base),
    ):
        with pytest.raises(Transient) as caught:
            act()
        assert reason(caught) == "BranchMoved"
    assert hub.head(BRANCH) == mine


def test_a_branch_that_vanished_is_not_born_again(hub: Hub) -> None:
    """Moving a branch that somebody deleted is BranchMoved, not a new branch."""
    ours = repository(hub)
    base = ours.fetch()
    one, two = (ours.commit_files(base, {"x": data}, "m") for data in (b"1", b"2"))
    ours.push(BRANCH, one, None)
    git(hub.path, "update-ref", "-d", f"refs/heads/{BRANCH}")
    with pytest.raises(Transient) as caught:
        ours.push(BRANCH, two, one)
    assert reason(caught) == "BranchMoved"
    assert hub.heads() == {"main": base}


def test_the_tracked_branch_is_never_moved(hub: Hub) -> None:
    """Git decides: neither push nor delete takes the tracked branch."""
    ours = repository(hub)
    base = ours.fetch()
    made = ours.commit_files(base, {"x": b"1"}, "m")
    for act in (lambda: ours.push("main", made, base), lambda: ours.delete_branch("main", base)):
        with pytest.raises(Stalled) as caught:
            act()
        assert reason(caught) == "TrackedBranch"
    assert hub.head() == base


def test_two_processes_push_and_one_wins(hub: Hub) -> None:
    """Real processes that share one mirror race for many branches: each branch has one winner, the loser knows."""
    base = repository(hub).fetch()
    code = """
        import sys, time
        from pathlib import Path
        from adapters.repository import Repository
        from specs.errors import Transient
        url, workdir, base, me = sys.argv[1:]
        ours = Repository(url, Path(workdir))
        commit = ours.commit_files(base, {"x": me.encode()}, "m")
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(8):
            try:
                ours.push(f"trunkline/race-{n}", commit, None)
                print(n, commit)
            except Transient as error:
                assert error.reason == "BranchMoved", error
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(hub.path), str(hub.path.parent.parent / "near"), base]
    racers = [
        subprocess.Popen([*command, me], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for me in "ab"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = dict(line.split() for racer in racers for line in racer.communicate(timeout=120)[0].splitlines())
    assert [racer.returncode for racer in racers] == [0, 0]
    assert hub.heads() == {f"trunkline/race-{n}": commit for n, commit in won.items()} | {"main": base}
    assert len(won) == 8


def test_a_refused_push_repeats_the_servers_words(hub: Hub) -> None:
    """A server-side hook's sentence reaches the person; the branch is untouched."""
    hook = hub.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'only on Tuesdays' >&2\nexit 1\n")
    hook.chmod(0o755)
    ours = repository(hub)
    made = ours.commit_files(ours.fetch(), {"x": b"1"}, "m")
    with pytest.raises(Transient, match="only on Tuesdays") as caught:
        ours.push(BRANCH, made, None)
    assert reason(caught) == "PushRejected"


def test_an_answer_lost_on_the_way_is_success(hub: Hub) -> None:
    """The server moved the branch but the pusher heard an error: where the branch is decides."""
    hook = hub.path / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nkill -9 "$PPID"\n')
    hook.chmod(0o755)
    ours = repository(hub)
    made = ours.commit_files(ours.fetch(), {"x": b"1"}, "m")
    ours.push(BRANCH, made, None)
    assert hub.head(BRANCH) == made


def test_foreign_commits_are_told_from_ours(hub: Hub) -> None:
    """A commit is ours only if author and committer both are."""
    ours = repository(hub)
    base = ours.fetch()
    made = ours.commit_files(base, {"x": b"1"}, "m")
    assert not ours.is_foreign(base, made)
    assert not ours.is_foreign(made, made)
    ours.push(BRANCH, made, None)
    git(hub.clone, "fetch", "-q", "origin", BRANCH)
    git(hub.clone, "checkout", "-q", "-B", "mine", "FETCH_HEAD")
    amended = hub.commit({}, "Committed by a person", branch="mine")
    author = git(hub.clone, "commit-tree", f"{made}^{{tree}}", "-p", base, "-m", "x")
    git(hub.clone, "push", "-q", "origin", f"{author}:refs/heads/other")
    ours.fetch()
    assert ours.is_foreign(base, amended)
    assert ours.is_foreign(base, author)


# ------------------------------------------------------------------------------------------------- trouble


def test_a_vanished_remote_is_unavailable_and_comes_back(hub: Hub) -> None:
    """While the remote is away everything known stays readable; when it is back, all goes on."""
    ours = repository(hub)
    head = ours.fetch()
    made = ours.commit_files(head, {"x": b"1"}, "m")
    away = hub.path.with_name("away.git")
    hub.path.rename(away)
    for act in (ours.fetch, lambda: ours.push(BRANCH, made, None), lambda: ours.delete_branch(BRANCH, made)):
        with pytest.raises(Transient) as caught:
            act()
        assert reason(caught) == "RepositoryUnavailable"
    assert ours.read(head, "README") == b"hello\n"
    away.rename(hub.path)
    assert ours.fetch() == head
    ours.push(BRANCH, made, None)


def test_another_repository_in_the_same_place_is_taken_as_it_is(hub: Hub) -> None:
    """A repository that was made anew, with other history, replaces what was known."""
    ours = repository(hub)
    ours.fetch()
    shutil.rmtree(hub.path.parent)
    again = Hub(hub.path.parent)
    newer = again.commit({"only": "this\n"})
    assert ours.fetch() == newer
    assert ours.files(newer) == ["only"]


def test_a_rewritten_branch_is_followed(hub: Hub) -> None:
    """After a force push the new head counts, and branches that are gone are gone."""
    first = hub.head()
    hub.commit({"x": "1"})
    hub.commit({"y": "1"}, branch="side", start="main")
    ours = repository(hub)
    ours.fetch()
    git(hub.clone, "push", "-q", "origin", ":side")
    rewritten = hub.commit({"x": "2"}, branch="main", start=first)
    assert ours.fetch() == rewritten
    assert ours.branches("") == {"main": rewritten}


def test_a_folder_may_become_a_branch(hub: Hub) -> None:
    """Refs a/b deleted and a created (files cannot be folders): fetch still works."""
    hub.commit({}, branch="a/b", start="main")
    ours = repository(hub)
    ours.fetch()
    git(hub.clone, "push", "-q", "origin", ":a/b")
    git(hub.clone, "checkout", "-q", "main")
    git(hub.clone, "branch", "-q", "-D", "a/b")
    made = hub.commit({}, branch="a", start="main")
    ours.fetch()
    assert ours.branches("a") == {"a": made}


@pytest.mark.parametrize(
    ("branches", "words"), [((), "no commits at all"), (("master",), "it has master")], ids=["empty", "other"]
)
def test_a_missing_tracked_branch_says_what_there_is(tmp_path: Path, branches: tuple[str, ...], words: str) -> None:
    """An empty repository, or one without the branch, is Stalled and says what to do."""
    hub = Hub(tmp_path / "far")
    for name in branches:
        git(hub.clone, "checkout", "-q", "--orphan", name)
        hub.commit({"x": "1"}, branch=name)
    with pytest.raises(Stalled, match=words) as caught:
        repository(hub).fetch()
    assert reason(caught) == "BranchMissing"


@pytest.mark.parametrize("damage", ["head", "objects", "reference", "everything", "locks", "empty-object", "file"])
def test_a_damaged_mirror_is_made_again(hub: Hub, tmp_path: Path, damage: str) -> None:
    """Whatever a crash left of the mirror, fetching (after one look that failed, at most) works again."""
    hub.commit({"big": "x" * 5000})
    ours = repository(hub)
    ours.fetch()
    mirror = tmp_path / "near" / "mirror.git"
    match damage:
        case "head":
            (mirror / "HEAD").unlink()
        case "objects":
            shutil.rmtree(mirror / "objects")
        case "reference":
            shutil.rmtree(mirror / "refs" / "heads")
            (mirror / "packed-refs").unlink(missing_ok=True)
            (mirror / "refs" / "heads").mkdir()
            (mirror / "refs" / "heads" / "main").write_text("f" * 40 + "\n")
        case "everything":
            shutil.rmtree(mirror)
        case "locks":
            for name in ("refs/heads/main.lock", "packed-refs.lock", "HEAD.lock", "config.lock"):
                (mirror / name).write_text("")
        case "empty-object":
            for path in (path for path in (mirror / "objects").rglob("*") if path.is_file()):
                path.chmod(0o644)
                path.write_bytes(b"")
        case _:
            shutil.rmtree(mirror)
            mirror.write_text("in the way")
    newer = hub.commit({"README": "newer\n"})
    if damage == "empty-object":
        with pytest.raises(Transient):
            ours.read(git(hub.path, "rev-parse", f"{newer}~1"), "README")
    assert ours.fetch() == newer
    assert ours.read(newer, "README") == b"newer\n"


def test_a_live_lock_is_respected(hub: Hub, tmp_path: Path) -> None:
    """While another process holds the mirror, a fetch waits for it instead of breaking its locks."""
    ours = repository(hub)
    ours.fetch()
    code = """
        import fcntl, os, sys
        descriptor = os.open(sys.argv[1], os.O_RDWR)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.readline()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "near" / "mirror.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    (tmp_path / "near" / "mirror.git" / "packed-refs.lock").write_text("")
    waiter = threading.Thread(target=ours.fetch)
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()
    assert (tmp_path / "near" / "mirror.git" / "packed-refs.lock").exists()
    holder.communicate("\n", timeout=30)
    waiter.join(30)
    assert not (tmp_path / "near" / "mirror.git" / "packed-refs.lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_a_clear_error(hub: Hub) -> None:
    """Dubious ownership is Stalled, with what to do about it."""
    os.chown(hub.path, 12345, 12345)
    with pytest.raises(Stalled, match="another user owns") as caught:
        repository(hub).fetch()
    assert reason(caught) == "RepositoryNotOurs"


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    """A remote that accepts the connection and then keeps silent costs the time-out and not the agent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ours = Repository(f"https://127.0.0.1:{port}/x.git", tmp_path / "w", timeout=1)
        begun = time.monotonic()
        with pytest.raises(Transient) as caught:
            ours.fetch()
        assert reason(caught) == "RepositoryUnavailable"
        assert time.monotonic() - begun < 30


def test_git_variables_of_the_surroundings_do_not_reach_git(hub: Hub, tmp_path: Path) -> None:
    """Started from a git hook, or with hostile configuration in the environment, everything works the same."""
    code = """
        import sys
        from pathlib import Path
        from adapters.repository import Repository
        print(Repository(sys.argv[1], Path(sys.argv[2])).fetch())
    """
    trap = tmp_path / "trap"
    environment = os.environ | {
        "GIT_DIR": "/nonexistent",
        "GIT_WORK_TREE": "/",
        "GIT_INDEX_FILE": "/nonexistent",
        "GIT_NAMESPACE": "x",
        "GIT_OBJECT_DIRECTORY": "/nonexistent",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": f"touch {trap}",
        "GIT_EXEC_PATH": str(tmp_path),
        "GIT_TEMPLATE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(hub.path), str(tmp_path / "w")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == hub.head(), done.stderr
    assert not trap.exists()


# ------------------------------------------------------------------------------------------------- hostile words


@pytest.mark.parametrize(
    "branch",
    [
        "",
        "-x",
        "--upload-pack=sh",
        "a b",
        "a..b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a@{1}",
        "@",
        "HEAD",
        "refs/heads/x",
        "a//b",
        "/a",
        "a/",
        "a.lock",
        "a/.b",
        "a.",
        "a\nb",
        "a\x00",
        "+a",
        "ä",
        "a/-b",
        "f" * 40,
        "x" * 300,
    ],
    ids=lambda name: repr(name[:12]),
)
def test_hostile_branches_are_refused(hub: Hub, branch: str) -> None:
    """No name that git could take for an option, an expression or another reference gets to it."""
    ours = repository(hub)
    head = ours.fetch()
    for act in (
        lambda: ours.push(branch, head, None),
        lambda: ours.delete_branch(branch, head),
        lambda: Repository(str(hub.path), hub.path.parent, branch=branch),
    ):
        with pytest.raises(Stalled) as caught:
            act()
        assert reason(caught) == "UnsafeRef"


def test_git_agrees_with_our_idea_of_a_branch(hub: Hub) -> None:
    """Names that pass our pattern pass git's own check too."""
    runner = Git(hub.path)
    for name in ("main", "feature/a+b", "fix#12", "a.b.c", "user@x", "50%", "v=1", "a,b", "release-1_2", "@x"):
        if name == "@x":
            with pytest.raises(Stalled):
                runner.check_ref(name)
        else:
            assert runner.check_ref(name) == f"refs/heads/{name}"


@pytest.mark.parametrize("rev", ["", "main", "HEAD", "-x", "abc123", "F" * 40, "f" * 40 + "^", "f" * 40 + "\n"])
def test_only_full_commit_names_are_commits(hub: Hub, rev: str) -> None:
    """Methods that take a commit take nothing that git would have to interpret."""
    ours = repository(hub)
    head = ours.fetch()
    for act in (
        lambda: ours.read(rev, "README"),
        lambda: ours.files(rev),
        lambda: ours.log(rev, ""),
        lambda: ours.push("x", rev, None),
        lambda: ours.is_foreign(rev, head),
        lambda: ours.conflicts(head, rev),
        lambda: ours.commit_files(rev, {}, "m"),
        lambda: ours.diff_paths(head, rev),
        lambda: list(ours.changes(head, since=rev or "x")),
    ):
        with pytest.raises(Stalled) as caught:
            act()
        assert reason(caught) == "UnsafeRef"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-x",
        "--upload-pack=touch x",
        "ext::sh -c x",
        "ext::sh",
        "fd::7",
        "http://host/x",
        "git://host/x",
        "ftp://host/x",
        "https://user:secret@host/x",
        "https://secret@host/x",
        "ssh://git:secret@host/x",
        "https://host/x?token=secret",
        "https://host/x#secret",
        "file://host/x",
        "ssh://-oProxyCommand=x/y",
        "ssh://host:port/x",
        "https:///x",
        "https://ho st/x",
        "-oProxyCommand=x:y",
        "host:",
        "http://[::1/x",
        "/path\nwith newline",
    ],
    ids=lambda url: repr(url[:20]),
)
def test_hostile_addresses_are_refused(tmp_path: Path, url: str) -> None:
    """Protocols that run programs, options, credentials in the address: refused, explained, and not repeated."""
    with pytest.raises(Stalled) as caught:
        Repository(url, tmp_path)
    assert reason(caught) == "UnsafeUrl"
    if "@" in url:
        assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a/b.git",
        "https://host:8443/x",
        "ssh://git@host/x.git",
        "ssh://git@host:22/x",
        "git@host.example:a/b.git",
        "host:x.git",
        "file:///srv/x.git",
        "/srv/x.git",
    ],
)
def test_usual_addresses_are_taken(url: str) -> None:
    """Every usual form stays as it is."""
    assert check_url(url) == url


def test_a_relative_path_is_made_absolute() -> None:
    """Git runs elsewhere, so a relative path must not stay one."""
    assert check_url("x/y.git") == str(Path("x/y.git").absolute())


@pytest.mark.parametrize(
    "words",
    [
        "fatal: https://me:hunter2@host/x: 403",
        "remote: Authorization: Basic hunter2",
        "ssh://u:hunter2@h/",
        "Private-Token: hunter2",
        "fatal: unable to access 'https://hunter2@host/': no",
        "https://a:hunter2@b@host/",
    ],
)
def test_credentials_are_cut_out_of_gits_words(words: str) -> None:
    """Whatever git says about an address, the secret in it is not passed on."""
    assert "hunter2" not in sanitise(words)
    assert sanitise(words) != words
