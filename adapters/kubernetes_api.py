"""The Kubernetes API: JSON objects in and out, its errors told apart by what to do about them.

The one file that knows the ``kubernetes`` package, of which only configuration, authentication and transport are used.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client as kube_client
from kubernetes import config as kube_config

from specs.errors import Stalled, Transient

FIELD_MANAGER = "trunkline"
Object = dict[str, Any]
Counted = Callable[[str, str, int], None]
"""Told about each request: verb, resource, HTTP status (0: no answer)."""

_TIMEOUT = urllib3.Timeout(connect=5.0, read=30.0)
_PAGE = 500
_ASK_AGAIN = 60.0
"""Seconds."""
_APPLY = "application/apply-patch+yaml"
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Kind:
    """A kind of object, as its requests need it."""

    api_version: str
    name: str
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Give the path of an object, or of all objects of a namespace; of all namespaces where it is empty."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        place = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{place}/{self.plural}", name, subresource) if part)


MODEL_SPEC = Kind("trunkline.dev/v1alpha1", "ModelSpec", "modelspecs")
JOB = Kind("batch/v1", "Job", "jobs")
POD = Kind("v1", "Pod", "pods")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
SERVICE = Kind("v1", "Service", "services")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
TRAIN_JOB = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs")
WORKLOAD = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads")
WORKLOAD_BEFORE = Kind("kueue.x-k8s.io/v1beta1", "Workload", "workloads")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
"""KServe's; a cluster without KServe does not know it."""


class Taken(Stalled):
    """An object of that name exists, and it is somebody else's: it is never overwritten."""

    def __init__(self, message: str) -> None:
        super().__init__("Conflict", message)


class NoSuchKind(Stalled):
    """The cluster has no objects of that kind, or no such namespace."""

    def __init__(self, message: str) -> None:
        super().__init__("KubernetesRefused", message)


