"""A DVC remote as the data repository's configuration names it, opened by DVC without believing that configuration.

Only where the bytes are is taken from it: nothing that names a command, a file of this machine, a key or a way to
check less. Who we are comes from the job's environment, and what the bytes are from git.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from configobj import ConfigObjError
from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.fs import get_cloud_fs
from dvc_data.hashfile.db import HashFileDB, get_odb
from dvc_objects.fs.errors import RemoteMissingDepsError

from adapters.git_environment import folder_of
from specs.errors import Stalled
from workloads.sources.addresses import Rules
from workloads.sources.dvc_git import is_open

_TAKEN: Mapping[str, frozenset[str]] = {
    "": frozenset(),
    "s3": frozenset({"region", "endpointurl", "use_ssl", "allow_anonymous_login"}),
    "gs": frozenset({"projectname", "endpointurl", "allow_anonymous_login"}),
    "azure": frozenset({"account_name", "allow_anonymous_login"}),
    "http": frozenset(),
    "https": frozenset(),
    "ssh": frozenset({"user", "port"}),
}
"""By protocol: the options that say where the bytes are."""
_OURS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"connect_timeout": 20, "read_timeout": 60},
    "http": {"connect_timeout": 20, "read_timeout": 60},
    "https": {"connect_timeout": 20, "read_timeout": 60},
    "ssh": {"timeout": 60},
}
_PORTS = {"https": 443, "http": 80, "ssh": 22}
_HOPS = 5
"""Remotes that may be written in terms of each other."""


@dataclass(frozen=True)
class Remote:
    """Where the bytes of a data repository are."""

    name: str
    options: Mapping[str, Any]
    """``url``, and what else was taken."""
    passed_over: tuple[str, ...]
    """Options of the configuration that were not."""

    @property
    def shown(self) -> str:
        """Its name and kind, for people; no address, for those may hold secrets."""
        kind = urlsplit(str(self.options["url"])).scheme or "folder"
        besides = f"; its options {', '.join(self.passed_over)} are not used by Trunkline" if self.passed_over else ""
        return f"the remote {self.name} ({kind}{besides})"

    def open(self, *, unified: bool) -> HashFileDB:
        """Open its objects; those of DVC before version 3 where ``unified``. Nothing is asked yet."""
        try:
            cls, config, path = get_cloud_fs({}, **self.options)
            system = cls(**config)
        except RemoteMissingDepsError as error:
            kind = urlsplit(str(self.options["url"])).scheme
            msg = f"{self.shown} needs a part of DVC that is not installed: put dvc[{kind}] into the jobs' image"
            raise Stalled("DataSourceUnsupported", msg) from error
        except (DvcException, ValueError) as error:
            msg = f"{self.shown} cannot be opened ({type(error).__name__}); correct .dvc/config"
            raise Stalled("DataSourceUnsupported", msg) from error
        place = path if unified else system.join(path, "files", "md5")
        found: HashFileDB = get_odb(system, place, hash_name="md5-dos2unix" if unified else "md5")
        return found


def choose(config: Path, name: str | None, repository: str, at: str, rules: Rules) -> Remote:
    """Read DVC's configuration from a file of ours and give the remote of that name, or the default one.

    ``at`` is the configuration's path in the data repository, and ``repository`` that one's address: where it is a
    folder, paths in the configuration are relative to where it is in there. Stalled ``DataSourceUnsupported`` says
    what to write instead; Transient where a host is unknown.
    """
    remotes, default = _read(config)
    wanted = (name or default or "").lower()
    if wanted not in remotes:
        there = f"it has {', '.join(sorted(remotes)[:10])}" if remotes else "it has none"
        what = f"no remote {wanted}" if wanted else "no default remote"
        msg = f"{at} of the data repository has {what}: {there}. Name one as remote, or run `dvc remote default`"
        raise Stalled("DataSourceUnsupported", msg)
    section = _followed(remotes, wanted)
    parts = _parts(section["url"], wanted)
    scheme = parts.scheme
    versioned = any(str(section.get(option)).lower() == "true" for option in ("worktree", "version_aware"))
    if scheme not in _TAKEN or versioned or (scheme and not parts.netloc):
        known = ", ".join(each or "a folder" for each in _TAKEN)
        msg = f"the remote {wanted} is of a kind that Trunkline does not read; it reads {known}, without versions"
        raise Stalled("DataSourceUnsupported", msg)
    options: dict[str, Any] = {key: section[key] for key in sorted(_TAKEN[scheme] & section.keys())}
    options["url"] = str(section["url"]) if scheme else str(_folder(str(section["url"]), wanted, repository, at))
    passed_over = tuple(sorted(section.keys() - options.keys()))
    _check(wanted, options, scheme, rules)
    return Remote(wanted, {**options, **_OURS.get(scheme, {})}, passed_over)


def _read(config: Path) -> tuple[dict[str, dict[str, Any]], str | None]:
    try:
        said = Config.load_file(str(config))
    except (DvcException, ConfigObjError, OSError, RecursionError, ValueError) as error:
        msg = f"DVC's configuration in the data repository cannot be read ({type(error).__name__}); correct it"
        raise Stalled("DataSourceUnsupported", msg) from error
    core, remotes = said.get("core"), said.get("remote")
    default = core.get("remote") if isinstance(core, dict) else None
    found = remotes if isinstance(remotes, dict) else {}
    return {
        str(name).lower(): section
        for name, section in found.items()
        if isinstance(section, dict) and isinstance(section.get("url"), str)
    }, default if isinstance(default, str) else None


def _followed(remotes: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Give a remote's options, those of the remotes that its address is written in terms of included."""
    section = dict(remotes[name])
    for _ in range(_HOPS):
        parts = _parts(section["url"], name)
        if parts.scheme != "remote":
            return section
        base = remotes.get(parts.netloc.lower())
        if base is None:
            break
        section = {**base, **section, "url": f"{base['url'].rstrip('/')}/{parts.path.lstrip('/')}"}
    msg = f"the remote {name} is written in terms of a remote that is not there, or of itself; correct .dvc/config"
    raise Stalled("DataSourceUnsupported", msg)


