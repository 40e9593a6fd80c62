"""From settings to a forge: which kind it is, where it listens, which project, and how we get in."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from adapters.forge_access import CredentialsFile, Token, TokenFile, bearer
from adapters.forge_http import Counted, ForgeClient
from adapters.forge_local import LocalForge
from controller.settings import ForgeSettings, Settings
from reconcilers.ports import Forge, Reviews
from specs.errors import Stalled

_ADAPTERS = {
    "github": ("adapters.forge_github", "GitHubForge"),
    "gitlab": ("adapters.forge_gitlab", "GitLabForge"),
    "gitea": ("adapters.forge_gitea", "GiteaForge"),
}
_KNOWN = {"github.com": "github", "gitlab.com": "gitlab", "codeberg.org": "gitea"}
_ALIASES = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
_ROOTS = {"github": "https://{}/api/v3", "gitlab": "https://{}/api/v4", "gitea": "https://{}/api/v1"}
_USERS = {"github": "x-access-token", "gitlab": "oauth2", "gitea": "oauth2"}
"""What git says as its user beside a token."""
_PACE = {"github": 1.0}
"""Seconds between two changes, where a forge asks for that."""
_SCP = re.compile(r"(?:[^@/]+@)?([^:/]+):(.+)")


class AnyForge(Forge, Reviews, Protocol):
    """What every adapter is: both ports."""


@dataclass(frozen=True)
class Place:
    """A project of a forge behind HTTP."""

    kind: str
    url: str
    project: str


def forge(settings: Settings, counted: Counted = lambda verb, status: None) -> AnyForge:
    """Open the pull requests of the repository; ``counted`` is told verb and status of each request.

    Stalled ``NoForge`` or ``InvalidSettings`` with what to write into the table ``[forge]``.
    """
    if _kind(settings) == "local":
        return local(settings)
    found = place(settings)
    client = ForgeClient(
        found.url, bearer(_token(settings, found)), pace=_PACE.get(found.kind, 0.0), counted=counted
    )
    module, name = _ADAPTERS[found.kind]
    adapter: Callable[..., AnyForge] = getattr(importlib.import_module(module), name)
    return adapter(client, found.project, branch=settings.branch, labels=_table(settings, found.kind).labels)


def local(settings: Settings, actor: tuple[str, str] | None = None) -> LocalForge:
    """Open the pull requests that live in the bare repository, as Trunkline or as ``actor`` (name, email)."""
    kind, path = _kind(settings), settings.local_repository
    if kind != "local":
        text = f"pull requests of this repository live on {place(settings).url}; use its pages, or its own command line"
        raise Stalled("NotLocal", text)
    if path is None:
        text = f"{settings.repository} is not a folder here; the local forge lives inside the bare repository"
        raise Stalled("NoForge", text)
    return LocalForge(path, branch=settings.branch, actor=actor or (settings.author_name, settings.author_email))


def credentials(settings: Settings) -> Path | Callable[[], Path] | None:
    """Give what git says to the repository: the file that is named, else, over HTTPS, the forge's token."""
    if settings.credentials is not None or settings.forge is None or not settings.repository.startswith("https://"):
        return settings.credentials
    if _kind(settings) == "local":
        return None
    found = place(settings)
    file = settings.state / "git" / "credentials"
    return CredentialsFile(file, settings.repository, _USERS[found.kind], _token(settings, found))


def place(settings: Settings) -> Place:
    """Give kind, root of the API and project, as far as they are not written found from the repository's address."""
    kind = _kind(settings)
    table = _table(settings, kind)
    host, path = _address(settings.repository)
    url = table.url.rstrip("/") or (_root(kind, host) if host else "")
    project = table.project.strip("/") or path
    if not url or not project:
        missing = "url" if not url else "project"
        text = f"the forge of {settings.repository} is not known; write `{missing}` into the table [forge]"
        raise Stalled("InvalidSettings", text)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+", project) or (kind != "gitlab" and project.count("/") != 1):
        raise Stalled("InvalidSettings", f"forge.project must be like owner/name, and {project!r} is not")
    if any(mark in url for mark in "@?#"):
        raise Stalled("InvalidSettings", "forge.url must hold no credentials, no ? and no #; use forge.token_file")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose words quote parts of it
        raise Stalled("InvalidSettings", "forge.url cannot be read as a URL") from None
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Stalled("InvalidSettings", "forge.url must begin with https://, since a token goes there")
    return Place(kind, url, project)


def _kind(settings: Settings) -> str:
    if settings.forge is not None:
        return settings.forge.kind
    if settings.local_repository is not None:
        return "local"
    host = _address(settings.repository)[0]
    if host in _KNOWN:
        return _KNOWN[host]
    text = (
        f"{settings.repository} is not a folder here, and nothing says which forge its pull requests live on; write "
        '[forge] with kind = "github", "gitlab" or "gitea" (Forgejo too)'
    )
    raise Stalled("NoForge", text)


def _table(settings: Settings, kind: str) -> ForgeSettings:
    if settings.forge is not None:
        return settings.forge
    raise Stalled("NoForge", f'{settings.repository} needs a table [forge] with kind = "{kind}" and a token_file')


def _address(repository: str) -> tuple[str, str]:
    """Give host and project of a repository's address, empty where it is none or has none."""
    if "://" in repository:
        parts = urlsplit(repository)
        host = "" if parts.scheme == "file" else parts.hostname or ""
        host += f":{parts.port}" if parts.scheme == "https" and parts.port not in (None, 443) else ""
        path = parts.path
    else:
        match = _SCP.fullmatch(repository)
        host, path = (match[1], match[2]) if match and not Path(repository).is_dir() else ("", "")
    return _ALIASES.get(host, host), path.strip("/").removesuffix(".git") if host else ""


def _root(kind: str, host: str) -> str:
    return "https://api.github.com" if (kind, host) == ("github", "github.com") else _ROOTS[kind].format(host)


def _token(settings: Settings, found: Place) -> Token:
    table = _table(settings, found.kind)
    app, installation, key_file = table.app_id, table.installation_id, table.app_key_file
    if table.token_file is not None and app is None and installation is None and key_file is None:
        return TokenFile(table.token_file)
    if table.token_file is None and found.kind == "github" and app and installation and key_file is not None:
        from adapters.forge_github_app import AppToken

        return AppToken(found.url, app=app, installation=installation, key_file=key_file)
    wanted = "token_file" + (", or all of app_id, installation_id and app_key_file" if found.kind == "github" else "")
    raise Stalled("InvalidSettings", f"the table [forge] needs {wanted}, and nothing else of these")
