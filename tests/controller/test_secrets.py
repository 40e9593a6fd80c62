"""Secrets in the wrong place, and places that quote them: no error, however deep, and no line of a log repeats one."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.repository import Repository
from controller import forges, wiring
from controller.cluster import Common, bind
from controller.metrics import Metrics
from controller.settings import load
from specs.data import DvcSource, PlatformSource, Source
from specs.errors import Stalled, TrunklineError
from specs.workorders import ImportOrder
from tests.support.canaries import canary, files, leaks
from tests.support.gitrepo import Hub
from tests.support.platform_server import platform_server
from tests.support.typed import ROOT, trunkline

SECRET = canary("field")
HOST = "git.example.com/acme/models.git"
URL = f"https://{HOST}"
GITHUB = '[forge]\nkind = "github"\n'


def _toml(repository: str = URL, store: str = "store", *more: str) -> str:
    return "\n".join([f'repository = "{repository}"', f'store = "{store}"', 'state = "state"', *more, ""])


WRONG = {
    "repository with a password": _toml(f"https://bot:{SECRET}@{HOST}"),
    "repository with a token": _toml(f"https://{SECRET.replace('/', '-')}@{HOST}"),
    "repository over http": _toml(f"http://bot:{SECRET}@{HOST}"),
    "repository with a query": _toml(f"{URL}?private_token={SECRET}"),
    "repository with a port that is none": _toml(f"ssh://git:{SECRET.replace('/', '-')}"),
    "binding with a password": f'store = "s"\n[[bindings]]\nnamespaces = ["x"]\nrepository = "https://b:{SECRET}@{HOST}"\n',
    "bindings that disagree": "".join(
        ['store = "s"\n', *(f'[[bindings]]\nnamespaces = ["{name}"]\nrepository = "https://b:{SECRET}@{HOST}"\n'
                            f'credentials = "{name}"\n' for name in "xy")]),
    "store with a password": _toml("hub.git", f"s3://key:{SECRET}@bucket/folder"),
    "store with a query": _toml("hub.git", f"s3://bucket/folder?secret={SECRET}"),
    "store in a file with a query": _toml("hub.git", f"file:///srv/store?secret={SECRET}"),
    "store over https": _toml("hub.git", f"https://bucket?secret={SECRET}"),
    "token in the table": _toml(URL, "s", GITHUB + f'token = "{SECRET}"'),
    "token as the kind": _toml(URL, "s", f'[forge]\nkind = "{SECRET}"'),
    "token as a number": _toml(URL, "s", GITHUB + f'app_id = "{SECRET}"'),
    "token in a line that is broken": _toml(URL, "s", GITHUB + f"token_file = {SECRET}"),
    "forge with a password": _toml(URL, "s", GITHUB + f'url = "https://b:{SECRET}@api"\ntoken_file = "one"'),
    "forge with a query": _toml(URL, "s", GITHUB + f'url = "https://api.example.com/?t={SECRET}"\ntoken_file = "one"'),
    "file with two words": _toml(URL, "s", GITHUB + 'url = "http://127.0.0.1:1"\ntoken_file = "two"'),
    "file with odd characters": _toml(URL, "s", GITHUB + 'url = "http://127.0.0.1:1"\ntoken_file = "odd"'),
    "file that is no text": _toml(URL, "s", GITHUB + 'url = "http://127.0.0.1:1"\ntoken_file = "bytes"'),
    "forge that is away": _toml(URL, "s", GITHUB + 'url = "http://127.0.0.1:1"\ntoken_file = "one"'),
    "key that is none": _toml(URL, "s", GITHUB + 'url = "http://127.0.0.1:1"\napp_id = 1\ninstallation_id = 2\n'
                              'app_key_file = "key"'),
    "key of an App and a token": _toml(URL, "s", GITHUB + 'app_id = 1\napp_key_file = "key"\ntoken_file = "one"'),
}  # fmt: skip


def _use(folder: Path) -> None:
    """Do what agent, command line and operator do with settings; raises what the first of them does."""
    settings = load(folder, {})
    if not settings.bindings:
        app = wiring.build(settings)
        app.forge.list()
        app.repository.fetch()
        forges.local(settings)
    nobody: Any = None
    common = Common(wiring.store(settings), nobody, nobody, nobody, lambda key, before, now: None)
    bind(settings, common, Metrics(), lambda parts: parts)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in WRONG.items()])
def test_what_is_wrong_is_said_without_the_secret(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever logs the error, with all that led to it, logs no secret."""
    (tmp_path / "trunkline.toml").write_text(text)
    Hub(tmp_path)
    files = {"one": SECRET, "two": f"{SECRET} {SECRET}", "odd": f"{SECRET}\x01", "key": f"-----BEGIN {SECRET}"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "bytes").write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(TrunklineError) as caught:
        _use(tmp_path)
    told = "".join(traceback.format_exception(caught.value))
    heard = capfd.readouterr()
    spellings = [SECRET, SECRET.replace("/", "-")]
    assert caught.value.message
    assert leaks(spellings, {"the error": told.encode(), "the log": caplog.text.encode(),
                             "output": (heard.out + heard.err).encode()}) == []  # fmt: skip


