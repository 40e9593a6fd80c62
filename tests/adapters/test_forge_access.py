"""How we get in: tokens that change under us, an App's tokens that end, and git with the same token."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.forge_access import CredentialsFile, TokenFile, bearer
from adapters.forge_github_app import AppToken
from adapters.forge_http import ForgeClient
from adapters.git_environment import configuration, environment
from specs.errors import Stalled, Transient
from tests.support.forge_stage import RemoteStage, remote_stage
from tests.support.github_app import app_of, new_key
from tests.support.github_server import GitHubServer

SECRET = "s3cr3t/with+signs"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[RemoteStage]:
    """Give GitHub."""
    with remote_stage("github", tmp_path) as found:
        yield found


@pytest.fixture
def server(here: RemoteStage) -> GitHubServer:
    """Give the stand-in of GitHub."""
    assert isinstance(here.server, GitHubServer)
    return here.server


# ------------------------------------------------------------------------------------------------- token files


def test_a_token_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    """Written anew or swapped as a mounted Secret is: the next request carries the new one."""
    file = tmp_path / "token"
    file.write_text("first\n")
    headers = bearer(TokenFile(file))
    assert headers() == {"Authorization": "Bearer first"}
    (tmp_path / "next").write_text("again\n")
    (tmp_path / "next").replace(file)
    assert headers() == {"Authorization": "Bearer again"}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two words", b"\xff\xfe"])
def test_a_token_that_is_none_is_named_and_never_shown(tmp_path: Path, content: bytes | None) -> None:
    """No file, nothing in it, or something else: Stalled with the file's name and not a byte of what is in it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Stalled) as caught:
        TokenFile(file)()
    assert caught.value.reason == "TokenMissing"
    assert str(file) in caught.value.message
    assert "two words" not in caught.value.message


# ------------------------------------------------------------------------------------------------- git


def ask_git(file: Path, verb: str, host: str = "git.example.com") -> dict[str, str]:
    """Let git look up (fill), or throw away (reject), what it says to a host."""
    asked = f"protocol=https\nhost={host}\n" + (f"username=x\npassword={SECRET}\n" if verb == "reject" else "\n")
    done = subprocess.run(
        ["git", *configuration(file), "credential", verb], input=asked, text=True, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], **environment()},
    )  # fmt: skip
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_git_finds_the_token_of_today(tmp_path: Path) -> None:
    """Git's own helper reads the file; nobody else may; another token replaces it; another host gets nothing."""
    tokens = [SECRET]
    address = "https://git.example.com/a/b.git"
    credentials = CredentialsFile(tmp_path / "deep" / "file", address, "x", lambda: tokens[-1])
    file = credentials()
    assert ask_git(file, "fill")["password"] == SECRET
    assert ask_git(file, "fill", "evil.example.com") == {}
    assert file.stat().st_mode & 0o777 == 0o600
    tokens.append("tomorrow")
    assert ask_git(credentials(), "fill")["password"] == "tomorrow"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_what_git_forgot_is_written_again(tmp_path: Path) -> None:
    """A server that refuses once makes git erase the line; that must not lock us out for ever."""
    credentials = CredentialsFile(tmp_path / "file", "https://git.example.com/a/b.git", "x", lambda: SECRET)
    ask_git(credentials(), "reject")
    assert ask_git(tmp_path / "file", "fill") == {}
    assert ask_git(credentials(), "fill")["password"] == SECRET


def test_the_file_is_left_alone_while_it_is_right(tmp_path: Path) -> None:
    """Quiet when done, and a folder that is none is trouble that may pass."""
    credentials = CredentialsFile(tmp_path / "file", "https://git.example.com/a/b.git", "x", lambda: SECRET)
    before = credentials().stat()
    assert credentials().stat().st_ino == before.st_ino
    (tmp_path / "taken").write_text("")
    with pytest.raises(Transient) as caught:
        CredentialsFile(tmp_path / "taken" / "file", "https://git.example.com/a/b.git", "x", lambda: SECRET)()
    assert SECRET not in caught.value.message


# ------------------------------------------------------------------------------------------------- GitHub Apps


def test_an_app_gets_in_and_renews_its_token_in_time(server: GitHubServer, tmp_path: Path) -> None:
    """One token serves until five minutes before its end; the client goes on with the next one."""
    token = app_of(server, tmp_path)
    client = ForgeClient(server.url, bearer(token), clock=lambda: server.clock)
    for later, given in ((0, 1), (3299, 1), (2, 2), (3400, 3)):
        server.clock += later
        assert client.get("/repos/acme/models")["full_name"] == "acme/models"
        assert len(server.given) == given


def test_many_who_ask_at_once_get_one_token(server: GitHubServer, tmp_path: Path) -> None:
    """Eight threads begin together: GitHub is asked once."""
    token = app_of(server, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: token(), range(8))) == {"ghs_1"}


def test_a_rotated_key_is_used_from_then_on(server: GitHubServer, tmp_path: Path) -> None:
    """The App's key is replaced in its file: the next renewal signs with it."""
    token = app_of(server, tmp_path)
    token()
    server.app_key = new_key(tmp_path / "app.pem").public_key()
    server.clock += 3600
    assert token() == "ghs_2"


def test_an_app_that_is_not_welcome_says_why(server: GitHubServer, tmp_path: Path) -> None:
    """A key of another App, an installation that is not there, GitHub that is down: each with its own name."""
    token = app_of(server, tmp_path)
    server.fault("POST", "access_tokens", 502)
    with pytest.raises(Transient):
        token()
    server.app_key = new_key(tmp_path / "other.pem").public_key()
    with pytest.raises(Stalled) as caught:
        token()
    assert caught.value.reason == "ForgeUnauthorized"
    server.app_key = new_key(tmp_path / "app.pem").public_key()
    elsewhere = AppToken(
        server.url, app=7, installation=1, key_file=tmp_path / "app.pem", clock=lambda: server.clock
    )
    with pytest.raises(Stalled, match="install the App") as caught:
        elsewhere()
    assert caught.value.reason == "AppNotInstalled"


@pytest.mark.parametrize("spoil", [
    lambda file: file.unlink(), lambda file: file.write_text(SECRET), lambda file: file.write_bytes(b"\0" * 99),
])  # fmt: skip
def test_a_key_that_is_none_is_never_shown(
    server: GitHubServer, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """No key, or something else in its file: Stalled, without a byte of it."""
    token = app_of(server, tmp_path)
    spoil(tmp_path / "app.pem")
    with pytest.raises(Stalled) as caught:
        token()
    assert caught.value.reason == "AppKeyInvalid"
    assert SECRET not in caught.value.message
    assert caught.value.__cause__ is None
