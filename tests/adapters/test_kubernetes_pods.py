"""Whose an object is, and pods that restricted Pod Security admits; a real API server judges what is rendered."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from adapters.kubernetes_api import JOB, MODEL_SPEC, POD, KubernetesApi, Taken
from adapters.kubernetes_pods import (
    JobSecret,
    Owner,
    PodStyle,
    belongs,
    child_metadata,
    is_orphan,
    pod_template,
    selector,
)  # fmt: skip
from adapters.kubernetes_serving import deployment
from specs.errors import Transient
from specs.modelspec import ModelKey
from specs.monitoring import Labelling
from specs.placement import Placement
from specs.serving import ServerOptions
from specs.serving_facts import ServingTarget
from tests.support.apiserver import ROOT, ApiServer

OWNER = Owner(ModelKey("retail", "shelf"), "00000000-0000-4000-8000-000000000001")
STYLE = PodStyle("registry.example.com/trunkline@sha256:" + "a" * 64, ("python", "-m", "workloads"), "trunkline-job",
                 "file:///srv/store", secret="store-credentials", store_claim="models")  # fmt: skip
SIGNING = JobSecret("signing", "signing-key", ("train", "export"), (("TRUNKLINE_SIGNING_KEY_FILE", "key.pem"),))
DATA = JobSecret("data", "data-access", ("import",), (("TRUNKLINE_DATA_CREDENTIALS", "git-credentials"),),
                 ("AWS_ACCESS_KEY_ID",))  # fmt: skip
COMPONENTS = [
    "import", "validate", "diff", "train", "tune", "track", "evaluate", "compare", "export", "serve",
]  # fmt: skip
GPU = Placement({"cpu": "2"}, {"memory": "8Gi", "nvidia.com/gpu": "1"}, {"gpu": "l4"})


def template(component: str = "train", style: PodStyle = STYLE, placement: Placement = GPU, **changes: Any) -> Any:
    """Give a pod template, as Jobs ask for it."""
    given: dict[str, Any] = {
        "labels": child_metadata(OWNER, "", component)["labels"], "annotations": {"a": "b"}, "arguments": ("--x", "1"),
        "environment": {"TRUNKLINE_WORK_ORDER": "{}"}, "container": {}, "restart": "Never", "grace_seconds": 30,
    }  # fmt: skip
    return pod_template(style, placement, component=component, **(given | changes))


def child(**changes: Any) -> dict[str, Any]:
    """Give an object of ours; a change of None takes a field of its metadata away."""
    metadata = child_metadata(OWNER, "x", "train") | changes
    return {"kind": "Job", "metadata": {name: value for name, value in metadata.items() if value is not None}}


def owned_by(**changes: Any) -> list[dict[str, Any]]:
    """Give owner references that differ from ours."""
    return [child()["metadata"]["ownerReferences"][0] | changes]


def test_a_child_goes_with_its_model_and_is_found_by_its_labels() -> None:
    """Labels, annotation, and the owner that it goes with and never holds up; other labels cannot hide ours."""
    made = child_metadata(OWNER, "x", "train", {"mine": "1", "trunkline.dev/model": "other"}, {"note": "2"})
    assert made == {
        "name": "x", "namespace": "retail",
        "labels": {
            "mine": "1", "app.kubernetes.io/managed-by": "trunkline", "app.kubernetes.io/name": "shelf",
            "app.kubernetes.io/component": "train", "trunkline.dev/model": "shelf",
        },
        "annotations": {"note": "2", "argocd.argoproj.io/ignore-resource-updates": "true"},
        "ownerReferences": [{
            "apiVersion": "trunkline.dev/v1alpha1", "kind": "ModelSpec", "name": "shelf", "uid": OWNER.uid,
            "controller": True, "blockOwnerDeletion": False,
        }],
    }  # fmt: skip
    for asked in (selector(), selector(OWNER.key), selector(OWNER.key, "train", {"mine": "1"})):
        assert asked.items() <= made["labels"].items()
    assert selector(OWNER.key, "serve")["app.kubernetes.io/component"] == "serve"


def test_ours_belongs_and_nothing_does_not() -> None:
    """An object of ours belongs, also one that lost its owner or has a further, non-controlling one; None does not."""
    assert belongs(child(), OWNER)
    assert not is_orphan(child())
    lost = child(ownerReferences=None)
    assert belongs(lost, OWNER)
    assert is_orphan(lost)
    watcher = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}
    assert belongs(child(ownerReferences=[*owned_by(), watcher]), OWNER)
    assert is_orphan(child(ownerReferences=[watcher]))
    assert not belongs(None, OWNER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"labels": None}, "rename or delete it", id="without-labels"),
        pytest.param({"labels": {"trunkline.dev/model": "shelf"}}, "its labels say so", id="managed-by-others"),
        pytest.param(
            {"labels": {"app.kubernetes.io/managed-by": "trunkline", "trunkline.dev/model": "other"}},
            "not made for model retail/shelf", id="another-model",
        ),
        pytest.param({"ownerReferences": owned_by(kind="CronJob", apiVersion="batch/v1")}, "CronJob", id="other-owner"),
        pytest.param({"ownerReferences": owned_by(name="other")}, "ModelSpec other", id="other-models-owner"),
        pytest.param({"labels": None, "deletionTimestamp": "2026-01-01T00:00:00Z"}, "labels", id="foreign-and-going"),
    ],
)  # fmt: skip
def test_what_others_made_is_taken(changes: dict[str, Any], words: str) -> None:
    """Somebody else's object is a Conflict that names it and says what to do."""
    with pytest.raises(Taken, match=words) as caught:
        belongs(child(**changes), OWNER)
    assert caught.value.reason == "Conflict"
    assert "Job retail/x" in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"deletionTimestamp": "2026-01-01T00:00:00Z"}, id="on-its-way-out"),
        pytest.param({"ownerReferences": owned_by(uid="00000000-0000-4000-8000-000000000002")}, id="earlier-model"),
    ],
)
def test_what_is_about_to_go_is_waited_for(changes: dict[str, Any]) -> None:
    """An object that goes, or whose ModelSpec went, is neither adopted nor a conflict."""
    with pytest.raises(Transient) as caught:
        belongs(child(**changes), OWNER)
    assert caught.value.reason == "BeingDeleted"


