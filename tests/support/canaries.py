"""Distinctive secrets, and the search for them in whatever a program leaves behind."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from tests.support.gitrepo import git


def canary(name: str) -> str:
    """Give a secret that is found nowhere by chance; it has what URLs and shells write differently."""
    return f"cAnArY-{name}/+{name[::-1]}=7"


def leaks(secrets: Iterable[str], left_behind: Mapping[str, bytes]) -> list[str]:
    """Name every place where a secret stands: as it is, as URLs or JSON write it, or in base64."""
    spelled = {spelling: secret for secret in secrets for spelling in _spellings(secret)}
    return sorted({f"{spelled[word]} in {place}" for place, data in left_behind.items() for word in spelled
                   if word.encode() in data})  # fmt: skip


def _spellings(secret: str) -> set[str]:
    found = {secret, quote(secret), quote(secret, safe=""), secret.replace("/", "\\/")}
    for user in ("", ":", "bot:", "x-access-token:"):
        found.add(base64.b64encode(f"{user}{secret}".encode()).decode().rstrip("="))
    return found


def files(folder: Path, *, without: Iterable[Path] = ()) -> dict[str, bytes]:
    """Read everything below a folder, but what is below others."""
    spared = tuple(without)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not any(path.is_relative_to(other) for other in spared)
    }


def repository(path: Path) -> dict[str, bytes]:
    """Read everything that a bare repository has: commits with their messages, files, names of branches."""
    objects = git(path, "cat-file", "--batch", "--batch-all-objects")
    return {"objects": objects.encode("utf-8", "surrogateescape"), "refs": git(path, "for-each-ref").encode()}
