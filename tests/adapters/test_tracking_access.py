"""Who may be told about runs, and who gets a token."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from adapters.mlflow_api import MlflowApi
from adapters.tracking_access import HOSTS, TOKEN_FILE, Access
from specs.errors import Stalled, Transient
from tests.support.mlflow_server import bad_server


@pytest.mark.parametrize(
    "uri",
    ["http://169.254.169.254/", "http://169.254.170.2/mlflow", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
     "http://224.0.0.1/"],
)  # fmt: skip
def test_addresses_of_the_link_are_no_tracking_servers(uri: str) -> None:
    """Where clouds answer with credentials nothing is sent, whatever a spec says."""
    with pytest.raises(Stalled, match="no tracking server"):
        Access().check(uri)


def test_without_hosts_any_server_may_be_named_and_none_gets_a_token(tmp_path: Path) -> None:
    """A token that no host was named for stays here."""
    (tmp_path / "token").write_text("secret-token")
    access = Access(token_file=tmp_path / "token")
    access.check("http://127.0.0.1:5000")
    assert access.headers("http://127.0.0.1:5000") == {}


def test_with_hosts_only_those_are_spoken_to(tmp_path: Path) -> None:
    """By name, or by name and port; the others are refused by name."""
    access = Access(hosts=("127.0.0.1", "localhost:5000"))
    for uri in ("http://127.0.0.1:1234/mlflow", "http://localhost:5000"):
        access.check(uri)
    for uri in ("http://localhost:5001", "http://127.0.0.2", "http://127.0.0.1.example.com"):
        with pytest.raises(Stalled, match="hosts does not list"):
            access.check(uri)


@pytest.mark.parametrize(
    ("text", "header"),
    [("secret-token\n", "Bearer secret-token"),
     ("ann:pass:word", f"Basic {base64.b64encode(b'ann:pass:word').decode()}")],
)  # fmt: skip
def test_a_token_goes_to_its_hosts_and_is_read_anew(tmp_path: Path, text: str, header: str) -> None:
    """A token, or user and password; a replaced one counts from then on."""
    (tmp_path / "token").write_text("old")
    with bad_server(200, b"{}") as server:
        api = MlflowApi(server.url, Access.of({HOSTS: "127.0.0.1 x", TOKEN_FILE: str(tmp_path / "token")}))
        api.get("anything")
        (tmp_path / "token").write_text(text)
        api.get("anything")
        assert [each.get("authorization") for each in server.headers] == ["Bearer old", header]


def test_a_token_that_cannot_be_read_is_said_without_asking_anybody(tmp_path: Path) -> None:
    """Without the proof that is to be given, nothing is sent."""
    with bad_server(200, b"{}") as server:
        api = MlflowApi(server.url, Access(("127.0.0.1",), tmp_path / "absent"))
        with pytest.raises(Transient, match="cannot be read"):
            api.get("anything")
        assert server.asked == []


def test_a_server_that_quotes_our_token_does_not_get_it_into_an_error(tmp_path: Path) -> None:
    """What is logged and recorded has no secret in it."""
    (tmp_path / "token").write_text("secret-token")
    with bad_server(400, b'{"error_code": "X", "message": "who is secret-token?"}') as server:
        api = MlflowApi(server.url, Access(("127.0.0.1",), tmp_path / "token"))
        with pytest.raises(Stalled, match=r"who is \*\*\*\?"):
            api.get("anything")


def test_an_answer_without_end_is_cut_off() -> None:
    """More bytes than any answer has are trouble, not memory."""
    with bad_server(200, b" " * (33 * 2**20)) as server, pytest.raises(Transient, match="without end"):
        MlflowApi(server.url, Access()).get("anything")