@pytest.mark.parametrize("component", ["train", "serve"])
def test_pods_are_restricted(component: str) -> None:
    """Every field that the restricted Pod Security standard judges, and what goes beyond it."""
    spec = template(component)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "privileged": False,
        "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["serviceAccountName"] == "trunkline-job"
    assert spec.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"})
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "persistentVolumeClaim"}
    assert "hostPort" not in json.dumps(spec)


def test_a_pod_has_what_the_placement_says_and_no_more() -> None:
    """Resources and nodes are those of the placement, word for word; without them the fields are absent."""
    spec = template()["spec"]
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "2"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"}
    }  # fmt: skip
    assert spec["nodeSelector"] == {"gpu": "l4"}
    bare = template(placement=Placement(limits={"cpu": "1"}))["spec"]
    assert bare["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    bare = template(placement=Placement())["spec"]
    assert "resources" not in bare["containers"][0]
    assert "nodeSelector" not in bare


def test_the_command_ends_with_the_store_and_the_arguments() -> None:
    """The image's own entry point plays no part; further fields of the container are kept, ours win."""
    (container,) = template(container={"ports": [{"containerPort": 1}], "image": "other"})["spec"]["containers"]
    assert container["command"] == ["python", "-m", "workloads", "--store", "file:///srv/store", "--x", "1"]
    assert container["image"] == STYLE.image
    assert container["name"] == "train"
    assert container["ports"] == [{"containerPort": 1}]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_variables_are_literal_and_sorted() -> None:
    """What looks like a reference to a variable stays text: the kubelet would put a secret in its place."""
    given = {"Z": "$(PASSWORD) costs $$5", "A": "plain"}
    (container,) = template(environment=given, arguments=("$(PASSWORD)",))["spec"]["containers"]
    assert container["env"] == [
        {"name": "A", "value": "plain"}, {"name": "HOME", "value": "/tmp"},
        {"name": "Z", "value": "$$(PASSWORD) costs $$$$5"},
    ]  # fmt: skip
    assert container["command"][-1] == "$$(PASSWORD)"


def test_secrets_are_named_and_never_read() -> None:
    """A Secret is mentioned by its name only, and not at all where the settings name none."""
    assert template()["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "store-credentials"}}]
    bare = template(style=PodStyle("i", ("c",), "a", "s3://models"))
    assert "envFrom" not in bare["spec"]["containers"][0]


@pytest.mark.parametrize("component", COMPONENTS)
def test_only_those_who_sign_get_the_key(component: str) -> None:
    """Training and export find it in a file that they may only read, and cannot begin without; nobody else knows of it.

    Whom to believe stands in all pods as plain text.
    """
    style = replace(STYLE, job_secrets=(SIGNING,), environment=(("TRUNKLINE_TRUSTED_KEYS", "[]"),))
    spec = template(component, style)["spec"]
    (container,) = spec["containers"]
    assert {"name": "TRUNKLINE_TRUSTED_KEYS", "value": "[]"} in container["env"]
    if component not in {"train", "export"}:
        assert "signing" not in json.dumps(spec).lower()
        return
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "signing")
    assert volume["secret"] == {
        "secretName": "signing-key", "items": [{"key": "key.pem", "path": "key.pem"}], "defaultMode": 0o440,
    }  # fmt: skip
    mount = {"name": "signing", "mountPath": "/etc/trunkline/signing", "readOnly": True}
    assert mount in container["volumeMounts"]
    told = {"name": "TRUNKLINE_SIGNING_KEY_FILE", "value": "/etc/trunkline/signing/key.pem"}
    assert told in container["env"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_only_those_who_fetch_data_can_get_in(component: str) -> None:
    """An import finds files and variables of the data's Secret, by name and never by value; no other pod names it."""
    spec = template(component, replace(STYLE, job_secrets=(SIGNING, DATA)))["spec"]
    (container,) = spec["containers"]
    if component != "import":
        assert "data-access" not in json.dumps(spec)
        return
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "data")
    assert [item["key"] for item in volume["secret"]["items"]] == ["git-credentials"]
    assert {"name": "data", "mountPath": "/etc/trunkline/data", "readOnly": True} in container["volumeMounts"]
    told = {variable["name"]: variable for variable in container["env"]}
    assert told["TRUNKLINE_DATA_CREDENTIALS"]["value"] == "/etc/trunkline/data/git-credentials"
    named = {"secretKeyRef": {"name": "data-access", "key": "AWS_ACCESS_KEY_ID"}}
    assert told["AWS_ACCESS_KEY_ID"] == {"name": "AWS_ACCESS_KEY_ID", "valueFrom": named}


def test_jobs_share_a_cache_where_there_is_one() -> None:
    """A claim is mounted and named to the job; without one nothing says that there is a cache."""
    (container,) = template("import", replace(STYLE, cache_claim="cache"))["spec"]["containers"]
    assert {"name": "cache", "mountPath": "/var/cache/trunkline"} in container["volumeMounts"]
    assert {"name": "TRUNKLINE_CACHE", "value": "/var/cache/trunkline"} in container["env"]
    assert "cache" not in json.dumps(template("import")["spec"]).lower()


@pytest.mark.parametrize(
    ("component", "url", "claim", "mounts"),
    [
        pytest.param("train", "file:///srv/a%20b", "models", {"/srv/a b": False}, id="job-writes"),
        pytest.param("serve", "file:///srv/store", "models", {"/srv/store": True}, id="server-only-reads"),
        pytest.param("train", "/srv/store", "models", {"/srv/store": False}, id="plain-path"),
        pytest.param("train", "s3://bucket/models", "models", {}, id="bucket"),
        pytest.param("train", "file:///srv/store", "", {}, id="no-claim"),
    ],
)
def test_a_claim_is_mounted_where_the_store_is(component: str, url: str, claim: str, mounts: dict[str, bool]) -> None:
    """A claim holds the folder of a file store, at its own path; servers cannot write to it."""
    spec = template(component, PodStyle("i", ("c",), "a", url, store_claim=claim))["spec"]
    found = {m["mountPath"]: m["readOnly"] for m in spec["containers"][0]["volumeMounts"] if m["name"] == "store"}
    assert found == mounts
    assert [v for v in spec["volumes"] if v["name"] == "store"] == (
        [{"name": "store", "persistentVolumeClaim": {"claimName": "models"}}] if mounts else []
    )


def test_only_temporary_folders_can_be_written() -> None:
    """Jobs write below /tmp, /var/lib/trunkline and into shared memory, servers not into that."""
    job, server = (template(c)["spec"]["containers"][0]["volumeMounts"] for c in ("train", "serve"))
    assert [m["mountPath"] for m in job] == ["/tmp", "/var/lib/trunkline", "/dev/shm", "/srv/store"]
    assert [m["mountPath"] for m in server] == ["/tmp", "/var/lib/trunkline", "/srv/store"]


def test_the_same_arguments_give_the_same_bytes() -> None:
    """Templates are equal to the byte, whatever order mappings come in, and share nothing with their sources."""
    again = Placement({"cpu": "2"}, {"nvidia.com/gpu": "1", "memory": "8Gi"}, {"gpu": "l4"})
    one, two = template(environment={"B": "2", "A": "1"}), template(placement=again, environment={"A": "1", "B": "2"})
    assert json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    labels = {"a": "b"}
    made = template(labels=labels)
    before = copy.deepcopy(made)
    labels["a"] = "c"
    assert made == before


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_api_server_accepts_pods(api_server: ApiServer, component: str) -> None:
    """A pod of each component passes strict validation as it is rendered."""
    made = template(component, replace(STYLE, job_secrets=(SIGNING, DATA), cache_claim="cache"))
    metadata = {"name": f"pod-{component}", "namespace": "pods"} | made["metadata"]
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]}
    answer = api_server.apply(POD.path("pods", metadata["name"]), body)
    assert answer.status_code == 201, answer.text
    assert "Warning" not in answer.headers


