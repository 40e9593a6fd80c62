"""What ``deploy/`` holds: as it lies there, and as ``kubectl kustomize`` builds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FOLDERS = sorted(str(file.parent.relative_to(DEPLOY)) for file in DEPLOY.rglob("kustomization.yaml"))
Manifest = dict[str, Any]


def program(name: str, why: str, *, demanded: bool = False) -> str:
    """Find a program; where there is none, skip the test aloud, or fail it in CI where it is demanded there."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        words = f"no {name} here: {why}"
        if demanded and os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    return found


@cache
def text_of(folder: Path) -> str:
    """Build a folder as people do, without any flags."""
    kubectl = program("kubectl", "deploy/ was not built")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout


def built(folder: str) -> list[Manifest]:
    """Give all objects of a folder of ``deploy/``."""
    return read(text_of(DEPLOY / folder))


def written(folder: str) -> list[Manifest]:
    """Give the objects that a folder of ``deploy/`` refers to, as they are written: nothing generated or changed."""
    kustomization = yaml.safe_load((DEPLOY / folder / "kustomization.yaml").read_text())
    files = [DEPLOY / folder / name for name in kustomization.get("resources", ())]
    return [item for file in files if file.is_file() for item in read(file.read_text())]


def read(text: str) -> list[Manifest]:
    """Parse a file with any number of objects."""
    return [item for item in yaml.safe_load_all(text) if item]


def examples() -> list[Manifest]:
    """Give the Argo CD objects that are examples, and no part of a kustomization."""
    names = ("operator.yaml", "models.yaml", "applicationset.yaml")
    return [item for name in names for item in read((DEPLOY / "argocd" / name).read_text())]


def of_kind(items: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Give the objects of these kinds."""
    return [item for item in items if item["kind"] in kinds]


def one(items: Iterable[Manifest], kind: str, name: str = "") -> Manifest:
    """Give the only object of a kind, or of that kind and name."""
    (found,) = [i for i in of_kind(items, kind) if not name or i["metadata"]["name"] == name]
    return found


def named(item: Manifest) -> tuple[str, str, str]:
    """Name an object: kind, namespace, name."""
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def pods(items: Iterable[Manifest]) -> Iterator[Manifest]:
    """Give the pod specs in these objects."""
    for item in of_kind(items, "Deployment", "Job"):
        yield item["spec"]["template"]["spec"]
