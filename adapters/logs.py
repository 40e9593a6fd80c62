"""What a process said last, fit for people's eyes: short, plain, and without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|ACCESS_KEY|API_KEY", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/\s@]+@")
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\-_])")
_SHORTEST_SECRET = 6
"""Shorter values would blank out ordinary words."""


def last_words(log: Path, environment: Mapping[str, str], *, limit: int = 500) -> str:
    """Give the end of a log in at most ``limit`` characters: at most three lines, plain text, no secret values."""
    return plain(redact(tail(log), environment), limit=limit)


def plain(text: str, *, limit: int = 500) -> str:
    """Give the end of what a process said in at most ``limit`` characters: at most three lines, plain text."""
    lines = [clean for line in redact(text, {}).split("\n") if (clean := _clean(line))]
    return " | ".join(lines[-3:])[-limit:]


def tail(log: Path, size: int = 65536) -> str:
    """Give the last ``size`` bytes of a file as text; empty where there is no file."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - size))
            return stream.read(size).decode(errors="replace")
    except FileNotFoundError:
        return ""


def redact(text: str, environment: Mapping[str, str]) -> str:
    """Blank out the values of variables that are secret by name, and user names and passwords in URLs."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return _USERINFO.sub(r"\1***@", text)


def _clean(line: str) -> str:
    """Give what a terminal would show: after the last carriage return, without escapes and control characters."""
    shown = _ESCAPES.sub("", line.rstrip("\r")).rpartition("\r")[2]
    return "".join(c for c in shown if c.isprintable()).strip()
