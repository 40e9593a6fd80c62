"""Settings: read once, from ``trunkline.toml`` and the environment, into one plain value."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specs.errors import Stalled

FILE_NAME = "trunkline.toml"
_PREFIX = "TRUNKLINE_"


class ClusterSettings(BaseModel):
    """What only the operator needs: how the pods of models are made, and its own pace."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    """Runs jobs. Name it by digest (``…@sha256:…``), so that what was tested is what runs."""
    serve_image: str
    """Runs servers; needs no trainer."""
    workload_command: list[str] = Field(default_factory=lambda: ["python", "-m", "workloads"])
    server_command: list[str] = Field(default_factory=lambda: ["python", "-m", "workloads.serve"])
    job_service_account: str = "trunkline-job"
    serve_service_account: str = "trunkline-serve"
    """Both exist in every namespace with models, and have no rights: their tokens are not mounted."""
    secret: str = ""
    """Name of a Secret in the models' namespaces whose keys become variables of all pods: how they reach the store."""
    store_claim: str = ""
    """Name of a PersistentVolumeClaim in the models' namespaces that holds a ``file://`` store."""
    network_policies: bool = False
    """Whether each server gets a NetworkPolicy that lets in its own port only."""
    namespaces: list[str] = Field(default_factory=list)
    """Namespaces with models; empty means all. kopf is told the same: ``-n`` for each, or ``--all-namespaces``."""
    lease_namespace: str = "trunkline-system"
    poll: float = Field(default=20.0, gt=0)
    """Seconds between two looks at the repository and its pull requests; a spec that changed is looked up at once."""
    workers: int = Field(default=8, ge=1, le=64)
    """Passes at once."""
    resync: float = Field(default=600.0, gt=0)
    """Seconds in which every model is looked at once more although nothing seems to have changed."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Of probes and metrics."""


class ForgeSettings(BaseModel):
    """Where pull requests live, and how to get in. Secrets are named by file and read when needed: they rotate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["local", "github", "gitlab", "gitea"]
    """``gitea`` is Forgejo too; ``local`` keeps pull requests in the bare repository itself."""
    url: str = ""
    """Root of the API, as in ``https://git.example.com/api/v1``; found from the repository's address if empty."""
    project: str = ""
    """``owner/name`` (for GitLab with all groups); found from the repository's address if empty."""
    token_file: Path | None = None
    """Holds a token that may push branches, open pull requests and set statuses."""
    app_id: int | None = None
    installation_id: int | None = None
    app_key_file: Path | None = None
    """Likewise as a GitHub App: its number, its installation's, and its private key in PEM."""
    labels: list[str] = Field(default_factory=lambda: ["trunkline"])
    """Put on every proposal."""
    max_open: int = Field(default=10, ge=1)
    """Proposals that may be open at once in the repository; rollbacks do not count."""
    max_per_hour: int = Field(default=20, ge=1)
    """Proposals that may be opened in one hour; rollbacks do not count."""
    webhook_secret_file: Path | None = None
    """Holds what webhooks are signed with (for GitLab: the token they carry). Without it none is listened to."""


class ProvenanceSettings(BaseModel):
    """What a commit needs to change what runs, beyond being on the tracked branch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    require_signed: bool = False
    """Whether the commit that last changed a model's file must be signed with one of the keys below."""
    ssh_signers: Path | None = None
    """File of SSH keys that are accepted, in ssh-keygen's format of allowed signers: a line `NAME KEYTYPE KEY` each."""
    ssh_revoked: Path | None = None
    """File of SSH keys that are accepted no more: public keys, or a revocation list of OpenSSH."""
    gpg_keys: list[Path] = Field(default_factory=list)
    """Files of OpenPGP public keys that are accepted."""
    require_pull_request: bool = False
    """Whether that commit must have come by a merged pull request."""
    approvals: int = Field(default=0, ge=0)
    """People other than its author who must have approved that pull request's last commit."""
    not_counted: list[str] = Field(default_factory=list)
    """The forge's names for those whose approvals do not count: Trunkline's own account, other programs."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.require_signed and self.ssh_signers is None and not self.gpg_keys:
            raise ValueError("require_signed needs ssh_signers or gpg_keys: without keys nothing is accepted")
        if self.approvals and not self.require_pull_request:
            raise ValueError("approvals needs require_pull_request = true: a direct push has nobody who approves it")
        return self


class Settings(BaseModel):
    """Everything that agent, operator and command line need to know about their surroundings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: str
    """URL or path of the git repository that holds the ModelSpecs."""
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
    interval: float = Field(default=2.0, gt=0)
    """Seconds between two looks at the repository."""
    parallel_jobs: int = Field(default=1, ge=1)
    credentials: Path | None = None
    """File that holds what to say to the repository over HTTPS, a line ``https://USER:TOKEN@HOST`` each."""
    forge: ForgeSettings | None = None
    """The table ``[forge]``; a bare repository on this machine needs none."""
    author_name: str = "Trunkline"
    author_email: str = "trunkline@localhost"
    workload_command: list[str] = Field(default_factory=lambda: [sys.executable, "-m", "workloads"])
    server_command: list[str] = Field(default_factory=lambda: [sys.executable, "-m", "workloads.serve"])
    provenance: ProvenanceSettings = Field(default_factory=ProvenanceSettings)
    """The table ``[provenance]``."""
    kubernetes: ClusterSettings | None = None
    """The table ``[kubernetes]``; the operator needs it, the agent does not."""

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

    Relative paths in the file are relative to the file. Stalled ``NoSettings`` or ``InvalidSettings`` with what to do.
    """
    environment = os.environ if environment is None else environment
    named = environment.get(_PREFIX + "CONFIG")
    file = Path(named) if named else find_file(start.resolve())
    values: dict[str, object] = {}
    if file is not None:
        values = _read(file)
    for name in Settings.model_fields.keys() - {"kubernetes", "forge", "provenance"}:
        given = environment.get(_PREFIX + name.upper())
        if given is not None:
            values[name] = given.split() if name.endswith("_command") else given
    if "repository" not in values or "store" not in values:
        text = f"no {FILE_NAME} here or above; run `trunkline init`, or set {_PREFIX}REPOSITORY and {_PREFIX}STORE"
        raise Stalled("NoSettings", text)
    values.setdefault("state", ".trunkline")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Stalled("InvalidSettings", f"{file or 'environment'}: {faults}") from error


def _read(file: Path) -> dict[str, object]:
    try:
        values: dict[str, object] = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Stalled("InvalidSettings", f"{file}: {error}") from error
    for name in ("repository", "store", "state", "credentials"):
        value = values.get(name)
        if isinstance(value, str) and "://" not in value and not _is_remote(value):
            values[name] = str((file.parent / value).resolve())
    keys = values.get("provenance")
    if isinstance(keys, dict):
        for name in ("ssh_signers", "ssh_revoked"):
            if isinstance(keys.get(name), str):
                keys[name] = str((file.parent / keys[name]).resolve())
        if isinstance(keys.get("gpg_keys"), list):
            keys["gpg_keys"] = [str((file.parent / str(each)).resolve()) for each in keys["gpg_keys"]]
    return values


def _is_remote(value: str) -> bool:
    """Whether a repository is in scp form, ``user@host:path``."""
    return "@" in value.partition("/")[0] and ":" in value
