"""Admission policies: who may write what. Their CEL is compiled and evaluated by the API server (see admission.py)."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from specs.names import serving_name
from tests.deploy.admission import Policy, Request
from tests.deploy.manifests import DEPLOY, of_kind, one, written
from tests.support.apiserver import ApiServer

ARGO = "system:serviceaccount:argocd:argocd-application-controller"
ARGO_SERVER = "system:serviceaccount:argocd:argocd-server"
OPERATOR = "system:serviceaccount:trunkline-system:trunkline-operator"
SYSTEM = "system:serviceaccount:kube-system:"
KSERVE = "system:serviceaccount:kserve:kserve-controller-manager"
KNATIVE = "system:serviceaccount:knative-serving:controller"
KUEUE = "system:serviceaccount:kueue-system:kueue-controller-manager"
PERSON, ADMIN = "ann@example.com", "kubernetes-admin"
GLASS = ("system:authenticated", "trunkline-break-glass")
OURS = {"app.kubernetes.io/managed-by": "trunkline", "app.kubernetes.io/name": "shelf"}
GOOD = "registry.example.com/trunkline/serve@sha256:" + "a" * 64
OTHER = "registry.example.com/trunkline/serve@sha256:" + "b" * 64
BY_ARGO, BY_OPERATOR = "Argo CD writes them", "operator alone"
BY_CLUSTER, BY_DIGEST = "Jobs and Deployments alone", "named by digest"
KINDS = {
    "trunkline-modelspecs": "modelspecs", "trunkline-status": "modelspecs",
    "trunkline-workloads": "workloads", "trunkline-pods": "pods", "trunkline-trainjobs": "trainjobs",
    "trunkline-inferenceservices": "inferenceservices",
}  # fmt: skip


@pytest.fixture(scope="module")
def policies(api_server: ApiServer) -> dict[str, Policy]:
    """Give the shipped policies, ready to judge."""
    found = of_kind(written("policies"), "ValidatingAdmissionPolicy")
    return {p["metadata"]["name"]: Policy(api_server, p, KINDS[p["metadata"]["name"]]) for p in found}


def judge(policies: dict[str, Policy], request: Request) -> list[str]:
    """Give all objections of all policies."""
    return [text for policy in policies.values() for text in policy.verdict(request)]


def model(**changes: Any) -> dict[str, Any]:
    """Give a ModelSpec, with a spec of plain texts."""
    return {"metadata": {"name": "shelf", "labels": {"team": "retail"}}, "spec": {"task": "classify"}} | changes


def workload(*images: str, labels: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """Give a Job, Deployment or ReplicaSet with a container for each image."""
    containers = [{"name": f"c{number}", "image": image} for number, image in enumerate(images or (GOOD,))]
    template = {"spec": {"containers": containers}}
    metadata = {"name": serving_name("retail", "shelf"), "labels": OURS if labels is None else labels}
    return {"metadata": metadata, "spec": {"template": template}} | changes


def pod(image: str = GOOD, labels: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    """Give a pod, with further containers such as ``initContainers=IMAGE``."""
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": image}]}
    spec |= {kind: [{"name": kind.lower(), "image": given}] for kind, given in more.items()}
    return {"metadata": {"name": "serve-1", "labels": OURS if labels is None else labels}, "spec": spec}


def train_job(image: str = GOOD, *, suspend: bool = False) -> dict[str, Any]:
    """Give a TrainJob."""
    trainer = {"image": image, "command": ["python"]}
    return {"metadata": {"name": "train-1", "labels": OURS}, "spec": {"trainer": trainer, "suspend": suspend}}


def inference(image: str = GOOD, **metadata: Any) -> dict[str, Any]:
    """Give an InferenceService."""
    spec = {"predictor": {"containers": [{"name": "kserve-container", "image": image}]}}
    return {"metadata": {"name": "kserve-shelf", "labels": OURS} | metadata, "spec": spec}


def failed(**changes: Any) -> dict[str, Any]:
    """Give a Job that failed."""
    return workload(status={"conditions": [{"type": "Failed", "status": "True"}]}, **changes)


def retried() -> dict[str, Any]:
    """Give that Job as Argo CD's action leaves it."""
    job = copy.deepcopy(failed())
    job["spec"]["ttlSecondsAfterFinished"] = 0
    return job


