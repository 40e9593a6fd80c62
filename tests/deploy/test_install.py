"""The manual of installation: what it names exists, and its kustomization builds."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.deploy.manifests import DEPLOY, FOLDERS, ROOT, one, pods, read, text_of, written

TEXT = (ROOT / "docs" / "install.md").read_text()


def test_files_and_folders_exist() -> None:
    """Every path in the manual is one of the repository."""
    named = set(re.findall(r"(?<![\w/])(?:deploy|crds|docs)/[\w./-]*\w", TEXT)) | {
        f"docs/{link}" for link in re.findall(r"\]\((\w+\.md)\)", TEXT)
    }
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    table = set(re.findall(r"^\| `([\w-]+)` \|.*\|.*\|$", TEXT.split("## Five steps")[0], re.MULTILINE))
    assert table == {p.name for p in DEPLOY.iterdir() if p.is_dir()}


def test_rights_of_the_manual_are_those_of_the_file() -> None:
    """Every resource that the operator may touch is in the table, with its verbs."""
    for role in (one(written("base"), "ClusterRole", "trunkline-operator"),):
        for rule in role["rules"]:
            (resource,) = rule["resources"]
            (row,) = [
                line for line in TEXT.splitlines() if line.startswith("| `") and f"`{resource}`" in line.split("|")[1]
            ]
            assert row.split("|")[2].strip() == ", ".join(rule["verbs"])


def test_policies_and_groups_of_the_manual_exist() -> None:
    """Every policy is explained, and the emergency's group is the one of the policies."""
    names = {p["metadata"]["name"] for p in written("policies")}
    kinds = "modelspecs|status|workloads|inferenceservices|pods|trainjobs"
    assert names == set(re.findall(rf"^\| `(trunkline-(?:{kinds}))`", TEXT, re.MULTILINE))
    assert "--as-group=trunkline-break-glass" in TEXT


def test_kustomization_of_step_two_builds(tmp_path: Path) -> None:
    """What people are told to write takes their settings, their image and their registry into the objects."""
    block = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    ups = "/".join([".."] * (len(tmp_path.resolve().parts) - 1))
    kustomization = re.sub(r"^   ", "", block[1], flags=re.MULTILINE).replace("trunkline/deploy", f"{ups}{DEPLOY}")
    settings = (DEPLOY / "base" / "trunkline.toml").read_text().replace("s3://trunkline", "s3://acme")
    (tmp_path / "kustomization.yaml").write_text(kustomization)
    (tmp_path / "trunkline.toml").write_text(settings)
    items = read(text_of(tmp_path))
    assert one(items, "ConfigMap")["data"]["trunkline.toml"] == settings
    (container,) = next(pods(items))["containers"]
    assert container["image"] == "registry.acme.org/trunkline/controller@sha256:" + "0" * 64
    for name in ("trunkline-workloads", "trunkline-inferenceservices", "trunkline-pods"):
        variables = one(items, "ValidatingAdmissionPolicy", name)["spec"]["variables"]
        assert variables[0] == {"name": "registries", "expression": '["registry.acme.org/trunkline/"]'}


def test_every_folder_is_named_by_its_kustomization() -> None:
    """Folders that people apply begin with a comment that says what they are."""
    for folder in FOLDERS:
        first = (DEPLOY / folder / "kustomization.yaml").read_text()
        assert first.startswith("# "), folder
        assert yaml.safe_load(first)["kind"] == "Kustomization"
