"""Data repositories, listings and configurations that somebody wrote to do harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.data import DvcSource
from specs.errors import CorruptArtifact, Stalled
from tests.support.dvc_repository import DvcProject, md5_of_bytes
from tests.support.gitrepo import Hub, git
from workloads.sources.addresses import Rules
from workloads.sources.dvc import fetch
from workloads.sources.dvc_remotes import choose

PUBLIC, PRIVATE = "93.184.216.34", "10.0.0.7"


@pytest.fixture(autouse=True)
def allowed(tmp_path: Path) -> Iterator[None]:
    """Let data come from below one folder of the test, and from no other."""
    (tmp_path / "open").mkdir()
    os.environ["TRUNKLINE_DATA_FOLDERS"] = str(tmp_path / "open")
    yield
    del os.environ["TRUNKLINE_DATA_FOLDERS"]


@pytest.fixture
def project(tmp_path: Path) -> DvcProject:
    """Give a data repository in the folder that is open."""
    return DvcProject.ready(tmp_path / "open" / "far")


def bring(tmp_path: Path, source: DvcSource) -> Path:
    """Fetch, with a cache that is not in the open folder."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return fetch(source, scratch, tmp_path / "cache", lambda *_: None).folder


def outside(tmp_path: Path) -> list[str]:
    """Name what lies beside the folders that an import may write to."""
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("open", "scratch", "cache"))


# ------------------------------------------------------------------------------------------------ listings


@pytest.mark.parametrize("path", ["../../escaped", "/tmp/escaped", "a/../../../escaped", "images\\..\\escaped"])
def test_listings_lead_nowhere_else(tmp_path: Path, project: DvcProject, path: str) -> None:
    """A listing with the right digest whose paths lead out is refused before any file of it is asked for."""
    project.forge([{"md5": project.md5_of("data.yaml"), "relpath": path}])
    with pytest.raises(CorruptArtifact, match=r"does not stay in the folder"):
        bring(tmp_path, project.source())
    assert outside(tmp_path) == []
    assert not list((tmp_path / "scratch" / "data").iterdir())


def test_listings_name_objects_and_nothing_else(tmp_path: Path, project: DvcProject) -> None:
    """What stands for an MD5 becomes part of a path; only one is let through."""
    project.forge([{"md5": "../../../../../../etc/passwd", "relpath": "a"}])
    with pytest.raises(CorruptArtifact, match=r"no MD5"):
        bring(tmp_path, project.source())


def test_objects_that_are_links_bring_no_file_of_this_machine(tmp_path: Path, project: DvcProject) -> None:
    """A remote in a folder may hold links; what they lead to has other bytes than the listing says."""
    (tmp_path / "secret").write_text("secret")
    md5 = project.md5_of("data.yaml")
    project.object(md5).unlink()
    project.object(md5).symlink_to(tmp_path / "secret")
    with pytest.raises(CorruptArtifact) as caught:
        bring(tmp_path, project.source())
    assert "shelf/data.yaml" in caught.value.message
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


# --------------------------------------------------------------------------------------------- repositories


def test_configuration_that_is_a_link_is_not_followed(tmp_path: Path, project: DvcProject) -> None:
    """Files are read from git's objects; a link among them is refused, wherever it leads."""
    config = project.clone / ".dvc" / "config"
    config.unlink()
    config.symlink_to("../../../../etc/passwd")
    project.commit({}, "Link")
    with pytest.raises(Stalled, match=r"symbolic link"):
        bring(tmp_path, project.source())


