"""Data repositories as the control plane sees them: real git and DVC, read without DVC."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.data_dvc import DvcRepository, version
from specs.data import DvcSource
from specs.dvc_pointers import SIZE_LIMIT
from specs.errors import Stalled, Transient, TrunklineError
from specs.monitoring import OnData
from tests.support.dvc_repository import DvcProject
from tests.support.gitrepo import Hub, git

ROOT = Path(__file__).parents[2]
ONE, TWO, THREE = (f"{digit * 32}.dir" for digit in "123")


def pointer(md5: str, path: str = "shelf") -> str:
    """Write a pointer file as DVC does."""
    return f"outs:\n- md5: {md5}\n  size: 4\n  nfiles: 2\n  hash: md5\n  path: {path}\n"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """Give a data repository that says one thing."""
    hub = Hub(tmp_path / "far")
    hub.commit({"shelf.dvc": pointer(ONE), ".dvc/config": "[core]\n    remote = s\n"}, "First")
    return hub


def seen(hub: Hub, name: str = "near", **more: object) -> DvcRepository:
    """Look at it, with a mirror of that name."""
    ours = DvcRepository(str(hub.path), hub.path.parent.parent / name, **more)  # type: ignore[arg-type]
    ours.look()
    return ours


def source(revision: str, path: str = "shelf.dvc") -> DvcSource:
    """Give an unpinned source."""
    return DvcSource(repoURL="x", targetRevision=revision, path=path)


def pinned(found: DvcSource) -> tuple[str, str | None]:
    """Give what is pinned of a source."""
    return found.target_revision, found.digest


def refused(error: type[TrunklineError], ours: DvcRepository, what: DvcSource) -> str:
    """Give the words with which a source is refused."""
    with pytest.raises(error) as caught:
        ours.resolve_source(what)
    assert caught.value.reason == ("DataMissing" if error is Stalled else "DataSourceUnreachable")
    return caught.value.message


# ---------------------------------------------------------------------------------------------- resolving


def test_what_dvc_itself_writes_is_read(tmp_path: Path) -> None:
    """The digest is the one in the file that `dvc add` made; DVC is not needed to know it."""
    project = DvcProject(tmp_path / "far")
    project.pictures(count=2)
    commit = project.add(push=False)
    found = seen(project).resolve_source(source("main"))
    assert pinned(found) == (commit, project.digest())
    assert project.digest().endswith(".dir")


def test_reading_pointers_loads_no_dvc(hub: Hub, tmp_path: Path) -> None:
    """The control plane resolves with its own eyes: neither DVC nor anything that comes with it is loaded."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom adapters.data_dvc import DvcRepository\n"
        "from specs.data import DvcSource\n"
        "ours = DvcRepository(sys.argv[1], Path(sys.argv[2]))\nours.look()\n"
        "ours.resolve_source(DvcSource(repoURL='x', targetRevision='main', path='shelf.dvc'))\n"
        "print([name for name in sys.modules if name.startswith(('dvc', 'fsspec', 's3fs', 'pygit2'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(hub.path), str(tmp_path / "near")], cwd=ROOT, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_branches_and_short_commits_become_commits_and_tags_stay(hub: Hub) -> None:
    """What moves is pinned by commit; a tag is what people named on purpose, and the digest holds it fast anyway."""
    first = hub.head()
    git(hub.clone, "tag", "-a", "v1", "-m", "One")
    git(hub.clone, "push", "-q", "origin", "v1")
    second = hub.commit({"shelf.dvc": pointer(TWO)}, "Second")
    ours = seen(hub)
    assert pinned(ours.resolve_source(source("main"))) == (second, f"md5:{TWO}")
    assert pinned(ours.resolve_source(source("v1"))) == ("v1", f"md5:{ONE}")
    assert pinned(ours.resolve_source(source(first))) == (first, f"md5:{ONE}")
    assert pinned(ours.resolve_source(source(first[:8]))) == (first, f"md5:{ONE}")


def test_a_tag_wins_over_a_branch_of_the_same_name(hub: Hub) -> None:
    """As in git itself, so that nobody is surprised."""
    git(hub.clone, "tag", "stable")
    git(hub.clone, "push", "-q", "origin", "refs/tags/stable")
    hub.commit({"shelf.dvc": pointer(TWO)}, branch="other", start="main")
    git(hub.clone, "push", "-q", "origin", "other:refs/heads/stable")
    assert pinned(seen(hub).resolve_source(source("stable"))) == ("stable", f"md5:{ONE}")


@pytest.mark.parametrize(
    "revision", ["nothing", "0" * 40, "abcdef1", "--upload-pack=x", "main~1", "HEAD", "refs/heads/main", "a b", "@{-1}"]
)
def test_revisions_that_are_not_there_or_not_plain_are_refused(hub: Hub, revision: str) -> None:
    """Nothing that git would take for an option, an expression or another kind of name gets to it."""
    assert refused(Stalled, seen(hub), source(revision))