def _folder(written: str, name: str, repository: str, at: str) -> Path:
    """Give the folder of a remote on this machine, if that may be read."""
    root = folder_of(repository)
    if root is None and not written.startswith("/"):
        msg = (
            f"the remote {name} is a folder beside a copy of the data repository, which only its owner has; "
            "use a remote that others can reach"
        )
        raise Stalled("DataSourceUnsupported", msg)
    found = ((root or Path("/")) / at).parent.joinpath(written).resolve()
    if not is_open(found):
        msg = (
            f"the remote {name} is a folder on this machine, and is read only if the settings say so: put it, or a "
            "folder above it, into allow_folders of [data]"
        )
        raise Stalled("DataSourceUnsupported", msg)
    return found


def _check(name: str, options: Mapping[str, Any], scheme: str, rules: Rules) -> None:
    """Refuse hosts that nobody may go to. Where no host is named, it is the provider's, or the environment's."""
    named = options.get("endpointurl", "") if scheme in ("s3", "gs") else options["url"]
    if scheme in ("", "azure") or not named:
        return
    parts = _parts(str(named), name)
    host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 443)
    if host is None or parts.scheme not in _PORTS or (parts.username is not None and scheme != "ssh"):
        msg = f"the address of the remote {name} cannot be used: it needs a host, and neither user nor password"
        raise Stalled("DataSourceUnsupported", msg)
    rules.addresses(host, port)


def _parts(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose words quote parts of it
        msg = f"the address of the remote {name} cannot be used: it is no URL"
        raise Stalled("DataSourceUnsupported", msg) from None
    return parts