def test_nothing_in_a_repository_is_run(tmp_path: Path, project: DvcProject) -> None:
    """Hooks, filters, pipelines, plugins and configuration that names commands or folders: none has any effect."""
    touch = f"touch {tmp_path}/ran"
    hook = project.path / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{touch}\n")
    hook.chmod(0o755)
    git(project.path, "config", "uploadpack.packObjectsHook", touch)  # obeyed from protected configuration only
    project.configure(
        f"[core]\n    remote = store\n    autostage = true\n    site_cache_dir = {tmp_path}/site\n"
        f"[cache]\n    dir = {tmp_path}/elsewhere\n    type = symlink\n"
        f"['remote \"store\"']\n    url = {project.remote}\n    type = symlink\n"
        f"['machine \"m\"']\n    cloud = aws\n    startup_script = {touch}\n"
        f"[hydra]\n    enabled = true\n    plugins_path = {tmp_path}\n"
        "[exp]\n    auto_push = true\n    git_remote = origin\n"
    )
    project.commit({
        ".gitattributes": "* filter=run\n",
        ".gitconfig": f'[filter "run"]\n  smudge = {touch}\n',
        "dvc.yaml": f"stages: {{x: {{cmd: '{touch}', outs: [shelf]}}}}\n",
        ".dvc/config.local": "['remote \"store\"']\n    url = /nowhere\n",
    })  # fmt: skip
    assert (bring(tmp_path, project.source()) / "data.yaml").read_bytes()
    assert outside(tmp_path) == []


def test_the_machines_own_dvc_settings_do_not_count(tmp_path: Path, project: DvcProject) -> None:
    """What whoever set up the machine wrote for their own DVC changes nothing for jobs."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config").write_text("['remote \"store\"']\n    url = /nowhere\n[core]\n    remote = other\n")
    os.environ |= {"DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "home"), "DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "home")}
    try:
        assert (bring(tmp_path, project.source()) / "data.yaml").read_bytes()
    finally:
        del os.environ["DVC_GLOBAL_CONFIG_DIR"], os.environ["DVC_SYSTEM_CONFIG_DIR"]


def test_an_output_in_git_is_no_data_of_dvc(tmp_path: Path) -> None:
    """A pointer names objects by their MD5 alone: a path that leads out of the repository is refused."""
    hub = Hub(tmp_path / "open" / "far")
    hub.commit({"shelf.dvc": f"outs: [{{md5: {md5_of_bytes(b'x')}, hash: md5, path: /etc/passwd}}]", ".dvc/config": ""})
    source = DvcSource(repoURL=str(hub.path), targetRevision=hub.head(), path="shelf.dvc")
    with pytest.raises(Stalled, match=r"outside the repository"):
        bring(tmp_path, source)


def test_repositories_on_this_machine_must_be_allowed(tmp_path: Path) -> None:
    """A job reads a data repository in a folder only below those that the settings name."""
    project = DvcProject.ready(tmp_path / "closed")
    project.move(str(tmp_path / "open" / "remote"))
    with pytest.raises(Stalled, match=r"data repository .* allow_folders"):
        bring(tmp_path, project.source())


# ------------------------------------------------------------------------------------------------- remotes


def pick(tmp_path: Path, text: str, name: str | None = None, at: str = "") -> dict[str, object]:
    """Choose from a configuration, for a data repository ``at`` an address; give the options that DVC gets."""
    config = tmp_path / "config"
    config.write_text(text)
    rules = Rules({"minio.internal"}, lambda host, port: [PRIVATE if host.endswith("internal") else PUBLIC])
    return dict(choose(config, name, at or "https://git.example.com/data.git", ".dvc/config", rules).options)


def store(url: str, *more: str) -> str:
    """Write a configuration with one remote, the default."""
    return "[core]\nremote = store\n['remote \"store\"']\n" + "\n".join([f"url = {url}", *more]) + "\n"


def test_only_what_says_where_the_bytes_are_is_taken(tmp_path: Path) -> None:
    """Files with keys or settings (which may name commands), profiles, secrets, checks: not from a data repository."""
    taken = pick(tmp_path, store(
        "s3://bucket/dvc", "endpointurl = https://s3.example.com", "region = eu-west-1", "configpath = /etc/evil",
        "credentialpath = ../keys", "profile = admin", "secret_access_key = x", "access_key_id = y",
        "session_token = z", "ssl_verify = false", "sse_customer_key = k", "verify = false", "jobs = 100000",
    ))  # fmt: skip
    assert taken == {
        "url": "s3://bucket/dvc", "endpointurl": "https://s3.example.com", "region": "eu-west-1",
        "connect_timeout": 20, "read_timeout": 60,
    }  # fmt: skip


def test_what_was_not_taken_is_told(tmp_path: Path) -> None:
    """Whoever wonders why an option has no effect reads it beside the remote's name, without its value."""
    config = tmp_path / "config"
    config.write_text(store("s3://bucket/dvc", "profile = hidden"))
    found = choose(config, None, "https://git.example.com/x", ".dvc/config", Rules((), lambda host, port: [PUBLIC]))
    assert "profile" in found.shown
    assert "hidden" not in found.shown
    assert "bucket" not in found.shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no default remote"),
        ("[core]\nremote = gone\n['remote \"other\"']\nurl = s3://x\n", "no remote gone: it has other"),
        ("[[[", "cannot be read"),
        ("[core]\nremote = %(x)s\n", "cannot be read"),
        (store("remote://store/x"), "of itself"),
        (store("remote://gone/x"), "not there"),
        (store("webdavs://example.com/x", "bearer_token_command = touch /tmp/x"), "does not read"),
        (store("file:///etc"), "does not read"),
        (store("hdfs://example.com/x"), "does not read"),
        (store("memory://x"), "does not read"),
        (store("s3://bucket/x", "version_aware = true"), "without versions"),
        (store("s3://bucket/x", "worktree = true"), "without versions"),
        (store("s3:bucket"), "does not read"),
        (store("s3://bucket", "endpointurl = http://10.0.0.7.internal:9000"), "not public"),
        (store("https://metadata.internal/x"), "not public"),
        (store("ssh://git@db.internal/x"), "not public"),
        (store("https://ada:secret@example.com/x"), "neither user nor password"),
        (store("https://[broken/x"), "cannot be used"),
        (store("s3://bucket", "endpointurl = gopher://example.com"), "cannot be used"),
        (store("/etc"), "allow_folders"),
        (store("../../../etc"), "beside a copy"),
    ],
)
def test_remotes_that_no_job_goes_to(tmp_path: Path, text: str, says: str) -> None:
    """Each is refused before anybody is asked for anything, with what to do and without secrets."""
    with pytest.raises(Stalled) as caught:
        pick(tmp_path, text)
    assert says in caught.value.message
    assert "secret" not in caught.value.message