class _Quoting(BaseHTTPRequestHandler):
    """A git server that tells everybody who they said they were."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "")
        plain = base64.b64decode(said.partition(" ")[2]).decode() if said else ""
        self.heard.append(plain)
        body = f"you are {plain}, Authorization {said}, {said.partition(' ')[2]}\n".encode()
        self.send_response(403 if said else 401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def quoting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of such a server, over TLS, which git trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = tmp_path / "tls.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Quoting)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("GIT_SSL_CAINFO", str(file))
    yield f"localhost:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_git_server_that_quotes_credentials_is_not_quoted(quoting: str, tmp_path: Path) -> None:
    """Git passes on what the server says; we do so without what we said to it."""
    token = canary("git")
    file = tmp_path / "credentials"
    file.write_text(f"https://bot:{quote(token, safe='')}@{quoting}\n")
    repository = Repository(f"https://{quoting}/models.git", tmp_path / "state", credentials=file)
    with pytest.raises(TrunklineError) as caught:
        repository.fetch()
    assert f"bot:{token}" in _Quoting.heard
    assert "you are bot:***" in caught.value.message
    assert leaks([token], {"the error": "".join(traceback.format_exception(caught.value)).encode()}) == []


def test_settings_do_not_show_a_url_that_is_refused(tmp_path: Path) -> None:
    """The first thing that is looked at is the address, since later errors quote it."""
    (tmp_path / "trunkline.toml").write_text(_toml(f"https://bot:{SECRET}@{HOST}"))
    with pytest.raises(Stalled) as caught:
        load(tmp_path, {})
    assert caught.value.reason == "UnsafeUrl"


def test_a_data_repository_that_quotes_credentials_is_not_quoted(quoting: str, tmp_path: Path) -> None:
    """The place of data is said who we are in a header, and what it answers is passed on without that."""
    token = canary("data")
    file = tmp_path / "credentials"
    file.write_text(f"https://bot:{quote(token, safe='')}@{quoting}\n")
    (tmp_path / "trunkline.toml").write_text(
        _toml("hub.git", "store", "[data]", f'credentials = "{file}"', 'allow_hosts = ["localhost"]')
    )
    sources = wiring.data(load(tmp_path, {}), patience=60)
    bare = DvcSource(repoURL=f"https://{quoting}/data.git", targetRevision="main", path="shapes.dvc")
    with pytest.raises(TrunklineError) as caught:
        sources.resolve(Source(dvc=bare))
    assert f"bot:{token}" in _Quoting.heard
    assert "you are bot:***" in caught.value.message
    assert leaks([token], {"the error": "".join(traceback.format_exception(caught.value)).encode()}) == []


def test_a_job_does_not_say_how_it_got_in(quoting: str, tmp_path: Path) -> None:
    """An import that is refused, and told who it is, leaves neither log nor record with that in it."""
    token = canary("import")
    (tmp_path / "credentials").write_text(f"https://bot:{quote(token, safe='')}@{quoting}\n")
    source = {"dvc": {"repoURL": f"https://{quoting}/data.git", "targetRevision": "main", "path": "shapes.dvc",
                      "digest": "md5:" + "0" * 32}}  # fmt: skip
    order = ImportOrder(model="default/x", commit="0" * 40, task="classify", source=source)
    environment = {
        **os.environ, "TRUNKLINE_WORK_ORDER": order.encode().decode(), "TRUNKLINE_DATA_HOSTS": "localhost",
        "TRUNKLINE_DATA_CREDENTIALS": str(tmp_path / "credentials"), "TRUNKLINE_SCRATCH": str(tmp_path / "scratch"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "workloads", "--store", str(tmp_path / "store")], cwd=ROOT, env=environment,
        capture_output=True, check=False,
    )  # fmt: skip
    assert f"bot:{token}" in _Quoting.heard
    assert done.returncode in {65, 75}, done.stderr
    left = {"what it said": done.stdout + done.stderr, **files(tmp_path / "store")}
    assert leaks([token], left) == []


SOURCES: dict[str, dict[str, Any]] = {
    "repository with a password": {"dvc": {
        "repoURL": f"https://bot:{SECRET}@git.example.com/data.git", "targetRevision": "main", "path": "x.dvc"}},
    "address with a password": {"uri": {"url": f"https://bot:{SECRET.replace('/', '-')}@data.example.com/x.zip"}},
    "address with a query": {"uri": {"url": f"https://data.example.com/x.zip?token={SECRET}"}},
    "platform with a key": {"platform": {"uri": f"ul://acme/datasets/x?key={SECRET}"}},
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_a_secret_in_a_modelspec_is_not_said_again(source: dict[str, Any], tmp_path: Path) -> None:
    """Whoever writes a secret where data lies has put it into git; nothing that we say makes that worse."""
    (tmp_path / "trunkline.toml").write_text(_toml("hub.git"))
    text = (ROOT / "tests/specs/smallest.yaml").read_text()
    changed = yaml.safe_load(text)
    changed["spec"]["data"]["train"] = source
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(changed))
    told = [trunkline(tmp_path, "check", "model.yaml"), trunkline(tmp_path, "data", "pin", "model.yaml", "--json")]
    said = "".join(f"{result.output}{result.exception!r}" for result in told)
    checked, pinned = (result.output for result in told)
    taken = "1 ModelSpec, no problems" in checked
    assert ("default/digits" in pinned) if taken else ("model.yaml" in said)
    spellings = [SECRET, SECRET.replace("/", "-")]
    assert leaks(spellings, {"what was said": said.encode()}) == []


def test_the_platforms_key_is_not_said(tmp_path: Path) -> None:
    """A Platform that quotes our key in what it answers does not make us print it."""
    key = canary("platform")
    with platform_server() as server:
        server.faults += ["403", "500"]
        (tmp_path / "key").write_text(key)
        (tmp_path / "trunkline.toml").write_text(
            _toml("hub.git", "store", "[data]", 'platform_key_file = "key"', f'platform_url = "{server.url}"')
        )
        for version in (1, 2):
            sources = wiring.data(load(tmp_path, {}), patience=60)
            with pytest.raises(TrunklineError) as caught:
                sources.resolve(Source(platform=PlatformSource(uri="ul://acme/datasets/shelf", version=version)))
            assert "Not now, Bearer ***" in caught.value.message
            assert leaks([key], {"the error": "".join(traceback.format_exception(caught.value)).encode()}) == []
