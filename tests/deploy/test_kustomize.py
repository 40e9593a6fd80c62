"""Every folder of deploy/ builds, refers to what exists, and makes pods that the strictest profile admits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller import forges
from controller.settings import load
from tests.deploy.manifests import DEPLOY, FOLDERS, ROOT, Manifest, built, examples, named, of_kind, one, pods, text_of

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
BASES = ("base", "namespaced")


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_builds(folder: str) -> None:
    """`kubectl kustomize` needs no flag, warns of nothing, and names no object twice."""
    items = built(folder)
    assert items
    assert len({named(item) for item in items}) == len(items)


def test_every_file_is_part_of_something() -> None:
    """No manifest lies about that no kustomization, and no test of an example, knows."""
    known = {DEPLOY / "argocd" / name for name in ("operator.yaml", "models.yaml", "applicationset.yaml")}
    for folder in FOLDERS:
        kustomization = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())
        generated = [
            name.split("=")[-1] for each in kustomization.get("configMapGenerator", ()) for name in each["files"]
        ]
        known |= {
            DEPLOY / folder / name for name in ("kustomization.yaml", *kustomization.get("resources", ()), *generated)
        }
    found = {file for suffix in ("yaml", "toml", "lua") for file in DEPLOY.rglob(f"*.{suffix}")}
    assert found - known == set()


@pytest.mark.parametrize("folder", BASES)
def test_crd_is_there_and_stays(folder: str) -> None:
    """The CRD comes with the operator, and Argo CD never takes it away again."""
    crd = one(built(folder), "CustomResourceDefinition")
    options = crd["metadata"].pop("annotations")
    assert options == {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}
    assert crd == yaml.safe_load((ROOT / "crds" / "modelspec.yaml").read_text())


@pytest.mark.parametrize("folder", [*BASES, "model-namespace"])
def test_namespaces_admit_restricted_pods_only(folder: str) -> None:
    """Namespaces enforce the profile that our pods meet."""
    labels = one(built(folder), "Namespace")["metadata"]["labels"]
    assert labels.items() >= RESTRICTED.items()


@pytest.mark.parametrize("folder", BASES)
def test_pods_are_restricted(folder: str) -> None:
    """Pod Security's profile *restricted*, a file system that cannot be written, and bounds on memory and disk."""
    (pod,) = pods(built(folder))
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    volumes = {volume["name"]: set(volume) - {"name"} for volume in pod["volumes"]}
    assert set().union(*volumes.values()) == {"configMap", "secret", "emptyDir"}
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/trunkline"}