def test_remotes_in_terms_of_others_keep_to_the_same_rules(tmp_path: Path) -> None:
    """The address that comes out is what is looked at."""
    base = "['remote \"base\"']\nurl = {0}\nregion = eu\nprofile = admin\n"
    text = store("remote://base/sub") + base
    assert pick(tmp_path, text.format("s3://bucket"))["url"] == "s3://bucket/sub"
    assert pick(tmp_path, text.format("s3://bucket"))["region"] == "eu"
    with pytest.raises(Stalled, match=r"allow_folders"):
        pick(tmp_path, text.format("/etc"))


def test_folders_beside_a_repository_on_this_machine_are_found_and_allowed(tmp_path: Path) -> None:
    """Relative paths are relative to the configuration, and must stay below the open folders, links or not."""
    repository = tmp_path / "open" / "data"
    assert pick(tmp_path, store("../../store"), at=str(repository))["url"] == str(tmp_path / "open" / "store")
    assert pick(tmp_path, store("../../store"), at=repository.as_uri())["url"] == str(tmp_path / "open" / "store")
    (tmp_path / "open" / "link").symlink_to(tmp_path)
    for url in ("../../../other", str(tmp_path / "open" / "link" / "x"), str(tmp_path / "openly")):
        with pytest.raises(Stalled, match=r"allow_folders"):
            pick(tmp_path, store(url), at=str(repository))


def test_hosts_that_the_settings_name_may_be_private(tmp_path: Path) -> None:
    """The operator's own server is no stranger."""
    taken = pick(tmp_path, store("s3://bucket", "endpointurl = http://minio.internal:9000"))
    assert taken["endpointurl"] == "http://minio.internal:9000"


def test_another_remote_is_taken_by_its_name(tmp_path: Path) -> None:
    """The spec's remote wins over the default, in whatever case it is written."""
    text = store("s3://one") + "['remote \"Second\"']\nurl = s3://two\n"
    assert pick(tmp_path, text, "SECOND")["url"] == "s3://two"