FREED = model(metadata={"name": "shelf", "finalizers": []})
HELD = model(metadata={"name": "shelf", "finalizers": ["foregroundDeletion"]})
OTHER_SPEC = model(spec={"task": "detect"})
WITH_STATUS = model(status={"summary": "v1 answers"})
NOTED = model(metadata={"name": "shelf", "labels": {"team": "retail"}, "annotations": {"note": "x"}})
GONE_IMAGE = "old.example.com/serve:1"
THEIRS = OURS | {"serving.kserve.io/inferenceservice": "kserve-shelf"}
"""Labels of what KServe makes of an InferenceService of ours."""

CASES: list[tuple[str, Request, str]] = [
    # ModelSpecs
    ("argo creates", Request(ARGO, "CREATE", "modelspecs", model()), ""),
    ("argo changes", Request(ARGO, "UPDATE", "modelspecs", OTHER_SPEC, model()), ""),
    ("argo prunes", Request(ARGO, "DELETE", "modelspecs", {}, model()), ""),
    ("person creates", Request(PERSON, "CREATE", "modelspecs", model()), BY_ARGO),
    ("person changes", Request(PERSON, "UPDATE", "modelspecs", OTHER_SPEC, model()), BY_ARGO),
    ("person deletes", Request(PERSON, "DELETE", "modelspecs", {}, model()), BY_ARGO),
    ("cluster admin changes",
     Request(ADMIN, "UPDATE", "modelspecs", OTHER_SPEC, model(), ("system:masters",)), BY_ARGO),
    ("user without groups", Request(PERSON, "CREATE", "modelspecs", model(), groups=()), BY_ARGO),
    ("glass is broken", Request(PERSON, "UPDATE", "modelspecs", OTHER_SPEC, model(), GLASS), ""),
    ("argo's server, where people edit", Request(ARGO_SERVER, "UPDATE", "modelspecs", OTHER_SPEC, model()), BY_ARGO),
    ("argo's name in another namespace",
     Request("system:serviceaccount:retail:argocd-application-controller", "CREATE", "modelspecs", model()), BY_ARGO),
    ("operator creates", Request(OPERATOR, "CREATE", "modelspecs", model()), BY_ARGO),
    ("operator changes the spec", Request(OPERATOR, "UPDATE", "modelspecs", OTHER_SPEC, model()), BY_ARGO),
    ("operator annotates", Request(OPERATOR, "UPDATE", "modelspecs", NOTED, model()), BY_ARGO),
    ("operator deletes", Request(OPERATOR, "DELETE", "modelspecs", {}, model()), BY_ARGO),
    ("namespace goes", Request(f"{SYSTEM}namespace-controller", "DELETE", "modelspecs", {}, model()), ""),
    ("owner goes", Request(f"{SYSTEM}generic-garbage-collector", "DELETE", "modelspecs", {}, model()), ""),
    ("foreground deletion ends",
     Request(f"{SYSTEM}generic-garbage-collector", "UPDATE", "modelspecs", FREED, HELD), ""),
    ("the same, one account for all",
     Request("system:kube-controller-manager", "UPDATE", "modelspecs", FREED, HELD), ""),
    ("garbage collector changes the spec",
     Request(f"{SYSTEM}generic-garbage-collector", "UPDATE", "modelspecs", OTHER_SPEC, model()), BY_ARGO),
    ("garbage collector creates",
     Request(f"{SYSTEM}generic-garbage-collector", "CREATE", "modelspecs", model()), BY_ARGO),
    # InferenceServices, and what is made of them
    ("operator serves by KServe", Request(OPERATOR, "CREATE", "inferenceservices", inference()), ""),
    ("operator changes the release",
     Request(OPERATOR, "UPDATE", "inferenceservices", inference(OTHER), inference()), ""),
    ("operator with another image", Request(OPERATOR, "CREATE", "inferenceservices", inference(GONE_IMAGE)), BY_DIGEST),
    ("an image that was there",
     Request(OPERATOR, "UPDATE", "inferenceservices", inference(GONE_IMAGE), inference(GONE_IMAGE)), ""),
    ("person serves by KServe", Request(PERSON, "CREATE", "inferenceservices", inference()), BY_OPERATOR),
    ("person changes a share",
     Request(PERSON, "UPDATE", "inferenceservices", inference(OTHER), inference()), BY_OPERATOR),
    ("the glass is broken for KServe", Request(PERSON, "CREATE", "inferenceservices", inference(), groups=GLASS), ""),
    ("KServe holds it", Request(KSERVE, "UPDATE", "inferenceservices", inference(finalizers=["x"]), inference()), ""),
    ("KServe changes it", Request(KSERVE, "UPDATE", "inferenceservices", inference(OTHER), inference()), BY_OPERATOR),
    ("KServe makes a Deployment of it", Request(KSERVE, "CREATE", "deployments", workload(labels=THEIRS)), ""),
    ("Knative makes one of a revision", Request(KNATIVE, "CREATE", "deployments", workload(labels=THEIRS)), ""),
    ("Knative makes one of nothing", Request(KNATIVE, "CREATE", "deployments", workload()), BY_OPERATOR),
    ("person makes one like KServe", Request(PERSON, "CREATE", "deployments", workload(labels=THEIRS)), BY_OPERATOR),
    # Status
    ("operator writes status", Request(OPERATOR, "UPDATE", "modelspecs/status", WITH_STATUS, model()), ""),
    ("operator writes the first status of a bare one",
     Request(OPERATOR, "UPDATE", "modelspecs/status", WITH_STATUS | {"metadata": {"name": "x"}},
             model(metadata={"name": "x"})), ""),
    ("person writes status", Request(PERSON, "UPDATE", "modelspecs/status", WITH_STATUS, model()), BY_OPERATOR),
    ("argo writes status", Request(ARGO, "UPDATE", "modelspecs/status", WITH_STATUS, model()), BY_OPERATOR),
    ("glass is broken for status", Request(PERSON, "UPDATE", "modelspecs/status", WITH_STATUS, model(), GLASS), ""),
    *((f"operator changes {name} by way of status",
       Request(OPERATOR, "UPDATE", "modelspecs/status", new, model()), "nothing but status")
      for name, new in {
          "the spec": OTHER_SPEC, "annotations": NOTED, "labels": model(metadata={"name": "shelf"}),
          "finalizers": model(metadata={**model()["metadata"], "finalizers": ["x"]}),
          "owners": model(metadata={**model()["metadata"], "ownerReferences": [{"name": "x"}]}),
      }.items()),
    # Jobs and Deployments
    ("operator starts a job", Request(OPERATOR, "CREATE", "jobs", workload()), ""),
    ("operator deploys", Request(OPERATOR, "CREATE", "deployments", workload()), ""),
    ("operator rolls out another image", Request(OPERATOR, "UPDATE", "deployments", workload(OTHER), workload()), ""),
    ("person starts a job", Request(PERSON, "CREATE", "jobs", workload()), BY_OPERATOR),
    ("person changes a deployment", Request(PERSON, "UPDATE", "deployments", workload(OTHER), workload()), BY_OPERATOR),
    ("person takes the label off",
     Request(PERSON, "UPDATE", "deployments", workload(labels={}), workload()), BY_OPERATOR),
    ("person deletes a job", Request(PERSON, "DELETE", "jobs", {}, workload()), ""),
    ("person deploys something of their own",
     Request(PERSON, "CREATE", "deployments", workload("nginx:1", labels={"app": "web"})), ""),
    ("glass is broken for a deployment",
     Request(PERSON, "UPDATE", "deployments", workload(OTHER), workload(), GLASS), ""),
    ("deployment makes its replica set",
     Request(f"{SYSTEM}deployment-controller", "CREATE", "replicasets", workload()), ""),
    ("person makes a replica set", Request(PERSON, "CREATE", "replicasets", workload()), BY_OPERATOR),
    ("a controller starts a job of its own",
     Request(f"{SYSTEM}job-controller", "CREATE", "jobs", workload()), BY_OPERATOR),
    ("kueue lets a job go", Request(KUEUE, "UPDATE", "jobs", workload(), workload()), ""),
    ("argo retries a failed job", Request(ARGO_SERVER, "UPDATE", "jobs", retried(), failed()), ""),
    ("argo stops a running job", Request(ARGO_SERVER, "UPDATE", "jobs", retried(), workload()), BY_OPERATOR),
    ("argo changes what a failed job ran",
     Request(ARGO_SERVER, "UPDATE", "jobs", failed(spec=workload(OTHER)["spec"]), failed()), BY_OPERATOR),
    ("argo restarts a deployment", Request(ARGO_SERVER, "UPDATE", "deployments", workload(), workload()), BY_OPERATOR),
    ("image by tag",
     Request(OPERATOR, "CREATE", "jobs", workload("registry.example.com/trunkline/serve:1")), BY_DIGEST),
    ("image of another registry",
     Request(OPERATOR, "CREATE", "jobs", workload("evil.example.com/x@sha256:" + "a" * 64)), BY_DIGEST),
    ("image of a registry that begins alike",
     Request(OPERATOR, "CREATE", "jobs", workload("registry.example.com/trunkline-evil/x@sha256:" + "a" * 64)),
     BY_DIGEST),
    ("digest too short", Request(OPERATOR, "CREATE", "jobs", workload(GOOD[:-1])), BY_DIGEST),
    ("words after the digest", Request(OPERATOR, "CREATE", "jobs", workload(f"{GOOD}a")), BY_DIGEST),
    ("second container", Request(OPERATOR, "CREATE", "deployments", workload(GOOD, "nginx:1")), BY_DIGEST),
    ("image of an init container",
     Request(OPERATOR, "CREATE", "deployments", {**workload(), "spec": {"template": pod(initContainers="nginx:1")}}),
     BY_DIGEST),
    ("glass does not allow every image",
     Request(PERSON, "CREATE", "jobs", workload("nginx:1"), groups=GLASS), BY_DIGEST),
    ("end of a deployment whose image is no longer allowed",
     Request(f"{SYSTEM}generic-garbage-collector", "UPDATE", "deployments", workload(GONE_IMAGE), workload(GONE_IMAGE)),
     ""),
    ("operator moves away from such an image",
     Request(OPERATOR, "UPDATE", "deployments", workload(), workload(GONE_IMAGE)), ""),
    # Pods
    ("job makes its pod", Request(f"{SYSTEM}job-controller", "CREATE", "pods", pod()), ""),
    ("replica set makes its pod", Request(f"{SYSTEM}replicaset-controller", "CREATE", "pods", pod()), ""),
    ("job lets its pod go", Request(f"{SYSTEM}job-controller", "UPDATE", "pods", pod(), pod()), ""),
    ("person makes a pod", Request(PERSON, "CREATE", "pods", pod()), BY_CLUSTER),
    ("operator makes a pod", Request(OPERATOR, "CREATE", "pods", pod()), BY_CLUSTER),
    ("person makes a pod of their own", Request(PERSON, "CREATE", "pods", pod("nginx:1", {"app": "web"})), ""),
    ("person changes a pod's image", Request(PERSON, "UPDATE", "pods", pod(OTHER), pod()), BY_CLUSTER),
    ("person debugs a pod",
     Request(PERSON, "UPDATE", "pods/ephemeralcontainers", pod(ephemeralContainers=OTHER), pod()), BY_CLUSTER),
    ("glass is broken to debug a pod",
     Request(PERSON, "UPDATE", "pods/ephemeralcontainers", pod(ephemeralContainers=OTHER), pod(), GLASS), ""),
    ("glass does not allow every tool",
     Request(PERSON, "UPDATE", "pods/ephemeralcontainers", pod(ephemeralContainers="busybox:1"), pod(), GLASS),
     BY_DIGEST),
    ("pod with an image by tag", Request(f"{SYSTEM}job-controller", "CREATE", "pods", pod("nginx:1")), BY_DIGEST),
    ("pod with a sidecar from elsewhere",
     Request(f"{SYSTEM}replicaset-controller", "CREATE", "pods", pod(initContainers="mesh:1")), BY_DIGEST),
    ("end of a pod whose image is no longer allowed",
     Request(f"{SYSTEM}job-controller", "UPDATE", "pods", pod(GONE_IMAGE), pod(GONE_IMAGE)), ""),
    # TrainJobs
    ("operator starts a training", Request(OPERATOR, "CREATE", "trainjobs", train_job(suspend=True)), ""),
    ("kueue lets a training go", Request(KUEUE, "UPDATE", "trainjobs", train_job(), train_job(suspend=True)), ""),
    ("kueue changes what a training runs",
     Request(KUEUE, "UPDATE", "trainjobs", train_job(OTHER), train_job()), BY_OPERATOR),
    ("person starts a training", Request(PERSON, "CREATE", "trainjobs", train_job()), BY_OPERATOR),
    ("person lets a training go",
     Request(PERSON, "UPDATE", "trainjobs", train_job(), train_job(suspend=True)), BY_OPERATOR),
    ("glass is broken for a training", Request(PERSON, "CREATE", "trainjobs", train_job(), groups=GLASS), ""),
    ("person clears a training away", Request(PERSON, "DELETE", "trainjobs", {}, train_job()), ""),
    ("training with an image by tag",
     Request(OPERATOR, "CREATE", "trainjobs", train_job("registry.example.com/trunkline/train:1")), BY_DIGEST),
    ("end of a training whose image is no longer allowed",
     Request(f"{SYSTEM}generic-garbage-collector", "UPDATE", "trainjobs", train_job(GONE_IMAGE), train_job(GONE_IMAGE)),
     ""),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "refusal"), [pytest.param(*row[1:], id=row[0]) for row in CASES])
