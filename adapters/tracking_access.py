"""Who may be told about runs, and as whom. A spec names a tracking server; only settings let a token go there."""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from specs.errors import Stalled, Transient

HOSTS = "TRUNKLINE_TRACKING_HOSTS"
TOKEN_FILE = "TRUNKLINE_TRACKING_TOKEN_FILE"  # noqa: S105  its name


@dataclass(frozen=True)
class Access:
    """What settings allow. Without ``hosts`` a spec may name any server, and none of them gets a token."""

    hosts: tuple[str, ...] = ()
    """``mlflow.example.com``, or with a port ``10.1.2.3:5000``; where there are any, no other host is spoken to."""
    token_file: Path | None = None
    """Holds a token, or ``USER:PASSWORD``. Read when needed: it may rotate."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Access:
        """Read what a job was given."""
        file = environment.get(TOKEN_FILE)
        hosts = tuple(environment.get(HOSTS, "").split())
        return cls(hosts, Path(file) if file else None)

    def check(self, uri: str) -> None:
        """Stalled ``TrackingHostNotAllowed`` where nothing may be sent; Transient where its name is not known now.

        Addresses of the link itself (where clouds answer with credentials) are nobody's tracking server.
        """
        parts = urlsplit(uri)
        if self.hosts and not self._is_listed(uri):
            text = f"spec.tracking.mlflow.trackingUri names {parts.netloc}, which [tracking] hosts does not list"
            raise Stalled("TrackingHostNotAllowed", text)
        try:
            found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Transient("TrackingUnavailable", f"the host of {uri} cannot be found: {error.strerror}") from error
        for *_, address in found:
            plain = ipaddress.ip_address(str(address[0]).partition("%")[0])
            mapped = plain.ipv4_mapped if isinstance(plain, ipaddress.IPv6Address) else None
            if (mapped or plain).is_link_local or (mapped or plain).is_multicast:
                raise Stalled("TrackingHostNotAllowed", f"{uri} leads to {plain}, where no tracking server can be")

    def secret(self, uri: str) -> tuple[str, str]:
        """Give user (empty for a bare token) and secret to send to ``uri``; both empty where none may be.

        Transient ``TokenUnreadable`` where the file cannot be read.
        """
        if self.token_file is None or not self._is_listed(uri):
            return "", ""
        try:
            text = self.token_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Transient("TokenUnreadable", f"the token in {self.token_file} cannot be read") from error
        user, colon, password = text.strip().partition(":")
        return (user, password) if colon else ("", user)

    def headers(self, uri: str) -> dict[str, str]:
        """Give the headers that say who we are."""
        user, secret = self.secret(uri)
        if not secret:
            return {}
        both = base64.b64encode(f"{user}:{secret}".encode()).decode()
        return {"Authorization": f"Basic {both}" if user else f"Bearer {secret}"}

    def _is_listed(self, uri: str) -> bool:
        parts = urlsplit(uri)
        return parts.hostname in self.hosts or parts.netloc in self.hosts