def test_one_operator_that_ends_in_time() -> None:
    """One replica that is never doubled, and gets longer to end than kopf takes."""
    deployment = one(built("base"), "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] == 30


def test_probes_and_ports_agree() -> None:
    """Probes, Service, NetworkPolicy and PodMonitor mean the same port, and it is the one of the settings."""
    items = built("base")
    (container,) = next(pods(items))["containers"]
    (port,) = container["ports"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz",
    }  # fmt: skip
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    settings = load(DEPLOY / "base", {}).kubernetes
    assert settings is not None
    assert port["containerPort"] == settings.port
    assert one(items, "Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert one(items, "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": settings.port, "protocol": "TCP"}]}]
    monitor = one(built("monitoring"), "PodMonitor", "trunkline-operator")["spec"]
    assert monitor["podMetricsEndpoints"][0]["port"] == port["name"]
    labels = next(iter(of_kind(items, "Deployment")))["spec"]["template"]["metadata"]["labels"]
    for selector in (monitor["selector"]["matchLabels"], one(items, "Service")["spec"]["selector"]):
        assert selector.items() <= labels.items()


def test_settings_that_are_shipped_are_enough_to_begin() -> None:
    """The forge is known by them, and what they name lies where the Secret is mounted."""
    settings = load(DEPLOY / "base", {})
    assert settings.forge is not None
    found = forges.place(settings)
    assert (found.kind, found.project) == (settings.forge.kind, "retail/models")
    (container,) = next(pods(built("base")))["containers"]
    mounted = [Path(mount["mountPath"]) for mount in container["volumeMounts"] if mount["name"] == "git-credentials"]
    assert settings.forge.token_file is not None
    assert [settings.forge.token_file.parent] == mounted


def test_webhooks_reach_the_port_of_the_settings() -> None:
    """Service and NetworkPolicy mean the operator's pods and the port that it listens on; nothing else of it."""
    settings = load(DEPLOY / "base", {}).kubernetes
    assert settings is not None
    items = built("webhooks")
    service, policy = one(items, "Service")["spec"], one(items, "NetworkPolicy")["spec"]
    assert [port["targetPort"] for port in service["ports"]] == [settings.webhook_port]
    assert policy["ingress"] == [{"ports": [{"port": settings.webhook_port, "protocol": "TCP"}]}]
    labels = one(built("base"), "Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (service["selector"], policy["podSelector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert "publishNotReadyAddresses" not in service
    assert settings.webhook_port != settings.port


@pytest.mark.parametrize("folder", BASES)
def test_service_accounts_exist(folder: str) -> None:
    """Whoever a pod or a binding names is there."""
    items = built(folder)
    accounts = {named(item)[1:] for item in of_kind(items, "ServiceAccount")}
    deployment = one(items, "Deployment")
    used = {(deployment["metadata"]["namespace"], deployment["spec"]["template"]["spec"]["serviceAccountName"])}
    for binding in of_kind(items, "RoleBinding", "ClusterRoleBinding"):
        used |= {(subject["namespace"], subject["name"]) for subject in binding["subjects"]}
    assert used == accounts


@pytest.mark.parametrize("folder", BASES)
def test_bindings_name_roles_that_exist(folder: str) -> None:
    """Whatever is bound is there, in the place where it is looked for."""
    items = built(folder)
    roles = {named(item) for item in of_kind(items, "Role", "ClusterRole")}
    for binding in of_kind(items, "RoleBinding", "ClusterRoleBinding"):
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        assert (kind, binding["metadata"].get("namespace", "") if kind == "Role" else "", name) in roles


def test_model_namespaces_have_the_accounts_of_the_settings() -> None:
    """Jobs and servers run as accounts that a team's namespace has; their tokens are mounted nowhere."""
    items = of_kind(built("model-namespace"), "ServiceAccount")
    settings = load(DEPLOY / "base", {}).kubernetes
    assert settings is not None
    assert {i["metadata"]["name"] for i in items} == {settings.job_service_account, settings.serve_service_account}
    assert all(item["automountServiceAccountToken"] is False for item in items)
    assert of_kind(built("model-namespace"), "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") == []


def test_model_namespaces_deny_by_default() -> None:
    """Nothing reaches our pods or leaves them but on named ports; the cloud's credentials are out of reach."""
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(built("model-namespace"), "NetworkPolicy")}
    deny = policies["trunkline-default-deny"]
    ours = {"app.kubernetes.io/managed-by": "trunkline"}
    assert (deny["podSelector"]["matchLabels"], deny["policyTypes"]) == (ours, ["Ingress", "Egress"])
    assert not {"ingress", "egress"} & deny.keys()
    assert {p["port"] for rule in policies["trunkline-store"]["egress"] for p in rule["ports"]} == {53, 443, 9000}
    assert policies["trunkline-store"]["egress"][1]["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]
    serves = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["serve", "serve-canary"]}
    assert policies["trunkline-serve"]["podSelector"] == {"matchLabels": ours, "matchExpressions": [serves]}


def test_only_jobs_that_fetch_data_go_further_than_the_store() -> None:
    """Data comes in by import jobs alone; trackers in the cluster are open to those who tell how it goes."""
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(built("model-namespace"), "NetworkPolicy")}
    ours = {"app.kubernetes.io/managed-by": "trunkline"}
    data, tracking = policies["trunkline-data"], policies["trunkline-tracking"]
    assert data["podSelector"] == {"matchLabels": ours | {"app.kubernetes.io/component": "import"}}
    assert [rule["to"] for rule in data["egress"]] == [
        [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]
    ]
    told = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["train", "tune", "track"]}
    assert tracking["podSelector"] == {"matchLabels": ours, "matchExpressions": [told]}
    assert tracking["egress"] == [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 5000, "protocol": "TCP"}]}]
    assert data["policyTypes"] == tracking["policyTypes"] == ["Egress"]


def test_trainings_talk_among_themselves_alone() -> None:
    """The processes of a training on several nodes reach one another; nobody else reaches them, nor they anybody."""
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(built("model-namespace"), "NetworkPolicy")}
    trainings = {"matchLabels": {"app.kubernetes.io/managed-by": "trunkline", "app.kubernetes.io/component": "train"}}
    policy = policies["trunkline-train"]
    assert policy["podSelector"] == trainings
    assert policy["ingress"] == [{"from": [{"podSelector": trainings}]}]
    assert policy["egress"] == [{"to": [{"podSelector": trainings}]}]


