"""The Ultralytics Platform by its REST API, as far as data sets need it: which versions there are, and their exports.

Facts from its published OpenAPI description: versions are immutable and numbered from 1; most have a ``contentHash``;
an export is a signed URL of an NDJSON file. How the hash is computed is not published, so nobody here can compute it.
"""

from __future__ import annotations

import functools
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from adapters.git_environment import printable, sanitise
from specs.data import PlatformSource
from specs.errors import Stalled, Transient
from specs.monitoring import OnData

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_WORDS = 300
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 3600.0


@functools.cache
def _trusted() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@dataclass(frozen=True)
class Version:
    """One version of a data set."""

    number: int
    content_hash: str
    """Opaque; empty where the Platform has none."""
    images: int


class Platform:
    """Asks the Platform at ``url`` with the key in ``key_file``, read before each request since keys are replaced.

    Any method may raise Transient ``DataSourceUnreachable`` (also while the Platform asks to wait), and Stalled
    ``PlatformUnauthorized``, ``DataMissing`` or ``DataSourceUnsupported``. Any number of threads may ask.
    """

    def __init__(
        self, url: str, key_file: Path, *, timeout: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.url = url.rstrip("/")
        self._key_file, self._clock = key_file, clock
        agent = {"User-Agent": "trunkline"}
        self._http = httpx.Client(timeout=timeout, headers=agent, follow_redirects=False, verify=_trusted())
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def versions(self, uri: str) -> list[Version]:
        """Give the versions of ``ul://OWNER/datasets/NAME``, oldest first."""
        answer = self._get(uri)
        found = answer.get("dataset", {}).get("versions", []) if isinstance(answer.get("dataset"), dict) else []
        try:
            versions = [
                Version(int(each["version"]), str(each.get("contentHash") or ""), int(each["imageCount"]))
                for each in found
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise self._odd(uri) from error
        return sorted(versions, key=lambda version: version.number)

    def export(self, uri: str, number: int) -> str:
        """Give a URL from which the NDJSON export of a version can be fetched for some days. It is a secret."""
        answer = self._get(uri, "/export", v=number)
        if answer.get("version") != number or not isinstance(answer.get("downloadUrl"), str):
            raise self._odd(uri)
        return str(answer["downloadUrl"])

    def close(self) -> None:
        """End all connections."""
        self._http.close()

    def _get(self, uri: str, what: str = "", **parameters: int) -> dict[str, Any]:
        owner, name = _parts(uri)
        wait = self._closed_until - self._clock()
        if wait > 0:
            raise Transient("DataSourceUnreachable", f"{self.url} asked us to wait; {wait:.0f} s are left")
        address = f"{self.url}/api/datasets/{owner}/{name}{what}"
        try:
            answer = self._http.get(address, params=parameters, headers=self._authorization())
        except httpx.HTTPError as error:
            words = sanitise(type(error).__name__ if isinstance(error, httpx.LocalProtocolError) else str(error))
            raise Transient("DataSourceUnreachable", f"{address}: {words or type(error).__name__}") from error
        self._demand(answer, uri, address)
        try:
            found = answer.json()
        except ValueError as error:
            raise self._odd(uri) from error
        if not isinstance(found, dict):
            raise self._odd(uri)
        return found

    def _authorization(self) -> dict[str, str]:
        try:
            key = self._key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"the Platform's key cannot be read from {self._key_file}; write it there (data.platform_key_file)"
            raise Stalled("PlatformUnauthorized", msg) from error
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            msg = f"{self._key_file} holds no key of the Platform; write one line there"
            raise Stalled("PlatformUnauthorized", msg)
        return {"Authorization": f"Bearer {key}"}

    def _demand(self, answer: httpx.Response, uri: str, address: str) -> None:
        status = answer.status_code
        if status == 200:
            return
        words = f"{address} answered {status}: {self._said(answer)}"
        if status == 429 or (status == 503 and "Retry-After" in answer.headers):
            asked = answer.headers.get("Retry-After", "")
            pause = min(max(float(asked) if asked.isdecimal() else 60.0, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            with self._lock:
                self._closed_until = self._clock() + pause
            raise Transient("DataSourceUnreachable", f"{self.url} asks us to wait {pause:.0f} s: {self._said(answer)}")
        if status >= 500 or status == 408:
            raise Transient("DataSourceUnreachable", words)
        if status in {401, 403}:
            msg = f"{words}; the key in {self._key_file} must be one that may read {uri}"
            raise Stalled("PlatformUnauthorized", msg)
        if status == 404:
            msg = f"the Platform has no such data set, or no such version, or hides it from our key: {uri}"
            raise Stalled("DataMissing", msg)
        raise Stalled("DataSourceUnsupported", words)

    def _said(self, answer: httpx.Response) -> str:
        """Give the Platform's own words about an error, one line, without our key."""
        try:
            body = answer.json()
        except ValueError:
            body = {}
        said = str(body.get("error", "")) if isinstance(body, dict) else ""
        key = answer.request.headers.get("Authorization", "").partition(" ")[2]
        return sanitise(printable(" ".join(said.split()))).replace(key or "\0", "***")[:_WORDS] or "no words"

    def _odd(self, uri: str) -> Transient:
        return Transient("DataSourceUnreachable", f"{self.url} did not answer as described when asked about {uri}")


class DataPlatform:
    """Resolves and follows data sets on the Platform for the control plane. Errors as ``Platform`` has them."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def resolve(self, source: PlatformSource) -> PlatformSource:
        """Give a data set with version and content hash: those that it names, else the newest ones.

        Stalled ``DataMissing`` where there is no such version; ``DataSourceUnsupported`` where it has no content hash.
        """
        found = version_of(self._platform, source)
        if not found.content_hash:
            msg = (
                f"version {found.number} of {source.uri} has no content hash, so that nothing could be pinned; "
                "save a new version on the Platform"
            )
            raise Stalled("DataSourceUnsupported", msg)
        return source.model_copy(update={"version": found.number, "digest": found.content_hash})

    def newest(self, source: PlatformSource, follow: OnData) -> PlatformSource:
        """Give the newest version, pinned, whatever the source is pinned to.

        Versions there are numbers: Stalled ``DataSourceUnsupported`` where ``follow`` names a branch or tags.
        """
        if follow.branch is not None or follow.tags is not None:
            msg = "triggers.onData: the Platform has neither branches nor tags, only versions; write onData: true"
            raise Stalled("DataSourceUnsupported", msg)
        return self.resolve(PlatformSource(uri=source.uri))


def version_of(platform: Platform, source: PlatformSource) -> Version:
    """Give the version that a source names: by number, else the newest with its digest, else the newest of all.

    Stalled ``DataMissing`` where there is none.
    """
    versions = platform.versions(source.uri)
    if source.version is not None:
        fitting = [each for each in versions if each.number == source.version]
        wanted = f"version {source.version}"
    elif source.digest is not None:
        fitting = [each for each in versions if each.content_hash == source.digest]
        wanted = f"version with the content hash {source.digest}"
    else:
        fitting, wanted = versions, "saved version"
    if not fitting:
        msg = f"{source.uri} has no {wanted}; save one on the Platform, or correct what git names"
        raise Stalled("DataMissing", msg)
    return fitting[-1]


def _parts(uri: str) -> tuple[str, str]:
    parts = uri.removeprefix("ul://").split("/")
    if len(parts) != 3 or parts[1] != "datasets" or not (_NAME.fullmatch(parts[0]) and _NAME.fullmatch(parts[2])):
        words = "names no data set on the Platform; it must be ul://OWNER/datasets/NAME, in small letters"
        msg = f"{uri.partition('?')[0]} {words}"
        raise Stalled("DataSourceUnsupported", msg)
    return parts[0], parts[2]