class KubernetesApi:
    """Talks to one API server; any number of threads may share it.

    Whatever may get better by waiting (409, 410, 429, 5xx, no answer) is Transient ``KubernetesUnavailable`` or
    ``KubernetesConflict``; what an administrator must mend is Stalled ``KubernetesForbidden`` (401, 403) or
    ``KubernetesRefused`` (400, 404 of a whole kind, 422), in the server's own words.
    """

    def __init__(self, client: kube_client.ApiClient, counted: Counted = lambda verb, resource, code: None) -> None:
        self._client = client
        self._counted = counted
        self._offered: dict[Kind, tuple[bool, float]] = {}

    @classmethod
    def connect(
        cls, *, kubeconfig: str | None = None, context: str | None = None, connections: int = 16,
        counted: Counted | None = None,
    ) -> KubernetesApi:  # fmt: skip
        """Connect as the pod that this runs in, else as the file (default: KUBECONFIG's) says.

        Stalled ``NoCluster`` where there is neither.
        """
        configuration = kube_client.Configuration()
        try:
            if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                kube_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                    kubeconfig, context=context, client_configuration=configuration
                )
        except (kube_config.ConfigException, OSError) as error:
            text = f"no cluster to talk to: {error}; set KUBECONFIG, or run this in a pod"
            raise Stalled("NoCluster", text) from error
        if not configuration.verify_ssl:  # as its owner decided; a warning at each request would drown all others
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        configuration.connection_pool_maxsize = connections
        configuration.retries = False  # trouble is ours to judge
        made = kube_client.ApiClient(configuration)
        return cls(made, counted or (lambda verb, resource, code: None))

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster knows a kind at all, in this version of its API."""
        request = _Request("GET", kind, kind.path("").removesuffix(f"/{kind.plural}"))
        status, text = self._send(request)
        self._counted("get", "apis", status)
        if status == 404:
            return False
        if not 200 <= status < 300:
            raise _trouble(status, text, f"{request.verb} {request.path}")
        return any(resource.get("name") == kind.plural for resource in _words(text).get("resources") or ())

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Give an object, or None where there is none."""
        return self._ask(_Request("GET", kind, kind.path(namespace, name)), ignore=_MISSING)

    def list(self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] | None = None) -> Sequence[Object]:
        """Give all objects with these labels; of all namespaces where ``namespace`` is empty."""
        return list(self._pages(kind, namespace, labels, "application/json"))

    def names(self, kind: Kind, namespace: str = "", *, labels: Mapping[str, str] | None = None) -> Sequence[Object]:
        """Give the metadata, and nothing else, of all objects with these labels."""
        return [item["metadata"] for item in self._pages(kind, namespace, labels, _NAMES_ONLY)]

    def apply(self, kind: Kind, manifest: Object, *, force: bool = False, status: bool = False) -> Object:
        """Apply what we want of an object on the server side; gives it whole.

        Without ``force`` a field that somebody else set to another value is Taken, and nothing changes.
        """
        metadata = manifest["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"], "status" if status else "")
        query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"), ("force", str(force).lower())]
        body = json.dumps({"apiVersion": kind.api_version, "kind": kind.name, **manifest}).encode()
        return self._ask(_Request("PATCH", kind, path, query, body, content=_APPLY)) or {}

    def create(self, kind: Kind, manifest: Object) -> bool:
        """Create an object; False where one of that name is there already."""
        body = json.dumps({"apiVersion": kind.api_version, "kind": kind.name, **manifest}).encode()
        query = [("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict")]
        path = kind.path(manifest["metadata"]["namespace"])
        return self._ask(_Request("POST", kind, path, query, body), ignore=_EXISTS) is not None

    def replace(self, kind: Kind, manifest: Object) -> Object:
        """Write an object over the version that ``metadata.resourceVersion`` names; Transient where it moved on."""
        metadata = manifest["metadata"]
        body = json.dumps({"apiVersion": kind.api_version, "kind": kind.name, **manifest}).encode()
        return self._ask(_Request("PUT", kind, kind.path(metadata["namespace"], metadata["name"]), body=body)) or {}

    def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete an object, and in the background what it owns; no-op where it is gone or has another ``uid``."""
        options: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            body = json.dumps(options).encode()
            self._ask(_Request("DELETE", kind, kind.path(namespace, name), body=body), ignore=_MISSING)
        except Transient as error:
            if uid is None or error.reason != "KubernetesConflict":
                raise

    def offers(self, kind: Kind) -> bool:
        """Whether the cluster has this kind; asked once, and where it has not, again after a minute."""
        known = self._offered.get(kind)
        if known is not None and (known[0] or time.monotonic() < known[1] + _ASK_AGAIN):
            return known[0]
        found = self.serves(kind)
        self._offered[kind] = (found, time.monotonic())
        return found

    def logs(self, namespace: str, pod: str) -> str:
        """Give what a pod wrote, as far as it is kept; Stalled ``KubernetesRefused`` where there is no such pod."""
        request = _Request("GET", POD, POD.path(namespace, pod, "log"), accept="*/*")
        status, text = self._send(request)
        if not 200 <= status < 300:
            raise _trouble(status, text, f"{request.verb} {request.path}")
        return text.decode(errors="replace")

    def _pages(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None, accept: str) -> Iterator[Object]:
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        token = ""
        while True:
            given = {"limit": str(_PAGE), "labelSelector": selector, "continue": token}
            query = [(key, value) for key, value in given.items() if value]
            page = self._ask(_Request("GET", kind, kind.path(namespace), query, accept=accept, verb="list")) or {}
            yield from page.get("items") or ()
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return

    def _ask(self, request: _Request, *, ignore: tuple[int, str] = (0, "")) -> Object | None:
        """Send a request; gives the object, or None for a failure with the status and the reason of ``ignore``."""
        try:
            status, text = self._send(request)
        except Transient:
            self._counted(request.verb, request.kind.plural, 0)
            raise
        self._counted(request.verb, request.kind.plural, status)
        if 200 <= status < 300:
            return dict(json.loads(text))
        if (status, _words(text).get("reason")) == ignore:
            return None
        raise _trouble(status, text, f"{request.verb} {request.path}")

    def _send(self, request: _Request) -> tuple[int, bytes]:
        """Give HTTP status and body. Connections are pooled, credentials kept fresh."""
        client, headers = self._client, {"Accept": request.accept, "Content-Type": request.content}
        client.update_params_for_auth(headers, [], ["BearerToken"], request.path, request.method, None)
        url = client.configuration.host + request.path + ("?" + urlencode(request.query) if request.query else "")
        try:
            answer = client.rest_client.pool_manager.request(
                request.method, url, body=request.body, headers=headers, timeout=_TIMEOUT,
                retries=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            text = f"the API server does not answer {request.verb} {request.path} ({type(error).__name__})"
            raise Transient("KubernetesUnavailable", text) from error
        return answer.status, answer.data


_MISSING = (404, "NotFound")
_EXISTS = (409, "AlreadyExists")
_VERBS = {"POST": "create", "PUT": "update"}


@dataclass(frozen=True)
class _Request:
    method: str
    kind: Kind
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    accept: str = "application/json"
    content: str = "application/json"
    verb: str = ""
    """As Roles call it."""

    def __post_init__(self) -> None:
        if not self.verb:
            object.__setattr__(self, "verb", _VERBS.get(self.method, self.method.lower()))


def _words(text: bytes) -> Object:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _trouble(status: int, text: bytes, asked: str) -> Transient | Stalled:
    """Judge an answer that is no success."""
    words = _words(text)
    said = str(words.get("message") or f"HTTP {status}")[:1000]
    if status == 409:
        causes = words.get("details", {}).get("causes") or ()
        if any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
            return Taken(f"{asked}: {said}")
        return Transient("KubernetesConflict", f"{asked}: {said}")
    if status in (401, 403):
        hint = "compare the Roles in the cluster with deploy/base/rbac.yaml"
        return Stalled("KubernetesForbidden", f"{asked}: {said}; {hint}")
    if status == 404:
        return NoSuchKind(f"{asked}: {said}")
    # An apply of a field that the server does not know is told as 500 by it.
    if status in (400, 405, 413, 415, 422) or said.startswith("failed to create typed patch object"):
        return Stalled("KubernetesRefused", f"{asked}: {said}")
    return Transient("KubernetesUnavailable", f"{asked}: {said}")
