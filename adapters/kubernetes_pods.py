"""What all objects that we make in a cluster share: whose they are, and pods that *restricted* Pod Security admits.

Pure: the same arguments always give the same manifests. Labels are never copied from the owner, since Argo CD would
take an object with its tracking label for its own, and prune it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from adapters.kubernetes_api import MODEL_SPEC, Taken
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.placement import Placement

Object = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MODEL = "trunkline.dev/model"
IGNORED_BY_ARGO = "argocd.argoproj.io/ignore-resource-updates"
"""Spares Argo CD a refresh of the application at each change of an object's status."""
US = "trunkline"

USER = 65532
"""User and group of all our processes: "nonroot" of the distroless images; it needs no entry in /etc/passwd."""
STATE_FOLDER = "/var/lib/trunkline"
"""Folder of a pod's own that outlives its containers."""
_OWN_FOLDERS = {"tmp": "/tmp", "state": STATE_FOLDER}  # noqa: S108  the pod's own
_CACHE = "/var/cache/trunkline"
_CACHE_VARIABLE = "TRUNKLINE_CACHE"
_SECRETS = "/etc/trunkline"


@dataclass(frozen=True)
class Owner:
    """A ModelSpec as it lives in the cluster now."""

    key: ModelKey
    uid: str


Owners = Callable[[ModelKey], Owner | None]
"""Looks up a ModelSpec; None where there is no such one now."""


@dataclass(frozen=True)
class JobSecret:
    """A Secret that some jobs need and all other pods never see. What they need of it must be there, or none begins."""

    about: str
    """Names the volume, and the folder ``/etc/trunkline/ABOUT`` that it is mounted at."""
    name: str
    """Of the Secret, in the models' namespaces."""
    components: tuple[str, ...]
    """Kinds of jobs that get it."""
    files: tuple[tuple[str, str], ...] = ()
    """Variable that says where the file is, and the Secret's key that is the file."""
    variables: tuple[str, ...] = ()
    """Keys of the Secret that become variables of the same name."""


@dataclass(frozen=True)
class PodStyle:
    """What the settings say about all pods of one kind."""

    image: str
    command: tuple[str, ...]
    """``--store URL`` and the arguments of the one pod follow it."""
    service_account: str
    store_url: str
    secret: str = ""
    """Name of the Secret whose keys become variables."""
    store_claim: str = ""
    """Name of the PersistentVolumeClaim that holds a ``file://`` store; it is mounted where the URL says."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables of all these pods, and their values."""
    job_secrets: tuple[JobSecret, ...] = ()
    """Secrets of some of these pods."""
    cache_claim: str = ""
    """Name of the PersistentVolumeClaim that jobs share as their cache; without one each begins with nothing."""
    grpc_port: int = 0
    """Where servers speak gRPC; 0 is nowhere."""


