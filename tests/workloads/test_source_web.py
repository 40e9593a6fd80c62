"""Files over HTTP: where a job goes, where it does not, and how it goes on after an interruption."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.errors import Stalled, Transient
from tests.support.file_server import FileServer, file_server
from workloads.sources.addresses import Rules, allowed_hosts, resolve
from workloads.sources.web import ATTEMPTS, Web

DATA = os.urandom(700_000)
HOST = "data.example.com"


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A server with one file."""
    with file_server() as told:
        told.files["/d.zip"] = DATA
        yield told


@pytest.fixture
def pauses() -> list[float]:
    """How long was waited, in seconds; nobody really waits."""
    return []


@pytest.fixture
def web(pauses: list[float]) -> Iterator[Web]:
    """A client that may go to this machine."""
    with Web(Rules(["127.0.0.1", "localhost"]), pause=pauses.append) as client:
        yield client


def refused(web: Web, url: str, part: Path, **limits: int) -> Stalled:
    """Give the error of a file that is not fetched, whatever a person does not do first."""
    with pytest.raises(Stalled) as caught:
        web.fetch(url, part, **limits)  # type: ignore[arg-type]
    return caught.value


# ---------------------------------------------------------------------------------------------------- where to go
def test_this_machine_is_not_asked(server: FileServer, tmp_path: Path) -> None:
    """Without leave, no request reaches an address that is not public, and the sentence says who can give leave."""
    with Web(Rules()) as web:
        error = refused(web, f"{server.url}/d.zip", tmp_path / "p")
    assert error.reason == "AddressRefused"
    assert "127.0.0.1" in error.message
    assert "data.allow_hosts" in error.message
    assert server.asked == []