def test_who_may_write_what(policies: dict[str, Policy], request_: Request, refusal: str) -> None:
    """A request passes all policies, or is refused in words that say why, and by nothing but the rule that is meant."""
    told = judge(policies, request_)
    if refusal:
        assert len(told) == 1, told
        assert refusal in told[0]
        assert "evaluation error" not in told[0]
    else:
        assert told == []


def test_a_refusal_names_who_was_refused(policies: dict[str, Policy]) -> None:
    """A person reads who they are to the API server, and what to do."""
    (told,) = judge(policies, Request(PERSON, "CREATE", "modelspecs", model()))
    assert PERSON in told
    assert "docs/install.md, Breaking the glass" in told
    (told,) = judge(policies, Request(OPERATOR, "CREATE", "jobs", workload("nginx:1")))
    assert "images of containers are named by digest" in told
    assert told.endswith("this policy lists: trunkline-workloads")


def test_every_policy_is_bound_and_denies() -> None:
    """A policy without a binding would have no effect, one that only warns hardly any."""
    items = written("policies")
    named = {p["metadata"]["name"] for p in of_kind(items, "ValidatingAdmissionPolicy")}
    bound = of_kind(items, "ValidatingAdmissionPolicyBinding")
    assert named == set(KINDS) == {b["spec"]["policyName"] for b in bound}
    assert all("Deny" in b["spec"]["validationActions"] for b in bound)
    assert all(set(b["spec"]) == {"policyName", "validationActions"} for b in bound), "a binding narrows its policy"
    assert all(p["spec"]["failurePolicy"] == "Fail" for p in of_kind(items, "ValidatingAdmissionPolicy"))


