"""Canonical JSON and the digests made of it: the only definition of "the same"."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
"""``sha256:`` and 64 lower-case hexadecimal digits."""


def _normal(value: Any) -> Any:
    """Make values that mean the same look the same: 1.0 is 1, tuples are lists (as in RFC 8785)."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    return value


def canonical(value: Any) -> bytes:
    """Give the one JSON text of ``value``: sorted keys, no spaces, UTF-8; NaN and infinity raise ValueError."""
    text = json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> str:
    """Give ``sha256:…`` of the canonical JSON of ``value``."""
    return digest_bytes(canonical(value))


def tree_digest(files: Iterable[tuple[str, int, str]]) -> str:
    """Name a folder by what is in it: (relative path with ``/``, size in bytes, SHA-256 in hexadecimal) of each file.

    It is the digest of the canonical JSON list of these triples, sorted by path; times, owners and modes have no part.
    """
    return digest_of(sorted([path, size, sha256] for path, size, sha256 in files))


def desired_digest(spec: dict[str, Any]) -> str:
    """Name what a spec asks for, whoever stores it: a field that is null asks for no more than one that is absent."""
    return digest_of(_without_null(spec))


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_null(item) for item in value]
    return value


def digest_bytes(data: bytes) -> str:
    """Give ``sha256:…`` of raw bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hex_of(digest: str) -> str:
    """Give the 64 hexadecimal digits of a digest; ValueError for anything else."""
    if not re.fullmatch(DIGEST_PATTERN, digest):  # match would take a line break at the end
        msg = f"not a sha256 digest: {digest!r}"
        raise ValueError(msg)
    return digest.removeprefix("sha256:")


def short(digest: str) -> str:
    """Give the first 12 hexadecimal digits, enough for people and names."""
    return digest.rpartition(":")[2][:12]


def _no_control(text: str) -> str:
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        msg = "must not contain control characters"
        raise ValueError(msg)
    return text


PlainText = Annotated[str, AfterValidator(_no_control)]
"""Text that is safe to print on one line."""