@pytest.mark.parametrize("form", ["127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "localhost"])
def test_other_ways_to_write_this_machine_are_not_asked(server: FileServer, tmp_path: Path, form: str) -> None:
    """It is the address that counts, however a URL writes it."""
    port = server.url.rpartition(":")[2]
    with Web(Rules()) as web:
        assert refused(web, f"http://{form}:{port}/d.zip", tmp_path / "p").reason == "AddressRefused"
    assert server.asked == []


def test_all_addresses_of_a_name_must_be_public(server: FileServer, tmp_path: Path) -> None:
    """A name with one public and one private address is refused: nobody knows which one would be taken."""
    with Web(Rules(resolve=lambda host, port: ["8.8.8.8", "169.254.169.254"])) as web:
        error = refused(web, f"http://{HOST}/d.zip", tmp_path / "p")
    assert "169.254.169.254" in error.message
    assert "8.8.8.8" not in error.message


def test_the_checked_address_is_the_one_that_is_asked(server: FileServer, tmp_path: Path) -> None:
    """A name is resolved once; the connection goes to that address although the name leads elsewhere by then."""
    port = int(server.url.rpartition(":")[2])
    answers = [["127.0.0.1"], ["192.0.2.1"]]
    rules = Rules([HOST], resolve=lambda host, _: answers.pop(0))
    with Web(rules) as web:
        for name in ("a", "b"):
            assert web.fetch(f"http://{HOST}:{port}/d.zip", tmp_path / name) == len(DATA)
    assert answers == [["192.0.2.1"]]
    assert server.hosts == [f"{HOST}:{port}"] * 2


def test_the_next_address_is_tried(server: FileServer, tmp_path: Path) -> None:
    """Where the first address of a name does not answer, the second one is asked."""
    url = f"http://{HOST}:{server.url.rpartition(':')[2]}/d.zip"
    with Web(Rules([HOST], resolve=lambda host, port: ["127.0.0.9", "127.0.0.1"])) as web:
        assert web.fetch(url, tmp_path / "p") == len(DATA)


def test_an_unknown_name_is_tried_again_later(tmp_path: Path) -> None:
    """Name servers fail, so that a name nobody knows is no reason to give up for good."""

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with Web(Rules(resolve=unknown)) as web, pytest.raises(Transient, match=r"data\.example\.com is not known"):
        web.fetch(f"http://{HOST}/d.zip", tmp_path / "p")


def test_the_system_is_asked_for_addresses() -> None:
    """Addresses come from the system's own resolver, each of them once."""
    assert resolve("127.0.0.1", 80) == ["127.0.0.1"]


def test_hosts_are_allowed_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's list is divided by spaces, and the case of names does not matter."""
    monkeypatch.setenv("TRUNKLINE_DATA_HOSTS", "MinIO.data.svc 10.1.2.3")
    assert allowed_hosts() == {"minio.data.svc", "10.1.2.3"}
    assert Rules(allowed_hosts(), lambda host, port: ["10.0.0.5"]).addresses("minio.DATA.svc", 80) == ["10.0.0.5"]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server proves a name with, and what a client believes."""
    folder = tmp_path_factory.mktemp("papers")
    key, chain = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make = ["openssl", "req", "-x509", *curve, "-nodes", "-keyout", key, "-out", chain, *subject]
    subprocess.run(make, check=True, capture_output=True)
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(chain, key)
    return inside, ssl.create_default_context(cafile=str(chain))


def test_tls_speaks_to_the_name(papers: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path) -> None:
    """Although the connection goes to an address, the server is asked for, and must prove, the name in the URL."""
    inside, believing = papers
    asked: list[str | None] = []
    inside.sni_callback = lambda connection, name, context: asked.append(name)
    rules = Rules([HOST, "other.example.com"], lambda host, port: ["127.0.0.1"])
    with file_server(inside) as server, Web(rules, trust=believing, pause=lambda seconds: None) as web:
        server.files["/d.zip"] = DATA
        port = server.url.rpartition(":")[2]
        assert web.fetch(f"https://{HOST}:{port}/d.zip", tmp_path / "p") == len(DATA)
        with pytest.raises(Transient, match=r"(?i)hostname mismatch"):
            web.fetch(f"https://other.example.com:{port}/d.zip", tmp_path / "q")
    assert asked[:2] == [HOST, "other.example.com"]
    assert server.hosts == [f"{HOST}:{port}"]


def test_https_never_leads_to_http(papers: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path) -> None:
    """A redirect cannot take the encryption away."""
    inside, believing = papers
    inside.sni_callback = None  # type: ignore[assignment]
    rules = Rules([HOST], lambda host, port: ["127.0.0.1"])
    with file_server(inside) as server, Web(rules, trust=believing) as web:
        server.redirects["/a"] = f"http://{HOST}/d.zip"
        error = refused(web, f"https://{HOST}:{server.url.rpartition(':')[2]}/a", tmp_path / "p")
    assert "from https to" in error.message


# ------------------------------------------------------------------------------------------------------- redirects
def test_redirects_are_followed(server: FileServer, web: Web, tmp_path: Path) -> None:
    """A few redirects lead to the file, relative ones too."""
    server.redirects |= {"/a": "/b", "/b": f"{server.url}/d.zip"}
    assert web.fetch(f"{server.url}/a", tmp_path / "p") == len(DATA)
    assert (tmp_path / "p").read_bytes() == DATA


def test_each_redirect_is_checked(server: FileServer, tmp_path: Path) -> None:
    """A public place cannot send a job to a private one."""
    server.redirects["/a"] = "http://169.254.169.254/latest/meta-data"
    with Web(Rules(["127.0.0.1"])) as web:
        error = refused(web, f"{server.url}/a", tmp_path / "p")
    assert (error.reason, "169.254.169.254" in error.message) == ("AddressRefused", True)


@pytest.mark.parametrize(
    ("location", "said"),
    [("file:///etc/passwd", "not HTTP"), ("ftp://h/x", "begins with ftp"), ("http://me:secret@h/x", "no user"),
     ("/a", "on and on")],
)  # fmt: skip
def test_redirects_to_odd_places_are_refused(
    server: FileServer, web: Web, tmp_path: Path, location: str, said: str
) -> None:
    """Other schemes, credentials and circles end it; no secret is quoted."""
    server.redirects["/a"] = location
    error = refused(web, f"{server.url}/a?sig=hush", tmp_path / "p")
    assert said in error.message
    assert "secret" not in error.message
    assert "hush" not in error.message


@pytest.mark.parametrize("location", ["http://[::1/x", "http://h:1x/", "//h\x7f/x", "http://\xff/"])
def test_redirects_to_nowhere_are_a_servers_trouble(
    server: FileServer, web: Web, tmp_path: Path, location: str
) -> None:
    """A server that answers nonsense is asked again, and in the end later; there is no traceback."""
    server.redirects["/a"] = location
    with pytest.raises((Transient, Stalled)) as caught:
        web.fetch(f"{server.url}/a?sig=hush", tmp_path / "p")
    assert caught.value.reason in {"DataSourceUnreachable", "DataRefused"}
    assert "hush" not in caught.value.message


# --------------------------------------------------------------------------------------------------- interruptions
@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupted_file_goes_on_where_it_was(
    server: FileServer, web: Web, tmp_path: Path, times: int
) -> None:
    """What was there is not sent again: the rest is asked for, if the file is still the same one."""
    server.faults += ["cut:200000"] * times
    assert web.fetch(f"{server.url}/d.zip", tmp_path / "p") == len(DATA)
    assert (tmp_path / "p").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ["", *(f"bytes={200_000 * n}-" for n in range(1, times + 1))]
    assert list(tmp_path.iterdir()) == [tmp_path / "p"]


def test_a_later_job_goes_on(server: FileServer, web: Web, tmp_path: Path) -> None:
    """The beginning that an ended job left is used by the next one."""
    server.faults += ["cut:300000"] + ["status:503"] * ATTEMPTS
    with pytest.raises(Transient):
        web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    assert web.fetch(f"{server.url}/d.zip", tmp_path / "p") == len(DATA) - 300_000
    assert (tmp_path / "p").read_bytes() == DATA


def test_a_file_that_was_replaced_begins_anew(server: FileServer, web: Web, tmp_path: Path) -> None:
    """Two versions are never put together: the server says that the validator holds no more, and sends all of it."""
    server.faults += ["cut:300000"] + ["status:503"] * ATTEMPTS
    with pytest.raises(Transient):
        web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    server.files["/d.zip"] = other = os.urandom(500_000)
    assert web.fetch(f"{server.url}/d.zip", tmp_path / "p") == len(other)
    assert (tmp_path / "p").read_bytes() == other


@pytest.mark.parametrize("fault", ["range:IGNORED", "range:WRONG", "status:416"])
def test_servers_that_cannot_go_on_begin_anew(server: FileServer, web: Web, tmp_path: Path, fault: str) -> None:
    """A server that ignores ranges, or gives another one, costs time and never wrong bytes."""
    server.faults += ["cut:300000", fault]
    web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == DATA


def test_without_a_validator_nothing_is_put_together(server: FileServer, web: Web, tmp_path: Path) -> None:
    """A server that does not name versions is asked for the whole file each time."""
    server.tags = False
    server.faults += ["cut:300000"]
    web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == ["", ""]


def test_a_server_that_never_gets_further_is_given_up(server: FileServer, web: Web, tmp_path: Path) -> None:
    """Sending the same first bytes again and again is no progress: the job ends, to be tried later."""
    server.tags = False
    server.faults += ["cut:300000"] * 20
    with pytest.raises(Transient):
        web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    assert len(server.asked) == ATTEMPTS


@pytest.mark.parametrize("fault", ["status:500", "status:503:7", "status:429:7", "status:408", "drop"])
def test_servers_in_trouble_are_asked_again(
    server: FileServer, web: Web, tmp_path: Path, pauses: list[float], fault: str
) -> None:
    """Trouble that passes is waited out, as long as the server asks for; then the file comes."""
    server.faults += [fault]
    web.fetch(f"{server.url}/d.zip", tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == DATA
    assert pauses == [7.0 if ":7" in fault else 1.0]


def test_trouble_that_stays_ends_the_attempt(
    server: FileServer, web: Web, tmp_path: Path, pauses: list[float]
) -> None:
    """After some attempts in a row that got nowhere the job ends, to be tried again; waits are bounded."""
    server.faults += ["status:503:99999"] * ATTEMPTS
    with pytest.raises(Transient) as caught:
        web.fetch(f"{server.url}/d.zip?sig=hush", tmp_path / "p")
    assert caught.value.reason == "DataSourceUnreachable"
    assert "503" in caught.value.message
    assert "hush" not in caught.value.message
    assert pauses == [30.0] * (ATTEMPTS - 1)


@pytest.mark.parametrize(("status", "said"), [(401, "not for everybody"), (403, "not for everyb"), (404, "not exist")])
def test_refusals_are_not_repeated(server: FileServer, web: Web, tmp_path: Path, status: int, said: str) -> None:
    """What will not change by asking again ends at once, with what to do."""
    server.faults += [f"status:{status}"]
    error = refused(web, f"{server.url}/d.zip", tmp_path / "p")
    assert error.reason == "DataRefused"
    assert said in error.message
    assert len(server.asked) == 1


@pytest.mark.parametrize("lengths", [True, False])
def test_files_that_are_too_large_are_not_fetched(
    server: FileServer, web: Web, tmp_path: Path, lengths: bool  # noqa: FBT001
) -> None:
    """A file over the limit ends it: at once where the server says its size, else at the limit."""
    server.lengths = lengths
    error = refused(web, f"{server.url}/d.zip", tmp_path / "p", limit=300_000)
    assert error.reason == "DataTooLarge"
    written = (tmp_path / "p").stat().st_size if (tmp_path / "p").exists() else 0
    assert written <= (0 if lengths else 300_000 + 2**18)


def test_progress_counts_bytes(server: FileServer, web: Web, tmp_path: Path) -> None:
    """Bytes there and bytes in all are told, also after an interruption."""
    server.faults += ["cut:300000"]
    seen: list[tuple[int, int]] = []
    web.fetch(f"{server.url}/d.zip", tmp_path / "p", counted=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