def test_nothing_stands_in_the_way_of_clearing_up() -> None:
    """Deleting what Trunkline made is asked of RBAC alone, and no policy waits for an object that may be gone."""
    for policy in of_kind(written("policies"), "ValidatingAdmissionPolicy"):
        assert "paramKind" not in policy["spec"]
        for rule in policy["spec"]["matchConstraints"]["resourceRules"]:
            assert "DELETE" not in rule["operations"] or rule["resources"] == ["modelspecs"]


def test_lists_that_several_policies_have_are_the_same() -> None:
    """Names are written down more than once, and agree."""
    found: dict[str, set[str]] = {}
    for policy in of_kind(written("policies"), "ValidatingAdmissionPolicy"):
        for variable in policy["spec"]["variables"]:
            found.setdefault(variable["name"], set()).add(variable["expression"])
    shared = ("breakGlass", "byBreakGlass", "operators", "registries")
    assert all(len(found[name]) == 1 for name in shared)
    assert all(prefix.endswith("/") for prefix in re.findall(r'"([^"]+)"', "".join(found["registries"])))


def test_names_are_those_of_the_rest() -> None:
    """The operator's account, and the images of the settings, are the ones that the policies know."""
    base = written("base")
    account = one(base, "ServiceAccount")["metadata"]
    spelled = "".join(v["expression"] for p in of_kind(written("policies"), "ValidatingAdmissionPolicy")
                      for v in p["spec"]["variables"])  # fmt: skip
    assert f"system:serviceaccount:{account['namespace']}:{account['name']}" == OPERATOR
    assert OPERATOR in spelled
    (registry,) = set(re.findall(r'"([^"]+/)"', spelled))
    settings = (DEPLOY / "base" / "trunkline.toml").read_text()
    images = re.findall(r'^(?:serve_)?image = "(.+)"$', settings, re.MULTILINE)
    assert len(images) == 2
    assert all(re.fullmatch(re.escape(registry) + r"[a-z]+@sha256:[0-9a-f]{64}", image) for image in images)
