"""Settings: read once, from ``trunkline.toml`` and the environment, into one plain value."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from adapters.git_environment import check_url
from adapters.tracking_access import TOKEN_FILE
from controller import binding_rules
from controller.device_settings import DeviceSettings
from controller.setting_tables import (
    AlertSettings,
    BindingSettings,
    ClusterSettings,
    DataSettings,
    ForgeSettings,
    LabellingSettings,
    MonitoringSettings,
    ProvenanceSettings,
    SigningSettings,
    Table,
    TrackingSettings,
)
from specs.digests import digest_of
from specs.errors import Stalled

__all__ = [
    "BindingSettings", "ClusterSettings", "DataSettings", "ForgeSettings", "MonitoringSettings", "ProvenanceSettings",
    "Settings", "SigningSettings", "TrackingSettings", "find_file", "load",
]  # fmt: skip

FILE_NAME = "trunkline.toml"
_PREFIX = "TRUNKLINE_"
_TABLES = {
    "kubernetes", "forge", "provenance", "bindings", "signing", "data", "tracking", "monitoring", "alerts", "labelling",
    "device",
}  # fmt: skip
"""What is no single value, so that no variable can give it."""


class Settings(Table):
    """Everything that agent, operator and command line need to know about their surroundings."""

    repository: str = ""
    """URL or path of the git repository that holds the ModelSpecs; empty only where ``bindings`` are given."""
    branch: str = "main"
    """The tracked branch: what is on it is what runs."""
    prefix: str = ""
    """Folder in the repository to look for ModelSpecs in."""
    store: str
    """URL of the artifact store: a path, ``file://…`` or ``s3://…``."""
    state: Path
    """Local folder for what can be lost: mirrors, logs, caches, status."""
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    """Of the inference server; 0 picks a free one and keeps it."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """Where the inference server speaks gRPC too; 0 picks a free one at each start, None is nowhere."""
    interval: float = Field(default=2.0, gt=0)
    """Seconds between two looks at the repository."""
    parallel_jobs: int = Field(default=1, ge=1)
    credentials: Path | None = None
    """File that holds what to say to the repository over HTTPS, a line ``https://USER:TOKEN@HOST`` each."""
    forge: ForgeSettings | None = None
    """The table ``[forge]``; a bare repository on this machine needs none."""
    signing: SigningSettings = Field(default_factory=SigningSettings)
    """The table ``[signing]``."""
    data: DataSettings = Field(default_factory=DataSettings)
    """The table ``[data]``."""
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
    """The table ``[tracking]``."""
    monitoring: MonitoringSettings = Field(default_factory=MonitoringSettings)
    """The table ``[monitoring]``."""
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    """The table ``[alerts]``."""
    labelling: LabellingSettings = Field(default_factory=LabellingSettings)
    """The table ``[labelling]``."""
    device: DeviceSettings = Field(default_factory=DeviceSettings)
    """The table ``[device]``."""
    author_name: str = "Trunkline"
    author_email: str = "trunkline@localhost"
    workload_command: list[str] = Field(default_factory=lambda: [sys.executable, "-m", "workloads"])
    server_command: list[str] = Field(default_factory=lambda: [sys.executable, "-m", "workloads.serve"])
    provenance: ProvenanceSettings = Field(default_factory=ProvenanceSettings)
    """The table ``[provenance]``."""
    kubernetes: ClusterSettings | None = None
    """The table ``[kubernetes]``; the operator needs it, the agent does not."""
    bindings: list[BindingSettings] = Field(default_factory=list)
    """The tables ``[[bindings]]``, for an operator with several repositories; they stand instead of ``repository``."""

    @property
    def bound(self) -> tuple[BindingSettings, ...]:
        """All bindings. Where none is given, the one repository binds all namespaces."""
        if self.bindings:
            return tuple(self.bindings)
        one = {name: getattr(self, name) for name in BindingSettings.model_fields.keys() - {"namespaces"}}
        return (BindingSettings(namespaces=["*"], **one),)

    def at(self, binding: BindingSettings) -> Settings:
        """Give the settings as if a binding's repository were the only one, with a state folder of its own."""
        if not self.bindings:
            return self
        own = {name: getattr(binding, name) for name in BindingSettings.model_fields.keys() - {"namespaces"}}
        name = digest_of([binding.repository, binding.branch])[7:19]
        return self.model_copy(update={**own, "bindings": [], "state": self.state / "repositories" / name})

    def job_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Give the variables of a job on this machine; ``environment`` is the agent's own."""
        files = {"TRUNKLINE_CACHE": self.state / "cache", TOKEN_FILE: self.tracking.token_file}
        named = {name: str(file.absolute()) for name, file in files.items() if file}
        return {**self.signing.for_jobs, **self.data.of_agent(environment), **self.tracking.for_jobs, **named}

    @property
    def local_repository(self) -> Path | None:
        """The repository's folder where it is on this machine, so that the local forge can live in it."""
        path = Path(self.repository.removeprefix("file://"))
        return path if path.is_dir() else None