def test_pointers_that_are_links_or_large_are_refused(hub: Hub) -> None:
    """A link may lead anywhere, and a large file is no pointer: neither is read."""
    (hub.clone / "link.dvc").symlink_to("shelf.dvc")
    hub.commit({"big.dvc": b"#" * (SIZE_LIMIT + 1)})
    ours = seen(hub)
    assert "symbolic link" in refused(Stalled, ours, source("main", "link.dvc"))
    assert "bytes" in refused(Stalled, ours, source("main", "big.dvc"))
    assert "'..'" in refused(Stalled, ours, source("main", "../etc/passwd.dvc"))


def test_an_output_of_a_pipeline_is_found_by_its_path(hub: Hub) -> None:
    """dvc.lock names it."""
    lock = f"schema: '2.0'\nstages:\n  a:\n    outs:\n    - {{path: out, hash: md5, md5: {TWO}}}\n"
    hub.commit({"sub/dvc.lock": lock})
    assert seen(hub).resolve_source(source("main", "sub/out")).digest == f"md5:{TWO}"


# ------------------------------------------------------------------------------------------------- newest


def newest(ours: DvcRepository, **follow: str) -> tuple[str, str | None]:
    """Give what is newest."""
    return pinned(ours.newest_source(source("whatever"), OnData(**follow)))


def test_the_repositorys_own_branch_is_followed(hub: Hub) -> None:
    """Without a branch it is the one that its HEAD names, whatever it is called."""
    hub.commit({"shelf.dvc": pointer(THREE)}, branch="other", start="main")
    second = hub.commit({"shelf.dvc": pointer(TWO)}, "Second")
    ours = seen(hub)
    assert newest(ours) == (second, f"md5:{TWO}")
    git(hub.path, "symbolic-ref", "HEAD", "refs/heads/other")
    ours.look()
    assert newest(ours) == (hub.head("other"), f"md5:{THREE}") == newest(ours, branch="other")


def test_what_was_reverted_is_newest_again(hub: Hub) -> None:
    """The branch's head decides, not which digest was seen last."""
    hub.commit({"shelf.dvc": pointer(TWO)}, "Second")
    ours = seen(hub)
    assert newest(ours)[1] == f"md5:{TWO}"
    back = hub.commit({"shelf.dvc": pointer(ONE)}, "Revert")
    ours.look()
    assert newest(ours) == (back, f"md5:{ONE}")


def test_commits_about_other_things_change_no_pin(hub: Hub) -> None:
    """The commit that first said so stays the answer, so that an open pull request does not change with each commit."""
    second = hub.commit({"shelf.dvc": pointer(TWO)}, "Second")
    hub.commit({"README": "more\n"}, "Words")
    ours = seen(hub)
    assert newest(ours)[0] == second == ours.resolve_source(source("main")).target_revision


def test_the_commit_that_moved_the_bytes_counts(hub: Hub) -> None:
    """Where the bytes are is in the configuration: a pin must name a commit that knows the remote as it is now."""
    hub.commit({"shelf.dvc": pointer(TWO)}, "Second")
    moved = hub.commit({".dvc/config": "[core]\n    remote = elsewhere\n"}, "Move")
    hub.commit({"README": "more\n"}, "Words")
    assert newest(seen(hub)) == (moved, f"md5:{TWO}")


def test_other_stages_of_a_pipeline_change_no_pin(hub: Hub) -> None:
    """A dvc.lock that changes for another output still says the same about this one."""

    def lock(other: str) -> str:
        outs = [f"    - {{path: {name}, hash: md5, md5: {md5}}}\n" for name, md5 in (("out", TWO), ("x", other))]
        return "stages:\n  a:\n    outs:\n" + "".join(outs)

    first = hub.commit({"dvc.lock": lock(ONE)})
    hub.commit({"dvc.lock": lock(THREE)})
    found = seen(hub).newest_source(source("main", "out"), OnData())
    assert pinned(found) == (first, f"md5:{TWO}")


def test_a_merge_brings_its_pin(hub: Hub) -> None:
    """What a merge brought was first said on the branch by the merge."""
    hub.commit({"shelf.dvc": pointer(TWO)}, branch="topic", start="main")
    hub.commit({"README": "x\n"}, start="origin/main")
    merge = hub.merge("topic")
    assert newest(seen(hub)) == (merge, f"md5:{TWO}")


