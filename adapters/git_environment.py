"""What git may be asked, and in which surroundings: branch names, paths, addresses, configuration, environment.

Nothing here runs git. Everything that a user can write passes one of the checks before it becomes an argument.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from specs.errors import Stalled, Transient, TrunklineError

_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,/+#=%@-]*")
_BRANCH_LENGTH = 200
LAST_WORDS = 600
"""Characters of git's own words that we pass on."""
_SHORTEST_SECRET = 6
"""Shorter ones would blank out ordinary words."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCP = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9][\w.-]*:(?![/\\]{2})[^:]+")
_SCHEMES = ("file", "https", "ssh")
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s'\"]*@", re.IGNORECASE)
_HEADER = re.compile(r"(authorization|private-token)\s*[:=]\s*\S+(\s+\S+)?", re.IGNORECASE)

_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_ASKPASS": "",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "SSH_ASKPASS": "",
    "XDG_CONFIG_HOME": "/nonexistent",
}
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=3"
_OPERATORS_CHOICE = frozenset({"GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_TRACE"})
"""Variables that whoever starts Trunkline may set; every other ``GIT_*`` variable is taken away from git."""

_CONFIGURATION = (
    "core.hooksPath=/dev/null",
    "core.filesRefLockTimeout=500",
    "core.packedRefsTimeout=500",
    "gc.autoDetach=false",  # nothing may outlive the lock under which it was started
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "log.showSignature=false",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
)


def environment() -> dict[str, str]:
    """Give what git's environment must hold, beyond what this process's own holds already."""
    ssh = {} if "GIT_SSH_COMMAND" in os.environ or "GIT_SSH" in os.environ else {"GIT_SSH_COMMAND": _SSH}
    return _ENVIRONMENT | ssh


def strays() -> tuple[str, ...]:
    """Name the variables of this process that would bend git: ``GIT_DIR`` inside a hook, for instance."""
    known = _OPERATORS_CHOICE | _ENVIRONMENT.keys()
    return tuple(sorted(name for name in os.environ if name.startswith("GIT_") and name not in known))


def configuration(credentials: Path | None = None) -> tuple[str, ...]:
    """Give git's ``-c`` arguments. ``credentials`` is a file in the format of git's own ``store`` helper."""
    settings = list(_CONFIGURATION)
    if credentials is not None:
        settings += ["credential.helper=", f"credential.helper=store --file={shlex.quote(str(credentials))}"]
    return tuple(word for setting in settings for word in ("-c", setting))


def is_commit_name(rev: str) -> bool:
    """Whether ``rev`` is a full object name: 40 (or 64) lower-case hexadecimal digits."""
    return _COMMIT.fullmatch(rev) is not None


def check_branch(name: str) -> str:
    """Give ``name`` back; Stalled ``UnsafeRef`` where it is not a plain branch name.

    Stricter than git: ASCII letters, digits and ``_.,/+#=%@-``, so that it is safe in a shell, a page and a log.
    """
    parts = name.split("/")
    fine = (
        _BRANCH.fullmatch(name) is not None
        and len(name) <= _BRANCH_LENGTH
        and name not in ("HEAD", "@")
        and not name.startswith("refs/")
        and not is_commit_name(name)
        and not any(bad in name for bad in ("..", "@{", "//"))
        and not any(not part or part.startswith((".", "-")) or part.endswith((".", ".lock")) for part in parts)
    )
    if not fine:
        msg = (
            f"{printable(name)!r} is not a branch name Trunkline accepts: use letters, digits and _ . , / + # = % @ -, "
            f"at most {_BRANCH_LENGTH} characters, no part that begins with '.' or '-' or ends with '.' or '.lock'"
        )
        raise Stalled("UnsafeRef", msg)
    return name


def check_commit(rev: str) -> str:
    """Give ``rev`` back; Stalled ``UnsafeRef`` where it is not a full commit name."""
    if not is_commit_name(rev):
        msg = f"{printable(rev)!r} is not a full commit name; give all 40 hexadecimal digits"
        raise Stalled("UnsafeRef", msg)
    return rev


def check_path(path: str) -> str:
    """Give ``path`` back; Stalled ``UnsafePath`` where it could leave the tree or mean something to git itself."""
    parts = path.split("/")
    odd = any(ord(char) < 0x20 or ord(char) == 0x7F or "\ud800" <= char <= "\udfff" for char in path) or "\\" in path
    if not path or odd or len(path.encode(errors="replace")) > 1024 or any(_odd_part(part) for part in parts):
        msg = (
            f"{printable(path)!r} is not a path Trunkline accepts: it must be relative, with '/' between its parts, "
            "without '..', '.git', backslashes or control characters, at most 1024 bytes"
        )
        raise Stalled("UnsafePath", msg)
    return path


def _odd_part(part: str) -> bool:
    # Some file systems drop trailing dots and spaces, ignore case, or know .git by its short name.
    seen = part.casefold().rstrip(" .")
    return part in ("", ".", "..") or seen in ("", ".git", "git~1") or len(part.encode()) > 255


def check_url(url: str) -> str:
    """Give the address as git gets it (local paths made absolute); Stalled ``UnsafeUrl`` with what to write instead."""
    if not url or url.startswith("-") or any(ord(char) <= 0x20 or ord(char) == 0x7F for char in url):
        raise _unsafe(url, "it is empty, begins with '-' or holds spaces or control characters")
    if "::" in url:
        raise _unsafe(url, "remote helpers (ext::, fd:: …) run programs of the address's choice")
    if "://" in url:
        return _check_address(url)
    if _SCP.fullmatch(url) and not PurePosixPath(url).is_absolute():
        return url
    if ":" in url.partition("/")[0]:
        raise _unsafe(url, "it is neither a path nor user@host:path")
    return str(Path(url).absolute())


def _check_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, password, user = parts.hostname or "", parts.password, parts.username
        _ = parts.port
    except ValueError:  # whose words quote parts of it
        raise _unsafe(f"{url.partition('://')[0]}://…", "it cannot be read as a URL") from None
    if parts.scheme not in _SCHEMES:
        raise _unsafe(url, f"the protocol {printable(parts.scheme)!r} is not one of {', '.join(_SCHEMES)}")
    if password is not None or (parts.scheme == "https" and user is not None):
        why = "it holds credentials, which end up in logs and process lists; put them into a credentials file"
        raise _unsafe(url, why)
    if parts.query or parts.fragment:
        raise _unsafe(url, "it holds '?' or '#', where secrets tend to hide")
    if parts.scheme == "file" and host not in ("", "localhost"):
        raise _unsafe(url, "file:// takes a path on this machine, as in file:///srv/models.git")
    if parts.scheme != "file" and not re.fullmatch(r"[a-z0-9:][a-z0-9.:_-]*", host):
        raise _unsafe(url, "its host name is missing or odd")
    if (user or "").startswith("-"):
        raise _unsafe(url, "its user name begins with '-'")
    return url


def _unsafe(url: str, why: str) -> Stalled:
    shown = printable(sanitise(re.sub(r"://.*@|[?#].*", lambda found: "://***@" if "@" in found[0] else "", url)))
    return Stalled("UnsafeUrl", f"Trunkline does not open the repository {shown!r}: {why}. "
                   "Give a path, file:///path, https://host/path or ssh://user@host/path")  # fmt: skip


def host_of(url: str) -> tuple[str, str, int]:
    """Give protocol, host in small letters (none for this machine) and port of an address that ``check_url`` gave."""
    if "://" in url:
        parts = urlsplit(url)
        return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 22)
    host = "" if url.startswith("/") else url.partition(":")[0].rpartition("@")[2]
    return "ssh", host.casefold().rstrip("."), 22


def folder_of(url: str) -> Path | None:
    """Give the folder of this machine that an address that ``check_url`` gave names; None where it is elsewhere."""
    if url.startswith("file:"):
        return Path(unquote(urlsplit(url).path))
    return Path(url) if url.startswith("/") else None


def held_fast(url: str, addresses: Sequence[str]) -> list[str]:
    """Give ``-c`` arguments that keep git at addresses that were checked, and from following whoever sends it on."""
    scheme, host, port = host_of(url)
    settings = ["-c", "http.followRedirects=false"]
    if scheme == "https" and addresses and host not in addresses:
        written = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
        settings += ["-c", f"http.curloptResolve={host}:{port}:{written}"]
    return settings


def printable(text: str) -> str:
    """Give text without lone surrogates, which cannot be written anywhere: they appear as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def sanitise(text: str) -> str:
    """Give git's words without what looks like a credential."""
    return _HEADER.sub(r"\1: ***", _USERINFO.sub(r"\1***@", text))