def child_metadata(
    owner: Owner, name: str, component: str, labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:  # fmt: skip
    """Give the metadata of an object that goes with its ModelSpec when that is deleted, without holding it up."""
    ours = {MANAGED_BY: US, NAME: owner.key.name, COMPONENT: component, MODEL: owner.key.name}
    return {
        "name": name, "namespace": owner.key.namespace,
        "labels": {**(labels or {}), **ours}, "annotations": {**(annotations or {}), IGNORED_BY_ARGO: "true"},
        "ownerReferences": [reference(owner)],
    }  # fmt: skip


def reference(owner: Owner) -> Object:
    """Give the entry of ``ownerReferences`` that names the ModelSpec."""
    return {
        "apiVersion": MODEL_SPEC.api_version, "kind": MODEL_SPEC.name, "name": owner.key.name, "uid": owner.uid,
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip


def selector(
    key: ModelKey | None = None, component: str = "", labels: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the labels by which our objects are listed: of one model, or of all; of one component, or of all."""
    asked = {MANAGED_BY: US, MODEL: key.name if key else "", COMPONENT: component}
    return {name: value for name, value in asked.items() if value} | dict(labels or {})


def belongs(obj: Object | None, owner: Owner) -> bool:
    """Whether there is an object, and it is ours: of this model, with this ModelSpec as its owner or with none.

    One without an owner lost it to ``kubectl delete --cascade=orphan`` and is to be adopted. Taken where it is somebody
    else's; Transient ``BeingDeleted`` where it is on its way out, or belongs to an earlier ModelSpec of that name.
    """
    if obj is None:
        return False
    metadata = obj["metadata"]
    what = f"{obj.get('kind') or 'object'} {metadata.get('namespace', '')}/{metadata['name']}"
    labels = metadata.get("labels") or {}
    if labels.get(MANAGED_BY) != US or labels.get(MODEL) != owner.key.name:
        hint = "rename or delete it, or rename the model; Trunkline never overwrites what others made"
        raise Taken(f"{what} was not made for model {owner.key} (its labels say so): {hint}")
    same = reference(owner)
    named = [o for o in metadata.get("ownerReferences") or () if o.get("controller")]
    for other in named:
        if (_group(other), other.get("kind"), other.get("name")) != (_group(same), same["kind"], same["name"]):
            hint = "rename or delete it; Trunkline never overwrites what others made"
            raise Taken(f"{what} belongs to {other.get('kind')} {other.get('name')}: {hint}")
    if metadata.get("deletionTimestamp"):
        raise Transient("BeingDeleted", f"{what} is being deleted; it is made anew once it is gone")
    if any(other.get("uid") != owner.uid for other in named):
        text = f"{what} belongs to an earlier ModelSpec {owner.key}, and the cluster is about to delete it"
        raise Transient("BeingDeleted", text)
    return True


def is_orphan(obj: Object) -> bool:
    """Whether an object of ours has no owner that would take it along."""
    return not any(o.get("controller") for o in obj["metadata"].get("ownerReferences") or ())


def pod_template(  # noqa: PLR0913  a pod has many parts, all by keyword
    style: PodStyle, placement: Placement, *, component: str, labels: Mapping[str, str],
    annotations: Mapping[str, str], arguments: Sequence[str], environment: Mapping[str, str], container: Object,
    restart: Literal["Never", "Always"], grace_seconds: int,
) -> Object:  # fmt: skip
    """Give a pod template of one container, named like the component; ``container`` holds further fields of it.

    Resources are those of the placement and none besides: no default would fit both a classifier and a large detector.
    The folders of a pod have no size limit for the same reason; ``ephemeral-storage`` among the limits sets one.
    """
    volumes, mounts = _volumes(style, component)
    secrets = [secret for secret in style.job_secrets if component in secret.components]
    told = {variable: f"{_SECRETS}/{secret.about}/{key}" for secret in secrets for variable, key in secret.files}
    cache = {_CACHE_VARIABLE: _CACHE} if style.cache_claim else {}
    variables = {**dict(style.environment), **cache, **told, **environment}
    resources = {"requests": dict(placement.requests), "limits": dict(placement.limits)}
    main: Object = {
        **container, "name": component, "image": style.image,
        "command": [*style.command, *(_literal(text) for text in ("--store", style.store_url, *arguments))],
        "env": [{"name": name, "value": _literal(value)} for name, value in sorted(_variables(variables).items())]
        + [_from_secret(secret, key) for secret in secrets for key in secret.variables],
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        # Where a process leaves no message, the end of its log is its last words.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    # No empty mappings: the API server drops them, and then takes a second apply of the same for a change.
    if any(resources.values()):
        main["resources"] = {name: amounts for name, amounts in resources.items() if amounts}
    if style.secret:
        main["envFrom"] = [{"secretRef": {"name": style.secret}}]
    spec: Object = {
        "automountServiceAccountToken": False, "enableServiceLinks": False, "restartPolicy": restart,
        "serviceAccountName": style.service_account, "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER,
            # Volumes become writable for us; what is so already is not walked through again.
            "fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes, "containers": [main],
    }  # fmt: skip
    if placement.node_selector:
        spec["nodeSelector"] = dict(placement.node_selector)
    metadata = {"labels": dict(labels), "annotations": dict(annotations)}
    return {"metadata": {name: given for name, given in metadata.items() if given}, "spec": spec}


def _volumes(style: PodStyle, component: str) -> tuple[list[Object], list[Object]]:
    """Give volumes, and where they are mounted: nothing else can be written to."""
    volumes: list[Object] = [{"name": name, "emptyDir": {}} for name in _OWN_FOLDERS]
    mounts: list[Object] = [{"name": name, "mountPath": path} for name, path in _OWN_FOLDERS.items()]
    serves = component == "serve"
    if not serves:
        # A container's /dev/shm holds 64 MiB, and a trainer hands batches of pictures over in it.
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108  likewise
    folder = _store_folder(style.store_url)
    if style.store_claim and folder:
        volumes.append({"name": "store", "persistentVolumeClaim": {"claimName": style.store_claim}})
        mounts.append({"name": "store", "mountPath": folder, "readOnly": serves})
    if style.cache_claim:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": style.cache_claim}})
        mounts.append({"name": "cache", "mountPath": _CACHE})
    for secret in style.job_secrets:
        if component in secret.components and secret.files:
            # Not optional: a job that could not sign, or not get in, must not begin.
            items = [{"key": key, "path": key} for _, key in secret.files]
            source = {"secretName": secret.name, "items": items, "defaultMode": 0o440}
            volumes.append({"name": secret.about, "secret": source})
            mounts.append({"name": secret.about, "mountPath": f"{_SECRETS}/{secret.about}", "readOnly": True})
    return volumes, mounts


def _from_secret(secret: JobSecret, key: str) -> Object:
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": key}}}


def _store_folder(url: str) -> str:
    """Give the folder of a store's URL; empty where it is no folder."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme in ("", "file") and parts.path.startswith("/") else ""


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    # Libraries keep caches and settings at home, and user 65532 has none.
    return {"HOME": "/tmp"} | dict(environment)  # noqa: S108  the pod's own


def _literal(text: str) -> str:
    """Write a text so that the container gets it as it is: ``$(NAME)`` would become a variable's value."""
    return text.replace("$", "$$")


def _group(found: Object) -> str:
    return str(found.get("apiVersion", "")).partition("/")[0]
