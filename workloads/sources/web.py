"""Fetches files over HTTP for data jobs: few redirects, limits, and going on where an interrupted transfer ended."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urljoin

import httpx

from specs.addresses import fault, shown
from specs.errors import Stalled, Transient
from workloads.sources.addresses import Pinned, Rules, allowed_hosts

REDIRECTS = 5
ATTEMPTS = 4
"""That got no byte further, before the job ends and is tried again later."""
MAX_BYTES = 500 * 2**30
"""Of one file."""
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_LONGEST_PAUSE = 30.0
_MEANS = {
    401: "is not for everybody", 403: "is not for everybody", 404: "does not exist", 410: "exists no more",
}  # fmt: skip

Counted = Callable[[int, int], None]
"""Called with bytes there, and bytes in all (0 where unknown)."""


@functools.cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class Web:
    """Fetches, where ``rules`` allow it (else the environment's), from servers that ``trust`` believes.

    ``pause`` waits so many seconds between two attempts. Any number of threads may fetch at once.
    """

    def __init__(
        self, rules: Rules | None = None, *, trust: ssl.SSLContext | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._pause = pause
        transport = Pinned(rules or Rules(allowed_hosts()), trust or _trusted())
        agent = {"User-Agent": "trunkline", "Accept-Encoding": "identity"}
        self._http = httpx.Client(transport=transport, timeout=_TIMEOUT, headers=agent, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def fetch(
        self, url: str, part: Path, *, limit: int = MAX_BYTES, counted: Counted = lambda done, total: None
    ) -> int:
        """Write what is behind ``url`` to ``part``, going on where an earlier attempt ended; give the bytes got now.

        It goes on only where the server has a validator for what it sent before, and says that this still holds.
        Transient ``DataSourceUnreachable``; Stalled ``AddressRefused``, ``DataRefused`` or ``DataTooLarge``.
        """
        transfer = _Transfer(url, part, limit, counted)
        failures = 0
        while True:
            before = transfer.reached
            try:
                with self._open(url, transfer.headers()) as answer:
                    transfer.take(answer)
                    return transfer.got
            except (httpx.TransportError, httpx.DecodingError, _Busy) as error:
                failures = 1 if transfer.reached > before else failures + 1
                if failures == ATTEMPTS:
                    words = str(error) or type(error).__name__
                    raise Transient("DataSourceUnreachable", f"{shown(url)}: {words}") from error
                asked = error.seconds if isinstance(error, _Busy) else 0.0
                self._pause(min(max(asked, 2.0 ** (failures - 1)), _LONGEST_PAUSE))

    @contextlib.contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Follow redirects to what answers; each step is checked as the first one was."""
        here = url
        for _ in range(REDIRECTS + 1):
            wrong = fault(here) or ("" if _scheme(here) in {"https", "http"} else "is not HTTP")
            if wrong:
                raise Stalled("DataRefused", f"{shown(url)} leads to {shown(here)}, which {wrong}")
            try:
                request = self._http.build_request("GET", here, headers=headers)
            except (httpx.InvalidURL, ValueError) as error:
                raise Stalled("DataRefused", f"{shown(url)} leads to {shown(here)}, which is no URL") from error
            answer = self._http.send(request, stream=True)
            try:
                if not answer.has_redirect_location:
                    yield answer
                    return
                there = urljoin(here, answer.headers["Location"])
            finally:
                answer.close()
            if _scheme(here) == "https" and _scheme(there) == "http":
                raise Stalled("DataRefused", f"{shown(url)} leads from https to {shown(there)}: anybody may listen")
            here = there
        raise Stalled("DataRefused", f"{shown(url)} leads on and on: more than {REDIRECTS} redirects")


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


class _Busy(Exception):
    """The server asks to come again."""

    def __init__(self, status: int, seconds: float) -> None:
        super().__init__(f"the server answered {status}")
        self.seconds = seconds


class _Transfer:
    """One file on its way: what is there already, by which validator, and what came now."""

    def __init__(self, url: str, part: Path, limit: int, counted: Counted) -> None:
        self._url, self._part, self._limit, self._counted = url, part, limit, counted
        self._note = part.with_name(part.name + ".json")
        self.got = 0
        self.reached = 0
        """The furthest byte so far; a server that cannot go on sends the first ones again and again."""

    def headers(self) -> dict[str, str]:
        """Ask for the rest where there is a beginning whose version is known."""
        validator, there = self._validator(), self._there()
        return {"Range": f"bytes={there}-", "If-Range": validator} if validator and there else {}

    def take(self, answer: httpx.Response) -> None:
        """Write what comes; what was there before is dropped unless the answer goes on from it."""
        there = self._start(answer)
        if not there:
            validator = _validator(answer)
            self._note.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)
            if validator:
                self._note.write_text(json.dumps({"validator": validator}))
        length = answer.headers.get("Content-Length", "")
        total = there + int(length) if length.isdecimal() else 0
        self._bound(total)
        with self._part.open("ab") as file:
            for chunk in answer.iter_raw():  # as it comes: what waits in memory is lost with the connection
                file.write(chunk)
                self.got += len(chunk)
                there += len(chunk)
                self.reached = max(self.reached, there)
                self._bound(there)
                self._counted(there, total)
        self._note.unlink(missing_ok=True)

    def _start(self, answer: httpx.Response) -> int:
        """Give from which byte on the answer is; errors where it is none."""
        status = answer.status_code
        if status == 206:
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if begins and int(begins[1]) == self._there():
                return int(begins[1])
        if status in {206, 416}:  # not what was asked for: from the beginning, then
            self._note.unlink(missing_ok=True)
            raise _Busy(status, 0.0)
        if status in {408, 425, 429} or status >= 500:
            asked = answer.headers.get("Retry-After", "")
            raise _Busy(status, float(asked) if asked.isdecimal() else 0.0)
        if status != 200:
            words = f"{_MEANS.get(status, 'cannot be fetched')} (HTTP {status}); correct the URL, or who may read it"
            raise Stalled("DataRefused", f"{shown(self._url)} {words}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Stalled("DataRefused", f"{shown(self._url)} comes encoded although plain bytes were asked for")
        return 0

    def _bound(self, size: int) -> None:
        if size > self._limit:
            raise Stalled("DataTooLarge", f"{shown(self._url)} has more than {self._limit} bytes; divide the data set")

    def _there(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _validator(self) -> str:
        try:
            return str(json.loads(self._note.read_text())["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _validator(answer: httpx.Response) -> str:
    """Give what names this version of a file to its server, where it is strong enough to put two parts together."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag.startswith('"') else ""