def hidden(text: str, credentials: Path | None) -> str:
    """Give words without the secrets of a credentials file: there are servers that quote what they refuse."""
    try:
        lines = credentials.read_text().split() if credentials is not None else []
    except (OSError, UnicodeDecodeError):
        return text  # git could not read it either
    for line in lines:
        user, _, secret = line.partition("://")[2].rpartition("@")[0].partition(":")
        plain = unquote(secret)
        both = base64.b64encode(f"{unquote(user)}:{plain}".encode()).decode()
        for word in (both, plain, secret):
            text = text.replace(word, "***") if len(word) >= _SHORTEST_SECRET else text
    return text


def trouble(command: str, status: int, err: str, seconds: float) -> TrunklineError:
    """Say in our words what git says in its own."""
    words = err[-LAST_WORDS:] or f"exit status {status}"
    if "dubious ownership" in words:
        msg = (
            "git refuses the repository because another user owns its folder; give the folder to the user that runs "
            f"Trunkline (chown -R), or run Trunkline as its owner. git says: {words.splitlines()[0]}"
        )
        return Stalled("RepositoryNotOurs", msg)
    if os.strerror(errno.ENOSPC) in words:
        return Transient("DiskFull", f"git {command} found the disk full: {words}")
    if ".lock" in words and "File exists" in words:
        msg = f"another git works on the repository, or one was killed; if none runs, remove the lock file. {words}"
        return Transient("RepositoryBusy", msg)
    if err.startswith("Timeout:") or status < 0:
        return Transient("RepositoryUnavailable", f"git {command} was stopped, or gave no answer in {seconds:g} s")
    return Transient("RepositoryUnavailable", f"git {command} failed: {words}")
