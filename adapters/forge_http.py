"""What all forges behind HTTP have in common: one careful client, and one list of pull requests kept up to date.

Nothing here knows a forge. Who calls gets JSON, or an error with one of our names: ``Transient`` where trying again may
help (network, 5xx, 429, a spent quota), ``Refused`` where the forge said no to this very request.
"""

from __future__ import annotations

import functools
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from adapters.git_environment import printable, sanitise
from specs.errors import Stalled, Transient
from specs.facts import PullRequest

PAGE = 100
_MAX_PAGES = 1_000
_REMEMBERED, _REMEMBERED_BYTES = 200, 32 * 2**20
"""Answers that are kept for a 304: so many, of so many bytes together; a page of pull requests may have two million."""
_WORDS = 300
_SHORTEST_SECRET = 8
"""Shorter words of a header, as ``Bearer`` and ``Basic``, are none."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 3600.0
_OVERLAP = 120
"""Seconds that a list may lag behind what it lists: as much is read again each time."""

Counted = Callable[[str, str], None]


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Give whom we trust; reading all the certificates takes a while, so it is done once."""
    return httpx.create_ssl_context()


class Refused(Stalled):
    """The forge understood, and said no: ``status`` is HTTP's, ``message`` the forge's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__("ForgeRefused", message)
        self.status = status


@dataclass(frozen=True)
class Remembered:
    """An answer and the tag by which the forge knows that it still holds."""

    tag: str
    answer: httpx.Response


class ForgeClient:
    """Asks one forge. ``authorize`` gives the headers that say who we are, asked before each request.

    ``pace``: seconds between two requests that change something (forges ask for that). ``counted`` is told verb and
    status of every request. Any number of threads may ask; waits are told in errors and never slept through.
    """

    def __init__(
        self, url: str, authorize: Callable[[], Mapping[str, str]], *, timeout: float = 30.0, pace: float = 0.0,
        counted: Counted = lambda verb, status: None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self._authorize, self._pace, self._counted, self._clock = authorize, pace, counted, clock
        agent = {"User-Agent": "trunkline"}
        self._http = httpx.Client(timeout=timeout, headers=agent, follow_redirects=False, verify=_trusted())
        self._remembered: OrderedDict[str, Remembered] = OrderedDict()
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._closed_until = 0.0
        self._wrote = 0.0

    def get(self, path: str, **parameters: str | int) -> Any:
        """Give the JSON at a path below the URL (or at a whole address); None where there is none (404)."""
        answer = self._get(path, parameters)
        return None if answer.status_code == 404 else _json(answer)

    def pages(self, path: str, **parameters: str | int) -> Iterator[list[Any]]:
        """Give the pages of a list, as far as somebody wants them; Refused where there is no such list (404)."""
        for number in range(1, _MAX_PAGES + 1):
            answer = self._get(path, {**parameters, "page": number})
            if answer.status_code == 404:
                raise Refused(404, self._words("GET", path, answer))
            found = _json(answer)
            if not isinstance(found, list):
                raise Transient("ForgeUnavailable", f"{self._address(path)} gave no list")
            yield found
            if "next" not in answer.links:
                return

    def send(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask for a change; gives the JSON of the answer (None where it is empty). Refused where the forge says no."""
        with self._writing:
            time.sleep(max(0.0, min(self._pace, self._wrote + self._pace - time.monotonic())))
            try:
                answer = self._ask(verb, path, json=dict(body or {}))
            finally:
                self._wrote = time.monotonic()
        if answer.status_code >= 300:
            raise Refused(answer.status_code, self._words(verb, path, answer))
        return _json(answer) if answer.content else None

    def _get(self, path: str, parameters: Mapping[str, str | int]) -> httpx.Response:
        """Ask, or learn that what was answered before still holds."""
        key = f"{path}?{sorted(parameters.items())}"
        with self._lock:
            known = self._remembered.get(key)
        headers = {"If-None-Match": known.tag} if known else {}
        answer = self._ask("GET", path, params=dict(parameters), headers=headers)
        if answer.status_code == 304 and known is not None:
            self._remember(key, known.answer)
            return known.answer
        if answer.status_code != 404 and answer.status_code >= 300:
            raise Refused(answer.status_code, self._words("GET", path, answer))
        self._remember(key, answer)
        return answer

    def _remember(self, key: str, answer: httpx.Response) -> None:
        """Keep an answer that has a tag, as the last one that was asked for; what nobody asked for longest goes."""
        with self._lock:
            self._remembered.pop(key, None)
            tag = answer.headers.get("ETag")
            if tag and answer.status_code == 200:
                self._remembered[key] = Remembered(tag, answer)
            sizes = [len(each.answer.content) for each in self._remembered.values()]
            while len(sizes) > _REMEMBERED or sum(sizes) > _REMEMBERED_BYTES:
                self._remembered.popitem(last=False)
                del sizes[0]

    def _ask(self, verb: str, path: str, **content: Any) -> httpx.Response:
        wait = self._closed_until - self._clock()
        if wait > 0:
            raise Transient("ForgeRateLimited", f"{self.url} asked us to wait; {wait:.0f} s are left")
        headers = {**self._authorize(), **content.pop("headers", {})}
        try:
            answer = self._http.request(verb, self._address(path), headers=headers, **content)
        except httpx.HTTPError as error:
            self._counted(verb, "none")
            said = "" if isinstance(error, httpx.LocalProtocolError) else str(error)  # which would quote our headers
            words = sanitise(said or type(error).__name__)
            raise Transient("ForgeUnavailable", f"{verb} {self._address(path)}: {words}") from error
        self._counted(verb, str(answer.status_code))
        pause = self._pause(answer)
        if pause > 0:
            self._closed_until = self._clock() + pause
            raise Transient("ForgeRateLimited", f"{self.url} asks us to wait {pause:.0f} s: {_said(answer)}")
        if answer.status_code >= 500 or answer.status_code == 408:
            raise Transient("ForgeUnavailable", self._words(verb, path, answer))
        if answer.has_redirect_location:
            where = _hidden(sanitise(printable(answer.headers.get("Location", ""))), answer.request)[:_WORDS]
            raise Stalled("ForgeMoved", f"{self._address(path)} moved to {where}; correct the repository's address")
        if answer.status_code == 401:
            raise Stalled("ForgeUnauthorized", f"{self.url} does not accept our token: {_said(answer)}")
        return answer

    def _pause(self, answer: httpx.Response) -> float:
        """Give the seconds to wait where the forge asks for it, by status, by header or by a spent quota."""
        headers = answer.headers
        asked = _seconds(headers.get("Retry-After"), self._clock())
        spent = headers.get("X-RateLimit-Remaining", headers.get("RateLimit-Remaining")) == "0"
        refused = answer.status_code == 403 and (spent or asked is not None or "rate limit" in _said(answer).lower())
        limited = refused or answer.status_code == 429
        if answer.status_code == 503 and asked is not None:
            limited = True
        if not limited:
            return 0.0
        if asked is None:
            reset = headers.get("X-RateLimit-Reset", headers.get("RateLimit-Reset", ""))
            asked = float(reset) - self._clock() if reset.isdecimal() else 60.0
        return min(max(asked, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    def _words(self, verb: str, path: str, answer: httpx.Response) -> str:
        return f"{verb} {self._address(path)} answered {answer.status_code}: {_said(answer)}"

    def _address(self, path: str) -> str:
        return path if path.startswith(("https://", "http://")) else self.url + path


def marked(body: str, mark: str) -> str:
    """Give a body that ends with a hidden mark, once."""
    return body if not mark or mark in body else f"{body.rstrip()}\n\n{mark}\n"


def same_text(one: str | None, other: str) -> bool:
    """Whether two texts are the same to a forge, which may change line ends and drop white space at the end."""
    return (one or "").replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()


def fitting(text: str, limit: int) -> str:
    """Give a text of at most ``limit`` characters: what is longer loses its middle, since marks are at the end."""
    if len(text) <= limit:
        return text
    end = min(2_000, limit // 4)
    return f"{text[: limit - end - 7].rstrip()}\n\n…\n\n{text[-end:].lstrip()}"


class PullList:
    """All pull requests towards one branch, read whole once and then only as far as something changed.

    ``pages`` gives what the forge lists, most recently updated first; ``read`` makes (when it was updated, Unix time
    in seconds; the pull request) of one entry, None where it does not concern us. A list may be older than an answer
    to a change: of two tellings the later one holds.
    """

    def __init__(
        self, pages: Callable[[], Iterable[Sequence[Any]]], read: Callable[[Any], tuple[int, PullRequest | None]]
    ) -> None:
        self._pages, self._read = pages, read
        self._lock = threading.Lock()
        self._known: dict[int, tuple[int, PullRequest]] = {}
        self._until = 0

    def refresh(self) -> tuple[PullRequest, ...]:
        """Read what changed since the last time, and give all, oldest first."""
        with self._lock:
            told: list[tuple[int, PullRequest | None]] = []
            for page in self._pages():
                read = [self._read(entry) for entry in page]
                told += read
                if read and self._until and read[-1][0] < self._until - _OVERLAP:
                    break
            for when, pull in told:
                self._take(when, pull)
            self._until = max([self._until, *(when for when, _ in told)])
            return tuple(pull for _, (_, pull) in sorted(self._known.items()))

    def learn(self, entry: Any) -> PullRequest | None:
        """Take in what a change answered, so that it is known before the list tells of it."""
        when, pull = self._read(entry)
        with self._lock:
            self._take(when, pull)
        return pull

    def _take(self, when: int, pull: PullRequest | None) -> None:
        if pull is not None and when >= self._known.get(pull.number, (0, pull))[0]:
            self._known[pull.number] = (when, pull)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        where = sanitise(str(answer.request.url.copy_with(query=None)))
        raise Transient("ForgeUnavailable", f"{where} gave something that is no JSON") from error


def _said(answer: httpx.Response) -> str:
    """Give the forge's own words about an error, one line."""
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    if isinstance(body, dict):
        parts = [body.get("message"), body.get("error"), body.get("errors")]
        body = "; ".join(part if isinstance(part, str) else str(part) for part in parts if part)
    return _hidden(sanitise(printable(" ".join(str(body).split()))), answer.request)[:_WORDS] or "no words"


def _hidden(text: str, request: httpx.Request) -> str:
    """Give words without what we proved ourselves with: there are forges, and proxies before them, that quote it."""
    for name in ("Authorization", "Private-Token"):
        for word in request.headers.get(name, "").split():
            text = text.replace(word, "***") if len(word) >= _SHORTEST_SECRET else text
    return text


def _seconds(text: str | None, now: float) -> float | None:
    """Read Retry-After: seconds, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except ValueError:
        return 60.0
