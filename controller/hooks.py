"""What a webhook means: who signed it, and whom to wake. It decides nothing else, and is parsed as little as can be.

Whoever knows a secret may ask for a look; what there is to see, only the look itself tells.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from threading import Lock

log = logging.getLogger("trunkline.webhooks")

Headers = Mapping[str, str]
"""Of a request; names in any case."""

SIGNATURES: Mapping[str, tuple[str, ...]] = {
    "local": ("X-Hub-Signature-256",),
    "github": ("X-Hub-Signature-256",),
    "gitea": ("X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"),
    "gitlab": ("X-Gitlab-Token",),
}
"""By kind of forge: the headers that prove who sent a webhook."""
_DELIVERIES = ("X-GitHub-Delivery", "X-Forgejo-Delivery", "X-Gitea-Delivery", "X-Gitlab-Event-UUID", "Idempotency-Key")
"""Not ``X-Gitlab-Webhook-UUID``, which is the same for all that one webhook ever delivers."""
WINDOW, _REMEMBERED = 600.0, 2_000
"""Seconds, and number, of deliveries that are known again."""
_SECRET_BYTES = 8_192
_HEADER_CHARACTERS = 512


class Outcome(StrEnum):
    """What became of a webhook."""

    WOKE = "woke"
    DUPLICATE = "duplicate"
    OTHER = "other"
    """Signed, but about a repository that is none of ours."""
    REFUSED = "refused"
    OVERSIZED = "oversized"
    BROKEN = "broken"
    """It never arrived whole."""


@dataclass(frozen=True)
class Hook:
    """One repository whose forge may wake us."""

    kind: str
    secret_file: Path
    project: str
    """``owner/name``, as the forge says it."""
    wake: Callable[[], None]


def is_signed(kind: str, headers: Headers, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether a webhook of a kind of forge proves that one of the secrets is known. An empty one never counts."""
    found = [given for name in SIGNATURES[kind] for given in [headers.get(name)] if given]
    return any(_proves(kind, given, body, secret) for given in found for secret in secrets if secret)


def _proves(kind: str, given: str, body: bytes, secret: bytes) -> bool:
    if len(given) > _HEADER_CHARACTERS:
        return False
    told = given.encode("utf-8", "surrogateescape")
    if kind == "gitlab":
        return hmac.compare_digest(told, secret)
    digest = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
    return hmac.compare_digest(told.removeprefix(b"sha256="), digest)


def may_be_signed(headers: Headers) -> bool:
    """Whether it is worth reading the body at all."""
    return any(headers.get(name) for names in SIGNATURES.values() for name in names)


class Hooks:
    """All repositories whose forges may wake us. Any thread may ask."""

    def __init__(self, hooks: Sequence[Hook], clock: Callable[[], float] = time.monotonic) -> None:
        self._hooks = tuple(hooks)
        self._clock = clock
        self._lock = Lock()
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._unreadable: set[Path] = set()

    def take(self, headers: Headers, body: bytes) -> Outcome:
        """Wake whom a webhook is about: one repository, or all that its secret holds for where it does not say which.

        A body that came before wakes nobody, whatever else it says: replayed, it has the same signature.
        """
        found = {file: self._read(file) for file in {hook.secret_file for hook in self._hooks}}
        signed = [hook for hook in self._hooks if is_signed(hook.kind, headers, body, found[hook.secret_file])]
        if not signed:
            return Outcome.REFUSED
        if self._is_known(headers, body):
            return Outcome.DUPLICATE
        meant = _named(signed, body)
        for hook in meant:
            hook.wake()
        return Outcome.WOKE if meant else Outcome.OTHER

    def _read(self, file: Path) -> list[bytes]:
        """Give the secrets of a file, as they are now: one a line."""
        try:
            with file.open("rb") as stream:
                found = [line.strip() for line in stream.read(_SECRET_BYTES).splitlines() if line.strip()]
        except OSError:
            found = []
        if found:
            self._unreadable.discard(file)
        elif file not in self._unreadable:
            self._unreadable.add(file)
            log.warning("no webhook is accepted for which %s has the secret: it is missing, unreadable or empty", file)
        return found

    def _is_known(self, headers: Headers, body: bytes) -> bool:
        """Whether this delivery, or this very body, came within the window; remembers it."""
        now = self._clock()
        told = [str(headers.get(name))[:_HEADER_CHARACTERS] for name in _DELIVERIES if headers.get(name)]
        names = [f"id {name}" for name in told] + [f"body {hashlib.sha256(body).hexdigest()}"]
        with self._lock:
            while self._seen and (len(self._seen) > _REMEMBERED or next(iter(self._seen.values())) < now - WINDOW):
                self._seen.popitem(last=False)
            known = any(name in self._seen for name in names)
            for name in names:
                self._seen.setdefault(name, now)
        return known


def _named(hooks: Sequence[Hook], body: bytes) -> list[Hook]:
    """Choose among those that share a secret; all of them where the body does not say which it is about."""
    if len(hooks) == 1:
        return list(hooks)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return list(hooks)
    about = told if isinstance(told, dict) else {}
    project, repository = (about.get(name) for name in ("project", "repository"))
    names = [part.get(name) for part, name in ((project, "path_with_namespace"), (repository, "full_name"))
             if isinstance(part, dict)]  # fmt: skip
    wanted = {name.casefold() for name in names if isinstance(name, str) and name}
    return [hook for hook in hooks if not wanted or hook.project.casefold() in wanted]
