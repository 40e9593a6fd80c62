"""How we get into a forge: a token that is read again when its file changes, and the same token for git."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from specs.errors import Stalled, Transient

Token = Callable[[], str]
"""Gives a token that holds now; Stalled or Transient where there is none. Any number of threads may ask."""


class TokenFile:
    """A token in a file, which somebody else renews: a Secret that is mounted, a vault's sidecar."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[tuple[int, int, int], str] | None = None

    def __call__(self) -> str:
        """Give the token; Stalled ``TokenMissing`` where the file cannot be read or is empty."""
        try:
            about = self._path.stat()
            version = (about.st_ino, about.st_mtime_ns, about.st_size)
            known = self._read
            if known is None or known[0] != version:
                self._read = known = (version, self._path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds something that is no token"
            raise Stalled("TokenMissing", f"the forge's token cannot be read from {self._path}: {why}") from None
        if not known[1] or len(known[1].split()) != 1:
            raise Stalled("TokenMissing", f"{self._path} must hold the forge's token, one word and nothing else")
        return known[1]


def bearer(token: Token) -> Callable[[], Mapping[str, str]]:
    """Give the headers that carry a token: GitHub, GitLab, Gitea and Forgejo all take it like that."""
    return lambda: {"Authorization": f"Bearer {token()}"}


class CredentialsFile:
    """A file in the format of git's ``store`` helper that holds today's token for one address.

    git forgets in it what a server refused, so it is compared each time, and replaced whole where it differs. Only its
    owner may read it.
    """

    def __init__(self, path: Path, address: str, user: str, token: Token) -> None:
        self._path, self._user, self._token = path.absolute(), user, token
        self._host = urlsplit(address).netloc
        self._writing = threading.Lock()

    def __call__(self) -> Path:
        """Bring the file up to date and give its path."""
        line = f"https://{quote(self._user, safe='')}:{quote(self._token(), safe='')}@{self._host}\n"
        try:
            with self._writing:
                if not self._path.is_file() or self._path.read_text(encoding="ascii") != line:
                    self._write(line)
        except OSError as error:
            raise Transient("CredentialsUnwritable", f"{self._path} cannot be written: {error.strerror}") from None
        return self._path

    def _write(self, line: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".credentials-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(line)
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
