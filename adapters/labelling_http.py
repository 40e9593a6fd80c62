"""What labelling services have in common: where we may go, as whom, and what is made of their answers."""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from adapters.git_environment import sanitise
from specs.errors import Stalled, Transient
from specs.label_records import AskedRecord

Read = Callable[[AskedRecord], bytes]
"""Gives the bytes of a picture."""
Tick = Callable[[], None]
"""Called after each picture."""
_MAX_ANSWER = 256 * 2**20
_PATIENCE = 120.0
"""Seconds that one answer may take in all, however busily it drips."""
_WORDS = 300


@functools.cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@dataclass(frozen=True)
class LabellingAccess:
    """What settings allow: hosts that may be spoken to, and the secret that goes to them and nowhere else."""

    hosts: tuple[str, ...] = ()
    """``labels.example.com``, or with a port ``10.1.2.3:8080``."""
    token_file: Path | None = None
    """Holds a token, or ``USER:PASSWORD``. Read when needed: it may rotate."""

    def check(self, url: str) -> None:
        """Stalled ``LabellingHostNotAllowed`` where settings do not list the host."""
        parts = urlsplit(url)
        if parts.hostname not in self.hosts and parts.netloc not in self.hosts:
            text = f"spec.labelling.queue names {parts.netloc}, which hosts of [labelling] does not list"
            raise Stalled("LabellingHostNotAllowed", text)

    def secret(self) -> str:
        """Give what the file holds, empty where there is none; Transient ``TokenUnreadable``."""
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Transient("TokenUnreadable", f"the token in {self.token_file} cannot be read") from error


class Missing(Stalled):
    """There is no such thing there."""


class Service:
    """One labelling service. ``who`` makes the value of the header Authorization from the secret.

    Transient ``LabellingUnavailable`` where trying again may help; Stalled ``LabellingUnauthorized``, ``Missing``,
    ``LabellingRefused`` where the service said no.
    """

    def __init__(self, url: str, access: LabellingAccess, who: Callable[[str], str], *, timeout: float = 60.0) -> None:
        access.check(url)
        self.url = url.rstrip("/")
        self._access, self._who = access, who
        agent = {"User-Agent": "trunkline"}
        self._http = httpx.Client(timeout=timeout, headers=agent, follow_redirects=False, verify=_trusted())

    def get(self, path: str, **parameters: str | int) -> Any:
        """Ask."""
        return self.send("GET", path, params=parameters)

    def send(self, verb: str, path: str, *, known: bool = True, **content: Any) -> Any:
        """Send something; ``known`` says who we are. ``content`` as httpx has it: json, data, files, params."""
        where = f"{self.url}{path}"
        secret = self._access.secret()
        shown = self._who(secret) if secret and known else ""
        headers = {**content.pop("headers", {}), **({"Authorization": shown} if shown else {})}
        try:
            with self._http.stream(verb, where, headers=headers, **content) as answer:
                body = self._read(answer)
        except httpx.HTTPError as error:
            said = "" if isinstance(error, httpx.LocalProtocolError) else str(error)  # which would quote our headers
            words = sanitise(said) or type(error).__name__
            raise Transient("LabellingUnavailable", f"{where}: {words}") from error
        return self._judged(answer, body, where, (secret, secret.partition(":")[2], shown.partition(" ")[2]))

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def _read(self, answer: httpx.Response) -> bytes:
        until, parts, size = time.monotonic() + _PATIENCE, [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > _MAX_ANSWER or time.monotonic() > until:
                raise Transient("LabellingUnavailable", f"{self.url} gives an answer without end")
        return b"".join(parts)

    def _judged(self, answer: httpx.Response, body: bytes, where: str, secrets: tuple[str, ...]) -> Any:
        status = answer.status_code
        if status < 300:
            return self._json(body, where) if body.strip() else {}
        words = " ".join(body.decode(errors="replace").split())
        words = "".join(char if char.isprintable() else "\ufffd" for char in words)
        for secret in secrets:
            words = words.replace(secret or "\0", "***")
        said = f"{where} answered {status}: {words[:_WORDS] or 'no words'}"
        if status in (408, 425, 429) or status >= 500:
            raise Transient("LabellingUnavailable", said)
        if answer.has_redirect_location:
            raise Stalled("LabellingRefused", f"{where} is elsewhere now; correct the url in spec.labelling.queue")
        if status in (401, 403):
            raise Stalled("LabellingUnauthorized", f"{said}; look at token_file of [labelling]")
        if status == 404:
            raise Missing("LabellingRefused", said)
        raise Stalled("LabellingRefused", said)

    def _json(self, body: bytes, where: str) -> Any:
        try:
            return httpx.Response(200, content=body).json()
        except ValueError as error:
            raise Transient("LabellingUnavailable", f"{where} gave something that is no JSON") from error


def await_end(ask: Callable[[], str], what: str, *, patience: float = 300.0) -> str:
    """Ask until the answer is ``finished`` or ``failed``, and give it; Transient where it takes too long (seconds)."""
    until, pause = time.monotonic() + patience, 0.01
    while (status := ask()) not in ("finished", "failed"):
        if time.monotonic() > until:
            raise Transient("LabellingUnavailable", f"{what} is still {status} after {patience:.0f} s; look there")
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
    return status


def chunks(asked: Sequence[AskedRecord], size: int) -> list[Sequence[AskedRecord]]:
    """Divide into parts of at most ``size``."""
    return [asked[start : start + size] for start in range(0, len(asked), size)]