def test_the_highest_tag_of_a_pattern_is_newest(hub: Hub) -> None:
    """Numbers are compared as numbers, and the tag's name is what is pinned."""
    for name, md5 in (("v1.9", ONE), ("v1.10", TWO), ("v1.10-rc1", THREE), ("other-9", THREE)):
        hub.commit({"shelf.dvc": pointer(md5)}, name)
        git(hub.clone, "tag", name)
    git(hub.clone, "push", "-q", "origin", "--tags")
    ours = seen(hub)
    assert newest(ours, tags="v*") == ("v1.10", f"md5:{TWO}")
    with pytest.raises(Stalled, match=r"no tag that fits"):
        newest(ours, tags="w*")


def test_versions_are_in_order() -> None:
    """As people count, not as dictionaries do."""
    ordered = ["latest", "v0.9", "v1", "v1.2-rc.2", "v1.2-rc.10", "v1.2", "v1.2-final", "v1.10"]
    ordered += ["v2026-09-30", "v2026-11-01"]
    shuffled = {*ordered}
    assert sorted(shuffled, key=version) == ordered


def test_a_moved_tag_and_a_deleted_branch_are_seen(hub: Hub) -> None:
    """The mirror follows: what is gone there is gone here."""
    git(hub.clone, "tag", "v1")
    git(hub.clone, "push", "-q", "origin", "v1", "main:refs/heads/old")
    ours = seen(hub)
    before = ours.look()
    hub.commit({"shelf.dvc": pointer(TWO)})
    git(hub.clone, "tag", "--force", "v1")
    git(hub.clone, "push", "-q", "--force", "origin", "v1", ":refs/heads/old")
    assert ours.look() != before
    assert newest(ours, tags="v*")[1] == f"md5:{TWO}"
    with pytest.raises(Stalled, match=r"no branch old"):
        newest(ours, branch="old")


def test_a_repository_whose_own_branch_was_never_pushed_is_read_all_the_same(hub: Hub) -> None:
    """Its HEAD names nothing; branches that are named are found."""
    git(hub.path, "symbolic-ref", "HEAD", "refs/heads/never")
    ours = seen(hub)
    assert newest(ours, branch="main")[1] == f"md5:{ONE}"
    with pytest.raises(Stalled, match=r"name one to follow"):
        newest(ours)


# ------------------------------------------------------------------------------------------------ hygiene


@pytest.fixture
def proxy() -> Iterator[None]:
    """Say that a proxy leads outside."""
    os.environ["https_proxy"] = "http://proxy.invalid:3128"
    yield
    del os.environ["https_proxy"]


@pytest.mark.parametrize("url", ["https://127.0.0.1/data.git", "ssh://git@127.0.0.1/data.git", "git@127.0.0.1:data.git",
                                 "https://localhost:3000/data.git", "https://169.254.169.254/x"])  # fmt: skip
def test_private_addresses_are_asked_nothing(tmp_path: Path, url: str) -> None:
    """A spec cannot make the control plane talk to the network it is in, whatever the protocol, unless allowed."""
    with pytest.raises(Stalled, match=r"allow_hosts") as caught:
        DvcRepository(url, tmp_path / "near").look()
    assert caught.value.reason == "DataSourceUnsupported"


def test_a_proxy_is_no_way_around(tmp_path: Path, proxy: None) -> None:
    """Names are the proxy's business, addresses written as numbers are refused still."""
    with pytest.raises(Stalled, match=r"allow_hosts"):
        DvcRepository("https://10.0.0.1/data.git", tmp_path / "near").look()


def test_allowed_hosts_are_asked(tmp_path: Path) -> None:
    """A private host that the settings name is asked, and that nobody answers is no fault of the spec."""
    ours = DvcRepository("https://127.0.0.1:1/data.git", tmp_path / "near", allow_hosts=["127.0.0.1"])
    with pytest.raises(Transient) as caught:
        ours.look()
    assert caught.value.reason == "DataSourceUnreachable"


@pytest.mark.parametrize("url", ["ext::sh -c x", "http://x/y", "--upload-pack=x", "https://u:secret@x/y", "git://x/y"])
def test_addresses_that_git_should_not_get_are_refused(tmp_path: Path, url: str) -> None:
    """The rules of the specs' own repository hold."""
    with pytest.raises(Stalled) as caught:
        DvcRepository(url, tmp_path / "near")
    assert caught.value.reason == "DataSourceUnsupported"
    assert "secret" not in caught.value.message


def test_a_repository_that_is_gone_is_unreachable(hub: Hub, tmp_path: Path) -> None:
    """A fault of the place is no fault of the spec, and a mirror that was broken is made again."""
    ours = seen(hub)
    hub.path.rename(tmp_path / "moved")
    with pytest.raises(Transient) as caught:
        ours.look()
    assert caught.value.reason == "DataSourceUnreachable"
    (tmp_path / "moved").rename(hub.path)
    (tmp_path / "near" / "mirror.git" / "HEAD").unlink()
    assert ours.look()
