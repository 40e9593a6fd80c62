"""The tables of ``trunkline.toml``, each a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adapters.labelling_http import LabellingAccess
from adapters.tracking_access import HOSTS, Access
from specs.signatures import KEY_FILE_VARIABLE, TRUSTED_VARIABLE, TrustedKey, encode_keys

_CREDENTIALS, _KEY = "TRUNKLINE_DATA_CREDENTIALS", "TRUNKLINE_PLATFORM_KEY_FILE"


class Table(BaseModel):
    """A table of ``trunkline.toml``. Unknown fields are errors, and errors do not quote what may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClusterSettings(Table):
    """What only the operator needs: how the pods of models are made, and its own pace."""

    image: str
    """Runs jobs. Name it by digest (``…@sha256:…``), so that what was tested is what runs."""
    serve_image: str
    """Runs servers; needs no trainer."""
    workload_command: list[str] = Field(default_factory=lambda: ["python", "-m", "workloads"])
    server_command: list[str] = Field(default_factory=lambda: ["python", "-m", "workloads.serve"])
    triton_image: str = ""
    """NVIDIA Triton, for models with ``serving.backend: Triton``; without it none can be served so."""
    triton_command: list[str] = Field(default_factory=lambda: ["tritonserver"])
    triton_repository_command: list[str] = Field(
        default_factory=lambda: ["python", "-m", "workloads.triton_repository"]
    )
    """Writes Triton's model repository, in an init container of ``serve_image``."""
    kserve_mode: Literal["Knative", "Standard"] = "Knative"
    """How KServe runs models with ``serving.backend: KServe``; those that are there keep theirs."""
    job_service_account: str = "trunkline-job"
    serve_service_account: str = "trunkline-serve"
    """Both exist in every namespace with models, and have no rights: their tokens are not mounted."""
    secret: str = ""
    """Name of a Secret in the models' namespaces whose keys become variables of all pods: how they reach the store."""
    store_claim: str = ""
    """Name of a PersistentVolumeClaim in the models' namespaces that holds a ``file://`` store."""
    cache_claim: str = ""
    """Name of a PersistentVolumeClaim there that jobs share as a cache of data and models; it can be lost."""
    network_policies: bool = False
    """Whether each server gets a NetworkPolicy that lets in its own ports only."""
    grpc: bool = False
    """Whether servers speak gRPC too, on port 8001."""
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


class ForgeSettings(Table):
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


class BindingSettings(Table):
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


class ProvenanceSettings(Table):
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


class SigningSettings(Table):
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


