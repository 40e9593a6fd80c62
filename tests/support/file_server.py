"""A real HTTP server of files, with versions, ranges and redirects, and with all the ways in which servers fail."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FileServer:
    """What it serves, and what it was asked. ``faults`` are met by one request each, in order.

    A fault is ``status:CODE`` (with ``:SECONDS`` for Retry-After), ``cut:BYTES`` (the connection ends after so many),
    ``hold:BYTES`` (likewise it waits there until ``go`` is set), ``drop`` (no answer at all), or ``range:IGNORED`` and
    ``range:WRONG`` (a request for a part is answered with the whole file, with another part).
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    tags: bool = True
    lengths: bool = True
    faults: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(Path, value of the header Range) of each request."""
    hosts: list[str] = field(default_factory=list)
    halfway: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tag(self, path: str) -> str:
        """Give what names a file's version."""
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:16]}"'

    def fault(self) -> str:
        """Take the next fault."""
        with self.lock:
            return self.faults.pop(0) if self.faults else ""


@contextmanager
def file_server(tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """Serve on a free port of this machine; over TLS where a context is given."""
    told = FileServer()

    class Handler(_Handler):
        server_side = told

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False  # some connections are held on purpose

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients are killed in these tests, or do not believe us; nobody needs to read about it."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            told.go.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_side: FileServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        told, path = self.server_side, self.path.partition("?")[0]
        with told.lock:
            told.asked.append((self.path, self.headers.get("Range", "")))
            told.hosts.append(self.headers.get("Host", ""))
        kind, _, value = told.fault().partition(":")
        if kind == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if kind == "status":
            code, _, wait = value.partition(":")
            self._answer(int(code), b"no", {"Retry-After": wait} if wait else {})
        elif path in told.redirects:
            self._answer(302, b"", {"Location": told.redirects[path]})
        elif path in told.files:
            self._file(told.files[path], told.tag(path), kind, value)
        else:
            self._answer(404, b"no such file", {})

    def _file(self, data: bytes, tag: str, kind: str, value: str) -> None:
        headers = {"ETag": tag} if self.server_side.tags else {}
        begins = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fits = begins and self.headers.get("If-Range", tag) == tag and value != "IGNORED"
        start = int(begins[1]) if begins and fits else 0
        if kind == "range" and value == "WRONG" and begins:
            start = 1
        if fits:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        stop = int(value) if kind in {"cut", "hold"} else len(data)
        self._answer(206 if fits else 200, data[start:], headers, stop, hold=kind == "hold")

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str], stop: int | None = None, *, hold: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server_side.lengths:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body[:stop])
        self.wfile.flush()
        if stop is not None and stop < len(body):
            self.server_side.halfway.set()
            if hold:
                self.server_side.go.wait(60)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
