"""Plays the controllers that serve releases in a cluster: Deployments, KServe over Knative, KServe's Standard mode.

Hand-written, after what those controllers document and do (KServe v0.20), as far as the API shows it. Nothing runs by
itself: a test says ``step`` or ``settle``. What it is faithful in:

- Deployments: pods of the newest template, no old one gone before as many new ones are ready, counts and conditions.
- Knative: a revision for each template, where labels and annotations of the InferenceService count as parts of it; a
  route to the newest ready one, or split by ``canaryTrafficPercent`` with the last one that had everything.
- KServe: conditions, ``components.predictor``, ``modelStatus`` with the last failure (which stays), the address, and
  defaults that its webhook writes into the spec.

Pods are objects only. Those of a file in ``bad`` end with exit code 10; those of one in ``slow`` never get ready.
"""

from __future__ import annotations

from typing import Any

from specs.digests import digest_of, hex_of
from tests.support.apiserver import ApiServer
from tests.support.kserve_hands import ISVC, REVISION, KServeHands
from tests.support.serving_pods import condition, is_ready, reference

Object = dict[str, Any]
FILE, VERSION = "trunkline.dev/file", "trunkline.dev/version"
WORDS = "trunkline: SelfTestFailed: self-test 1 of 1 differs from the recorded answer"
DEPLOYMENTS, PODS = "/apis/apps/v1/namespaces/{}/deployments", "/api/v1/namespaces/{}/pods"
_SERVICES = "/api/v1/namespaces/{}/services"