class DataSettings(Table):
    """What data sets outside the store may be read, and as whom. Specs name places; only this lets anybody go there."""

    credentials: Path | None = None
    """File that holds what to say to data repositories over HTTPS, a line ``https://USER:TOKEN@HOST`` each."""
    platform_url: str = "https://platform.ultralytics.com"
    platform_key_file: Path | None = None
    """Holds a key of the Ultralytics Platform."""
    allow_hosts: list[str] = Field(default_factory=list)
    """Hosts that data may be fetched from although their addresses are private: ``minio.data.svc``, ``10.1.2.3`` …"""
    allow_folders: list[Path] = Field(default_factory=list)
    """Folders that ``file://`` data, and data repositories on this machine, may lie below."""
    environment: list[str] = Field(default_factory=list)
    """Variables that fetching needs, such as ``GOOGLE_APPLICATION_CREDENTIALS``: the agent passes its own on to its
    jobs, in a cluster ``secret`` has them."""
    secret: str = ""
    """Name of a Secret in the models' namespaces, for those jobs in a cluster that fetch data.

    ``git-credentials`` and ``platform-key`` in it are what ``credentials`` and ``platform_key_file`` are here, where
    those are given; and it has the variables of ``environment``.
    """
    poll: float = Field(default=60.0, gt=0)
    """Seconds between two looks at a data repository."""

    @property
    def for_jobs(self) -> dict[str, str]:
        """Variables of every job: where data may come from."""
        found = {
            "TRUNKLINE_DATA_HOSTS": " ".join(self.allow_hosts),
            "TRUNKLINE_DATA_FOLDERS": ":".join(str(folder.absolute()) for folder in self.allow_folders),
            "TRUNKLINE_PLATFORM_URL": self.platform_url if self.platform_key_file else "",
        }
        return {name: value for name, value in found.items() if value}

    @property
    def secret_files(self) -> dict[str, str]:
        """Variables of a job that fetches data in a cluster, each with the Secret's key whose file it names."""
        asked = ((self.credentials, _CREDENTIALS, "git-credentials"), (self.platform_key_file, _KEY, "platform-key"))
        return {variable: key for file, variable, key in asked if file}

    def of_agent(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables of a job on this machine, with those that the agent passes on."""
        passed = {name: environment[name] for name in self.environment if name in environment}
        files = {_CREDENTIALS: self.credentials, _KEY: self.platform_key_file}
        return {**passed, **self.for_jobs, **{name: str(file.absolute()) for name, file in files.items() if file}}


class MonitoringSettings(Table):
    """Where live traffic is counted. Without ``prometheus_url`` the servers themselves are asked."""

    prometheus_url: str = ""
    """Root of Prometheus' HTTP API, as ``http://prometheus.monitoring.svc:9090``."""
    token_file: Path | None = None
    """Holds a bearer token for it, or ``USER:PASSWORD``."""
    poll: float = Field(default=15.0, gt=0)
    """Seconds between two looks; windows shorter than four of them are looked at four times each."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if self.token_file and not self.prometheus_url:
            raise ValueError("token_file needs prometheus_url: servers want no token")
        parts = urlsplit(self.prometheus_url)
        if self.prometheus_url and (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc):
            text = "prometheus_url must be an address like http://prometheus:9090, with no name or secret in it"
            raise ValueError(f"{text}: a token goes into token_file")
        return self


class AlertSettings(Table):
    """Who is told when a signal begins or ceases to fire, a live gate fails, or a model stalls."""

    urls_file: Path | None = None
    """Holds a line for each place, as Apprise writes them: ``slack://…``, ``msteams://…``, ``mailtos://…``, ``jsons://…``;
    empty lines and those that begin with # do not count."""
    group_wait: float = Field(default=10.0, ge=0)
    """Seconds in which messages are gathered: many models with one cause are one message."""
    repeat: float = Field(default=86_400.0, gt=0)
    """Seconds after which what still fires is told again."""
    alertmanager_url: str = ""
    """Root of an Alertmanager that is told as well: it groups, silences and routes by itself."""
    alertmanager_token_file: Path | None = None
    """Holds a bearer token for it."""


class LabellingSettings(Table):
    """Labelling services that specs may name, and how to get in."""

    hosts: list[str] = Field(default_factory=list)
    """Hosts of Label Studio and CVAT that specs may name; a token goes there and nowhere else."""
    token_file: Path | None = None
    """Holds a token, or ``USER:PASSWORD``."""
    folder: Path = Path("labels")
    """Folder that queues of the kind ``directory`` lie below."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if self.token_file and not self.hosts:
            raise ValueError("token_file needs hosts: without them a spec could have the token sent anywhere")
        return self

    @property
    def access(self) -> LabellingAccess:
        """The same for ourselves."""
        return LabellingAccess(tuple(self.hosts), self.token_file)


class TrackingSettings(Table):
    """Which tracking servers may be told about runs, and how to get in."""

    hosts: list[str] = Field(default_factory=list)
    """Hosts that specs may name, as ``mlflow.example.com`` or ``10.1.2.3:5000``; empty means any, without a token."""
    token_file: Path | None = None
    """Holds a token for MLflow, or ``USER:PASSWORD``. It goes to ``hosts`` and nowhere else."""
    secret: str = ""
    """Name of a Secret in the models' namespaces that holds it as ``token``, for jobs in a cluster."""
    poll: float = Field(default=60.0, gt=0)
    """Seconds between two looks at what is registered; five times as long after trouble."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Self:
        if (self.token_file or self.secret) and not self.hosts:
            raise ValueError("token_file and secret need hosts: without them a spec could have the token sent anywhere")
        return self

    @property
    def for_jobs(self) -> dict[str, str]:
        """Variables of every job: who may be told."""
        return {HOSTS: " ".join(self.hosts)} if self.hosts else {}

    @property
    def access(self) -> Access:
        """The same for ourselves."""
        return Access(tuple(self.hosts), self.token_file)
