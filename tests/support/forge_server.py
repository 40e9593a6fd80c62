"""A forge behind HTTP, as far as no forge differs: faults, pages, tags, and a record of every request.

A subclass speaks one forge's language: it names ``routes`` (verb, pattern of the path below ``root``, method) whose
methods take a ``Call`` and give an ``Answer``; state, git and people come from ``ForgeProject``.

* ``fault``: the next requests that match get an error, a cut connection, or their effect and no answer.
* ``freeze``: lists tell what they told then. ``page_size``: small pages. ETags and 304 work by themselves.
* ``calls``: every request with its answer, for contracts and for counting.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support.forge_project import ForgeProject, Unwilling


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request, and later what it was answered.

    ``path`` is below ``root``, as it came; ``query`` is decoded; names in ``headers`` are written ``Like-This``.
    """

    verb: str
    path: str
    query: dict[str, str]
    body: Any
    headers: Mapping[str, str]
    answer: Answer = field(default_factory=lambda: Answer(0))
    parts: tuple[str, ...] = ()
    """What the groups of the route's pattern matched."""

    @property
    def wrote(self) -> bool:
        """Whether it changed something, or could have."""
        return self.verb != "GET" and 200 <= self.answer.status < 300


@dataclass
class Fault:
    """What goes wrong with ``times`` requests, after ``skip`` that go well."""

    verb: str
    path: re.Pattern[str]
    status: int
    """0 cuts the connection."""
    after: bool = False
    """Whether the effect happens all the same."""
    headers: dict[str, str] = field(default_factory=dict)
    words: str = "made to fail"
    until: threading.Event | None = None
    """The answer waits for it: a slow answer."""
    times: int = 1
    skip: int = 0


class ForgeServer(ForgeProject):
    """One project of one forge, asked over HTTP."""

    routes: Sequence[tuple[str, str, Callable[[Any, Call], Answer]]] = ()
    root = ""
    """What all paths begin with, as in ``/api/v4``."""
    page_parameter = "per_page"

    def __init__(self, repository: Path, *, project: str = "acme/models", branch: str = "main") -> None:
        super().__init__(repository, project=project, branch=branch)
        self.token = "forge-token"
        self.page_size = 100
        self.calls: list[Call] = []
        self.url = ""
        self._faults: list[Fault] = []

    # ------------------------------------------------------------------------------------------------- faults
    def fault(self, verb: str, path: str, status: int = 0, **details: Any) -> None:
        """Let the next request of that verb (empty: any) whose path matches fail; ``Fault`` has the details."""
        self._faults.append(Fault(verb, re.compile(path), status, **details))

    @property
    def faultless(self) -> bool:
        """Whether every fault has happened."""
        return not self._faults

    # ------------------------------------------------------------------------------------------------- answers
    def answer(self, call: Call) -> Answer | None:
        """Give the answer to a request; None cuts the connection."""
        fault = self._fault(call)
        if fault is not None and not fault.after:
            if fault.until is not None:
                fault.until.wait()
            return self._failed(call, fault)
        with self.lock:
            self.follow()
            call.answer = self._act(call)
            self.calls.append(call)
        if fault is None:
            return call.answer
        if fault.until is not None:
            fault.until.wait()
        return Answer(fault.status, self.trouble(fault.status, fault.words), fault.headers) if fault.status else None

    def _fault(self, call: Call) -> Fault | None:
        with self.lock:
            for fault in self._faults:
                if fault.verb in ("", call.verb) and fault.path.search(call.path):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def _failed(self, call: Call, fault: Fault) -> Answer | None:
        call.answer = Answer(fault.status, self.trouble(fault.status, fault.words), fault.headers)
        with self.lock:
            self.calls.append(call)
        return call.answer if fault.status else None

    def _act(self, call: Call) -> Answer:
        if not self.welcomes(call):
            return Answer(401, self.trouble(401, "bad credentials"))
        for verb, pattern, act in self.routes:
            match = re.fullmatch(pattern, call.path)
            if verb == call.verb and match:
                call.parts = match.groups()
                try:
                    return self._tagged(call, act(self, call))
                except Unwilling as error:
                    return Answer(error.status, self.trouble(error.status, error.words))
        return Answer(404, self.trouble(404, "no such thing"))

    @staticmethod
    def _tagged(call: Call, answer: Answer) -> Answer:
        if call.verb != "GET" or answer.status != 200:
            return answer
        tag = f'"{hashlib.sha256(json.dumps([answer.body, answer.headers]).encode()).hexdigest()[:16]}"'
        headers = {**answer.headers, "ETag": tag}
        if call.headers.get("If-None-Match") == tag:
            return Answer(304, None, headers)
        return Answer(200, answer.body, headers)

    def welcomes(self, call: Call) -> bool:
        """Whether who asks may ask."""
        return call.headers.get("Authorization") == f"Bearer {self.token}"

    def trouble(self, status: int, words: str) -> Any:
        """Word an error as this forge does."""
        return {"message": words}

    def page(self, call: Call, entries: Sequence[Any]) -> Answer:
        """Answer with one page of a list, and where the next one is."""
        size = min(self.page_size, int(call.query.get(self.page_parameter, "30")))
        number = int(call.query.get("page", "1"))
        headers = {}
        if len(entries) > number * size:
            query = urlencode({**call.query, "page": number + 1})
            headers["Link"] = f'<{self.url}{call.path}?{query}>; rel="next"'
        return Answer(200, list(entries[(number - 1) * size : number * size]), headers)


S = TypeVar("S", bound=ForgeServer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer are 40 ms apart
    server: _Listener

    def _serve(self) -> None:
        forge = self.server.forge
        parts = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = parts.path.removeprefix(forge.root)
        call = Call(
            self.command, path, dict(parse_qsl(parts.query, keep_blank_values=True)),
            json.loads(data) if data else None, {name.title(): value for name, value in self.headers.items()},
        )  # fmt: skip
        answer = forge.answer(call)
        if answer is None:
            self.close_connection = True
            return
        text = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve  # noqa: N815  http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what was asked is in ``calls``."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, forge: ForgeServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.forge = forge

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where a client went away; a fault of ours shows as a lost answer."""


@contextmanager
def running(forge: S) -> Iterator[S]:
    """Let a forge listen on a port of this machine; ``url`` is its root then."""
    listener = _Listener(forge)
    forge.url = f"http://127.0.0.1:{listener.server_address[1]}{forge.root}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
