"""Settings: read once, from ``trunkline.toml`` and the environment, into one plain value."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.git_environment import check_url
from controller import binding_rules
from specs.digests import digest_of
from specs.errors import Stalled
from specs.signatures import KEY_FILE_VARIABLE, TRUSTED_VARIABLE, TrustedKey, encode_keys

FILE_NAME = "trunkline.toml"
_PREFIX = "TRUNKLINE_"


class _Table(BaseModel):
    """A table of ``trunkline.toml``. Unknown fields are errors, and errors do not quote what may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClusterSettings(_Table):
    """What only the operator needs: how the pods of models are made, and its own pace."""

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
    webhook_port: int = Field(default=8081, ge=0, le=65535)
    """Of webhooks; nobody listens there unless some forge has a ``webhook_secret_file``."""


class ForgeSettings(_Table):
    """Where pull requests live, and how to get in. Secrets are named by file and read when needed: they rotate."""

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
    """Holds what webhooks are signed with (for GitLab: the token they carry). Without it none is listened to.

    Of several lines each one holds, so that a secret can be replaced without losing a webhook.
    """


class BindingSettings(_Table):
    """Which namespaces take their ModelSpecs from which repository, branch and folder, and from nowhere else."""

    namespaces: list[str] = Field(min_length=1)
    """By name. One binding may have ``["*"]`` instead: all namespaces that no other one names."""
    repository: str
    branch: str = "main"
    prefix: str = ""
    """Folder that the models' files are below; empty means the whole repository."""
    credentials: Path | None = None
    forge: ForgeSettings | None = None
    """The five of them as at the top level."""


class ProvenanceSettings(_Table):
    """What a commit needs to change what runs, beyond being on the tracked branch."""

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


class SigningSettings(_Table):
    """Who signs artifacts, and whom servers believe. Without any of it nothing is signed and digests alone count."""

    key_file: Path | None = None
    """Private key that the agent's jobs and `trunkline sign` sign with; never read by agent or operator."""
    secret: str = ""
    """Name of a Secret in the models' namespaces that holds the key as ``key.pem``, for jobs in a cluster."""
    trusted: list[TrustedKey] = Field(default_factory=list)
    """Public keys; what none of them signed is never loaded."""

    @property
    def for_servers(self) -> dict[str, str]:
        """Variables of a server: whom to believe."""
        return {TRUSTED_VARIABLE: encode_keys(self.trusted)} if self.trusted else {}

    @property
    def for_jobs(self) -> dict[str, str]:
        """Variables of a job on this machine: whom to believe, and where the key is."""
        return self.for_servers | ({KEY_FILE_VARIABLE: str(self.key_file.absolute())} if self.key_file else {})


class Settings(_Table):
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
    interval: float = Field(default=2.0, gt=0)
    """Seconds between two looks at the repository."""
    parallel_jobs: int = Field(default=1, ge=1)
    credentials: Path | None = None
    """File that holds what to say to the repository over HTTPS, a line ``https://USER:TOKEN@HOST`` each."""
    forge: ForgeSettings | None = None
    """The table ``[forge]``; a bare repository on this machine needs none."""
    signing: SigningSettings = Field(default_factory=SigningSettings)
    """The table ``[signing]``."""
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
    for name in Settings.model_fields.keys() - {"kubernetes", "forge", "provenance", "bindings", "signing"}:
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
