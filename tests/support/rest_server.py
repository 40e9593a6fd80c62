"""A small REST server with state on a port of this machine: who stands in for a service says what it answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

Fate = Literal["refuse", "lose"] | int | None
"""What becomes of a request: never done; done, but its answer is lost; a status instead of an answer."""


@dataclass
class Asked:
    """One request."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    json: Any = None
    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Field to (file name, bytes)."""


class Refused(Exception):
    """Answers with a status and a body."""

    def __init__(self, status: int, body: Any = None) -> None:
        super().__init__(status)
        self.status, self.body = status, body


class RestServer:
    """What a stand-in is made of. ``fate`` is asked about each request; ``lock`` holds while one is answered."""

    def __init__(self) -> None:
        self.url = ""
        self.lock = threading.Lock()
        self.fate: Callable[[Asked], Fate] = lambda _: None
        self.asked: list[tuple[str, str]] = []
        self.authorized: set[str] = set()
        """Values of Authorization that came along."""
        self.before: Callable[[Asked], None] = lambda _: None
        """Called outside of the lock: what happens meanwhile."""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Give status and JSON; Refused."""
        raise NotImplementedError

    @property
    def effects(self) -> list[tuple[str, str]]:
        """What changed something, or tried to."""
        return [(verb, path) for verb, path in self.asked if verb != "GET"]


S = TypeVar("S", bound=RestServer)


@contextmanager
def serving(told: S) -> Iterator[S]:
    """Let a stand-in listen."""

    class Handler(_Handler):
        server_side = told

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients give up in these tests; nobody needs to read about it."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield told
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # one packet an answer: a second one would wait for the first one's receipt
    server_side: RestServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        told, asked = self.server_side, self._read()
        told.before(asked)
        with told.lock:
            told.asked.append((asked.verb, asked.path))
            told.authorized.add(self.headers.get("Authorization", ""))
            fate = told.fate(asked)
            status, body = (fate, {"detail": "not now"}) if isinstance(fate, int) else (0, None)
            if fate in (None, "lose"):
                try:
                    status, body = told.answer(asked)
                except Refused as refused:
                    status, body = refused.status, refused.body
        if fate in ("refuse", "lose"):
            self.close_connection = True
            return
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _read(self) -> Asked:
        parts, kind = urlsplit(self.path), self.headers.get("Content-Type", "")
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers)
        if kind.startswith("application/json"):
            asked.json = json.loads(data)
        elif kind.startswith("multipart/form-data"):
            _unpack(asked, kind, data)
        elif kind.startswith("application/x-www-form-urlencoded"):
            asked.fields = dict(parse_qsl(data.decode()))
        return asked


def _unpack(asked: Asked, kind: str, data: bytes) -> None:
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data)
    for part in message.iter_parts():  # type: ignore[attr-defined]
        name, file = part.get_param("name", header="content-disposition"), part.get_filename()
        content = part.get_payload(decode=True)
        if file is None:
            asked.fields[name] = content.decode()
        else:
            asked.files[name] = (file, content)
