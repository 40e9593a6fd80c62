"""Where a data job may go: which network addresses are public, and what a data set's URL may look like. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

ARCHIVES = {
    ".zip": "zip", ".tar": "tar", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tbz2": "bz2", ".tar.xz": "xz",
    ".txz": "xz", ".tar.zst": "zst", ".tzst": "zst",
}  # fmt: skip
"""What the path of an archive's URL ends in, and how it is packed."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4",
        "64:ff9b:1::/48", "100::/64", "2001::/23", "fec0::/10",
    )
)  # fmt: skip
"""Carriers' and benchmarks' own networks, tunnels, old site-local ones: public to nobody, whatever libraries think."""


def is_public(text: str) -> bool:
    """Whether an IP address is on the public internet, also where IPv6 wraps an IPv4 address; False for no address."""
    try:
        address: _Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return _public(address)


def _public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return _public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return _public(inner)
        if address in _IPV4_COMPATIBLE:
            return False
    if any(address.version == network.version and address in network for network in _NEVER):
        return False
    return address.is_global and not (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified
    )  # fmt: skip


def packed_as(url: str) -> str | None:
    """Give how the archive behind a URL is packed (``zip``, ``tar``, ``gz`` …), or None where it names no archive."""
    path = urlsplit(url).path.lower()
    return next((kind for suffix, kind in ARCHIVES.items() if path.endswith(suffix)), None)


def shown(url: str) -> str:
    """Give a URL as it may be printed: without user, password, query and fragment, where secrets may be."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "something that is no URL"
    plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "".join(char if char.isprintable() else "\ufffd" for char in plain)


def fault(url: str) -> str:
    """Say what is wrong with the URL of a data set, or nothing. Quotes nothing that may be a secret."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return "is no URL"
    if "@" in parts.netloc:
        return "must hold no user and no password; the job's environment has what it proves itself with"
    match parts.scheme:
        case "http" | "https":
            return "" if parts.hostname else "names no host"
        case "s3" | "gs":
            return _bucket_fault(parts)
        case "file":
            return "" if parts.netloc in ("", "localhost") and _plain(parts) else "must be file:///folder/…"
        case "store":
            return ""
        case unknown:
            return f"begins with {unknown}://; known are store, s3, gs, https, http and file"


def _bucket_fault(parts: SplitResult) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,221}", parts.netloc):
        return "names no bucket"
    if parts.query or parts.fragment:
        return "must have no ? and no #"
    return "" if _plain(parts) else "must have no . and no .. in its path"


def _plain(parts: SplitResult) -> bool:
    return not {".", ".."} & set(unquote(parts.path).split("/"))