class Hands:
    """Plays in one namespace, as ``admin``."""

    def __init__(self, server: ApiServer, namespace: str, *, kubelet: bool = False) -> None:
        """With ``kubelet``, somebody else plays Deployments and pods, and this plays KServe alone."""
        self.server, self.namespace, self._kubelet = server, namespace, kubelet
        self.bad: set[str] = set()
        self.slow: set[str] = set()
        self._theirs = KServeHands(self)
        self._seen: dict[str, list[Object]] = {}
        self._writes = 0

    def settle(self) -> None:
        """Play until nothing changes any more."""
        for _ in range(12):
            if not self.step():
                return
        raise AssertionError("it never settles")

    def step(self) -> bool:
        """Let each controller look once; whether any of them did something."""
        before = self._writes
        self._seen.clear()
        self._theirs.step()
        self._collect()
        for deployment in () if self._kubelet else self.items(DEPLOYMENTS):
            self._look_at_deployment(deployment)
        return self._writes > before

    def answers(self) -> set[tuple[str, str]]:
        """Give (backend, file) of all that requests can reach now, by the address of each backend."""
        self._seen.clear()
        pods = [pod for pod in self.items(PODS) if is_ready(pod)]
        found = set()
        for service in self.items(_SERVICES):
            selector = service["spec"].get("selector") or {}
            reached = [pod for pod in pods if selector and selector.items() <= pod["metadata"]["labels"].items()]
            found |= {(_backend(pod), _file(pod)) for pod in reached}
        # What KServe runs as a Deployment has no revisions; a Service of its own leads to all of it.
        routed = {*self._theirs.routed(), ""}
        theirs = [pod for pod in pods if _backend(pod) == "KServe"]
        return found | {("KServe", _file(p)) for p in theirs if p["metadata"]["labels"].get(REVISION, "") in routed}

    # Deployments.

    def _look_at_deployment(self, deployment: Object) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        template, wanted = spec["template"], spec.get("replicas", 1)
        label = {"pod-template-hash": hex_of(digest_of(template))[:10]}
        pods = [pod for pod in self.items(PODS) if owner(pod) == metadata["uid"]]
        new = [pod for pod in pods if label.items() <= pod["metadata"]["labels"].items()]
        old = [pod for pod in pods if pod not in new]
        name = f"{metadata['name']}-{label['pod-template-hash']}"
        new += [self.pod(f"{name}-{number}", deployment, template, label) for number in range(len(new), wanted)]
        for pod in new[wanted:]:
            self.delete(pod)
        new = new[:wanted]
        ready = [pod for pod in new if is_ready(pod)]
        if len(ready) >= wanted:
            for pod in old:
                self.delete(pod)
            old = []
        available = len([pod for pod in (*old, *new) if is_ready(pod)])
        done = len(ready) >= wanted and not old
        reason = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        status = {
            "observedGeneration": metadata["generation"], "replicas": len(old) + len(new), "updatedReplicas": len(new),
            "readyReplicas": available, "availableReplicas": available,
            "conditions": [
                condition("Available", available >= wanted, "MinimumReplicasAvailable"),
                condition("Progressing", True, reason),
            ],
        }  # fmt: skip
        self.write(f"{DEPLOYMENTS.format(self.namespace)}/{metadata['name']}", deployment, status)

    # Pods.

    def pod(self, name: str, owner: Object, template: Object, labels: dict[str, str]) -> Object:
        """Make a pod of a template, with the life that its file gives it."""
        metadata = {
            "name": name, "labels": {**template["metadata"]["labels"], **labels},
            "annotations": template["metadata"]["annotations"], "ownerReferences": [reference(owner)],
        }  # fmt: skip
        first = template["spec"].get("initContainers", ()), template["spec"]["containers"]
        plain = {"containers": [{"name": c["name"], "image": c["image"]} for c in first[1]]}
        path = PODS.format(self.namespace)
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        if self._kubelet:
            pod: Object = self.server.create(path, made | {"spec": template["spec"]})
            self.wrote()
            return pod
        self.server.create(path, made | {"spec": plain})
        status = self._life(metadata["annotations"][FILE], first[0], first[1][0])
        found: Object = self.server.merge(f"{path}/{name}/status", {"status": status})
        self.wrote()
        return found

    def _life(self, file: str, first: Any, main: Object) -> Object:
        ready = file not in self.bad | self.slow
        base = {"image": main["image"], "imageID": "", "restartCount": 0, "ready": ready, "started": ready}
        told: Object = {"containerStatuses": [base | {"name": main["name"]}]}
        if file in self.bad:
            ended = {"terminated": {"exitCode": 10, "reason": "Error", "message": WORDS}}
            where = "initContainerStatuses" if first else "containerStatuses"
            name = first[0]["name"] if first else main["name"]
            told[where] = [base | {"name": name, "restartCount": 1, "lastState": ended}]
        return told | {"phase": "Running", "podIP": "10.0.0.1", "conditions": [condition("Ready", ready, "")]}

    def _collect(self) -> None:
        """Delete what lost its owner."""
        ours = {"InferenceService"} if self._kubelet else {"Deployment", "InferenceService"}
        there = {found["metadata"]["uid"] for path in (DEPLOYMENTS, ISVC) for found in self.items(path)}
        for path in (DEPLOYMENTS, PODS):
            for found in self.items(path):
                kinds = {reference["kind"] for reference in found["metadata"].get("ownerReferences", ())}
                if kinds & ours and owner(found) not in there:
                    self.server.delete(f"{path.format(self.namespace)}/{found['metadata']['name']}")
                    self.wrote()

    def delete(self, pod: Object) -> None:
        """Delete a pod."""
        self.server.delete(f"{PODS.format(self.namespace)}/{pod['metadata']['name']}")
        self.wrote()

    def items(self, path: str) -> list[Object]:
        """Give all objects of a kind."""
        if path not in self._seen:
            self._seen[path] = self.server.items(path.format(self.namespace))
        return self._seen[path]

    def wrote(self) -> None:
        """Note that something is another now."""
        self._writes += 1
        self._seen.clear()

    def write(self, path: str, known: Object, status: Object) -> None:
        """Write a status, if it is another one."""
        if known.get("status") != status:
            gone = dict.fromkeys((known.get("status") or {}).keys() - status.keys())
            self.server.merge(f"{path}/status", {"status": gone | status})
            self.wrote()


def owner(found: Object) -> str:
    """Give the uid of what controls an object; empty where nothing does."""
    return next((str(r["uid"]) for r in found["metadata"].get("ownerReferences", ()) if r.get("controller")), "")


def _file(pod: Object) -> str:
    return str(pod["metadata"]["annotations"].get(FILE, ""))


def _backend(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get("trunkline.dev/backend", "Deployment"))
