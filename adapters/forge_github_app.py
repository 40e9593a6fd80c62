"""GitHub Apps: sign who we are with the App's private key, and get a token of its installation that holds an hour."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.forge_access import bearer
from adapters.forge_http import ForgeClient, Refused
from specs.errors import Stalled

_MARGIN = 300
"""Seconds before its end that a token is replaced: a push that begins with it may take a while."""
_DRIFT, _VALID = 60, 540
"""Seconds: how much our clock may be ahead of GitHub's, and how long a signature holds (GitHub allows ten minutes)."""


class AppToken:
    """Tokens of installation ``installation`` of App ``app``, signed with the key in ``key_file`` (PEM).

    ``url`` is the root of the REST API; ``clock`` gives Unix time. The key is read each time one is asked for, about
    once an hour, so it may be rotated.
    """

    def __init__(
        self, url: str, *, app: int, installation: int, key_file: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._app, self._installation, self._key_file, self._clock = app, installation, key_file, clock
        self._client = ForgeClient(url, bearer(self._signature), clock=clock)
        self._renewing = threading.Lock()
        self._token, self._until = "", 0.0

    def __call__(self) -> str:
        """Give a token that holds for some minutes at least.

        Stalled ``AppKeyInvalid`` or ``AppNotInstalled``; Transient where GitHub cannot be asked.
        """
        with self._renewing:
            if self._clock() > self._until - _MARGIN:
                self._token, self._until = self._renew()
            return self._token

    def _renew(self) -> tuple[str, float]:
        try:
            answer = self._client.send("POST", f"/app/installations/{self._installation}/access_tokens")
        except Refused as error:
            text = (
                f"GitHub gives App {self._app} no token for installation {self._installation}: {error.message}. "
                "Correct app_id and installation_id, or install the App where the repository is"
            )
            raise Stalled("AppNotInstalled", text) from error
        return answer["token"], datetime.fromisoformat(answer["expires_at"]).timestamp()

    def _signature(self) -> str:
        """Give a JSON Web Token (RFC 7519), signed with RS256."""
        now = int(self._clock())
        claims = {"iat": now - _DRIFT, "exp": now + _VALID, "iss": str(self._app)}
        text = b".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return (text + b"." + _encode(self._key().sign(text, PKCS1v15(), SHA256()))).decode()

    def _key(self) -> RSAPrivateKey:
        try:
            key = load_pem_private_key(self._key_file.read_bytes(), password=None)
        except OSError as error:
            raise Stalled("AppKeyInvalid", f"the App's key {self._key_file}: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None  # what the library says about it might quote it
        if not isinstance(key, RSAPrivateKey):
            text = f"{self._key_file} holds no RSA private key (PEM, no password); download one from the App's page"
            raise Stalled("AppKeyInvalid", text)
        return key


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