def find_file(start: Path) -> Path | None:
    """Look for ``trunkline.toml`` in a folder and those above it."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def load(start: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that hold in ``start``; the environment wins over the file.

    Relative paths in the file are relative to the file. Stalled ``NoSettings``, ``InvalidSettings`` or ``UnsafeUrl``
    with what to do.
    """
    environment = os.environ if environment is None else environment
    named = environment.get(_PREFIX + "CONFIG")
    file = Path(named) if named else find_file(start.resolve())
    values: dict[str, Any] = {}
    if file is not None:
        values = _read(file)
    for name in Settings.model_fields.keys() - _TABLES:
        given = environment.get(_PREFIX + name.upper())
        if given is not None:
            values[name] = given.split() if name.endswith("_command") else given
    if not (values.get("repository") or values.get("bindings")) or "store" not in values:
        text = f"no {FILE_NAME} here or above; run `trunkline init`, or set {_PREFIX}REPOSITORY and {_PREFIX}STORE"
        raise Stalled("NoSettings", text)
    values.setdefault("state", ".trunkline")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Stalled("InvalidSettings", f"{file or 'environment'}: {faults}") from error
    if settings.repository:
        check_url(settings.repository)  # first of all, for many errors quote it
    faults = "; ".join(binding_rules.faults(settings))
    if faults:
        raise Stalled("InvalidSettings", f"{file or 'environment'}: {faults}")
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Stalled("InvalidSettings", f"{file}: {error}") from error
    bound = values.get("bindings")
    tables = [values, *(each for each in (bound if isinstance(bound, list) else ()) if isinstance(each, dict))]
    for table in tables:
        _place(table, ("repository", "store", "state", "credentials"), file.parent)
        _place(table.get("forge"), ("token_file", "app_key_file", "webhook_secret_file"), file.parent)
    keys = values.get("provenance")
    _place(keys, ("ssh_signers", "ssh_revoked"), file.parent)
    if isinstance(keys, dict) and isinstance(keys.get("gpg_keys"), list):
        keys["gpg_keys"] = [str((file.parent / str(each)).resolve()) for each in keys["gpg_keys"]]
    _place(values.get("signing"), ("key_file",), file.parent)
    if isinstance(values.setdefault("labelling", {}), dict):
        values["labelling"].setdefault("folder", "labels")
    _place(values["labelling"], ("folder",), file.parent)
    for name in ("tracking", "monitoring", "labelling"):
        _place(values.get(name), ("token_file",), file.parent)
    _place(values.get("alerts"), ("urls_file", "alertmanager_token_file"), file.parent)
    _place(values.get("data"), ("credentials", "platform_key_file"), file.parent)
    data = values.get("data")
    if isinstance(data, dict) and isinstance(data.get("allow_folders"), list):
        data["allow_folders"] = [str((file.parent / str(each)).resolve()) for each in data["allow_folders"]]
    return values


def _place(table: Any, names: tuple[str, ...], folder: Path) -> None:
    """Make relative paths of a table relative to a folder; what is no table, or no path, validation tells."""
    for name in names if isinstance(table, dict) else ():
        value = table.get(name)
        if isinstance(value, str) and value and "://" not in value and not _is_remote(value):
            table[name] = str((folder / value).resolve())


def _is_remote(value: str) -> bool:
    """Whether a repository is in scp form, ``user@host:path``."""
    return "@" in value.partition("/")[0] and ":" in value
