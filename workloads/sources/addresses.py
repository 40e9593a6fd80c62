"""Where data jobs connect to: only public addresses, or hosts that the operator named. Checked where it counts.

A name is resolved once; every address that it has must be allowed, and the connection goes to the checked address
itself, so that a second answer of the name server changes nothing. TLS still speaks to, and checks, the name.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterable

import httpx

from specs.addresses import is_public
from specs.errors import Stalled, Transient

HOSTS = "TRUNKLINE_DATA_HOSTS"
"""Variable: hosts that may have private addresses, divided by spaces."""

Resolve = Callable[[str, int], list[str]]
"""Gives the addresses of a host; OSError where it has none."""


def resolve(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host, best first."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def allowed_hosts() -> frozenset[str]:
    """Give the hosts that the operator named."""
    return frozenset(os.environ.get(HOSTS, "").lower().split())


class Rules:
    """Decides where to go. Remembers what it decided, so that a host keeps its addresses while a job runs."""

    def __init__(self, allowed: Iterable[str] = (), resolve: Resolve = resolve) -> None:
        self._allowed = frozenset(allowed)
        self._resolve = resolve
        self._known: dict[tuple[str, int], list[str]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, port: int) -> list[str]:
        """Give the addresses to connect to; Stalled ``AddressRefused``, Transient where the name is unknown."""
        with self._lock:
            if (host, port) not in self._known:
                self._known[host, port] = self._look(host, port)
            return self._known[host, port]

    def _look(self, host: str, port: int) -> list[str]:
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            msg = f"the host {host} is not known: {error}; correct the URL, or try when its name server works again"
            raise Transient("DataSourceUnreachable", msg) from error
        if host.lower().rstrip(".") in self._allowed:
            return found
        private = [address for address in found if not is_public(address)]
        if private or not found:
            msg = (
                f"{host} has the address {', '.join(private) or 'none'}, which is not public: data jobs go there only "
                "where the operator allows it, by data.allow_hosts in trunkline.toml"
            )
            raise Stalled("AddressRefused", msg)
        return found


class Pinned(httpx.BaseTransport):
    """Connects to the addresses that ``rules`` gave. A host has connections of its own: none is used for another."""

    def __init__(self, rules: Rules, verify: ssl.SSLContext) -> None:
        self._rules, self._verify = rules, verify
        self._hosts: dict[tuple[str, str, int], httpx.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the first address that answers; Stalled ``AddressRefused`` without connecting."""
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.raw_host.decode("ascii")
        addresses = self._rules.addresses(host, port)
        transport = self._transport(url.scheme, host, port)
        request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            try:
                return transport.handle_request(_towards(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return transport.handle_request(_towards(request, addresses[-1]))

    def _transport(self, scheme: str, host: str, port: int) -> httpx.HTTPTransport:
        with self._lock:
            key = (scheme, host, port)
            if key not in self._hosts:
                limits = httpx.Limits(max_connections=16, max_keepalive_connections=16)
                self._hosts[key] = httpx.HTTPTransport(verify=self._verify, trust_env=False, limits=limits)
            return self._hosts[key]

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            for transport in self._hosts.values():
                transport.close()


def _towards(request: httpx.Request, address: str) -> httpx.Request:
    """Give the same request to an address; its header ``Host`` stays what the URL says."""
    return httpx.Request(
        request.method, request.url.copy_with(host=address.partition("%")[0]), headers=request.headers,
        stream=request.stream, extensions=request.extensions,
    )  # fmt: skip