def test_a_child_names_a_real_model(api_server: ApiServer) -> None:
    """The reference fits a ModelSpec as the API server has it: group, kind, name and uid."""
    api_server.install_modelspecs()
    text = (ROOT / "tests/specs/smallest.yaml").read_text()
    answer = api_server.apply(MODEL_SPEC.path("pods", "digits"), text)
    live = answer.json()
    owner = Owner(ModelKey("pods", "digits"), live["metadata"]["uid"])
    api = KubernetesApi.connect(kubeconfig=str(api_server.kubeconfig_of("operator")))
    assert api.create(JOB, {"metadata": child_metadata(owner, "x", "train"), "spec": {"template": template()}})
    found = api.get(JOB, "pods", "x")
    assert belongs(found, owner)
    assert found is not None
    (named,) = found["metadata"]["ownerReferences"]
    assert (named["apiVersion"], named["kind"]) == (live["apiVersion"], live["kind"])
    assert (named["name"], named["uid"]) == (live["metadata"]["name"], live["metadata"]["uid"])


@pytest.mark.parametrize("claim", ["", "models"])
def test_a_server_that_keeps_pictures_may_write_them_and_nothing_else(claim: str) -> None:
    """Of a store in a volume ``kept/`` alone is writable, and only where the spec asks for pictures to be kept."""
    style = replace(STYLE, store_claim=claim)

    def mounts(labelling: Labelling | None) -> list[dict[str, Any]]:
        options, digests = ServerOptions(labelling=labelling), ("sha256:" + digit * 64 for digit in "abc")
        target = ServingTarget("retail.shelf", 1, *digests, options=options)
        made = deployment(OWNER, style, target, failure=None, live=None)
        found = made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        return [mount for mount in found if mount["name"] == "store"]

    whole = [{"name": "store", "mountPath": "/srv/store", "readOnly": True}] if claim else []
    assert mounts(None) == whole
    keeps = [{"name": "store", "mountPath": "/srv/store/kept", "subPath": "kept"}] if claim else []
    assert mounts(Labelling(zero_detections=True)) == whole + keeps