@pytest.mark.parametrize("folder", BASES)
def test_settings_load(folder: str, tmp_path: Path) -> None:
    """The shipped trunkline.toml is one that this version reads, and images are named by digest."""
    text = one(built(folder), "ConfigMap")["data"]["trunkline.toml"]
    (tmp_path / "trunkline.toml").write_text(text)
    settings = load(tmp_path, {})
    assert settings.state == Path("/var/lib/trunkline")
    assert settings.kubernetes is not None
    assert "@sha256:" in settings.kubernetes.image
    assert "@sha256:" in settings.kubernetes.serve_image
    assert settings.kubernetes.lease_namespace == one(built(folder), "Deployment")["metadata"]["namespace"]


def test_new_settings_mean_a_new_pod() -> None:
    """The ConfigMap's name has its content's hash, and the pod refers to that name."""
    for folder in BASES:
        items = built(folder)
        name = one(items, "ConfigMap")["metadata"]["name"]
        assert re.fullmatch(r"trunkline-operator-[a-z0-9]{10}", name)
        assert {v["configMap"]["name"] for v in next(pods(items))["volumes"] if "configMap" in v} == {name}


def test_namespaced_operator_looks_where_it_has_rights() -> None:
    """Arguments, settings and Roles of the namespaced operator name the same namespaces."""
    items = built("namespaced")
    (container,) = next(pods(items))["containers"]
    settings = load(DEPLOY / "namespaced", {}).kubernetes
    assert settings is not None
    granted = sorted(ns for _, ns, _ in map(named, of_kind(items, "Role")) if ns != "trunkline-system")
    assert container["args"] == [word for ns in granted for word in ("--namespace", ns)]
    assert settings.namespaces == granted == ["retail"]
    assert of_kind(items, "ClusterRoleBinding") == []


def test_namespaced_settings_differ_in_nothing_else() -> None:
    """The two settings files are one, but for the namespaces."""
    ours = (DEPLOY / "namespaced" / "trunkline.toml").read_text()
    assert ours == (DEPLOY / "base" / "trunkline.toml").read_text() + 'namespaces = ["retail"]\n'


def images(value: Any) -> list[str]:
    """Find all images in a manifest."""
    if isinstance(value, dict):
        return [v for k, v in value.items() if k == "image" and isinstance(v, str)] + [
            i for v in value.values() for i in images(v)
        ]
    return [i for v in value for i in images(v)] if isinstance(value, list) else []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_image_floats(folder: str) -> None:
    """Every image has a version or a digest, and `latest` is none."""
    items: list[Manifest] = [item for item in built(folder) if item["kind"] != "CustomResourceDefinition"]
    for image in images(items):
        assert re.search(r":[^/]+$|@sha256:", image), image
        assert not image.endswith(":latest")


def test_team_refers_to_model_namespace_with_one_line(tmp_path: Path) -> None:
    """`namespace: retail` moves everything there, the Namespace's own name included."""
    inside = tmp_path / "retail"
    inside.mkdir()
    (inside / "kustomization.yaml").write_text(
        f"namespace: retail\nresources:\n- {_relative(inside, DEPLOY / 'model-namespace')}\n"
    )
    text = text_of(inside)
    items = [item for item in yaml.safe_load_all(text) if item]
    assert one(items, "Namespace")["metadata"]["name"] == "retail"
    assert {item["metadata"].get("namespace") for item in items if item["kind"] != "Namespace"} == {"retail"}


def _relative(start: Path, target: Path) -> str:
    ups = [".."] * (len(start.resolve().parts) - 1)
    return "/".join([*ups, *target.resolve().parts[1:]])


def test_examples_keep_operator_and_models_apart() -> None:
    """Two Applications, none with a finalizer, both with server-side apply, and no difference is ignored."""
    for example in examples():
        template = example if example["kind"] == "Application" else example["spec"]["template"]
        assert "finalizers" not in template["metadata"]
        assert "ServerSideApply=true" in template["spec"]["syncPolicy"]["syncOptions"]
        assert "ignoreDifferences" not in template["spec"]
    applications = of_kind(examples(), "Application")
    assert len({a["spec"]["source"]["path"] for a in applications}) == len(applications) == 2
